package smime

import (
	"bytes"
	"errors"
	"strings"

	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Inspect says how the message is protected. Only the root entity counts: an encrypted
// part beside others protects nothing (EFAIL, CVE-2017-17689). What the CMS structure is
// decides, not what the smime-type parameter calls it. What claims to be CMS and
// cannot be read through to its end is EncryptedBroken, which passes no rule. What is
// encrypted and then signed, with nothing beside it, is Encrypted.
//
// multipart/encrypted (OpenPGP) is not S/MIME and is Plain here.
func (g *Gateway) Inspect(raw []byte, x *message.Index) Protection {
	return g.inspect(raw, x.Root, 0)
}

// maxSignatures bounds the signatures around each other that Inspect looks through.
const maxSignatures = 4

func (g *Gateway) inspect(raw []byte, root *message.Part, signatures int) Protection {
	if g.ambiguous(raw, root) {
		return Protection{Kind: EncryptedBroken, Reason: "says twice, and differently, what it contains"}
	}
	switch {
	case isCMS(root):
	case isDetached(root):
		if len(root.Children) == 0 {
			return Protection{Kind: SignedOnly}
		}
		p := g.within(raw, root.Children[0], signatures)
		if p.Kind == Encrypted && !bare(raw, root) {
			return Protection{Kind: EncryptedBroken, Reason: "has text beside what is encrypted"}
		}
		return p
	default:
		return Protection{Kind: Plain}
	}
	der, err := body(raw, root)
	if err != nil {
		return Protection{Kind: EncryptedBroken, Reason: err.Error()}
	}
	if _, err := cms.ContentType(der); err != nil && !namesCMS(root) {
		return Protection{Kind: Plain} // a file that is only called so
	}
	return g.inspectCMS(der, signatures)
}

// within is how a signed message is protected, by the entity that is signed.
func (g *Gateway) within(raw []byte, p *message.Part, signatures int) Protection {
	if signatures++; signatures >= maxSignatures {
		return Protection{Kind: SignedOnly}
	}
	switch in := g.inspect(raw, p, signatures); in.Kind {
	case Encrypted, EncryptedBroken:
		in.Signed = true
		return in
	}
	return Protection{Kind: SignedOnly}
}

// bare says whether a multipart/signed holds nothing but its two parts.
func bare(raw []byte, p *message.Part) bool {
	if len(p.Children) != 2 || !isSignature(p.Children[1]) {
		return false
	}
	before := bytes.TrimSpace(raw[p.BodyStart:p.Children[0].HeaderStart])
	after := bytes.TrimSpace(raw[p.Children[1].BodyEnd:p.BodyEnd])
	return bytes.IndexByte(before, '\n') < 0 && bytes.HasPrefix(before, []byte("--")) && bytes.IndexByte(after, '\n') < 0
}

func (g *Gateway) inspectCMS(der []byte, signatures int) Protection {
	broken := func(err error) Protection {
		return Protection{Kind: EncryptedBroken, Reason: err.Error()}
	}
	kind, err := cms.ContentType(der)
	if err != nil {
		return broken(err)
	}
	switch kind {
	case cms.EnvelopedData, cms.AuthEnvelopedData:
		e, err := cms.ParseEnveloped(der, g.limits())
		if err != nil {
			return broken(err)
		}
		return Protection{Kind: Encrypted, Enveloped: e}
	case cms.SignedData:
		s, err := cms.ParseSigned(der, cms.Limits{})
		switch {
		case err != nil:
			return broken(err)
		case len(s.Signers) == 0:
			return Protection{Kind: OtherCMS, Reason: "certificates without a signature"}
		case s.Content == nil:
			return Protection{Kind: OtherCMS, Reason: "a signature without its content"}
		}
		return g.within(s.Content, message.Parse(s.Content, message.Limits{}).Root, signatures)
	case cms.CompressedData:
		return Protection{Kind: OtherCMS, Reason: "compressed data"}
	}
	return broken(errors.New("CMS content of the unknown type " + string(kind)))
}

// isCMS says whether p is one CMS structure (RFC 8551, section 3.2), or, made by a
// program that does not know the type, a file called one (section 3.2.1).
func isCMS(p *message.Part) bool {
	return namesCMS(p) || p.Type == "application" && p.Subtype == "octet-stream" && called(p, ".p7m")
}

func namesCMS(p *message.Part) bool {
	return p.Type == "application" && (p.Subtype == "pkcs7-mime" || p.Subtype == "x-pkcs7-mime")
}

// isSignature says whether p is a detached signature (RFC 8551, section 3.5.3.1).
func isSignature(p *message.Part) bool {
	return p.Type == "application" && (p.Subtype == "pkcs7-signature" || p.Subtype == "x-pkcs7-signature")
}

// isDetached says whether p is multipart/signed of S/MIME (RFC 8551, section 3.5.3).
func isDetached(p *message.Part) bool {
	if p.Type != "multipart" || p.Subtype != "signed" {
		return false
	}
	switch strings.ToLower(p.Param("protocol")) {
	case "application/pkcs7-signature", "application/x-pkcs7-signature":
		return true
	}
	return false
}

// ambiguous says whether different readers could take the entity for different
// things: it has several Content-Type or Content-Transfer-Encoding fields, and one
// speaks of CMS.
func (g *Gateway) ambiguous(raw []byte, p *message.Part) bool {
	h := message.ParseHeader(raw[p.HeaderStart:p.BodyStart], message.Limits{})
	types, encodings := h.All("Content-Type"), h.All("Content-Transfer-Encoding")
	if len(types) < 2 && len(encodings) < 2 {
		return false
	}
	for _, t := range types {
		if strings.Contains(strings.ToLower(t), "pkcs7-mime") {
			return true
		}
	}
	return false
}

// body is the CMS structure that p carries. Base64 is read strictly: nothing may hide
// beside it.
func body(raw []byte, p *message.Part) ([]byte, error) {
	b := raw[p.BodyStart:p.BodyEnd]
	switch p.Encoding {
	case "base64":
		return strictBase64(b)
	case "", "7bit", "8bit", "binary":
		return b, nil
	}
	return message.DecodeTransfer(b, p.Encoding)
}
