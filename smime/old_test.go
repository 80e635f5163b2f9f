package smime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
	"cmmpd/smime/cms"
)

// Old mail is read only by who asks for it.
func TestOldMail(t *testing.T) {
	testkit.Need(t, "openssl")
	w := newSmallWorld(t)
	w.person("alice@works.gov.example", "", demopki.Spec{CN: "Alice", Address: "alice@works.gov.example", Signer: rsaKey()})
	alice := w.people["alice"]
	key, err := demopki.KeyPEM(alice.Key)
	w.must(err)
	cert, keyFile, in := w.write("alice.pem", demopki.CertPEM(alice.Cert)), w.write("alice.key", key), w.write("in.txt", []byte("Content-Type: text/plain\r\n\r\nold text\r\n"))
	openssl := func(args ...string) []byte {
		t.Helper()
		out := filepath.Join(w.dir, "out.eml")
		if b, err := exec.Command("openssl", append([]string{"cms", "-in", in, "-out", out, "-from", "alice@works.gov.example", "-to", "alice@works.gov.example", "-subject", "old", "-crlfeol"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("openssl: %s", b)
		}
		b, err := os.ReadFile(out)
		w.must(err)
		return b
	}
	old := New(Options{Trust: w.gw.o.Trust, SHA1: true, TripleDES: true})

	signed := openssl("-sign", "-signer", cert, "-inkey", keyFile, "-md", "sha1")
	if r := w.gw.Verify(signed, parse(signed)); r.Status != Neutral {
		t.Errorf("SHA-1 at the door: %+v", r)
	}
	if r := old.Verify(signed, parse(signed)); r.Status != Pass || !strings.Contains(r.Reason, "SHA-1") {
		t.Errorf("SHA-1 of old mail: %v %s", r.Status, r.Reason)
	}

	sealed := openssl("-encrypt", "-des3", cert)
	opener, err := cms.NewKeyOpener(alice.Cert, alice.Key)
	w.must(err)
	if _, err := w.gw.Open(sealed, parse(sealed), opener); err == nil {
		t.Error("triple DES is opened")
	}
	if o, err := old.Open(sealed, parse(sealed), opener); err != nil || !strings.Contains(string(o.Inner), "old text") {
		t.Errorf("triple DES of old mail: %v", err)
	}
	if p := old.Inspect(sealed, parse(sealed)); p.Strong() {
		t.Error("triple DES is strong")
	}
}
