// Package shares parts a secret among officers, so that some of them together have it and fewer have nothing: Shamir's
// scheme with Feldman's commitments, by which each share is proved before it is used, over ristretto255 (RFC 9496).
package shares

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/cloudflare/circl/group"
	"github.com/cloudflare/circl/secretsharing"
	"golang.org/x/crypto/cryptobyte"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

const (
	version    = 1
	idSize     = 16
	scalarSize = 32
	maxShares  = 30
	maxSecret  = 1000
	pemType    = "CMMPD SHARED SECRET"
)

// Mark is what a share begins with.
const Mark = "cmmpd-share-1:"

// Set is what is public of a secret that was parted. It gives nothing away without Threshold shares.
type Set struct {
	ID          [idSize]byte
	Threshold   int // so many shares have the secret
	Count       int // so many there are
	commitments []group.Element
	encoded     []byte // all but the sealed secret
	sealed      []byte // the secret, under a key that is made of the shared number
}

// Share is one officer's part.
type Share struct {
	set    [idSize]byte
	Number int // from 1
	value  group.Scalar
}

// Split parts a secret into n shares, of which k have it.
func Split(secret []byte, k, n int) (*Set, []Share, error) {
	if k < 2 || n < k || n > maxShares || len(secret) == 0 || len(secret) > maxSecret {
		return nil, nil, mail.E(mail.Invalid, "", fmt.Errorf("%d of %d shares: 2 to %d are possible", k, n, maxShares))
	}
	g := group.Ristretto255
	number := g.RandomNonZeroScalar(rand.Reader)
	sharing := secretsharing.New(rand.Reader, uint(k-1), number)
	s := &Set{Threshold: k, Count: n, commitments: sharing.CommitSecret()}
	if _, err := rand.Read(s.ID[:]); err != nil {
		return nil, nil, err
	}
	var err error
	if s.encoded, err = s.head(); err != nil {
		return nil, nil, err
	}
	w, err := s.wrapper(number)
	if err != nil {
		return nil, nil, err
	}
	if s.sealed, err = w.Wrap(rand.Reader, nil, secret, s.encoded); err != nil {
		return nil, nil, err
	}
	var list []Share
	for _, share := range sharing.Share(uint(n)) {
		list = append(list, Share{s.ID, len(list) + 1, share.Value})
	}
	return s, list, nil
}

// wrapper seals the secret under what the shared number gives.
func (s *Set) wrapper(number group.Scalar) (*keys.Wrapper, error) {
	b, err := number.MarshalBinary()
	if err != nil {
		return nil, err
	}
	defer clear(b)
	key, err := hkdf.Key(sha256.New, b, s.ID[:], "cmmpd shared secret 1", 32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return keys.NewWrapper(key)
}

// Of says which set the share belongs to.
func (s Share) Of() [16]byte { return s.set }

// Wipe makes the share worthless, and all copies of it.
func (s Share) Wipe() { s.value.SetUint64(0) }

// Check proves that a share is one of the set: by the commitments, not by trust. The error is of kind mail.Invalid.
func (s *Set) Check(share Share) error {
	switch {
	case share.set != s.ID:
		return mail.E(mail.Invalid, "", errors.New("this share belongs to another set: the secret was parted anew since"))
	case share.Number > s.Count || !secretsharing.Verify(uint(s.Threshold-1), share.scalar(), s.commitments):
		return mail.E(mail.Invalid, "", fmt.Errorf("share %d is not genuine", share.Number))
	}
	return nil
}

func (s Share) scalar() secretsharing.Share {
	return secretsharing.Share{ID: group.Ristretto255.NewScalar().SetUint64(uint64(s.Number)), Value: s.value}
}

// Combine has the secret of Threshold different shares. The error is of kind mail.Invalid if a share is not genuine or there are too few.
func (s *Set) Combine(list []Share) ([]byte, error) {
	var parts []secretsharing.Share
	seen := make(map[int]bool)
	for _, share := range list {
		if err := s.Check(share); err != nil {
			return nil, err
		}
		if !seen[share.Number] {
			seen[share.Number] = true
			parts = append(parts, share.scalar())
		}
	}
	if len(parts) < s.Threshold {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("%d different shares, %d are needed", len(parts), s.Threshold))
	}
	number, err := secretsharing.Recover(uint(s.Threshold-1), parts[:s.Threshold])
	if err != nil {
		return nil, mail.E(mail.Internal, "", err)
	}
	w, err := s.wrapper(number)
	if err != nil {
		return nil, err
	}
	return w.Unwrap(s.sealed, s.encoded)
}

