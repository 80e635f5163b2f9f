package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os/exec"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// xena is somebody with a certificate of X25519. crypto/x509 makes none: it is one of Ed25519
// with the algorithm changed, so that nobody's signature is on it.
func xena(t testing.TB) (*x509.Certificate, *ecdh.PrivateKey) {
	t.Helper()
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	alice := people(t)["alice"]
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(2001), Subject: pkix.Name{CommonName: "xena"}, SubjectKeyId: []byte("xena's key"),
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageKeyAgreement,
	}, alice.cert, ed25519.PublicKey(key.PublicKey().Bytes()), alice.key)
	if err != nil {
		t.Fatal(err)
	}
	der = bytes.Replace(der, tlv(derSequence, oidEd25519.der()), tlv(derSequence, oidX25519.der()), 1)
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c, key
}

func eddie(t testing.TB) *person {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &person{selfSigned("eddie", 2002, key), key}
}

// TestX25519 encrypts to a key of X25519 among others (RFC 8418).
func TestX25519(t *testing.T) {
	cert, key := xena(t)
	all := people(t)
	k, err := NewKeyOpener(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	plain := text(100)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		der, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}, {Cert: cert}, {Cert: all["carol"].cert}}, plain)
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseEnveloped(der, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range []KeyOpener{k, all["alice"].opener(t), all["carol"].opener(t)} {
			if got, err := e.Decrypt(k); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v: %v", c, err)
			}
		}
		names := 0
		for i := range e.Recipients {
			if r := &e.Recipients[i]; r.Matches(cert) {
				names++
				if r.Algorithm != "ecdh-sha256hkdf-aes256wrap" || !r.Fits(cert) || r.Fits(all["carol"].cert) || r.Fits(all["alice"].cert) {
					t.Errorf("%+v", r)
				}
			}
		}
		if names != 1 {
			t.Errorf("named %d times", names)
		}
	}
	// The same key by each KDF, with and without keying material.
	for _, scheme := range []OID{oidHKDFSHA256, oidHKDFSHA384, oidHKDFSHA512, oidStdDHSHA256, oidStdDHSHA512} {
		for _, ukm := range [][]byte{nil, []byte("material")} {
			a := agreement{scheme: scheme, wrap: algorithm{oidAES128Wrap, nil}, kind: oidX25519, ukm: ukm}
			der, _ := agreedMessage(t, a, ecdh.X25519(), key.PublicKey(), cert, plain)
			e, err := ParseEnveloped(der, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Decrypt(k); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %v", scheme, err)
			}
		}
	}
	if _, err := NewKeyOpener(cert, all["carol"].key); mail.KindOf(err) != mail.Invalid {
		t.Errorf("somebody else's key: %v", err)
	}
	if _, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{{Cert: eddie(t).cert}}, plain); mail.KindOf(err) != mail.Invalid {
		t.Errorf("to a key that only signs: %v", err)
	}
}

