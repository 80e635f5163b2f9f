package trust

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// status finds out about path[i]; the rest of the path leads to the anchor. What is at
// hand comes first, lists and responses, for a revocation that either names counts. Then
// a list is fetched, and only if that does not help the responder is asked: one list
// serves all of an authority's people, and tells nobody to whom we write.
func (k *check) status(path []*x509.Certificate, i, nested int) status {
	best := k.byLists(path, i, nested, false)
	if best.state == revoked || k.v.remote == nil {
		return best
	}
	if s := k.byResponder(path, i, nested, false); best.worse(s) || s.state == revoked {
		best = s
	}
	for _, more := range []func([]*x509.Certificate, int, int, bool) status{k.byLists, k.byResponder} {
		if best.state == revoked || best.state == good && !best.from.LastKnown {
			return best
		}
		if s := more(path, i, nested, true); best.worse(s) || s.state == revoked {
			best = s
		}
	}
	return best
}

// worse says whether t tells more.
func (s status) worse(t status) bool {
	switch {
	case t.state != good:
		return s.state < good && t.state > s.state
	case s.state != good:
		return true
	}
	return s.from.LastKnown && !t.from.LastKnown
}

// byResponder asks the OCSP responders that the certificate names.
func (k *check) byResponder(path []*x509.Certificate, i, nested int, online bool) status {
	var best status
	for _, url := range k.v.remote.allowed(path[i].OCSPServer) {
		e, r := k.v.remote.atHand(url, path[i:])
		if r != nil {
			if s := k.byResponse(r, url, path, i, nested); best.worse(s) || s.state == revoked {
				best = s
			}
		}
		if online && best.state != revoked && (best.state != good || best.from.LastKnown) {
			if s := k.asked(e, url, path[i:], nested); best.worse(s) || s.state == revoked {
				best = s
			}
		}
		if best.state == revoked {
			return best
		}
	}
	return best
}

// asked asks a responder about path[0] and keeps its answer if it is worth something.
func (k *check) asked(e *remoteResponse, url string, path []*x509.Certificate, nested int) status {
	nonce := make([]byte, 32) // RFC 9654
	if _, err := rand.Read(nonce); err != nil {
		return status{state: unclear, words: err.Error()}
	}
	r, der, err := k.v.remote.ask(k.context(), e, url, path, nonce)
	if err != nil {
		return status{state: unclear, words: "the responder " + url + " cannot be asked: " + err.Error()}
	}
	if r == nil {
		return status{}
	}
	s := k.byResponse(r, url, path, 0, nested)
	if s.state == good || s.state == revoked {
		k.v.remote.keep(e, url, r, der, s.from.Made)
	}
	return s
}

// context bounds what one check waits for.
func (k *check) context() context.Context {
	if k.ctx == nil {
		k.ctx, k.cancel = context.WithTimeout(context.Background(), maxWait)
	}
	return k.ctx
}

// maxIssuers bounds the authorities that are asked for in one check.
const maxIssuers = 4

// fetchIssuers goes up from the certificate as far as issuers are known, and asks where
// the certificates say that they are (RFC 5280, section 4.2.2.1). What it finds is as
// good as what came with a message. It returns whether there is something new; the error
// says what could not be fetched.
func (k *check) fetchIssuers() (found bool, err error) {
	if k.v.remote == nil {
		return false, nil
	}
	b, c := k.builder(), k.c
	for range maxDepth {
		if len(b.anchors[b.subject(c)]) > 0 || len(k.fetchedFrom) >= maxIssuers {
			return found, err
		}
		next, e := k.knownIssuer(c)
		if e != nil {
			return found, e
		}
		for _, again := range []bool{false, true} { // what was found before may have been replaced since
			if next != nil {
				break
			}
			var certs []*x509.Certificate
			if certs, err = k.askIssuer(c, again); len(certs) == 0 {
				return found, err
			}
			for _, x := range certs {
				b.take(x)
			}
			if next, e = k.knownIssuer(c); e != nil {
				return found, e
			}
			found = found || next != nil
		}
		if next == nil {
			return found, err
		}
		c = next
	}
	return found, err
}

// knownIssuer is one that holds by its dates: an authority's certificate is renewed at the
// same address.
func (k *check) knownIssuer(c *x509.Certificate) (*x509.Certificate, error) {
	for _, parent := range k.b.parents(c) {
		ok, err := k.b.signed(c, parent)
		if err != nil {
			return nil, err
		}
		if ok && !k.b.sameParty(c, parent) && inDates(parent, k.now) == nil {
			return parent, nil
		}
	}
	return nil, nil
}

// askIssuer fetches what c names as its issuer's certificates, if they are not at hand or
// again says so. An error beside certificates means that there may be newer ones.
func (k *check) askIssuer(c *x509.Certificate, again bool) (certs []*x509.Certificate, err error) {
	for _, url := range k.v.remote.allowed(c.IssuingCertificateURL) {
		var got []*x509.Certificate
		if got, err = k.v.remote.issuer(k.context(), url, again, k.q.Purpose); len(got) > 0 {
			k.fetchedFrom = append(k.fetchedFrom, url)
			return got, err
		}
	}
	return nil, err
}

// parseIssuers reads one certificate in DER, or a certs-only CMS structure in DER.
func parseIssuers(der []byte) ([]*x509.Certificate, error) {
	if c, err := ParseCertificate(der); err == nil {
		return []*x509.Certificate{c}, nil
	}
	explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
	in := cryptobyte.String(der)
	var version int
	if !in.ReadASN1(&in, cbasn1.SEQUENCE) || !in.SkipASN1(cbasn1.OBJECT_IDENTIFIER) || !in.ReadASN1(&in, explicit) ||
		!in.ReadASN1(&in, cbasn1.SEQUENCE) || !in.ReadASN1Integer(&version) || !in.SkipASN1(cbasn1.SET) ||
		!in.SkipASN1(cbasn1.SEQUENCE) || !in.ReadASN1(&in, explicit) {
		return nil, errors.New("neither a certificate nor a list of certificates")
	}
	var out []*x509.Certificate
	for !in.Empty() && len(out) < maxExtra {
		var one cryptobyte.String
		if !in.ReadASN1Element(&one, cbasn1.SEQUENCE) {
			return nil, errors.New("neither a certificate nor a list of certificates")
		}
		if c, err := ParseCertificate(one); err == nil {
			out = append(out, c)
		}
	}
	return out, nil
}
