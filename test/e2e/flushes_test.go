//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/emersion/go-smtp"

	"cmmpd/internal/testkit"
)

// TestFlushes is a measurement, too: it counts the system calls that write and flush for each message delivered, and prints those
// of one delivery in their order. It runs only with CMMPD_BENCH set.
func TestFlushes(t *testing.T) {
	if os.Getenv("CMMPD_BENCH") == "" {
		t.Skip("skipped: a measurement, for test/bench/idle.sh")
	}
	strace := testkit.Need(t, "strace")
	s := newSite(t, "--bench-users", fmt.Sprint(crashUsers))
	for user := range crashUsers { // each has its keys and its first epoch afterwards
		s.sendBench(t, user, fmt.Sprintf("first-%d", user))
	}
	for _, conns := range []int{1, 16, 64} {
		const each = 3200
		trace := s.traced(strace, func() {
			var wg sync.WaitGroup
			for conn := range conns {
				wg.Go(func() {
					c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), s.clientTLS())
					if err != nil {
						t.Error(err)
						return
					}
					defer c.Close()
					for i := range each / conns {
						user := (conn + i) % crashUsers
						if err := c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(benchMessage(user, fmt.Sprintf("f%d-%d-%d", conns, conn, i)))); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
		count := make(map[string]int)
		for _, m := range regexp.MustCompile(`(?m)(fdatasync|fsync|pwrite64|write)\(\d+<[^>]*/(segments|index\.db|vault|audit|search)`).FindAllStringSubmatch(trace, -1) {
			count[m[1]+" "+m[2]]++
		}
		var words []string
		for what, n := range count {
			words = append(words, fmt.Sprintf("%s %.3f", what, float64(n)/each))
		}
		t.Logf("%d connections, for each message: %s", conns, strings.Join(words, ", "))
	}
	t.Logf("one delivery:\n%s", s.traced(strace, func() { s.sendBench(t, 1, "single") }))
	s.stop(syscall.SIGTERM)
}

// traced is what strace says of the program's writing system calls while f runs.
func (s *site) traced(strace string, f func()) string {
	s.t.Helper()
	path := s.path("trace")
	end := s.attach(exec.Command(strace, "-f", "-y", "-o", path, "-e", "trace=pwrite64,fdatasync,fsync,ftruncate,rename,renameat,renameat2", "-p", fmt.Sprint(s.cmd.Process.Pid)))
	f()
	end()
	return s.read("trace")
}
