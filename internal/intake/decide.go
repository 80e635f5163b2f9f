package intake

import (
	"context"
	"slices"
	"strings"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
)

// decide asks policy, with what it needs to know about the readers, and ends the
// journey where the answer is no.
func (in *Intake) decide(ctx context.Context, p *passage) error {
	if err := in.judge(ctx, p); err != nil {
		return err
	}
	if err := in.chooseSigner(ctx, p); err != nil {
		return err
	}
	in.record(p)
	return p.refusal()
}

// judge finds the decision; nothing is on record yet.
func (in *Intake) judge(ctx context.Context, p *passage) error {
	p.protection = in.o.Gateway.Inspect(p.text, p.index)
	known := false // those elsewhere have been looked up
	if in.o.Policy.NeedsClearance(p.label) {
		if err := in.contacts(ctx, p); err != nil {
			return err
		}
		known = true
	}
	p.facts = policy.Facts{Path: p.path, Label: p.label}
	if in.o.Policy.NeedsRecipients(p.label) {
		p.facts.Recipients = p.recipients()
	}
	if p.path == policy.Submission {
		p.facts.Departments = p.departments()
	}
	p.demand = in.o.Policy.Demand(p.facts)
	p.facts.Encrypted = in.encrypted(p)
	if in.o.Policy.NeedsReaders(p.facts) != policy.NoReaders {
		if err := in.readers(ctx, p, known); err != nil {
			return err
		}
	}
	if p.decision = in.o.Policy.Decide(p.facts); p.decision.Action == policy.Seal {
		p.envelopes = p.seals()
	}
	return nil
}

// readers finds out who of the readers cannot have the message.
func (in *Intake) readers(ctx context.Context, p *passage, known bool) (err error) {
	if !known {
		if err := in.contacts(ctx, p); err != nil {
			return err
		}
	}
	if p.path == policy.Submission {
		if p.sender, err = in.author(ctx, p); err != nil {
			return err
		}
	}
	cipher := in.o.Policy.DemandedCipher(p.facts)
	if p.facts.Encrypted {
		p.facts.Problems, err = in.uncovered(ctx, p)
		if err == nil && len(p.facts.Problems) == 0 {
			p.facts.Problems = tooWeak(p.protection, cipher)
		}
		return err
	}
	p.facts.Problems, err = in.unsealable(p, cipher)
	return err
}

// recipients are the mailboxes as policy knows them.
func (p *passage) recipients() []policy.Recipient {
	out := make([]policy.Recipient, len(p.mailboxes))
	for i, m := range p.mailboxes {
		out[i] = policy.Recipient{Name: smime.Show(m.entry.Address), Domain: m.entry.Address.Domain, Here: m.way == "", Clearance: m.entry.Clearance}
	}
	return out
}

// encrypted says whether the message counts as encrypted. What only claims to be so
// counts where something rests on it, to be refused; a stranger's damaged mail is
// delivered as it is.
func (in *Intake) encrypted(p *passage) bool {
	switch p.protection.Kind {
	case smime.Encrypted:
		return true
	case smime.EncryptedBroken:
		return p.path == policy.Submission || p.demand >= policy.SMIME
	}
	return false
}

// refusal is the error of a decision against the message. The record has the decision's own words.
func (p *passage) refusal() error {
	d := p.decision
	if p.path == policy.Inbound {
		d.Reasons = p.asWritten(d.Reasons)
	}
	switch d.Action {
	case policy.Refuse:
		return mail.E(mail.Refused, d.Text(), nil)
	case policy.Defer:
		return mail.E(mail.Unavailable, d.Text(), nil)
	}
	return nil
}

// asWritten are reasons for a stranger: with the addresses that they wrote to, for whom those stand
// for, and which of them has what clearance or certificate, is not theirs to know.
func (p *passage) asWritten(reasons []string) []string {
	shown := slices.SortedFunc(slices.Values(p.mailboxes), func(a, b mailbox) int { // one may be the beginning of another
		return len(b.entry.Address.String()) - len(a.entry.Address.String())
	})
	var pairs []string
	for _, m := range shown {
		pairs = append(pairs, smime.Show(m.entry.Address), smime.Show(m.via[0]))
	}
	r := strings.NewReplacer(pairs...)
	var out []string
	for _, reason := range reasons {
		if reason = r.Replace(reason); !slices.Contains(out, reason) {
			out = append(out, reason)
		}
	}
	return out
}

// uncovered says whether all readers can open a message that came encrypted and, of a
// submission, nobody else.
func (in *Intake) uncovered(ctx context.Context, p *passage) ([]policy.Problem, error) {
	must := make([]smime.Candidate, 0, len(p.mailboxes)+1)
	for _, m := range p.mailboxes {
		must = append(must, candidate(m.entry))
	}
	if p.path != policy.Submission {
		in.soften(p, must)
		var err error
		p.relied, err = in.o.Gateway.CoversEach(p.protection, must)
		return problem(err)
	}
	may, err := in.mentioned(ctx, p)
	if err != nil {
		return nil, err
	}
	must = append(must, candidate(p.sender))
	in.soften(p, must, may)
	p.relied, err = in.o.Gateway.Covers(p.protection, must, may)
	problems, err := problem(err)
	if err == nil && len(problems) > 0 && !problems[0].Temporary {
		problems = append(problems, in.tooMany(ctx, p, append(must, may...))...)
	}
	return problems, err
}

