package trust

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"

	"cmmpd/smime/certkey"
)

// Bounds on RSA moduli in bits. Longer ones cost us more than they give them.
const (
	minRSABits = 2048
	maxRSABits = 8192
)

// checkKey holds the key of c to the floor (and ceiling) of strength. It must come
// before any use of the key.
func checkKey(c *x509.Certificate, minRSA int) error {
	key := certkey.Of(c)
	if k, ok := key.(*certkey.PSS); ok {
		key = k.PublicKey
	}
	switch k := key.(type) {
	case *rsa.PublicKey:
		switch n := k.N.BitLen(); {
		case n < minRSA:
			return fmt.Errorf("RSA key of %d bits; at least %d are needed", n, minRSA)
		case n > maxRSABits:
			return fmt.Errorf("RSA key of %d bits; at most %d are accepted", n, maxRSABits)
		case k.E < 3 || k.E%2 == 0:
			return fmt.Errorf("RSA key with the exponent %d", k.E)
		}
		return nil
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return errors.New("EC key on a curve other than P-256, P-384 and P-521")
	case ed25519.PublicKey:
		return nil
	case *ecdh.PublicKey:
		if k.Curve() == ecdh.X25519() {
			return nil
		}
	}
	return errors.New("key of an unknown kind")
}

// checkUsage holds the key usage (RFC 5280, section 4.2.1.3; RFC 8550, section
// 4.4.2) to the purpose. A certificate without the extension may be used for
// anything its key can do.
func checkUsage(c *x509.Certificate, p Purpose) error {
	key := certkey.Of(c)
	if p == Sign {
		if _, ok := key.(*ecdh.PublicKey); ok {
			return errors.New("an X25519 key cannot sign")
		}
		if c.KeyUsage != 0 && c.KeyUsage&(x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment) == 0 {
			return errors.New("the key usage does not allow signing")
		}
		return nil
	}
	need := x509.KeyUsageKeyEncipherment
	switch key.(type) {
	case *ecdsa.PublicKey, *ecdh.PublicKey:
		need = x509.KeyUsageKeyAgreement
	case ed25519.PublicKey:
		return errors.New("an Ed25519 key cannot encrypt")
	case *certkey.PSS:
		return errors.New("an RSA key for RSASSA-PSS alone cannot encrypt")
	}
	if c.KeyUsage != 0 && c.KeyUsage&need == 0 {
		return errors.New("the key usage does not allow encryption")
	}
	return nil
}

func keyName(c *x509.Certificate) string {
	switch k := certkey.Of(c).(type) {
	case *certkey.PSS:
		return fmt.Sprintf("RSA key of %d bits for RSASSA-PSS", k.N.BitLen())
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA key of %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "EC key on " + k.Curve.Params().Name
	case *ecdh.PublicKey:
		return "X25519 key"
	}
	return "Ed25519 key"
}
