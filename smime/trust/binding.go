package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
	"strings"

	"cmmpd/internal/mail"
)

// oidEmail is emailAddress of PKCS #9 (RFC 2985, section 5.2.1).
var oidEmail = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// maxAddresses bounds how many addresses of one certificate are looked at.
const maxAddresses = 100

// Addresses are the mail addresses that c names: the rfc822Names of the subject
// alternative name, or, where it has none, the legacy emailAddress attributes of the
// subject (RFC 8550, section 3). What is not a mail address is left out.
func Addresses(c *x509.Certificate) []mail.Address {
	written := c.EmailAddresses
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

// binding holds the certificate to the person. One that names addresses must name
// one of theirs, wherever it was found; one that names none is theirs if it stands
// in their directory entry, for many government certificates carry no address.
func (k *check) binding() bool {
	named := Addresses(k.c)
	for _, a := range append([]mail.Address{k.b.Address}, k.b.Aliases...) {
		if a.IsZero() || !slices.ContainsFunc(named, a.Equal) {
			continue
		}
		if len(k.c.EmailAddresses) == 0 && k.constrained() {
			return k.fail(WrongAddress, "binding",
				"the address stands only in the subject, where the limits set to its authority do not reach it")
		}
		return k.ok("binding", "the certificate names %s", a)
	}
	if len(named) > 0 {
		return k.fail(WrongAddress, "binding", "the certificate names %s, not %s", list(named), k.b.Address)
	}
	if len(k.c.EmailAddresses)+len(legacy(k.c)) > 0 {
		return k.fail(WrongAddress, "binding", "the certificate names something that is not a mail address")
	}
	if !k.b.Directory {
		return k.fail(WrongAddress, "binding", "the certificate names no address")
	}
	return k.ok("binding", "the certificate names no address and stands in the directory entry of %s", k.b.Address)
}

// constrained says whether an authority of the path is limited to some mail domains.
// crypto/x509 applies that to rfc822Names only, RFC 5280, section 4.2.1.10, to the
// legacy attribute too; such certificates are refused rather than read by our own rule.
func (k *check) constrained() bool {
	return slices.ContainsFunc(k.r.Path[1:], func(c *x509.Certificate) bool {
		return len(c.PermittedEmailAddresses)+len(c.ExcludedEmailAddresses) > 0
	})
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
