package smime

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// Seal returns the message encrypted by AES-256 to o.Recipients and to nobody else, in
// the strongest form that all of them read (CipherFor).
// Within, the author's header stands with the body (RFC 9788) and, where the
// sender's domain has a signing authority, under its signature; outside, the subject
// is "[...]". No copy names a blind recipient, but for o.BccOf in their own.
//
// The body keeps its bytes, but that lines ended by LF alone get their CR, unless it
// holds binary parts: then the signature is opaque and not detached. 8-bit content is
// signed as it is, for the encryption around it lets no relay touch it. What the author's own client signed or encrypted stands byte for
// byte within a multipart of its own.
//
// Errors: TooLarge, for a header beyond message.Limits; Internal, among others where
// the domain's signing authority may not be used.
func (g *Gateway) Seal(raw []byte, x *message.Index, o SealOptions) ([]byte, error) {
	if len(o.Recipients) == 0 {
		return nil, mail.E(mail.Internal, "", errors.New("sealing a message to nobody"))
	}
	if x.Defects&(message.LongHeader|message.ManyFields) != 0 {
		return nil, mail.E(mail.TooLarge, "the header of the message is too large to be protected", nil)
	}
	if !labelName.MatchString(string(o.Label)) {
		return nil, mail.E(mail.Internal, "", fmt.Errorf("label %q cannot stand in a header", o.Label))
	}
	f := split(raw[x.Root.HeaderStart:x.Root.BodyStart])
	o.Marking.Label = o.Label
	ours := o.Marking.labelFields()
	f.setLabel(&o.Marking, ours)
	outer := f.outer(ours)
	entity, err := g.payload(raw, x, f, f.protected(o, outer))
	if err != nil {
		return nil, mail.E(mail.Internal, "", err)
	}
	if entity, err = g.sign(entity, o, hasBinary(x.Root)); err != nil {
		kind := mail.Internal
		if k := mail.KindOf(err); k == mail.Unavailable || k == mail.Busy { // the key is in a token that cannot be reached now
			kind = k
		}
		return nil, mail.E(kind, "", err)
	}
	cipher := CipherFor(o.Recipients)
	sealed, err := g.assemble(f.trace, outer, cipher, func(place func(int) []byte) error {
		return cms.EncryptTo(place, g.o.Rand, cipher, cms.Data, recipients(o.Recipients), entity)
	})
	if err != nil {
		return nil, mail.E(mail.Internal, "", fmt.Errorf("encrypting: %w", err))
	}
	return sealed, nil
}

var labelName = regexp.MustCompile(`^[a-z0-9-]{0,64}$`)

// recipients are the certificates to encrypt to, each once. The oldest client of those who
// share one shall read it.
func recipients(us []Usable) []cms.RecipientSpec {
	var out []cms.RecipientSpec
	for _, u := range us {
		i := slices.IndexFunc(out, func(r cms.RecipientSpec) bool { return bytes.Equal(r.Cert.Raw, u.Cert.Raw) })
		switch {
		case i < 0:
			out = append(out, cms.RecipientSpec{Cert: u.Cert, Transport: u.Transport})
		case u.Transport == cms.PKCS1v15:
			out[i].Transport = cms.PKCS1v15
		}
	}
	return out
}

// payload is the cryptographic payload of RFC 9788: the protected header, what
// describes the body, and the body, which is not copied.
func (g *Gateway) payload(raw []byte, x *message.Index, f fields, protected []byte) (cms.Content, error) {
	body := content(raw[x.Root.BodyStart:x.Root.BodyEnd])
	if !hasBinary(x.Root) {
		body = canonicalContent(raw[x.Root.BodyStart:x.Root.BodyEnd])
	}
	var b bytes.Buffer
	b.Write(protected)
	if cryptographic(x.Root) {
		return g.wrapped(&b, f, body)
	}
	if !f.hasType() {
		f.content = append(f.content, field{"content-type", []byte("Content-Type: text/plain\r\n")})
	}
	for _, c := range f.content {
		if c.name != "content-type" {
			b.Write(c.raw)
			continue
		}
		value := c.value()
		if x.Root.Opaque && x.Root.Type == "text" { // a multipart without parts
			value = []byte(" text/plain")
		}
		b.WriteString("Content-Type:")
		b.Write(withHP(value, x.Root, "cipher"))
	}
	b.WriteString("\r\n")
	return parts{content(b.Bytes()), body}, nil
}

// wrapped puts an entity that its author's client protected, byte for byte, into a
// multipart that bears the protected header. Were the fields put into the entity's own
// header, readers of RFC 9788 would look for them within its signature, where they
// are not, and our domain's signature could not cover them.
func (g *Gateway) wrapped(b *bytes.Buffer, f fields, body cms.Content) (cms.Content, error) {
	boundary, err := g.boundary()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b, "Content-Type: multipart/mixed; boundary=%q;\r\n hp=\"cipher\"\r\n\r\n--%s\r\n", boundary, boundary)
	for _, c := range f.content {
		b.Write(c.raw)
	}
	b.WriteString("\r\n")
	return parts{content(b.Bytes()), body, content([]byte("\r\n--" + boundary + "--\r\n"))}, nil
}

// cryptographic says whether p is itself a layer of protection, S/MIME or OpenPGP.
func cryptographic(p *message.Part) bool {
	return isCMS(p) || p.Type == "multipart" && (p.Subtype == "signed" || p.Subtype == "encrypted")
}

