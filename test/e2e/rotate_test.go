package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// platformKeys is what "cmmpd keys rotate --status" says.
type platformKeys struct {
	Current string         `json:"current"`
	Under   map[string]int `json:"under"`
	Waiting int            `json:"waiting"`
	Stale   bool           `json:"stale"`
	Waits   string         `json:"waits"`
}

func (s *site) platformKeys() (p platformKeys) {
	s.t.Helper()
	if err := json.Unmarshal([]byte(s.must("", program, "keys", "rotate", "--status", "--json", "--config", s.path("cmmpd.toml"))), &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// replace changes the configuration.
func (s *site) replace(old, fresh string) {
	s.t.Helper()
	text := s.read("cmmpd.toml")
	if strings.Count(text, old) != 1 {
		s.t.Fatalf("%q is not in the configuration once", old)
	}
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(strings.Replace(text, old, fresh, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// TestRotation moves a platform's accounts from a keystore of files into a token, with the daemon killed in the middle, and then from one key of the
// token to the next; mail comes and is read all the while, and nothing is left that the old keys open.
func TestRotation(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	const people = 40
	k := newKeyd(t)
	s := newInstallation(t)
	s.serveIt()
	s.addPeople("alice", "bob")
	ldif, all := "", []string{"bob@works.gov.example"}
	for i := range people {
		ldif += fmt.Sprintf("dn: uid=p%[1]d,ou=people,dc=works,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\n"+
			"uid: p%[1]d\ncn: p%[1]d\nsn: p%[1]d\nmail: p%[1]d@works.gov.example\nuserPassword: password of p%[1]d\n\n", i)
		all = append(all, fmt.Sprintf("p%d@works.gov.example", i))
		if err := os.MkdirAll(s.path("people", fmt.Sprint("p", i)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(s.path("people", fmt.Sprint("p", i), "password"), fmt.Appendf(nil, "password of p%d", i), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.must(ldif, program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "kwchan", "--password-file", s.adminPassword)
	round := func(words string) {
		t.Helper()
		if out, err := s.send("alice", "alice@works.gov.example", all, mailOf("alice@works.gov.example", "bob@works.gov.example", "to all", words)); err != nil {
			t.Fatal(err, out)
		}
		for _, uid := range []string{"bob", "p7", fmt.Sprint("p", people-1)} {
			if got := s.last(uid, "INBOX"); !strings.Contains(got, words) {
				t.Fatalf("%s reads %q, not %q", uid, got, words)
			}
		}
	}
	round("under a key in a file")
	s.stop(syscall.SIGTERM)

	mailSlot := "[keystore.mail]                 # what differs for the platform key, which opens mail; empty: it is where the others are\nkind = \"\"\npath = \"\"\nsocket = \"\"\n"
	moving := fmt.Sprintf("[keystore.mail]\nkind = \"pkcs11\"\npath = \"\"\nsocket = %q\n", k.socket)
	s.replace(mailSlot, moving)
	s.replace("After \"cmmpd keys rotate\" nothing is needed of it\nkind = \"\"\npath = \"\"\n", "\nkind = \"file\"\npath = \"keys/keystore\"\n")
	s.start()
	if code, out := s.code("keys", "rotate", "--config", s.path("cmmpd.toml")); code != 1 || !strings.Contains(out, "unsealed") {
		t.Errorf("rotation while sealed: %d %s", code, out)
	}
	k.unseal()
	round("with the key in the old keystore still")
	s.must("", program, "keys", "rotate", "--config", s.path("cmmpd.toml"), "mail/platform")
	s.stop(syscall.SIGKILL)
	s.start()
	p := s.platformKeys()
	t.Logf("after the kill %+v", p)
	if p.Current != "platform-2" {
		t.Errorf("after the kill %+v", p)
	}
	round("while it goes on")
	k.eventually("all are under the new key", func() bool { p = s.platformKeys(); return p.Waiting == 0 && !p.Stale })
	if len(p.Under) != 1 || p.Under["platform-2"] < people {
		t.Errorf("at last %+v", p)
	}
	s.stop(syscall.SIGTERM)
	s.replace("\nkind = \"file\"\npath = \"keys/keystore\"\nsocket = \"\"\n\n[store]", "\nkind = \"\"\npath = \"\"\nsocket = \"\"\n\n[store]")
	if err := os.Remove(s.path("keys", "keystore", "mail", "platform.pem")); err != nil {
		t.Fatal(err)
	}
	s.start()
	round("without the old keystore")

	retire := []string{"keys", "retire", "--config", s.path("cmmpd.toml"), "--slot", "mail", "platform-2"}
	if code, out := s.code(retire...); code != 1 || !strings.Contains(out, "rotate it first") {
		t.Errorf("retiring the key in use: %d %s", code, out)
	}
	s.stop(syscall.SIGTERM)
	older := filepath.Join(t.TempDir(), "older")
	s.must("", "cp", "-a", s.dir, older)
	s.start()
	s.must("", program, "keys", "rotate", "--config", s.path("cmmpd.toml"), "--wait")
	if out := s.must("", program, "keys", "rotate", "--status", "--config", s.path("cmmpd.toml")); !strings.Contains(out, "current\tmail/platform-3") || !strings.Contains(out, "done") {
		t.Errorf("the status: %s", out)
	}
	s.must("", program, retire...)
	round("under the third key")
	s.stop(syscall.SIGTERM)
	if out := s.must("", program, "check", "--deep", "--config", s.path("cmmpd.toml")); strings.Contains(out, "problem:") {
		t.Errorf("check: %s", out)
	}
	log := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	for _, want := range []string{`"key.rotate"`, `"mail/platform-2"`, `"rotation of the platform key"`, `"check of the store"`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s on record", want)
		}
	}
	if names, err := filepath.Glob(s.path("keys", "keystore", "mail", "*")); err != nil || len(names) > 0 {
		t.Errorf("in files there are still %v (%v)", names, err)
	}
	s.backFrom(t, older)
	round("from before the third key")
}

// backFrom restores a platform from a copy whose platform key was retired since: nothing can be read until it is brought back.
func (s *site) backFrom(t *testing.T, older string) {
	if err := errors.Join(os.Rename(s.dir, filepath.Join(t.TempDir(), "newer")), os.Rename(older, s.dir)); err != nil {
		t.Fatal(err)
	}
	s.start()
	imap := []string{"-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "imaps://" + s.addr(993) + "/INBOX;MAILINDEX=*"}
	if out, err := s.run("", "curl", imap...); err == nil {
		t.Errorf("bob reads %q without the platform key", out)
	}
	s.stop(syscall.SIGTERM)
	_, rest, _ := strings.Cut(s.must("", program, "keys", "list", "--config", s.path("cmmpd.toml")), "mail\tretired ")
	at, _, _ := strings.Cut(rest, "\t")
	s.must("", program, "keys", "unretire", "--config", s.path("cmmpd.toml"), "--slot", "mail", "retired "+at)
	s.start()
}
