package intake

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/storage"
)

// commit is the one durable act: after it the message is in every mailbox here that is not full,
// and in the queue for those elsewhere.
func (in *Intake) commit(ctx context.Context, p *passage) error {
	d := storage.Delivery{Bodies: p.bodies}
	if p.label != "" && p.path == policy.Submission && p.env.Sender.Account != "" {
		if id, ok := messageID(p.header); ok {
			d.Submitted = append(d.Submitted, storage.SubmittedLabel{Account: p.env.Sender.Account, MessageID: id, Label: p.label})
		}
	}
	if err := in.deliver(ctx, p, &d); err != nil {
		return err
	}
	items := 0
	for _, b := range d.Bodies {
		items += len(b.Queue)
	}
	if items > 0 {
		in.o.Queue.Wake()
	}
	if p.path == policy.Inbound && p.index.Defects&message.SeveralFrom != 0 {
		in.o.Log.Info("more than one author", "id", string(p.env.ID)) // kept: only a submission must say who wrote it
	}
	in.o.Log.Info("accepted", "id", string(p.env.ID), "protocol", p.env.Client.Protocol, "client", p.env.Client.Remote,
		"bytes", len(p.text), "mailboxes", len(p.mailboxes)-len(p.full), "full", len(p.full), "queued", items, "label", string(p.label),
		"action", p.decision.Action.String(), "cipher", p.ciphers(), "signer", p.signer.String())
	return nil
}

// record notes the decision about labelled mail, every use of an author's own key, and every refusal, for the audit log:
// who, to whom, under which label, what was decided and why; nothing of the message.
func (in *Intake) record(p *passage) {
	refused := p.decision.Action == policy.Refuse || p.decision.Action == policy.Defer
	if p.label == "" && !refused && len(p.relied.Unknown) == 0 && p.signer != policy.ByAuthor {
		return
	}
	e := audit.Event{Type: audit.MailPassed, Subject: string(p.env.ID), Client: p.env.Client.Remote, Outcome: p.decision.Action.String(), Detail: map[string]string{
		"from": p.env.From.String(), "to": addresses(p.env.To), "label": string(p.label), "source": string(p.source),
	}}
	switch {
	case refused:
		e.Type = audit.MailRefused
		e.Detail["reason"] = p.decision.Text()
	case p.decision.Action == policy.Seal:
		e.Type = audit.MailSealed
		e.Detail["cipher"] = p.ciphers()
		p.readers(e.Detail)
	case p.protection.Enveloped != nil:
		e.Detail["cipher"] = p.protection.Enveloped.Cipher.String() // its author's choice
		if !p.relied.LastKnown.IsZero() {
			e.Detail["last-known-good"] = p.relied.LastKnown.UTC().Format(time.RFC3339)
		}
		if len(p.relied.Unknown) > 0 {
			e.Detail["revocation-unknown"] = addresses(p.relied.Unknown)
		}
	}
	if p.signer != policy.ByNobody && !refused {
		e.Detail["signer"] = p.signer.String()
	}
	if p.env.Sender != nil {
		e.Actor = p.env.Sender.UID
	}
	in.o.Audit.Note(e)
}

// ciphers says how the sealed copies are encrypted, each way once: "aes-256-gcm (ecdh, rsa-oaep)".
// Empty: nothing is sealed.
func (p *passage) ciphers() string {
	var ways []string
	for _, e := range p.envelopes {
		ways = append(ways, smime.CipherFor(e.readers).String()+" ("+strings.Join(smime.Transports(e.readers), ", ")+")")
	}
	slices.Sort(ways)
	return strings.Join(slices.Compact(ways), "; ")
}

// maxListed bounds the recipients that a record names.
const maxListed = 50

func addresses(to []mail.Address) string {
	var b strings.Builder
	for i, a := range to {
		if i == maxListed {
			b.WriteString(" and " + strconv.Itoa(len(to)-i) + " more")
			break
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(a.String())
	}
	return b.String()
}
