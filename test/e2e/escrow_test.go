package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/testkit"
)

// escrow runs a command about escrow as somebody, with in as its standard input.
func (s *site) escrow(in, uid, command string, args ...string) (string, error) {
	all := []string{"escrow", command, "--config", s.path("cmmpd.toml"), "--user", uid, "--password-file", s.path("people", uid, "password")}
	return s.run(in, program, append(all, args...)...)
}

func (s *site) mustEscrow(in, uid, command string, args ...string) string {
	s.t.Helper()
	out, err := s.escrow(in, uid, command, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *site) p12(uid string) []string {
	return []string{"--p12", s.path("keys", "escrow-"+uid+".p12"), "--p12-password-file", s.path("people", uid, "password")}
}

// asks asks for accounts until tomorrow.
func (s *site) asks(args ...string) string {
	s.t.Helper()
	args = append([]string{"--case", "LD/2026/17", "--reason", "court order", "--to", time.Now().Add(24 * time.Hour).Format(time.RFC3339)}, args...)
	return strings.TrimSpace(s.mustEscrow("", "records", "request", args...))
}

// part is what an officer decrypts with our program.
func (s *site) part(request, uid string) string {
	s.t.Helper()
	part := s.mustEscrow("", uid, "share", request)
	return s.must(part, program, append([]string{"escrow", "decrypt"}, s.p12(uid)...)...)
}

func (s *site) approve(request string) {
	s.t.Helper()
	for _, uid := range []string{"secoff1", "secoff2"} {
		s.mustEscrow(s.part(request, uid), uid, "approve", request)
	}
}

// deniedWith demands that a command is refused, saying so.
func (s *site) deniedWith(words string, err error) {
	s.t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		s.t.Errorf("%v; it should say %q", err, words)
	}
}

// notices counts the notices of a case in an INBOX.
func (s *site) notices(uid string) int {
	s.t.Helper()
	out := s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "imaps://"+s.addr(993)+"/INBOX", "-X", `SEARCH FROM "Mail System" TEXT "LD/2026/17"`)
	return len(strings.Fields(out)) - 2
}

