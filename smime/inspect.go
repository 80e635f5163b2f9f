package smime

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Inspect says how the message is protected. Only the root entity counts: an encrypted
// part beside others protects nothing (EFAIL; THREATS C2). What the CMS structure is
// decides, not what the smime-type parameter calls it. What claims to be CMS and
// cannot be read through to its end is EncryptedBroken, which passes no rule.
//
// multipart/encrypted (OpenPGP) is not S/MIME and is Plain here.
func (g *Gateway) Inspect(raw []byte, x *message.Index) Protection {
	root := x.Root
	if g.ambiguous(raw, root) {
		return Protection{Kind: EncryptedBroken, Reason: "says twice, and differently, what it contains"}
	}
	switch {
	case isCMS(root):
	case isDetached(root):
		return Protection{Kind: SignedOnly}
	default:
		return Protection{Kind: Plain}
	}
	der, err := body(raw, root)
	if err != nil {
		return Protection{Kind: EncryptedBroken, Reason: err.Error()}
	}
	return g.inspectCMS(der)
}

func (g *Gateway) inspectCMS(der []byte) Protection {
	broken := func(err error) Protection {
		return Protection{Kind: EncryptedBroken, Reason: err.Error()}
	}
	kind, err := cms.ContentType(der)
	if err != nil {
		return broken(err)
	}
	switch kind {
	case cms.EnvelopedData, cms.AuthEnvelopedData:
		e, err := cms.ParseEnveloped(der, cms.Limits{})
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
		return Protection{Kind: SignedOnly}
	case cms.CompressedData:
		return Protection{Kind: OtherCMS, Reason: "compressed data"}
	}
	return broken(errors.New("CMS content of the unknown type " + string(kind)))
}

// isCMS says whether p is one CMS structure (RFC 8551, section 3.2).
func isCMS(p *message.Part) bool {
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

func strictBase64(b []byte) ([]byte, error) {
	clean := make([]byte, 0, len(b))
	for len(b) > 0 {
		i := bytes.IndexAny(b, "\r\n\t ")
		if i < 0 {
			i = len(b)
		}
		clean = append(clean, b[:i]...)
		b = b[min(i+1, len(b)):]
	}
	n, err := base64.StdEncoding.Decode(clean, clean)
	if err != nil {
		return nil, errors.New("the body is not base64")
	}
	return clean[:n], nil
}
