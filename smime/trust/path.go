package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxExtra bounds the certificates taken from a message into path building.
const maxExtra = 32

// path finds a path to an anchor. Name constraints, path lengths, extended key usage
// nesting and unknown critical extensions are judged by crypto/x509 on the way.
func (k *check) path() bool {
	if k.r.Path = k.v.paths.get(k.c, k.now); k.r.Path == nil && !k.findPath() {
		return false
	}
	names := make([]string, 0, len(k.r.Path))
	for _, c := range k.r.Path[1:] {
		names = append(names, nameOf(c))
	}
	if len(names) == 0 {
		return k.ok("path", "the certificate is itself an anchor")
	}
	return k.ok("path", "issued by %s", strings.Join(names, ", under "))
}

func (k *check) findPath() bool {
	pool := k.v.intermediates
	if len(k.extra) > 0 {
		pool = pool.Clone()
		for _, c := range k.extra[:min(len(k.extra), maxExtra)] {
			// Keys are looked at before any signature is checked with them.
			if checkKey(c, k.v.o.MinRSABits) == nil {
				pool.AddCert(c)
			}
		}
	}
	chains, err := k.c.Verify(x509.VerifyOptions{
		Roots: k.v.anchors, Intermediates: pool, CurrentTime: k.now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
	})
	if err != nil {
		return k.noPath(err)
	}
	chains = slices.DeleteFunc(chains, func(chain []*x509.Certificate) bool {
		return slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return checkKey(c, k.v.o.MinRSABits) != nil })
	})
	if len(chains) == 0 {
		return k.fail(Untrusted, "path", "an authority in the path has a weak key")
	}
	k.r.Path = slices.MinFunc(chains, func(a, b []*x509.Certificate) int { return len(a) - len(b) })
	if len(k.extra) == 0 {
		k.v.paths.put(k.r.Path)
	}
	return true
}

func (k *check) noPath(err error) bool {
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.IncompatibleUsage {
		return k.fail(KeyUsage, "path", "the extended key usage does not allow mail: %v", err)
	}
	return k.fail(Untrusted, "path", "no path to a trusted authority: %v", err)
}

// paths remembers paths that were found, for signatures on certificates are slow to
// check and never change. Dates, revocation and everything about the certificate
// itself are looked at each time anew.
type paths struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]knownPath // by the certificate's digest, guarded by mu
}

// knownPath holds from the latest first day to the earliest last day in it.
type knownPath struct {
	path        []*x509.Certificate
	from, until time.Time
}

// maxPaths bounds the memory; beyond it everything is forgotten.
const maxPaths = 20_000

func newPaths() *paths { return &paths{known: map[[sha256.Size]byte]knownPath{}} }

// get returns a path for c that holds now, or nil.
func (p *paths) get(c *x509.Certificate, now time.Time) []*x509.Certificate {
	key := sha256.Sum256(c.Raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known[key]
	if !ok || now.Before(k.from) || now.After(k.until) {
		return nil
	}
	return k.path
}

func (p *paths) put(path []*x509.Certificate) {
	k := knownPath{path: path, from: path[0].NotBefore, until: path[0].NotAfter}
	for _, c := range path {
		if c.NotBefore.After(k.from) {
			k.from = c.NotBefore
		}
		if c.NotAfter.Before(k.until) {
			k.until = c.NotAfter
		}
	}
	key := sha256.Sum256(path[0].Raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxPaths {
		clear(p.known)
	}
	p.known[key] = k
}
