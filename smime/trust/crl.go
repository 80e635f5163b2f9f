package trust

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"cmmpd/smime/certkey"
)

// maxListBytes bounds one revocation list.
const maxListBytes = 64 << 20

// clockSkew is how far in the future a list's or response's thisUpdate may lie.
const clockSkew = 5 * time.Minute

// revocations is one list, made ready for look-ups. Only trusted changes.
type revocations struct {
	source     string // file or URL, for the words
	issuer     name
	issuerKey  string    // name.key of it
	made, next time.Time // thisUpdate and nextUpdate; next may be zero
	number     *big.Int  // may be nil
	scope      scope
	scopeDER   string // what tells lists of one issuer apart
	delta      bool   // speaks only of what changed since another list
	reject     string // why the list cannot be used at all, if so
	// entries are by the issuer of the certificates (name.key) and their serial number.
	entries map[string]map[string]entry

	tbs, signature []byte
	algorithm      x509.SignatureAlgorithm

	remote func(by *x509.Certificate) // told that the list may be believed; nil for files

	mu      sync.Mutex
	trusted map[string]bool // whether the signature is good under the key of the certificate with these bytes; guarded by mu
}

// entry is one revoked certificate.
type entry struct {
	at     int64 // Unix seconds
	reason uint8 // CRLReason
}

const (
	onHold        = 6 // the one reason from which a certificate may come back
	removeFromCRL = 8 // by which a delta list takes a certificate off again
)

var reasonNames = map[uint8]string{
	1: "key compromise", 2: "compromise of the authority", 3: "affiliation changed", 4: "superseded",
	5: "cessation of operation", 6: "on hold", 9: "privilege withdrawn", 10: "compromise of the attribute authority",
}

// parseLists reads one list in DER, or any number in PEM.
func parseLists(b []byte, source string) ([]*revocations, error) {
	if len(b) > 0 && b[0] == 0x30 {
		r, err := parseList(b, source)
		if err != nil {
			return nil, err
		}
		return []*revocations{r}, nil
	}
	var out []*revocations
	for len(b) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		r, err := parseList(block.Bytes, source)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("holds no revocation list")
	}
	return out, nil
}

// readExtensions looks at what changes the meaning of the list (RFC 5280, section
// 5.2). One with a critical extension that we do not know cannot be used.
func (r *revocations) readExtensions(list *x509.RevocationList) {
	r.scope.reasons = allReasons
	for _, e := range list.Extensions {
		switch {
		case e.Id.Equal(oidIDP):
			s, err := readScope(e.Value)
			if err != nil {
				r.reject = "the revocation list's distribution point cannot be read"
			}
			r.scope, r.scopeDER = s, string(e.Value)
		case e.Id.Equal(oidDelta):
			r.delta = true
		case e.Critical && !e.Id.Equal(oidCRLNumber) && !e.Id.Equal(oidAuthorityKeyID):
			r.reject = "the revocation list has an unknown critical extension"
		}
	}
}

// certificateIssuer reads the one directory name of the extension.
func certificateIssuer(der []byte) (name, error) {
	in := cryptobyte.String(der)
	var seq cryptobyte.String
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() {
		return nil, errNames
	}
	names, err := readGeneralNames(seq)
	if err != nil {
		return nil, err
	}
	for _, g := range names {
		if g.form == formDirectory {
			return g.dir, nil
		}
	}
	return nil, errNames
}

// entry finds c, whose issuer's name has this key.
func (r *revocations) entry(c *x509.Certificate, issuer string) (entry, bool) {
	e, ok := r.entries[issuer][serialKey(c.SerialNumber)]
	return e, ok
}

// kind is what lists have in common of which a newer one replaces an older.
func (r *revocations) kind() string {
	k := r.issuerKey + "/" + r.scopeDER
	if r.delta {
		k += "/delta"
	}
	return k
}

// newer orders lists by date, and within a second by number (RFC 5280, section 5.2.3).
func newer(a, b *revocations) int {
	if c := b.made.Compare(a.made); c != 0 {
		return c
	}
	if a.number != nil && b.number != nil {
		if c := b.number.Cmp(a.number); c != 0 {
			return c
		}
	}
	return strings.Compare(a.source, b.source)
}

// signedBy checks the signature, once for each certificate. The certificate's key
// usage must include cRLSign, where it states one.
func (r *revocations) signedBy(c *x509.Certificate) bool {
	if c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	good, known := r.trusted[string(c.Raw)]
	if !known {
		good = certkey.CheckSignature(c, r.algorithm, r.tbs, r.signature) == nil
		if len(r.trusted) < 16 {
			r.trusted[string(c.Raw)] = good
		}
	}
	return good
}

// confirmed says that r is signed by c, who may.
func (r *revocations) confirmed(c *x509.Certificate) {
	if r.remote != nil {
		r.remote(c)
	}
}

// speaksFor says whether the list covers c by its distribution point p (RFC 5280,
// section 6.3.3 (b)); otherwise why not.
func (r *revocations) speaksFor(c *x509.Certificate, p *point) string {
	if r.reject != "" {
		return r.reject
	}
	s := &r.scope
	switch {
	case len(p.issuers) > 0 && !s.indirect:
		return "the revocation list does not speak for other issuers"
	case s.attribute:
		return "the revocation list is for attribute certificates"
	case s.users && isAuthority(c):
		return "the revocation list is partitioned: not for authorities"
	case s.cas && !isAuthority(c):
		return "the revocation list is partitioned: for authorities only"
	case !s.named:
		return ""
	}
	theirs := s.names(r.issuer)
	ours := p.issuers
	if len(p.full) > 0 || p.relative != "" {
		base := parseName(c.RawIssuer)
		for _, g := range p.issuers {
			if g.form == formDirectory {
				base = g.dir
				break
			}
		}
		ours = p.names(base)
	}
	for _, a := range theirs {
		if slices.ContainsFunc(ours, a.same) {
			return ""
		}
	}
	return "the revocation list is partitioned: of another distribution point"
}

func isAuthority(c *x509.Certificate) bool { return c.BasicConstraintsValid && c.IsCA }

// age says whether data made and holding until then can be relied on. good with words
// means: only as the last that is known.
func (o *Options) age(what string, made, next, now time.Time) (good bool, words string) {
	switch {
	case made.After(now.Add(clockSkew)):
		return false, what + " is dated in the future, " + stamp(made)
	case o.MaxCRLAge > 0 && now.Sub(made) > o.MaxCRLAge:
		return false, what + " is too old, of " + stamp(made)
	case next.IsZero() && o.MaxCRLAge == 0:
		return false, what + " does not say how long it holds"
	case next.IsZero() || !now.After(next):
		return true, ""
	case now.Sub(next) <= o.LastKnownGood:
		return true, "the last that is known, though it held only until " + stamp(next)
	}
	return false, what + " held only until " + stamp(next)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
