package main

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// From configuration to answer: the list of a sub-authority is fetched, kept, and used
// after a restart without the network; the command tells so.
func TestTrustFromConfiguration(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := demopki.NewCA("Root", nil)
	must(err)
	sub, err := root.NewSub("Sub", func(c *x509.Certificate) {
		o, err := x509.ParseOID("1.2.3.4.17")
		must(err)
		c.Policies = []x509.OID{o}
	})
	must(err)
	list, err := sub.CRL(time.Hour)
	must(err)
	var up atomic.Bool
	up.Store(true)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if up.Load() {
			_, _ = w.Write(list)
		} else {
			http.Error(w, "down", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	issue := func(policy string) *x509.Certificate {
		id, err := sub.Issue(demopki.Spec{CN: "Alice", Address: "alice@works.gov.example", Adjust: func(c *x509.Certificate) {
			c.CRLDistributionPoints = []string{server.URL + "/sub.crl"}
			o, err := x509.ParseOID(policy)
			must(err)
			c.Policies = []x509.OID{o}
		}})
		must(err)
		return id.Cert
	}
	good, other := issue("1.2.3.4.17"), issue("1.2.3.5.1")
	path := exampleDir(t, strings.NewReplacer(
		`intermediates = []`, `intermediates = ["pki/sub.pem"]`,
		`fetch-hosts = []`, `fetch-hosts = ["`+strings.TrimPrefix(server.URL, "http://")+`"]`,
		`internal-networks = []`, `internal-networks = ["127.0.0.0/8"]`,
		"#[[trust.policies]]\n", "[[trust.policies]]\nname = \"e-Cert (Organisational)\"\nanchor = \"pki/ca.pem\"\naccept = [\"1.2.3.4.*\"]\n",
	).Replace)
	rootList, err := root.CRL(time.Hour)
	must(err)
	dir := filepath.Dir(path)
	for name, data := range map[string][]byte{
		"pki/ca.pem": demopki.CertPEM(root.Cert), "pki/sub.pem": demopki.CertPEM(sub.Cert), "pki/ca.crl": rootList,
		"alice.pem": demopki.CertPEM(good), "other.der": other.Raw,
	} {
		must(os.WriteFile(filepath.Join(dir, name), data, 0o600))
	}
	cfg, err := loadConfig(path)
	must(err)
	ask := func(keep bool) trust.Result {
		v, err := cfg.verifier(slog.New(slog.DiscardHandler), keep)
		must(err)
		return v.Check(good, trust.Encrypt, trust.Binding{Address: mail.MustParseAddress("alice@works.gov.example")})
	}
	if r := ask(false); !r.Usable {
		t.Fatalf("%+v", r.Steps)
	}
	if _, err := os.Stat(cfg.Trust.Cache); !os.IsNotExist(err) {
		t.Errorf("a command wrote into the daemon's folder: %v", err)
	}
	r := ask(true)
	if !r.Usable {
		t.Fatalf("%+v", r.Steps)
	}
	var out strings.Builder
	(&describer{out: &out}).trust(r)
	for _, want := range []string{"the anchor", "policies 1.2.3.4.17", "by CRL " + server.URL + "/sub.crl", "revocation: ok", "binding: ok"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	up.Store(false)
	if r := ask(true); !r.Usable {
		t.Errorf("after a restart: %+v", r.Steps)
	}
	if err := smimeCertificate([]string{"--config", path, filepath.Join(dir, "alice.pem")}); err != nil {
		t.Error(err)
	}
	if err := smimeCertificate([]string{"--config", path, "--for", "bob@works.gov.example", filepath.Join(dir, "alice.pem")}); err == nil || !strings.Contains(err.Error(), "another address") {
		t.Error(err)
	}
	if err := smimeCertificate([]string{"--config", path, filepath.Join(dir, "other.der")}); err == nil || !strings.Contains(err.Error(), "not trusted") {
		t.Errorf("a policy that is not accepted: %v", err)
	}
	if err := configCheck([]string{"--config", path}); err != nil {
		t.Error(err)
	}
	must(os.WriteFile(filepath.Join(dir, "pki/ca.crl"), []byte("rubbish"), 0o600))
	if err := configCheck([]string{"--config", path}); err == nil || !strings.Contains(err.Error(), "ca.crl") {
		t.Errorf("a damaged list: %v", err)
	}
	cfg.Trust.Policies[0].Anchor = cfg.SMIME.Intermediates[0]
	if _, err := cfg.verifier(slog.New(slog.DiscardHandler), false); err == nil || !strings.Contains(err.Error(), "not among the anchors") {
		t.Error(err)
	}
}

func TestTrustPolicyComplaints(t *testing.T) {
	for accept, want := range map[string]string{`["personal"]`: "not an object identifier", `[]`: "at least one policy"} {
		_, err := loadConfig(exampleDir(t, func(s string) string {
			return strings.Replace(s, "#[[trust.policies]]", "[[trust.policies]]\nanchor = \"pki/ca.pem\"\naccept = "+accept, 1)
		}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", accept, err)
		}
	}
}

func TestTrustSourceComplaints(t *testing.T) {
	for block, want := range map[string]string{
		"[[trust.authorities]]\nname = \"\"\nurl = \"ldap://x\"\nbase = \"c=HK\"":                       "empty or taken",
		"[[trust.authorities]]\nname = \"pinned\"\nurl = \"ldap://x\"\nbase = \"c=HK\"":                 "empty or taken",
		"[[trust.authorities]]\nname = \"CA\"\nurl = \"http://x\"\nbase = \"c=HK\"":                     "neither ldaps nor ldap",
		"[[trust.authorities]]\nname = \"CA\"\nurl = \"ldap://x\"\nbase = \"Hong Kong\"":                "distinguished name",
		"[[trust.authorities]]\nname = \"CA\"\nurl = \"ldap://x\"\nbase = \"c=HK\"\nmail = \"m)(x=*\"":  "not the name of an attribute",
		"[[trust.authorities]]\nname = \"CA\"\nurl = \"ldaps://x\"\nbase = \"c=HK\"\nca = \"none.pem\"": "no such file",
		"[[trust.pins]]\naddress = \"bob\"\ncertificate = \"pki/ca.pem\"":                               "not an address",
		"[[trust.pins]]\naddress = \"bob@x.example\"\ncertificate = \"none.pem\"":                       "no such file",
	} {
		_, err := loadConfig(exampleDir(t, func(s string) string { return strings.Replace(s, "[policy]\n", block+"\n\n[policy]\n", 1) }))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", block, err)
		}
	}
}

func TestTrustCache(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "trust")
	c, err := openTrustCache(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := c.Load("a"); b != nil || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if err := c.Save("a", []byte("data\n")); err != nil {
		t.Fatal(err)
	}
	if b, err := c.Load("a"); string(b) != "data\n" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	if err := os.Rename(c.path("a"), c.path("b")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Load("b"); err == nil {
		t.Error("the file of another address was taken")
	}
	old := time.Now().Add(-trustForgotten - time.Hour)
	if err := os.Chtimes(c.path("b"), old, old); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.path("c")+".tmp", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	foreign := filepath.Join(dir, "gateway.key") // somebody names a folder that is not for this
	if err := os.WriteFile(foreign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(foreign, old, old); err != nil {
		t.Fatal(err)
	}
	if _, err := openTrustCache(dir, true); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 || left[0].Name() != "gateway.key" {
		t.Errorf("%v %v", left, err)
	}
}
