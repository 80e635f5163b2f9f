package smime

import (
	"crypto/x509"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/trust"
)

// Status is a result of RFC 8601, section 2.7.1, as RFC 7281 uses it for S/MIME.
type Status string

// The results.
const (
	None      Status = "none"      // not signed
	Pass      Status = "pass"      // good
	Fail      Status = "fail"      // the signature does not fit the content
	Policy    Status = "policy"    // cryptographically good, but not acceptable
	Neutral   Status = "neutral"   // could not be checked for syntactic reasons
	TempError Status = "temperror" // revocation data too old
	PermError Status = "permerror" // for instance no certificate
)

// SignatureResult says what a signature is worth, and why.
type SignatureResult struct {
	Status Status
	Reason string // one line of plain words
	// Domain: made by a domain signing authority (RFC 3183). It speaks for the
	// domain, never for the author.
	Domain bool
	Signer mail.Address      // the address of the signer's certificate; of Pass it is the author's, or the domain's authority
	Cert   *x509.Certificate // the signer's, if it could be found
	Time   time.Time         // the signer's claim; zero if none
	Trust  trust.Result
}

// AuthenticationResults is the Authentication-Results field of RFC 8601 and RFC 7281
// with its line end.
func (r SignatureResult) AuthenticationResults(authserv string) string {
	return "Authentication-Results: " + authserv + "; smime=" + string(r.Status) + "\r\n"
}

// Verify checks the signature of the root entity of a message whose From field holds
// the addresses from.
func (g *Gateway) Verify(raw []byte, x *message.Index, from []mail.Address) SignatureResult {
	return SignatureResult{Status: None}
}