func TestEscrow(t *testing.T) {
	for _, name := range []string{"curl", "openssl"} {
		testkit.Need(t, name)
	}
	s := newSite(t)
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "harbour", "the old ferry pier")); err != nil {
		t.Fatal(out)
	}
	var status struct{ Accounts, Covered, Former int }
	if err := json.Unmarshal([]byte(s.must("", program, "escrow", "status", "--json", "--config", s.path("cmmpd.toml"))), &status); err != nil || status.Accounts == 0 || status.Covered != status.Accounts {
		t.Errorf("%+v %v", status, err)
	}

	// Who may ask, and what for.
	_, err := s.escrow("", "admin", "request", "--case", "x", "--reason", "curiosity", "--account", "bob", "--to", "2036-01-01")
	s.deniedWith("does not have the role", err)
	_, err = s.escrow("", "records", "request", "--reason", "r", "--account", "bob", "--to", time.Now().Add(time.Hour).Format(time.RFC3339))
	s.deniedWith("case number", err)
	request := s.asks("--account", "bob", "--certificate", s.path("pki", "escrow-records.pem"))

	// Mail that looks as if bob had been told already does not keep the notice from him.
	forged := mailOf("alice@works.gov.example", "bob@works.gov.example", "harbour", "hello")
	i, j := strings.Index(forged, "Message-ID: <"), strings.Index(forged, "@e2e.gov.example>")
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, forged[:i]+"Message-ID: <escrow."+request+".1@localhost>"+forged[j+len("@e2e.gov.example>"):]); err != nil {
		t.Fatal(out)
	}

	// One officer with OpenSSL, the other with our program.
	part := s.path("part.p7m")
	if err := os.WriteFile(part, []byte(s.mustEscrow("", "secoff1", "share", request)), 0o600); err != nil {
		t.Fatal(err)
	}
	key := s.path("secoff1.key")
	s.must("", "openssl", "pkcs12", "-in", s.path("keys", "escrow-secoff1.p12"), "-passin", "file:"+s.path("people", "secoff1", "password"), "-nodes", "-nocerts", "-out", key)
	first := s.must("", "openssl", "cms", "-decrypt", "-inform", "DER", "-in", part, "-inkey", key, "-recip", s.path("pki", "escrow-secoff1.pem"))
	s.mustEscrow(first, "secoff1", "approve", request)
	_, err = s.escrow(first, "secoff2", "approve", request)
	s.deniedWith("not that of secoff2", err)
	_, err = s.escrow(first, "admin", "approve", request)
	s.deniedWith("does not have the role", err)
	dest := filepath.Join(t.TempDir(), "bob.tar")
	_, err = s.escrow("", "records", "export", request, dest)
	s.deniedWith("1 of 2 officers", err)
	s.mustEscrow(s.part(request, "secoff2"), "secoff2", "approve", request)

	// What was brought does not outlive the process.
	s.stop(syscall.SIGKILL)
	s.start()
	_, err = s.escrow("", "records", "export", request, dest)
	s.deniedWith("0 of 2 officers", err)
	s.approve(request)
	_, err = s.escrow("", "secoff1", "export", request, dest)
	s.deniedWith("does not have the role", err)
	s.mustEscrow("", "records", "export", request, dest)
	s.opensExport(dest)
	s.eventually("the owner is told", func() bool { return s.notices("bob") == 1 })
	if text := s.last("bob", "INBOX"); !strings.Contains(text, "Case number:") || !strings.Contains(text, "postmaster@works.gov.example") || !strings.Contains(text, "Auto-Submitted: auto-generated") {
		t.Errorf("the notice:\n%s", text)
	}

	// The case forbids to tell the owner.
	quiet := s.asks("--account", "bob", "--no-notice-until", time.Now().AddDate(1, 0, 0).Format(time.DateOnly))
	s.approve(quiet)
	if list := s.mustEscrow("", "secoff1", "list"); strings.Count(list, time.Now().AddDate(1, 0, 0).Format(time.DateOnly)) != 1 || len(regexp.MustCompile(`\b[0-9a-f]{64}\b`).FindAllString(list, -1)) != 1 {
		t.Errorf("officers do not see what they approve: when the owner hears of it, and to whom it goes:\n%s", list)
	}
	s.mustEscrow("", "records", "recover", quiet)
	s.stop(syscall.SIGKILL)
	s.start()
	s.escrowOnRecord()
	if n := s.notices("bob"); n != 1 {
		t.Errorf("%d notices after all this", n)
	}

	s.losesPassword()
	s.losesPlatformKey()
	if c := s.counts(); len(c.Problems) > 0 {
		t.Errorf("%q", c.Problems)
	}
	s.must("", program, "audit", "verify", "--key", s.path("audit", "audit.pub"), s.path("audit"))
}

// opensExport reads an export as the requester does.
func (s *site) opensExport(dest string) {
	s.t.Helper()
	raw, err := os.ReadFile(dest)
	if err != nil || bytes.Contains(raw, []byte("ferry")) || bytes.Contains(raw, []byte("harbour")) || bytes.Contains(raw, []byte("INBOX")) {
		s.t.Errorf("the export is not encrypted: %v", err)
	}
	out := filepath.Join(s.t.TempDir(), "out")
	words := s.must("", program, append(append([]string{"escrow", "unpack"}, s.p12("records")...), dest, out)...)
	text, err := os.ReadFile(filepath.Join(out, "00000001.eml"))
	if err != nil || !bytes.Contains(text, []byte("the old ferry pier")) {
		s.t.Errorf("%q %v", text, err)
	}
	log := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	_, sum, _ := strings.Cut(words, "manifest ")
	sum, _, _ = strings.Cut(sum, " ")
	if len(sum) != 64 || !strings.Contains(log, sum) {
		s.t.Errorf("the manifest %q is not on record", sum)
	}
	// The same with OpenSSL, for one entry.
	dir := s.t.TempDir()
	s.must("", "tar", "-x", "-C", dir, "-f", dest)
	key := filepath.Join(dir, "key.pem")
	s.must("", "openssl", "pkcs12", "-in", s.path("keys", "escrow-records.p12"), "-passin", "file:"+s.path("people", "records", "password"), "-nodes", "-nocerts", "-out", key)
	if got := s.must("", "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", filepath.Join(dir, "00000001.p7m"), "-inkey", key, "-recip", s.path("pki", "escrow-records.pem")); got != string(text) {
		s.t.Errorf("openssl reads %q", got)
	}
	// One octet is wrong; the end is missing.
	raw[600] ^= 1
	for _, spoilt := range [][]byte{raw, raw[:len(raw)/2&^511]} {
		if err := os.WriteFile(dest, spoilt, 0o600); err != nil {
			s.t.Fatal(err)
		}
		if _, err := s.run("", program, append(append([]string{"escrow", "unpack"}, s.p12("records")...), dest, filepath.Join(s.t.TempDir(), "out"))...); err == nil {
			s.t.Error("a spoilt export is taken for whole")
		}
	}
}

