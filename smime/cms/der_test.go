package cms

import (
	"bytes"
	"encoding/asn1"
	"math/big"
	"testing"
)

// TestAppend: what is appended is what is built from inside out, and what was there before stays.
func TestAppend(t *testing.T) {
	before := []byte("before")
	for _, n := range []int{0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x10000, 1 << 24} {
		content := bytes.Repeat([]byte{0xa5}, n)
		want := append(bytes.Clone(before), tlv(derSequence, content)...)
		if got := appendElement(bytes.Clone(before), derSequence, func(b []byte) []byte { return append(b, content...) }); !bytes.Equal(got, want) {
			t.Errorf("an element of %d octets begins with %x", n, got[:min(len(got), 20)])
		}
		if got := appendString(bytes.Clone(before), derSequence, content); !bytes.Equal(got, want) {
			t.Errorf("a string of %d octets begins with %x", n, got[:min(len(got), 20)])
		}
		twice := tlv(derExplicit, tlv(derSequence, content))
		got := appendElement(nil, derExplicit, func(b []byte) []byte {
			return appendElement(b, derSequence, func(b []byte) []byte { return append(b, content...) })
		})
		if !bytes.Equal(got, twice) {
			t.Errorf("two elements around %d octets begin with %x", n, got[:min(len(got), 20)])
		}
	}
}

// TestNumbers compares with encoding/asn1.
func TestNumbers(t *testing.T) {
	for _, base := range []uint{0, 7, 8, 15, 16, 63, 64, 159, 160, 2048} {
		for near := int64(-2); near <= 2; near++ {
			n := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), base), big.NewInt(near))
			for _, n := range []*big.Int{n, new(big.Int).Neg(n)} {
				want, err := asn1.Marshal(n)
				if err != nil {
					t.Fatal(err)
				}
				if got := integer(n); !bytes.Equal(got, want) {
					t.Errorf("%d: %x, not %x", n, got, want)
				}
			}
		}
	}
}

// TestEncodedAlgorithms: what is written down is what the algorithms are.
func TestEncodedAlgorithms(t *testing.T) {
	if want := oaepSHA256().der(); derOAEP != string(want) {
		t.Errorf("OAEP is %x", want)
	}
	if want := (algorithm{oidRSA, null()}).der(); derPKCS1v15 != string(want) {
		t.Errorf("PKCS #1 v1.5 is %x", want)
	}
}
