package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"
)

// status is what is known about the revocation of one certificate.
type status struct {
	state state
	words string   // one line: of whom, by which source, why
	from  Evidence // of good and revoked
}

// state of a status.
type state uint8

const (
	unheard state = iota // nothing is at hand that speaks for it
	unclear              // there is something, but it cannot be relied on
	good
	revoked
)

// Evidence is where an answer about revocation came from.
type Evidence struct {
	Certificate *x509.Certificate // whose
	Kind        string            // "CRL" or "OCSP"
	Source      string            // file name or URL
	Made        time.Time         // its thisUpdate
	LastKnown   bool              // it is past its nextUpdate, within the configured time
}

// maxNested bounds how deep the question goes on: the signer of a list has a
// certificate, too, which may be revoked by a list that another has signed.
const maxNested = 4

// outcome is how the revocation of a path came out.
type outcome uint8

const (
	holds outcome = iota
	notKnown
	authorityRevoked
	leafRevoked
)

// revocation looks every certificate of the path up but the anchor's; of the paths the
// first that holds counts. If any says that the leaf is revoked, it is. If an authority of
// each is revoked, other paths are looked for: it may have got another certificate since.
func (k *check) revocation() bool {
	best := k.paths[0]
	first, how := k.revocationOn(k.paths)
	for _, online := range []bool{false, true} {
		if how != authorityRevoked {
			break
		}
		more := k.morePaths(online)
		if fail, h := k.revocationOn(more); len(more) > 0 && h != authorityRevoked {
			first, how, best = fail, h, more[0]
		}
		k.paths = slices.Concat(k.paths, more) // what is remembered is not to be written to
	}
	if how == holds {
		return true
	}
	if how != leafRevoked {
		k.choose(best)
	}
	return first()
}

// revocationOn takes the step on paths until one holds or says that the leaf is revoked. Otherwise first is why the first
// of them fails, and authorityRevoked means that all of them have a revoked authority.
func (k *check) revocationOn(paths []validPath) (first func() bool, how outcome) {
	how = authorityRevoked
	for _, p := range paths {
		fail, h := k.revocationOf(p)
		if h == holds || h == leafRevoked {
			return fail, h
		}
		if h == notKnown {
			how = notKnown
		}
		if first == nil {
			first = fail
		}
	}
	return first, how
}

// revocationOf takes the step for one path, or returns how it fails.
func (k *check) revocationOf(p validPath) (fail func() bool, how outcome) {
	var known []string
	var evidence []Evidence
	unknown := false
	for i, c := range p.path[:len(p.path)-1] {
		s := k.status(p.path, i, 0)
		words := nameOf(c) + ": " + s.words
		switch {
		case s.state == good:
			evidence = append(evidence, s.from)
		case s.state == revoked:
			how = authorityRevoked
			if i == 0 {
				how = leafRevoked
			}
			return func() bool { k.choose(p); return k.fail(Revoked, "revocation", "%s", words) }, how
		case k.q.Soft || s.state == unheard && !k.v.o.RequireCRL:
			words, unknown = nameOf(c)+": not known: "+s.words, true
		default:
			return func() bool { return k.fail(Stale, "revocation", "%s", words) }, notKnown
		}
		known = append(known, words)
	}
	if len(known) == 0 {
		known = append(known, "an anchor cannot be revoked")
	}
	k.choose(p)
	k.r.Evidence, k.r.Unknown = evidence, unknown
	k.ok("revocation", "%s", strings.Join(known, "; "))
	return nil, holds
}

