//go:build e2e

package e2e

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

const (
	crashRounds = 10
	crashConns  = 16
	crashUsers  = 20
)

// TestKill kills the program under load, ten times, and looks for every message that was
// acknowledged: it must be there exactly once, and the store must be sound.
func TestKill(t *testing.T) {
	s := newSite(t, "--bench-users", fmt.Sprint(crashUsers))
	acked := make(map[string]int) // identifier to user
	tried := make(map[string]bool)
	for round := range crashRounds {
		n := len(acked)
		s.loadAndKill(round, acked, tried)
		s.start()
		if c := s.counts(); len(c.Problems) > 0 {
			t.Fatalf("round %d: %v", round, c.Problems)
		}
		unanswered := s.compare(round, acked, tried)
		t.Logf("round %d: %d acknowledged, all there once; %d in all were delivered without an answer", round, len(acked)-n, unanswered)
		if len(acked) == n {
			t.Errorf("round %d: nothing was acknowledged before the kill", round)
		}
	}
	s.stop(syscall.SIGTERM)
	if code, out := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
		t.Errorf("check --deep: %d %s", code, out)
	}
}

// compare demands every acknowledged message once, and nothing that was not sent. It returns
// how many are there without having been acknowledged.
func (s *site) compare(round int, acked map[string]int, tried map[string]bool) (unanswered int) {
	s.t.Helper()
	found := s.benchIDs()
	for id, user := range acked {
		if found[user][id] != 1 {
			s.t.Errorf("round %d: %s is there %d times", round, id, found[user][id])
		}
	}
	for user, ids := range found {
		for id, times := range ids {
			if times != 1 || !tried[id] {
				s.t.Errorf("round %d: user %d has %s %d times", round, user, id, times)
			}
			if _, ok := acked[id]; !ok {
				unanswered++
			}
		}
	}
	return unanswered
}

// loadAndKill is load that is ended by killing the program.
func (s *site) loadAndKill(round int, acked map[string]int, tried map[string]bool) {
	s.load(round, 200*(round+1), acked, tried, func(map[string]int) { s.stop(syscall.SIGKILL) })
}

// load sends over many connections until end, which is called when so many messages of this
// round are acknowledged, lets no more through. It notes what was acknowledged, and tells
// end what was until then.
func (s *site) load(round, many int, acked map[string]int, tried map[string]bool, end func(sofar map[string]int)) {
	conf := s.clientTLS()
	var mu sync.Mutex
	var wg sync.WaitGroup
	enough := make(chan struct{}) // closed when some messages of this round are acknowledged
	count := 0
	for conn := range crashConns {
		wg.Go(func() {
			c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), conf)
			if err != nil {
				return
			}
			defer c.Close()
			for i := 0; ; i++ {
				user := (conn + i) % crashUsers
				id := fmt.Sprintf("r%d-c%d-%d", round, conn, i)
				mu.Lock()
				tried[id] = true
				mu.Unlock()
				msg := fmt.Sprintf("From: sender@example.org\r\nTo: bench%d@bench.test\r\nSubject: load\r\nX-Bench-Id: %s\r\n\r\n%s\r\n", user, id, strings.Repeat("some text of a message\r\n", 150))
				if err := c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(msg)); err != nil {
					return
				}
				mu.Lock()
				acked[id] = user
				if count++; count == many {
					close(enough)
				}
				mu.Unlock()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		s.t.Error("the load did not get through")
	}
	mu.Lock()
	sofar := maps.Clone(acked)
	mu.Unlock()
	end(sofar)
	wg.Wait()
}

// benchIDs lists the identifiers in every bench user's INBOX, and how often each is there.
func (s *site) benchIDs() map[int]map[string]int {
	found := make(map[int]map[string]int)
	for user := range crashUsers {
		ids, err := s.inboxIDs(fmt.Sprintf("bench%d", user))
		if err != nil {
			s.t.Fatal(err)
		}
		found[user] = ids
	}
	return found
}

// TestServeAgain starts the program on ports that are taken, and two on one folder: on the same socket, on the same
// audit log, and at last only on the same store.
func TestServeAgain(t *testing.T) {
	s := newSite(t, "--bench-users", "1")
	if code, out := s.code("serve", "--config", s.path("cmmpd.toml")); code != 1 || out == "" {
		t.Errorf("a second daemon on the same folder: exit %d: %s", code, out)
	}
	if _, err := os.Stat(s.path("cmmpd.sock")); err != nil {
		t.Errorf("the second daemon has taken the first one's socket away: %v", err)
	}
	config := regexp.MustCompile(`127\.0\.0\.1:\d+`).ReplaceAllStringFunc(s.read("cmmpd.toml"), func(addr string) string {
		port, _ := strconv.Atoi(strings.TrimPrefix(addr, "127.0.0.1:"))
		return fmt.Sprintf("127.0.0.1:%d", port+5)
	})
	config = strings.Replace(config, `"cmmpd.sock"`, `"second.sock"`, 1)
	s.must("", "cp", "-a", s.path("audit"), s.path("audit2"))
	for what, text := range map[string]string{
		"audit log": config,
		"store":     strings.Replace(config, `path = "audit"`, `path = "audit2"`, 1),
	} {
		path := s.path("second.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if code, out := s.code("serve", "--config", path); code != 1 || !strings.Contains(out, what) {
			t.Errorf("a second daemon on the same %s: exit %d: %s", what, code, out)
		}
	}
	if code := s.sendBench(t, 0, "still"); code != 0 {
		t.Errorf("the first daemon refuses mail: %d", code)
	}
	if c := s.counts(); len(c.Problems) > 0 || c.Entries != 1 {
		t.Errorf("%+v", c)
	}
}
