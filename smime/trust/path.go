package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"cmmpd/smime/certkey"
)

// Bounds of path building. A stranger chooses the certificates of a message, so the
// work must not grow with them (CVE-2018-16875).
const (
	maxExtra      = 32   // certificates taken from a message, of maxCertSize at most
	maxDepth      = 10   // certificates of a path
	maxPathsTried = 16   // paths that lead to an anchor
	maxSignatures = 100  // signatures checked for one answer
	maxSteps      = 5000 // certificates put on a path, for one answer
)

// pool finds certificates by name.key of their subject.
type pool map[string][]*x509.Certificate

// add takes c up once.
func (p pool) add(c *x509.Certificate) {
	key := parseName(c.RawSubject).key()
	if !slices.ContainsFunc(p[key], c.Equal) {
		p[key] = append(p[key], c)
	}
}

// builder finds the paths from certificates to anchors. Names are compared by RFC 5280,
// section 7.1, which crypto/x509 does not do, so its Verify is not used.
type builder struct {
	anchors    pool
	pools      []pool
	minBits    int
	signatures int // checked so far
	steps      int // taken so far
	checked    map[pair]bool
	subjects   map[*x509.Certificate]string              // name.key of those that were compared
	above      map[*x509.Certificate][]*x509.Certificate // what parents said
}

// take adds c to the last pool.
func (b *builder) take(c *x509.Certificate) {
	b.pools[len(b.pools)-1].add(c)
	clear(b.above)
}

// pair is a certificate and its supposed issuer.
type pair struct{ child, parent *x509.Certificate }

var errWork = errors.New("too many certificates to try")

// paths calls found for each path from c to an anchor, short ones first at each step,
// until it returns true or the bounds are reached.
func (b *builder) paths(c *x509.Certificate, found func([]*x509.Certificate) bool) error {
	left := maxPathsTried
	for depth := 1; depth <= maxDepth; depth++ {
		deeper := false
		stop, err := b.extend([]*x509.Certificate{c}, depth, &deeper, func(path []*x509.Certificate) bool {
			left--
			return found(path) || left == 0
		})
		if stop || err != nil || !deeper {
			return err
		}
	}
	return nil
}

// extend looks for paths with exactly depth certificates.
func (b *builder) extend(path []*x509.Certificate, depth int, deeper *bool, found func([]*x509.Certificate) bool) (bool, error) {
	if b.steps++; b.steps > maxSteps {
		return false, errWork
	}
	last := path[len(path)-1]
	if len(path) == depth {
		if b.anchored(last) {
			return found(slices.Clone(path)), nil
		}
		*deeper = true
		return false, nil
	}
	if b.anchored(last) {
		return false, nil // found at a lesser depth
	}
	for _, parent := range b.parents(last) {
		if slices.ContainsFunc(path, func(c *x509.Certificate) bool { return b.sameParty(c, parent) }) {
			continue
		}
		ok, err := b.signed(last, parent)
		if err != nil {
			return false, err
		}
		if !ok {
			continue
		}
		if stop, err := b.extend(append(path, parent), depth, deeper, found); stop || err != nil {
			return stop, err
		}
	}
	return false, nil
}

// subject is the key of c's name. A stranger's name may be long, and is met at many steps.
func (b *builder) subject(c *x509.Certificate) string {
	key, known := b.subjects[c]
	if !known {
		key = parseName(c.RawSubject).key()
		b.subjects[c] = key
	}
	return key
}

// anchored says whether c is an anchor.
func (b *builder) anchored(c *x509.Certificate) bool {
	return slices.ContainsFunc(b.anchors[b.subject(c)], c.Equal)
}

// sameParty: one subject with one key. No path needs it twice.
func (b *builder) sameParty(c, d *x509.Certificate) bool {
	return string(c.RawSubjectPublicKeyInfo) == string(d.RawSubjectPublicKeyInfo) && b.subject(c) == b.subject(d)
}

// parents are the certificates that c's issuer may have, anchors first.
func (b *builder) parents(c *x509.Certificate) []*x509.Certificate {
	out, known := b.above[c]
	if known {
		return out
	}
	issuer := parseName(c.RawIssuer).key()
	for _, p := range append([]pool{b.anchors}, b.pools...) {
		for _, parent := range p[issuer] {
			if !slices.ContainsFunc(out, parent.Equal) {
				out = append(out, parent)
			}
		}
	}
	b.above[c] = out
	return out
}

