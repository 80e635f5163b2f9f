//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-smtp"
)

const (
	idleAccounts = 1000
	idleEach     = 100 // messages of 4 KiB
)

// TestIdle is no test but a measurement: memory after every account was used, time until the ports greet. It runs only
// with CMMPD_BENCH set.
func TestIdle(t *testing.T) {
	if os.Getenv("CMMPD_BENCH") == "" {
		t.Skip("skipped: a measurement, for test/bench/idle.sh")
	}
	s := newSite(t, "--bench-users", fmt.Sprint(idleAccounts))
	empty := s.memory()
	s.each(16, func(user int) error {
		c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), s.clientTLS())
		if err != nil {
			return err
		}
		defer c.Close()
		for i := range idleEach {
			id := fmt.Sprintf("u%d-%d", user, i)
			if err := c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(benchMessage(user, id))); err != nil {
				return err
			}
		}
		return nil
	})
	s.each(16, func(user int) error {
		c, err := s.dialIMAP(user)
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Select(inbox, nil).Wait(); err != nil {
			return err
		}
		all := imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}
		_, err = c.Fetch(all, &imap.FetchOptions{Envelope: true, Flags: true}).Collect()
		return err
	})
	used := s.memory()
	time.Sleep(15 * time.Second)
	soon := s.memory()
	time.Sleep(time.Minute) // for what idles away
	t.Logf("memory (PSS): %d accounts, empty: %s; after each of them had %d messages delivered, a log-in, a SELECT and a FETCH of all envelopes: %s; 15 s later: %s; a minute after that: %s",
		idleAccounts, empty, idleEach, used, soon, s.memory())
	s.stop(syscall.SIGTERM)
	t.Logf("until SMTP and IMAP greet, after a stop: %v", s.startTimed())
	l := newLedger()
	s.prepare(14)
	s.load(l, 0, 3000, func() { s.stop(syscall.SIGKILL) })
	t.Logf("the same after kill -9 under load: %v", s.startTimed())
	t.Logf("memory after that start: %s", s.memory())
}

// each calls f for every user, some at once.
func (s *site) each(many int, f func(user int) error) {
	var wg sync.WaitGroup
	for first := range many {
		wg.Go(func() {
			for user := first; user < idleAccounts; user += many {
				if err := f(user); err != nil {
					s.t.Errorf("user %d: %v", user, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// memory is the program's proportional set size, and what of it is its own and not a file's, in MiB.
func (s *site) memory() string {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.cmd.Process.Pid))
	if err != nil {
		s.t.Fatal(err)
	}
	value := func(name string) int {
		_, rest, _ := strings.Cut(string(b), "\n"+name+":")
		kb, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]))
		if err != nil {
			s.t.Fatal(err)
		}
		return kb >> 10
	}
	return fmt.Sprintf("%d MiB (%d anonymous)", value("Pss"), value("Pss_Anon"))
}

// startTimed starts the program and says when SMTP and IMAP have greeted.
func (s *site) startTimed() time.Duration {
	s.t.Helper()
	s.cmd = exec.Command(program, append([]string{"demo", "--serve", "--dir", s.dir, "--base-port", fmt.Sprint(s.base)}, s.args...)...)
	s.cmd.Stderr = &s.log
	begin := time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, end := s.cmd, make(chan error, 1)
	s.end = end
	go func() { end <- cmd.Wait() }()
	for _, port := range []int{25, 143} {
		for !greets(s.base + port) {
			if time.Since(begin) > time.Minute {
				s.t.Fatal("the program is not ready")
			}
			time.Sleep(time.Millisecond) // polling another process
		}
	}
	return time.Since(begin).Round(time.Millisecond)
}

func greets(port int) bool {
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return false
	}
	defer c.Close()
	line, err := bufio.NewReader(c).ReadString('\n')
	return err == nil && line != ""
}
