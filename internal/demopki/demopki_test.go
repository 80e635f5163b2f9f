package demopki

import (
	"crypto"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"cmmpd/internal/testkit"
)

func mustCA(t *testing.T) *CA {
	t.Helper()
	ca, err := NewCA("Demonstration Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestIssueAndServer(t *testing.T) {
	ca := mustCA(t)
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	sub, err := ca.NewSub("Demonstration Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	inter := x509.NewCertPool()
	inter.AddCert(sub.Cert)
	for _, k := range []Kind{P256, P384, P521, RSA2048} {
		id, err := sub.Issue(Spec{CN: "Alice", Address: "alice@works.gov.example", Key: k})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := id.Cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}); err != nil {
			t.Errorf("kind %d: %v", k, err)
		}
		if len(id.Chain) != 2 {
			t.Errorf("kind %d: a chain of %d", k, len(id.Chain))
		}
	}
	srv, err := ca.Server()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
		if _, err := srv.Cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRevocationSurvivesLoading(t *testing.T) {
	ca := mustCA(t)
	grace, err := ca.Issue(Spec{CN: "Grace", Address: "grace@works.gov.example"})
	if err != nil {
		t.Fatal(err)
	}
	ca.Revoke(grace.Cert)
	der, err := ca.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	list, err := ParseCRL(CRLPEM(der))
	if err != nil {
		t.Fatal(err)
	}
	pemKey, err := KeyPEM(ca.Key)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ParseKey(pemKey)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := ParseCerts(CertPEM(ca.Cert))
	if err != nil {
		t.Fatal(err)
	}
	again, err := LoadCA(certs[0], key, list, nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err = again.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	list, err = ParseCRL(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := list.CheckSignatureFrom(ca.Cert); err != nil {
		t.Error(err)
	}
	if n := len(list.RevokedCertificateEntries); n != 1 || list.Number.Int64() != 2 {
		t.Errorf("the second list has %d entries and the number %v", n, list.Number)
	}
	if _, err := LoadCA(certs[0], grace.Key, nil, nil); err == nil {
		t.Error("a key of another certificate was taken")
	}
}

func TestPKCS12(t *testing.T) {
	ca := mustCA(t)
	for _, k := range []Kind{P256, RSA2048} {
		id, err := ca.Issue(Spec{CN: "Alice", Address: "alice@works.gov.example", Key: k})
		if err != nil {
			t.Fatal(err)
		}
		p12, err := id.PKCS12("secret")
		if err != nil {
			t.Fatal(err)
		}
		key, cert, chain, err := pkcs12.DecodeChain(p12, "secret")
		if err != nil || !cert.Equal(id.Cert) || len(chain) != 1 || !samePublic(id.Key.Public(), key.(crypto.Signer).Public()) {
			t.Fatalf("decoding: %v", err)
		}
	}
}

func TestOpenSSLReads(t *testing.T) {
	openssl := testkit.Need(t, "openssl")
	ca := mustCA(t)
	id, err := ca.Issue(Spec{CN: "Carol", Address: "carol@health.gov.example", Key: P256})
	if err != nil {
		t.Fatal(err)
	}
	p12, err := id.PKCS12("secret")
	if err != nil {
		t.Fatal(err)
	}
	crl, err := ca.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, b := range map[string][]byte{"ca.pem": CertPEM(ca.Cert), "cert.pem": CertPEM(id.Cert), "id.p12": p12, "crl.pem": CRLPEM(crl)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"verify", "-x509_strict", "-crl_check", "-CRLfile", "crl.pem", "-purpose", "smimesign", "-CAfile", "ca.pem", "cert.pem"},
		{"pkcs12", "-in", "id.p12", "-passin", "pass:secret", "-nodes", "-noout"},
	} {
		cmd := exec.Command(openssl, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openssl %v: %v\n%s", args, err, out)
		}
	}
}
