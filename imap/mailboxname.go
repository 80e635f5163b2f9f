package imap

import (
	"strings"
	"unicode"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/text/unicode/norm"

	"cmmpd/imap/wire"
)

// mailboxName takes the name of a mailbox, in normal form C.
func mailboxName(p *wire.Parser) string { return norm.NFC.String(p.Mailbox()) }

// appendMailbox appends a mailbox name as the client reads it.
func (s *session) appendMailbox(b []byte, name string) []byte {
	if s.has(utf8names) {
		return wire.AppendMailboxUTF8(b, name)
	}
	return wire.AppendMailbox(b, name)
}

// newMailboxName takes the name of a mailbox that is to be made. Names are keys and
// never paths, but a name that would be a trap to another program or to the eye is
// refused. One trailing separator means that
// children will follow (RFC 3501, section 6.3.3), and is dropped.
func newMailboxName(p *wire.Parser) string {
	name := strings.TrimSuffix(mailboxName(p), "/")
	if p.Err() == nil && !goodName(name) {
		p.Fail(no(imap.ResponseCodeCannot, "Not a good name for a mailbox"))
	}
	return name
}

const maxName = 1024 // octets, the limit of the store

func goodName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	for level := range strings.SplitSeq(name, "/") {
		if level == "" || level == "." || level == ".." || strings.TrimSpace(level) != level {
			return false
		}
	}
	return strings.IndexFunc(name, badRune) < 0
}

// badRune finds controls, line separators, what turns the direction of writing, what cannot be
// seen, the wildcards of LIST, and U+FFFD, which stands for octets that were not text.
func badRune(r rune) bool {
	switch {
	case r == '*', r == '%', r == unicode.ReplacementChar:
		return true
	case r == 0x200c, r == 0x200d: // joiners, which some scripts and emoji need
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Co, unicode.Cs)
}
