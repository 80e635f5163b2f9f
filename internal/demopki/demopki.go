// Package demopki makes the certificates of a demonstration and of tests: a root
// authority, people, mail and TLS servers, revocation lists, PKCS #12 files. It is
// sound enough to look at, with the profile of RFC 5280 and RFC 8550, but the
// authority's key lies in a file: nobody should trust it outside the machine it was
// made on.
package demopki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"
)

// Kind is the kind of a key.
type Kind uint8

// The kinds. RSA1024 is there to be refused.
const (
	P256 Kind = iota
	P384
	P521
	RSA2048
	RSA3072
	RSA1024
	Ed25519
)

// NewKey makes a key.
func NewKey(k Kind) (crypto.Signer, error) {
	switch k {
	case P256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case P384:
		return ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case P521:
		return ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case RSA2048:
		return rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072:
		return rsa.GenerateKey(rand.Reader, 3072)
	case RSA1024:
		return rsa.GenerateKey(rand.Reader, 1024)
	case Ed25519:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("no such kind of key: %d", k)
}

// Identity is a certificate with its key and the authorities above it.
type Identity struct {
	Cert  *x509.Certificate
	Key   crypto.Signer
	Chain []*x509.Certificate // issuer first, root last; empty for a root
}

// CA is an authority. Its methods may not be called by several goroutines at once.
type CA struct {
	Identity
	Now     func() time.Time
	revoked []x509.RevocationListEntry
	number  int64
}

// years is a span of validity.
func years(n int) time.Duration { return time.Duration(n) * 365 * 24 * time.Hour }

// NewCA makes a root authority on P-384, valid from an hour ago for ten years.
func NewCA(cn string, now func() time.Time) (*CA, error) {
	if now == nil {
		now = time.Now
	}
	key, err := NewKey(P384)
	if err != nil {
		return nil, err
	}
	t := caTemplate(cn, now())
	t.NotAfter = now().Add(years(10))
	cert, err := create(t, t, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &CA{Identity: Identity{Cert: cert, Key: key}, Now: now}, nil
}

// LoadCA is the authority of a certificate and key made earlier. Revocations made
// before are taken from the last list, which may be nil.
func LoadCA(cert *x509.Certificate, key crypto.Signer, last *x509.RevocationList, now func() time.Time) (*CA, error) {
	if now == nil {
		now = time.Now
	}
	if !cert.IsCA || !samePublic(cert.PublicKey, key.Public()) {
		return nil, errors.New("the certificate is no authority's, or not of this key")
	}
	ca := &CA{Identity: Identity{Cert: cert, Key: key}, Now: now}
	if last != nil {
		ca.revoked = last.RevokedCertificateEntries
		if last.Number != nil {
			ca.number = last.Number.Int64()
		}
	}
	return ca, nil
}

func samePublic(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// NewSub makes an authority under ca, valid for five years. adjust may change its
// template, for instance to add name constraints; it may be nil.
func (ca *CA) NewSub(cn string, adjust func(*x509.Certificate)) (*CA, error) {
	key, err := NewKey(P256)
	if err != nil {
		return nil, err
	}
	t := caTemplate(cn, ca.Now())
	t.NotAfter = ca.Now().Add(years(5))
	t.MaxPathLenZero = true
	if adjust != nil {
		adjust(t)
	}
	id, err := ca.sign(t, key)
	if err != nil {
		return nil, err
	}
	return &CA{Identity: *id, Now: ca.Now}, nil
}

func caTemplate(cn string, now time.Time) *x509.Certificate {
	return &x509.Certificate{
		Subject:               pkix.Name{CommonName: cn, Organization: []string{organization}},
		NotBefore:             now.Add(-time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

const organization = "Demonstration Government"

// Spec says what to issue. Zero fields take the values that suit a person's mail
// certificate.
type Spec struct {
	CN        string
	Address   string // rfc822Name; empty: the certificate names no address
	Key       Kind
	Signer    crypto.Signer // an existing key; nil: one of the kind is made
	NotBefore time.Time     // zero: an hour ago
	NotAfter  time.Time     // zero: two years from now
	Usage     x509.KeyUsage // zero: signing and encryption, as the kind of key allows
	EKU       []x509.ExtKeyUsage
	NoEKU     bool
	Adjust    func(*x509.Certificate) // the last word on the template
}

// Issue makes a certificate, and its key where none is given.
func (ca *CA) Issue(s Spec) (*Identity, error) {
	key := s.Signer
	if key == nil {
		var err error
		if key, err = NewKey(s.Key); err != nil {
			return nil, err
		}
	}
	now := ca.Now()
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: s.CN, Organization: []string{organization}},
		NotBefore:             s.NotBefore,
		NotAfter:              s.NotAfter,
		KeyUsage:              s.Usage,
		ExtKeyUsage:           s.EKU,
		BasicConstraintsValid: true,
	}
	if s.Address != "" {
		t.EmailAddresses = []string{s.Address}
	}
	if t.NotBefore.IsZero() {
		t.NotBefore = now.Add(-time.Hour)
	}
	if t.NotAfter.IsZero() {
		t.NotAfter = now.Add(years(2))
	}
	if t.KeyUsage == 0 {
		t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment
		switch key.Public().(type) {
		case *ecdsa.PublicKey:
			t.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
		case ed25519.PublicKey:
			t.KeyUsage = x509.KeyUsageDigitalSignature
		}
	}
	if len(t.ExtKeyUsage) == 0 && !s.NoEKU {
		t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
	}
	if s.Adjust != nil {
		s.Adjust(t)
	}
	return ca.sign(t, key)
}

// Server makes a TLS server certificate on P-256 for the names, which may be host
// names and IP addresses. Without names it is for localhost, 127.0.0.1 and ::1.
func (ca *CA) Server(names ...string) (*Identity, error) {
	if len(names) == 0 {
		names = []string{"localhost", "127.0.0.1", "::1"}
	}
	return ca.Issue(Spec{
		CN: names[0], Key: P256, Usage: x509.KeyUsageDigitalSignature, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Adjust: func(t *x509.Certificate) {
			for _, n := range names {
				if ip := net.ParseIP(n); ip != nil {
					t.IPAddresses = append(t.IPAddresses, ip)
				} else {
					t.DNSNames = append(t.DNSNames, n)
				}
			}
		},
	})
}

// sign completes the template and issues it.
func (ca *CA) sign(t *x509.Certificate, key crypto.Signer) (*Identity, error) {
	cert, err := create(t, ca.Cert, key.Public(), ca.Key)
	if err != nil {
		return nil, err
	}
	return &Identity{Cert: cert, Key: key, Chain: append([]*x509.Certificate{ca.Cert}, ca.Chain...)}, nil
}

func create(t, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	serial := make([]byte, 16)
	if _, err := rand.Read(serial); err != nil {
		return nil, err
	}
	serial[0] = serial[0]&0x7f | 0x40
	t.SerialNumber = new(big.Int).SetBytes(serial)
	if t.SubjectKeyId == nil {
		spki, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return nil, err
		}
		id := sha256.Sum256(spki)
		t.SubjectKeyId = id[:20] // RFC 7093, section 2, method 4
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, by)
	if err != nil {
		return nil, fmt.Errorf("issuing the certificate of %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

// Revoke puts a certificate on the next list.
func (ca *CA) Revoke(c *x509.Certificate) {
	ca.revoked = append(ca.revoked, x509.RevocationListEntry{
		SerialNumber: c.SerialNumber, RevocationTime: ca.Now().UTC().Truncate(time.Second), ReasonCode: 1,
	})
}

// CRL makes the revocation list in DER, good from now for the given time.
func (ca *CA) CRL(holds time.Duration) ([]byte, error) {
	ca.number++
	now := ca.Now()
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		RevokedCertificateEntries: ca.revoked,
		Number:                    big.NewInt(ca.number),
		ThisUpdate:                now.Add(-time.Minute), NextUpdate: now.Add(holds),
	}, ca.Cert, ca.Key)
}

// PKCS12 is the identity as a PKCS #12 file with the chain, under AES-256 and
// PBKDF2-HMAC-SHA-256.
func (id *Identity) PKCS12(password string) ([]byte, error) {
	return pkcs12.Modern.WithRand(rand.Reader).Encode(id.Key, id.Cert, id.Chain, password)
}
