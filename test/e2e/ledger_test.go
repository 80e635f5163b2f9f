//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// Where a message of the load may be.
const (
	nowhere = ""
	inbox   = "INBOX"
	kept    = "Kept"
)

// ledger is what clients were told, and what they asked for without hearing the answer.
type ledger struct {
	mu     sync.Mutex
	fates  map[string]*fate
	modSeq map[string]uint64   // by user and mailbox: the highest that anybody was told
	bodies map[string]imap.UID // by user and mailbox: below this, bodies were compared
	acked  int                 // acknowledged acts
	frozen bool                // the power is being cut: what is acknowledged now is heard by nobody
	enough chan struct{}       // closed when acked is goal
	goal   int
}

// fate is where a message may be and how. Once something is acknowledged there is only one way.
type fate struct {
	user    int
	places  []string
	flagged []bool
	seen    bool // by a session: its delivery is no longer in question
}

func newLedger() *ledger {
	return &ledger{fates: make(map[string]*fate), modSeq: make(map[string]uint64), bodies: make(map[string]imap.UID)}
}

func boxOf(user int, name string) string { return fmt.Sprintf("bench%d %s", user, name) }

// begin begins a round that is to last until so many acts are acknowledged.
func (l *ledger) begin(goal int) (enough chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked, l.frozen, l.goal, l.enough = 0, false, goal, make(chan struct{})
	return l.enough
}

// freeze ends all acknowledging: whatever is asked for or answered from now on may have happened or not.
func (l *ledger) freeze() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.frozen = true
}

func (l *ledger) count() {
	if l.acked++; l.acked == l.goal {
		close(l.enough)
	}
}

// create is a new message on its way.
func (l *ledger) create(id string, user int, place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[id] = &fate{user: user, places: []string{nowhere, place}, flagged: []bool{false}}
}

// delivered is the acknowledgement of create. What a session did to the message meanwhile counts more.
func (l *ledger) delivered(id, place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.fates[id]; !l.frozen {
		if !f.seen {
			f.places = []string{place}
		}
		l.count()
	}
}

// found is a message in a session's hands: what can be seen has happened. It says whether it is one of ours.
func (l *ledger) found(id, place string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.fates[id]
	if f == nil || f.seen {
		return f != nil
	}
	if !l.frozen {
		f.seen, f.places = true, []string{place}
	}
	return true
}

// asked is a move, or an expunge (to nowhere), that was asked for.
func (l *ledger) asked(id, place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.fates[id]; !slices.Contains(f.places, place) {
		f.places = append(f.places, place)
	}
}

// done is the acknowledgement of asked.
func (l *ledger) done(id, place string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.fates[id].places = []string{place}
		l.count()
	}
}

// flagging is a flag that was asked for.
func (l *ledger) flagging(id string, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f := l.fates[id]; !slices.Contains(f.flagged, on) {
		f.flagged = append(f.flagged, on)
	}
}

// flagged is a flag that was acknowledged before a durable act was: a crash may not undo it any more.
func (l *ledger) flagged(id string, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.frozen {
		l.fates[id].flagged = []bool{on}
	}
}

// told is a mod-sequence that a client was told.
func (l *ledger) told(user int, name string, modSeq uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if box := boxOf(user, name); !l.frozen {
		l.modSeq[box] = max(l.modSeq[box], modSeq)
	}
}

// verify compares everything that is there with the ledger: each acknowledged message once, where and as it should be,
// nothing that was not sent, no mod-sequence twice. Then the ledger says what was found. It returns how many acts are
// done without having been acknowledged.
func (l *ledger) verify(s *site, round int) (unanswered int) {
	s.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := make(map[string]string)
	for user := range crashUsers {
		c := s.imapSession(user)
		for _, name := range []string{inbox, kept} {
			unanswered += l.verifyMailbox(s, c, round, user, name, at)
		}
		c.Close()
	}
	for id, f := range l.fates {
		if _, ok := at[id]; ok {
			continue
		}
		if !slices.Contains(f.places, nowhere) {
			s.t.Errorf("round %d: %s of user %d is missing: it must be in %v", round, id, f.user, f.places)
		}
		delete(l.fates, id)
	}
	return unanswered
}