// soften marks people whose certificates suffice although it is not known whether they
// are revoked, if the label is one that allows it and nothing else demands S/MIME.
func (in *Intake) soften(p *passage, lists ...[]smime.Candidate) {
	label := p.label
	if p.demand >= policy.SMIME {
		return
	}
	if label == "" {
		label = mail.Unclassified
	}
	if !slices.Contains(in.o.Soft, label) {
		return
	}
	for _, list := range lists {
		for i := range list {
			list[i].Soft = true
		}
	}
}

// tooMany names those who could read a refused message but may not, as far as the
// directory knows their certificates; the numbers of those say little to a person.
func (in *Intake) tooMany(ctx context.Context, p *passage, allowed []smime.Candidate) []policy.Problem {
	known, err := in.o.Directory.Certified(ctx)
	if err != nil {
		return nil // the refusal stands without names
	}
	var others []smime.Candidate
	for _, e := range known {
		own := append([]mail.Address{e.Address}, e.Aliases...)
		if !slices.ContainsFunc(allowed, func(a smime.Candidate) bool { return slices.ContainsFunc(own, a.Address.Equal) }) {
			others = append(others, candidate(e))
		}
	}
	var out []policy.Problem
	for _, a := range in.o.Gateway.Readers(p.protection, others) {
		if a.ASCII() && !a.IsZero() {
			out = append(out, policy.Problem{Text: a.String() + " could read it and is not among its recipients"})
		}
	}
	return out
}

// mentioned are the people in the directory whom To and Cc name. They may be able to read
// the message although the envelope does not name them now.
func (in *Intake) mentioned(ctx context.Context, p *passage) ([]smime.Candidate, error) {
	var out []smime.Candidate
	for _, list := range [][]message.Address{p.index.Root.Envelope.To, p.index.Root.Envelope.Cc} {
		for _, a := range list[:min(len(list), maxMentioned)] {
			m, ok := a.Mail()
			if !ok {
				continue
			}
			entries, err := in.o.Directory.Resolve(ctx, m)
			if err != nil {
				if mail.KindOf(err).Temporary() {
					return nil, err
				}
				continue
			}
			for _, e := range entries {
				out = append(out, candidate(e))
			}
		}
	}
	return out, nil
}

// maxMentioned bounds the addresses of To, and of Cc, that are looked up.
const maxMentioned = 1000

// problem makes the error about a reader a fact; any other kind of error stays one.
func problem(err error) ([]policy.Problem, error) {
	switch kind := mail.KindOf(err); {
	case err == nil:
		return nil, nil
	case kind == mail.Refused || kind == mail.Unavailable:
		text := mail.PublicOf(err)
		if text == "" {
			text = "it cannot be found out now who can read it"
		}
		return []policy.Problem{{Text: text, Temporary: kind.Temporary()}}, nil
	}
	return nil, err
}

// unsealable chooses a certificate for every reader of a message that came in clear.
func (in *Intake) unsealable(p *passage, cipher policy.Cipher) ([]policy.Problem, error) {
	var problems []policy.Problem
	p.usable = make(map[string]smime.Usable, len(p.mailboxes)+1)
	choose := func(key string, e directory.Entry) error {
		if _, ok := p.usable[key]; ok {
			return nil
		}
		u, err := in.o.Gateway.Choose(candidate(e))
		if err == nil {
			p.usable[key] = u
			problems = append(problems, cannotRead(u, cipher)...)
			return nil
		}
		more, err := problem(err)
		problems = append(problems, more...)
		return err
	}
	for _, m := range p.mailboxes {
		if err := choose(m.key(), m.entry); err != nil {
			return nil, err
		}
	}
	if p.path == policy.Submission && !p.reads(p.sender.Account) {
		if err := choose(accountKey(p.sender.Account), p.sender); err != nil {
			return nil, err
		}
	}
	return problems, nil
}

// reads says whether the account is among the recipients.
func (p *passage) reads(a mail.AccountID) bool {
	for _, m := range p.mailboxes {
		if m.way == "" && m.entry.Account == a {
			return true
		}
	}
	return false
}

// cannotRead says that a reader's program does not read what is demanded.
func cannotRead(u smime.Usable, cipher policy.Cipher) []policy.Problem {
	if u.Meets(cipher.String()) {
		return nil
	}
	return []policy.Problem{{Text: smime.Show(u.Address) + " reads only mail that is encrypted in an older way than is demanded"}}
}

// tooWeak says that a client encrypted in another way than is demanded.
func tooWeak(prot smime.Protection, cipher policy.Cipher) []policy.Problem {
	if prot.Meets(cipher.String()) {
		return nil
	}
	return []policy.Problem{{Text: "it is encrypted in an older way than is demanded"}}
}
