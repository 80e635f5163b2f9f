package imap

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// listing is what a LIST asks for (RFC 3501, section 6.3.8; RFC 5258, 5819, 6154).
type listing struct {
	reference string
	patterns  []string
	extended  bool // it is written in the way of RFC 5258

	subscribed, specialUse bool // selection: only those
	recursive              bool // selection: and what is above them
	returnSubscribed       bool
	returnStatus           []statusItem
}

// cmdList lists mailboxes.
func cmdList(s *session, p *wire.Parser) (string, error) {
	var l listing
	if p.Peek() == '(' {
		l.takeSelection(p)
		p.SP()
	}
	l.takeNames(p)
	if p.Err() == nil && !p.AtEnd() {
		p.SP()
		l.takeReturn(s, p)
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if len(l.patterns) == 1 && l.patterns[0] == "" && !l.extended {
		s.untagged(`LIST (\Noselect) "/" ""`) // only the separator is wanted
		return "", nil
	}
	boxes, err := s.user.acct.List(s.ctx)
	if err != nil {
		return "", err
	}
	match := matcher(&l)
	for i := range boxes {
		b := &boxes[i]
		below := l.recursive && l.selectedBelow(boxes[i+1:], b.Name)
		if !match(b.Name) || !l.selects(b) && !below || b.Recoverable && !l.wants(b.Name) {
			continue
		}
		s.sendList("LIST", b.Name, l.attributes(b), l.childInfo(below))
		if len(l.returnStatus) > 0 && b.Exists {
			if err := s.status(b.Name, l.returnStatus); err != nil && mail.KindOf(err) != mail.NotFound {
				return "", err
			}
		}
	}
	return "", nil
}

// selects says whether a mailbox is one of those wanted. A name that is nothing but subscribed is listed
// only where subscriptions are asked for.
func (l *listing) selects(b *storage.MailboxInfo) bool {
	switch {
	case l.subscribed && !b.Subscribed, l.specialUse && b.SpecialUse == "":
		return false
	}
	return b.Exists || b.HasChildren || l.subscribed
}

// wants says whether the mailbox of deleted messages is asked for, by its name or among all there are ("*"). It is not one for
// every day: who looks at one level after the other, as when a tree of folders is shown, does not see it.
func (l *listing) wants(name string) bool {
	return slices.ContainsFunc(l.patterns, func(p string) bool { return l.reference+p == name || strings.Contains(p, "*") })
}

// selectedBelow says whether a mailbox below name, of those that follow it in the list, is wanted.
func (l *listing) selectedBelow(after []storage.MailboxInfo, name string) bool {
	for i := range after {
		if !strings.HasPrefix(after[i].Name, name+"/") {
			return false
		}
		if l.selects(&after[i]) {
			return true
		}
	}
	return false
}

// childInfo is the extended data item of that name (RFC 5258, section 4).
func (l *listing) childInfo(below bool) string {
	var options []string
	if l.subscribed {
		options = append(options, `"SUBSCRIBED"`)
	}
	if l.specialUse {
		options = append(options, `"SPECIAL-USE"`)
	}
	if !below {
		return ""
	}
	return ` ("CHILDINFO" (` + strings.Join(options, " ") + `))`
}

func (l *listing) takeSelection(p *wire.Parser) {
	l.extended = true
	p.List(func() {
		switch p.Word() {
		case "SUBSCRIBED":
			l.subscribed, l.returnSubscribed = true, true
		case "SPECIAL-USE":
			l.specialUse = true
		case "RECURSIVEMATCH":
			l.recursive = true
		case "REMOTE": // there are none
		default:
			p.Fail(&wire.Error{Text: "Unknown selection option"})
		}
	})
	if l.recursive && !l.subscribed && !l.specialUse {
		p.Fail(&wire.Error{Text: "RECURSIVEMATCH needs another selection option"})
	}
}

func (l *listing) takeNames(p *wire.Parser) {
	reference, ok := decodePattern(p, p.AString())
	l.reference = reference
	take := func() {
		if pattern, good := decodePattern(p, p.ListMailbox()); good && ok {
			l.patterns = append(l.patterns, pattern)
		}
	}
	p.SP()
	if p.Peek() == '(' {
		l.extended = true
		p.List(take)
		return
	}
	take()
}

// decodePattern decodes a pattern. One that is not ok, for it is no modified UTF-7 or longer than any name, matches
// nothing: a client may ask whether there is such a mailbox.
func decodePattern(p *wire.Parser, s string) (pattern string, ok bool) {
	if p.Err() != nil {
		return "", false
	}
	name, err := p.DecodeName(s)
	if err != nil || len(name) > maxName {
		return "", false
	}
	return norm.NFC.String(name), true
}

func (l *listing) takeReturn(s *session, p *wire.Parser) {
	l.extended = true
	if p.Word() != "RETURN" {
		p.Fail(&wire.Error{Text: "Missing or malformed argument"})
	}
	p.SP()
	p.List(func() {
		switch p.Word() {
		case "SUBSCRIBED":
			l.returnSubscribed = true
		case "CHILDREN", "SPECIAL-USE": // always told
		case "STATUS":
			p.SP()
			l.returnStatus = s.takeStatusItems(p)
		default:
			p.Fail(&wire.Error{Text: "Unknown return option"})
		}
	})
}

// matcher is the test whether a name matches any of the patterns.
func matcher(l *listing) func(name string) bool {
	var pats, inbox []*wire.Pattern
	for _, s := range l.patterns {
		full := wire.CanonicalInbox(l.reference + s)
		pats = append(pats, wire.NewPattern(full))
		inbox = append(inbox, wire.NewPattern(strings.ToUpper(full)))
	}
	return func(name string) bool {
		use := pats
		if name == "INBOX" { // in any spelling, also by a pattern
			use = inbox
		}
		for _, p := range use {
			if p.Match(name) {
				return true
			}
		}
		return false
	}
}

// attributes of one mailbox in a response.
func (l *listing) attributes(b *storage.MailboxInfo) []string {
	var attrs []string
	switch {
	case !b.Exists && l.extended:
		attrs = append(attrs, string(imap.MailboxAttrNonExistent))
	case !b.Exists:
		attrs = append(attrs, string(imap.MailboxAttrNoSelect))
	}
	if b.Recoverable {
		attrs = append(attrs, string(imap.MailboxAttrNoInferiors))
	}
	if b.HasChildren {
		attrs = append(attrs, string(imap.MailboxAttrHasChildren))
	} else {
		attrs = append(attrs, string(imap.MailboxAttrHasNoChildren))
	}
	if l.returnSubscribed && b.Subscribed {
		attrs = append(attrs, string(imap.MailboxAttrSubscribed))
	}
	if b.SpecialUse != "" {
		attrs = append(attrs, b.SpecialUse)
	}
	return attrs
}

func (s *session) sendList(response, name string, attrs []string, extended string) {
	s.c.write("* " + response + " ")
	b := wire.AppendFlags(s.c.out, attrs)
	b = append(b, ` "/" `...)
	s.c.out = append(s.appendMailbox(b, name), extended...)
	s.c.end()
}
