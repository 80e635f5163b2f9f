package cms

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"cmmpd/internal/mail"
)

// lies is a content that writes other than what it says.
type lies struct {
	size int
	b    []byte
	err  error
}

func (l lies) Size() int { return l.size }

func (l lies) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(l.b)
	return int64(n), errors.Join(err, l.err)
}

// TestContentThatFails: no message comes of it, and its text is not left behind.
func TestContentThatFails(t *testing.T) {
	alice := people(t)["alice"]
	for name, c := range map[string]Content{
		"shorter": lies{100, text(50), nil}, "longer": lies{100, text(101), nil}, "failing": lies{100, text(100), io.ErrUnexpectedEOF},
	} {
		for _, cipher := range []Cipher{AES256CBC, AES256GCM} {
			var buf []byte
			place := func(n int) []byte { buf = make([]byte, n); return buf }
			err := EncryptTo(place, nil, cipher, Data, []RecipientSpec{{Cert: alice.cert}}, c)
			if mail.KindOf(err) != mail.Internal || bytes.Contains(buf, []byte("line")) {
				t.Errorf("%s, %v: %v, %q", name, cipher, err, buf)
			}
		}
		if c.(lies).err == nil {
			continue
		}
		if _, err := SignContent(nil, false, []SignerSpec{{Cert: alice.cert, Key: alice.key}}, SignOptions{}, c); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestContentInAnyPieces: how a content is cut does not show, and a signature within what is
// encrypted is made while it is written.
func TestContentInAnyPieces(t *testing.T) {
	all := people(t)
	plain := text(5000)
	for _, step := range []int{1, 16, 57, 4999, 5000} {
		var p Pieces
		for rest := plain; len(rest) > 0; rest = rest[min(step, len(rest)):] {
			p = append(p, rest[:min(step, len(rest))])
		}
		signed, err := SignContent(nil, false, []SignerSpec{{Cert: all["carol"].cert, Key: all["carol"].key}, {Cert: all["erin"].cert, Key: all["erin"].key}}, SignOptions{}, p)
		if err != nil {
			t.Fatal(err)
		}
		for _, cipher := range []Cipher{AES256CBC, AES256GCM} {
			var der []byte
			place := func(n int) []byte { der = make([]byte, n); return der }
			if err := EncryptTo(place, nil, cipher, SignedData, []RecipientSpec{{Cert: all["alice"].cert}}, signed); err != nil {
				t.Fatal(err)
			}
			e, err := ParseEnveloped(der, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			opened, err := e.Decrypt(all["alice"].opener(t))
			if err != nil || len(opened) != signed.Size() {
				t.Fatalf("%d bytes of %d, %v", len(opened), signed.Size(), err)
			}
			s, err := ParseSigned(opened, Limits{})
			if err != nil || !bytes.Equal(s.Content, plain) {
				t.Fatalf("%q, %v", s.Content, err)
			}
			for i := range s.Signers {
				if _, err := s.Verify(i, nil); err != nil {
					t.Error(err)
				}
			}
		}
	}
}
