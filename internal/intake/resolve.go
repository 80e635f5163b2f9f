package intake

import (
	"context"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
)

// Resolve says whether mail for rcpt would be taken: NotFound for an unknown local
// address, Refused for a domain that is not ours, Unavailable while the directory
// cannot say.
func (in *Intake) Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error {
	_, err := in.find(ctx, env, rcpt)
	return err
}

// find is the mailboxes that rcpt stands for.
func (in *Intake) find(ctx context.Context, env *mail.Envelope, rcpt mail.Address) ([]directory.Entry, error) {
	if !in.local[rcpt.Domain] {
		if env.Sender == nil {
			return nil, mail.E(mail.Refused, "we do not relay mail to this domain", nil)
		}
		return nil, mail.E(mail.Refused, "mail to other domains is not served yet", nil)
	}
	entries, err := in.o.Directory.Resolve(ctx, rcpt)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 { // a group without members
		return nil, mail.E(mail.NotFound, "", nil)
	}
	return entries, nil
}

// resolve finds the mailboxes of all recipients, each once.
func (in *Intake) resolve(ctx context.Context, p *passage) error {
	if len(p.env.To) == 0 {
		return mail.E(mail.Invalid, "", errNoRecipients)
	}
	at := make(map[mail.AccountID]int, len(p.env.To))
	for _, rcpt := range p.env.To {
		entries, err := in.find(ctx, p.env, rcpt)
		if err != nil {
			return err
		}
		for _, e := range entries {
			i, ok := at[e.Account]
			if !ok {
				i = len(p.mailboxes)
				at[e.Account] = i
				p.mailboxes = append(p.mailboxes, mailbox{entry: e})
			}
			p.mailboxes[i].via = append(p.mailboxes[i].via, rcpt)
		}
	}
	return nil
}

// author is the directory entry that the submission is sent as.
func (in *Intake) author(ctx context.Context, p *passage) (directory.Entry, error) {
	from := p.env.From
	if from.IsZero() {
		from = p.env.Sender.Address
	}
	e, err := in.o.Directory.Lookup(ctx, from)
	if err != nil {
		return e, mail.E(mail.Unavailable, "", err)
	}
	return e, nil
}

// candidate is an entry as smime knows people.
func candidate(e directory.Entry) smime.Candidate {
	return smime.Candidate{
		Address: e.Address, Aliases: e.Aliases, Name: e.Name, Certificates: e.Certificates, Profile: e.Profile, FromDirectory: true,
	}
}

// blind says which of the mailboxes the message does not name: those of Bcc. A mailbox
// is named by any of its own addresses in To or Cc, and by a recipient of the envelope
// that stands there, such as the group that it is a member of.
func (p *passage) blind() []bool {
	named := map[string]bool{}
	for _, list := range [][]message.Address{p.index.Root.Envelope.To, p.index.Root.Envelope.Cc} {
		for _, a := range list {
			if m, ok := a.Mail(); ok {
				named[m.Key()] = true
			}
		}
	}
	out := make([]bool, len(p.mailboxes))
	for i, m := range p.mailboxes {
		seen := named[m.entry.Address.Key()]
		for _, own := range [][]mail.Address{m.entry.Aliases, m.via} {
			for _, a := range own {
				seen = seen || named[a.Key()]
			}
		}
		out[i] = !seen && p.path == policy.Submission
	}
	return out
}
