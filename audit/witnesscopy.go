package audit

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/mail"
)

// A witness may keep a copy of the log itself: a directory as the log's own, which
// "audit verify" takes, and from which a lost log can be put back. The log brings its new
// entries to /add-entries, an extension of ours to tlog-witness, each time with a
// checkpoint that covers exactly those up to the last one brought. The request is a line
//
//	entries <old size> <new size> <length of the checkpoint>
//
// the checkpoint of the new size, and the entries as in an entry bundle. The answer is 200,
// or 409 with the size of the copy, as of add-checkpoint. A new copy begins with the
// checkpoint of no entries.

// What one request may bring.
const (
	maxCopied     = 16384 // records
	maxCopiedSize = 24 << 20
)

// logCopy is the copy of one log. The lock of its watched guards it; nil is none.
type logCopy struct {
	dir   string
	key   *noteKey
	store *store // nil until the first checkpoint came
	given []byte // the checkpoint of the request under way
}

// openCopy opens a copy, which must have all that was cosigned. It need not be there yet.
func openCopy(dir string, key note.Verifier, pub []byte, cosigned tlog.Tree) (*logCopy, error) {
	c := &logCopy{dir: dir, key: &noteKey{Verifier: key, pub: pub}}
	if _, err := os.Stat(dir); err == nil {
		if err := c.open(); err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := c.covers(cosigned); err != nil {
		c.close()
		return nil, fmt.Errorf("it has %d records of the %d that were cosigned, or others; put a good copy of the log there: %w", c.size(), cosigned.N, err)
	}
	return c, nil
}

func (c *logCopy) open() error {
	src, err := openDir(context.Background(), c.dir)
	if err != nil {
		return err
	}
	s, err := startStore(src, c.key, maxCopied, nil)
	if err != nil {
		return err
	}
	s.sign = func(tree tlog.Tree) ([]byte, error) {
		if want, err := parseCheckpoint(c.given, c.key); err != nil || want.tree != tree {
			return nil, refused(http.StatusUnprocessableEntity, "the entries are not those of the checkpoint")
		}
		return c.given, nil
	}
	c.store = s
	return nil
}

func (c *logCopy) close() {
	if c != nil && c.store != nil {
		c.store.close()
	}
}

func (c *logCopy) size() int64 {
	if c.store == nil {
		return 0
	}
	return c.store.tail.size
}

// covers is nil if the copy begins with the tree t, or if there is no copy to be kept.
func (c *logCopy) covers(t tlog.Tree) error {
	if c == nil || t.N == 0 {
		return nil
	}
	if c.size() < t.N {
		return refused(http.StatusServiceUnavailable, "the copy has %d entries, the checkpoint covers %d", c.size(), t.N)
	}
	root, err := tlog.TreeHash(t.N, c.store.tail.hashes(c.store.readTile))
	if err != nil {
		return err
	}
	if root != t.Hash {
		return refused(http.StatusUnprocessableEntity, "the entries in the copy are not those of the checkpoint")
	}
	return nil
}

// readTile reads a full tile of hashes.
func (s *store) readTile(t tlog.Tile) ([]byte, error) { return readFullTile(s.root, t) }

func readFullTile(root *os.Root, t tlog.Tile) ([]byte, error) {
	b, err := root.ReadFile(filepath.FromSlash(tileName(t)))
	if err == nil && len(b) != tileWidth*tlog.HashSize {
		err = faultAt(tileName(t), "is %d bytes long", len(b))
	}
	return b, err
}

// add appends entries under the checkpoint signed, which the log's key has signed.
func (c *logCopy) add(signed []byte, old int64, records [][]byte) error {
	if c.store == nil {
		if old != 0 || len(records) > 0 {
			return refused(http.StatusUnprocessableEntity, "the copy begins with the checkpoint of no entries")
		}
		if err := createFiles(c.dir, []file{{keyFile, c.key.pub}, {checkpointFile, signed}}, nil); err != nil {
			return err
		}
		return c.open()
	}
	if old != c.store.tail.size {
		return conflict(c.store.tail.size)
	}
	if len(records) == 0 {
		return nil
	}
	c.given = signed
	return c.store.commit(records)
}

// addEntries is POST /add-entries.
func (w *Witness) addEntries(r *http.Request) ([]byte, error) {
	if !w.o.Copy {
		return nil, refused(http.StatusNotFound, "no copies are kept here")
	}
	in := bufio.NewReader(io.LimitReader(r.Body, maxCopiedSize))
	old, size, signed, err := readEntriesHead(in)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "not a request to add entries: %v", err)
	}
	s, c, err := w.signedByLog(signed)
	if err != nil {
		return nil, err
	}
	if _, err := parseCheckpoint(signed, s.key); err != nil || c.tree.N != size {
		return nil, refused(http.StatusBadRequest, "the checkpoint is not one of ours of this size")
	}
	s.mu.Lock()
	have := s.copy.size()
	s.mu.Unlock()
	if have != old {
		return nil, conflict(have) // before all entries are read
	}
	select {
	case w.bulk <- struct{}{}:
		defer func() { <-w.bulk }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	records, err := readEntries(in, size-old)
	if err != nil {
		return nil, refused(http.StatusBadRequest, "the entries: %v", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return nil, s.failed
	}
	err = s.copy.add(signed, old, records)
	if unknown(err) || mail.KindOf(err) == mail.Corrupt {
		s.failed = fmt.Errorf("nothing is taken until the witness is started anew: %w", err)
	}
	return nil, err
}

// readEntriesHead reads the line and the checkpoint.
func readEntriesHead(in *bufio.Reader) (old, size int64, signed []byte, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, 0, nil, errors.New("no first line")
	}
	f := strings.Split(strings.TrimSuffix(string(line), "\n"), " ")
	if len(f) != 4 || f[0] != "entries" {
		return 0, 0, nil, errors.New("no first line")
	}
	var n int64
	for i, to := range []*int64{&old, &size, &n} {
		if *to, err = parseSize(f[i+1]); err != nil {
			return 0, 0, nil, err
		}
	}
	if size < old || size-old > maxCopied || n > 4096 {
		return 0, 0, nil, errors.New("too many entries, or fewer than none")
	}
	signed = make([]byte, n)
	_, err = io.ReadFull(in, signed)
	return old, size, signed, err
}

// readEntries reads exactly n entries.
func readEntries(in io.Reader, n int64) ([][]byte, error) {
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, 0, n)
	for len(b) > 0 {
		entry, rest, ok := cutEntry(b)
		if !ok {
			return nil, errors.New("the last one is cut off")
		}
		out, b = append(out, entry), rest
	}
	if int64(len(out)) != n {
		return nil, fmt.Errorf("%d came, %d should", len(out), n)
	}
	return out, nil
}

// entriesRequest writes the body of a request that brings records.
func entriesRequest(old, size int64, signed, bundles []byte) []byte {
	head := fmt.Appendf(nil, "entries %d %d %d\n", old, size, len(signed))
	return bytes.Join([][]byte{head, signed, bundles}, nil)
}
