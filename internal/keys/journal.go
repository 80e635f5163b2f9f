package keys

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Act is an entry of a keystore's journal: that something is about to be done to keys, or what came of it.
type Act struct {
	Seq     uint64    `json:"seq"` // 1, 2, 3 …
	Time    time.Time `json:"time"`
	Of      uint64    `json:"of,omitempty"` // the Seq of the beginning whose outcome this is; 0: it is a beginning
	Op      string    `json:"op"`
	Slot    Slot      `json:"slot"`
	Key     string    `json:"key,omitempty"`
	Who     string    `json:"who"`
	Detail  string    `json:"detail,omitempty"`
	Outcome string    `json:"outcome,omitempty"` // of a beginning: none
	Prev    string    `json:"prev"`              // SHA-256 of the line before, hexadecimal
}

// Mark is how far somebody has read a journal: the last entry and the SHA-256 of its line. The zero Mark is the beginning.
type Mark struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
}

// ErrJournal is in the chain of an error when a journal does not go on from a Mark: something was taken out of it or changed.
var ErrJournal = mail.E(mail.Corrupt, "", errors.New("the journal of keys does not continue what was read of it"))

// Journal keeps what is done to keys where no audit log is at hand: lines of JSON, each with the hash of the one before, flushed before the act. All
// methods may be called concurrently.
type Journal struct {
	mu     sync.Mutex // guards what follows
	file   *os.File
	starts []int64 // where each line begins; the last one is where the next will
	last   Mark
	failed error
}

const maxActLine = 8 << 10

// OpenJournal opens the journal at path, or makes it. A torn last line is cut off; the error is of kind mail.Corrupt if the lines do not follow each other.
func OpenJournal(path string) (*Journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	j := &Journal{file: f, starts: []int64{0}}
	if err := j.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), f.Close())
	}
	if err := errors.Join(f.Sync(), durable.OS{}.SyncDir(filepath.Dir(path))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

func (j *Journal) load() error {
	b, err := io.ReadAll(j.file)
	if err != nil {
		return err
	}
	whole := b[:bytes.LastIndexByte(b, '\n')+1]
	_, j.last, err = ParseActs(whole, Mark{})
	if err != nil {
		return err
	}
	for i, c := range whole {
		if c == '\n' {
			j.starts = append(j.starts, int64(i+1))
		}
	}
	return j.file.Truncate(int64(len(whole)))
}

// ParseActs reads lines that must follow from, and says how far they go. The error is ErrJournal if they do not.
func ParseActs(b []byte, from Mark) (acts []Act, to Mark, err error) {
	for to = from; len(b) > 0; {
		line, rest, ok := bytes.Cut(b, []byte("\n"))
		var a Act
		if !ok || json.Unmarshal(line, &a) != nil || a.Seq != to.Seq+1 || a.Prev != to.Hash {
			return nil, from, fmt.Errorf("after entry %d: %w", to.Seq, ErrJournal)
		}
		if again, err := json.Marshal(a); err != nil || !bytes.Equal(again, line) { // an entry is written in one way only
			return nil, from, fmt.Errorf("after entry %d: %w", to.Seq, ErrJournal)
		}
		sum := sha256.Sum256(line)
		acts, to, b = append(acts, a), Mark{a.Seq, hex.EncodeToString(sum[:])}, rest
	}
	return acts, to, nil
}

// Close closes the file.
func (j *Journal) Close() error { return j.file.Close() }

// Begin puts an act on record, durably. Only when it returns without error may the act be done.
func (j *Journal) Begin(a Act) (Act, error) { return j.add(a) }

// End puts the outcome of an act that Begin returned on record.
func (j *Journal) End(a Act, now time.Time, outcome error) error {
	a.Of, a.Time, a.Outcome = a.Seq, now, "ok"
	if outcome != nil {
		a.Outcome = mail.KindOf(outcome).String()
	}
	_, err := j.add(a)
	return err
}

func (j *Journal) add(a Act) (Act, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.failed != nil {
		return a, j.failed
	}
	a.Seq, a.Prev, a.Time = j.last.Seq+1, j.last.Hash, a.Time.UTC()
	line, err := json.Marshal(a)
	if err != nil || len(line) >= maxActLine {
		return a, mail.E(mail.Invalid, "", errors.Join(fmt.Errorf("an entry of %d octets", len(line)), err))
	}
	at := j.starts[len(j.starts)-1]
	if _, err := j.file.WriteAt(append(line, '\n'), at); err != nil {
		return a, j.fail(fmt.Errorf("write: %w", errors.Join(err, j.file.Truncate(at))))
	}
	if err := j.file.Sync(); err != nil {
		return a, j.fail(fmt.Errorf("flush: %w", err))
	}
	sum := sha256.Sum256(line)
	j.last, j.starts = Mark{a.Seq, hex.EncodeToString(sum[:])}, append(j.starts, at+int64(len(line))+1)
	return a, nil
}

// fail notes that what is on the disk is not known: nothing is done to keys any more until the journal is opened anew.
func (j *Journal) fail(err error) error {
	j.failed = mail.E(mail.Unavailable, "", fmt.Errorf("the journal of keys cannot be written, so nothing is done: %w", err))
	return j.failed
}

// Since is the lines after the first n, at most so many octets of them. The error is ErrJournal if there are not so many.
func (j *Journal) Since(n uint64, most int64) ([]byte, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if n > j.last.Seq {
		return nil, fmt.Errorf("it has %d entries, not %d: %w", j.last.Seq, n, ErrJournal)
	}
	to := n
	for to < j.last.Seq && j.starts[to+1]-j.starts[n] <= most {
		to++
	}
	b := make([]byte, j.starts[to]-j.starts[n])
	_, err := j.file.ReadAt(b, j.starts[n])
	if errors.Is(err, io.EOF) && len(b) == 0 {
		err = nil
	}
	return b, err
}
