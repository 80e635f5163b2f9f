package audit

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/durable"
)

// The files of a watched log in the witness's folder.
const (
	stateFile   = "checkpoint" // the last one cosigned, as the log signed it; replaced whole
	historyFile = "history"    // every one cosigned, with its proof; only grows
	refusedDir  = "refused"    // checkpoints that prove that there are two logs
)

// maxRefused bounds the checkpoints kept in refusedDir.
const maxRefused = 1000

// watched is a log as the witness has seen it.
type watched struct {
	origin string
	key    note.Verifier
	dir    string
	fs     durable.FS
	log    *slog.Logger

	mu      sync.Mutex // held from the check to the signature; guards the rest
	tree    tlog.Tree
	last    *seenCheckpoint // nil: none was ever cosigned
	at      time.Time       // of the last cosignature; does not go back
	history durable.File
	size    int64 // of history
	failed  error // what is on disk is not known: nothing is signed until the witness is started anew
	copy    *logCopy
}

// seenCheckpoint is a checkpoint of any log that follows C2SP tlog-checkpoint.
type seenCheckpoint struct {
	body string // the note's text, with extension lines if there are any
	sig  string // the log's signature line
	tree tlog.Tree
}

// parseSeen takes the checkpoint out of a note that the log's key has opened. The
// signature is written anew, for note reads base64 loosely.
func parseSeen(n *note.Note) (*seenCheckpoint, error) {
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 {
		return nil, errors.New("fewer than three lines")
	}
	for _, l := range lines[:len(lines)-1] {
		if l == "" {
			return nil, errors.New("an empty line")
		}
	}
	size, err := parseSize(lines[1])
	if err != nil {
		return nil, err
	}
	root, err := tlog.ParseHash(lines[2])
	if err != nil || root.String() != lines[2] {
		return nil, errors.New("no root hash")
	}
	raw, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil || len(raw) <= 4 {
		return nil, errors.New("no signature")
	}
	sig := cosignature{n.Sigs[0].Name, n.Sigs[0].Hash, raw[4:]}
	return &seenCheckpoint{n.Text, sig.line(), tlog.Tree{N: size, Hash: root}}, nil
}

func (c *seenCheckpoint) encode() []byte { return []byte(c.body + "\n" + c.sig) }

