package intake

import (
	"context"
	"errors"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/storage"
)

// drafts is the special use (RFC 6154) of the mailbox where messages are written.
const drafts = `\Drafts`

// Append saves messages into a mailbox of who's own. Confidential mail in clear is
// sealed to the owner alone, whoever it names, unless the mailbox is Drafts; where that
// cannot be, nothing is saved and the error is Refused or Unavailable. Index and Label
// of msgs are filled in here; an Index that is there must be that of Data.
func (in *Intake) Append(ctx context.Context, who *mail.Principal, acct *storage.Account, mailbox string, msgs []storage.Append) ([]storage.Placed, error) {
	use := func() (string, error) {
		m, err := acct.Open(ctx, mailbox)
		if err != nil {
			return "", err
		}
		defer m.Close()
		return m.SpecialUse(), nil
	}
	out := make([]storage.Append, len(msgs))
	for i, m := range msgs {
		kept, release, err := in.keep(ctx, who, acct.ID(), use, m)
		if err != nil {
			return nil, err
		}
		defer release()
		out[i] = kept
	}
	return acct.Append(ctx, mailbox, out)
}

// keep is m as it may be kept in the account: as it is, or sealed to the owner. use says
// what the mailbox is for; it is asked only where that matters.
func (in *Intake) keep(ctx context.Context, who *mail.Principal, acct mail.AccountID, use func() (string, error), m storage.Append) (storage.Append, func(), error) {
	none := func() {}
	if m.Index == nil {
		m.Index = message.Parse(m.Data, in.o.Message)
	}
	p := &passage{env: &mail.Envelope{ID: mail.NewID(), From: who.Address, To: []mail.Address{who.Address}, Sender: who, Client: mail.Client{Protocol: "imap"}}, path: policy.Append, text: m.Data, index: m.Index}
	if err := in.considerOwn(ctx, p, acct, use); err != nil {
		return m, none, err
	}
	if m.Label = p.label; p.demand < policy.SMIME {
		return m, none, nil
	}
	in.record(p)
	if err := p.refusal(); err != nil {
		return m, none, err
	}
	if p.decision.Action != policy.Seal {
		return m, none, nil
	}
	release, err := in.room(ctx, len(m.Data), 1)
	if err != nil {
		return m, none, err
	}
	o := smime.SealOptions{Recipients: p.envelopes[0].readers, Label: p.label, Marking: in.marking(p.label), KeepBcc: true}
	if from := authors(m.Index); len(from) == 1 && who.MaySendAs(from[0]) {
		o.Sender = from[0] // what they save in another's name, our domain does not sign
	}
	sealed, err := in.o.Gateway.Seal(m.Data, m.Index, o)
	if err != nil {
		release()
		return m, none, err
	}
	m.Data, m.Index = sealed, message.Parse(sealed, in.o.Message)
	return m, release, nil
}

// considerOwn finds the label of a message that an owner saves, and the decision about it.
// Nothing is on record yet.
func (in *Intake) considerOwn(ctx context.Context, p *passage, acct mail.AccountID, use func() (string, error)) error {
	if p.index.Defects&(message.LongHeader|message.ManyFields) != 0 {
		return mail.E(mail.TooLarge, "the header of the message is too large", nil)
	}
	p.header = message.ParseHeader(p.text, in.o.Message)
	if err := in.classifyOwn(ctx, p, acct); err != nil {
		return err
	}
	if p.demand = in.o.Policy.Requires(p.label); p.demand < policy.SMIME {
		return nil // kept as it is
	}
	if special, err := use(); err != nil {
		return err
	} else if special == drafts {
		p.path = policy.Draft
	}
	return in.judgeOwn(ctx, p.env.Sender, acct, p)
}

// judgeOwn finds the decision about a message whose label demands S/MIME at least.
func (in *Intake) judgeOwn(ctx context.Context, who *mail.Principal, acct mail.AccountID, p *passage) error {
	p.protection = in.o.Gateway.Inspect(p.text, p.index)
	p.facts = policy.Facts{Path: p.path, Label: p.label, Departments: []string{who.Address.Domain}, Encrypted: p.protection.Strong()}
	var owner smime.Usable
	if in.o.Policy.NeedsReaders(p.facts) == policy.Owner {
		var err error
		if owner, p.facts.Problems, err = in.owner(ctx, who, acct); err != nil {
			return err
		}
		if len(p.facts.Problems) == 0 {
			p.facts.Problems = cannotRead(owner, in.o.Policy.DemandedCipher(p.facts))
		}
	}
	if p.decision = in.o.Policy.Decide(p.facts); p.decision.Action == policy.Seal {
		p.envelopes = []envelope{{readers: []smime.Usable{owner}}}
	}
	return nil
}

// classifyOwn finds the label of a message that an owner saves: what they submitted
// under its Message-ID counts, too; that had the conversation's label in it, unless they
// lowered it, so the conversation is not asked again.
func (in *Intake) classifyOwn(ctx context.Context, p *passage, acct mail.AccountID) error {
	s, _ := in.signals(p)
	var own []string
	if id, ok := messageID(p.header); ok {
		own = []string{id}
	}
	if ids := append(own, thread(p.header)...); len(ids) > 0 {
		labels, err := in.o.Store.LabelOf(ctx, acct, ids)
		if err != nil {
			return err
		}
		s.Submission, s.Thread = labels[:len(own)], labels[len(own):]
		if len(own) > 0 && labels[0] != "" {
			s.Thread = nil
		}
	}
	p.signals = s
	p.label, p.source = in.o.Policy.Classify(s)
	p.classified = true
	return nil
}

// owner is the owner of the account as the one reader of what they keep.
func (in *Intake) owner(ctx context.Context, who *mail.Principal, acct mail.AccountID) (smime.Usable, []policy.Problem, error) {
	e, err := in.o.Directory.Lookup(ctx, who.Address)
	if err != nil {
		return smime.Usable{}, nil, mail.E(mail.Unavailable, "", err)
	}
	if e.Account != acct {
		return smime.Usable{}, nil, mail.E(mail.Internal, "", errors.New("the account is not the principal's own"))
	}
	u, err := in.o.Gateway.Choose(candidate(e))
	problems, err := problem(err)
	return u, problems, err
}
