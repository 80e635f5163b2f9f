package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

const (
	alice = "alice@works.gov.example"
	bob   = "bob@works.gov.example"
	carol = "carol@health.gov.example"
	erin  = "erin@health.gov.example"
	dave  = "dave@health.gov.example"
	frank = "frank@works.gov.example"
	grace = "grace@works.gov.example"
)

// TestDemonstration is what a newcomer does first, twice in the same folder.
func TestDemonstration(t *testing.T) {
	dir, base := filepath.Join(t.TempDir(), "demo"), freeBase(t)
	once := func() (string, error) {
		out, err := exec.Command(program, "demo", "--once", "--dir", dir, "--base-port", fmt.Sprint(base)).CombinedOutput()
		return string(out), err
	}
	for range 2 {
		out, err := once()
		if err != nil || strings.Count(out, "   held") != 7 {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	// A step that is made to fail is named, and the exit code is 1.
	if err := os.Remove(filepath.Join(dir, "people", "carol", "key.pem")); err != nil {
		t.Fatal(err)
	}
	out, err := once()
	var exit *exec.ExitError
	if err == nil || !strings.Contains(out, "step 2 (") || strings.Contains(out, "step 1 (") {
		t.Fatalf("a missing key: %v\n%s", err, out)
	} else if ok := asExit(err, &exit); !ok || exit.ExitCode() != 1 {
		t.Errorf("exit %v, not 1", err)
	}
}

func asExit(err error, exit **exec.ExitError) bool {
	e, ok := err.(*exec.ExitError)
	*exit = e
	return ok
}

// TestClients has the standard tools do a user's work against one demonstration.
func TestClients(t *testing.T) {
	for _, p := range []string{"curl", "openssl", "python3", "swaks", "mbsync", "ldapsearch"} {
		testkit.Need(t, p)
	}
	s := newSite(t)
	t.Run("curl", s.sub((*site).curl))
	t.Run("python", s.sub((*site).python))
	t.Run("swaks", s.sub((*site).swaks))
	t.Run("mbsync", s.sub((*site).mbsync))
	t.Run("ldapsearch", s.sub((*site).ldapsearch))
	t.Run("confidential", s.sub((*site).confidential))
	t.Run("refused", s.sub((*site).refused))
	t.Run("bcc", s.sub((*site).bcc))
	t.Run("no clear text log-in", s.sub((*site).noClearText))
	t.Run("audit", s.sub((*site).auditLog))
	t.Run("closed ports", s.sub((*site).closedPorts))
}

// sub runs a part with the subtest's t.
func (s *site) sub(part func(*site)) func(*testing.T) {
	return func(t *testing.T) {
		outer := s.t
		s.t = t
		defer func() { s.t = outer }()
		part(s)
	}
}

func (s *site) curl() {
	text := "Lunch " + rand.Text()
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, "Lunch", text)); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	if got := s.last("bob", "INBOX"); !strings.Contains(got, text) || !strings.Contains(got, "\r\nReceived: ") && !strings.HasPrefix(got, "Received: ") {
		s.t.Errorf("bob gets\n%s", got)
	}
	// STARTTLS on 587
	out, err := exec.Command("curl", "-sS", "-v", "--ssl-reqd", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("alice"),
		"--mail-from", alice, "--mail-rcpt", bob, "--crlf", "-T", s.tmp(mailOf(alice, bob, "Lunch", "again "+text)), "smtp://"+s.addr(587)).CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	if got := s.last("bob", "INBOX"); !strings.Contains(got, "again "+text) {
		s.t.Errorf("bob gets\n%s", got)
	}
	// Somebody else's name
	if out, err := s.send("alice", bob, []string{bob}, mailOf(bob, bob, "Forged", text)); err == nil || !strings.Contains(out, "< 5") {
		s.t.Errorf("alice sends as bob: %v\n%s", err, out)
	}
	if out, err := s.send("alice", alice, []string{bob}, mailOf(bob, bob, "Forged", text)); err == nil || !strings.Contains(out, "< 5") {
		s.t.Errorf("alice writes From bob: %v\n%s", err, out)
	}
	if out, err := s.send("alice", alice, []string{"someone@partner.example"}, mailOf(alice, "someone@partner.example", "Out", text)); err == nil || !strings.Contains(out, "< 5") {
		s.t.Errorf("mail to another domain: %v\n%s", err, out)
	}
}

