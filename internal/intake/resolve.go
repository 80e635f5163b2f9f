package intake

import (
	"context"
	"slices"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime"
)

// Resolve says whether mail for rcpt would be taken: NotFound for an unknown local
// address, Refused for a domain that is not ours unless one of our users writes and there
// is a way, OverQuota for a mailbox that is full (of a group: all are), Unavailable while
// the directory cannot say.
func (in *Intake) Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error {
	if !in.local[rcpt.Domain] {
		_, err := in.leaves(env, rcpt)
		return err
	}
	entries, err := in.find(ctx, rcpt)
	if err != nil {
		return err
	}
	return in.anyRoom(ctx, entries, env.Size)
}

// anyRoom is an error of kind OverQuota if none of the mailboxes has room for a message of
// that size. If some have, the delivery itself sees to those that do not.
func (in *Intake) anyRoom(ctx context.Context, entries []directory.Entry, size int64) error {
	store, ok := in.o.Store.(rooms)
	if !ok {
		return nil
	}
	var err error
	for _, e := range entries {
		if err = store.Room(ctx, e.Account, size); mail.KindOf(err) != mail.OverQuota || err == nil {
			return err
		}
	}
	return err
}

// rooms is what a store can do that has quotas: say that a mailbox is full before the
// message is sent.
type rooms interface {
	Room(ctx context.Context, id mail.AccountID, n int64) error
}

// leaves is the way by which mail for rcpt, who is elsewhere, leaves. Mail of strangers
// never does.
func (in *Intake) leaves(env *mail.Envelope, rcpt mail.Address) (string, error) {
	switch {
	case env.Sender == nil:
		return "", mail.E(mail.Refused, "we do not relay mail to this domain", nil)
	case in.o.Queue == nil:
		return "", mail.E(mail.Refused, "mail to other domains is not served yet", nil)
	}
	return in.o.Queue.Way(rcpt.Domain)
}

// find is the mailboxes here that rcpt stands for.
func (in *Intake) find(ctx context.Context, rcpt mail.Address) ([]directory.Entry, error) {
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
	at := make(map[string]int, len(p.env.To))
	add := func(m mailbox, rcpt mail.Address) {
		i, ok := at[m.key()]
		if !ok {
			i = len(p.mailboxes)
			at[m.key()] = i
			p.mailboxes = append(p.mailboxes, m)
		}
		p.mailboxes[i].via = append(p.mailboxes[i].via, rcpt)
	}
	for _, rcpt := range p.env.To {
		if !in.local[rcpt.Domain] {
			way, err := in.leaves(p.env, rcpt)
			if err != nil {
				return err
			}
			add(mailbox{entry: directory.Entry{Address: rcpt}, way: way}, rcpt)
			continue
		}
		entries, err := in.find(ctx, rcpt)
		if err != nil {
			return err
		}
		for _, e := range entries {
			add(mailbox{entry: e}, rcpt)
		}
	}
	return nil
}

// contacts looks up those elsewhere: the directory may have their certificates.
func (in *Intake) contacts(ctx context.Context, p *passage) error {
	for i := range p.mailboxes {
		m := &p.mailboxes[i]
		if m.way == "" {
			continue
		}
		e, err := in.o.Directory.Lookup(ctx, m.entry.Address)
		switch {
		case err == nil:
			e.Aliases = append(slices.Clone(e.Aliases), e.Address) // which their certificate may name
			e.Address = m.entry.Address                            // as the envelope has it
			m.entry = e
		case mail.KindOf(err) != mail.NotFound:
			return err
		}
	}
	return nil
}

// author is the directory entry that the submission is sent as.
func (in *Intake) author(ctx context.Context, p *passage) (directory.Entry, error) {
	e, err := in.o.Directory.Lookup(ctx, p.author())
	if err != nil {
		return e, mail.E(mail.Unavailable, "", err)
	}
	return e, nil
}

// authorAddress is the address that the submission is sent as.
func (p *passage) author() mail.Address {
	if p.env.From.IsZero() {
		return p.env.Sender.Address
	}
	return p.env.From
}

// departments are those of the submission: of the address that it is sent as, and of who wrote it, who may be a post of
// another department that its sender holds.
func (p *passage) departments() []string {
	out := []string{p.author().Domain}
	for _, a := range authors(p.index) {
		if !slices.Contains(out, a.Domain) {
			out = append(out, a.Domain)
		}
	}
	return out
}

// candidate is an entry as smime knows people.
func candidate(e directory.Entry) smime.Candidate {
	return smime.Candidate{
		Address: e.Address, Aliases: e.Aliases, Name: e.Name, Certificates: e.Certificates, SMIME: e.SMIME, Profile: e.Profile, FromDirectory: true,
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
		out[i] = !seen
	}
	return out
}
