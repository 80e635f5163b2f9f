//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
)

const (
	crashUsers    = 20
	crashConns    = 12 // that deliver
	crashSessions = 6  // of the first users, that append, flag, move and expunge
)

// benchText is the body of every message of the load.
var benchText = strings.Repeat("some text of a message\r\n", 150)

func benchMessage(user int, id string) string {
	return fmt.Sprintf("From: sender@example.org\r\nTo: bench%d@bench.test\r\nSubject: load\r\nX-Bench-Id: %s\r\n\r\n%s\r\n", user, id, benchText)
}

// imapSession is a session of a bench user.
func (s *site) imapSession(user int) *imapclient.Client {
	s.t.Helper()
	c, err := s.dialIMAP(user)
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func (s *site) dialIMAP(user int) (*imapclient.Client, error) {
	c, err := imapclient.DialTLS(fmt.Sprintf("127.0.0.1:%d", s.base+993), &imapclient.Options{TLSConfig: s.clientTLS()})
	if err != nil {
		return nil, err
	}
	if err := c.Login(fmt.Sprintf("bench%d", user), "benchpass").Wait(); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// prepare makes the mailbox to which messages are moved, and says how long expunged messages are kept.
func (s *site) prepare(days int) {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	config := regexp.MustCompile(`(?m)^(recoverable-days *=) *\d+`).ReplaceAllString(s.read("cmmpd.toml"), fmt.Sprintf("$1 %d", days))
	if !strings.Contains(config, "recoverable-days") {
		config = strings.Replace(config, "[store]\n", fmt.Sprintf("[store]\nrecoverable-days = %d\n", days), 1)
	}
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.start()
	for user := range crashUsers {
		c := s.imapSession(user)
		if err := c.Create(kept, nil).Wait(); err != nil {
			s.t.Fatal(err)
		}
		c.Close()
	}
}

// load has clients at work over many connections until so many of their acts are acknowledged; then end is called,
// which lets no more through. In every third round the store is compacted over and over meanwhile.
func (s *site) load(l *ledger, round, many int, end func()) {
	s.t.Helper()
	compacting := round%3 == 1
	if compacting {
		many += 1000
	}
	enough := l.begin(many)
	var wg sync.WaitGroup
	var ended atomic.Bool
	if compacting {
		wg.Go(func() {
			for code := 0; code == 0 && !ended.Load(); { // without the program it is done all the same
				code, _ = s.code("store", "compact", "--config", s.path("cmmpd.toml"))
			}
		})
	}
	for conn := range crashConns {
		wg.Go(func() { s.deliverLoad(l, round, conn) })
	}
	for user := range crashSessions {
		wg.Go(func() {
			if c, err := s.dialIMAP(user); err == nil {
				w := &worker{c: c, l: l, user: user, name: fmt.Sprintf("r%d-s%d", round, user), rnd: rand.New(rand.NewPCG(uint64(round), uint64(user)))}
				w.run()
				_ = c.Close()
			}
		})
	}
	select {
	case <-enough:
	case <-time.After(time.Minute):
		s.t.Error("the load did not get through")
	}
	end()
	ended.Store(true)
	wg.Wait()
}

// deliverLoad sends one message after the other until that fails.
func (s *site) deliverLoad(l *ledger, round, conn int) {
	c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), s.clientTLS())
	if err != nil {
		return
	}
	defer c.Close()
	for i := 0; ; i++ {
		user, id := (conn+i)%crashUsers, fmt.Sprintf("r%d-c%d-%d", round, conn, i)
		l.create(id, user, inbox)
		if err := c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(benchMessage(user, id))); err != nil {
			return
		}
		l.delivered(id, inbox)
	}
}

// worker is a user at work in INBOX.
type worker struct {
	c    *imapclient.Client
	l    *ledger
	user int
	name string
	rnd  *rand.Rand
	n    int

	next imap.UID // where new messages begin
	mine []message
	soft []flagChange // acknowledged since the last durable act
}

type message struct {
	uid     imap.UID
	id      string
	flagged bool
}

type flagChange struct {
	id string
	on bool
}

// run works until the server is gone.
func (w *worker) run() {
	box, err := w.c.Select(inbox, &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil {
		return
	}
	w.next = max(1, box.UIDNext-min(box.UIDNext, 50))
	for err == nil {
		if err = w.look(); err == nil {
			err = w.act()
		}
	}
}

// look finds what is new.
func (w *worker) look() error {
	msgs, err := w.c.Fetch(imap.UIDSet{imap.UIDRange{Start: w.next}}, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{benchID}}).Collect()
	if err != nil {
		return err
	}
	for _, m := range msgs {
		if id := idOf(m.FindBodySection(benchID)); m.UID >= w.next && w.l.found(id, inbox) {
			on := false
			for _, f := range m.Flags {
				on = on || f == imap.FlagFlagged
			}
			w.mine = append(w.mine, message{m.UID, id, on})
			w.next = m.UID + 1
		}
	}
	return nil
}

// act does one thing.
func (w *worker) act() error {
	if len(w.mine) == 0 || w.rnd.IntN(8) == 0 {
		return w.append()
	}
	i := w.rnd.IntN(len(w.mine))
	m := &w.mine[i]
	switch w.rnd.IntN(5) {
	case 0:
		w.l.asked(m.id, kept)
		if _, err := w.c.Move(imap.UIDSetNum(m.uid), kept).Wait(); err != nil {
			return err
		}
		w.durable(m.id, kept)
		w.mine = append(w.mine[:i], w.mine[i+1:]...)
	case 1:
		if err := w.flag(m, imap.FlagDeleted, true); err != nil {
			return err
		}
		w.l.asked(m.id, nowhere)
		if err := w.c.UIDExpunge(imap.UIDSetNum(m.uid)).Close(); err != nil {
			return err
		}
		w.durable(m.id, nowhere)
		w.mine = append(w.mine[:i], w.mine[i+1:]...)
	default:
		on := !m.flagged
		w.l.flagging(m.id, on)
		if err := w.flag(m, imap.FlagFlagged, on); err != nil {
			return err
		}
		m.flagged = on
		w.soft = append(w.soft, flagChange{m.id, on})
	}
	return nil
}

func (w *worker) flag(m *message, name imap.Flag, on bool) error {
	op := imap.StoreFlagsAdd
	if !on {
		op = imap.StoreFlagsDel
	}
	changed, err := w.c.Store(imap.UIDSetNum(m.uid), &imap.StoreFlags{Op: op, Flags: []imap.Flag{name}}, nil).Collect()
	for _, c := range changed {
		w.l.told(w.user, inbox, c.ModSeq)
	}
	return err
}

func (w *worker) append() error {
	w.n++
	id := fmt.Sprintf("%s-%d", w.name, w.n)
	text := benchMessage(w.user, id)
	w.l.create(id, w.user, kept)
	cmd := w.c.Append(kept, int64(len(text)), nil)
	if _, err := cmd.Write([]byte(text)); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	if _, err := cmd.Wait(); err != nil {
		return err
	}
	w.l.delivered(id, kept)
	w.settle()
	return nil
}

// durable is the acknowledgement of a durable act on a message.
func (w *worker) durable(id, place string) {
	w.l.done(id, place)
	w.settle()
}

// settle notes that flags which were acknowledged before a durable act have come to stay with it.
func (w *worker) settle() {
	for _, f := range w.soft {
		w.l.flagged(f.id, f.on)
	}
	w.soft = w.soft[:0]
}
