package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
)

// metrics fetches /metrics.
func (s *site) metrics() string {
	s.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", s.base+90))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		s.t.Fatal(res.Status, err)
	}
	return string(b)
}

// TestOperate looks at the metrics and changes the server's certificate under open connections.
func TestOperate(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "Hello", "text")); err != nil {
		t.Fatal(err, out)
	}
	if out, err := s.send("alice", "alice@works.gov.example", []string{"nobody@works.gov.example"}, mailOf("alice@works.gov.example", "nobody@works.gov.example", "Hello", "text")); err == nil {
		t.Fatal("mail for nobody was taken:", out)
	}
	old := s.dialTLS()
	defer old.Close()
	text := s.metrics()
	for _, line := range []string{
		`cmmpd_messages_total{protocol="submissions",outcome="accepted"} 1`,
		`cmmpd_recipients_refused_total{protocol="submissions",reason="not-found"} 1`,
		`cmmpd_deliveries_total 1`,
		`cmmpd_logins_total{protocol="submissions",outcome="ok"} 2`,
		`cmmpd_connections{service="imaps"} 1`,
		`cmmpd_ready 1`,
		`cmmpd_store_flush_seconds_bucket{le="+Inf"} `,
		`cmmpd_audit_records_total `,
		`cmmpd_build_info{version="`,
		`go_goroutines `,
	} {
		if !strings.Contains(text, "\n"+line) {
			t.Errorf("metrics lack %s", line)
		}
	}
	if strings.Contains(text, "gov.example") || strings.Contains(text, "alice") {
		t.Error("the metrics name somebody")
	}

	serial := old.ConnectionState().PeerCertificates[0].SerialNumber
	s.newCertificate()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.eventually("the new certificate is served", func() bool {
		c := s.dialTLS()
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Cmp(serial) != 0
	})
	if r := s.records("config.change"); len(r) != 2 || r[0].Detail["at"] != "start" || r[1].Detail["at"] != "reload" || r[1].Detail["changed"] != "server-certificate" {
		t.Errorf("the certificate on record: %+v", r)
	}
	buf := make([]byte, 1000)
	if _, err := old.Write([]byte("a NOOP\r\n")); err != nil {
		t.Fatal(err)
	}
	for got := ""; !strings.Contains(got, "a OK"); {
		n, err := old.Read(buf)
		if err != nil {
			t.Fatal("the connection that stood was cut:", err)
		}
		got += string(buf[:n])
	}
	if err := os.WriteFile(s.path("keys", "server.key"), []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	s.eventually("the bad key is counted", func() bool { return strings.Contains(s.metrics(), `cmmpd_tls_reloads_total{outcome="refused"} 1`) })
	s.dialTLS().Close()
}

// eventually waits for something another process does.
func (s *site) eventually(what string, is func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: not in time", what)
		}
	}
}

// dialTLS opens a connection to the IMAP service.
func (s *site) dialTLS() *tls.Conn {
	s.t.Helper()
	c, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.base+993), s.clientTLS())
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// newCertificate gives the server another certificate of the demonstration's authority.
func (s *site) newCertificate() {
	s.t.Helper()
	caCerts, err := demopki.ParseCerts([]byte(s.read("pki", "ca.pem")))
	if err != nil {
		s.t.Fatal(err)
	}
	caKey, err := demopki.ParseKey([]byte(s.read("keys", "ca.key")))
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := demopki.LoadCA(caCerts[0], caKey, nil, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := ca.Server("localhost", "127.0.0.1")
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := demopki.KeyPEM(id.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	for path, data := range map[string][]byte{s.path("keys", "server.key"): key, s.path("pki", "server.pem"): demopki.CertPEM(id.Cert)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

// clientTLS trusts the demonstration's authority.
func (s *site) clientTLS() *tls.Config {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(s.read("pki", "ca.pem")))
	return &tls.Config{RootCAs: pool, ServerName: "localhost"}
}
