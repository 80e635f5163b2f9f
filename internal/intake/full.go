package intake

import (
	"context"
	"errors"
	"slices"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/internal/queue"
	"cmmpd/storage"
)

// maxTries bounds how often a delivery is begun anew because more mailboxes turn out to be full.
const maxTries = 5

// deliver does the act d. Mailboxes that are full are left out, and the sender gets a report about them in the same
// act. If nobody would be left, or the report has no room either, there is no act: the error is of kind OverQuota. d
// becomes what was delivered.
func (in *Intake) deliver(ctx context.Context, p *passage, d *storage.Delivery) error {
	bodies := d.Bodies
	for try := 0; ; try++ {
		_, err := in.o.Store.Deliver(ctx, *d)
		if err == nil {
			break
		}
		var full *storage.FullError
		if !errors.As(err, &full) || try == maxTries {
			return err
		}
		before := len(p.full)
		if bodies = p.leaveOut(bodies, full.Accounts); len(bodies) == 0 {
			return err
		}
		if len(p.full) == before { // it is the report that there is no room for
			return mail.E(mail.OverQuota, "a recipient's mailbox is full, and so is yours, where the report about it would go", err)
		}
		d.Bodies = slices.Clone(bodies)
		if err := in.tell(ctx, p, d); err != nil {
			return err
		}
	}
	if len(p.full) > 0 && !p.told {
		in.o.Audit.Note(audit.Event{Type: audit.MailUntold, Subject: string(p.env.ID), Outcome: "mailboxes are full, and nobody can be told", Detail: map[string]string{
			"from": p.env.From.String(), "full": addresses(p.missed()), "report": "failure",
		}})
	}
	return nil
}

// leaveOut is the bodies for those who are not full. It notes who is.
func (p *passage) leaveOut(bodies []storage.Body, full []mail.AccountID) []storage.Body {
	var out []storage.Body
	for _, b := range bodies {
		var entries []storage.NewEntry
		for _, e := range b.Entries {
			if !slices.Contains(full, e.Account) {
				entries = append(entries, e)
				continue
			}
			for _, m := range p.mailboxes {
				if m.way == "" && m.entry.Account == e.Account {
					p.full = append(p.full, m)
				}
			}
		}
		if b.Entries = entries; len(b.Entries)+len(b.Queue) > 0 {
			out = append(out, b)
		}
	}
	return out
}

// missed are the recipients behind whom a mailbox is full, as the sender may know them: only our own users learn who
// the members of a group are.
func (p *passage) missed() []mail.Address {
	var out []mail.Address
	for _, m := range p.full {
		a := m.via[0]
		if p.path == policy.Submission {
			a = m.entry.Address
		}
		if !slices.ContainsFunc(out, a.Equal) {
			out = append(out, a)
		}
	}
	return out
}

// tell adds the report about those left out to the delivery: for the mailbox of the sender, or the queue if they are
// elsewhere. The null sender, and one whom no mail of ours reaches, cannot be told.
func (in *Intake) tell(ctx context.Context, p *passage, d *storage.Delivery) error {
	from := p.env.From
	if from.IsZero() {
		return nil
	}
	confidential := p.demand >= policy.SMIME
	f := queue.Failure{Hostname: in.o.Hostname, Sender: from, Time: in.o.Now(), Confidential: confidential, Header: p.text[:p.header.Len()]}
	for _, a := range p.missed() {
		f.Recipients = append(f.Recipients, queue.Failed{Address: a, Status: "5.2.2", Text: "the mailbox is full"})
	}
	report, err := queue.Report(f)
	if err != nil {
		return err
	}
	l := queue.Letter{Label: p.label, Confidential: confidential, VerifiedTLS: p.decision.Action == policy.RequireTLS}
	b, err := in.notice(ctx, from, report, l)
	if err != nil {
		return temporary(err)
	}
	d.Bodies, p.told = append(d.Bodies, b), true
	return nil
}

// notice is a message of our own to somebody: for their mailbox, or for the queue if they are elsewhere; then l says how
// it leaves. The error is of kind NotFound or Refused if no mail of ours reaches them.
func (in *Intake) notice(ctx context.Context, to mail.Address, text []byte, l queue.Letter) (storage.Body, error) {
	env := &mail.Envelope{ID: mail.NewID(), To: []mail.Address{to}, Client: mail.Client{Protocol: mail.ProtocolQueue}}
	b := storage.Body{Data: append(in.received(env), text...)}
	b.Index = message.Parse(b.Data, in.o.Message)
	if in.local[to.Domain] {
		e, err := in.o.Directory.Lookup(ctx, to)
		if err == nil && e.Account == "" {
			err = mail.E(mail.NotFound, "", nil)
		}
		if err != nil {
			return b, err
		}
		prefix := "Return-Path: <>\r\nDelivered-To: " + e.Address.String() + "\r\n"
		b.Entries = []storage.NewEntry{{Account: e.Account, Prefix: []byte(prefix), Department: e.Address.Domain}}
		return b, nil
	}
	if in.o.Queue == nil {
		return b, mail.E(mail.Refused, "mail to other domains is not served yet", nil)
	}
	if _, err := in.o.Queue.Way(to.Domain); err != nil {
		return b, err
	}
	l.ID, l.To, l.Body = env.ID, env.To, b.Data
	item, err := in.o.Queue.Item(l)
	b.Queue = []storage.QueueItem{item}
	return b, err
}

// temporary is err if it may pass, else nil.
func temporary(err error) error {
	if err != nil && mail.KindOf(err).Temporary() {
		return err
	}
	return nil
}
