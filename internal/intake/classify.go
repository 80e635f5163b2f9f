package intake

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"unicode/utf8"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
)

// Bounds of what classify looks at.
const (
	maxThread   = 50      // messages that this one answers
	maxAccounts = 20      // recipients whose threads are looked at
	maxContent  = 1 << 20 // bytes of text for the content rules
)

// classify finds the label. A submission under the Message-ID of another message belongs to its conversation, or
// its label would take the other's place.
func (in *Intake) classify(ctx context.Context, p *passage) error {
	s, signed := in.signals(p)
	ids := thread(p.header)
	if id, ok := messageID(p.header); ok && p.path == policy.Submission {
		ids = append(ids, id)
	}
	if len(ids) > 0 {
		for _, a := range in.threadAccounts(p) {
			labels, err := in.o.Store.LabelOf(ctx, a, ids)
			if err != nil {
				return err
			}
			s.Thread = append(s.Thread, labels...)
		}
	}
	if err := in.lower(p, &s, signed); err != nil {
		return err
	}
	p.signals = s
	p.label, p.source = in.o.Policy.Classify(s)
	p.classified = true
	return nil
}

// signals are what the message itself says of its label, and the headers within its signatures.
func (in *Intake) signals(p *passage) (policy.Signals, []message.Header) {
	s := signals(p.header)
	found := in.o.Gateway.Labels(p.text, p.index)
	s.Signed.Unreadable = found.Unreadable
	for _, l := range found.Labels {
		s.Signed.Labels = append(s.Signed.Labels, securityLabel(&l))
	}
	for _, h := range found.Headers { // what header protection repeats within
		more := signals(h)
		s.SIOLabel, s.SIOSecurity.Labels = append(s.SIOLabel, more.SIOLabel...), append(s.SIOSecurity.Labels, more.SIOSecurity.Labels...)
		s.SIOOther = append(s.SIOOther, more.SIOOther...)
		s.Classification, s.Sensitivity = append(s.Classification, more.Classification...), append(s.Sensitivity, more.Sensitivity...)
		s.Subject = append(s.Subject, more.Subject...)
	}
	if in.o.Policy.ReadsContent() {
		s.Texts = texts(p.index, p.text)
		for _, e := range found.Entities {
			s.Texts = append(s.Texts, texts(e.Index, e.Raw)...)
		}
	}
	return s, found.Headers
}

func securityLabel(l *cms.SecurityLabel) policy.SecurityLabel {
	return policy.SecurityLabel{Policy: string(l.Policy), Classification: l.Classification, PrivacyMark: l.PrivacyMark}
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

// signals are what a header says of the label.
func signals(h message.Header) policy.Signals {
	s := policy.Signals{Classification: readings(h, "X-Classification"), Sensitivity: readings(h, "Sensitivity"), Subject: readings(h, "Subject")}
	for _, v := range readings(h, "SIO-Label") {
		s.SIOLabel = append(s.SIOLabel, v)
		readSIO(v, &s)
	}
	return s
}

// maxSIOLabel bounds the label within an SIO-Label, in octets of base64.
const maxSIOLabel = 64 << 10

// readSIO reads the parameters of an SIO-Label (RFC 7444, section 3) that the policy does
// not read itself: a marking that is extended by RFC 2231, and the label, of the types
// :ess, :x411 and :xml.
func readSIO(v string, s *policy.Signals) {
	var kind, label string
	var words []string
	for _, p := range message.ParseParams(v) {
		switch p.Name {
		case "marking":
			s.SIOLabel, words = append(s.SIOLabel, p.Value), append(words, p.Value)
		case "type":
			kind = strings.ToLower(p.Value)
		case "label":
			label = p.Value
		}
	}
	if kind == "" || label == "" {
		return
	}
	data, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(label), ""))
	if err == nil && len(label) <= maxSIOLabel {
		switch kind {
		case ":ess", ":x411":
			if l, err := cms.ParseSecurityLabel(data); err == nil {
				s.SIOSecurity.Labels = append(s.SIOSecurity.Labels, securityLabel(l))
				return
			}
		case ":xml":
			texts, whole := xmlTexts(data)
			if !whole { // what is lost may be stronger than what is left
				s.SIOLabel = append(s.SIOLabel, texts...)
			} else {
				words = append(words, texts...)
			}
		}
	}
	s.SIOOther = append(s.SIOOther, words)
}

// xmlTexts are the texts and the values of attributes in an XML label, but the names of
// name spaces, as far as it can be read, and whether that is the whole.
func xmlTexts(data []byte) (texts []string, whole bool) {
	d := xml.NewDecoder(bytes.NewReader(data))
	for {
		t, err := d.Token()
		if err != nil {
			return texts, errors.Is(err, io.EOF)
		}
		switch t := t.(type) {
		case xml.CharData:
			if text := strings.TrimSpace(string(t)); text != "" {
				texts = append(texts, text)
			}
		case xml.StartElement:
			for _, a := range t.Attr {
				if a.Name.Space != "xmlns" && a.Name.Local != "xmlns" {
					texts = append(texts, a.Value)
				}
			}
		}
	}
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