// byLists is RFC 5280, section 6.3.3, over the lists at hand, with two departures. Delta
// lists are not combined with their base: that a delta list names a certificate
// counts, that it does not name it says nothing. And of lists by several keys of one
// authority all are looked at, for each may be complete for its key alone. online: lists that are not at hand are
// fetched.
func (k *check) byLists(path []*x509.Certificate, i, nested int, online bool) status {
	c := path[i]
	points, err := distributionPoints(c)
	if err != nil {
		return status{state: unclear, words: err.Error()}
	}
	issuer, key := k.v.names.of(c.RawIssuer)
	points = append(points, point{full: []generalName{{form: formDirectory, dir: issuer}}, reasons: allReasons})
	l := lookup{k: k, path: path, i: i, issuer: key, nested: nested, online: online, done: map[string]bool{}, vouched: map[*x509.Certificate]bool{}}
	for _, p := range points {
		if l.point(&p, issuer) {
			return l.s
		}
	}
	switch {
	case l.s.words == "":
		l.s.words = "no revocation list of " + nameOf(path[i+1]) + " is at hand"
	case l.s.state != good:
	case l.covered != allReasons:
		l.s = status{state: unclear, words: "the revocation lists at hand speak only for some reasons"}
	}
	return l.s
}

// lookup is one certificate being looked up in lists.
type lookup struct {
	k       *check
	path    []*x509.Certificate
	i       int
	issuer  string // name.key of path[i]'s
	nested  int
	online  bool
	covered reasons
	done    map[string]bool // kinds of lists, by one key, of which the newest was used
	vouched map[*x509.Certificate]bool
	s       status
}

// point uses the lists of one distribution point. It returns true when all is known.
func (l *lookup) point(p *point, issuer name) bool {
	from := []name{issuer}
	if len(p.issuers) > 0 {
		from = nil
		for _, g := range p.issuers {
			if g.form == formDirectory {
				from = append(from, g.dir)
			}
		}
	}
	for _, n := range from {
		for _, r := range l.candidates(p, n) {
			if l.list(r, p) {
				return true
			}
		}
	}
	return false
}

// candidates are the lists of one issuer that may serve for p, newest first.
func (l *lookup) candidates(p *point, issuer name) []*revocations {
	out := l.k.v.lists.of(issuer.key())
	if l.k.v.remote == nil {
		return out
	}
	out = slices.Clone(out)
	urls := p.urls()
	usable := l.k.v.remote.allowed(urls)
	if len(usable) == 0 && len(urls) > 0 && l.online {
		l.doubt("the revocation list " + urls[0] + " cannot be fetched: " + l.k.v.remote.fetch.Allowed(urls[0]).Error())
	}
	for _, url := range usable {
		online := l.online && l.covered != allReasons
		rs, err := l.k.v.remote.list(l.k.context(), url, online)
		if err != nil && online {
			l.doubt("the revocation list " + url + " cannot be fetched: " + err.Error())
		}
		for _, r := range rs {
			if slices.Equal(r.issuer, issuer) {
				out = append(out, r)
			}
		}
		if len(rs) > 0 && err == nil {
			break // the addresses of one point lead to the same list
		}
	}
	slices.SortStableFunc(out, newer)
	return out
}

// list uses one list. It returns true when all is known: what one list says of a revocation
// stands, whatever others do not say, for an authority that changes its key may keep a list
// for each.
func (l *lookup) list(r *revocations, p *point) bool {
	c := l.path[l.i]
	if why := r.speaksFor(c, p); why != "" {
		l.doubt(why)
		return false
	}
	by, why := l.signer(r)
	if why != "" {
		l.doubt(why)
		return false
	}
	kind := r.issuerKey + "/" + r.scopeDER + "/" + string(by.RawSubjectPublicKeyInfo)
	if l.done[kind] {
		return false
	}
	settled := l.covered == allReasons
	l.k.untilAge(r.made, r.next)
	fresh, words := l.k.v.o.age("the revocation list", r.made, r.next, l.k.now)
	// However old the list is; only from a hold there is a return, which newer ones tell.
	if e, named := r.entry(c, l.issuer); named && e.reason != removeFromCRL && (fresh || !settled || e.reason != onHold) {
		l.s = status{state: revoked, words: revokedWords(e, "list "+r.source), from: Evidence{Certificate: c, Kind: "CRL", Source: r.source, Made: r.made}}
		return true
	}
	if r.delta {
		l.doubt("the revocation list is a delta list, which is not combined with its base")
		return false
	}
	if !fresh {
		l.doubt(words)
		return false
	}
	l.done[kind] = true
	if covers := p.reasons & r.scope.reasons; covers&^l.covered != 0 {
		l.covered |= covers
		l.fine(r, words)
	}
	return false
}

