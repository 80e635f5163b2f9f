package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// TestNoPlainText sends a marker in every way that mail comes in and looks for it below
// the folder, with the daemon running and after it was stopped.
func TestNoPlainText(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "python3")
	s := newSite(t)
	marker := "Needle" + rand.Text()
	for _, msg := range []string{
		mailOf(alice, bob, "Ordinary "+marker, marker),
		mailOf(alice, bob, "[CONFIDENTIAL] "+marker, marker),
		strings.Replace(mailOf(alice, bob, "Encoded", base64.StdEncoding.EncodeToString([]byte("x"+marker))), "Subject:", "Content-Transfer-Encoding: base64\nSubject:", 1),
		mailOf(alice, dave, "[CONFIDENTIAL] "+marker, marker),
	} {
		to := bob
		if strings.Contains(msg, "To: "+dave) {
			to = dave
		}
		if out, err := s.send("alice", alice, []string{to}, msg); (err == nil) != (to == bob) {
			t.Fatalf("to %s: %v\n%s", to, err, out)
		}
	}
	for _, mailbox := range []string{"Sent", "Drafts"} {
		msg := strings.ReplaceAll(mailOf(alice, bob, "[CONFIDENTIAL] "+marker, marker), "\n", "\r\n")
		s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("alice"), "-T", s.tmp(msg), "imaps://"+s.addr(993)+"/"+mailbox)
	}
	s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "imaps://"+s.addr(993)+"/INBOX", "-X", fmt.Sprintf("SEARCH TEXT %s", marker))
	s.scan(marker, "")
	planted := s.path("planted")
	if err := os.WriteFile(planted, []byte(base64.StdEncoding.EncodeToString([]byte("ab"+marker))), 0o600); err != nil {
		t.Fatal(err)
	}
	s.scan(marker, planted)
	if err := os.Remove(planted); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(s.log.String(), marker) {
		t.Error("the log holds the marker")
	}
}

// scan demands that the marker is found in the one file only, or nowhere.
func (s *site) scan(marker, in string) {
	s.t.Helper()
	if out := strings.TrimSpace(s.must("", "python3", "testdata/scan.py", s.dir, marker)); out != in {
		s.t.Errorf("the marker is in %q, should be in %q", out, in)
	}
}
