package trust

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"cmmpd/smime/certkey"
)

// withoutNext is how long a response holds that does not say so: newer information is
// available all the time (RFC 6960, section 4.2.2.1).
const withoutNext = time.Hour

// byResponse says what a response is worth about path[i].
func (k *check) byResponse(r *ocspResponse, source string, path []*x509.Certificate, i, nested int) status {
	k.fleeting = true
	c, issuer := path[i], path[i+1]
	j := slices.IndexFunc(r.singles, func(s ocspSingle) bool { return s.id.names(c, issuer) })
	if j < 0 {
		return status{state: unclear, words: "the OCSP response is about another certificate"}
	}
	if why := k.responder(r, path[i+1:], nested); why != "" {
		return status{state: unclear, words: why}
	}
	s := &r.singles[j]
	from := Evidence{Certificate: c, Kind: "OCSP", Source: source, Made: s.made}
	if s.state == revoked { // however old the response is
		return status{state: revoked, words: revokedWords(s.entry, "responder "+source), from: from}
	}
	if s.state != good {
		return status{state: unclear, words: "the OCSP responder does not know the certificate"}
	}
	next := s.next
	if next.IsZero() {
		next = s.made.Add(withoutNext)
	}
	fresh, words := k.v.o.age("the OCSP response", s.made, next, k.now)
	if !fresh {
		return status{state: unclear, words: words}
	}
	from.LastKnown = words != ""
	st := status{state: good, from: from, words: fmt.Sprintf("good, says the responder %s of %s", source, stamp(s.made))}
	if words != "" {
		st.words += ", " + words
	}
	return st
}

// responder says why the response's signer may not speak for the certificates of
// above[0] (RFC 6960, section 4.2.2.2): it is this authority itself, or was given the
// task by it, directly and by extended key usage. That a responder is configured to be
// trusted for other authorities is not offered.
func (k *check) responder(r *ocspResponse, above []*x509.Certificate, nested int) (why string) {
	issuer := above[0]
	why = "the OCSP response is not signed by its responder"
	for _, c := range append([]*x509.Certificate{issuer}, r.certificates...) {
		if !r.by(c) || checkKey(c, k.v.o.MinRSABits) != nil || certkey.CheckSignature(c, r.algorithm, r.tbs, r.signature) != nil {
			continue
		}
		if c.Equal(issuer) || string(c.RawSubjectPublicKeyInfo) == string(issuer.RawSubjectPublicKeyInfo) && sameName(c.RawSubject, issuer.RawSubject) {
			return ""
		}
		if err := k.delegated(c, above, nested); err != nil {
			why = "the OCSP responder may not speak for " + nameOf(issuer) + ": " + err.Error()
			continue
		}
		return ""
	}
	return why
}

// by says whether the response names c as its responder.
func (r *ocspResponse) by(c *x509.Certificate) bool {
	if r.byName != nil {
		return sameName(r.byName, c.RawSubject)
	}
	return string(r.byKey) == string(sha1Sum(keyBits(c)))
}

// delegated holds the certificate of a delegated responder to its rules.
func (k *check) delegated(c *x509.Certificate, above []*x509.Certificate, nested int) error {
	issuer := above[0]
	switch {
	case !sameName(c.RawIssuer, issuer.RawSubject) || certkey.CheckSignature(issuer, c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil:
		return fmt.Errorf("not issued by it")
	case !slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageOCSPSigning):
		return fmt.Errorf("without id-kp-OCSPSigning")
	case c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return fmt.Errorf("its key may not sign")
	}
	if err := plausible(c, rules{now: k.now, minBits: k.v.o.MinRSABits}); err != nil {
		return err
	}
	if _, ok := extension(c.Extensions, oidNoCheck); ok {
		return nil
	}
	if nested >= maxNested {
		return errWork
	}
	s := k.byLists(append([]*x509.Certificate{c}, above...), 0, nested+1, false)
	if s.state != good {
		return fmt.Errorf("whether it is revoked is not known: %s", s.words)
	}
	return nil
}
