package imap

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// follower is a client that keeps its own numbering by what it is told, and objects
// when the server contradicts itself.
type follower struct {
	*client
	uids []uint32 // 0 where the UID has not been told
	n    int
}

// run sends a command and follows the answers to its end. Numbers are only allowed to
// change if expunge is.
func (f *follower) run(cmd string, expunge bool) {
	f.n++
	tag := fmt.Sprintf("t%d", f.n)
	f.send(tag + " " + cmd + "\r\n")
	for {
		line := f.line()
		if rest, ok := strings.CutPrefix(line, tag+" "); ok {
			if strings.HasPrefix(rest, "BAD") {
				f.t.Errorf("%s: %s", cmd, line)
			}
			return
		}
		if line == "EOF" {
			f.t.Errorf("%s: the connection ended", cmd)
			return
		}
		f.follow(cmd, line, expunge)
	}
}

func (f *follower) follow(cmd, line string, expunge bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 || fields[0] != "*" {
		return
	}
	n, err := strconv.Atoi(fields[1])
	if err != nil {
		return
	}
	switch fields[2] {
	case "EXISTS":
		if n < len(f.uids) {
			f.t.Errorf("%s: EXISTS %d after %d", cmd, n, len(f.uids))
			return
		}
		f.uids = append(f.uids, make([]uint32, n-len(f.uids))...)
	case "EXPUNGE":
		if !expunge || n > len(f.uids) {
			f.t.Errorf("%s: %s of %d", cmd, line, len(f.uids))
			return
		}
		f.uids = slices.Delete(f.uids, n-1, n)
	case "FETCH":
		_, rest, ok := strings.Cut(line, "UID ")
		if !ok {
			return
		}
		digits := rest[:strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })]
		uid, err := strconv.Atoi(digits)
		if err != nil || n > len(f.uids) || f.uids[n-1] != 0 && f.uids[n-1] != uint32(uid) {
			f.t.Errorf("%s: %s, but the message was %v", cmd, line, f.uids[min(n, len(f.uids))-1])
			return
		}
		f.uids[n-1] = uint32(uid)
	}
}

// Sessions that change one mailbox all at once never see numbers that contradict what
// they were told, and agree in the end.
func TestSessionsTogether(t *testing.T) {
	ts := newServer(t, Limits{})
	const sessions, rounds = 4, 150
	var wg sync.WaitGroup
	followers := make([]*follower, sessions)
	for i := range followers {
		f := &follower{client: ts.login("alice")}
		followers[i] = f
		f.run("SELECT INBOX", false)
		rnd := rand.New(rand.NewPCG(uint64(i), 7))
		wg.Go(func() {
			for range rounds {
				set := "1:*"
				if n := len(f.uids); n > 0 {
					a, b := rnd.IntN(n)+1, rnd.IntN(n)+1
					set = fmt.Sprintf("%d:%d", min(a, b), max(a, b))
				}
				switch rnd.IntN(9) {
				case 0, 1:
					f.run("APPEND INBOX {14+}\r\nSubject: a\r\n\r\n", true)
				case 2:
					f.run("STORE "+set+" +FLAGS.SILENT (\\Deleted)", false)
				case 3:
					f.run("UID STORE 1:9 -FLAGS (\\Deleted)", true)
				case 4:
					f.run("EXPUNGE", true)
				case 5:
					f.run("FETCH "+set+" (UID FLAGS)", false)
				case 6:
					f.run("SEARCH ALL", false)
				case 7:
					f.run("COPY "+set+" INBOX", true)
				case 8:
					f.run("UID FETCH 1:* (FLAGS)", true)
				}
				if len(f.uids) > 200 {
					f.run("STORE 1:150 +FLAGS.SILENT (\\Deleted)", false)
					f.run("EXPUNGE", true)
				}
			}
		})
	}
	wg.Wait()
	for _, f := range followers {
		f.run("NOOP", true)
		f.run("FETCH 1:* (UID)", false)
		if !slices.Equal(f.uids, followers[0].uids) || slices.Contains(f.uids, 0) || !slices.IsSorted(f.uids) {
			t.Errorf("the sessions disagree: %v and %v", f.uids, followers[0].uids)
		}
	}
}
