package intake

import (
	"bytes"
	"context"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/internal/queue"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/storage"
)

// sealWait is how long a message waits for the memory that sealing it takes.
const sealWait = 30 * time.Second

// envelope is one sealed copy of a message.
type envelope struct {
	to      []mailbox // who gets it
	readers []smime.Usable
	bccOf   *mail.Address // it is for one blind recipient, by this address
}

// seals says which sealed copies a message needs. Readers whom it names share one; each of
// the others has an envelope of their own, which names nobody else (RFC 8551, section 3.3).
// The author reads each copy of a submission.
func (p *passage) seals() []envelope {
	var named envelope
	var out []envelope
	for i, blind := range p.blind() {
		m := p.mailboxes[i]
		if !blind {
			if named.to == nil {
				named.to = make([]mailbox, 0, len(p.mailboxes)-i)
			}
			named.to = append(named.to, m)
			continue
		}
		e := envelope{to: []mailbox{m}}
		if p.path == policy.Submission { // from outside it may be a list of theirs that led here
			e.bccOf = &m.via[0]
		}
		out = append(out, e)
	}
	if len(named.to) > 0 {
		out = append([]envelope{named}, out...)
	}
	for i := range out {
		out[i].readers = make([]smime.Usable, 0, len(out[i].to)+1)
		for _, m := range out[i].to {
			out[i].readers = append(out[i].readers, p.usable[m.key()])
		}
		if p.path == policy.Submission {
			out[i].readers = append(out[i].readers, p.usable[accountKey(p.sender.Account)])
		}
	}
	return out
}

// protect makes the bodies to keep and to send: the text as it is, or sealed. release gives
// back the memory that the copies take.
func (in *Intake) protect(ctx context.Context, p *passage) (release func(), err error) {
	if p.decision.Action != policy.Seal {
		in.mark(p)
		if release, err = in.sign(ctx, p); err != nil {
			return nil, err
		}
		b := storage.Body{Data: p.text, Index: p.index, Label: p.label}
		if err := in.address(p, &b, p.mailboxes); err != nil {
			release()
			return nil, err
		}
		p.bodies = []storage.Body{b}
		return release, nil
	}
	release, err = in.room(ctx, len(p.text), len(p.envelopes))
	if err != nil {
		return nil, err
	}
	for _, e := range p.envelopes {
		if err := in.sealIn(p, e); err != nil {
			release()
			return nil, err
		}
	}
	return release, nil
}

// marking is how a label is written.
func (in *Intake) marking(l mail.Label) smime.Marking {
	d := in.o.Policy.Labels().Definition(l)
	if d.Label == "" {
		return smime.Marking{}
	}
	m := smime.Marking{Text: in.o.Policy.Labels().Name(l), Color: d.Color, Weaker: func(name, value string) bool {
		h := message.ParseHeader([]byte(name+": "+value+"\r\n\r\n"), in.o.Message)
		said, _ := in.o.Policy.Classify(signals(h))
		return in.o.Policy.Labels().Rank(said) < in.o.Policy.Labels().Rank(l)
	}}
	if own := in.o.Policy.ESSPolicy(); own != "" && d.Classification > 0 {
		m.ESS = &cms.SecurityLabel{Policy: cms.OID(own), Classification: d.Classification, PrivacyMark: m.Text}
	}
	return m
}

// mark writes the label on a labelled submission that leaves as its author made it.
func (in *Intake) mark(p *passage) {
	if p.path != policy.Submission || p.label == "" {
		return
	}
	m := in.marking(p.label)
	if marked := m.Mark(p.text, in.o.Message); !bytes.Equal(marked, p.text) {
		p.text, p.header, p.index = marked, message.ParseHeader(marked, in.o.Message), message.Parse(marked, in.o.Message)
	}
}

// room reserves memory for sealed copies: each is more than a third longer than the message, 1.87 times as
// long at most, and so is what the store makes of it.
func (in *Intake) room(ctx context.Context, size, copies int) (release func(), err error) {
	n := int64(size) * int64(1+3*copies)
	ctx, cancel := context.WithTimeout(ctx, sealWait)
	defer cancel()
	if err := in.o.Memory.Acquire(ctx, n); err != nil {
		if mail.KindOf(err) == mail.TooLarge {
			err = mail.E(mail.TooLarge, "too many blind recipients for a message of this size", err)
		}
		return nil, err
	}
	return func() { in.o.Memory.Release(n) }, nil
}

// sealIn adds a sealed copy. Only of a submission do we know the author: the domain signs
// nothing that comes from outside.
func (in *Intake) sealIn(p *passage, e envelope) error {
	o := smime.SealOptions{Label: p.label, Marking: in.marking(p.label), Recipients: e.readers, BccOf: e.bccOf}
	if p.path == policy.Submission {
		o.Sender = p.sender.Address
	}
	if p.signer == policy.ByAuthor {
		o.Sender, o.Own = p.signedFor, true
	}
	sealed, err := in.o.Gateway.Seal(p.text, p.index, o)
	if err != nil {
		return err
	}
	b := storage.Body{Data: sealed, Index: message.Parse(sealed, in.o.Message), Label: p.label}
	if err := in.address(p, &b, e.to); err != nil {
		return err
	}
	p.bodies = append(p.bodies, b)
	return nil
}

// address says who gets the body: the mailboxes here, and by the queue those elsewhere.
func (in *Intake) address(p *passage, b *storage.Body, to []mailbox) error {
	var here []mailbox
	letters := make(map[string]*queue.Letter)
	var ways []string // in order
	for _, m := range to {
		if m.way == "" {
			here = append(here, m)
			continue
		}
		l := letters[m.way]
		if l == nil {
			l = &queue.Letter{
				ID: p.env.ID, From: p.env.From, Label: p.label, Body: b.Data,
				Confidential: p.demand >= policy.SMIME, VerifiedTLS: p.decision.Action == policy.RequireTLS,
			}
			letters[m.way] = l
			ways = append(ways, m.way)
		}
		l.To = append(l.To, m.entry.Address)
	}
	b.Entries = in.entries(p, here)
	for _, w := range ways {
		item, err := in.o.Queue.Item(*letters[w])
		if err != nil {
			return err
		}
		b.Queue = append(b.Queue, item)
	}
	return nil
}

// entries are the places of one body, each with its own fields on top (RFC 5321,
// section 4.4; RFC 9228).
func (in *Intake) entries(p *passage, to []mailbox) []storage.NewEntry {
	results := ""
	if p.path == policy.Inbound && (p.protection.Kind == smime.SignedOnly || p.protection.Signed) {
		results = in.o.Gateway.Verify(p.text, p.index).AuthenticationResults(in.o.Hostname)
	}
	out := make([]storage.NewEntry, len(to))
	for i, m := range to {
		prefix := "Return-Path: <" + p.env.From.String() + ">\r\nDelivered-To: " + m.entry.Address.String() + "\r\n" + results
		out[i] = storage.NewEntry{Account: m.entry.Account, Prefix: []byte(prefix), Department: m.entry.Address.Domain}
	}
	return out
}

// authors are the addresses of From.
func authors(x *message.Index) []mail.Address {
	var out []mail.Address
	for _, a := range x.Root.Envelope.From {
		if m, ok := a.Mail(); ok {
			out = append(out, m)
		}
	}
	return out
}
