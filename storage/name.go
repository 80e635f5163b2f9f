package storage

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/mail"
)

// Inbox is the mailbox that every account has.
const Inbox = "INBOX"

// Limits on mailboxes.
const (
	maxNameLength = 1024
	maxNameDepth  = 32
	maxMailboxes  = 10_000
)

// specialUses are the special-use attributes (RFC 6154), by their code in a mailboxRecord.
var specialUses = [...]string{"", `\Drafts`, `\Sent`, `\Junk`, `\Trash`, `\Archive`, `\All`, `\Flagged`, `\Important`}

// firstMailboxes are those of a new account, with their special use. All are subscribed.
var firstMailboxes = [...]struct {
	name string
	use  byte
}{{Inbox, 0}, {"Drafts", 1}, {"Sent", 2}, {"Junk", 3}, {"Trash", 4}, {"Archive", 5}}

func specialUse(attribute string) (byte, bool) {
	for i, s := range specialUses {
		if strings.EqualFold(s, attribute) {
			return byte(i), true
		}
	}
	return 0, false
}

var errName = mail.E(mail.Invalid, "not a valid mailbox name", nil)

// canonicalName checks a mailbox name and brings it to the form in which it is kept: normal form C, INBOX in capitals
// as the first level. One hierarchy separator at the end is taken off.
func canonicalName(name string) (string, error) {
	name = strings.TrimSuffix(name, "/")
	if name == "" || len(name) > maxNameLength || !utf8.ValidString(name) {
		return "", errName
	}
	name = norm.NFC.String(name)
	if len(name) > maxNameLength || strings.Count(name, "/") >= maxNameDepth {
		return "", errName
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == '%' || r == '*' || r == utf8.RuneError || unicode.Is(unicode.Cc, r) || r == '\u2028' || r == '\u2029' {
			return "", errName
		}
	}
	first, rest, nested := strings.Cut(name, "/")
	if strings.EqualFold(first, Inbox) {
		first = Inbox
	}
	if nested {
		first += "/" + rest
	}
	if strings.HasPrefix(first, "/") || strings.Contains(first, "//") {
		return "", errName
	}
	return first, nil
}

// parents are the names above name, the top level first.
func parents(name string) []string {
	var list []string
	for i := 0; i < len(name); i++ {
		if name[i] == '/' {
			list = append(list, name[:i])
		}
	}
	return list
}