func (s *site) tmp(text string) string {
	f := filepath.Join(s.t.TempDir(), "f")
	if err := os.WriteFile(f, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return f
}

func (s *site) python() {
	out := s.must("", "python3", "testdata/clients.py", s.dir, fmt.Sprint(s.base))
	if !strings.Contains(out, "all good") {
		s.t.Error(out)
	}
}

func (s *site) swaks() {
	text := "swaks" + rand.Text()
	for _, args := range [][]string{
		{"--port", fmt.Sprint(s.base + 587), "--tls"},
		{"--port", fmt.Sprint(s.base + 465), "--tls-on-connect"},
		{"--port", fmt.Sprint(s.base + 587), "--tls", "--auth", "LOGIN"},
	} {
		all := append([]string{
			"--server", "127.0.0.1", "--auth-user", "alice", "--auth-password", s.read("people", "alice", "password"),
			"--from", alice, "--to", bob, "--header", "Subject: swaks", "--body", text,
		}, args...)
		if out := s.must("", "swaks", all...); !strings.Contains(out, "250 2.0.0") {
			s.t.Error(out)
		}
	}
	if got := s.last("bob", "INBOX"); !strings.Contains(got, text) {
		s.t.Errorf("bob gets\n%s", got)
	}
	out, err := s.run("", "swaks", "--server", "127.0.0.1", "--port", fmt.Sprint(s.base+25), "--tls", "--from", "x@partner.example", "--to", "nobody@works.gov.example")
	if err == nil || !strings.Contains(out, "550 5.1.1") {
		s.t.Errorf("unknown recipient: %v\n%s", err, out)
	}
}

func (s *site) mbsync() {
	dir := s.t.TempDir()
	rc := fmt.Sprintf(`IMAPAccount a
Host localhost
Port %d
User bob
Pass %s
TLSType IMAPS
CertificateFile %s

IMAPStore far
Account a

MaildirStore near
SubFolders Verbatim
Path %s/m/
Inbox %s/m/INBOX

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, s.base+993, s.read("people", "bob", "password"), s.path("pki", "ca.pem"), dir, dir)
	rc = strings.ReplaceAll(rc, "TLSType", "SSLType")
	conf := filepath.Join(dir, "rc")
	if err := os.MkdirAll(filepath.Join(dir, "m"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(conf, []byte(rc), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.must("", "mbsync", "-c", conf, "-a")
	// A message put into the local folder goes up, and comes back after the local copy of everything is gone.
	name := filepath.Join(dir, "m", "Archive", "new", "1.x")
	text := "kept " + rand.Text()
	if err := os.WriteFile(name, []byte("From: bob@works.gov.example\nSubject: Kept\n\n"+text+"\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.must("", "mbsync", "-c", conf, "-a")
	if got := s.last("bob", "Archive"); !strings.Contains(got, text) {
		s.t.Errorf("Archive holds\n%s", got)
	}
	// It is deleted there. What was deleted is copied like all mailboxes, though it is read-only.
	s.imap("bob", "Archive", `STORE 1:* +FLAGS.SILENT (\Deleted)`)
	s.imap("bob", "Archive", "EXPUNGE")
	for range 2 {
		s.must("", "mbsync", "-c", conf, "-a")
	}
	deleted, err := filepath.Glob(filepath.Join(dir, "m", "Recoverable", "*", "*"))
	if err != nil || len(deleted) == 0 {
		s.t.Errorf("copied of what was deleted: %q, %v", deleted, err)
	}
	if got := s.last("bob", "Recoverable"); !strings.Contains(got, text) {
		s.t.Errorf("Recoverable holds\n%s", got)
	}
}

func (s *site) ldapsearch() {
	block, _ := pem.Decode([]byte(s.read("people", "bob", "cert.pem")))
	want := base64.StdEncoding.EncodeToString(block.Bytes)
	for _, tls := range [][]string{{"-H", "ldaps://" + s.addr(636)}, {"-H", "ldap://" + s.addr(389), "-ZZ"}} {
		out := s.must("", "ldapsearch", append(tls, "-x", "-D", "uid=alice,ou=people,dc=gov,dc=example", "-y", s.path("people", "alice", "password"),
			"-o", "ldif-wrap=no", "-LLL", "-b", "dc=gov,dc=example", "(mail="+bob+")", "cn", "userCertificate")...)
		if !strings.Contains(out, "cn: Bob") || !strings.Contains(out, ":: "+want) {
			s.t.Errorf("%v: %s", tls, out)
		}
	}
	if out, err := s.run("", "ldapsearch", "-x", "-H", "ldap://"+s.addr(389), "-D", "alice", "-y", s.path("people", "alice", "password"), "-b", "dc=gov,dc=example"); err == nil || !strings.Contains(err.Error(), "onfidentiality") {
		s.t.Errorf("a bind in clear: %v %s", err, out)
	}
	if out, _ := s.run("", "ldapsearch", "-x", "-H", "ldaps://"+s.addr(636), "-LLL", "-b", "dc=gov,dc=example", "(objectClass=*)"); strings.Contains(out, "dn:") {
		s.t.Errorf("without a bind there is\n%s", out)
	}
}

var pkcs7 = regexp.MustCompile(`(?i)application/pkcs7-mime; *smime-type="?enveloped-data`)

func (s *site) confidential() {
	text := "Tender " + rand.Text()
	before := s.log.Len()
	if out, err := s.send("alice", alice, []string{bob, carol}, mailOf(alice, bob+", "+carol, "[CONFIDENTIAL] Tender", text)); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	for _, uid := range []string{"bob", "carol"} {
		served := s.last(uid, "INBOX")
		if !pkcs7.MatchString(served) || strings.Contains(served, "Tender") {
			s.t.Fatalf("%s is served\n%s", uid, served)
		}
		inner := s.must(served, "openssl", "cms", "-decrypt", "-inkey", s.path("people", uid, "key.pem"), "-recip", s.path("people", uid, "cert.pem"))
		if got := s.must(inner, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem")); !strings.Contains(got, text) {
			s.t.Errorf("%s reads\n%s", uid, got)
		}
		if _, err := s.run(served, "openssl", "cms", "-decrypt", "-inkey", s.path("people", "erin", "key.pem"), "-recip", s.path("people", "erin", "cert.pem")); err == nil {
			s.t.Errorf("erin's key opens %s's mail", uid)
		}
	}
	if strings.Contains(s.log.String()[before:], "Tender") {
		s.t.Error("the log holds the subject")
	}
}

func (s *site) refused() {
	before := s.counts()
	for who, reason := range map[string]string{dave: "certificate", frank: "expired", grace: "revoked"} {
		out, err := s.send("alice", alice, []string{bob, who}, mailOf(alice, bob+", "+who, "[CONFIDENTIAL] Tender", "x"))
		if err == nil || !regexp.MustCompile(`(?m)^< 5\d\d.*`+regexp.QuoteMeta(who)+`.*`+reason).MatchString(out) {
			s.t.Errorf("to %s: %v\n%s", who, err, out)
		}
	}
	if after := s.counts(); fmt.Sprint(after) != fmt.Sprint(before) {
		s.t.Errorf("counts were %+v and are %+v", before, after)
	}
}

func (s *site) bcc() {
	text := "For erin too " + rand.Text()
	msg := strings.Replace(mailOf(alice, bob, "[CONFIDENTIAL] Blind", text), "Subject:", "Bcc: "+erin+"\nSubject:", 1)
	if out, err := s.send("alice", alice, []string{bob, erin}, msg); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	open := func(uid string) string {
		served := s.last(uid, "INBOX")
		if uid == "bob" && strings.Contains(strings.ToLower(served), "erin@") {
			s.t.Errorf("bob's copy names erin:\n%s", served)
		}
		return s.must(served, "openssl", "cms", "-decrypt", "-inkey", s.path("people", uid, "key.pem"), "-recip", s.path("people", uid, "cert.pem"))
	}
	if got := open("bob"); !strings.Contains(got, text) || strings.Contains(strings.ToLower(got), "erin@") || strings.Contains(got, "Bcc:") {
		s.t.Errorf("bob reads\n%s", got)
	}
	if got := open("erin"); !strings.Contains(got, text) {
		s.t.Errorf("erin reads\n%s", got)
	}
	served := s.last("bob", "INBOX")
	if out := s.must(served, "openssl", "cms", "-cmsout", "-print", "-noout"); strings.Count(out, "d.ktri") != 2 || strings.Contains(out, "d.kari") {
		s.t.Errorf("bob's copy has other recipients than alice and bob:\n%s", out)
	}
}

func (s *site) noClearText() {
	out := s.must("", "python3", "testdata/cleartext.py", fmt.Sprint(s.base))
	if !strings.Contains(out, "all good") {
		s.t.Error(out)
	}
}

func (s *site) closedPorts() {
	for _, p := range []int{443, 943, 4190, 110} {
		if out, err := s.run("", "curl", "-sS", "--max-time", "5", fmt.Sprintf("telnet://127.0.0.1:%d", s.base+p)); err == nil {
			s.t.Errorf("port %d answers: %s", s.base+p, out)
		}
	}
}

func (s *site) auditLog() {
	key, conf := s.path("audit", "audit.pub"), s.path("cmmpd.toml")
	verify := func(args ...string) (int, string) {
		return s.code(append([]string{"audit", "verify", "--key", key}, args...)...)
	}
	if code, out := verify(s.path("audit")); code != 0 {
		s.t.Fatalf("the running log: %d %s", code, out)
	}
	since := s.tmp(s.read("audit", "checkpoint"))
	for range 3 {
		s.counts() // each is an act on record
	}
	if code, out := verify("--since", since, s.path("audit")); code != 0 {
		s.t.Errorf("since the checkpoint: %d %s", code, out)
	}
	bundle := s.tmp(s.must("", program, "audit", "export", "--bundle", "--config", conf))
	if code, out := verify(bundle); code != 0 {
		s.t.Errorf("the bundle: %d %s", code, out)
	}
	for _, format := range []string{"jsonl", "csv", "cef"} {
		if out := s.must("", program, "audit", "export", "--format", format, "--config", conf); !strings.Contains(out, "store.check") {
			s.t.Errorf("export as %s: %s", format, out)
		}
	}
	if code, _ := verify(s.path("nothing")); code != 2 {
		s.t.Errorf("a path that is not there: exit %d, not 2", code)
	}
	if code, _ := verify(s.tmp("not a log")); code != 1 {
		s.t.Errorf("a file that is no log: exit %d, not 1", code)
	}
	s.stop(syscall.SIGTERM)
	defer s.start()
	dir := filepath.Join(s.t.TempDir(), "copy")
	s.must("", "cp", "-r", s.path("audit"), dir)
	if code, out := verify(dir); code != 0 {
		s.t.Fatalf("a copy: %d %s", code, out)
	}
	old := filepath.Join(s.t.TempDir(), "audit")
	s.must("", "cp", "-r", dir, old)
	if err := os.WriteFile(filepath.Join(dir, "extra"), nil, 0o600); err != nil {
		s.t.Fatal(err)
	}
	if code, out := verify(dir); code != 1 || !strings.Contains(out, "extra") {
		s.t.Errorf("an added file: %d %s", code, out)
	}
}
