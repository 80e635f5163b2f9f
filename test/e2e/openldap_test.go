package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/crypto/argon2"

	"cmmpd/internal/testkit"
)

const (
	ldapBase    = "dc=gov,dc=example"
	ldapService = "cn=cmmpd," + ldapBase
	ldapRoot    = "cn=root," + ldapBase
)

// argon2Value is a password as slapd's argon2 module keeps it.
func argon2Value(password string) string {
	salt := make([]byte, 16)
	rand.Read(salt)
	const passes, memory = 2, 8 << 10
	b64 := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("{ARGON2}$argon2id$v=19$m=%d,t=%d,p=1$%s$%s", memory, passes, b64(salt), b64(argon2.IDKey([]byte(password), salt, passes, memory, 1, 32)))
}

// forSlapd gives entries of ours passwords that slapd can check, and adds the entry that
// the platform binds as.
func (s *site) forSlapd(ldif string) string {
	s.t.Helper()
	records := strings.Split(strings.ReplaceAll(ldif, "\n ", ""), "\n\n")
	password := regexp.MustCompile(`(?m)^userPassword:.*\n?`)
	uid := regexp.MustCompile(`(?m)^uid: (.*)$`)
	seen := 0
	for i, r := range records {
		if !password.MatchString(r) {
			continue
		}
		seen++
		r = strings.TrimRight(password.ReplaceAllString(r, ""), "\n")
		records[i] = r + "\nuserPassword: " + argon2Value(s.read("people", uid.FindStringSubmatch(r)[1], "password"))
	}
	if seen < 10 {
		s.t.Fatalf("only %d people with passwords in\n%s", seen, ldif)
	}
	return strings.Join(records, "\n\n") + "\n\ndn: " + ldapService + "\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: cmmpd\nuserPassword: " + argon2Value("service") + "\n"
}

