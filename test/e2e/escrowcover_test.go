package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// TestEscrowCoverKilled kills the daemon while the officers of a new group are made to keep 300 accounts' keys: it is begun again, and goes on from there.
func TestEscrowCoverKilled(t *testing.T) {
	testkit.Need(t, "curl")
	const people, atOnce = 300, 50
	s := newSite(t)
	ldif := ""
	for i := range people {
		ldif += fmt.Sprintf("dn: uid=p%[1]d,ou=people,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\n"+
			"uid: p%[1]d\ncn: p%[1]d\nsn: p%[1]d\nmail: p%[1]d@works.gov.example\nuserPassword: password of p%[1]d\n\n", i)
	}
	s.must(ldif, program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	for i := 0; i < people; i += atOnce { // the first mail makes an account's key
		var to []string
		for n := range atOnce {
			to = append(to, fmt.Sprintf("p%d@works.gov.example", i+n))
		}
		if out, err := s.send("alice", "alice@works.gov.example", to, mailOf("alice@works.gov.example", to[0], "to all", "words")); err != nil {
			t.Fatal(err, out)
		}
	}
	type state struct{ Accounts, Covered, Former int }
	status := func() (st state) {
		t.Helper()
		if err := json.Unmarshal([]byte(s.must("", program, "escrow", "status", "--json", "--config", s.path("cmmpd.toml"))), &st); err != nil {
			t.Fatal(err)
		}
		return st
	}
	s.eventually("all accounts are there", func() bool { st := status(); return st.Accounts >= people && st.Covered == st.Accounts })
	s.stop(syscall.SIGTERM)
	third := "\n[[escrow.officers]]\nuid = \"records\"\ncertificate = \"pki/escrow-records.pem\"\n"
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(s.read("cmmpd.toml")+third), 0o600); err != nil {
		t.Fatal(err)
	}
	s.edit("unwraps-per-second = 100", "unwraps-per-second = 10 ") // so that it takes a while
	s.command = []string{"serve", "--config", s.path("cmmpd.toml")}
	s.start()
	all := status()
	if all.Covered != 0 || all.Accounts < people {
		t.Fatalf("with another officer: %+v", all)
	}
	cover := exec.Command(program, "escrow", "cover", "--config", s.path("cmmpd.toml"), "--user", "secoff1", "--password-file", s.path("people", "secoff1", "password"))
	var words strings.Builder
	cover.Stdout, cover.Stderr = &words, &words
	if err := cover.Start(); err != nil {
		t.Fatal(err)
	}
	s.eventually("some are covered", func() bool { return status().Covered > 0 })
	s.stop(syscall.SIGKILL)
	if err := cover.Wait(); err == nil || words.Len() == 0 {
		t.Errorf("whoever waits for it hears: %v %s", err, &words)
	}
	s.edit("unwraps-per-second = 10 ", "unwraps-per-second = 0  ")
	s.start()
	st := status()
	t.Logf("after the kill %+v", st)
	if st.Covered == 0 || st.Covered >= st.Accounts {
		t.Errorf("not in the middle: %+v", st)
	}
	out := s.mustEscrow("", "secoff1", "cover")
	if want := fmt.Sprintf("covered %d;", st.Accounts-st.Covered); !strings.Contains(out, want) {
		t.Errorf("it says %q, not %q", out, want)
	}
	if st = status(); st.Covered != all.Accounts || st.Accounts != all.Accounts || st.Former != 0 {
		t.Errorf("at last %+v", st)
	}
	if c := s.counts(); len(c.Problems) > 0 {
		t.Errorf("%q", c.Problems)
	}
}
