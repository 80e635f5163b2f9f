package smime

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"cmmpd/smime/cms"
)

// The values of cmmpdCipherProfile: what the client of a person reads. Each reads what
// stands below it.
const (
	ProfileGCM  = "gcm"      // AES-256-GCM (AuthEnvelopedData, RFC 5083), and keys sent by RSAES-OAEP
	ProfileOAEP = "oaep"     // AES-256-CBC, and keys sent by RSAES-OAEP with SHA-256
	ProfileOld  = "pkcs1v15" // AES-256-CBC, and keys sent by RSAES-PKCS1-v1_5
)

// reads is what c reads with the certificate chosen for them: what the directory says; else
// what their own client said in a userSMIMECertificate with this certificate; else
// ProfileOAEP.
func (g *Gateway) reads(c Candidate, chosen *x509.Certificate) (gcm bool, transport cms.KeyTransport) {
	switch strings.ToLower(c.Profile) {
	case ProfileGCM:
		return true, cms.OAEPSHA256
	case ProfileOAEP:
		return false, cms.OAEPSHA256
	case ProfileOld:
		return false, cms.PKCS1v15
	case "":
	default:
		g.o.Log.Warn("a cipher profile that does not exist", "address", c.Address.String(), "profile", c.Profile)
	}
	said, all := false, cms.Abilities{GCM: true, OAEP: true}
	for _, s := range g.statements(c) {
		if !slices.ContainsFunc(s.Certificates, chosen.Equal) {
			continue
		}
		a, err := g.abilities(c, s, chosen)
		if err != nil {
			g.o.Log.Warn("what a userSMIMECertificate says of its owner's client does not count", "address", c.Address.String(), "error", err)
			continue
		}
		said, all = true, cms.Abilities{GCM: all.GCM && a.GCM, OAEP: all.OAEP && a.OAEP} // their oldest client shall read it
	}
	switch {
	case !said || all.OAEP:
		return said && all.GCM, cms.OAEPSHA256
	default:
		return all.GCM, cms.PKCS1v15
	}
}

// The bounds of what is looked at of userSMIMECertificate.
const (
	maxStatements    = 8       // values
	maxStatementSize = 1 << 20 // bytes of one
)

// statements are the values of userSMIMECertificate that can be read. Nothing in them has
// been verified.
func (g *Gateway) statements(c Candidate) []*cms.Signed {
	var out []*cms.Signed
	for _, der := range c.SMIME[:min(len(c.SMIME), maxStatements)] {
		s, err := cms.ParseSigned(der, cms.Limits{Size: maxStatementSize, Certificates: maxCertificates})
		if err != nil {
			g.o.Log.Warn("a userSMIMECertificate of the directory cannot be read", "address", c.Address.String(), "error", err)
			continue
		}
		out = append(out, s)
	}
	return out
}

// abilities are what s says, if the signature is good and made by c: with the chosen key,
// or with one that may sign for c. What is signed is of no meaning and mostly absent
// (RFC 2798, section 2.8).
func (g *Gateway) abilities(c Candidate, s *cms.Signed, chosen *x509.Certificate) (cms.Abilities, error) {
	r, err := signerOf(s)
	if err != nil {
		return cms.Abilities{}, err
	}
	if r.Capabilities == nil {
		return cms.Abilities{}, errors.New("it names no capabilities")
	}
	if !r.Cert.Equal(chosen) {
		if err := g.maySpeak(c, s, r.Cert); err != nil {
			return cms.Abilities{}, err
		}
	}
	return cms.AbilitiesOf(r.Capabilities), nil
}

// signerOf is who signed s, if it is exactly one and the signature is good.
func signerOf(s *cms.Signed) (cms.SignerResult, error) {
	if len(s.Signers) != 1 {
		return cms.SignerResult{}, errors.New("not signed by exactly one")
	}
	var content []byte
	if s.Content == nil {
		content = []byte{}
	}
	return s.Verify(0, content)
}

// CipherFor is how a copy for these readers is encrypted: by AES-256-GCM if all of them read
// it, else by AES-256-CBC.
func CipherFor(readers []Usable) cms.Cipher {
	for _, r := range readers {
		if !r.GCM {
			return cms.AES256CBC
		}
	}
	return cms.AES256GCM
}

// Transports are the ways by which these readers get the key, each once: "rsa-oaep",
// "rsa-pkcs1v15", "ecdh".
func Transports(readers []Usable) []string {
	var out []string
	for _, r := range readers {
		way := "rsa-oaep"
		switch {
		case r.Cert.PublicKeyAlgorithm != x509.RSA:
			way = "ecdh"
		case r.Transport == cms.PKCS1v15:
			way = "rsa-pkcs1v15"
		}
		out = append(out, way)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Meets says whether what u reads is as strong as a demand: "any", ProfileOAEP (no
// RSAES-PKCS1-v1_5) or ProfileGCM (AES-256-GCM as well). Nobody meets a demand that is not known.
func (u *Usable) Meets(demand string) bool {
	modern := u.Cert.PublicKeyAlgorithm != x509.RSA || u.Transport != cms.PKCS1v15
	switch demand {
	case "any":
		return true
	case ProfileOAEP:
		return modern
	case ProfileGCM:
		return modern && u.GCM
	}
	return false
}

// Meets says the same of a message that is encrypted.
func (p *Protection) Meets(demand string) bool {
	if demand == "any" || p.Enveloped == nil {
		return demand == "any"
	}
	old := slices.ContainsFunc(p.Enveloped.Recipients, func(r cms.RecipientInfo) bool { return r.Algorithm == "rsa-pkcs1v15" })
	return !old && (demand == ProfileOAEP || demand == ProfileGCM && p.Enveloped.Cipher.Authenticated())
}
