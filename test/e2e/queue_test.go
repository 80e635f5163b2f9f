package e2e

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"

	"cmmpd/internal/testkit"
)

// partner is the mail server of partner.example: it takes mail over TLS, and does what a recipient's name asks for.
type partner struct {
	addr string

	mu       sync.Mutex
	messages map[string][]string // by recipient
	secure   bool                // all came over TLS
	closed   bool                // for the time being nobody gets in
}

func (s *site) newPartner() *partner {
	s.t.Helper()
	cert, err := tls.LoadX509KeyPair(s.path("pki", "server.pem"), s.path("keys", "server.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	p := &partner{addr: ln.Addr().String(), messages: map[string][]string{}, secure: true}
	srv := smtp.NewServer(p)
	srv.Domain, srv.TLSConfig, srv.MaxLineLength = "mx.partner.example", &tls.Config{Certificates: []tls.Certificate{cert}}, 1<<20
	go srv.Serve(ln)
	s.t.Cleanup(func() { srv.Close() })
	return p
}

// NewSession satisfies smtp.Backend.
func (p *partner) NewSession(c *smtp.Conn) (smtp.Session, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, &smtp.SMTPError{Code: 421, EnhancedCode: smtp.EnhancedCode{4, 3, 2}, Message: "closed for today"}
	}
	return &visit{p: p, c: c}, nil
}

type visit struct {
	p  *partner
	c  *smtp.Conn
	to []string
}

func (v *visit) Reset()                               { v.to = nil }
func (v *visit) Logout() error                        { return nil }
func (v *visit) Mail(string, *smtp.MailOptions) error { return nil }

func (v *visit) Rcpt(to string, _ *smtp.RcptOptions) error {
	if strings.HasPrefix(to, "nobody@") {
		return &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "nobody of that name"}
	}
	if strings.HasPrefix(to, "later@") {
		return &smtp.SMTPError{Code: 450, EnhancedCode: smtp.EnhancedCode{4, 2, 1}, Message: "come back later"}
	}
	v.to = append(v.to, to)
	return nil
}

func (v *visit) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	_, secure := v.c.TLSConnectionState()
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	v.p.secure = v.p.secure && secure
	for _, to := range v.to {
		v.p.messages[to] = append(v.p.messages[to], string(b))
	}
	return nil
}

func (p *partner) got(to string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.messages[to]
}

func (p *partner) shut(v bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = v
}

// routeTo has the site send mail for partner.example to addr, with short pauses, and serves it again.
func (s *site) routeTo(addr, retry, warn, lifetime string) {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	text := s.read("cmmpd.toml")
	for key, value := range map[string]string{"retry": "[" + retry + "]", "warn-after": warn, "lifetime": lifetime} {
		text = regexp.MustCompile(`(?m)^`+key+` = .*$`).ReplaceAllLiteralString(text, key+" = "+value)
	}
	text += fmt.Sprintf("\n[[queue.routes]]\ndomain = \"partner.example\"\nhost = %q\nname = \"localhost\"\nca = \"pki/ca.pem\"\n", addr)
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.start()
}

// queue is "cmmpd queue list".
func (s *site) queue() (list []struct {
	Item, State string
	Recipients  []struct{ Address, State, Status, Text string }
},
) {
	s.t.Helper()
	out := s.must("", program, "queue", "list", "--json", "--config", s.path("cmmpd.toml"))
	for dec := json.NewDecoder(strings.NewReader(out)); dec.More(); {
		list = append(list, struct {
			Item, State string
			Recipients  []struct{ Address, State, Status, Text string }
		}{})
		if err := dec.Decode(&list[len(list)-1]); err != nil {
			s.t.Fatal(err)
		}
	}
	return list
}

// inbox is the number of messages in a user's INBOX that hold the text.
func (s *site) inbox(uid, text string) int {
	s.t.Helper()
	out := s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "imaps://"+s.addr(993)+"/INBOX", "-X", "SEARCH TEXT \""+text+"\"")
	return len(strings.Fields(out)) - 2 // "* SEARCH 1 2"
}

