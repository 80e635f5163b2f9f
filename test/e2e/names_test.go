package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// record is what of an exported audit record these tests look at.
type record struct {
	Type, Actor, Subject, Outcome string
	Detail                        map[string]string
}

// records are those of one type, in order.
func (s *site) records(typ string, args ...string) (list []record) {
	s.t.Helper()
	out := s.must("", program, append([]string{"audit", "export", "--config", s.path("cmmpd.toml"), "--type", typ}, args...)...)
	for line := range strings.Lines(out) {
		var r record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			s.t.Fatalf("%v: %s", err, line)
		}
		list = append(list, r)
	}
	return list
}

// knock has somebody fail to log in: whatever they typed as a name is theirs.
func (s *site) knock(name string) {
	s.t.Helper()
	if out, err := s.run("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", name+":wrong", "imaps://"+s.addr(993)+"/"); err == nil {
		s.t.Fatalf("%s logged in: %s", name, out)
	}
}

// failedLogins are the names of the log-ins that failed.
func (s *site) failedLogins(args ...string) (names []string) {
	for _, r := range s.records("auth.login", args...) {
		if r.Outcome != "ok" {
			names = append(names, r.Actor)
		}
	}
	return names
}

// TestAuditNames restores the table of personal data beside the audit log, and erases from it beside the daemon.
func TestAuditNames(t *testing.T) {
	testkit.Need(t, "curl")
	const one, two = "wong@partner.example", "lee@partner.example"
	s := newSite(t)
	s.knock(one)
	s.knock(two)
	var digests []string
	s.eventually("the log-ins are on record", func() bool { digests = s.failedLogins("--no-names"); return len(digests) == 2 })
	if named := s.failedLogins(); !slices.Equal(named, []string{one, two}) {
		t.Fatalf("the export names %q", named)
	}
	for _, d := range digests {
		if !strings.HasPrefix(d, "hmac-sha256:") {
			t.Errorf("the log has %q", d)
		}
	}
	dest := filepath.Join(t.TempDir(), "backups")
	s.must("", program, "backup", "--config", s.path("cmmpd.toml"), dest)
	s.stop(syscall.SIGTERM)

	moved := &site{t: t, dir: filepath.Join(t.TempDir(), "new"), base: s.base}
	moved.command = []string{"serve", "--config", moved.path("cmmpd.toml")}
	for _, dir := range []string{"keys", "people"} {
		if err := os.CopyFS(moved.path(dir), os.DirFS(s.path(dir))); err != nil {
			t.Fatal(err)
		}
		private(t, moved.path(dir))
	}
	if code, out := s.code("restore", "--config", moved.path("cmmpd.toml"), "--keystore", moved.path("keys", "keystore"), dest); code != 0 {
		t.Fatalf("restore: %d %s", code, out)
	}
	b, err := os.ReadFile(moved.path("audit-names.db"))
	if err != nil || strings.Contains(string(b), "partner.example") {
		t.Errorf("the restored table: %v, or it is in clear", err)
	}
	moved.serveIt()
	if named := moved.failedLogins(); !slices.Equal(named, []string{one, two}) {
		t.Errorf("after the restore the export names %q", named)
	}
	moved.knock(one)
	var again []string
	moved.eventually("the log-in is on record", func() bool { again = moved.failedLogins("--no-names"); return len(again) == 3 })
	if !slices.Equal(again, append(slices.Clone(digests), digests[0])) {
		t.Errorf("the digests were %q and are %q", digests, again)
	}

	forget := func(user string) (int, string) {
		return moved.code("audit", "forget", "--config", moved.path("cmmpd.toml"), "--value", one, "--reason", "their request",
			"--user", user, "--password-file", moved.path("people", user, "password"))
	}
	for _, user := range []string{"alice", "admin"} {
		if code, out := forget(user); code != 1 || !strings.Contains(out, "does not have the role") {
			t.Errorf("%s erases: %d %s", user, code, out)
		}
	}
	if code, out := moved.code("audit", "forget", "--config", moved.path("cmmpd.toml"), "--value", one, "--reason", "x"); code != 1 || !strings.Contains(out, "log-in") {
		t.Errorf("nobody erases: %d %s", code, out)
	}
	if named := moved.failedLogins(); !slices.Equal(named, []string{one, two, one}) {
		t.Errorf("after the refusals the export names %q", named)
	}
	if code, out := forget("auditor"); code != 0 || !strings.Contains(out, "erased 1") {
		t.Errorf("the auditor erases: %d %s", code, out)
	}
	if named := moved.failedLogins(); !slices.Equal(named, []string{digests[0], two, digests[0]}) {
		t.Errorf("after it was erased the export names %q", named)
	}
	if r := moved.records("admin.refused"); len(r) != 2 || r[0].Actor != "alice" || r[1].Actor != "admin" || r[1].Detail["roles"] != "auditor records-manager" {
		t.Errorf("the refusals on record: %+v", r)
	}
	if r := moved.records("audit.forget", "--no-names"); len(r) != 2 || r[0].Actor != "auditor" || r[1].Outcome != "ok" || r[1].Detail["erased"] != "1" || !strings.HasPrefix(r[0].Detail["reason"], "hmac-sha256:") {
		t.Errorf("the erasure on record: %+v", r)
	}
	moved.stop(syscall.SIGTERM)
	if code, out := s.code("audit", "verify", "--key", s.path("audit", "audit.pub"), moved.path("audit")); code != 0 {
		t.Errorf("audit verify: %d %s", code, out)
	}
}
