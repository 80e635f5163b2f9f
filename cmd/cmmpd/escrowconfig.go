package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"cmmpd/internal/keys/escrow"
	"cmmpd/smime/certkey"
	"cmmpd/smime/cms"
)

// escrowConfig says which officers keep the accounts' keys.
type escrowConfig struct {
	Threshold    int             `toml:"threshold"`
	RequestRoles []string        `toml:"request-roles"`
	Hold         duration        `toml:"hold"`
	Officers     []escrowOfficer `toml:"officers"`

	group *escrow.Group // nil: nobody keeps them
}

// escrowOfficer is one of them.
type escrowOfficer struct {
	UID         string `toml:"uid"`
	Certificate string `toml:"certificate"`
	PKCS1v15    bool   `toml:"pkcs1v15"`

	cert *x509.Certificate
}

func defaultEscrow() escrowConfig {
	return escrowConfig{RequestRoles: []string{"records-manager"}, Hold: duration(8 * time.Hour)}
}

const maxHold = duration(7 * 24 * time.Hour)

func (c *escrowConfig) check(f *tomlFile, minRSABits int) {
	if c.Hold > maxHold {
		f.bad("escrow.hold", "is more than %v", time.Duration(maxHold))
	}
	if c.Threshold == 0 && len(c.Officers) == 0 {
		return
	}
	if len(c.RequestRoles) == 0 {
		f.bad("escrow.request-roles", "nobody could ask that an account be opened")
	}
	var list []escrow.Officer
	before := len(f.errs)
	for i := range c.Officers {
		o := &c.Officers[i]
		key := fmt.Sprintf("escrow.officers[%d]", i)
		if o.UID == "" {
			f.bad(key, "uid must not be empty")
		}
		f.file(key+".certificate", &o.Certificate)
		if len(f.errs) > before {
			continue
		}
		if err := o.read(minRSABits); err != nil {
			f.bad(key+".certificate", "%v", err)
			continue
		}
		for _, other := range c.Officers[:i] {
			if other.cert != nil && bytes.Equal(other.cert.RawSubjectPublicKeyInfo, o.cert.RawSubjectPublicKeyInfo) {
				f.bad(key+".certificate", "it has the same key as that of %s: who has it would be two officers", other.UID)
			}
		}
		list = append(list, o.officer())
	}
	if len(f.errs) > before {
		return
	}
	var err error
	if c.group, err = escrow.NewGroup(c.Threshold, list); err != nil {
		f.bad("escrow.threshold", "%v", err)
	}
}

// read reads the certificate and looks whether its key is one to encrypt to.
func (o *escrowOfficer) read(minRSABits int) error {
	certs, err := readCertificates([]string{o.Certificate})
	if err != nil {
		return err
	}
	o.cert = certs[0]
	if err := encryptable(o.cert, minRSABits); err != nil {
		return err
	}
	_, err = o.officer().Seal([]byte("x"))
	return err
}

// encryptable says why one should not encrypt to a certificate, whoever has issued it.
func encryptable(c *x509.Certificate, minRSABits int) error {
	if k, ok := certkey.Of(c).(*rsa.PublicKey); ok && k.N.BitLen() < minRSABits {
		return fmt.Errorf("its RSA key has %d bits, fewer than %d", k.N.BitLen(), minRSABits)
	}
	const usages = x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if c.IsCA || c.KeyUsage != 0 && c.KeyUsage&usages == 0 {
		return errors.New("the certificate is not one to encrypt to")
	}
	return nil
}

func (o *escrowOfficer) officer() escrow.Officer {
	spec := cms.RecipientSpec{Cert: o.cert}
	if o.PKCS1v15 {
		spec.Transport = cms.PKCS1v15
	}
	return escrow.Officer{UID: o.UID, Certificate: sha256.Sum256(o.cert.Raw), Seal: func(plain []byte) ([]byte, error) {
		return cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, []cms.RecipientSpec{spec}, plain)
	}}
}

// tryNow is what is wrong with the officers' certificates at this time. A platform starts all the same: their keys still open what they keep.
func (c *escrowConfig) tryNow(now time.Time) error {
	var errs []error
	for _, o := range c.Officers {
		if o.cert != nil && (now.Before(o.cert.NotBefore) || now.After(o.cert.NotAfter)) {
			errs = append(errs, fmt.Errorf("escrow: the certificate of %s is good from %s to %s", o.UID,
				o.cert.NotBefore.UTC().Format(time.DateOnly), o.cert.NotAfter.UTC().Format(time.DateOnly)))
		}
	}
	return errors.Join(errs...)
}

// warnings is what an operator must hear at the start, and in health.
func (c *escrowConfig) warnings(now time.Time) (list []string) {
	if c.group == nil {
		return []string{"escrow: no officers keep the accounts' keys: who loses the platform key loses all mail"}
	}
	if err := c.tryNow(now); err != nil {
		list = append(list, err.Error()+"; renew it, then cmmpd escrow cover")
	}
	return list
}
