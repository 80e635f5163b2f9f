package e2e

import (
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
