//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// rounds is how many rounds a test is to do: what the environment variable says, else n.
func rounds(t testing.TB, variable string, n int) int {
	v := os.Getenv(variable)
	if v == "" {
		return n
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q", variable, v)
	}
	return n
}

// segments lists the files of the log: compaction has removed those whose numbers are missing.
func (s *site) segments() (names []string) {
	s.t.Helper()
	files, err := os.ReadDir(s.path("store", "segments"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range files {
		names = append(names, strings.TrimLeft(f.Name(), "0"))
	}
	return names
}

// TestKill kills the program under load of deliveries and sessions, CMMPD_KILL_ROUNDS times (10), at a moment that differs;
// half of them with expunged messages kept for their owners, half without, so that compaction has something to remove.
// Every message that was acknowledged must be there exactly once, where the last acknowledged act has put it, and the
// store must be sound.
func TestKill(t *testing.T) {
	many := rounds(t, "CMMPD_KILL_ROUNDS", 10)
	for days, many := range map[int]int{0: many - many/2, 14: many / 2} {
		t.Run(fmt.Sprintf("kept %d days", days), func(t *testing.T) { killRounds(t, days, many) })
	}
}

func killRounds(t *testing.T, days, many int) {
	s := newSite(t, "--bench-users", fmt.Sprint(crashUsers))
	s.prepare(days)
	l, rnd := newLedger(), rand.New(rand.NewPCG(1, uint64(days)))
	acked, unanswered := 0, 0
	for round := range many {
		s.load(l, round, 1+rnd.IntN(1+rnd.IntN(2000)), func() { s.stop(syscall.SIGKILL) })
		n := l.acked
		s.start()
		if c := s.counts(); len(c.Problems) > 0 {
			t.Fatalf("round %d: %v", round, c.Problems)
		}
		more := l.verify(s, round)
		if round%10 == 4 {
			s.must("", program, "store", "compact", "--config", s.path("cmmpd.toml"))
		}
		t.Logf("round %d: %d acts acknowledged, all done once; %d more done without an answer", round, n, more)
		if t.Failed() {
			t.FailNow()
		}
		acked, unanswered = acked+n, unanswered+more
	}
	t.Logf("in all %d acts acknowledged, 0 missing, 0 twice; %d done without an answer; %d messages are there, in segments %v", acked, unanswered, len(l.fates), s.segments())
	s.stop(syscall.SIGTERM)
	if code, out := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
		t.Errorf("check --deep: %d %s", code, out)
	}
	s.verifyAudit()
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
// table of names, on the same audit log, and at last only on the same store.
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
		"audit names": config,
		"audit log":   strings.Replace(config, `"audit-names.db"`, `"names2.db"`, 1),
		"store":       strings.NewReplacer(`path = "audit"`, `path = "audit2"`, `"audit-names.db"`, `"names3.db"`).Replace(config),
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
