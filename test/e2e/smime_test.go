package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// TestSMIMECommands looks at a confidential message, at one that OpenSSL signed, and at one without protection.
func TestSMIMECommands(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	s := newSite(t)
	config := s.path("cmmpd.toml")
	file := func(name, text string) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "[CONFIDENTIAL] x", "the secret text")); err != nil {
		t.Fatal(err, out)
	}
	sealed := file("sealed.eml", s.last("bob", "INBOX"))
	holds := func(out string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(out, w) {
				t.Errorf("%q is not in\n%s", w, out)
			}
		}
	}
	holds(s.must("", program, "smime", "inspect", sealed), "EnvelopedData", "aes-256", "2 recipients", "issuer CN=cmmpd demonstration authority", "serial ", "rsa-oaep", "rsa-pkcs1v15")
	bob := []string{"smime", "verify", "--config", config, "--certificate", s.path("people", "bob", "cert.pem"), "--key", s.path("people", "bob", "key.pem"), sealed}
	code, out := s.code(bob...)
	if code != 0 {
		t.Errorf("verify: exit %d", code)
	}
	holds(out, "header protected: true", "signature inside: pass", "signed by the domain works.gov.example", "revocation: ok", "path 1: ")
	if strings.Contains(out, "secret text") {
		t.Error("verify shows the content")
	}
	bob[5], bob[7] = s.path("people", "erin", "cert.pem"), s.path("people", "erin", "key.pem")
	if code, out := s.code(bob...); code != 1 {
		t.Errorf("erin opens it: %d %s", code, out)
	}

	signed := filepath.Join(t.TempDir(), "signed.eml")
	s.must("some text\r\n", "openssl", "smime", "-sign", "-signer", s.path("people", "alice", "cert.pem"), "-inkey", s.path("people", "alice", "key.pem"),
		"-from", "alice@works.gov.example", "-to", "bob@works.gov.example", "-subject", "signed", "-out", signed)
	holds(s.must("", program, "smime", "inspect", signed), "multipart/signed", "SignedData, detached, 1 signers", "certificate: CN=Alice")
	if code, out := s.code("smime", "verify", "--config", config, signed); code != 0 || !strings.Contains(out, "signature: pass: signed by the author") {
		t.Errorf("verify of what OpenSSL signed: %d %s", code, out)
	}
	b, err := os.ReadFile(signed)
	if err != nil {
		t.Fatal(err)
	}
	if code, out := s.code("smime", "verify", "--config", config, file("changed.eml", strings.Replace(string(b), "some text", "same text", 1))); code != 1 || !strings.Contains(out, "signature: fail") {
		t.Errorf("verify of a changed message: %d %s", code, out)
	}
	plain := file("plain.eml", "From: a@b.example\nSubject: x\n\ntext\n")
	holds(s.must("", program, "smime", "inspect", plain), "text/plain, 5 octets")
	if code, out := s.code("smime", "verify", "--config", config, plain); code != 1 || !strings.Contains(out, "not signed") {
		t.Errorf("verify of plain mail: %d %s", code, out)
	}
}

// TestGCM marks two people as readers of AES-GCM: mail between them is AuthEnvelopedData, which
// OpenSSL opens, and with one more reader, who is not marked, it is AES-CBC for all.
func TestGCM(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	s := newSite(t)
	var ldif strings.Builder
	for _, uid := range []string{"alice", "carol"} {
		fmt.Fprintf(&ldif, "dn: uid=%s,ou=people,dc=gov,dc=example\nchangetype: modify\nreplace: cmmpdCipherProfile\ncmmpdCipherProfile: gcm\n\n", uid)
	}
	s.must(ldif.String(), program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	for _, c := range []struct {
		to                 []string
		kind, structure    string
		readers, strangers []string
	}{
		{[]string{carol}, "authEnveloped-data", "CMS AuthEnvelopedData, aes-256-gcm, 2 recipients", []string{"carol"}, []string{"bob", "erin"}},
		{[]string{carol, erin}, "enveloped-data", "CMS EnvelopedData, aes-256-cbc, 3 recipients", []string{"carol", "erin"}, []string{"bob"}},
	} {
		if out, err := s.send("alice", alice, c.to, mailOf(alice, strings.Join(c.to, ", "), "[CONFIDENTIAL] needle", "needle in the text")); err != nil {
			t.Fatal(err, out)
		}
		for _, reader := range append(c.readers, "alice") {
			raw := s.last(c.readers[0], "INBOX")
			if strings.Contains(raw, "needle") || !strings.Contains(raw, "smime-type="+c.kind+";") {
				t.Fatalf("%v: served as\n%s", c.to, raw)
			}
			if out := s.must(raw, program, "smime", "inspect", "-"); !strings.Contains(out, c.structure) {
				t.Errorf("%v: inspect says %s", c.to, out)
			}
			inner := s.must(raw, "openssl", "cms", "-decrypt", "-recip", s.path("people", reader, "cert.pem"), "-inkey", s.path("people", reader, "key.pem"))
			if text := s.must(inner, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem")); !strings.Contains(text, "needle in the text") || !strings.Contains(text, "[CONFIDENTIAL] needle") {
				t.Errorf("%v: %s reads\n%s", c.to, reader, text)
			}
		}
		for _, other := range c.strangers {
			if out, err := s.run(s.last(c.readers[0], "INBOX"), "openssl", "cms", "-decrypt", "-recip", s.path("people", other, "cert.pem"), "-inkey", s.path("people", other, "key.pem")); err == nil {
				t.Errorf("%v: %s reads\n%s", c.to, other, out)
			}
		}
	}
	out := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"), "--format", "jsonl")
	for _, want := range []string{`"cipher":"aes-256-gcm (ecdh, rsa-oaep)"`, `"cipher":"aes-256-cbc (ecdh, rsa-oaep)"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not on record", want)
		}
	}
}
