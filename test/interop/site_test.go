//go:build e2e

package interop

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"
)

// patience is how long a program may take for what it is told, on a machine that has much else to do.
const patience = 10 * time.Minute

// site is a demonstration that is served by a program of its own.
type site struct {
	t    testing.TB
	dir  string
	base int
}

func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "demo"), base: freeBase(t)}
	program := filepath.Join(t.TempDir(), "cmmpd")
	s.must("", "go", "build", "-o", program, "cmmpd/cmd/cmmpd")
	stop := s.serve(program)
	config := s.path("cmmpd.toml")
	key := s.must("", program, "smime", "key", "import", "--config", config, "--for", addressOf("alice"),
		"--certificate", s.path("people", "alice", "cert.pem"), "--key", s.path("people", "alice", "key.pem"))
	stop()
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	s.write(config, string(text)+"\n"+key+signRules)
	t.Cleanup(s.serve(program))
	return s
}

// signRules have mail in clear be signed that says that it is unclassified, and no other.
const signRules = `
[[smime.sign]]
from = ["alice@works.gov.example"]
labels = ["unclassified"]
by = "author"

[[smime.sign]]
labels = ["unclassified"]
by = "department"
`

// serve runs the program until stop is called.
func (s *site) serve(program string) (stop func()) {
	s.t.Helper()
	cmd := exec.Command(program, "demo", "--serve", "--dir", s.dir, "--base-port", fmt.Sprint(s.base))
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.until("the program is ready", func() bool {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", s.base+90))
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil || s.t.Failed() {
			s.t.Errorf("the program ended with %v:\n%s", err, log.String())
		}
	}
}

// freeBase finds a base port where all the services' ports are free.
func freeBase(t testing.TB) int {
	for base := 12000 + os.Getpid()%20000; base < 55000; base += 1013 {
		free := true
		for _, p := range []int{25, 90, 143, 389, 465, 587, 636, 993} {
			ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", base+p))
			if err != nil {
				free = false
				break
			}
			ln.Close()
		}
		if free {
			return base
		}
	}
	t.Fatal("no free ports")
	return 0
}

// until polls another program.
func (s *site) until(what string, f func() bool) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("not in time: %s", what)
		}
	}
}

func (s *site) path(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }

func (s *site) addr(port int) string { return fmt.Sprintf("localhost:%d", s.base+port) }

func (s *site) password(uid string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path("people", uid, "password"))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

func (s *site) write(name, text string) string {
	s.t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return name
}

// must runs a program that must succeed and returns what it printed.
func (s *site) must(in, name string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.WaitDelay = time.Second
	var out, words bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &words
	if err := cmd.Run(); err != nil {
		s.t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, words.String(), out.String())
	}
	return out.String()
}

func (s *site) tls() *tls.Config {
	s.t.Helper()
	pem, err := os.ReadFile(s.path("pki", "ca.pem"))
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// deliver sends alice's mail.
func (s *site) deliver(to, raw string) {
	s.t.Helper()
	c, err := smtp.DialTLS(s.addr(465), s.tls())
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "alice", s.password("alice"))); err != nil {
		s.t.Fatal(err)
	}
	if err := c.SendMail(addressOf("alice"), []string{to}, strings.NewReader(raw)); err != nil {
		s.t.Fatal(err)
	}
}

// imap logs in.
func (s *site) imap(uid string) *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialTLS(s.addr(993), &imapclient.Options{TLSConfig: s.tls()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Login(uid, s.password(uid)).Wait(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// held is a mail as the server has it.
type held struct {
	text  string
	flags []imap.Flag
}

// mails are those of the folder that hold the marker. A folder that is not there has none.
func (s *site) mails(uid, folder, marker string) []held {
	s.t.Helper()
	c := s.imap(uid)
	defer c.Close()
	box, err := c.Select(folder, &imap.SelectOptions{ReadOnly: true}).Wait()
	if err != nil || box.NumMessages == 0 {
		return nil
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}, &imap.FetchOptions{Flags: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	var out []held
	for _, m := range msgs {
		if text := string(m.FindBodySection(section)); strings.Contains(text, marker) {
			out = append(out, held{text, m.Flags})
		}
	}
	return out
}

// one is the mail of the folder that holds the marker.
func (s *site) one(uid, folder, marker string) held {
	s.t.Helper()
	found := s.mails(uid, folder, marker)
	if len(found) != 1 {
		s.t.Fatalf("%s's %s has %d mails with %s", uid, folder, len(found), marker)
	}
	return found[0]
}

// gone makes sure that no mail of the folder holds the marker.
func (s *site) gone(uid, folder, marker string) {
	s.t.Helper()
	if n := len(s.mails(uid, folder, marker)); n != 0 {
		s.t.Fatalf("%s's %s still has %d mails with %s", uid, folder, n, marker)
	}
}

func (s *site) flagged(uid, folder, marker string, want imap.Flag) {
	s.t.Helper()
	m := s.one(uid, folder, marker)
	for _, f := range m.flags {
		if f == want {
			return
		}
	}
	s.t.Fatalf("%s's mail in %s has the flags %v", uid, folder, m.flags)
}

// addressOf is the address of a person of the demonstration.
func addressOf(uid string) string {
	switch uid {
	case "carol", "erin", "dave", "henry":
		return uid + "@health.gov.example"
	}
	return uid + "@works.gov.example"
}
