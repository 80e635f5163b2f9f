package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/internal/mail"
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
		b, err := Encrypt(nil, c, SignedData, []RecipientSpec{{Cert: p.cert}}, []byte("content"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(indefinite(f, b, p.cert.RawIssuer))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEnveloped(b, Limits{TripleDES: true})
		if err != nil {
			if mail.KindOf(err) == mail.Internal {
				t.Fatal(err) // a panic
			}
			return
		}
		for i := range e.Recipients {
			e.Recipients[i].Matches(p.cert)
		}
		if plain, err := e.decrypt(k); err == nil && e.Cipher.Authenticated() && string(plain) != "content" {
			t.Fatalf("GCM gave %q", plain)
		}
	})
}

// bare is a SignedData over content, which it carries, without signed attributes.
func bare(t testing.TB, p *person, content []byte) []byte {
	t.Helper()
	signature, err := p.key.Sign(nil, sum(crypto.SHA256, content), crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	sha256 := hashAlgorithm(crypto.SHA256, nil).der()
	return contentInfo(SignedData, pieces{tlv(derSequence, small(1), tlv(derSet, sha256),
		tlv(derSequence, Data.der(), tlv(derExplicit, tlv(derOctetString, content))),
		tlv(derSet, tlv(derSequence, small(1), issuerAndSerial(p.cert), sha256,
			signatureAlgorithm(p.cert, crypto.SHA256).der(), tlv(derOctetString, signature))))}).join()
}

func FuzzParseSigned(f *testing.F) {
	addSamples(f)
	p := fixed(f)
	f.Add(bare(f, p, []byte("content")))
	for _, detached := range []bool{true, false} {
		b, err := Sign(nil, detached, []SignerSpec{{Cert: p.cert, Key: p.key}}, SignOptions{
			Time: time.Unix(1795345000, 0), Capabilities: someCapabilities(),
		}, []byte("content"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSigned(b, Limits{SHA1: true})
		if err != nil {
			if mail.KindOf(err) == mail.Internal {
				t.Fatal(err) // a panic
			}
			return
		}
		s.Labels()
		for i := range s.Signers {
			content := s.Content
			given := []byte(nil)
			if content == nil {
				content = []byte("content")
				given = content
			}
			got, err := s.Verify(i, given, p.cert)
			if err != nil && mail.KindOf(err) == mail.Internal {
				t.Fatal(err) // a panic
			}
			if err == nil && got.Cert.Equal(p.cert) && string(content) != "content" {
				t.Fatalf("a signature over %q", content)
			}
		}
	})
}

// FuzzAttributes reads signed attributes as if their signature were good.
func FuzzAttributes(f *testing.F) {
	p := fixed(f)
	label := &SecurityLabel{Policy: "1.2.3", Classification: 4, PrivacyMark: "x"}
	der, err := Sign(nil, true, []SignerSpec{{Cert: p.cert, Key: p.key}}, SignOptions{
		Time: time.Unix(1795345000, 0), Capabilities: Capabilities(), Label: label,
	}, []byte("content"))
	if err != nil {
		f.Fatal(err)
	}
	s, err := ParseSigned(der, Limits{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Signers[0].attrs)
	f.Fuzz(func(t *testing.T, b []byte) {
		attrs, err := parseAttributes(b)
		if err != nil {
			return
		}
		r := SignerResult{Cert: p.cert}
		_ = r.readAttributes(b, Data, sum(crypto.SHA256, []byte("content")))
		caps, err := attrs.capabilities()
		if err == nil {
			AbilitiesOf(caps)
		}
		_, _ = attrs.signingTime()
		_, _ = attrs.namesCertificate(p.cert)
		if l, err := attrs.one(oidAttrSecurityLabel); err == nil && l != nil {
			_, _ = parseSecurityLabel(l)
		}
	})
}

// FuzzOID: there is one encoding for each identifier.
func FuzzOID(f *testing.F) {
	f.Add([]byte{0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d})
	f.Add(bytes.Repeat([]byte{0xff}, 30))
	f.Fuzz(func(t *testing.T, content []byte) {
		id, err := decodeOID(element{content: content})
		if err != nil {
			return
		}
		if again := id.der(); !bytes.Equal(again, tlv(derOID, content)) {
			t.Fatalf("%x is %s, and that is %x", content, id, again)
		}
	})
}
