package cms

import (
	"math/big"
	"strconv"
	"strings"
)

// Algorithms (RFC 3370, 3560, 3565, 4055, 4056, 5084, 5753, 5754, 8017).
const (
	oidRSA       OID = "1.2.840.113549.1.1.1"
	oidSHA1RSA   OID = "1.2.840.113549.1.1.5"
	oidOAEP      OID = "1.2.840.113549.1.1.7"
	oidMGF1      OID = "1.2.840.113549.1.1.8"
	oidPSource   OID = "1.2.840.113549.1.1.9"
	oidPSS       OID = "1.2.840.113549.1.1.10"
	oidSHA256RSA OID = "1.2.840.113549.1.1.11"
	oidSHA384RSA OID = "1.2.840.113549.1.1.12"
	oidSHA512RSA OID = "1.2.840.113549.1.1.13"
	oidSHA224RSA OID = "1.2.840.113549.1.1.14"

	oidECPublicKey OID = "1.2.840.10045.2.1"
	oidECDSASHA1   OID = "1.2.840.10045.4.1"
	oidECDSASHA224 OID = "1.2.840.10045.4.3.1"
	oidECDSASHA256 OID = "1.2.840.10045.4.3.2"
	oidECDSASHA384 OID = "1.2.840.10045.4.3.3"
	oidECDSASHA512 OID = "1.2.840.10045.4.3.4"

	oidSHA1   OID = "1.3.14.3.2.26"
	oidSHA256 OID = "2.16.840.1.101.3.4.2.1"
	oidSHA384 OID = "2.16.840.1.101.3.4.2.2"
	oidSHA512 OID = "2.16.840.1.101.3.4.2.3"
	oidSHA224 OID = "2.16.840.1.101.3.4.2.4"

	oidX25519  OID = "1.3.101.110" // RFC 8410
	oidEd25519 OID = "1.3.101.112"

	oidTripleDES OID = "1.2.840.113549.3.7"
	oidAES128CBC OID = "2.16.840.1.101.3.4.1.2"
	oidAES192CBC OID = "2.16.840.1.101.3.4.1.22"
	oidAES256CBC OID = "2.16.840.1.101.3.4.1.42"
	oidAES128GCM OID = "2.16.840.1.101.3.4.1.6"
	oidAES192GCM OID = "2.16.840.1.101.3.4.1.26"
	oidAES256GCM OID = "2.16.840.1.101.3.4.1.46"

	oidCEKHKDFSHA256 OID = "1.2.840.113549.1.9.16.3.31" // RFC 9709

	oidAES128Wrap OID = "2.16.840.1.101.3.4.1.5"
	oidAES192Wrap OID = "2.16.840.1.101.3.4.1.25"
	oidAES256Wrap OID = "2.16.840.1.101.3.4.1.45"
)

// Attributes (RFC 5652 section 11, RFC 8551, RFC 5035, RFC 2634).
const (
	oidAttrContentType   OID = "1.2.840.113549.1.9.3"
	oidAttrMessageDigest OID = "1.2.840.113549.1.9.4"
	oidAttrSigningTime   OID = "1.2.840.113549.1.9.5"
	oidAttrCapabilities  OID = "1.2.840.113549.1.9.15"
	oidAttrSecurityLabel OID = "1.2.840.113549.1.9.16.2.2"
	oidAttrSigningCert   OID = "1.2.840.113549.1.9.16.2.12"
	oidAttrSigningCertV2 OID = "1.2.840.113549.1.9.16.2.47"
)

// maxOIDBytes bounds an identifier's content octets.
const maxOIDBytes = 128

// decodeOID reads the value of e as an OBJECT IDENTIFIER (X.690, section 8.19).
func decodeOID(e element) (OID, error) {
	b := e.content
	if e.constructed || len(b) == 0 || len(b) > maxOIDBytes || b[len(b)-1]&0x80 != 0 {
		return "", errForm
	}
	var s strings.Builder
	for first := true; len(b) > 0; first = false {
		if b[0] == 0x80 {
			return "", errForm
		}
		arc := new(big.Int)
		for {
			c := b[0]
			b = b[1:]
			arc.Or(arc.Lsh(arc, 7), big.NewInt(int64(c&0x7f)))
			if c&0x80 == 0 {
				break
			}
		}
		if first {
			root := min(arc.Uint64()/40, 2)
			if !arc.IsUint64() {
				root = 2
			}
			s.WriteString(strconv.FormatUint(root, 10))
			arc.Sub(arc, big.NewInt(int64(root*40)))
		}
		s.WriteByte('.')
		s.WriteString(arc.String())
	}
	return OID(s.String()), nil
}

// der encodes o. What is no identifier encodes as nil.
func (o OID) der() []byte {
	arcs := strings.Split(string(o), ".")
	if len(arcs) < 2 {
		return nil
	}
	var content []byte
	var root *big.Int
	for i, s := range arcs {
		arc, ok := new(big.Int).SetString(s, 10)
		if !ok || arc.Sign() < 0 || arc.BitLen() > 7*maxOIDBytes {
			return nil
		}
		switch i {
		case 0:
			root = arc
			continue
		case 1:
			if root.Cmp(big.NewInt(2)) > 0 || root.Cmp(big.NewInt(2)) < 0 && arc.Cmp(big.NewInt(39)) > 0 {
				return nil
			}
			arc.Add(arc, root.Mul(root, big.NewInt(40)))
		}
		content = appendBase128(content, arc)
	}
	if len(content) > maxOIDBytes {
		return nil
	}
	return tlv(derOID, content)
}

func appendBase128(b []byte, n *big.Int) []byte {
	groups := max((n.BitLen()+6)/7, 1)
	for i := groups - 1; i >= 0; i-- {
		group := new(big.Int).Rsh(n, uint(7*i))
		c := byte(group.And(group, big.NewInt(0x7f)).Uint64())
		if i > 0 {
			c |= 0x80
		}
		b = append(b, c)
	}
	return b
}