// TestOtherDomains sends mail out, and looks at what comes of it: at the partner's, in alice's mailbox, in the queue, in
// the audit log.
func TestOtherDomains(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	testkit.Need(t, "python3")
	s := newSite(t)
	send := func(to, subject string) (string, error) {
		return s.send("alice", alice, []string{to}, mailOf(alice, to, subject, "the budget of the year"))
	}
	must := func(to, subject string) {
		t.Helper()
		if out, err := send(to, subject); err != nil {
			t.Fatal(err, out)
		}
	}
	const someone, nobody, later = "someone@partner.example", "nobody@partner.example", "later@partner.example"
	if out, err := send(someone, "Hello"); err == nil || !strings.Contains(out, "550 5.7.1 mail to other domains is not served yet") {
		t.Fatal("without a route:", err, out)
	}
	p := s.newPartner()
	s.routeTo(p.addr, `"100ms", "200ms", "500ms"`, `"1s"`, `"4s"`)

	must(someone, "Hello")
	s.eventually("the mail arrives", func() bool { return len(p.got(someone)) == 1 })
	if got := p.got(someone)[0]; !strings.Contains(got, "Subject: Hello\r\n") || !strings.HasSuffix(got, "the budget of the year\r\n") || strings.Contains(got, "Return-Path") {
		t.Errorf("the partner has %q", got)
	}
	if out, err := send(someone, "[CONFIDENTIAL] plan"); err == nil || !strings.Contains(out, someone+" has no certificate") {
		t.Error("confidential:", err, out)
	}
	if out, err := send("x@elsewhere.example", "Hello"); err == nil {
		t.Error("there is no way to elsewhere.example:", out)
	}

	must(nobody, "Bounce")
	s.eventually("the failure is reported", func() bool { return s.inbox("alice", "nobody of that name") == 1 })
	report := s.last("alice", "INBOX")
	for _, want := range []string{"Return-Path: <>\r\n", "Auto-Submitted: auto-replied\r\n", "report-type=delivery-status", "Final-Recipient: rfc822; " + nobody + "\r\nAction: failed\r\nStatus: 5.1.1\r\n", "Subject: Bounce\r\n"} {
		if !strings.Contains(report, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "budget") {
		t.Error("the report has the text of the message")
	}

	must(later, "Delay")
	s.eventually("the delay is reported", func() bool { return s.inbox("alice", "You need not") == 1 })
	s.eventually("the end is reported", func() bool { return s.inbox("alice", "could not be delivered") == 2 })
	s.eventually("the queue is empty", func() bool { return len(s.queue()) == 0 })
	if c := s.counts(); c.Queue != 0 || len(c.Problems) > 0 {
		t.Errorf("check: %+v", c)
	}
	if !p.secure {
		t.Error("something went out in clear")
	}
	s.operators(p, must)
	s.sealedOut(p)
	if m := s.metrics(); !strings.Contains(m, `cmmpd_queue_outcomes_total{outcome="delivered"} `) || !strings.Contains(m, "\ncmmpd_queue_overdue_seconds 0\n") {
		t.Errorf("metrics:\n%s", m)
	}
}

// sealedOut sends confidential mail to somebody elsewhere whose certificate stands in the directory: it waits and leaves
// sealed.
func (s *site) sealedOut(p *partner) {
	t := s.t
	const sealed = "sealed@partner.example"
	block, _ := pem.Decode([]byte(s.read("people", "erin", "cert.pem"))) // which names no address
	ldif := "dn: cn=partner,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\ncn: partner\nsn: partner\nmail: " + sealed +
		"\nuserCertificate;binary:: " + base64.StdEncoding.EncodeToString(block.Bytes) + "\n"
	s.must(ldif, program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "admin", "--password-file", s.path("people", "admin", "password"))
	p.shut(true)
	marker := "Needle" + rand.Text()
	if out, err := s.send("alice", alice, []string{sealed, bob}, mailOf(alice, sealed+", "+bob, "[CONFIDENTIAL] "+marker, marker)); err != nil {
		t.Fatal(err, out)
	}
	s.eventually("it waits", func() bool { return len(s.queue()) == 1 })
	s.scan(marker, "")
	p.shut(false)
	s.must("", program, "queue", "retry", "--config", s.path("cmmpd.toml"), "all")
	s.eventually("the mail arrives", func() bool { return len(p.got(sealed)) == 1 })
	got := p.got(sealed)[0]
	if !pkcs7.MatchString(got) || strings.Contains(got, marker) {
		t.Fatalf("the partner has\n%s", got)
	}
	inner := s.must(got, "openssl", "cms", "-decrypt", "-inkey", s.path("people", "erin", "key.pem"), "-recip", s.path("people", "erin", "cert.pem"))
	if text := s.must(inner, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem")); !strings.Contains(text, marker) {
		t.Errorf("the partner reads\n%s", text)
	}
	s.scan(marker, "")
}

// operators works on the queue as the people do who run the platform.
func (s *site) operators(p *partner, must func(to, subject string)) {
	t := s.t
	conf := s.path("cmmpd.toml")
	const held = "held@partner.example"
	p.shut(true)
	must(held, "Held")
	s.eventually("the attempt fails", func() bool { l := s.queue(); return len(l) == 1 && l[0].Recipients[0].Status == "4.3.2" })
	item := s.queue()[0].Item
	if out := s.must("", program, "queue", "hold", "--config", conf, item); out != "1 items\n" {
		t.Error(out)
	}
	p.shut(false)
	time.Sleep(time.Second) // nothing may happen meanwhile
	if l := s.queue(); len(l) != 1 || l[0].State != "held" || len(p.got(held)) != 0 {
		t.Errorf("held: %+v", l)
	}
	s.must("", program, "queue", "release", "--config", conf, item)
	s.eventually("the mail arrives", func() bool { return len(p.got(held)) == 1 })
	p.shut(true)
	must(held, "Removed")
	s.eventually("it waits", func() bool { return len(s.queue()) == 1 })
	item = s.queue()[0].Item
	s.must("", program, "queue", "retry", "--config", conf, "all")
	if code, out := s.code("queue", "remove", "--config", conf, item); code == 0 || !strings.Contains(out, "log-in") {
		t.Errorf("removed without a log-in: %d %s", code, out)
	}
	s.must("", program, "queue", "remove", "--config", conf, "--user", "admin", "--password-file", s.path("people", "admin", "password"), item)
	p.shut(false)
	if len(s.queue()) != 0 || len(p.got(held)) != 1 {
		t.Error("what was removed is there, or was sent")
	}
	if code, _ := s.code("queue", "retry", "--config", conf, item); code != 1 {
		t.Errorf("retry of what is gone: exit %d", code)
	}
	log := s.must("", program, "audit", "export", "--config", conf)
	for _, typ := range []string{"queue.list", "queue.hold", "queue.release", "queue.retry", "queue.remove"} {
		if !strings.Contains(log, typ) {
			t.Errorf("the audit log has no %s", typ)
		}
	}
	if !regexp.MustCompile(`"actor":"admin"[^\n]*"` + item + `"[^\n]*"queue.remove"`).MatchString(log) {
		t.Errorf("the audit log does not say who removed %s:\n%s", item, log)
	}
}

// TestQueueSurvives kills the program while mail is going out: what was acknowledged arrives, at most twice.
func TestQueueSurvives(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	p := s.newPartner()
	s.routeTo(p.addr, `"100ms"`, `"1h"`, `"1h"`)
	const mails = 40
	for i := range mails {
		to := fmt.Sprintf("r%d@partner.example", i)
		if i == mails/2 {
			p.shut(true) // what comes now is still there when the program dies
		}
		if out, err := s.send("alice", alice, []string{to, "later@partner.example"}, mailOf(alice, to, "Hello", "text")); err != nil {
			t.Fatal(err, out)
		}
	}
	p.shut(false)
	s.stop(syscall.SIGKILL)
	s.start()
	for i := range mails {
		to := fmt.Sprintf("r%d@partner.example", i)
		s.eventually(to, func() bool { return len(p.got(to)) >= 1 })
	}
	for i := range mails {
		if n := len(p.got(fmt.Sprintf("r%d@partner.example", i))); n > 2 {
			t.Errorf("mail %d arrived %d times", i, n)
		}
	}
	if c := s.counts(); c.Queue != mails || len(c.Problems) > 0 {
		t.Errorf("check: %+v", c)
	}
}
