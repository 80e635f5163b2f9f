package cms

import (
	"bytes"
	"math/big"
	"math/bits"
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
	var s bytes.Buffer
	for first := true; len(b) > 0; first = false {
		if b[0] == 0x80 {
			return "", errForm
		}
		n := 0
		for b[n]&0x80 != 0 {
			n++
		}
		arc := b[:n+1]
		b = b[n+1:]
		if n < 9 {
			s.Write(appendArc(s.AvailableBuffer(), arc, first))
		} else {
			s.WriteString(largeArc(arc, first))
		}
	}
	return OID(s.String()), nil
}

// appendArc appends what nine groups of seven bits or fewer say, after a dot. The first
// stands for two numbers.
func appendArc(out, groups []byte, first bool) []byte {
	var v uint64
	for _, c := range groups {
		v = v<<7 | uint64(c&0x7f)
	}
	if first {
		root := min(v/40, 2)
		out = strconv.AppendUint(out, root, 10)
		v -= root * 40
	}
	return strconv.AppendUint(append(out, '.'), v, 10)
}

// largeArc is appendArc for any number of groups.
func largeArc(groups []byte, first bool) string {
	arc := new(big.Int)
	for _, c := range groups {
		arc.Or(arc.Lsh(arc, 7), big.NewInt(int64(c&0x7f)))
	}
	if first {
		return "2." + arc.Sub(arc, big.NewInt(80)).String()
	}
	return "." + arc.String()
}

// der encodes o. What is no identifier encodes as nil.
func (o OID) der() []byte {
	if b := o.appendTo(make([]byte, 0, 2+len(o))); len(b) > 0 {
		return b
	}
	return nil
}

// appendTo appends the encoding of o to b; nothing if it is no identifier.
func (o OID) appendTo(b []byte) []byte {
	start := len(b)
	b = append(b, derOID, 0)
	root, rest, ok := strings.Cut(string(o), ".")
	if !ok || len(root) != 1 || root[0] < '0' || root[0] > '2' {
		return b[:start]
	}
	for first := true; ok; first = false {
		var arc string
		arc, rest, ok = strings.Cut(rest, ".")
		more := appendNumber(b, arc, root[0]-'0', first)
		if more == nil {
			return b[:start]
		}
		b = more
	}
	if len(b)-start-2 > maxOIDBytes {
		return b[:start]
	}
	return closed(b, start)
}

// appendNumber appends the groups of seven bits of an arc; the first includes root. nil: it is
// no number, or too large.
func appendNumber(b []byte, arc string, root byte, first bool) []byte {
	v, fits := uint64(0), true
	for i := range len(arc) {
		c := arc[i] - '0'
		if c > 9 {
			return nil
		}
		if fits = fits && v < 1<<58; fits {
			v = v*10 + uint64(c)
		}
	}
	if arc == "" || first && root < 2 && (!fits || v > 39) {
		return nil
	}
	if !fits {
		return appendLarge(b, arc, root, first)
	}
	if first {
		v += uint64(root) * 40
	}
	for shift := max(bits.Len64(v)-1, 0) / 7 * 7; shift > 0; shift -= 7 {
		b = append(b, byte(v>>shift)|0x80)
	}
	return append(b, byte(v)&0x7f)
}

// appendLarge is appendNumber for numbers of any size.
func appendLarge(b []byte, arc string, root byte, first bool) []byte {
	n, ok := new(big.Int).SetString(arc, 10)
	if !ok || n.BitLen() > 7*maxOIDBytes {
		return nil
	}
	if first {
		n.Add(n, big.NewInt(int64(root)*40))
	}
	groups := (n.BitLen() + 6) / 7
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
