package main

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
)

func TestCertificateReload(t *testing.T) {
	ca, err := demopki.NewCA("test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	change := time.Now() // each change of a file gets a time of its own
	write := func(path string, data []byte) {
		t.Helper()
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		change = change.Add(time.Second)
		if err := os.Chtimes(path, change, change); err != nil {
			t.Fatal(err)
		}
	}
	issue := func() (cert, key []byte, serial string) {
		t.Helper()
		id, err := ca.Server("localhost")
		if err != nil {
			t.Fatal(err)
		}
		key, err = demopki.KeyPEM(id.Key)
		if err != nil {
			t.Fatal(err)
		}
		return demopki.CertPEM(id.Cert), key, id.Cert.SerialNumber.String()
	}
	cert1, key1, serial1 := issue()
	write(certFile, cert1)
	write(keyFile, key1)
	var words bytes.Buffer
	c, err := openCertificate(certFile, keyFile, nil, slog.New(slog.NewTextHandler(&words, nil)), newMeter())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.now = func() time.Time { return now }
	serves := func(what, want string) {
		t.Helper()
		pair, err := c.get(nil)
		if err != nil || pair.Leaf.SerialNumber.String() != want {
			t.Errorf("%s: serves %v (%v), want %s", what, pair.Leaf.SerialNumber, err, want)
		}
	}
	serves("at first", serial1)

	cert2, key2, serial2 := issue()
	write(certFile, cert2)
	serves("within the minute", serial1)
	now = now.Add(recheck)
	serves("a certificate without its key", serial1)
	if !strings.Contains(words.String(), "does not match") {
		t.Errorf("the log does not say why: %s", words.String())
	}
	words.Reset()
	now = now.Add(recheck)
	serves("the same a minute later", serial1)
	if words.Len() > 0 {
		t.Errorf("the same fault is told again: %s", words.String())
	}
	write(keyFile, key2)
	now = now.Add(recheck)
	serves("the pair", serial2)

	write(certFile, []byte("nothing"))
	c.reload()
	serves("an unreadable file", serial2)
	cert3, key3, serial3 := issue()
	write(certFile, cert3)
	write(keyFile, key3)
	c.reload()
	serves("told to read", serial3)

	words.Reset()
	old := now
	now = now.AddDate(50, 0, 0)
	write(certFile, cert1)
	write(keyFile, key1)
	serves("an expired one", serial3)
	if !strings.Contains(words.String(), "expired") {
		t.Errorf("the log does not say that it has expired: %s", words.String())
	}
	now = old
}
