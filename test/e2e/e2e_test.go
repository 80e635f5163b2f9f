// Package e2e drives the built program from outside, with the tools that people use.
package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// program is the built cmmpd.
var program string

func TestMain(m *testing.M) {
	if path := os.Getenv(sandboxVariable); path != "" {
		_ = os.Unsetenv(sandboxVariable)
		fmt.Fprintln(os.Stderr, enterSandbox(path, os.Args[1:]))
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "cmmpd-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = filepath.Join(dir, "cmmpd")
	if out, err := exec.Command("go", "build", "-o", program, "cmmpd/cmd/cmmpd").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building cmmpd: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// site is a demonstration that is served by a program of its own.
type site struct {
	t    testing.TB
	dir  string
	base int
	args []string
	cmd  *exec.Cmd
	end  chan error // gets what cmd.Wait says
	log  bytes.Buffer

	command       []string // what serves it; empty: demo --serve
	sandbox       string   // file with the sandbox that it runs in; empty: none
	adminPassword string   // of an installation: the file with the administrator's password
}

// newSite makes and serves a demonstration in dir ("" for a new folder).
func newSite(t testing.TB, args ...string) *site {
	s := &site{t: t, dir: filepath.Join(t.TempDir(), "demo"), base: freeBase(t), args: args}
	s.serveIt()
	return s
}

// serveIt starts the program until the test ends.
func (s *site) serveIt() {
	s.t.Helper()
	s.start()
	s.t.Cleanup(func() {
		s.stop(syscall.SIGTERM)
		if s.t.Failed() {
			s.t.Logf("the program's words:\n%s", s.log.String())
		}
	})
}

// freeBase finds a base port where all the services' ports are free.
func freeBase(t testing.TB) int {
	for base := 11000 + os.Getpid()%20000; base < 55000; base += 1009 {
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

// start starts the program and waits until it is ready.
func (s *site) start() {
	s.t.Helper()
	args := s.command
	if args == nil {
		args = append([]string{"demo", "--serve", "--dir", s.dir, "--base-port", fmt.Sprint(s.base)}, s.args...)
	}
	s.cmd = exec.Command(program, args...)
	if s.sandbox != "" {
		s.cmd = inSandbox(s.sandbox, program, args...)
	}
	s.cmd.Stdout, s.cmd.Stderr = io.Discard, &s.log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, end := s.cmd, make(chan error, 1)
	s.end = end
	go func() { end <- cmd.Wait() }()
	for deadline := time.Now().Add(2 * time.Minute); ; {
		res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", s.base+90))
		if err == nil {
			res.Body.Close()
			if res.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-s.end:
			s.cmd = nil
			s.t.Fatalf("the program ended at once: %v\n%s", err, s.log.String())
		case <-time.After(20 * time.Millisecond): // polling another process
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the program is not ready: %v\n%s", err, s.log.String())
		}
	}
}

// stop ends the program with the signal and waits for its end.
func (s *site) stop(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(sig)
	err := <-s.end
	s.cmd = nil
	if err != nil && sig != syscall.SIGKILL {
		s.t.Errorf("the program ended with %v", err)
	}
}

func (s *site) path(elem ...string) string { return filepath.Join(append([]string{s.dir}, elem...)...) }

func (s *site) addr(port int) string { return fmt.Sprintf("localhost:%d", s.base+port) }

// login is "uid:password" for curl.
func (s *site) login(uid string) string { return uid + ":" + s.read("people", uid, "password") }

func (s *site) read(elem ...string) string {
	s.t.Helper()
	b, err := os.ReadFile(s.path(elem...))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(b)
}

// run runs a command with in as its standard input and returns what it printed.
func (s *site) run(in, name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	var out, words bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(in), &out, &words
	cmd.Env = append(os.Environ(), "LDAPTLS_CACERT="+s.path("pki", "ca.pem"))
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", name, err, words.String())
	}
	return out.String(), err
}

// must is run for a command that must succeed.
func (s *site) must(in, name string, args ...string) string {
	s.t.Helper()
	out, err := s.run(in, name, args...)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// code runs our program and returns its exit code and all it said.
func (s *site) code(args ...string) (int, string) {
	cmd := exec.Command(program, args...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// counts is "cmmpd check --json".
func (s *site) counts() (c struct {
	Accounts, Mailboxes, Entries, Bodies, Queue, Recoverable int
	Problems                                                 []string
},
) {
	s.t.Helper()
	out := s.must("", program, "check", "--json", "--config", s.path("cmmpd.toml"))
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		s.t.Fatalf("check --json: %v: %s", err, out)
	}
	return c
}

// send submits a mail with curl as the user, and returns curl's words.
func (s *site) send(uid, from string, to []string, text string) (string, error) {
	args := []string{
		"-sS", "-v", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "--mail-from", from, "--crlf",
		"-T", "-", "smtps://" + s.addr(465),
	}
	for _, r := range to {
		args = append(args, "--mail-rcpt", r)
	}
	cmd := exec.Command("curl", args...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// last fetches the newest message of a mailbox with curl.
func (s *site) last(uid, mailbox string) string {
	s.t.Helper()
	return s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login(uid), "imaps://"+s.addr(993)+"/"+mailbox+";MAILINDEX=*")
}

// mailOf is a plain text mail.
func mailOf(from, to, subject, text string) string {
	return fmt.Sprintf("From: %s\nTo: %s\nSubject: %s\nDate: Sun, 22 Nov 2026 10:00:00 +0800\nMessage-ID: <%d@e2e.gov.example>\n\n%s\n", from, to, subject, time.Now().UnixNano(), text)
}