var benchID = &imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, HeaderFields: []string{"X-Bench-Id"}, Peek: true}

// idOf is the identifier in what was fetched of a header.
func idOf(header []byte) string {
	_, id, _ := strings.Cut(strings.TrimSpace(string(header)), " ")
	return id
}

// verifyMailbox notes in at where each message is.
func (l *ledger) verifyMailbox(s *site, c *imapclient.Client, round, user int, name string, at map[string]string) (unanswered int) {
	s.t.Helper()
	box := boxOf(user, name)
	selected, err := c.Select(name, &imap.SelectOptions{CondStore: true}).Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	if selected.NumMessages == 0 {
		return 0
	}
	all := imap.UIDSet{imap.UIDRange{Start: 1}}
	msgs, err := c.Fetch(all, &imap.FetchOptions{UID: true, Flags: true, BodySection: []*imap.FetchItemBodySection{benchID}}).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range msgs {
		id, on := idOf(m.FindBodySection(benchID)), slices.Contains(m.Flags, imap.FlagFlagged)
		f := l.fates[id]
		other, twice := at[id]
		switch {
		case f == nil || f.user != user:
			s.t.Errorf("round %d: %s has %q, which was not sent there", round, box, id)
			continue
		case twice:
			s.t.Errorf("round %d: user %d has %s in %s and in %s", round, user, id, other, name)
		case !slices.Contains(f.places, name):
			s.t.Errorf("round %d: user %d has %s in %s, it must be in %v", round, user, id, name, f.places)
		case !slices.Contains(f.flagged, on):
			s.t.Errorf("round %d: user %d has %s in %s, flagged %v", round, user, id, name, on)
		case len(f.places) > 1:
			unanswered++
		}
		at[id] = name
		f.places, f.flagged, f.seen = []string{name}, []bool{on}, true
	}
	l.verifyBodies(s, c, round, box, msgs)
	last := imap.UIDSetNum(msgs[len(msgs)-1].UID)
	found, err := c.UIDSearch(&imap.SearchCriteria{Text: []string{idOf(msgs[len(msgs)-1].FindBodySection(benchID))}}, nil).Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	if uids := found.AllUIDs(); !slices.Contains(uids, msgs[len(msgs)-1].UID) {
		s.t.Errorf("round %d: %s: a search finds %v, which should have %v", round, box, uids, last)
	}
	changed, err := c.Store(last, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.Flag(fmt.Sprintf("round%d", round%50))}}, nil).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range changed {
		if m.ModSeq <= l.modSeq[box] {
			s.t.Errorf("round %d: %s: mod-sequence %d is given again, a client had been told %d", round, box, m.ModSeq, l.modSeq[box])
		}
		l.modSeq[box] = max(l.modSeq[box], m.ModSeq)
	}
	return unanswered
}

// verifyBodies reads what has come since the last time.
func (l *ledger) verifyBodies(s *site, c *imapclient.Client, round int, box string, msgs []*imapclient.FetchMessageBuffer) {
	s.t.Helper()
	last := msgs[len(msgs)-1].UID
	if last < l.bodies[box] {
		return
	}
	section := &imap.FetchItemBodySection{Peek: true}
	fresh := imap.UIDSet{imap.UIDRange{Start: max(1, l.bodies[box]), Stop: last}}
	bodies, err := c.Fetch(fresh, &imap.FetchOptions{UID: true, BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range bodies {
		if _, text, _ := strings.Cut(string(m.FindBodySection(section)), "\r\n\r\n"); strings.TrimSpace(text) != strings.TrimSpace(benchText) {
			s.t.Errorf("round %d: UID %d of %s is not whole", round, m.UID, box)
		}
	}
	l.bodies[box] = last + 1
}
