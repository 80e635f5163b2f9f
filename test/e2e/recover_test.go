package e2e

import (
	"fmt"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// TestRecover: bob brings a deleted message back, with imaplib and with curl. What is confidential is as sealed there as
// it was.
func TestRecover(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "python3")
	s := newSite(t)
	for _, to := range []string{bob, bob, erin} {
		if out, err := s.send("alice", alice, []string{to}, mailOf(alice, to, "precious", "a precious text")); err != nil {
			t.Fatal(err, out)
		}
	}
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, "[CONFIDENTIAL] precious", "a secret text")); err != nil {
		t.Fatal(err, out)
	}
	before := s.counts()
	if out := s.must("", "python3", "testdata/recover.py", s.dir, fmt.Sprint(s.base)); !strings.Contains(out, "all good") {
		t.Error(out)
	}
	s.imap("bob", "INBOX", `STORE 1:* +FLAGS.SILENT (\Deleted)`)
	s.imap("bob", "INBOX", "EXPUNGE")
	if got := s.last("bob", "Recoverable"); !strings.Contains(got, "Subject: precious") {
		t.Errorf("the last that was deleted:\n%s", got)
	}
	if got := s.imap("bob", "Recoverable", "SEARCH TEXT secret"); strings.TrimSpace(got) != "* SEARCH" {
		t.Errorf("the secret is found in clear: %s", got)
	}
	after := s.counts()
	if after.Recoverable != 4 || after.Entries != before.Entries-3 || after.Bodies != before.Bodies-3 || after.Mailboxes != before.Mailboxes || len(after.Problems) > 0 {
		t.Errorf("check: %+v, before %+v", after, before)
	}
	out, err := s.run("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "imaps://"+s.addr(993)+"/Recoverable", "-X", "MOVE 1:* Archive")
	if err != nil {
		t.Fatal(err, out)
	}
	if got := s.last("bob", "Archive"); !strings.Contains(got, "Subject: precious") {
		t.Errorf("brought back:\n%s", got)
	}
	if c := s.counts(); c.Recoverable != 0 || len(c.Problems) > 0 {
		t.Errorf("check: %+v", c)
	}
}
