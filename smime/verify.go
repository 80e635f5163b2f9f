package smime

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// Status is a result of RFC 8601, section 2.7.1, as RFC 7281 uses it for S/MIME.
type Status string

// The results.
const (
	None      Status = "none"      // not signed
	Pass      Status = "pass"      // good, by the author or, where Domain says so, by the domain
	Fail      Status = "fail"      // the signature does not fit the content
	Policy    Status = "policy"    // it fits, but cannot be accepted for this author
	Neutral   Status = "neutral"   // signed in a form that we cannot check
	TempError Status = "temperror" // revocation data too old to decide
	PermError Status = "permerror" // the signer's certificate is not there
)

// SignatureResult says what a signature is worth, and why.
type SignatureResult struct {
	Status Status
	Reason string // one line of plain words
	// Domain: made by a domain signing authority (RFC 3183). It speaks for the
	// domain, never for the author.
	Domain bool
	Signer mail.Address      // named by the certificate: the author's if it is there; zero if none is, or none was looked at
	Cert   *x509.Certificate // the signer's, if it was found
	Time   time.Time         // the signer's claim of when; zero if none
	Trust  trust.Result      // what was checked of the certificate
}

// domainAuthority is the local part of the address in the certificate of a domain
// signing authority (RFC 3183).
const domainAuthority = "domain-signing-authority"

// Verify checks the signature of the root entity of a message. It passes only if the root itself
// is signed, by exactly one signer, whose certificate names the one author in From (or is the
// signing authority of exactly their domain), leads to a configured anchor and is good today, as
// it was when the signer says that they signed; and if nothing shows another author: not the
// display name, not a From field within what is signed. See "Johnny, you are fired!"
// (USENIX Security 2019) for why.
//
// Not checked: header fields outside of what is signed: Sender, To, Cc, Date and Subject may
// be somebody else's (RFC 8551, section 3.1). So may text before and behind the parts of
// a multipart/signed, which MIME says is not shown.
func (g *Gateway) Verify(raw []byte, x *message.Index) SignatureResult {
	if describedTwice(raw, x.Root) {
		return SignatureResult{Status: Neutral, Reason: "says twice what it contains"}
	}
	s, content, r := g.signed(raw, x.Root)
	if s == nil {
		return r
	}
	author, why := soleAuthor(x.Root.Envelope.From)
	if x.Defects&message.SeveralFrom != 0 {
		why = notOneAuthor
	}
	if why != "" {
		return SignatureResult{Status: Policy, Reason: why}
	}
	r = g.verifySigned(s, content, author)
	if r.Status == Pass && !r.Domain && g.o.Book != nil {
		g.remember(author, r.Cert, s.Certificates)
	}
	return r
}

// describedTwice says whether readers may take the entity for different things: one reads the
// first of two fields, another the last.
func describedTwice(raw []byte, p *message.Part) bool {
	h := message.ParseHeader(raw[p.HeaderStart:p.BodyStart], message.Limits{})
	return len(h.All("Content-Type")) > 1 || len(h.All("Content-Transfer-Encoding")) > 1
}

// signed finds the SignedData of an entity, and the content if that is detached. If
// there is none, the result says why.
func (g *Gateway) signed(raw []byte, p *message.Part) (*cms.Signed, []byte, SignatureResult) {
	neutral := func(reason string) (*cms.Signed, []byte, SignatureResult) {
		return nil, nil, SignatureResult{Status: Neutral, Reason: reason}
	}
	none := SignatureResult{Status: None, Reason: "not signed"}
	if isDetached(p) {
		if len(p.Children) != 2 || !isSignature(p.Children[1]) {
			return neutral("a multipart/signed without exactly one part and its signature")
		}
		der, err := body(raw, p.Children[1])
		if err != nil {
			return neutral("the signature cannot be read")
		}
		s, err := cms.ParseSigned(der, g.limits())
		switch {
		case err != nil:
			return neutral("the signature cannot be read")
		case s.Content != nil:
			return neutral("a detached signature that carries content of its own")
		}
		return s, canonical(firstPart(raw, p)), none
	}
	if !isCMS(p) {
		return nil, nil, none
	}
	der, err := body(raw, p)
	if err != nil {
		return nil, nil, none
	}
	if kind, err := cms.ContentType(der); err != nil || kind != cms.SignedData {
		return nil, nil, none
	}
	s, err := cms.ParseSigned(der, g.limits())
	switch {
	case err != nil:
		return neutral("the signature cannot be read")
	case len(s.Signers) == 0 && s.Content == nil:
		return nil, nil, none
	case s.Content == nil:
		return neutral("a signature without its content")
	}
	return s, nil, none
}

