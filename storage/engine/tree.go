package engine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"go.etcd.io/bbolt"
)

// The pages of a bbolt file, as go.etcd.io/bbolt/internal/common has them: a header (number u64, flags u16, count u16,
// overflow u32) and elements (of a branch: offset of its key from here u32, its length u32, number of the child u64).
const (
	pageHeader    = 16
	branchElement = 16
	branchFlag    = 1
	leafFlag      = 2
	maxDepth      = 32
)

// tree walks over the branch pages of a file. bbolt follows what they say without looking: a page that is its own
// ancestor would overflow the stack, which ends the program.
type tree struct {
	file io.ReaderAt
	size int
	seen map[uint64]bool
	last []byte // the last key
}

// checkBranches looks at the branch pages below the root. Leaves, which are most of the file, are not read but for one.
func checkBranches(tx *bbolt.Tx, root uint64) error {
	f, err := os.Open(tx.DB().Path())
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	t := &tree{file: f, size: tx.DB().Info().PageSize, seen: make(map[uint64]bool)}
	return t.walk(root, 0)
}

func (t *tree) walk(page uint64, depth int) error {
	if t.seen[page] || depth > maxDepth {
		return fmt.Errorf("page %d is in the tree twice", page)
	}
	t.seen[page] = true
	b, isBranch, err := t.read(page)
	if err != nil || !isBranch {
		return err
	}
	branches := false // all children are of one kind
	for i := range int(binary.LittleEndian.Uint16(b[10:])) {
		at := pageHeader + branchElement*i
		if at+branchElement > len(b) {
			return fmt.Errorf("page %d has too many elements", page)
		}
		e := b[at:]
		pos, size, child := uint64(binary.LittleEndian.Uint32(e)), uint64(binary.LittleEndian.Uint32(e[4:])), binary.LittleEndian.Uint64(e[8:])
		if pos+size > uint64(len(e)) {
			return fmt.Errorf("page %d: a key is outside", page)
		}
		key := e[pos : pos+size]
		if c := bytes.Compare(key, t.last); c < 0 || c == 0 && i > 0 {
			return fmt.Errorf("page %d: keys are out of order", page)
		}
		t.last = key
		if i == 0 {
			if _, branches, err = t.read(child); err != nil {
				return err
			}
		}
		if branches {
			err = t.walk(child, depth+1)
		} else if t.seen[child] {
			err = fmt.Errorf("page %d is in the tree twice", child)
		}
		t.seen[child] = true
		if err != nil {
			return err
		}
	}
	return nil
}

// read reads a page, of a leaf only the header.
func (t *tree) read(page uint64) (b []byte, isBranch bool, err error) {
	if page > 1<<40 {
		return nil, false, fmt.Errorf("there is no page %d", page)
	}
	b = make([]byte, t.size)
	if _, err := t.file.ReadAt(b, int64(page)*int64(t.size)); err != nil {
		return nil, false, err
	}
	flags, more := binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint32(b[12:]))
	if binary.LittleEndian.Uint64(b) != page || flags != branchFlag && flags != leafFlag || more > 1<<20 {
		return nil, false, fmt.Errorf("page %d is damaged", page)
	}
	if flags == leafFlag || more == 0 {
		return b, flags == branchFlag, nil
	}
	rest := make([]byte, more*t.size)
	if _, err := t.file.ReadAt(rest, int64(page+1)*int64(t.size)); errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("page %d is damaged", page)
	} else if err != nil {
		return nil, false, err
	}
	return append(b, rest...), true, nil
}
