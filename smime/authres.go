package smime

import (
	"fmt"
	"strings"

	"cmmpd/internal/mail"
)

// AuthenticationResults is the result as an Authentication-Results field (RFC 8601,
// with the properties of RFC 7281), line end included. Whatever came from the message
// or its certificates is quoted or replaced, so that it cannot end the line, the
// comment or the value it stands in.
func (r SignatureResult) AuthenticationResults(authserv string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Authentication-Results: %s;\r\n smime=%s", token(authserv), r.Status)
	if r.Reason != "" && r.Status != None {
		fmt.Fprintf(&b, "\r\n (%s)", comment(r.Reason))
	}
	if r.Cert != nil {
		if r.Signer != (mail.Address{}) {
			fmt.Fprintf(&b, "\r\n body.smime-identifier=%s", identifier(r.Signer))
		}
		fmt.Fprintf(&b, "\r\n body.smime-serial=%x", r.Cert.SerialNumber)
		fmt.Fprintf(&b, "\r\n body.smime-issuer=%s", quoted(r.Cert.Issuer.String()))
	}
	b.WriteString("\r\n")
	return b.String()
}

// token is the authentication service's name; anything odd in it is dropped.
func token(s string) string {
	s = strings.Map(func(r rune) rune {
		if r > 0x20 && r < 0x7f && !strings.ContainsRune(`()<>@,;:\"/[]?=`, r) {
			return r
		}
		return -1
	}, s)
	if s == "" {
		return "localhost"
	}
	return s[:min(len(s), maxValue)]
}

// comment is text within parentheses (RFC 5322, section 3.2.2).
func comment(s string) string {
	return clean(s, `()\`)
}

// identifier is an address as a pvalue (RFC 8601, section 2.2).
func identifier(a mail.Address) string {
	if s := a.String(); a.ASCII() && !strings.ContainsAny(s, `"();<>\,: `) {
		return s
	}
	return quoted(a.String())
}

func quoted(s string) string { return `"` + clean(s, `"\`) + `"` }

// maxValue bounds one value of the field, in bytes: a line holds at most 998.
const maxValue = 300

// clean replaces what is not printable ASCII by a question mark and puts a backslash
// before each character of special.
func clean(s, special string) string {
	var b strings.Builder
	for _, r := range s {
		if b.Len() >= maxValue {
			b.WriteString("...")
			break
		}
		switch {
		case r < 0x20 || r >= 0x7f:
			r = '?'
		case strings.ContainsRune(special, r):
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
