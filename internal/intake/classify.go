package intake

import (
	"context"
	"strings"
	"unicode/utf8"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
)

// Bounds of what classify looks at.
const (
	maxThread   = 50      // messages that this one answers
	maxAccounts = 20      // recipients whose threads are looked at
	maxContent  = 1 << 20 // bytes of text for the content rules
)

// classify finds the label.
func (in *Intake) classify(ctx context.Context, p *passage) error {
	s := signals(p.header)
	if in.o.Policy.ReadsContent() {
		s.Texts = texts(p.index, p.text)
	}
	ids := thread(p.header)
	if len(ids) > 0 {
		for _, a := range in.threadAccounts(p) {
			labels, err := in.o.Store.LabelOf(ctx, a, ids)
			if err != nil {
				return err
			}
			s.Thread = append(s.Thread, labels...)
		}
	}
	p.label, p.source = in.o.Policy.Classify(s)
	return nil
}

// threadAccounts are those in which a message may lie that this one answers: the
// sender's, or the recipients'.
func (in *Intake) threadAccounts(p *passage) []mail.AccountID {
	if p.path == policy.Submission {
		if p.env.Sender.Account == "" {
			return nil
		}
		return []mail.AccountID{p.env.Sender.Account}
	}
	var out []mail.AccountID
	for _, m := range p.mailboxes[:min(len(p.mailboxes), maxAccounts)] {
		out = append(out, m.entry.Account)
	}
	return out
}

// signals are what the header says of the label.
func signals(h message.Header) policy.Signals {
	s := policy.Signals{Classification: readings(h, "X-Classification"), Sensitivity: readings(h, "Sensitivity"), Subject: readings(h, "Subject")}
	for _, v := range readings(h, "SIO-Label") {
		s.SIOLabel = append(s.SIOLabel, v)
		for _, p := range message.ParseParams(v) {
			if p.Name == "marking" { // as the policy would not see it: extended by RFC 2231
				s.SIOLabel = append(s.SIOLabel, p.Value)
			}
		}
	}
	return s
}

// readings are the values of a field, decoded. One in 8-bit characters that say nothing
// of their charset is read in each way that is common here.
func readings(h message.Header, name string) []string {
	var out []string
	for _, v := range h.All(name) {
		out = append(out, message.DecodeWords(v))
		if !utf8.ValidString(v) {
			if text, err := message.DecodeText([]byte(v), "8bit", "gb18030"); err == nil {
				out = append(out, message.DecodeWords(string(text)))
			}
		}
	}
	return out
}

// messageID is the message's own.
func messageID(h message.Header) (string, bool) {
	ids := message.MessageIDs(h.Get("Message-ID"))
	if len(ids) == 0 {
		return "", false
	}
	return ids[0], true
}

// thread is the Message-IDs that the message answers, the nearest first.
func thread(h message.Header) []string {
	ids := message.MessageIDs(strings.Join(h.All("In-Reply-To"), " "))
	refs := message.MessageIDs(strings.Join(h.All("References"), " "))
	for i := len(refs) - 1; i >= 0; i-- {
		ids = append(ids, refs[i])
	}
	return ids[:min(len(ids), maxThread)]
}

func texts(x *message.Index, b []byte) [][]byte {
	var out [][]byte
	for _, text := range x.Texts(b, maxContent) {
		out = append(out, text)
	}
	return out
}