// signed says whether parent's key signed c. Keys are looked at before they are used.
func (b *builder) signed(c, parent *x509.Certificate) (bool, error) {
	p := pair{c, parent}
	if good, known := b.checked[p]; known {
		return good, nil
	}
	if checkKey(parent, b.minBits) != nil {
		b.checked[p] = false
		return false, nil
	}
	if b.signatures++; b.signatures > maxSignatures {
		return false, errWork
	}
	good := certkey.CheckSignature(parent, c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
	b.checked[p] = good
	return good, nil
}

// builder makes the builder of one check, with the certificates that came with the message.
func (k *check) builder() *builder {
	if k.b == nil {
		k.b = &builder{
			anchors: k.v.anchors, pools: []pool{k.v.intermediates, {}}, minBits: k.v.o.MinRSABits,
			checked: map[pair]bool{}, subjects: map[*x509.Certificate]string{}, above: map[*x509.Certificate][]*x509.Certificate{},
		}
		for _, c := range k.q.Extra[:min(len(k.q.Extra), maxExtra)] {
			if len(c.Raw) <= maxCertSize {
				k.b.take(c)
			}
		}
		k.b.take(k.c)
	}
	return k.b
}

// path finds the paths that hold. There may be several, one of which has a revoked
// authority.
func (k *check) path() bool {
	if known := k.v.paths.get(k.c, k.now); known != nil {
		k.paths = known
	} else if !k.findPaths() {
		return false
	}
	k.choose(k.paths[0])
	if len(k.r.Path) == 1 {
		return k.ok("path", "the certificate is itself an anchor")
	}
	var names []string
	for _, c := range k.r.Path[1:] {
		names = append(names, nameOf(c))
	}
	names[len(names)-1] = "the anchor " + names[len(names)-1]
	under := ""
	if len(k.r.Policies) > 0 {
		under = "; policies " + strings.Join(k.r.Policies, ", ")
	}
	return k.ok("path", "issued by %s%s", strings.Join(names, ", under "), under)
}

// choose makes p the path of the result.
func (k *check) choose(p validPath) {
	k.r.Path, k.r.Policies, k.r.Anchor = p.path, p.policies, p.path[len(p.path)-1]
}

func (k *check) findPaths() bool {
	k.fleeting = true // until the paths are known
	why, err := k.tryPaths()
	var missing error
	if len(k.paths) == 0 {
		var found bool
		if found, missing = k.fetchIssuers(); found {
			if why, err = k.tryPaths(); len(k.paths) > 0 {
				k.v.remote.keepIssuers(k.fetchedFrom)
			}
		}
	}
	if len(k.paths) > 0 {
		if len(k.q.Extra) == 0 {
			k.v.paths.put(k.paths)
		}
		return true
	}
	if why == nil {
		why = err
	}
	switch {
	case missing != nil && !errors.Is(missing, errWork):
		return k.fail(Stale, "path", "a certificate of the path cannot be fetched: %v", missing)
	case why == nil:
		return k.fail(Untrusted, "path", "no path leads to a trusted authority")
	case errors.Is(why, errPurpose):
		return k.fail(KeyUsage, "path", "%v", why)
	}
	return k.fail(Untrusted, "path", "no path to a trusted authority holds: %v", why)
}

// tryPaths fills k.paths with those that hold. why is what ails the others, err why
// the search ended early.
func (k *check) tryPaths() (why, err error) {
	err = k.builder().paths(k.c, func(path []*x509.Certificate) bool {
		policies, err := validate(path, k.rules(path))
		switch {
		case err == nil:
			k.paths = append(k.paths, validPath{path, policies})
		case why == nil || errors.Is(why, errDates): // another reason tells more
			why = err
		}
		return len(k.paths) == maxValidPaths
	})
	return why, err
}

// morePaths are those that hold and are not among k.paths: by what came with the message, which what is remembered
// of the certificate leaves out; and, online, by what its issuer publishes now.
func (k *check) morePaths(online bool) []validPath {
	k.fleeting = true
	before := k.paths
	if online {
		if k.v.remote == nil {
			return nil
		}
		certs, _ := k.askIssuer(k.c, true)
		for _, c := range certs {
			k.builder().take(c)
		}
	}
	k.paths = nil
	_, _ = k.tryPaths()
	found := k.paths
	k.paths = before
	return slices.DeleteFunc(found, func(p validPath) bool {
		return slices.ContainsFunc(before, func(b validPath) bool { return slices.EqualFunc(b.path, p.path, (*x509.Certificate).Equal) })
	})
}

// rules are those for a path to its anchor.
func (k *check) rules(path []*x509.Certificate) rules {
	r := rules{now: k.now, mail: true, minBits: k.v.o.MinRSABits, policy: k.policy}
	if list := k.v.o.Policies[string(path[len(path)-1].Raw)]; len(list) > 0 {
		r.policy = policyInput{accepted: list, explicit: true}
	}
	return r
}

// maxValidPaths bounds the paths whose revocation is looked at.
const maxValidPaths = 4

// validPath is a path that holds, and the policies under which it does.
type validPath struct {
	path     []*x509.Certificate
	policies []string
}

// paths remembers paths that were found, for signatures on certificates are slow to
// check and never change. Dates, revocation and everything about the certificate
// itself are looked at each time anew.
type paths struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]knownPaths // by the certificate's digest, guarded by mu
}

// knownPaths hold from the latest first day to the earliest last day in them.
type knownPaths struct {
	paths       []validPath
	from, until time.Time
}

// maxPaths bounds the memory; beyond it everything is forgotten.
const maxPaths = 20_000

func newPaths() *paths { return &paths{known: map[[sha256.Size]byte]knownPaths{}} }

// get returns the paths for c that hold now, or nil.
func (p *paths) get(c *x509.Certificate, now time.Time) []validPath {
	key := sha256.Sum256(c.Raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	k, ok := p.known[key]
	if !ok || now.Before(k.from) || now.After(k.until) {
		return nil
	}
	return k.paths
}

func (p *paths) put(vs []validPath) {
	leaf := vs[0].path[0]
	k := knownPaths{paths: vs, from: leaf.NotBefore, until: leaf.NotAfter}
	for _, v := range vs {
		for _, c := range v.path {
			if c.NotBefore.After(k.from) {
				k.from = c.NotBefore
			}
			if c.NotAfter.Before(k.until) {
				k.until = c.NotAfter
			}
		}
	}
	key := sha256.Sum256(leaf.Raw)
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxPaths {
		clear(p.known)
	}
	p.known[key] = k
}
