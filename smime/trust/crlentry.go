package trust

import (
	"crypto/x509"
	"errors"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

var errList = errors.New("malformed revocation list")

// splitList takes the revokedCertificates out of a CertificateList, so that crypto/x509
// reads the rest, and a list of a million certificates does not become a million of its
// structures. entries is what was within; tbs is what was signed.
func splitList(der []byte) (rest, tbs []byte, entries cryptobyte.String, err error) {
	in := cryptobyte.String(der)
	var list, signed, element cryptobyte.String
	if !in.ReadASN1(&list, cbasn1.SEQUENCE) || !in.Empty() || !list.ReadASN1Element(&signed, cbasn1.SEQUENCE) {
		return nil, nil, nil, errList
	}
	tbs = signed
	var body cryptobyte.String
	if !signed.ReadASN1(&body, cbasn1.SEQUENCE) {
		return nil, nil, nil, errList
	}
	after := body
	if !after.SkipOptionalASN1(cbasn1.INTEGER) || !after.SkipASN1(cbasn1.SEQUENCE) || !after.SkipASN1(cbasn1.SEQUENCE) || !skipTime(&after) {
		return nil, nil, nil, errList
	}
	if after.PeekASN1Tag(cbasn1.UTCTime) || after.PeekASN1Tag(cbasn1.GeneralizedTime) {
		skipTime(&after)
	}
	before := body[:len(body)-len(after)]
	if !after.PeekASN1Tag(cbasn1.SEQUENCE) {
		return der, tbs, nil, nil
	}
	if !after.ReadASN1(&entries, cbasn1.SEQUENCE) {
		return nil, nil, nil, errList
	}
	element = after
	var b cryptobyte.Builder
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(before)
			b.AddBytes(element)
		})
		b.AddBytes(list)
	})
	rest, err = b.Bytes()
	return rest, tbs, entries, err
}

// skipTime skips a Time.
func skipTime(in *cryptobyte.String) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.SkipASN1(cbasn1.UTCTime)
	}
	return in.SkipASN1(cbasn1.GeneralizedTime)
}

// Extensions of an entry (RFC 5280, section 5.3), in DER without tag.
const (
	extReasonCode     = "\x55\x1d\x15"
	extInvalidityDate = "\x55\x1d\x18"
	extCertIssuer     = "\x55\x1d\x1d"
)

// readEntries puts the revoked certificates into maps. In an indirect list an entry
// belongs to the issuer last named (section 5.3.3).
func (r *revocations) readEntries(in cryptobyte.String) error {
	const least = 20 // bytes of an entry
	issuer := r.issuerKey
	r.entries = map[string]map[string]entry{issuer: make(map[string]entry, len(in)/(2*least))}
	for !in.Empty() {
		var seq, serial, extensions cryptobyte.String
		var at time.Time
		var there bool
		if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&serial, cbasn1.INTEGER) || !minimal(serial) ||
			!readTime(&seq, &at) || !seq.ReadOptionalASN1(&extensions, &there, cbasn1.SEQUENCE) || !seq.Empty() {
			return errList
		}
		e := entry{at: at.Unix()}
		for !extensions.Empty() {
			named, err := r.entryExtension(&extensions, &e)
			if err != nil {
				return err
			}
			if named != nil {
				if issuer = named.key(); r.entries[issuer] == nil {
					r.entries[issuer] = map[string]entry{}
				}
			}
		}
		r.entries[issuer][string(serial)] = e
	}
	return nil
}

// entryExtension reads the next extension of an entry. It returns the issuer, if that is
// what the extension names.
func (r *revocations) entryExtension(in *cryptobyte.String, e *entry) (name, error) {
	var seq, oid, value cryptobyte.String
	var critical bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !seq.ReadASN1(&oid, cbasn1.OBJECT_IDENTIFIER) ||
		seq.PeekASN1Tag(cbasn1.BOOLEAN) && !seq.ReadASN1Boolean(&critical) || !seq.ReadASN1(&value, cbasn1.OCTET_STRING) || !seq.Empty() {
		return nil, errList
	}
	switch string(oid) {
	case extReasonCode:
		var code int
		if !value.ReadASN1Enum(&code) || code < 0 || code > 255 {
			return nil, errList
		}
		e.reason = uint8(code)
	case extCertIssuer:
		n, err := certificateIssuer(value)
		if err != nil || !r.scope.indirect {
			r.reject = "the revocation list names issuers where it may not, or not by name"
			return nil, nil
		}
		return n, nil
	case extInvalidityDate:
	default:
		if critical {
			r.reject = "the revocation list has entries with an unknown critical extension"
		}
	}
	return nil, nil
}

func readTime(in *cryptobyte.String, t *time.Time) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.ReadASN1UTCTime(t)
	}
	return in.ReadASN1GeneralizedTime(t)
}

// minimal says whether v is the content of an INTEGER in DER.
func minimal(v []byte) bool {
	return len(v) == 1 || len(v) > 1 && !(v[0] == 0 && v[1] < 0x80) && !(v[0] == 0xff && v[1] >= 0x80)
}

// serialKey is the content of a serial number in DER: negative ones are told apart.
func serialKey(n *big.Int) string {
	var b cryptobyte.Builder
	b.AddASN1BigInt(n)
	in := cryptobyte.String(b.BytesOrPanic())
	var v cryptobyte.String
	in.ReadASN1(&v, cbasn1.INTEGER)
	return string(v)
}

// parseList reads one list in DER.
func parseList(der []byte, source string) (*revocations, error) {
	rest, tbs, entries, err := splitList(der)
	if err != nil {
		return nil, err
	}
	list, err := x509.ParseRevocationList(rest)
	if err != nil {
		return nil, err
	}
	r := &revocations{
		source: source, issuer: parseName(list.RawIssuer), made: list.ThisUpdate, next: list.NextUpdate, number: list.Number,
		tbs: tbs, signature: list.Signature, algorithm: list.SignatureAlgorithm, trusted: map[string]bool{},
	}
	r.issuerKey = r.issuer.key()
	r.readExtensions(list)
	return r, r.readEntries(entries)
}