// hasBinary says whether lines mean nothing somewhere in p.
func hasBinary(p *message.Part) bool {
	return p.Encoding == "binary" || slices.ContainsFunc(p.Children, hasBinary)
}

// sign puts the payload under the signature of the sender's domain, or under their own. Without
// an authority, or without a sender to vouch for, the payload stays as it is.
func (g *Gateway) sign(payload cms.Content, o SealOptions, opaque bool) (cms.Content, error) {
	if _, ok := g.o.Signers(o.Sender.Domain); o.Sender.IsZero() || !ok && !o.Own {
		return payload, nil
	}
	return g.signBy(payload, o.Sender, o.Own, o.Marking.ESS, opaque)
}

// signBy signs as the author, or as the signing authority of their domain: multipart/signed
// (RFC 8551, section 3.5.3), or application/pkcs7-mime (section 3.5.2) where readers that
// mend line ends would break the signature.
func (g *Gateway) signBy(payload cms.Content, author mail.Address, own bool, label *cms.SecurityLabel, opaque bool) (cms.Content, error) {
	as, find := mail.Address{Local: domainAuthority, Domain: author.Domain}, func() (cms.SignerSpec, bool) { return g.o.Signers(author.Domain) }
	if own {
		as, find = author, func() (cms.SignerSpec, bool) { return g.o.Own(author) }
	}
	s, ok := find()
	if !ok {
		return nil, fmt.Errorf("there is no key to sign with for %s", as)
	}
	r := g.o.Trust.Check(s.Cert, trust.Sign, trust.Binding{Address: as})
	if !r.Usable {
		return nil, fmt.Errorf("the certificate of %s cannot be used: %w", as, lastStep(r))
	}
	sig, err := cms.SignContent(g.o.Rand, !opaque, []cms.SignerSpec{s}, cms.SignOptions{
		Time:         g.o.Now().UTC(),
		Certificates: between(r.Path),
		Label:        label,
	}, payload)
	if err != nil {
		return nil, fmt.Errorf("signing for %s: %w", as, err)
	}
	if opaque {
		head := "Content-Type: application/pkcs7-mime; smime-type=signed-data;\r\n name=\"smime.p7m\"\r\n" +
			"Content-Transfer-Encoding: base64\r\n" +
			"Content-Disposition: attachment; filename=\"smime.p7m\"\r\n\r\n"
		return parts{content([]byte(head)), base64Text{sig, g.lines}}, nil
	}
	return g.detached(payload, sig, micalg(s.Cert))
}

// detached is multipart/signed of a payload and its signature.
func (g *Gateway) detached(payload, sig cms.Content, micalg string) (cms.Content, error) {
	boundary, err := g.boundary()
	if err != nil {
		return nil, err
	}
	head := fmt.Sprintf("Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\";\r\n micalg=%s; boundary=%q\r\n\r\n--%s\r\n",
		micalg, boundary, boundary)
	second := "\r\n--" + boundary + "\r\n" +
		"Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\n" +
		"Content-Transfer-Encoding: base64\r\n" +
		"Content-Disposition: attachment; filename=\"smime.p7s\"\r\n\r\n"
	return parts{content([]byte(head)), payload, content([]byte(second)), base64Text{sig, g.lines}, content([]byte("\r\n--" + boundary + "--\r\n"))}, nil
}

// between are the authorities of a path that a verifier may lack.
func between(path []*x509.Certificate) []*x509.Certificate {
	if len(path) < 3 {
		return nil
	}
	return path[1 : len(path)-1]
}

// micalg names the digest that cms.Sign uses with the key of c (RFC 8551, section
// 3.5.3.2).
func micalg(c *x509.Certificate) string {
	switch k := c.PublicKey.(type) {
	case ed25519.PublicKey:
		return "sha-512"
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 384:
			return "sha-384"
		case 521:
			return "sha-512"
		}
	}
	return "sha-256"
}

// boundary is a fresh multipart boundary, which nobody could write into a body.
func (g *Gateway) boundary() (string, error) {
	var b [16]byte
	if _, err := io.ReadFull(g.o.Rand, b[:]); err != nil {
		return "", err
	}
	return "=_" + hex.EncodeToString(b[:]), nil
}

// assemble is the sealed message. encrypt gets one buffer for its DER: the end of the message itself,
// where the DER then becomes base64. So there is never a second copy.
func (g *Gateway) assemble(trace []byte, outer []field, cipher cms.Cipher, encrypt func(place func(int) []byte) error) ([]byte, error) {
	kind := "enveloped-data"
	if cipher.Authenticated() {
		kind = "authEnveloped-data" // RFC 8551, section 3.2.2
	}
	head := make(cms.Pieces, 0, len(outer)+2)
	head = append(head, trace)
	for _, o := range outer {
		head = append(head, o.raw)
	}
	head = append(head, []byte("MIME-Version: 1.0\r\n"+
		"Content-Type: application/pkcs7-mime; smime-type="+kind+";\r\n name=\"smime.p7m\"\r\n"+
		"Content-Transfer-Encoding: base64\r\n"+
		"Content-Disposition: attachment; filename=\"smime.p7m\"\r\n\r\n"))
	first := head.Size()
	var out []byte
	n := 0
	err := encrypt(func(size int) []byte {
		n = size
		out = make([]byte, first+base64Len(n))
		rest := out
		for _, h := range head {
			rest = rest[copy(rest, h):]
		}
		return out[len(out)-n:]
	})
	if err != nil {
		return nil, err
	}
	g.lines.inPlace(out[first:], n)
	return out, nil
}