// TestX25519Refuses: originators that are no good agree on nothing, and say no more than any
// other message that does not open.
func TestX25519Refuses(t *testing.T) {
	cert, key := xena(t)
	k, err := NewKeyOpener(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	good := agreement{scheme: oidHKDFSHA256, wrap: algorithm{oidAES256Wrap, nil}, kind: oidX25519}
	der, point := agreedMessage(t, good, ecdh.X25519(), key.PublicKey(), cert, text(10))
	zero, order8 := make([]byte, 32), make([]byte, 32)
	order8[0] = 1
	for name, p := range map[string][]byte{"zero": zero, "low order": order8, "another": bytes.Repeat([]byte{9}, 32)} {
		e, err := ParseEnveloped(bytes.Replace(der, point, p, 1), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Decrypt(k); !errors.Is(err, ErrDecrypt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	odd := good
	odd.kind = oidECPublicKey
	der, _ = agreedMessage(t, odd, ecdh.X25519(), key.PublicKey(), cert, text(10))
	e, err := ParseEnveloped(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Decrypt(k); !errors.Is(err, ErrDecrypt) || e.Recipients[0].Fits(cert) {
		t.Errorf("a key that says it is on another curve: %v", err)
	}
}

// agreedMessage is encrypted to one recipient by key agreement as a says, and the ephemeral key.
func agreedMessage(t testing.TB, a agreement, curve ecdh.Curve, to *ecdh.PublicKey, cert *x509.Certificate, plain []byte) (der, point []byte) {
	t.Helper()
	ephemeral, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	z, err := ephemeral.ECDH(to)
	if err != nil {
		t.Fatal(err)
	}
	kek, err := a.keyEncryptionKey(z)
	if err != nil {
		t.Fatal(err)
	}
	key := bytes.Repeat([]byte{5}, 32)
	wrapped, err := wrapKey(kek, key)
	if err != nil {
		t.Fatal(err)
	}
	point = ephemeral.PublicKey().Bytes()
	var ukm []byte
	if a.ukm != nil {
		ukm = tlv(derExplicit|1, tlv(derOctetString, a.ukm))
	}
	ri := tlv(derExplicit|1, small(3),
		tlv(derExplicit, tlv(derExplicit|1, algorithm{a.kind, nil}.der(), tlv(derBitString, append([]byte{0}, point...)))),
		ukm, algorithm{a.scheme, a.wrap.der()}.der(),
		tlv(derSequence, tlv(derSequence, tlv(derExplicit, tlv(derOctetString, cert.SubjectKeyId)), tlv(derOctetString, wrapped))))
	place := func(size int) []byte { der = make([]byte, size); return der }
	err = encryptCBC(place, nil, AES256CBC, key, Data, Pieces{plain}, pieces{small(2), tlv(derSet, ri)})
	if err != nil {
		t.Fatal(err)
	}
	return der, point
}

// TestX25519ByOpenSSL takes a message of ours apart and opens it with OpenSSL's primitives, as
// RFC 8418 says: the program itself reads no such recipient.
func TestX25519ByOpenSSL(t *testing.T) {
	o := newOpenssl(t)
	cert, key := xena(t)
	plain := text(40)
	der, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{{Cert: cert}}, plain)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnveloped(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	run := func(in []byte, args ...string) []byte {
		t.Helper()
		cmd := exec.Command(o.path, args...)
		cmd.Dir, cmd.Stdin = o.dir, bytes.NewReader(in)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("openssl %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	o.write("x.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	// SubjectPublicKeyInfo of RFC 8410
	spki := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x6e, 0x03, 0x21, 0x00}, e.Recipients[0].agreement.originator...)
	o.write("ephemeral.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))
	z := run(nil, "pkeyutl", "-derive", "-inkey", "x.key", "-peerkey", "ephemeral.pub")
	// ECC-CMS-SharedInfo: id-aes256-wrap, and 256 bits
	const info = "3015300b060960864801650304012da206040400000100"
	kek := run(nil, "kdf", "-keylen", "32", "-kdfopt", "digest:SHA2-256", "-kdfopt", "hexkey:"+hex.EncodeToString(z), "-kdfopt", "hexinfo:"+info, "-binary", "HKDF")
	cek := run(e.Recipients[0].key, "enc", "-d", "-id-aes256-wrap", "-K", hex.EncodeToString(kek), "-iv", "a6a6a6a6a6a6a6a6")
	got := run(e.encrypted, "enc", "-d", "-aes-256-cbc", "-K", hex.EncodeToString(cek), "-iv", hex.EncodeToString(e.content.iv))
	if !bytes.Equal(got, plain) {
		t.Errorf("openssl reads %q", got)
	}
}

// TestEd25519 signs and verifies by RFC 8419, with and without signed attributes.
func TestEd25519(t *testing.T) {
	p, alice := eddie(t), people(t)["alice"]
	content := text(60)
	for _, detached := range []bool{true, false} {
		der, err := Sign(nil, detached, []SignerSpec{{Cert: p.cert, Key: p.key}, {Cert: alice.cert, Key: alice.key}}, SignOptions{Time: time.Now()}, content)
		if err != nil {
			t.Fatal(err)
		}
		if err := checkDER(der, maxDepth); err != nil {
			t.Error(err)
		}
		s, err := ParseSigned(der, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		given := content
		if !detached {
			given = nil
		}
		seen := ""
		for i := range s.Signers {
			r, err := s.Verify(i, given)
			if err != nil {
				t.Errorf("signature %d: %v", i, err)
				continue
			}
			seen += r.Algorithm + " "
		}
		if !strings.Contains(seen, "ed25519-sha512") || !strings.Contains(seen, "rsa-sha256") {
			t.Errorf("algorithms: %s", seen)
		}
		for i := range der {
			bad := bytes.Clone(der)
			bad[i] ^= 0x10
			s, err := ParseSigned(bad, Limits{})
			if err != nil {
				continue
			}
			for j := range s.Signers {
				if r, err := s.Verify(j, given); err == nil && r.Algorithm == "ed25519-sha512" && (!r.Cert.Equal(p.cert) || !detached && !bytes.Equal(s.Content, content)) {
					t.Errorf("byte %d changed and verified", i)
				}
			}
		}
	}
	if _, err := Sign(nil, true, []SignerSpec{{Cert: p.cert, Key: alice.key}}, SignOptions{}, content); mail.KindOf(err) != mail.Invalid {
		t.Errorf("with another's key: %v", err)
	}

	// Without signed attributes the signature is over the content itself.
	sign := func(digest algorithm, message []byte) []byte {
		signature, err := p.key.Sign(nil, message, crypto.Hash(0))
		if err != nil {
			t.Fatal(err)
		}
		return contentInfo(SignedData, pieces{tlv(derSequence, small(1), tlv(derSet, digest.der()),
			tlv(derSequence, Data.der(), tlv(derExplicit, tlv(derOctetString, content))), tlv(derExplicit, p.cert.Raw),
			tlv(derSet, tlv(derSequence, small(1), issuerAndSerial(p.cert), digest.der(), algorithm{oidEd25519, nil}.der(), tlv(derOctetString, signature))))}).join()
	}
	for name, c := range map[string]struct {
		der  []byte
		want mail.Kind
	}{
		"bare":           {sign(algorithm{oidSHA512, nil}, content), 0},
		"over a digest":  {sign(algorithm{oidSHA512, nil}, sum(crypto.SHA512, content)), mail.Invalid},
		"another digest": {sign(algorithm{oidSHA256, nil}, content), mail.Unsupported},
	} {
		s, err := ParseSigned(c.der, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = s.Verify(0, nil); (c.want == 0) != (err == nil) || err != nil && mail.KindOf(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestPSS: OpenSSL verifies our RSASSA-PSS, and so do we.
func TestPSS(t *testing.T) {
	o, alice := newOpenssl(t), people(t)["alice"]
	content := text(60)
	der, err := Sign(nil, false, []SignerSpec{{Cert: alice.cert, Key: alice.key, PSS: true}}, SignOptions{}, content)
	if err != nil {
		t.Fatal(err)
	}
	if got := o.run(der, "-verify", "-binary", "-inform", "DER", "-CAfile", "alice.pem", "-purpose", "any"); !bytes.Equal(got, content) {
		t.Errorf("openssl reads %q", got)
	}
	s, err := ParseSigned(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Verify(0, nil); err != nil || r.Algorithm != "rsa-pss-sha256" {
		t.Errorf("%+v, %v", r, err)
	}
}
