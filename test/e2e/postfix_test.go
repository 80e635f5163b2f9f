//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// postfix is a real Postfix for partner.example with an instance of its own: nothing of the system's configuration is
// used but that there is one.
type postfix struct {
	t    *testing.T
	dir  string
	addr string
}

func (s *site) newPostfix() *postfix {
	t := s.t.(*testing.T)
	testkit.Need(t, "postfix")
	if os.Geteuid() != 0 {
		t.Skip("Postfix can be started by root only")
	}
	dir, err := os.MkdirTemp("/var/tmp", "cmmpd-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &postfix{t: t, dir: dir, addr: ln.Addr().String()}
	ln.Close()
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"etc", "spool", "data", "mail"} {
		p.must(os.Mkdir(filepath.Join(dir, d), 0o755))
	}
	p.must(os.Chmod(dir, 0o755))
	p.run("chown", "postfix", filepath.Join(dir, "data"), filepath.Join(dir, "mail"))
	p.write("etc/main.cf", fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/spool
data_directory = %[1]s/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = %[1]s/maillog
maillog_file_prefixes = /var/tmp
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mx.partner.example
mydestination =
mynetworks =
virtual_mailbox_domains = partner.example
virtual_mailbox_maps = inline:{{someone@partner.example=someone/}, {late@partner.example=late/}, {full@partner.example=full/}}
virtual_mailbox_base = %[1]s/mail
virtual_uid_maps = static:%[2]s
virtual_gid_maps = static:%[3]s
virtual_minimum_uid = 1
alias_maps =
alias_database =
disable_dns_lookups = yes
smtpd_peername_lookup = no
smtpd_tls_security_level = encrypt
smtpd_tls_chain_files = %[4]s, %[5]s
smtpd_tls_received_header = yes
smtpd_relay_restrictions = reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{late@partner.example=450 4.2.1 come back later}}, permit
`, dir, owner.Uid, owner.Gid, s.path("keys", "server.key"), s.path("pki", "server.pem")))
	_, port, _ := net.SplitHostPort(p.addr)
	p.write("etc/master.cf", "127.0.0.1:"+port+` inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
error unix - - n - - error
retry unix - - n - - error
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`)
	if _, err := os.Stat("/etc/postfix/main.cf"); os.IsNotExist(err) { // it wants a main instance to exist
		p.must(os.WriteFile("/etc/postfix/main.cf", []byte("compatibility_level = 3.6\n"), 0o644))
		t.Cleanup(func() { os.Remove("/etc/postfix/main.cf") })
	}
	t.Cleanup(func() {
		p.stop()
		os.RemoveAll(dir)
	})
	return p
}

func (p *postfix) start() { p.run("postfix", "-c", filepath.Join(p.dir, "etc"), "start") }

func (p *postfix) stop() {
	if _, err := os.Stat(filepath.Join(p.dir, "spool", "pid", "master.pid")); err == nil {
		_ = exec.Command("postfix", "-c", filepath.Join(p.dir, "etc"), "stop").Run()
	}
}

func (p *postfix) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *postfix) write(name, text string) {
	p.t.Helper()
	p.must(os.WriteFile(filepath.Join(p.dir, name), []byte(text), 0o644))
}

func (p *postfix) run(name string, args ...string) {
	p.t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.dir, "maillog"))
		p.t.Fatalf("%s %v: %v\n%s\n%s", name, args, err, out, log)
	}
}

// mail is what lies in a mailbox.
func (p *postfix) mail(name string) (list []string) {
	p.t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "mail", name, "new", "*"))
	p.must(err)
	for _, f := range files {
		b, err := os.ReadFile(f)
		p.must(err)
		list = append(list, string(b))
	}
	return list
}

// TestPostfix sends mail to a real Postfix over TLS that proves its name: it arrives, it is refused, it is late, and it
// waits until Postfix is there.
func TestPostfix(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	p := s.newPostfix()
	s.routeTo(p.addr, `"200ms", "500ms"`, `"2s"`, `"6s"`)
	send := func(to, subject string) {
		t.Helper()
		if out, err := s.send("alice", alice, []string{to}, mailOf(alice, to, subject, ".a line with a dot\n\n..\nthe end")); err != nil {
			t.Fatal(err, out)
		}
	}
	send("someone@partner.example", "first") // nobody is there yet
	s.eventually("the first attempt fails", func() bool { l := s.queue(); return len(l) == 1 && l[0].Recipients[0].Status == "4.4.1" })
	p.start()
	s.eventually("the mail arrives", func() bool { return len(p.mail("someone")) == 1 })
	got := p.mail("someone")[0]
	if !strings.Contains(got, "using TLSv1.3") || !strings.Contains(got, "\n.a line with a dot\n\n..\nthe end\n") || !strings.Contains(got, "Return-Path: <"+alice+">") {
		t.Errorf("Postfix has\n%s", got)
	}
	send("nobody@partner.example", "bounce")
	s.eventually("the failure is reported", func() bool { return s.inbox("alice", "User unknown in virtual mailbox table") == 1 })
	if report := s.last("alice", "INBOX"); !strings.Contains(report, "Status: 5.1.1\r\nRemote-MTA: dns; localhost\r\nDiagnostic-Code: smtp; 550 5.1.1 <nobody@partner.example>:") {
		t.Errorf("report:\n%s", report)
	}
	send("late@partner.example", "late")
	s.eventually("the delay is reported", func() bool { return s.inbox("alice", "You need not") == 1 })
	s.eventually("the end is reported", func() bool { return s.inbox("alice", "could not be delivered") == 2 })
	if c := s.counts(); c.Queue != 0 || len(c.Problems) > 0 || len(p.mail("someone")) != 1 {
		t.Errorf("at the end: %+v, %d", c, len(p.mail("someone")))
	}
}
