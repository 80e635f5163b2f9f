package seen

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

var alice = mail.MustParseAddress("alice@partner.example")

func cert(s string) *x509.Certificate { return &x509.Certificate{Raw: []byte(s)} }

func open(t testing.TB, dir string, key byte) *Book {
	t.Helper()
	b, err := Open(dir, bytes.Repeat([]byte{key}, 32), true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func of(t *testing.T, b *Book, a mail.Address) string {
	t.Helper()
	ders, err := b.Of(a)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Join(ders, []byte(" ")))
}

func TestBook(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "seen")
	b := open(t, dir, 1)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if of(t, b, alice) != "" {
		t.Error("something was there")
	}
	b.Note(alice, now, cert("one"), cert("two"))
	b.Note(mail.MustParseAddress("ALICE@partner.example"), now.Add(48*time.Hour), cert("two"))
	b.Note(mail.MustParseAddress("bob@partner.example"), now, cert("three"))
	b = open(t, dir, 1)
	if got := of(t, b, alice); got != "two one" {
		t.Errorf("%q", got)
	}
	for i := range 2 * maxCertificates {
		b.Note(alice, now.Add(time.Duration(72+i)*time.Hour), cert(fmt.Sprint("c", i)))
	}
	if got := strings.Fields(of(t, b, alice)); len(got) != maxCertificates || got[0] != "c15" {
		t.Errorf("%q", got)
	}
	people := 0
	if err := b.All(func(p Person) error {
		people++
		if p.Address == "bob@partner.example" && (len(p.Certificates) != 1 || !p.Certificates[0].First.Equal(now)) {
			t.Errorf("%+v", p)
		}
		return nil
	}); err != nil || people != 2 {
		t.Errorf("%d people, %v", people, err)
	}

	// Nothing on the disk says who or what; another key, another name or a changed bit opens nothing.
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Fatalf("%v %v", entries, err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil || bytes.Contains(data, []byte("partner")) || bytes.Contains(data, []byte("c15")) {
			t.Errorf("%s: %v", e.Name(), err)
		}
		if _, err := b.open(b.file(mail.MustParseAddress("x@x.example")), data); err == nil {
			t.Error("a file was taken for another's")
		}
		data[len(data)-1] ^= 1
		if _, err := b.open(e.Name(), data); err == nil {
			t.Error("a changed file was read")
		}
	}
	if got := of(t, open(t, dir, 2), alice); got != "" {
		t.Errorf("with another key: %q", got)
	}
	if _, err := Open(dir, []byte("short"), true, slog.Default()); err == nil {
		t.Error("a short key")
	}
}

// A book that is full remembers nobody new, and goes on with those it knows.
func TestFullBook(t *testing.T) {
	b := open(t, t.TempDir(), 1)
	b.Note(alice, time.Now(), cert("one"))
	b.count = maxAddresses
	bob := mail.MustParseAddress("bob@partner.example")
	b.Note(bob, time.Now(), cert("two"))
	b.Note(alice, time.Now(), cert("three"))
	if of(t, b, bob) != "" || len(strings.Fields(of(t, b, alice))) != 2 {
		t.Error("full")
	}
}

func FuzzOpen(f *testing.F) {
	b := open(f, f.TempDir(), 1)
	b.Note(alice, time.Now(), cert("one"))
	data, err := os.ReadFile(filepath.Join(b.dir, b.file(alice)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := b.open("x", data); err == nil {
			t.Fatalf("%+v", p)
		}
	})
}
