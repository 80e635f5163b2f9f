// Package cms reads and writes the Cryptographic Message Syntax (RFC 5652) as S/MIME
// 4.0 uses it (RFC 8551): EnvelopedData with RSA key transport and elliptic-curve key
// agreement (RFC 5753), SignedData detached and opaque, and, for reading,
// AuthEnvelopedData with AES-GCM (RFC 5083, RFC 5084).
//
// What comes in may be BER, with indefinite lengths and strings in pieces, and is read
// under Limits; what goes out is DER. Nothing here decides whom to believe: a
// certificate found in a message is only a candidate, and that belongs to smime/trust.
//
// Every parser returns an error for bad input and never panics. All functions may be
// called from several goroutines; values are not changed after parsing.
package cms

import (
	"cmmpd/internal/mail"
)

// OID is an object identifier in dotted form, such as "1.2.840.113549.1.7.1".
type OID string

// Content types: what a ContentInfo holds, and what is inside it.
const (
	Data              OID = "1.2.840.113549.1.7.1"
	SignedData        OID = "1.2.840.113549.1.7.2"
	EnvelopedData     OID = "1.2.840.113549.1.7.3"
	EncryptedData     OID = "1.2.840.113549.1.7.6"
	CompressedData    OID = "1.2.840.113549.1.9.16.1.9"
	AuthEnvelopedData OID = "1.2.840.113549.1.9.16.1.23"
)

// Limits bound what a parser accepts, and say which outdated algorithms a policy still
// lets it read. Zero numbers take the defaults.
type Limits struct {
	Size         int // bytes of the whole structure; default 128 MiB
	Depth        int // nesting; default and maximum 32
	Elements     int // headers of elements looked at, those looked at again included; default 4,194,304
	Recipients   int // default 2,000
	Certificates int // default 100
	Signers      int // default 16
	Attributes   int // in one set; default 64

	TripleDES bool // read three-key triple DES (old mail)
	SHA1      bool // accept signatures made with SHA-1 (old mail)
}

// ContentType says which kind of ContentInfo ber holds without reading further.
func ContentType(ber []byte) (OID, error) {
	return "", errNotYet()
}

func errNotYet() error { return mail.E(mail.Unsupported, "not yet", nil) }
