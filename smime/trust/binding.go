package trust

import (
	"crypto/x509"
	encodingasn1 "encoding/asn1"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/net/idna"

	"cmmpd/internal/mail"
)

// oidEmail is emailAddress of PKCS #9 (RFC 2985, section 5.2.1).
var oidEmail = encodingasn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// maxAddresses bounds how many addresses of one certificate are looked at.
const maxAddresses = 100

// Addresses are the mail addresses that c names: the rfc822Names of the subject
// alternative name and its SmtpUTF8Mailboxes (RFC 9598), or, where it has neither, the
// legacy emailAddress attributes of the subject (RFC 8550, section 3). What is not a mail
// address is left out.
func Addresses(c *x509.Certificate) []mail.Address {
	written := alternative(c)
	if len(written) == 0 {
		written = legacy(c)
	}
	var out []mail.Address
	for _, s := range written[:min(len(written), maxAddresses)] {
		if a, err := mail.ParseAddress(s); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func legacy(c *x509.Certificate) []string {
	var out []string
	for _, n := range c.Subject.Names {
		if s, ok := n.Value.(string); ok && n.Type.Equal(oidEmail) {
			out = append(out, s)
		}
	}
	return out
}

// alternative are the addresses among the subject alternative names, as written.
func alternative(c *x509.Certificate) []string {
	out := slices.Clone(c.EmailAddresses)
	names, err := alternativeNames(c)
	if err != nil {
		return out
	}
	for _, g := range names {
		if box, ok := utf8Mailbox(g); ok {
			out = append(out, box)
		}
	}
	return out
}

// isMailbox says whether g is a mail address, well formed or not.
func isMailbox(g generalName) bool {
	_, ok := utf8Mailbox(g)
	return ok || g.form == formEmail
}

// oidUTF8Mailbox is id-on-SmtpUTF8Mailbox (RFC 9598, section 3) in DER, without tag.
const oidUTF8Mailbox = "\x2b\x06\x01\x05\x05\x07\x08\x09"

// utf8Mailbox reads a SmtpUTF8Mailbox, with the domain as A-labels. One whose local
// part is ASCII must not be (section 3): it is empty, which is nobody's address.
func utf8Mailbox(g generalName) (string, bool) {
	in := cryptobyte.String(g.value)
	var oid, value, s cryptobyte.String
	if g.form != formOther || !in.ReadASN1(&oid, asn1.OBJECT_IDENTIFIER) || string(oid) != oidUTF8Mailbox {
		return "", false
	}
	if !in.ReadASN1(&value, asn1.Tag(0).ContextSpecific().Constructed()) || !in.Empty() ||
		!value.ReadASN1(&s, asn1.UTF8String) || !value.Empty() || !utf8.Valid(s) {
		return "", true
	}
	at := strings.LastIndexByte(string(s), '@')
	if at < 0 || isASCII(string(s[:at])) || !isASCII(string(s[at:])) {
		return "", true
	}
	return string(s), true
}

// SameMailbox compares without regard to case, and to whether an internationalised
// domain is written in A-labels or U-labels.
func SameMailbox(a, b mail.Address) bool {
	if a.Equal(b) {
		return true
	}
	if a.ASCII() && b.ASCII() {
		return false
	}
	var err error
	if a.Domain, err = idna.Lookup.ToASCII(a.Domain); err != nil {
		return false
	}
	if b.Domain, err = idna.Lookup.ToASCII(b.Domain); err != nil {
		return false
	}
	return a.Equal(b)
}

// binding holds the certificate to the person. One that names addresses must name
// one of theirs, wherever it was found; one that names none is theirs if it stands
// in their directory entry, for many government certificates carry no address.
func (k *check) binding() bool {
	who, named := k.q.Binding, Addresses(k.c)
	for _, a := range append([]mail.Address{who.Address}, who.Aliases...) {
		if !a.IsZero() && slices.ContainsFunc(named, func(n mail.Address) bool { return SameMailbox(a, n) }) {
			return k.ok("binding", "the certificate names %s", a)
		}
	}
	if len(named) > 0 {
		return k.fail(WrongAddress, "binding", "the certificate names %s, not %s", list(named), who.Address)
	}
	if len(alternative(k.c))+len(legacy(k.c)) > 0 {
		return k.fail(WrongAddress, "binding", "the certificate names something that is not a mail address")
	}
	if !who.Directory {
		return k.fail(WrongAddress, "binding", "the certificate names no address")
	}
	return k.ok("binding", "the certificate names no address and stands in the directory entry of %s", who.Address)
}

func list(as []mail.Address) string {
	const most = 3
	var s []string
	for _, a := range as[:min(len(as), most)] {
		s = append(s, a.String())
	}
	if len(as) > most {
		s = append(s, "...")
	}
	return strings.Join(s, ", ")
}
