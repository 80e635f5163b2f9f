package shares

import (
	"bytes"
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

// TestSplit has every group of enough shares find the secret, and no smaller one.
func TestSplit(t *testing.T) {
	secret := []byte("the PIN of the token")
	set, list, err := Split(secret, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	if set, err = ParseSet(set.Encode()); err != nil {
		t.Fatal(err)
	}
	for i, s := range list {
		if list[i], err = ParseShare("Share of an officer:\r\n\r\n  " + s.String() + "\r\n"); err != nil || list[i].Number != i+1 {
			t.Fatal(err)
		}
	}
	for mask := range 1 << len(list) {
		var some []Share
		for i, s := range list {
			if mask>>i&1 == 1 {
				some = append(some, s, s) // brought twice
			}
		}
		got, err := set.Combine(some)
		if len(some)/2 >= 3 {
			if err != nil || !bytes.Equal(got, secret) {
				t.Errorf("%b: %q, %v", mask, got, err)
			}
		} else if mail.KindOf(err) != mail.Invalid {
			t.Errorf("%b: %q, %v", mask, got, err)
		}
	}
	if bytes.Contains(set.Encode(), secret) || bytes.Contains(set.encoded, secret) {
		t.Error("the set shows the secret")
	}
	_, others, err := Split(secret, 3, 5)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Check(others[0]); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a share of another set: %v", err)
	}
	forged := Share{set.ID, 1, others[0].value}
	if err := set.Check(forged); mail.KindOf(err) != mail.Invalid || !strings.Contains(err.Error(), "share 1 is not genuine") {
		t.Errorf("a forged share: %v", err)
	}
	for _, c := range [][2]int{{1, 3}, {4, 3}, {2, 31}, {0, 0}} {
		if _, _, err := Split(secret, c[0], c[1]); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%v: %v", c, err)
		}
	}
}

// TestChanged changes every octet of a set and of a share.
func TestChanged(t *testing.T) {
	set, list, err := Split([]byte("secret"), 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	text := list[0].String()
	for i := range text {
		for _, c := range "Ax0" {
			if bad := text[:i] + string(c) + text[i+1:]; bad != text {
				if s, err := ParseShare(bad); err == nil && set.Check(s) == nil {
					t.Fatalf("%q for %q", bad, text)
				}
			}
		}
	}
	body := append(bytes.Clone(set.encoded), set.sealed...)
	for i := range body {
		bad := bytes.Clone(body)
		bad[i] ^= 1
		s := &Set{encoded: bad, sealed: nil}
		if s, err := ParseSet(s.Encode()); err == nil {
			if got, err := s.Combine(list); err == nil {
				t.Fatalf("octet %d changed: %q", i, got)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	set, list, err := Split([]byte("secret"), 2, 3)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(set.Encode())
	f.Add([]byte(list[0].String()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSet(b); err == nil {
			if again, err := ParseSet(s.Encode()); err != nil || !bytes.Equal(again.Encode(), s.Encode()) {
				t.Errorf("%q: %v", b, err)
			}
		}
		if s, err := ParseShare(string(b)); err == nil {
			if again, err := ParseShare(s.String()); err != nil || again.String() != s.String() {
				t.Errorf("%q: %v", b, err)
			}
		}
	})
}
