package cms

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// fixed is a person whose key is the same in every process.
func fixed(t testing.TB) *person {
	t.Helper()
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte{0x42}, 32))
	if err != nil {
		t.Fatal(err)
	}
	return &person{selfSigned("fixed", 42, key), key}
}

// addSamples gives a fuzz target what openssl made (testdata/README).
func addSamples(f *testing.F) {
	f.Helper()
	names, err := filepath.Glob("testdata/*.ber")
	if err != nil || len(names) == 0 {
		f.Fatal("no samples", err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
}

func FuzzParseEnveloped(f *testing.F) {
	addSamples(f)
	p := fixed(f)
	k := p.opener(f)
	for _, c := range []Cipher{AES256CBC, AES128GCM} {
		b, err := Encrypt(nil, c, SignedData, []byte("content"), []RecipientSpec{{Cert: p.cert}})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(indefinite(f, b, p.cert.RawIssuer))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnveloped(b, Limits{TripleDES: true})
		if err != nil {
			return
		}
		for i := range e.Recipients {
			e.Recipients[i].Matches(p.cert)
		}
		if plain, err := e.Decrypt(k); err == nil && e.Cipher.Authenticated() && string(plain) != "content" {
			t.Fatalf("GCM gave %q", plain)
		}
	})
}

func FuzzParseSigned(f *testing.F) {
	addSamples(f)
	p := fixed(f)
	for _, detached := range []bool{true, false} {
		b, err := Sign(nil, []byte("content"), detached, []SignerSpec{{p.cert, p.key}}, SignOptions{
			Time: time.Unix(1795345000, 0), Capabilities: DefaultCapabilities(),
		})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSigned(b, Limits{SHA1: true})
		if err != nil {
			return
		}
		for i := range s.Signers {
			content := s.Content
			given := []byte(nil)
			if content == nil {
				content = []byte("content")
				given = content
			}
			got, err := s.Verify(i, given, p.cert)
			if err == nil && got.Cert.Equal(p.cert) && string(content) != "content" {
				t.Fatalf("a signature over %q", content)
			}
		}
	})
}
