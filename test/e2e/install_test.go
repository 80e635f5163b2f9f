package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// newInstallation makes a real installation with "cmmpd init" and returns it, not started.
func newInstallation(t testing.TB, flags ...string) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "platform"), base: freeBase(t)}
	s.command = []string{"serve", "--config", s.path("cmmpd.toml")}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("kwchan:a password of the test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	made := filepath.Join(t.TempDir(), "made")
	args := append([]string{
		"init", "--dir", s.dir, "--hostname", "mail.works.gov.example", "--domain", "works.gov.example", "--domain", "health.gov.example",
		"--address", "127.0.0.1", "--base-port", fmt.Sprint(s.base), "--self-signed", "--admin", "kwchan",
		"--password-file", secret, "--passwords-to", made,
	}, flags...)
	code, out := s.code(args...)
	if code != 0 {
		t.Fatalf("init: exit %d: %s", code, out)
	}
	for _, word := range []string{"What comes next", "下一步", "--user kwchan"} {
		if !strings.Contains(out, word) {
			t.Errorf("init does not say %q: %s", word, out)
		}
	}
	if strings.Contains(out, "a password of the test") {
		t.Error("init shows a password that it was given")
	}
	b, err := os.ReadFile(made)
	if st, serr := os.Stat(made); err != nil || serr != nil || st.Mode().Perm() != 0o600 || strings.Count(string(b), "\n") != 4 {
		t.Errorf("the passwords made: %v %v %q", err, serr, b)
	}
	s.adminPassword = secret + ".admin"
	if err := os.WriteFile(s.adminPassword, []byte("a password of the test"), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// TestInstall makes a real installation, serves it, and brings in two people who then write to each other.
func TestInstall(t *testing.T) {
	testkit.Need(t, "curl")
	s := newInstallation(t)
	config := s.path("cmmpd.toml")
	if code, out := s.code("config", "check", "--config", config); code != 0 {
		t.Fatalf("config check: %d %s", code, out)
	}
	if code, out := s.code("init", "--dir", s.dir, "--hostname", "h.example", "--domain", "d.example", "--self-signed"); code != 1 || !strings.Contains(out, "installation already") {
		t.Errorf("init on an installation: %d %s", code, out)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out := s.code("init", "--dir", full, "--hostname", "h.example", "--domain", "d.example", "--self-signed"); code != 1 || !strings.Contains(out, "not empty") {
		t.Errorf("init on a folder with other things: %d %s", code, out)
	}
	if code, out := s.code("init", "--dir", filepath.Join(full, "new")); code != 2 || !strings.Contains(out, "--domain is missing") {
		t.Errorf("init without what it needs: %d %s", code, out)
	}
	s.serveIt()
	ldif := ""
	for _, uid := range []string{"alice", "bob"} {
		ldif += fmt.Sprintf("dn: uid=%[1]s,ou=people,dc=works,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\n"+
			"uid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[1]s@works.gov.example\nuserPassword: password of %[1]s\n\n", uid)
		if err := os.MkdirAll(s.path("people", uid), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("people", uid, "password"), []byte("password of "+uid), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.run(ldif, program, "directory", "import", "--config", config); err == nil {
		t.Error("the directory was changed without a log-in")
	}
	s.must(ldif, program, "directory", "import", "--config", config, "--user", "kwchan", "--password-file", s.adminPassword)
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "Hello", "first words")); err != nil {
		t.Fatal(err, out)
	}
	if got := s.last("bob", "INBOX"); !strings.Contains(got, "first words") {
		t.Errorf("bob has %q", got)
	}
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "[CONFIDENTIAL] x", "no")); err == nil || !strings.Contains(out, "has no certificate") {
		t.Errorf("confidential mail without certificates: %v %s", err, out)
	}
}

// TestDirectoryRoundTrip exports a directory, beside the daemon and without it, and imports it into an empty one: the
// export of that is the same, and everybody still has their mail and their password.
func TestDirectoryRoundTrip(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t, "--bench-users", "3")
	config := s.path("cmmpd.toml")
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "Hello", "before the move")); err != nil {
		t.Fatal(err, out)
	}
	online := s.must("", program, "directory", "export", "--config", config, "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	s.stop(syscall.SIGTERM)
	offline := s.must("", program, "directory", "export", "--config", config)
	if online != offline || strings.Count(online, "\ndn: ") < 20 {
		t.Fatalf("the export beside the daemon has %d octets, the one without %d", len(online), len(offline))
	}
	if err := os.Remove(s.path("directory.db")); err != nil {
		t.Fatal(err)
	}
	s.must(online, program, "directory", "import", "--config", config)
	if again := s.must("", program, "directory", "export", "--config", config); again != online {
		t.Errorf("the export of the import differs:\n%s\nwas\n%s", again, online)
	}
	if out := s.must(online, program, "directory", "import", "--config", config); !strings.Contains(out, "added 0, modified 0, deleted 0") {
		t.Errorf("the same import again: %s", out)
	}
	s.start()
	if got := s.last("bob", "INBOX"); !strings.Contains(got, "before the move") {
		t.Errorf("bob has %q", got)
	}
}