// firstPart is what stands between the first two delimiters of p. The line end before
// a delimiter belongs to it (RFC 2046, section 5.1.1), even where the index counts it to
// the part, because an unclosed multipart within ends in a delimiter of its own.
func firstPart(raw []byte, p *message.Part) []byte {
	start, next := int(p.Children[0].HeaderStart), int(p.Children[1].HeaderStart)
	end := bytes.LastIndexByte(raw[:max(next-1, 0)], '\n') + 1 // the second delimiter's line
	for _, c := range []byte("\n\r") {
		if end > start && raw[end-1] == c {
			end--
		}
	}
	return raw[start:max(end, start)]
}

// verifySigned checks one SignedData for one author. content is nil where s carries
// its own.
func (g *Gateway) verifySigned(s *cms.Signed, content []byte, author mail.Address) SignatureResult {
	switch {
	case len(s.Signers) == 0:
		return SignatureResult{Status: Neutral, Reason: "signed by nobody"}
	case len(s.Signers) > 1:
		return SignatureResult{Status: Policy, Reason: "signed by several; only one signer is accepted"}
	case s.ContentType != cms.Data:
		return SignatureResult{Status: Neutral, Reason: "what is signed is not mail"}
	}
	sr, err := s.Verify(0, content)
	r := SignatureResult{Cert: sr.Cert, Time: sr.SigningTime}
	if err != nil {
		r.Status, r.Reason = Fail, "the signature does not fit the content"
		switch mail.KindOf(err) {
		case mail.NotFound:
			r.Status, r.Reason = PermError, "the signer's certificate is not in the message"
		case mail.Unsupported:
			r.Status, r.Reason = Neutral, "signed by a method that is not accepted"
		}
		return r
	}
	if r = g.believe(r, author, s.Certificates); r.Status != Pass {
		return r
	}
	if content == nil {
		content = s.Content
	}
	if claimsAnother(content, author) {
		r.Status, r.Reason = Policy, "what is signed names another author"
	}
	if sr.Digest == crypto.SHA1 {
		r.Reason += "; with SHA-1, which can be forged today"
	}
	return r
}

// clockSlack is how far a signer's clock may be wrong.
const clockSlack = 24 * time.Hour

// believe holds a signature that fits its content to the author.
func (g *Gateway) believe(r SignatureResult, author mail.Address, extra []*x509.Certificate) SignatureResult {
	named, bound := trust.Addresses(r.Cert), author
	switch i := slices.IndexFunc(named, author.Equal); {
	case i >= 0:
		r.Signer = named[i]
	case len(named) > 0:
		r.Signer = named[0]
		for _, a := range named {
			if strings.EqualFold(a.Local, domainAuthority) && a.Domain == author.Domain {
				r.Signer, r.Domain, bound = a, true, a
				break
			}
		}
	}
	r.Trust = g.o.Trust.Check(r.Cert, trust.Sign, trust.Binding{Address: bound}, extra...)
	switch f := r.Trust.Failure; {
	case r.Trust.Usable && !r.Time.IsZero() && r.Time.Before(r.Cert.NotBefore.Add(-clockSlack)):
		r.Status, r.Reason = Policy, "signed, as the signer says, before their certificate was valid"
	case r.Trust.Usable && r.Time.After(g.o.Now().Add(clockSlack)):
		r.Status, r.Reason = Policy, "signed, as the signer says, in the future"
	case r.Trust.Usable && r.Domain:
		r.Status, r.Reason = Pass, "signed by the domain "+r.Signer.Domain+", not by the author"
	case r.Trust.Usable:
		r.Status, r.Reason = Pass, "signed by the author"
	case f.Temporary():
		r.Status, r.Reason = TempError, signerReasons[f]
	default:
		r.Status, r.Reason = Policy, signerReasons[f]
	}
	return r
}

var signerReasons = map[trust.Failure]string{
	trust.Stale:        "it cannot be found out now whether the signer's certificate has been revoked",
	trust.Revoked:      "the signer's certificate has been revoked",
	trust.Expired:      "the signer's certificate has expired",
	trust.NotYetValid:  "the signer's certificate is not valid yet",
	trust.WeakKey:      "the signer's key is not strong enough",
	trust.WrongAddress: "the signer is not the author",
	trust.Untrusted:    "the signer's certificate is not from a trusted authority",
	trust.KeyUsage:     "the signer's certificate is not for signing mail",
}

// canonical is b with every line ended by CRLF (RFC 8551, section 3.1.1). A CR that
// ends no line stays. b itself is returned where nothing is to do.
func canonical(b []byte) []byte {
	n := bareLFs(b)
	if n == 0 {
		return b
	}
	out := make([]byte, 0, len(b)+n)
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return append(out, b...)
		}
		out = append(out, b[:i]...)
		if i == 0 || b[i-1] != '\r' {
			out = append(out, '\r')
		}
		out = append(out, '\n')
		b = b[i+1:]
	}
	return out
}

// bareLFs counts the line feeds without a CR before them.
func bareLFs(b []byte) int {
	n := 0
	for at := 0; ; at++ {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return n
		}
		at += i
		if at == 0 || b[at-1] != '\r' {
			n++
		}
	}
}
