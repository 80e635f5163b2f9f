package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// ParseCertificate is x509.ParseCertificate, and reads two things besides that RFC 5280
// knows and crypto/x509 refuses: distribution points named relative to an issuer (section
// 4.2.1.13), and negative serial numbers (section 4.1.2.2). They are hidden from it; what
// it returns has everything as it was written.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err == nil {
		return c, nil
	}
	m, ok := mask(der)
	if !ok {
		return nil, err
	}
	if c, e := x509.ParseCertificate(m.der); e == nil {
		m.restore(c, der)
		return c, nil
	}
	return nil, err
}

// masked is a certificate that crypto/x509 can read.
type masked struct {
	der    []byte
	serial *big.Int // as it was
}

// oidMasked stands for oidCRLDP meanwhile; nobody assigned it.
var oidMasked = asn1.ObjectIdentifier{2, 5, 29, 127}

// mask finds what crypto/x509 refuses and replaces it in a copy, octet by octet.
func mask(der []byte) (masked, bool) {
	m := masked{der: bytes.Clone(der)}
	in := cryptobyte.String(m.der) // its parts are parts of the copy
	var cert, tbs, serial, ignored, extensions cryptobyte.String
	if !in.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!tbs.ReadASN1Element(&serial, cbasn1.INTEGER) {
		return m, false
	}
	m.serial = new(big.Int)
	if value := serial; !value.ReadASN1Integer(m.serial) {
		return m, false
	}
	changed := m.serial.Sign() < 0
	if changed {
		serial[len(serial)-len(content(serial))] = 1
	}
	for range 5 { // signature, issuer, validity, subject, subjectPublicKeyInfo
		if !tbs.ReadASN1(&ignored, cbasn1.SEQUENCE) {
			return m, false
		}
	}
	if !tbs.SkipOptionalASN1(cbasn1.Tag(1).ContextSpecific()) || !tbs.SkipOptionalASN1(cbasn1.Tag(2).ContextSpecific()) ||
		!tbs.ReadASN1(&extensions, cbasn1.Tag(3).ContextSpecific().Constructed()) || !extensions.ReadASN1(&extensions, cbasn1.SEQUENCE) {
		return m, changed
	}
	for !extensions.Empty() {
		var e, oid cryptobyte.String
		if !extensions.ReadASN1(&e, cbasn1.SEQUENCE) || !e.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) {
			return m, false
		}
		if string(oid) == "\x55\x1d\x1f" {
			oid[2], changed = 0x7f, true
		}
	}
	return m, changed
}

// content is what is within an element.
func content(element cryptobyte.String) (v cryptobyte.String) {
	var tag cbasn1.Tag
	element.ReadAnyASN1(&v, &tag)
	return v
}

// restore puts back what was masked.
func (m masked) restore(c *x509.Certificate, der []byte) {
	c.Raw = bytes.Clone(der)
	c.RawTBSCertificate = c.Raw[len(c.Raw)-len(content(c.Raw)):][:len(c.RawTBSCertificate)]
	c.SerialNumber = m.serial
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(oidMasked) {
			c.Extensions[i].Id = oidCRLDP
		}
	}
	for i, oid := range c.UnhandledCriticalExtensions {
		if oid.Equal(oidMasked) {
			c.UnhandledCriticalExtensions[i] = oidCRLDP
		}
	}
}
