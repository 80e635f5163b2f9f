package imap

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// A message that comes while several sessions open its mailbox is \Recent in one of them at most (RFC 3501, section
// 2.3.2).
func TestRecentInOneSession(t *testing.T) {
	ts := newServer(t, Limits{})
	const messages, sessions = 300, 4
	writer := ts.login("alice")
	var mu sync.Mutex
	seen := make(map[string]int) // UID to how many sessions saw it as \Recent
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range sessions {
		c := ts.login("alice")
		wg.Go(func() {
			for n, last := 0, false; !last; n++ {
				select {
				case <-done:
					last = true // and once more, for those that came last
				default:
				}
				mine := recentUIDs(c, n)
				mu.Lock()
				for uid := range mine {
					seen[uid]++
				}
				mu.Unlock()
			}
		})
	}
	for range messages {
		writer.send("a APPEND INBOX {14+}\r\nSubject: a\r\n\r\n\r\n")
		writer.expect("a OK …")
	}
	close(done)
	wg.Wait()
	for uid, n := range seen {
		if n > 1 {
			t.Errorf("message %s was recent in %d sessions", uid, n)
		}
	}
	if len(seen) == 0 {
		t.Error("no message was recent in any session")
	}
}

// recentUIDs opens INBOX as a new session would and returns what is \Recent in it.
func recentUIDs(c *client, n int) map[string]bool {
	tag := fmt.Sprint("r", n)
	c.send(tag + "s SELECT INBOX\r\n" + tag + "f UID FETCH 1:* (FLAGS)\r\n" + tag + "c UNSELECT\r\n")
	uids := make(map[string]bool)
	for {
		line := c.line()
		if line == "EOF" || strings.HasPrefix(line, tag+"c ") {
			return uids
		}
		if _, rest, ok := strings.Cut(line, "(UID "); ok && strings.Contains(line, `\Recent`) {
			uid, _, _ := strings.Cut(rest, " ")
			uids[uid] = true
		}
	}
}
