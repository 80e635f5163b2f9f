package main

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/demopki"
)

// configTrial is a daemon's configuration that changes from start to start, over one audit log.
type configTrial struct {
	*testing.T
	path string
	log  *audit.Log
	ca   *demopki.CA
}

// start is what a start puts on record about the configuration.
func (c *configTrial) start() *platform {
	c.Helper()
	cfg, err := loadConfig(c.path)
	if err != nil {
		c.Fatal(err)
	}
	if err := os.MkdirAll(cfg.Store.Path, 0o700); err != nil {
		c.Fatal(err)
	}
	p := newPlatform(cfg, slog.New(slog.NewTextHandler(io.Discard, nil)))
	p.audit = c.log
	if p.certificate, err = openCertificate(cfg.TLS.Certificate, cfg.TLS.Key, nil, p.log, p.meter); err != nil {
		c.Fatal(err)
	}
	if err := p.recordConfig(c.Context()); err != nil {
		c.Fatal(err)
	}
	p.certificate.changing = p.recordCertificate
	return p
}

func (c *configTrial) write(name string, data []byte) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(filepath.Dir(c.path), name), data, 0o600); err != nil {
		c.Fatal(err)
	}
}

// issue gives the server another certificate.
func (c *configTrial) issue() {
	c.Helper()
	id, err := c.ca.Server("localhost")
	if err != nil {
		c.Fatal(err)
	}
	key, err := demopki.KeyPEM(id.Key)
	if err != nil {
		c.Fatal(err)
	}
	c.write("pki/server.pem", demopki.CertPEM(id.Cert))
	c.write("keys/server.key", key)
}

// changes are the details of the records.
func (c *configTrial) changes(dir string) (list []map[string]string) {
	c.Helper()
	var out bytes.Buffer
	if err := (audit.Export{Format: audit.JSONL, Filter: audit.Filter{Types: []string{audit.ConfigChange}}}).Write(c.Context(), dir, &out); err != nil {
		c.Fatal(err)
	}
	for line := range bytes.Lines(out.Bytes()) {
		var r struct{ Detail map[string]string }
		if err := json.Unmarshal(line, &r); err != nil {
			c.Fatal(err)
		}
		list = append(list, r.Detail)
	}
	return list
}

// TestConfigChange: what differs from the last start is on record once, with the sections that changed.
func TestConfigChange(t *testing.T) {
	ca, err := demopki.NewCA("test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	dir, o := filepath.Join(t.TempDir(), "audit"), audit.Options{Origin: "test.example/audit"}
	if err := audit.Create(dir, key, o); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(dir, key, o)
	if err != nil {
		t.Fatal(err)
	}
	c := &configTrial{T: t, path: exampleDir(t, func(s string) string { return s }), log: log, ca: ca}
	c.issue()
	expect := func(what string, n int, changed string) map[string]string {
		t.Helper()
		list := c.changes(dir)
		if len(list) != n || list[n-1]["changed"] != changed {
			t.Fatalf("%s: %q, want %d, the last %q", what, list, n, changed)
		}
		return list[n-1]
	}
	c.start()
	first := expect("the first start", 1, "no earlier one is known")
	c.start()
	expect("the same again", 1, "no earlier one is known")
	text, err := os.ReadFile(c.path)
	if err != nil {
		t.Fatal(err)
	}
	c.write("cmmpd.toml", []byte(strings.Replace(string(text), `level = "info"`, `level = "warn"`, 1)))
	c.write("pki/ca.crl", []byte("a newer list"))
	c.start()
	if d := expect("another level", 2, "log"); d["before"] != first["config"] || d["config"] == first["config"] || len(d["config"]) != 64 {
		t.Errorf("%q after %q", d, first)
	}
	c.write("pki/ca.pem", []byte("another authority"))
	p := c.start()
	expect("another trust anchor", 3, "file:"+filepath.Join(filepath.Dir(c.path), "pki/ca.pem"))
	p.certificate.reload()
	expect("nothing new to read", 3, "file:"+filepath.Join(filepath.Dir(c.path), "pki/ca.pem"))
	c.issue()
	p.certificate.reload()
	if d := expect("another certificate", 4, certificateItem); d["certificate"] != p.certificate.fingerprint() || d["at"] != "reload" {
		t.Errorf("%q", d)
	}
	c.start()
	expect("a start with it", 4, certificateItem)

	// What cannot be put on record is not in force.
	was := p.certificate.fingerprint()
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	c.issue()
	p.certificate.reload()
	if p.certificate.fingerprint() != was || p.certificate.seen != [2]stamp{} {
		t.Error("a certificate is in force that is not on record, or is never tried again")
	}
	p.cfg.Log.Level = "debug"
	if err := p.recordConfig(t.Context()); err == nil {
		t.Error("a configuration is in force that is not on record")
	}
}
