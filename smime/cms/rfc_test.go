package cms

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/smime/certkey"
)

// rfcText is an RFC as text from $CMMPD_RFC, packed or not. Debian's doc-rfc-informational has them
// in /usr/share/doc/RFC/informational; their licence keeps them out of here.
func rfcText(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("CMMPD_RFC")
	if dir == "" {
		t.Skip("CMMPD_RFC names no folder of RFCs")
	}
	if b, err := os.ReadFile(filepath.Join(dir, name+".txt")); err == nil {
		return string(b)
	}
	f, err := os.Open(filepath.Join(dir, name+".txt.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// rfc4134 are the files of RFC 4134, as its section 2 of the appendix gets them out of the text.
func rfc4134(t *testing.T) map[string][]byte {
	t.Helper()
	files, name, text := map[string][]byte{}, "", ""
	for line := range strings.Lines(rfcText(t, "rfc4134")) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "|>"):
			name, text = line[2:], ""
		case strings.HasPrefix(line, "|<") && name != "":
			b, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			files[name], name = b, ""
		case strings.HasPrefix(line, "|") && !strings.HasPrefix(line, "|*"):
			text += line[1:]
		}
	}
	if len(files) < 40 {
		t.Fatalf("only %d files", len(files))
	}
	return files
}

// TestRFC4134 reads the samples of RFC 4134. Nothing in them is of our time: their keys have 1024
// bits or are for DSA, their digest is SHA-1, their ciphers triple DES and RC2. So all must be
// understood and refused; that they were understood rightly shows once the floor of key sizes is out of the way.
func TestRFC4134(t *testing.T) {
	f := rfc4134(t)
	old := Limits{SHA1: true, TripleDES: true}
	rsaKey := func(name string) *rsa.PrivateKey {
		key, err := x509.ParsePKCS8PrivateKey(f[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return key.(*rsa.PrivateKey)
	}
	certificate := func(name string) *x509.Certificate {
		c, err := x509.ParseCertificate(f[name])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return c
	}
	content := f["ExContent.bin"]
	if !strings.HasPrefix(string(content), "This is some sample content.") {
		t.Fatalf("%q", content)
	}
	signed := map[string]struct {
		signers, rsa, certs, skipped int
		detached                     bool
	}{
		"4.1.bin": {1, 0, 1, 0, false}, "4.2.bin": {1, 1, 1, 0, false}, "4.3.bin": {1, 0, 1, 0, true}, "4.4.bin": {1, 0, 3, 0, false}, "4.5.bin": {1, 1, 2, 0, false},
		"4.6.bin": {2, 0, 1, 1, false}, "4.7.bin": {1, 0, 1, 0, false}, "4.10.bin": {1, 0, 1, 0, false}, "4.11.bin": {0, 0, 2, 0, true},
		"4.9.eml": {1, 0, 1, 0, false},
	}
	for _, name := range []string{"4.9.eml", "5.3.eml"} {
		_, body, _ := strings.Cut(strings.ReplaceAll(string(f[name]), "\r", ""), "\n\n")
		der, err := base64.StdEncoding.DecodeString(body)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f[name] = der
	}
	for name, want := range signed {
		s, err := ParseSigned(f[name], old)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(s.Signers) != want.signers || len(s.Certificates) != want.certs || s.Skipped != want.skipped || (s.Content == nil) != want.detached {
			t.Errorf("%s: %d signers, %d certificates and %d others, content %q", name, len(s.Signers), len(s.Certificates), s.Skipped, s.Content)
		}
		given := content
		if s.Content != nil {
			given = nil
		}
		byRSA := 0
		known := []*x509.Certificate{certificate("AliceRSASignByCarl.cer"), certificate("DianeRSASignByCarl.cer")}
		for i := range s.Signers {
			if _, err := s.Verify(i, given, known...); mail.KindOf(err) != mail.Unsupported && mail.KindOf(err) != mail.NotFound {
				t.Errorf("%s: %v", name, err)
			}
			for _, c := range known {
				if !s.Signers[i].Matches(c) {
					continue
				}
				if pub, ok := c.PublicKey.(*rsa.PublicKey); ok {
					byRSA++
					if err := verifyWeak(s, i, pub, content, c); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		}
		if byRSA != want.rsa {
			t.Errorf("%s: %d signatures by RSA, want %d", name, byRSA, want.rsa)
		}
	}

	bob := certificate("BobRSASignByCarl.cer")
	if _, err := NewKeyOpener(bob, rsaKey("BobPrivRSAEncrypt.pri")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a key of 1024 bits: %v", err)
	}
	for name, c := range map[string]Cipher{"5.1.bin": TripleDES, "5.2.bin": UnknownCipher, "5.3.eml": TripleDES} {
		e, err := ParseEnveloped(f[name], old)
		if err != nil || e.Cipher != c {
			t.Errorf("%s: %+v, %v", name, e, err)
			continue
		}
		i := slices.IndexFunc(e.Recipients, func(r RecipientInfo) bool { return r.Matches(bob) })
		if i < 0 {
			t.Errorf("%s: not to Bob: %+v", name, e.Recipients)
			continue
		}
		if c == UnknownCipher {
			continue
		}
		r := e.Recipients[i]
		key, err := (&softwareKey{rsa: rsaKey("BobPrivRSAEncrypt.pri")}).DecryptKey(*r.transport, r.key, c.KeySize())
		if err != nil {
			t.Fatal(err)
		}
		if plain, ok := e.open(key); !ok || !bytes.Contains(plain, content) {
			t.Errorf("%s: %q", name, plain)
		}
	}
	for _, name := range []string{"3.1.bin", "3.2.bin", "6.0.bin", "7.1.bin", "7.2.bin"} { // Data, DigestedData, EncryptedData
		if _, err := ParseEnveloped(f[name], old); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := ParseSigned(f[name], old); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// verifyWeak is Verify without the floor of key sizes.
func verifyWeak(s *Signed, i int, pub *rsa.PublicKey, content []byte, c *x509.Certificate) error {
	si := &s.Signers[i]
	digest := sum(si.Digest, content)
	if si.attrs != nil {
		res := SignerResult{Cert: c}
		if err := res.readAttributes(si.attrs, s.ContentType, digest); err != nil {
			return err
		}
		digest = sum(si.Digest, si.attrs)
	}
	return rsa.VerifyPKCS1v15(pub, si.Digest, digest, si.signature)
}

var rfcPEM = regexp.MustCompile(`(?s) *-----BEGIN (CERTIFICATE|PRIVATE KEY)-----.*?-----END [A-Z ]+-----`)

// TestRFC9216 uses the certificates and keys of RFC 9216 for all that they are for.
func TestRFC9216(t *testing.T) {
	var certs []*x509.Certificate
	var keys []any
	for _, text := range rfcPEM.FindAllString(rfcText(t, "rfc9216"), -1) {
		block, _ := pem.Decode([]byte(strings.ReplaceAll(text, "   ", "")))
		if block == nil {
			t.Fatalf("%q", text)
		}
		if block.Type == "CERTIFICATE" {
			c, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				t.Fatal(err)
			}
			certs = append(certs, c)
			continue
		}
		k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, k)
	}
	var signed, opened int
	content := text(1000)
	for _, c := range certs {
		issued := slices.ContainsFunc(certs, func(ca *x509.Certificate) bool {
			return ca.IsCA && certkey.CheckSignature(ca, c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) == nil
		})
		if !issued || checkCertificate(c) != nil {
			t.Errorf("%v: its issuer is there: %v; its key: %v", c.Subject, issued, checkCertificate(c))
		}
		for _, k := range keys {
			if o, err := NewKeyOpener(c, k); err == nil && c.KeyUsage&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) != 0 {
				opened++
				for _, cipher := range []Cipher{AES256CBC, AES256GCM} {
					der, err := Encrypt(nil, cipher, Data, []RecipientSpec{{Cert: c}}, content)
					if err != nil {
						t.Fatal(err)
					}
					e, err := ParseEnveloped(der, Limits{})
					if err != nil {
						t.Fatal(err)
					}
					if got, err := e.Decrypt(o); err != nil || !bytes.Equal(got, content) {
						t.Errorf("%v, %v: %v", c.Subject, cipher, err)
					}
				}
			}
			signer, ok := k.(crypto.Signer)
			if !ok || c.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
				continue
			}
			der, err := Sign(nil, false, []SignerSpec{{Cert: c, Key: signer}}, SignOptions{}, content)
			if err != nil {
				continue // another one's key
			}
			signed++
			s, err := ParseSigned(der, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			if r, err := s.Verify(0, nil); err != nil || !r.Cert.Equal(c) {
				t.Errorf("%v: %v", c.Subject, err)
			}
			if _, ed := signer.Public().(ed25519.PublicKey); ed && s.Signers[0].Digest != crypto.SHA512 {
				t.Errorf("%v: digest %v", c.Subject, s.Signers[0].Digest)
			}
		}
	}
	if len(certs) != 12 || len(keys) < 8 || signed < 4 || opened < 4 {
		t.Errorf("%d certificates, %d keys; %d signed, %d opened", len(certs), len(keys), signed, opened)
	}
}

// TestExamplesForRFC9216 reads messages that others made with those keys: a copy of
// draft-ireland-examples-cms (github.com/davidi67/examples-cms) in $CMMPD_CMS_EXAMPLES.
func TestExamplesForRFC9216(t *testing.T) {
	dir := os.Getenv("CMMPD_CMS_EXAMPLES")
	if dir == "" {
		t.Skip("CMMPD_CMS_EXAMPLES names no folder of examples")
	}
	in := func(path string) []byte {
		b, err := os.ReadFile(filepath.Join(dir, path))
		if err != nil {
			t.Fatal(err)
		}
		if block, _ := pem.Decode(b); block != nil {
			return block.Bytes
		}
		return b
	}
	certificate := func(name string) *x509.Certificate {
		c, err := x509.ParseCertificate(in("certs-and-keys/lamps-" + name + ".crt"))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const content = "This is some sample content."
	known := []*x509.Certificate{certificate("alice"), certificate("carlos")}
	for name, algorithms := range map[string][]string{
		"signedByAliceRSA": {"rsa-sha256"}, "signedByAliceRSAPSS": {"rsa-pss-sha256"}, "signedByCarlosEd25519": {"ed25519-sha512"},
		"signedByCarlosDetached": {"ed25519-sha512"}, "signedByAliceAndCarlosNoCerts": {"ed25519-sha512", "rsa-sha256"},
	} {
		s, err := ParseSigned(in("pem-encoded/"+name+".pem"), Limits{})
		if err != nil || len(s.Signers) != len(algorithms) {
			t.Errorf("%s: %+v, %v", name, s, err)
			continue
		}
		var given []byte
		if s.Content == nil {
			given = []byte(content)
		}
		for i := range s.Signers {
			if r, err := s.Verify(i, given, known...); err != nil || !slices.Contains(algorithms, r.Algorithm) {
				t.Errorf("%s: %s, %v", name, r.Algorithm, err)
			}
		}
	}
	for name, readers := range map[string][]string{
		"authEnvelopedForDanaX25519HKDF": {"dana"}, "encryptedForBobAndDana": {"bob", "dana"}, "encryptedForBobRSAOaep": {"bob"},
		"encryptedKekri": nil, "authEnvelopedForBobChaCha20Poly1305": nil,
	} {
		e, err := ParseEnveloped(in("pem-encoded/"+name+".pem"), Limits{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, who := range []string{"bob", "dana"} {
			key, err := x509.ParsePKCS8PrivateKey(in("certs-and-keys/lamps-" + who + ".decrypt.p8.pem"))
			if err != nil {
				t.Fatal(err)
			}
			o, err := NewKeyOpener(certificate(who+".encrypt"), key)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Decrypt(o)
			if want := slices.Contains(readers, who); (err == nil) != want || want && string(got) != content {
				t.Errorf("%s, %s: %q, %v", name, who, got, err)
			}
		}
	}
}
