package main

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/smime/cms"
)

func TestEscrowConfig(t *testing.T) {
	dir := t.TempDir()
	ca, err := demopki.NewCA("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	issue := func(name string, s demopki.Spec) *demopki.Identity {
		s.CN = name
		id, err := ca.Issue(s)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name+".pem"), demopki.CertPEM(id.Cert), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	a := issue("a", demopki.Spec{Key: demopki.P256})
	issue("again", demopki.Spec{Signer: a.Key})
	issue("b", demopki.Spec{Key: demopki.RSA2048})
	issue("weak", demopki.Spec{Key: demopki.RSA1024})
	issue("signs", demopki.Spec{Key: demopki.P256, Usage: x509.KeyUsageDigitalSignature})
	issue("ed", demopki.Spec{Key: demopki.Ed25519})
	issue("old", demopki.Spec{Key: demopki.P256, NotBefore: time.Now().AddDate(-2, 0, 0), NotAfter: time.Now().AddDate(-1, 0, 0)})
	read := func(k int, names ...string) (*escrowConfig, error) {
		text := fmt.Sprintf("threshold = %d\n", k)
		for _, n := range names {
			uid, file, ok := strings.Cut(n, "=")
			if !ok {
				file = uid
			}
			text += fmt.Sprintf("[[officers]]\nuid = %q\ncertificate = %q\n", uid, file+".pem")
		}
		path := filepath.Join(dir, "escrow.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := defaultEscrow()
		f, err := readTOML(path, &c)
		if err != nil {
			t.Fatal(err)
		}
		c.check(f, 2048)
		return &c, f.err()
	}
	c, err := read(2, "a", "b")
	if err != nil || c.group == nil || c.group.Threshold != 2 || len(c.warnings(time.Now())) != 0 || c.tryNow(time.Now()) != nil {
		t.Errorf("%+v %v", c, err)
	}
	if c, err := read(0); err != nil || c.group != nil || len(c.warnings(time.Now())) != 1 {
		t.Errorf("no officers: %+v %v", c, err)
	}
	if c, err := read(2, "a", "old"); err != nil || c.group == nil || c.tryNow(time.Now()) == nil || len(c.warnings(time.Now())) != 1 {
		t.Errorf("an expired certificate: %+v %v", c, err)
	}
	for words, bad := range map[string]func() (*escrowConfig, error){
		"2 officers at least":   func() (*escrowConfig, error) { return read(1, "a", "b") },
		"cannot come together":  func() (*escrowConfig, error) { return read(3, "a", "b") },
		"are the same":          func() (*escrowConfig, error) { return read(2, "a", "a=b") },
		"the same key":          func() (*escrowConfig, error) { return read(2, "a", "again") },
		"uid must not be empty": func() (*escrowConfig, error) { return read(2, "a", "=b") },
		"no such file":          func() (*escrowConfig, error) { return read(2, "a", "nobody") },
		"1024 bits":             func() (*escrowConfig, error) { return read(2, "a", "weak") },
		"not one to encrypt to": func() (*escrowConfig, error) { return read(2, "a", "signs") },
		"officers[1]":           func() (*escrowConfig, error) { return read(2, "a", "ed") },
		"out of 0":              func() (*escrowConfig, error) { return read(2) },
	} {
		if _, err := bad(); err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("%v; it should say %q", err, words)
		}
	}
}

// An account's ID may begin with the digit that DER begins with.
func TestDecryptParts(t *testing.T) {
	ca, err := demopki.NewCA("test", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue(demopki.Spec{CN: "a", Key: demopki.P256})
	if err != nil {
		t.Fatal(err)
	}
	part, err := (&escrowOfficer{UID: "a", cert: id.Cert}).officer().Seal([]byte("words\r\ncmmpd-share-1:abc\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := cms.NewKeyOpener(id.Cert, id.Key)
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		string(part): "words\r\ncmmpd-share-1:abc\r\n",
		"0f626366 " + base64.StdEncoding.EncodeToString(part) + "\n": "0f626366 cmmpd-share-1:abc\n",
	} {
		var out strings.Builder
		if err := decryptParts(k, strings.NewReader(in), &out); err != nil || out.String() != want {
			t.Errorf("%q %v, not %q", out.String(), err, want)
		}
	}
}
