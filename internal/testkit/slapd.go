package testkit

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// SlapdOptions says what a Slapd serves.
type SlapdOptions struct {
	Conf          string // the folder configs/openldap
	LDIF          string // the entries
	CA, Cert, Key string // PEM files; the certificate names 127.0.0.1
	RootPassword  string // of its rootdn, who may change entries; empty: nobody may
	Public        bool   // everybody may read, without TLS and without a name, as in an authority's directory
}

// Slapd is OpenLDAP's server on this machine, for one test. Its folder is the test's.
type Slapd struct {
	t          testing.TB
	program    string
	conf       string
	plain, tls string // addresses
	cmd        *exec.Cmd
	words      strings.Builder
}

// StartSlapd loads the entries and serves them until the test ends, with the
// configuration that the project ships: only paths are changed.
func StartSlapd(t testing.TB, o SlapdOptions) *Slapd {
	t.Helper()
	s := &Slapd{t: t, program: Need(t, "slapd"), plain: freeAddr(t), tls: freeAddr(t)}
	dir := t.TempDir()
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(o.Conf, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	root := ""
	if o.RootPassword != "" {
		root = "\nrootpw " + o.RootPassword
	}
	public := strings.NewReplacer()
	if o.Public {
		public = strings.NewReplacer("\nsecurity ssf=128", "", "\ndisallow bind_anon", "", "\nrequire authc", "", "by users read by * none", "by * read")
	}
	s.conf = write("slapd.conf", public.Replace(strings.NewReplacer(
		"/etc/ldap/schema/cmmpd.schema", write("cmmpd.schema", read("cmmpd.schema")),
		"/etc/ldap/tls/ca.pem", o.CA, "/etc/ldap/tls/server.pem", o.Cert, "/etc/ldap/tls/server.key", o.Key,
		"/run/slapd/slapd.pid", filepath.Join(dir, "slapd.pid"), "/var/lib/ldap", filepath.Join(dir, "db"),
		"\ndirectory ", root+"\ndirectory ",
	).Replace(read("slapd.conf"))))
	if out, err := exec.Command(Need(t, "slapadd"), "-q", "-f", s.conf, "-l", write("entries.ldif", o.LDIF)).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	s.Start()
	t.Cleanup(func() {
		s.Stop()
		if t.Failed() {
			t.Logf("slapd's words:\n%s", s.words.String())
		}
	})
	return s
}

// URL is where it answers with StartTLS, or with TLS from the first byte.
func (s *Slapd) URL(startTLS bool) string {
	if startTLS {
		return "ldap://" + s.plain
	}
	return "ldaps://" + s.tls
}

// Start starts the server again, with what it has.
func (s *Slapd) Start() {
	s.t.Helper()
	s.cmd = exec.Command(s.program, "-f", s.conf, "-h", "ldap://"+s.plain+" ldaps://"+s.tls, "-d", "none")
	s.cmd.Stderr = &s.words
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.Dial("tcp", s.tls)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("slapd does not answer: %v\n%s", err, s.words.String())
		}
		time.Sleep(10 * time.Millisecond) // polling another process
	}
}

// Stop ends the server; its entries stay.
func (s *Slapd) Stop() {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("slapd ended with %v", err)
	}
	s.cmd = nil
}

func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