// head is what is encoded before the sealed secret, which is bound to it.
func (s *Set) head() ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(version)
	b.AddBytes(s.ID[:])
	b.AddUint8(uint8(s.Threshold))
	b.AddUint8(uint8(s.Count))
	for _, c := range s.commitments {
		e, err := c.MarshalBinaryCompress()
		if err != nil {
			return nil, err
		}
		b.AddBytes(e)
	}
	return b.Bytes()
}

// Encode is the set as PEM.
func (s *Set) Encode() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: s.Bytes()})
}

// Bytes is the set as Encode has it, without the armour.
func (s *Set) Bytes() []byte { return append(bytes.Clone(s.encoded), s.sealed...) }

// ParseSet reads what Encode wrote. The error is of kind mail.Corrupt.
func ParseSet(text []byte) (*Set, error) {
	block, rest := pem.Decode(text)
	if block == nil || block.Type != pemType || len(block.Headers) > 0 || len(bytes.TrimSpace(rest)) > 0 {
		return nil, errSet("no PEM block " + pemType)
	}
	return ParseBytes(block.Bytes)
}

func errSet(why string) error {
	return mail.E(mail.Corrupt, "", fmt.Errorf("not a shared secret: %s", why))
}

// ParseBytes reads what Bytes returned. The error is of kind mail.Corrupt.
func ParseBytes(raw []byte) (*Set, error) {
	in := cryptobyte.String(raw)
	var v, k, n uint8
	var id []byte
	if !in.ReadUint8(&v) || v != version {
		return nil, errSet("another version")
	}
	if !in.ReadBytes(&id, idSize) || !in.ReadUint8(&k) || !in.ReadUint8(&n) || k < 2 || n < k || n > maxShares {
		return nil, errSet("the header")
	}
	s := &Set{ID: [idSize]byte(id), Threshold: int(k), Count: int(n)}
	for range k {
		var e []byte
		c := group.Ristretto255.NewElement()
		if !in.ReadBytes(&e, scalarSize) || c.UnmarshalBinary(e) != nil {
			return nil, errSet("a commitment")
		}
		s.commitments = append(s.commitments, c)
	}
	var err error
	if s.encoded, err = s.head(); err != nil || !bytes.HasPrefix(raw, s.encoded) {
		return nil, errSet("not as it is written")
	}
	if s.sealed = bytes.Clone(in); len(s.sealed) == 0 || len(s.sealed) > maxSecret+100 {
		return nil, errSet("the sealed secret")
	}
	return s, nil
}

// String is the share as an officer keeps and brings it: secret.
func (s Share) String() string {
	b, err := s.value.MarshalBinary()
	if err != nil {
		return ""
	}
	raw := append(append(append([]byte{}, s.set[:]...), byte(s.Number)), b...)
	sum := sha256.Sum256(raw)
	return Mark + base64.RawURLEncoding.EncodeToString(append(raw, sum[:4]...))
}

// ParseShare reads what String wrote, in whatever text it stands alone on a line. The error is of kind mail.Invalid and shows nothing of it.
func ParseShare(text string) (Share, error) {
	bad := func(why string) (Share, error) {
		return Share{}, mail.E(mail.Invalid, "", errors.New("not a share: "+why))
	}
	var found string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), Mark); ok {
			if found != "" {
				return bad("there are two")
			}
			found = rest
		}
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(found)
	if err != nil || len(raw) != idSize+1+scalarSize+4 {
		return bad("cut off or mistyped")
	}
	body := raw[:len(raw)-4]
	sum := sha256.Sum256(body)
	value := group.Ristretto255.NewScalar()
	number := int(body[idSize])
	if !bytes.Equal(sum[:4], raw[len(body):]) || number == 0 || number > maxShares || value.UnmarshalBinary(body[idSize+1:]) != nil {
		return bad("mistyped")
	}
	if again, err := value.MarshalBinary(); err != nil || !bytes.Equal(again, body[idSize+1:]) {
		return bad("not as it is written")
	}
	return Share{[idSize]byte(body[:idSize]), number, value}, nil
}
