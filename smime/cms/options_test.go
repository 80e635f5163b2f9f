package cms

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

// pssSigner makes, in o's folder, a key for RSASSA-PSS alone and its certificate.
func (o *openssl) pssSigner(name string, options ...string) *x509.Certificate {
	o.t.Helper()
	for _, args := range [][]string{
		append([]string{"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-out", name + ".key"}, options...),
		{"req", "-x509", "-new", "-key", name + ".key", "-subj", "/CN=" + name, "-days", "2", "-sigopt", "rsa_pss_saltlen:digest", "-out", name + ".pem"},
		{"x509", "-in", name + ".pem", "-outform", "DER", "-out", name + ".der"},
	} {
		cmd := exec.Command(o.path, args...)
		cmd.Dir = o.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			o.t.Fatalf("openssl %q: %v: %s", args, err, out)
		}
	}
	der, err := os.ReadFile(filepath.Join(o.dir, name+".der"))
	if err != nil {
		o.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		o.t.Fatal(err)
	}
	return cert
}

// TestSigningOptionsOfOpenSSL are those that TestVerifyWhatOpenSSLSigns does not go through.
func TestSigningOptionsOfOpenSSL(t *testing.T) {
	o := newOpenssl(t)
	restrict := []string{"-pkeyopt", "rsa_pss_keygen_md:sha384", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha384", "-pkeyopt", "rsa_pss_keygen_saltlen:30"}
	o.pssSigner("free")
	o.pssSigner("bound", restrict...)
	content := text(300)
	by := func(names string, args ...string) []string {
		for _, name := range strings.Fields(names) {
			args = append(args, "-signer", name+".pem", "-inkey", name+".key")
		}
		return args
	}
	const pss = "rsa_padding_mode:pss"
	for name, c := range map[string]struct {
		args []string
		alg  []string // of the signers, in any order
		caps bool
		kind OID
	}{
		"no capabilities":       {by("alice", "-nosmimecap"), []string{"rsa-sha256"}, false, Data},
		"capabilities":          {by("alice"), []string{"rsa-sha256"}, true, Data},
		"receipt from all":      {by("carol", "-receipt_request_all", "-receipt_request_to", "carol@works.gov.example"), []string{"ecdsa-p256-sha256"}, true, Data},
		"receipt from the list": {by("carol", "-receipt_request_first", "-receipt_request_to", "carol@works.gov.example"), []string{"ecdsa-p256-sha256"}, true, Data},
		"receipt from one":      {by("alice", "-receipt_request_from", "bob@works.gov.example", "-receipt_request_to", "a@b.example", "-cades"), []string{"rsa-sha256"}, true, Data},
		"another content type":  {by("alice", "-econtent_type", "1.2.840.113549.1.9.16.1.4"), []string{"rsa-sha256"}, true, "1.2.840.113549.1.9.16.1.4"},
		"four signers":          {by("alice bob carol erin", "-keyid"), []string{"rsa-sha256", "rsa-sha256", "ecdsa-p256-sha256", "ecdsa-p384-sha256"}, true, Data},
		"sha512":                {by("grace", "-md", "sha512"), []string{"ecdsa-p521-sha512"}, true, Data},
		"pss, greatest salt":    {append(by("alice"), "-keyopt", pss, "-keyopt", "rsa_pss_saltlen:-2"), []string{"rsa-pss-sha256"}, true, Data},
		"pss, salt 20":          {append(by("alice"), "-keyopt", pss, "-keyopt", "rsa_pss_saltlen:20"), []string{"rsa-pss-sha256"}, true, Data},
		"pss, sha512":           {append(by("alice", "-md", "sha512"), "-keyopt", pss), []string{"rsa-pss-sha512"}, true, Data},
		"key for pss":           {append(by("free"), "-keyopt", pss), []string{"rsa-pss-sha256"}, true, Data},
		"key for pss, no attrs": {append(by("free", "-noattr"), "-keyopt", pss), []string{"rsa-pss-sha256"}, false, Data},
		"key for pss, bound":    {append(by("bound", "-md", "sha384"), "-keyopt", pss), []string{"rsa-pss-sha384"}, true, Data},
	} {
		for _, form := range []string{"-nodetach", "-nodetach -stream -indef"} {
			if strings.Contains(form, "-stream") && strings.Contains(name, "pss") {
				continue // openssl cannot
			}
			ber := o.run(content, append(append([]string{"-sign", "-binary", "-outform", "DER"}, strings.Fields(form)...), c.args...)...)
			s, err := ParseSigned(ber, Limits{})
			if err != nil || s.ContentType != c.kind || !bytes.Equal(s.Content, content) || len(s.Signers) != len(c.alg) {
				t.Errorf("%s: %+v, %v", name, s, err)
				continue
			}
			left := map[string]int{}
			for _, a := range c.alg {
				left[a]++
			}
			for i := range s.Signers {
				got, err := s.Verify(i, nil)
				if left[got.Algorithm]--; err != nil || left[got.Algorithm] < 0 || (len(got.Capabilities) > 0) != c.caps {
					t.Errorf("%s: by %s, capabilities %v, %v", name, got.Algorithm, got.Capabilities, err)
				}
				bad := bytes.Clone(content)
				bad[0] ^= 1
				s.Content = nil
				if _, err := s.Verify(i, bad); mail.KindOf(err) != mail.Invalid {
					t.Errorf("%s: another content: %v", name, err)
				}
				s.Content = content
			}
		}
	}
}

// TestSignatureUnderAWrongName: without being told so, openssl signs by RSASSA-PSS with a key for it
// and calls that rsaEncryption, which it then refuses itself.
func TestSignatureUnderAWrongName(t *testing.T) {
	o := newOpenssl(t)
	o.pssSigner("free")
	ber := o.run(text(10), "-sign", "-binary", "-outform", "DER", "-nodetach", "-signer", "free.pem", "-inkey", "free.key")
	s, err := ParseSigned(ber, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); mail.KindOf(err) != mail.Unsupported {
		t.Error(err)
	}
	if _, err := o.try(ber, "-verify", "-binary", "-inform", "DER", "-CAfile", "free.pem", "-purpose", "any"); err == nil {
		t.Error("openssl has learnt to read it")
	}
}

// TestKeyForPSSAlone: a certificate that restricts its key is held to that, even if the same key
// made the signature.
func TestKeyForPSSAlone(t *testing.T) {
	o := newOpenssl(t)
	cert := o.pssSigner("bound", "-pkeyopt", "rsa_pss_keygen_md:sha384", "-pkeyopt", "rsa_pss_keygen_mgf1_md:sha384", "-pkeyopt", "rsa_pss_keygen_saltlen:30")
	text, err := os.ReadFile(filepath.Join(o.dir, "bound.key"))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	var info struct {
		Version   int
		Algorithm asn1.RawValue
		Key       []byte
	}
	if _, err := asn1.Unmarshal(block.Bytes, &info); err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS1PrivateKey(info.Key)
	if err != nil {
		t.Fatal(err)
	}
	// The same key, said to be for anything, under the same name and number.
	twin := *selfSigned("bound", 1, key)
	twin.RawIssuer, twin.SerialNumber = cert.RawIssuer, cert.SerialNumber
	content := []byte("content")
	for name, pss := range map[string]bool{"PKCS #1 v1.5": false, "PSS with SHA-256": true} {
		der, err := Sign(nil, false, []SignerSpec{{Cert: &twin, Key: key, PSS: pss}}, SignOptions{}, content)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSigned(der, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		s.Certificates = nil
		if _, err := s.Verify(0, nil, cert); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Encrypt(nil, AES256GCM, Data, []RecipientSpec{{Cert: cert}}, content); mail.KindOf(err) != mail.Invalid {
		t.Errorf("encrypting to it: %v", err)
	}
	if _, err := NewKeyOpener(cert, key); mail.KindOf(err) != mail.Invalid {
		t.Errorf("opening with it: %v", err)
	}
}

// TestOtherContentOfOpenSSL: what is neither signed nor for a recipient is said to be so.
func TestOtherContentOfOpenSSL(t *testing.T) {
	o := newOpenssl(t)
	for name, ber := range map[string][]byte{
		"EncryptedData": o.run(text(100), "-EncryptedData_encrypt", "-outform", "DER", "-aes-128-cbc", "-secretkey", "000102030405060708090a0b0c0d0e0f"),
		"DigestedData":  o.run(text(100), "-digest_create", "-outform", "DER"),
		"Data":          o.run(text(100), "-data_create", "-outform", "DER"),
	} {
		if _, err := ParseEnveloped(ber, Limits{}); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s as EnvelopedData: %v", name, err)
		}
		if _, err := ParseSigned(ber, Limits{}); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s as SignedData: %v", name, err)
		}
	}
}

// TestWrapsOfOpenSSL are the key wraps that it has; triple DES is skipped like any unknown one.
func TestWrapsOfOpenSSL(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	plain := text(100)
	for wrap, size := range map[string]int{"-aes128-wrap": 16, "-aes192-wrap": 24, "-aes256-wrap": 32, "-des3-wrap": 0} {
		for _, cipher := range []string{"-aes-256-cbc", "-aes-256-gcm"} {
			ber := o.run(plain, "-encrypt", "-binary", "-outform", "DER", cipher, wrap, "-recip", "erin.pem", "-recip", "alice.pem")
			e, err := ParseEnveloped(ber, Limits{})
			if err != nil || len(e.Recipients) != 2 {
				t.Fatalf("%s: %+v, %v", wrap, e, err)
			}
			for i := range e.Recipients {
				if r := &e.Recipients[i]; r.Kind == KeyAgree && r.WrapSize() != size || r.Kind == KeyTrans && r.WrapSize() != 0 {
					t.Errorf("%s: %d bytes", wrap, r.WrapSize())
				}
			}
			for who, opens := range map[string]bool{"alice": true, "erin": size > 0} {
				if got, err := e.Decrypt(all[who].opener(t)); (err == nil) != opens || opens && !bytes.Equal(got, plain) {
					t.Errorf("%s, %s: %v", wrap, who, err)
				}
			}
		}
	}
}