// escrowOnRecord looks for each act in the audit log, with its case.
func (s *site) escrowOnRecord() {
	s.t.Helper()
	log := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	if !strings.Contains(log, `"approved":"secoff1, secoff2"`) {
		s.t.Error("who approved is not on record with the opening")
	}
	for _, event := range []string{"request", "share", "approve", "export", "recover", "notice"} {
		found := false
		for line := range strings.Lines(log) {
			found = found || strings.Contains(line, `"approval":"LD/2026/17"`) && strings.Contains(line, `"subject":"bob"`) && strings.Contains(line, fmt.Sprintf(`"type":"escrow.%s"`, event))
		}
		if !found {
			s.t.Errorf("escrow.%s is not on record under its case", event)
		}
	}
	if !strings.Contains(log, `"type":"admin.refused"`) {
		s.t.Error("it is not on record who asked without a role")
	}
}

// losesPassword has the administrator set a new password: the mail is there.
func (s *site) losesPassword() {
	s.t.Helper()
	const fresh = "Another-Password-31"
	s.must("dn: uid=bob,ou=people,dc=gov,dc=example\nchangetype: modify\nreplace: userPassword\nuserPassword: "+fresh+"\n-\n", program, "directory", "import",
		"--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	if err := os.WriteFile(s.path("people", "bob", "password"), []byte(fresh), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if text := s.readFirst("bob"); !strings.Contains(text, "ferry pier") {
		s.t.Errorf("after a new password: %q", text)
	}
}

func (s *site) readFirst(uid string) string {
	out, err := s.run("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "imaps://"+s.addr(993)+"/INBOX;MAILINDEX=1")
	if err != nil {
		return err.Error()
	}
	return out
}

// losesPlatformKey puts another platform key into the place of the one: with it nothing opens, until the officers bring all keys in one ceremony.
func (s *site) losesPlatformKey() {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	if err := os.Remove(s.path("keys", "keystore", "mail", "platform.pem")); err != nil {
		s.t.Fatal(err)
	}
	ks, err := keys.OpenFile(s.path("keys", "keystore"))
	if err == nil {
		err = errors.Join(ks.Generate(keys.Mail, keys.PlatformKey, keys.KindAES256), ks.Close())
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.start()
	if text := s.readFirst("bob"); strings.Contains(text, "ferry pier") {
		s.t.Errorf("without the platform key: %q", text)
	}
	all := s.asks("--all")
	for _, uid := range []string{"secoff1", "secoff2"} {
		if n := strings.Count(s.part(all, uid), "\n"); n < 14 {
			s.t.Errorf("%s has parts of %d accounts", uid, n)
		}
	}
	s.approve(all)
	out := s.mustEscrow("", "records", "recover", all)
	if text := s.readFirst("bob"); !strings.Contains(text, "ferry pier") {
		s.t.Errorf("after %s: %q", out, text)
	}
	s.eventually("everybody is told", func() bool { return s.notices("carol") == 1 && s.notices("bob") == 2 })
	if code, words := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
		s.t.Errorf("check: %s", words)
	}
}