// doubt notes the first reason why nothing is known, as long as nothing is.
func (l *lookup) doubt(why string) {
	if l.s.words == "" {
		l.s = status{state: unclear, words: why}
	}
}

// fine notes that the list does not name the certificate. Of several lists, which
// cover the reasons together, the oldest is told.
func (l *lookup) fine(r *revocations, lastKnown string) {
	if l.s.state == good && !r.made.Before(l.s.from.Made) {
		return
	}
	s := status{state: good, from: Evidence{Certificate: l.path[l.i], Kind: "CRL", Source: r.source, Made: r.made, LastKnown: lastKnown != ""}}
	s.words = fmt.Sprintf("not in the list %s of %s", r.source, stamp(r.made))
	if lastKnown != "" {
		s.words += ", " + lastKnown
	}
	l.s = s
}

func revokedWords(e entry, source string) string {
	words := "revoked " + day(time.Unix(e.at, 0))
	if why := reasonNames[e.reason]; why != "" {
		words += " (" + why + ")"
	}
	return words + ", says the " + source
}

// maxSigners bounds the certificates tried as a list's signer.
const maxSigners = 8

// signer finds who signed r and whether they may: the issuer above in the path, or
// another certificate of that name that leads to the same anchor and is not revoked
// (RFC 5280, section 6.3.3 (f)).
func (l *lookup) signer(r *revocations) (by *x509.Certificate, why string) {
	above := l.path[l.i+1:]
	for _, c := range above {
		if _, key := l.k.v.names.of(c.RawSubject); key == r.issuerKey && r.signedBy(c) {
			r.confirmed(c)
			return c, ""
		}
	}
	tried := 0
	b := l.k.builder()
	for _, p := range append([]pool{b.anchors}, b.pools...) {
		for _, c := range p[r.issuerKey] {
			if tried++; tried > maxSigners {
				break
			}
			if checkKey(c, b.minBits) != nil || !r.signedBy(c) {
				continue
			}
			may, known := l.vouched[c]
			if !known {
				may = l.k.mayVouch(c, above[len(above)-1], l.nested)
				l.vouched[c] = may
			}
			if may {
				r.confirmed(c)
				return c, ""
			}
			why = "the signer of the revocation list cannot be believed"
		}
	}
	if why == "" {
		why = "the revocation list is not signed by its issuer"
	}
	return nil, why
}

// mayVouch says whether c leads to the anchor and neither it nor what is above it is
// revoked. A certificate that is being looked at already, because the list that it
// signed speaks of itself, may.
func (k *check) mayVouch(c, anchor *x509.Certificate, nested int) bool {
	k.fleeting = true
	if slices.ContainsFunc(k.vouching, c.Equal) {
		return true
	}
	if nested >= maxNested {
		return false
	}
	k.vouching = append(k.vouching, c)
	defer func() { k.vouching = k.vouching[:len(k.vouching)-1] }()
	may := false
	_ = k.builder().paths(c, func(path []*x509.Certificate) bool {
		if !path[len(path)-1].Equal(anchor) {
			return false
		}
		if _, err := validate(path, rules{now: k.now, minBits: k.v.o.MinRSABits}); err != nil {
			return false
		}
		for i := range path[:len(path)-1] {
			if k.status(path, i, nested+1).state != good {
				return false
			}
		}
		may = true
		return true
	})
	return may
}
