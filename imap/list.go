package imap

import (
	"strings"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// listing is what a LIST asks for (RFC 3501, section 6.3.8, with the selection and
// return options of RFC 5258 that RFC 6154 needs).
type listing struct {
	reference string
	patterns  []string

	subscribed, specialUse bool // selection: only those
	returnSubscribed       bool
	returnSpecialUse       bool
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
		l.takeReturn(p)
	}
	if err := p.End(); err != nil {
		return "", err
	}
	if len(l.patterns) == 1 && l.patterns[0] == "" && !l.subscribed && !l.specialUse {
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
		if !match(b.Name) || l.subscribed && !b.Subscribed || l.specialUse && b.SpecialUse == "" {
			continue
		}
		if !b.Exists && !b.HasChildren && !l.subscribed {
			continue // nothing but a subscription
		}
		s.sendList("LIST", b.Name, l.attributes(b))
		if len(l.returnStatus) > 0 && b.Exists {
			if err := s.status(b.Name, l.returnStatus); err != nil && mail.KindOf(err) != mail.NotFound {
				return "", err
			}
		}
	}
	return "", nil
}

func (l *listing) takeSelection(p *wire.Parser) {
	p.List(func() {
		switch p.Word() {
		case "SUBSCRIBED":
			l.subscribed, l.returnSubscribed = true, true
		case "SPECIAL-USE":
			l.specialUse, l.returnSpecialUse = true, true
		case "REMOTE": // there are none
		default:
			p.Fail(&wire.Error{Text: "Unknown selection option"})
		}
	})
}

func (l *listing) takeNames(p *wire.Parser) {
	l.reference = decodePattern(p, p.AString())
	p.SP()
	if p.Peek() == '(' {
		p.List(func() { l.patterns = append(l.patterns, decodePattern(p, p.ListMailbox())) })
		return
	}
	l.patterns = append(l.patterns, decodePattern(p, p.ListMailbox()))
}

// decodePattern undoes the modified UTF-7 of a pattern; its wildcards stand for themselves in it.
func decodePattern(p *wire.Parser, s string) string {
	if p.Err() != nil {
		return ""
	}
	name, err := wire.DecodeMailbox(s)
	if err != nil || len(name) > maxName {
		p.Fail(&wire.Error{Text: "Malformed mailbox name"})
	}
	return norm.NFC.String(name)
}

func (l *listing) takeReturn(p *wire.Parser) {
	if p.Word() != "RETURN" {
		p.Fail(&wire.Error{Text: "Missing or malformed argument"})
	}
	p.SP()
	p.List(func() {
		switch p.Word() {
		case "SUBSCRIBED":
			l.returnSubscribed = true
		case "CHILDREN": // always told
		case "SPECIAL-USE":
			l.returnSpecialUse = true
		case "STATUS":
			p.SP()
			l.returnStatus = takeStatusItems(p)
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
	if !b.Exists {
		attrs = append(attrs, string(imap.MailboxAttrNoSelect))
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

func (s *session) sendList(response, name string, attrs []string) {
	s.c.write("* " + response + " ")
	b := wire.AppendFlags(s.c.out, attrs)
	b = append(b, ` "/" `...)
	s.c.out = wire.AppendMailbox(b, name)
	s.c.end()
}
