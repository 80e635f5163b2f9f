package e2e

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// configure gives keys of the configuration other values, and starts the program again.
func (s *site) configure(values map[string]string, more string) {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	text := s.read("cmmpd.toml")
	for key, value := range values {
		text = regexp.MustCompile(`(?m)^`+key+` = \S+`).ReplaceAllLiteralString(text, key+" = "+value)
	}
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(text+more), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

// imap says an IMAP command in a mailbox with curl.
func (s *site) imap(uid, mailbox, command string) string {
	s.t.Helper()
	return s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "imaps://"+s.addr(993)+"/"+mailbox, "-X", command)
}

// TestQuotas: bob may hold four messages, and his department twenty.
func TestQuotas(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	s.configure(map[string]string{"account-size": `"1GiB"`}, "\n[[quota.departments]]\ndomain = \"works.gov.example\"\naccount-messages = 4\nmessages = 20\n")
	send := func(to ...string) (string, error) {
		return s.send("alice", alice, to, mailOf(alice, to[0], "Hello", "text"))
	}
	must := func(to ...string) {
		t.Helper()
		if out, err := send(to...); err != nil {
			t.Fatal(err, out)
		}
	}
	for range 3 {
		must(bob)
	}
	if got := s.imap("bob", "INBOX", "GETQUOTAROOT INBOX"); !strings.Contains(got, `* QUOTA "" (STORAGE 2 1048576 MESSAGE 3 4)`) {
		t.Errorf("three messages: %s", got)
	}
	must(bob)
	s.eventually("bob is warned", func() bool { return strings.Contains(s.last("bob", "INBOX"), "Auto-Submitted: auto-generated") })
	quotas := s.imap("bob", "INBOX", "GETQUOTAROOT INBOX")
	for _, want := range []string{`* QUOTAROOT INBOX "" "works.gov.example"`, ` MESSAGE 5 4)`, `* QUOTA "works.gov.example" (MESSAGE 5 20)`} {
		if !strings.Contains(quotas, want) {
			t.Errorf("no %q in\n%s", want, quotas)
		}
	}
	if out, err := send(bob); err == nil || !strings.Contains(out, "452 4.2.2 the mailbox is full") {
		t.Errorf("to bob: %v\n%s", err, out)
	}
	before := s.counts()
	must("team@works.gov.example")
	if after := s.counts(); after.Entries != before.Entries+3 || after.Bodies != before.Bodies+2 || len(after.Problems) > 0 {
		t.Errorf("check: %+v, before %+v", after, before)
	}
	if got := s.last("carol", "INBOX"); !strings.Contains(got, "Subject: Hello") {
		t.Errorf("carol has\n%s", got)
	}
	if got := s.last("alice", "INBOX"); !strings.Contains(got, "Final-Recipient: rfc822; bob@works.gov.example\r\nAction: failed\r\nStatus: 5.2.2\r\n") {
		t.Errorf("alice has\n%s", got)
	}
	s.imap("bob", "INBOX", `STORE 1:3 +FLAGS.SILENT (\Deleted)`)
	s.imap("bob", "INBOX", "EXPUNGE")
	must(bob)
	if got := s.imap("bob", "INBOX", "GETQUOTAROOT INBOX"); !strings.Contains(got, `* QUOTA "works.gov.example" (MESSAGE 5 20)`) { // two of them are alice's
		t.Errorf("the department holds %s", got)
	}
	if c := s.counts(); len(c.Problems) > 0 {
		t.Errorf("check: %+v", c)
	}
	code, out := s.code("config", "check", "--config", s.path("cmmpd.toml"))
	if code != 0 {
		t.Errorf("config check: %s", out)
	}
}
