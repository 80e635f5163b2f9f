package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/internal/testkit"
)

// pssWorld are an authority and a person with keys for RSASSA-PSS alone, and the authority's list, by
// openssl.
func pssWorld(t *testing.T) (authority, person *x509.Certificate, list string) {
	t.Helper()
	program, dir := testkit.Need(t, "openssl"), t.TempDir()
	run := func(args ...string) {
		cmd := exec.Command(program, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("openssl %q: %v: %s", args, err, out)
		}
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate := func(name string) *x509.Certificate {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(text[bytes.Index(text, []byte("-----BEGIN")):])
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, name := range []string{"ca", "alice"} {
		run("genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_pss_keygen_md:sha256",
			"-pkeyopt", "rsa_pss_keygen_mgf1_md:sha256", "-pkeyopt", "rsa_pss_keygen_saltlen:32", "-out", name+".key")
	}
	write("index.txt", "")
	write("number", "01\n")
	write("ca.cnf", "[ca]\ndefault_ca = x\n[x]\ndatabase = index.txt\ncrlnumber = number\ndefault_crl_days = 30\ndefault_md = sha256\n")
	write("alice.cnf", "keyUsage = critical, digitalSignature\nsubjectAltName = email:alice@works.gov.example\n")
	run("req", "-x509", "-new", "-key", "ca.key", "-subj", "/CN=PSS", "-days", "30", "-sigopt", "rsa_pss_saltlen:32",
		"-addext", "keyUsage=critical,keyCertSign,cRLSign", "-out", "ca.pem")
	run("req", "-new", "-key", "alice.key", "-subj", "/CN=Alice", "-sigopt", "rsa_pss_saltlen:32", "-out", "alice.csr")
	run("x509", "-req", "-in", "alice.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "20", "-extfile", "alice.cnf",
		"-sigopt", "rsa_pss_saltlen:32", "-out", "alice.pem")
	run("ca", "-gencrl", "-config", "ca.cnf", "-cert", "ca.pem", "-keyfile", "ca.key", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-out", "ca.crl")
	return certificate("ca.pem"), certificate("alice.pem"), filepath.Join(dir, "ca.crl")
}

// TestPSSKeys: keys for RSASSA-PSS alone (RFC 4055) make paths and lists, and sign; they never
// encrypt.
func TestPSSKeys(t *testing.T) {
	w := newWorld(t)
	authority, person, list := pssWorld(t)
	w.now = time.Now().Add(time.Minute)
	w.options.Anchors, w.options.Intermediates, w.options.CRLs = []*x509.Certificate{authority}, nil, []string{list}
	v := w.verifier()
	b := Binding{Address: alice}
	w.expect(v, person, Sign, b, None)
	w.expect(v, person, Encrypt, b, KeyUsage)

	der := bytes.Clone(person.Raw)
	der[len(der)-40] ^= 1 // within the signature
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	w.expect(v, forged, Sign, b, Untrusted)

	w.options.MinRSABits = 3072
	if _, err := New(w.options); err == nil {
		t.Error("an authority whose key is too short")
	}
}
