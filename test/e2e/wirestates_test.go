//go:build e2e

package e2e

import (
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
)

// states are what can be the matter with a recipient's certificate, and what becomes of confidential mail to them.
var states = []struct {
	uid, to string
	want    string // what the client hears; empty: it is taken
}{
	{"good RSA", bob, ""},
	{"good EC", carol, ""},
	{"none", dave, "550 5.7.1"},
	{"expired", "frank@works.gov.example", "550 5.7.1"},
	{"revoked", "grace@works.gov.example", "550 5.7.1"},
	{"of another address", "other@works.gov.example", "550 5.7.1"},
	{"not for encryption", "signer@works.gov.example", "550 5.7.1"},
	{"weak", "weak@works.gov.example", "550 5.7.1"},
	{"an attacker's authority", "attacker@works.gov.example", "550 5.7.1"},
	{"no revocation data", "unknown@works.gov.example", "451 4.3.0"},
}

// withStates makes the people whom the demonstration lacks, and those at partner.example to whom mail can be encrypted.
func (s *site) withStates() {
	s.t.Helper()
	must := func(err error) {
		s.t.Helper()
		if err != nil {
			s.t.Fatal(err)
		}
	}
	certs, err := demopki.ParseCerts([]byte(s.read("pki", "ca.pem")))
	must(err)
	key, err := demopki.ParseKey([]byte(s.read("keys", "ca.key")))
	must(err)
	ca, err := demopki.LoadCA(certs[0], key, nil, nil)
	must(err)
	false1, err := demopki.NewCA(certs[0].Subject.CommonName, nil)
	must(err)
	silent, err := ca.NewSub("An authority without lists", nil)
	must(err)
	must(os.WriteFile(s.path("pki", "silent.pem"), demopki.CertPEM(silent.Cert), 0o600))
	var ldif strings.Builder
	person := func(uid, address string, by *demopki.CA, spec demopki.Spec) {
		s.t.Helper()
		spec.CN = uid
		if spec.Address == "" {
			spec.Address = address
		}
		id, err := by.Issue(spec)
		must(err)
		class := "objectClass: cmmpdAccount\n"
		if strings.HasSuffix(address, "@partner.example") {
			class = ""
		}
		fmt.Fprintf(&ldif, "dn: uid=%s,ou=people,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\n%suid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[3]s\nuserCertificate;binary:: %[4]s\n\n",
			uid, class, address, base64.StdEncoding.EncodeToString(id.Cert.Raw))
	}
	person("other", "other@works.gov.example", ca, demopki.Spec{Address: "somebody.else@works.gov.example"})
	person("signer", "signer@works.gov.example", ca, demopki.Spec{Key: demopki.RSA2048, Usage: x509.KeyUsageDigitalSignature})
	person("weak", "weak@works.gov.example", ca, demopki.Spec{Key: demopki.RSA1024})
	person("attacker", "attacker@works.gov.example", false1, demopki.Spec{})
	person("unknown", "unknown@works.gov.example", silent, demopki.Spec{})
	for uid, kind := range map[string]demopki.Kind{"someone": demopki.RSA2048, "late": demopki.P256, "nobody": demopki.P384} {
		person(uid, uid+"@partner.example", ca, demopki.Spec{Key: kind})
	}
	s.must(ldif.String(), program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	s.stop(syscall.SIGTERM)
	text := strings.Replace(s.read("cmmpd.toml"), "intermediates = []", `intermediates = ["pki/silent.pem"]`, 1)
	must(os.WriteFile(s.path("cmmpd.toml"), []byte(text), 0o600))
	s.start()
}

// inbound brings a mail as a stranger's server does, over STARTTLS, and returns the conversation.
func (s *site) inbound(to, text string) string {
	cmd := exec.Command("curl", "-sS", "-v", "--ssl-reqd", "--cacert", s.path("pki", "ca.pem"), "--mail-from", "x@stranger.example", "--mail-rcpt", to, "--crlf", "-T", "-", "smtp://"+s.addr(25))
	cmd.Stdin = strings.NewReader(text)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// TestNoPlainTextInAnyState sends mail of all labels to recipients of all states, from users and from outside, has it leave to a real
// Postfix, be refused there and be late; and looks for it on every wire, in every log and in every file.
func TestNoPlainTextInAnyState(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "python3")
	s := newSite(t)
	s.withStates()
	p := s.newPostfix()
	s.routeTo(p.addr, `"200ms", "500ms"`, `"2s"`, `"6s"`)
	p.start()
	_, port, err := net.SplitHostPort(p.addr)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	w := listenIn(t, uint16(s.base), uint16(s.base+9999), uint16(n))
	const open, secret = "openmarkerqzq", "secretmarkerqzq" // in mail that may be read where it arrives, and in mail that may not
	for _, label := range []string{"", "[RESTRICTED] ", "[CONFIDENTIAL] ", "[SECRET] "} {
		for _, st := range states {
			marker, want := open, ""
			switch label {
			case "[CONFIDENTIAL] ":
				marker, want = secret, st.want
			case "[SECRET] ":
				marker, want = secret, "550 5.7.1"
			}
			text := func(from string) string { return mailOf(from, st.to, label+marker, marker) }
			out, _ := s.send("alice", alice, []string{st.to}, text(alice))
			for way, out := range map[string]string{"submission": out, "inbound": s.inbound(st.to, text("x@stranger.example"))} {
				if taken := strings.Contains(out, "\n< 250 2.0.0 "); taken != (want == "") || want != "" && !strings.Contains(strings.ReplaceAll(out, "< "+want[:3]+"-", "< "+want[:3]+" "), "\n< "+want) {
					t.Errorf("%s%s, %s: want %q:\n%s", label, st.uid, way, want, out)
				}
			}
		}
	}

	// Out of here: mail that arrives, that is refused over there, and that is late; and what says so.
	for _, to := range []string{"someone", "nobody", "late"} {
		for label, marker := range map[string]string{"": open, "[CONFIDENTIAL] ": secret} {
			if out, err := s.send("alice", alice, []string{to + "@partner.example"}, mailOf(alice, to+"@partner.example", label+marker, marker)); err != nil {
				t.Fatal(err, out)
			}
		}
	}
	if out, err := s.send("alice", alice, []string{"full@partner.example"}, mailOf(alice, "full@partner.example", "[CONFIDENTIAL] "+secret, secret)); err == nil {
		t.Errorf("confidential mail leaves to somebody without certificate:\n%s", out)
	}
	s.eventually("both arrive", func() bool { return len(p.mail("someone")) == 2 })
	s.eventually("the refusals and the ends are reported", func() bool { return s.inbox("alice", "could not be delivered") == 4 })
	s.eventually("the queue is empty", func() bool { return s.counts().Queue == 0 })
	sealed := 0
	for _, m := range p.mail("someone") {
		if strings.Contains(m, secret) || !strings.Contains(m, "using TLSv1.3") {
			t.Errorf("it leaves in clear:\n%s", m)
		}
		if strings.Contains(m, "application/pkcs7-mime") {
			sealed++
		}
	}
	if sealed != 1 {
		t.Errorf("%d of 2 mails arrived sealed", sealed)
	}

	// Whatever serves clients serves it, and whatever answers without a log-in.
	served := s.served("alice") + s.served("bob") + s.served("carol")
	for _, path := range []string{"metrics", "healthz", "readyz"} {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/%s", s.base+90, path))
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || strings.Contains(string(b), "markerqzq") {
			t.Errorf("/%s: %v", path, err)
		}
	}
	if strings.Contains(served, secret) || !strings.Contains(served, open) || strings.Count(served, "could not be delivered") != 4 {
		t.Errorf("confidential mail is served in clear, or the other not at all")
	}
	records := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	for _, marker := range []string{open, secret} {
		if w.holds(marker) {
			t.Errorf("%s went over a wire in clear", marker)
		}
		if strings.Contains(s.log.String(), marker) || strings.Contains(records, marker) {
			t.Errorf("%s is in a log", marker)
		}
		s.scan(marker, "")
	}
	if out := strings.TrimSpace(s.must("", "python3", "testdata/scan.py", p.dir, secret)); out != "" {
		t.Errorf("Postfix has it in %s", out)
	}
	if maillog, err := os.ReadFile(filepath.Join(p.dir, "maillog")); err != nil || strings.Contains(string(maillog), "markerqzq") {
		t.Errorf("Postfix's log: %v", err)
	}
	s.stop(syscall.SIGTERM)
	s.scan(secret, "")
	s.scan(open, "")
	s.start()
	w.sees(s, secret)
	planted := s.path("planted")
	if err := os.WriteFile(planted, []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	s.scan(secret, planted)
}

// served is all of somebody's INBOX.
func (s *site) served(uid string) string {
	s.t.Helper()
	c, err := imapclient.DialTLS(fmt.Sprintf("127.0.0.1:%d", s.base+993), &imapclient.Options{TLSConfig: s.clientTLS()})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login(uid, s.read("people", uid, "password")).Wait(); err != nil {
		s.t.Fatal(err)
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		s.t.Fatal(err)
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}, &imap.FetchOptions{Envelope: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	var b strings.Builder
	for _, m := range msgs {
		b.WriteString(m.Envelope.Subject + "\n" + string(m.FindBodySection(section)))
	}
	return b.String()
}