// onSlapd starts slapd with the entries, and the daemon on the demonstration's
// configuration with another directory.
func (s *site) onSlapd(ldif string, startTLS bool) *testkit.Slapd {
	s.t.Helper()
	slapd := testkit.StartSlapd(s.t, testkit.SlapdOptions{
		Conf: filepath.Join("..", "..", "configs", "openldap"), LDIF: s.forSlapd(ldif), RootPassword: "rootpass",
		CA: s.path("pki", "ca.pem"), Cert: s.path("pki", "server.pem"), Key: s.path("keys", "server.key"),
	})
	text := s.read("cmmpd.toml")
	for _, edit := range [][2]string{
		{`kind = "embedded"`, `kind = "ldap"`},
		{`path = "directory.db"`, `path = ""`},
		{`url = ""`, `url = "` + slapd.URL(startTLS) + `"`},
		{`ca = ""`, `ca = "pki/ca.pem"`},
		{`bind-dn = ""`, `bind-dn = "` + ldapService + `"`},
		{`bind-password-file = ""`, `bind-password-file = "keys/directory"`},
		{`cache-time = "10s"`, `cache-time = "1ms"`},
		{`ldap = "` + fmt.Sprintf("127.0.0.1:%d", s.base+389), `ldap = "`},
		{`ldaps = "` + fmt.Sprintf("127.0.0.1:%d", s.base+636), `ldaps = "`},
	} {
		if !strings.Contains(text, edit[0]) {
			s.t.Fatalf("%s is not in the configuration", edit[0])
		}
		text = strings.Replace(text, edit[0], edit[1], 1)
	}
	for name, data := range map[string]string{s.path("slapd.toml"): text, s.path("keys", "directory"): "service\n"} {
		if err := os.WriteFile(name, []byte(data), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.stop(syscall.SIGTERM)
	s.command = []string{"serve", "--config", s.path("slapd.toml")}
	s.start()
	return slapd
}

// TestOpenLDAP has the people of the demonstration in Debian's slapd, and the platform ask
// that.
func TestOpenLDAP(t *testing.T) {
	for _, p := range []string{"slapd", "slapadd", "ldapmodify", "curl", "openssl", "swaks"} {
		testkit.Need(t, p)
	}
	s := newSite(t)
	slapd := s.onSlapd(s.read("directory.ldif"), true)
	t.Run("daily work", s.sub(func(s *site) { s.dailyWork(slapd) }))
	t.Run("confidential", s.sub((*site).confidential))
	t.Run("refused", s.sub((*site).refused))
	t.Run("bcc", s.sub((*site).bcc)) // erin's certificate does not name her address: her entry does
	t.Run("changed there", s.sub(func(s *site) { s.changedThere(slapd) }))
	t.Run("away", s.sub(func(s *site) { s.directoryAway(slapd) }))
	if c := s.counts(); len(c.Problems) > 0 {
		t.Error(c.Problems)
	}
}

// dailyWork is log-in, sending and receiving with what stands in slapd.
func (s *site) dailyWork(*testkit.Slapd) {
	text := "Hello " + rand.Text()
	if out, err := s.send("alice", alice, []string{"team@works.gov.example", erin}, mailOf(alice, "team@works.gov.example", "Hello", text)); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	for _, uid := range []string{"alice", "bob", "carol", "erin"} {
		if got := s.last(uid, "INBOX"); !strings.Contains(got, text) {
			s.t.Errorf("%s reads\n%s", uid, got)
		}
	}
	post := "ds1@works.gov.example"
	if out, err := s.send("bob", post, []string{alice}, mailOf(post, alice, "From the post", text)); err != nil {
		s.t.Errorf("bob as the post he holds: %v\n%s", err, out)
	}
	if out, err := s.send("alice", post, []string{bob}, mailOf(post, bob, "x", text)); err == nil {
		s.t.Errorf("alice as a post that she does not hold:\n%s", out)
	}
	out, err := s.run("", "swaks", "--server", "127.0.0.1", "--port", fmt.Sprint(s.base+587), "--tls", "--auth", "PLAIN", "--auth-user", "alice", "--auth-password", "wrong", "--from", alice, "--to", bob)
	if err == nil || !strings.Contains(out, " 535 ") {
		s.t.Errorf("a wrong password: %v\n%s", err, out)
	}
	if out, err := s.rcpt("nobody@works.gov.example"); err == nil || !strings.Contains(out, "550 5.1.1") {
		s.t.Errorf("an unknown recipient: %v\n%s", err, out)
	}
	for _, port := range []int{389, 636} {
		if out, err := s.run("", "curl", "-sS", "--max-time", "5", fmt.Sprintf("telnet://127.0.0.1:%d", s.base+port)); err == nil {
			s.t.Errorf("the embedded directory still listens: %s", out)
		}
	}
}

// rcpt offers a mail from elsewhere, up to RCPT.
func (s *site) rcpt(to string) (string, error) {
	return s.run("", "swaks", "--server", "127.0.0.1", "--port", fmt.Sprint(s.base+25), "--tls", "--from", "x@partner.example", "--to", to, "--quit-after", "RCPT")
}

// changedThere has entries changed with the server's own tools, and not with ours.
func (s *site) changedThere(slapd *testkit.Slapd) {
	const henry = "henry@health.gov.example"
	mail := mailOf(alice, henry, "[CONFIDENTIAL] For henry", "x")
	if out, err := s.send("alice", alice, []string{henry}, mail); err == nil {
		s.t.Errorf("henry has no certificate yet:\n%s", out)
	}
	cert := strings.ReplaceAll(strings.Join(regexp.MustCompile(`(?m)^[A-Za-z0-9+/=]+$`).FindAllString(s.read("people", "henry", "cert.pem"), -1), ""), "\n", "")
	change := "dn: uid=henry,ou=people," + ldapBase + "\nchangetype: modify\nadd: userCertificate;binary\nuserCertificate;binary:: " + cert + "\n"
	s.must(change, "ldapmodify", "-x", "-H", slapd.URL(false), "-D", ldapRoot, "-w", "rootpass")
	if out, err := s.send("alice", alice, []string{henry}, mail); err != nil {
		s.t.Errorf("henry's certificate is there: %v\n%s", err, out)
	}
	for _, act := range []string{"import", "export"} {
		_, err := s.run(change, program, "directory", act, "--config", s.path("slapd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
		if err == nil || !strings.Contains(err.Error(), slapd.URL(true)) {
			s.t.Errorf("directory %s: %v", act, err)
		}
	}
}

// directoryAway stops slapd: everything waits, nothing is refused for good.
func (s *site) directoryAway(slapd *testkit.Slapd) {
	mail := mailOf(alice, bob, "Waiting", "x")
	if out, err := s.send("alice", alice, []string{bob}, mail); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
	permanent := regexp.MustCompile(`(?m)^<[-~*]*\s*5\d\d[ -]`)
	slapd.Stop()
	for who, code := range map[string]string{"alice": "451", "grace": "454"} { // alice's log-in is remembered
		out, err := s.send(who, who+"@works.gov.example", []string{bob}, strings.ReplaceAll(mail, alice, who+"@works.gov.example"))
		if err == nil || !strings.Contains(out, "< "+code+" ") || permanent.MatchString(out) {
			s.t.Errorf("%s sends: %v\n%s", who, err, out)
		}
	}
	for _, to := range []string{bob, "nobody@works.gov.example"} {
		if out, err := s.rcpt(to); err == nil || !strings.Contains(out, " 451 ") || permanent.MatchString(out) {
			s.t.Errorf("mail to %s from elsewhere: %v\n%s", to, err, out)
		}
	}
	out, err := s.run("", "curl", "-sS", "-v", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("frank"), "imaps://"+s.addr(993)+"/INBOX")
	if err == nil || !strings.Contains(err.Error()+out, "NO [UNAVAILABLE]") {
		s.t.Errorf("log-in to IMAP: %v\n%s", err, out)
	}
	slapd.Start()
	for _, who := range []string{"alice", "grace"} {
		if out, err := s.send(who, who+"@works.gov.example", []string{bob}, strings.ReplaceAll(mail, alice, who+"@works.gov.example")); err != nil {
			s.t.Errorf("the directory is back: %v\n%s", err, out)
		}
	}
	if out, err := s.rcpt(bob); err != nil {
		s.t.Errorf("the directory is back: %v\n%s", err, out)
	}
	// A start without the directory is a start all the same.
	slapd.Stop()
	s.stop(syscall.SIGTERM)
	s.start()
	if out, err := s.rcpt(bob); err == nil || !strings.Contains(out, " 451 ") {
		s.t.Errorf("started without the directory: %v\n%s", err, out)
	}
	slapd.Start()
	if out, err := s.rcpt(bob); err != nil {
		s.t.Errorf("the directory is back: %v\n%s", err, out)
	}
}

// TestMoveToOpenLDAP exports the embedded directory into slapd: everybody keeps their
// mailbox.
func TestMoveToOpenLDAP(t *testing.T) {
	for _, p := range []string{"slapd", "slapadd", "curl"} {
		testkit.Need(t, p)
	}
	s := newSite(t)
	text := "Before " + rand.Text()
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, "Before", text)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	export := s.must("", program, "directory", "export", "--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	s.onSlapd(export, false)
	if got := s.last("bob", "INBOX"); !strings.Contains(got, text) {
		t.Errorf("bob reads\n%s", got)
	}
}
