package policy

import (
	"errors"
	"strings"
	"unicode/utf8"

	"cmmpd/internal/mail"
)

// LowerField is the header field by which an author asks for a weaker label than that of
// the conversation that a submission answers:
//
//	X-Classification-Lower: restricted; reason="published on Monday"
//
// In programs that cannot write a field a tag at the head of the subject asks for the
// same: [LOWER RESTRICTED: published on Monday], 【降級 限閱：星期一公布】. It stands before any "Re:":
// what comes behind that, whoever began the conversation wrote. Neither ever leaves.
const LowerField = "X-Classification-Lower"

// Lowering is what an author asks for.
type Lowering struct {
	Label  mail.Label
	Reason string
}

// The bounds of a reason, in characters: no reason is shorter, and no more is kept.
const (
	minReason = 3
	maxReason = 500
)

// What can be wrong with a request. The texts are for its author.
var (
	ErrNoSuchLabel = errors.New("the request to lower the label does not name one label")
	ErrNoReason    = errors.New("the request to lower the label gives no reason")
	ErrAskedTwice  = errors.New("the message asks twice, and differently, to lower its label")
	ErrNotFirst    = errors.New("the request to lower the label stands behind the mark of a reply, where somebody else may have written it: put it first in the subject, or take it out")
)

// Lowering reads the request in a header of a submission: the values of LowerField and of
// Subject, decoded. nil if there is none.
func (p *Policy) Lowering(fields, subjects []string) (*Lowering, error) {
	var found *Lowering
	add := func(label, reason string) error {
		l, err := p.lowering(label, reason)
		if err == nil && found != nil && *found != l {
			err = ErrAskedTwice
		}
		found = &l
		return err
	}
	for _, v := range fields {
		label, rest, _ := strings.Cut(v, ";")
		reason := ""
		for name, value := range params(rest) {
			if name == "reason" {
				reason = value
			}
		}
		if err := add(label, reason); err != nil {
			return nil, err
		}
	}
	for _, s := range subjects {
		for {
			label, reason, without, ok := p.lowerTag(s, false)
			if !ok {
				break
			}
			if err := add(label, reason); err != nil {
				return nil, err
			}
			s = without
		}
		if label, _, _, ok := p.lowerTag(s, true); ok && p.labels.words[fold(label)] != "" {
			return nil, ErrNotFirst
		}
	}
	return found, nil
}

func (p *Policy) lowering(label, reason string) (Lowering, error) {
	l, ok := p.labels.words[fold(label)]
	reason = strings.Join(strings.Fields(reason), " ")
	switch {
	case !ok:
		return Lowering{}, ErrNoSuchLabel
	case utf8.RuneCountInString(reason) < minReason:
		return Lowering{}, ErrNoReason
	}
	if r := []rune(reason); len(r) > maxReason {
		reason = string(r[:maxReason]) + "…"
	}
	return Lowering{l, reason}, nil
}

// WithoutLowering is a subject without the tags that ask to lower the label, and whether
// there were any.
func (p *Policy) WithoutLowering(subject string) (string, bool) {
	found := false
	for {
		_, _, without, ok := p.lowerTag(subject, false)
		if !ok {
			return subject, found
		}
		subject, found = without, true
	}
}

// lowerTag finds a tag that asks to lower the label among the brackets at the head of a
// subject; answered: behind marks of replies, too.
func (p *Policy) lowerTag(subject string, answered bool) (label, reason, without string, ok bool) {
	if len(subject) > maxFold {
		return "", "", "", false
	}
	s := subject
	for {
		s = strings.TrimLeftFunc(s, insignificant)
		if rest, ok := cutReplyMark(s); ok && answered {
			s = rest
			continue
		}
		tag, rest, ok := cutBrackets(s)
		if !ok {
			return "", "", "", false
		}
		if label, reason, ok := p.cutLowering(tag); ok {
			return label, reason, strings.TrimSpace(subject[:len(subject)-len(s)] + strings.TrimLeft(rest, " \t\u3000")), true
		}
		s = rest
	}
}

// lowerWords begin a tag that asks to lower the label, folded.
var lowerWords = []string{"lower to", "lower", "downgrade to", "downgrade", "降級為", "降級至", "降級", "降级为", "降级至", "降级", "降低密級", "降低密级"}

// cutLowering splits the tag "LOWER label: reason". Without a colon it is one only if it
// names a label: [Lower Austria] asks for nothing.
func (p *Policy) cutLowering(tag string) (label, reason string, ok bool) {
	head, reason, asked := strings.Cut(strings.ReplaceAll(tag, "：", ":"), ":")
	folded := fold(head)
	for _, w := range lowerWords {
		rest, ok := strings.CutPrefix(folded, w)
		if !ok {
			continue
		}
		first, _ := utf8.DecodeRuneInString(rest)
		if last, _ := utf8.DecodeLastRuneInString(w); rest == "" || spaced(last) && spaced(first) {
			continue // another word that begins likewise
		}
		label = strings.TrimSpace(rest)
		_, known := p.labels.words[label]
		return label, strings.TrimSpace(reason), asked || known
	}
	return "", "", false
}
