package intake

import (
	"context"
	"errors"
	"slices"
	"strings"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
)

// request reads what the author of a submission asks for: a weaker label than that of
// the conversation. Who may not is refused, whether or not there is something to lower; but
// their subject may well be about [Lower Albert Road: works].
func (in *Intake) request(p *passage, h message.Header) error {
	fields := readings(h, policy.LowerField)
	asked, err := in.o.Policy.Lowering(fields, readings(h, "Subject"))
	may := slices.ContainsFunc(in.o.Lowerers, p.env.Sender.HasRole)
	switch {
	case !may && len(fields) == 0 && (errors.Is(err, policy.ErrNoSuchLabel) || errors.Is(err, policy.ErrNotFirst)):
		return nil
	case err != nil:
		return mail.E(mail.Refused, err.Error(), nil)
	case asked == nil:
		return nil
	case !may:
		if p.asks {
			return mail.E(mail.Refused, notYours, nil)
		}
		in.o.Audit.Note(audit.Event{Type: audit.MailRefused, Subject: string(p.env.ID), Actor: p.env.Sender.UID, Client: p.env.Client.Remote, Outcome: policy.Refuse.String(), Detail: map[string]string{
			"from": p.env.From.String(), "to": addresses(p.env.To), "label": string(asked.Label), "source": string(policy.FromRequest), "reason": notYours,
		}})
		return mail.E(mail.Refused, notYours, nil)
	}
	p.asked = asked
	return nil
}

const notYours = "you may not lower the label of a conversation; send the message without the request"

// repeated says whether a header that is signed asks for it, too. From there it cannot be taken out.
func (in *Intake) repeated(signed []message.Header) bool {
	return slices.ContainsFunc(signed, func(h message.Header) bool {
		asked, err := in.o.Policy.Lowering(readings(h, policy.LowerField), readings(h, "Subject"))
		return asked != nil || err != nil
	})
}

const signedRequest = "your mail program has signed the request to lower the label along with the message, and it would leave: send the message unsigned"

// lower does what was asked for to what the conversation says: nothing else becomes less.
// signed are the headers within signatures.
func (in *Intake) lower(p *passage, s *policy.Signals, signed []message.Header) error {
	if p.asked == nil {
		return nil
	}
	if in.repeated(signed) {
		return mail.E(mail.Refused, signedRequest, nil)
	}
	s.Lowered = p.asked.Label
	labels := in.o.Policy.Labels()
	for i, l := range s.Thread {
		if labels.Rank(l) > labels.Rank(s.Lowered) {
			p.floor, s.Thread[i] = labels.Stronger(p.floor, l), s.Lowered
		}
	}
	return nil
}

// onRecord does commit. If the message lowers a label, that is on record before and its
// outcome after; if the log cannot be written, it is not done.
func (in *Intake) onRecord(ctx context.Context, p *passage, commit func(context.Context, *passage) error) error {
	if p.floor == "" {
		return commit(ctx, p)
	}
	act, err := in.o.Audit.Begin(ctx, audit.Event{Type: audit.LabelLower, Actor: p.env.Sender.UID, Subject: string(p.env.ID), Client: p.env.Client.Remote, Detail: map[string]string{
		"from": p.env.From.String(), "to": addresses(p.env.To), "floor": string(p.floor), "asked": string(p.asked.Label), "label": string(p.label), "reason": p.asked.Reason,
	}})
	if err != nil {
		return mail.E(mail.Unavailable, "the audit log cannot be written, so the label was not lowered and nothing was sent", err)
	}
	outcome := commit(ctx, p)
	if err := act.End(context.WithoutCancel(ctx), outcome); err != nil {
		return mail.E(mail.Unavailable, "the message may have been sent, but that could not be put on record", errors.Join(err, outcome))
	}
	return outcome
}

// withoutRequest is the subject field f without what asks to lower the label; ok is false
// if it asks for nothing.
func (in *Intake) withoutRequest(h message.Header, f message.Field) (field []byte, ok bool) {
	if !strings.EqualFold(f.Name, "Subject") {
		return nil, false
	}
	for _, s := range readings(message.ParseHeader(append(slices.Clip(h.Raw(f)), "\r\n"...), in.o.Message), "Subject") {
		if rest, found := in.o.Policy.WithoutLowering(s); found {
			return []byte("Subject: " + message.EncodeWord(rest) + "\r\n"), true
		}
	}
	return nil, false
}
