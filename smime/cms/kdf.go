package cms

import (
	"crypto"
	"encoding/binary"
)

// x963KDF derives size bytes from the shared secret z (ANSI X9.63; SEC 1, section
// 3.6.1).
func x963KDF(h crypto.Hash, z, sharedInfo []byte, size int) []byte {
	out := make([]byte, 0, size+h.Size())
	for counter := uint32(1); len(out) < size; counter++ {
		d := h.New()
		d.Write(z)
		d.Write(binary.BigEndian.AppendUint32(nil, counter))
		d.Write(sharedInfo)
		out = d.Sum(out)
	}
	return out[:size]
}

// eccSharedInfo is what binds a key-encryption key to its use (RFC 5753, section 7.2).
//
//	ECC-CMS-SharedInfo ::= SEQUENCE {
//	  keyInfo      AlgorithmIdentifier,
//	  entityUInfo  [0] EXPLICIT OCTET STRING OPTIONAL,
//	  suppPubInfo  [2] EXPLICIT OCTET STRING }
func eccSharedInfo(wrap algorithm, ukm []byte, kekSize int) []byte {
	var entity []byte
	if ukm != nil {
		entity = tlv(derExplicit, tlv(derOctetString, ukm))
	}
	bits := binary.BigEndian.AppendUint32(nil, uint32(8*kekSize))
	return tlv(derSequence, wrap.der(), entity, tlv(derExplicit|2, tlv(derOctetString, bits)))
}

// wrapKeySize is the size of the key of an AES key wrap algorithm (RFC 3565), or 0.
func wrapKeySize(id OID) int {
	switch id {
	case oidAES128Wrap:
		return 16
	case oidAES192Wrap:
		return 24
	case oidAES256Wrap:
		return 32
	}
	return 0
}

// The key agreement schemes of RFC 5753, section 7.1.4. On our curves, whose cofactor
// is 1, the cofactor scheme is the standard scheme under another name.
const (
	oidStdDHSHA1   OID = "1.3.133.16.840.63.0.2"
	oidCofDHSHA1   OID = "1.3.133.16.840.63.0.3"
	oidStdDHSHA224 OID = "1.3.132.1.11.0"
	oidStdDHSHA256 OID = "1.3.132.1.11.1"
	oidStdDHSHA384 OID = "1.3.132.1.11.2"
	oidStdDHSHA512 OID = "1.3.132.1.11.3"
	oidCofDHSHA224 OID = "1.3.132.1.14.0"
	oidCofDHSHA256 OID = "1.3.132.1.14.1"
	oidCofDHSHA384 OID = "1.3.132.1.14.2"
	oidCofDHSHA512 OID = "1.3.132.1.14.3"
)

// The schemes that derive the key by HKDF (RFC 5869; RFC 8418, section 2.2).
const (
	oidHKDFSHA256 OID = "1.2.840.113549.1.9.16.3.19"
	oidHKDFSHA384 OID = "1.2.840.113549.1.9.16.3.20"
	oidHKDFSHA512 OID = "1.2.840.113549.1.9.16.3.21"
)

// agreementHash is the digest of the KDF of a key agreement scheme, or 0, and whether
// that KDF is HKDF.
func agreementHash(id OID) (h crypto.Hash, hkdf bool) {
	switch id {
	case oidStdDHSHA1, oidCofDHSHA1:
		return crypto.SHA1, false
	case oidStdDHSHA224, oidCofDHSHA224:
		return crypto.SHA224, false
	case oidStdDHSHA256, oidCofDHSHA256:
		return crypto.SHA256, false
	case oidStdDHSHA384, oidCofDHSHA384:
		return crypto.SHA384, false
	case oidStdDHSHA512, oidCofDHSHA512:
		return crypto.SHA512, false
	case oidHKDFSHA256:
		return crypto.SHA256, true
	case oidHKDFSHA384:
		return crypto.SHA384, true
	case oidHKDFSHA512:
		return crypto.SHA512, true
	}
	return 0, false
}
