// Package cms reads and writes the Cryptographic Message Syntax (RFC 5652) as S/MIME
// 4.0 uses it (RFC 8551): EnvelopedData with RSA key transport and elliptic-curve key
// agreement (RFC 5753), AuthEnvelopedData with AES-GCM (RFC 5083, RFC 5084), and
// SignedData, detached and opaque.
//
// What comes in may be BER, with indefinite lengths and strings in pieces, and is read
// under Limits; what goes out is DER. Nothing here decides whom to believe: a
// certificate found in a message is only a candidate, and that belongs to smime/trust.
//
// Every parser returns an error for bad input and never panics. Values are not changed
// after parsing, so all functions may be called from several goroutines. Parsed values
// keep slices of the input, which must not be changed while they are in use.
package cms

import (
	"errors"
	"fmt"

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

	TripleDES bool // open messages encrypted with three-key triple DES (old mail)
	SHA1      bool // accept signatures made with SHA-1 (old mail)
}

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{
		{&l.Size, 128 << 20},
		{&l.Depth, maxDepth},
		{&l.Elements, 4 << 20},
		{&l.Recipients, 2000},
		{&l.Certificates, 100},
		{&l.Signers, 16},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	l.Depth = min(l.Depth, maxDepth)
	return l
}

// malformed is what a stranger hears about a structure that cannot be read.
func malformed(cause error) error {
	if errors.Is(cause, errTooMany) || errors.Is(cause, errTooDeep) {
		return mail.E(mail.TooLarge, "the S/MIME structure is too large", cause)
	}
	return mail.E(mail.Invalid, "the S/MIME structure is malformed", cause)
}

// guard turns a panic into an error of kind Internal. None is known, but a message must
// not be able to stop the platform.
func guard(err *error) {
	if v := recover(); v != nil {
		*err = mail.E(mail.Internal, "", fmt.Errorf("panic in cms: %v", v))
	}
}

// ContentType says which kind of ContentInfo ber holds without reading further.
func ContentType(ber []byte) (OID, error) {
	h, err := readHeader(ber)
	if err != nil || h.tag != tagSequence || !h.constructed {
		return "", malformed(errMissing)
	}
	r := &reader{&budget{elements: 1, depth: 1}, ber[h.size:], 1}
	id, err := r.readOID()
	if err != nil {
		return "", malformed(err)
	}
	return id, nil
}

// openContentInfo reads the outermost structure (RFC 5652, section 3) and returns what
// is inside its content.
//
//	ContentInfo ::= SEQUENCE {
//	  contentType  ContentType,
//	  content      [0] EXPLICIT ANY DEFINED BY contentType }
func openContentInfo(ber []byte, lim Limits) (OID, *reader, error) {
	if len(ber) > lim.Size {
		return "", nil, errTooMany
	}
	r := &reader{&budget{elements: lim.Elements, depth: lim.Depth}, ber, 0}
	info, err := r.enter(tagSequence)
	if err != nil {
		return "", nil, err
	}
	if err := r.end(); err != nil {
		return "", nil, err
	}
	id, err := info.readOID()
	if err != nil {
		return "", nil, err
	}
	content, err := info.enter(context(0))
	if err != nil {
		return "", nil, err
	}
	return id, content, info.end()
}

func notA(want string, got OID) error {
	return mail.E(mail.Unsupported, "the S/MIME structure is of another kind", errors.New("want "+want+", got "+string(got)))
}
