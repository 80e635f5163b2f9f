package trust

import (
	"crypto/x509"

	"cmmpd/internal/mail"
)

// Verifier checks certificates. It may be used by several goroutines at once.
type Verifier struct {
	o Options
}

// New makes a Verifier.
func New(o Options) (*Verifier, error) { return &Verifier{o: o}, nil }

// Check says whether c may be used for p by whom b names. extra are certificates
// that came with a message: they may be part of the path, but are never anchors.
func (v *Verifier) Check(c *x509.Certificate, p Purpose, b Binding, extra ...*x509.Certificate) Result {
	return Result{Failure: Untrusted}
}

// Addresses are the mail addresses that c names.
func Addresses(c *x509.Certificate) []mail.Address { return nil }
