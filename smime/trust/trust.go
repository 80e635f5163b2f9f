// Package trust answers one question: may this certificate be used for this purpose
// by this person now? It checks the strength of the key, the dates, the key usage, the
// path to a configured anchor with its policies and name constraints (RFC 5280, section
// 6.1), revocation (section 6.3), and that the certificate belongs to the address. The
// answer names every step in words; it is never a bare yes or no.
package trust

import (
	"crypto/x509"
	"log/slog"
	"time"

	"cmmpd/internal/mail"
)

// Purpose is what the certificate is wanted for.
type Purpose uint8

const (
	Encrypt Purpose = iota // its key will protect a message key
	Sign                   // its key made a signature
)

func (p Purpose) String() string {
	if p == Sign {
		return "signing"
	}
	return "encryption"
}

// Failure is the reason why a certificate may not be used.
type Failure uint8

// The failures. Stale is the only temporary one: with newer revocation data the
// certificate may turn out to be good.
const (
	None         Failure = iota
	Expired              // its last day has passed
	NotYetValid          // its first day has not come
	Revoked              // its issuer has revoked it, or an authority above it
	Untrusted            // no path leads to a configured anchor
	KeyUsage             // it is not meant for this purpose
	WeakKey              // its key is too short, too long, or of an unknown kind
	WrongAddress         // it belongs to somebody else
	Stale                // what we know about revocation is too old to decide
)

var failureNames = [...]string{
	"usable", "expired", "not yet valid", "revoked", "not trusted", "not meant for this use", "weak key",
	"belongs to another address", "revocation unknown",
}

func (f Failure) String() string {
	if int(f) < len(failureNames) {
		return failureNames[f]
	}
	return "unknown"
}

// Temporary says whether the same certificate may be usable later without being
// replaced because our own knowledge was too old.
func (f Failure) Temporary() bool { return f == Stale }

// Binding says whose certificate it should be.
type Binding struct {
	Address mail.Address
	Aliases []mail.Address // other addresses of the same person or post
	// Directory: the certificate stands in that person's directory entry. A
	// certificate that names no address at all is then theirs.
	Directory bool
}

// Step is one thing that was checked.
type Step struct {
	Name   string // "key", "dates", "usage", "path", "revocation", "binding"
	OK     bool
	Detail string // plain words for the log and for an explanation; one line
}

// Query is a question about a certificate.
type Query struct {
	Purpose Purpose
	Binding Binding
	// Extra are certificates that came with a message: they may be part of the path, but
	// are never anchors.
	Extra []*x509.Certificate
	// Soft: where nothing reliable is known about revocation the certificate passes, and
	// the step says so. Otherwise it is Stale.
	Soft bool
}

// Result is the outcome of a check. Usable is true only if Failure is None and every
// step was taken and held.
type Result struct {
	Usable   bool
	Failure  Failure
	Path     []*x509.Certificate // leaf first, anchor last; nil if none was found
	Anchor   *x509.Certificate   // the last of Path
	Policies []string            // object identifiers under which the path holds, in the anchor's words
	Evidence []Evidence          // where what is known about revocation came from, by certificate of the path
	// Unknown: nothing reliable is known about the revocation of a certificate of Path. It passed
	// because the query is soft, or because its issuer is one of whom no list is demanded.
	Unknown bool
	Steps   []Step
}

// Options of a Verifier.
type Options struct {
	// Anchors are believed without further checks but their dates; at least one is needed.
	Anchors       []*x509.Certificate
	Intermediates []*x509.Certificate
	// Policies are, by the Raw of an anchor, the certificate policies (object identifiers)
	// of which a path to it must hold one; none: policies do not matter. One that ends in
	// ".*" stands for all below it.
	Policies map[string][]string
	// CRLs are files, or directories of files, with revocation lists in DER or PEM.
	// They are read again when they change. Each must be readable at New.
	CRLs []string
	// CRLLook is for how long they need not be looked at again; 0: they are looked at each time.
	CRLLook time.Duration
	// RequireCRL: an issuer for which no list is configured makes the answer Stale.
	// Otherwise its certificates pass, and the step says that nothing is known.
	RequireCRL bool
	// MaxCRLAge is the age since thisUpdate after which a list is too old even if its
	// nextUpdate has not come; 0: no such limit. A list without nextUpdate needs it.
	MaxCRLAge time.Duration
	// LastKnownGood is how long after its nextUpdate a list still counts, where there is
	// no newer one; 0: not at all. MaxCRLAge limits it too.
	LastKnownGood time.Duration
	MinRSABits    int // 0: 2048
	// Fetch gets lists, OCSP responses and issuers' certificates; nil: only files are used.
	Fetch Fetcher
	Cache Cache // nil: what was fetched is forgotten at the end
	// Refresh is how often what is in use is fetched anew by Run; 0: every hour.
	Refresh time.Duration
	Now     func() time.Time
	Log     *slog.Logger
}