// open reads the state, or begins one. A state that is not a checkpoint signed by the
// log's key is refused: what was signed before is not known then.
func (s *watched) open() error {
	if err := s.fs.Mkdir(s.dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := s.fs.Mkdir(filepath.Join(s.dir, refusedDir), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := errors.Join(s.fs.SyncDir(s.dir), s.fs.SyncDir(filepath.Dir(s.dir))); err != nil {
		return err
	}
	s.tree = tlog.Tree{Hash: emptyRoot()}
	history, err := s.openHistory()
	if err != nil {
		return err
	}
	b, err := durable.ReadFile(s.fs, filepath.Join(s.dir, stateFile), maxWitnessing)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !history:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is gone, but %s shows that checkpoints were cosigned: put back the whole folder", stateFile, historyFile)
	case err != nil:
		return err
	}
	n, err := note.Open(b, note.VerifierList(s.key))
	if err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	c, err := parseSeen(n)
	if err == nil && !bytes.Equal(c.encode(), b) {
		err = errNotCanonical
	}
	if err != nil {
		return fmt.Errorf("%s: %w", stateFile, err)
	}
	s.last, s.tree = c, c.tree
	return nil
}

// An entry of the history is a line "cosigned <time> <length of what follows>", the request
// as it came, and an empty line.
const historyHead = "cosigned "

// openHistory opens the history and cuts off what a crash left unfinished at its end. has
// says whether there is a finished entry.
func (s *watched) openHistory() (has bool, err error) {
	s.history, err = s.fs.Open(filepath.Join(s.dir, historyFile), os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return false, err
	}
	size, err := s.history.Size()
	if err != nil {
		return false, err
	}
	buf := make([]byte, 256)
	for s.size < size {
		n, err := s.history.ReadAt(buf, s.size)
		if n == 0 {
			return false, err
		}
		end, at := entryEnd(buf[:n])
		if end == 0 || s.size+end > size {
			break
		}
		s.size, s.at = s.size+end, at
	}
	if size-s.size > maxWitnessing+int64(len(buf)) {
		return false, fmt.Errorf("%s is damaged at byte %d: put back the whole folder", historyFile, s.size)
	}
	if s.size < size {
		s.log.Warn("the history ends within an entry, which was not cosigned; it is cut off", "log", s.origin, "at", s.size)
		if err := errors.Join(s.history.Truncate(s.size), s.history.Sync()); err != nil {
			return false, err
		}
	}
	return s.size > 0, nil
}

// entryEnd is how long the entry is that begins with b, and its time; 0 if it is none.
func entryEnd(b []byte) (int64, time.Time) {
	line, _, ok := bytes.Cut(b, []byte("\n"))
	rest, ok2 := strings.CutPrefix(string(line), historyHead)
	when, number, ok3 := strings.Cut(rest, " ")
	at, err := time.Parse(time.RFC3339, when)
	n, err2 := parseSize(number)
	if !ok || !ok2 || !ok3 || err != nil || err2 != nil || n > maxWitnessing {
		return 0, time.Time{}
	}
	return int64(len(line)) + 1 + n + 1, at
}

// grow checks that the checkpoint c continues what was cosigned and makes it the state, on
// stable storage. s.mu is held.
func (s *watched) grow(q *addRequest, c *seenCheckpoint, raw []byte, now time.Time) error {
	if s.failed != nil {
		return s.failed
	}
	if q.old != s.tree.N {
		return conflict(s.tree.N)
	}
	if err := s.continues(q, c.tree); err != nil {
		if c.tree.N == s.tree.N && c.tree.Hash != s.tree.Hash {
			s.keepProof(c)
		}
		return err
	}
	if err := s.copy.covers(c.tree); err != nil {
		return err
	}
	if now = now.UTC().Truncate(time.Second); now.Before(s.at) {
		s.log.Error("the clock was set back; the time of the last cosignature is used", "now", now, "last", s.at)
		now = s.at
	}
	if s.last != nil && c.tree == s.tree && c.body == s.last.body {
		s.at = now
		return nil // nothing new to remember
	}
	entry := fmt.Appendf(nil, "%s%s %d\n%s\n", historyHead, now.Format(time.RFC3339), len(raw), raw)
	_, err := s.history.WriteAt(entry, s.size)
	if err == nil {
		err = s.history.Sync()
	}
	if err == nil {
		s.size += int64(len(entry)) // cosigned or not: it was seen
		err = durable.WriteFile(s.fs, filepath.Join(s.dir, stateFile), c.encode(), 0o640)
	}
	if err != nil {
		if !noSpace(err) {
			s.failed = fmt.Errorf("nothing is cosigned until the witness is started anew: %w", err)
		}
		return fmt.Errorf("remembering a checkpoint: %w", err)
	}
	s.last, s.tree, s.at = c, c.tree, now
	return nil
}

// continues checks the rules of tlog-witness in their order.
func (s *watched) continues(q *addRequest, next tlog.Tree) error {
	bad := func(why string) error { return refused(http.StatusUnprocessableEntity, "%s", why) }
	switch {
	case next.N == 0 && next.Hash != emptyRoot():
		return bad("an empty tree with another root")
	case (q.old == 0 || q.old == next.N) && len(q.proof) > 0:
		return bad("a proof where none is needed")
	case q.old == 0 && next.N > 0:
		return nil
	case q.old == next.N && next.Hash != s.tree.Hash:
		return bad("another tree of this size was cosigned")
	case q.old == next.N:
		return nil
	}
	if tlog.CheckTree(q.proof, next.N, next.Hash, q.old, s.tree.Hash) != nil {
		return bad("the tree does not continue the one that was cosigned")
	}
	return nil
}

// keepProof keeps a checkpoint that the log has signed although it had signed another of
// that size: with the history it proves that there are two logs.
func (s *watched) keepProof(c *seenCheckpoint) {
	dir := filepath.Join(s.dir, refusedDir)
	name := filepath.Join(dir, fmt.Sprintf("%d-%x", c.tree.N, c.tree.Hash[:8]))
	s.log.Error("THE LOG HAS SIGNED TWO TREES OF ONE SIZE", "log", s.origin, "records", c.tree.N, "cosigned", s.tree.Hash, "refused", c.tree.Hash, "kept in", name)
	list, err := s.fs.List(dir)
	if err == nil && len(list) < maxRefused {
		err = durable.WriteFile(s.fs, name, c.encode(), 0o640)
	}
	if err != nil {
		s.log.Error("it could not be kept", "err", err)
	}
}
