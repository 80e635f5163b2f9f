package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The pages of a bbolt file, as go.etcd.io/bbolt/internal/common has them, little-endian: a header (number u64, flags u16, count u16,
// overflow u32) and elements: of a branch, offset of its key from here u32, its length u32, number of the child u64; of a leaf, flags u32, offset of
// key and value from here u32, their lengths u32, u32. The value of a bucket is the number of its root u64 (0: the page follows in the
// value) and its sequence u64. The first two pages each say where all else was after a commit: magic u32, version u32, size of a page u32,
// flags u32, root u64, its sequence u64, page of the free list u64, pages in all u64, number of the commit u64, FNV-1a of the octets before u64.
const (
	pageHeader    = 16
	element       = 16
	branchFlag    = 1
	leafFlag      = 2
	freeFlag      = 0x10
	bucketElement = 1
	maxDepth      = 32

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	metaOctets  = 64
)

// errUnsound says that the pages of a file contradict each other.
var errUnsound = errors.New("damaged")

func unsound(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUnsound, fmt.Sprintf(format, args...))
}

// What is known of a page.
const (
	unknown = iota
	isFree
	isUsed
	isLeaf // used, and its header was not read: there may be more pages of it
)

// inspection looks at the pages of a file. bbolt follows what they say: a page that is its own ancestor would overflow the stack, which ends
// the program; a page that is used and in the list of free ones would be written over; a wrong page as the root would hide keys. So each page
// must be used once, or free.
type inspection struct {
	file   io.ReaderAt
	size   int // of a page
	pages  []byte
	leaves bool
}

// inspect looks at a file of so many octets. Branches are read, leaves only if leaves says so, but for those that name buckets.
func inspect(file io.ReaderAt, octets int64, leaves bool) error {
	m, err := metaOf(file)
	if err != nil {
		return err
	}
	return m.inspect(file, octets, leaves)
}

func (m meta) inspect(file io.ReaderAt, octets int64, leaves bool) error {
	if m.pages < 4 || m.pages > uint64(octets)/uint64(m.size) {
		return unsound("%d pages of %d octets in a file of %d", m.pages, m.size, octets)
	}
	n := &inspection{file: file, size: m.size, pages: make([]byte, m.pages), leaves: leaves}
	n.pages[0], n.pages[1] = isUsed, isUsed
	if err := n.free(m.free); err != nil {
		return err
	}
	if err := n.walk(m.root, 0, &bucketWalk{names: true}); err != nil {
		return err
	}
	return n.rest()
}

// meta is what the newer of the first two pages says.
type meta struct {
	size              int
	root, free, pages uint64
	commit            uint64
}

// metaOf reads both, and demands that both are whole: the older one says what is not so any more.
func metaOf(file io.ReaderAt) (meta, error) {
	first, err := readMeta(file, 0)
	if err != nil {
		return meta{}, err
	}
	second, err := readMeta(file, int64(first.size))
	if err != nil {
		return meta{}, err
	}
	if second.size != first.size {
		return meta{}, unsound("two sizes of pages")
	}
	if second.commit > first.commit {
		return second, nil
	}
	return first, nil
}

func readMeta(file io.ReaderAt, at int64) (m meta, err error) {
	b := make([]byte, metaOctets)
	if _, err := file.ReadAt(b, at+pageHeader); errors.Is(err, io.EOF) {
		return m, unsound("it ends in its beginning")
	} else if err != nil {
		return m, err
	}
	h := fnv.New64a()
	_, _ = h.Write(b[:metaOctets-8]) // a hash never fails
	le := binary.LittleEndian
	if le.Uint32(b) != metaMagic || le.Uint32(b[4:]) != metaVersion || h.Sum64() != le.Uint64(b[metaOctets-8:]) {
		return m, unsound("one of its first pages is not as it was written")
	}
	m = meta{size: int(le.Uint32(b[8:])), root: le.Uint64(b[16:]), free: le.Uint64(b[32:]), pages: le.Uint64(b[40:]), commit: le.Uint64(b[48:])}
	if m.size < 512 || m.size > 64<<10 || m.size&(m.size-1) != 0 {
		return m, unsound("pages of %d octets", m.size)
	}
	return m, nil
}

// mark notes what a page is, and those that belong to it.
func (n *inspection) mark(page, more uint64, is byte) error {
	all := uint64(len(n.pages))
	if page >= all || more >= all-page {
		return unsound("page %d and %d more are not there", page, more)
	}
	for p := page; p <= page+more; p++ {
		if n.pages[p] != unknown {
			return unsound("page %d is used twice", p)
		}
		n.pages[p] = is
	}
	return nil
}

// header reads the header of a page.
func (n *inspection) header(page uint64) (flags uint16, count int, more uint64, err error) {
	var b [pageHeader]byte
	if page >= uint64(len(n.pages)) {
		return 0, 0, 0, unsound("there is no page %d", page)
	}
	if _, err := n.file.ReadAt(b[:], int64(page)*int64(n.size)); err != nil {
		return 0, 0, 0, err
	}
	if binary.LittleEndian.Uint64(b[:]) != page {
		return 0, 0, 0, unsound("page %d is another", page)
	}
	return binary.LittleEndian.Uint16(b[8:]), int(binary.LittleEndian.Uint16(b[10:])), uint64(binary.LittleEndian.Uint32(b[12:])), nil
}

// read reads a page, with all that belongs to it, which it marks before.
func (n *inspection) read(page, more uint64) ([]byte, error) {
	if err := n.mark(page, more, isUsed); err != nil {
		return nil, err
	}
	b := make([]byte, (more+1)*uint64(n.size))
	_, err := n.file.ReadAt(b, int64(page)*int64(n.size))
	return b, err
}

// free reads the list of free pages.
func (n *inspection) free(page uint64) error {
	flags, count, more, err := n.header(page)
	if err != nil {
		return err
	}
	if flags != freeFlag {
		return unsound("page %d is no list of free pages", page)
	}
	b, err := n.read(page, more)
	if err != nil {
		return err
	}
	b = b[pageHeader:]
	ids := uint64(count)
	if count == 0xFFFF {
		ids, b = binary.LittleEndian.Uint64(b), b[8:]
	}
	if ids > uint64(len(b)/8) {
		return unsound("%d free pages in a list that has no room for them", ids)
	}
	for i := range ids {
		if err := n.mark(binary.LittleEndian.Uint64(b[8*i:]), 0, isFree); err != nil {
			return err
		}
	}
	return nil
}

// bucketWalk is the walk through one bucket.
type bucketWalk struct {
	names bool   // its values may be buckets: its leaves are read
	last  []byte // the last key
}

// walk looks at a page of a bucket and at what is below it.
func (n *inspection) walk(page uint64, depth int, w *bucketWalk) error {
	flags, count, more, err := n.header(page)
	if err != nil {
		return err
	}
	if depth > maxDepth || flags != branchFlag && flags != leafFlag {
		return unsound("page %d is no part of a tree, or too deep in it", page)
	}
	if flags == leafFlag && !n.leaves && !w.names {
		return n.mark(page, 0, isLeaf)
	}
	b, err := n.read(page, more)
	if err != nil {
		return err
	}
	if pageHeader+element*count > len(b) {
		return unsound("page %d has too many elements", page)
	}
	if flags == leafFlag {
		return n.leaf(page, b, count, depth, w)
	}
	return n.branch(page, b, count, depth, w)
}

func (n *inspection) branch(page uint64, b []byte, count, depth int, w *bucketWalk) error {
	unread := false // all children are of one kind
	for i := range count {
		e := b[pageHeader+element*i:]
		child := binary.LittleEndian.Uint64(e[8:])
		if err := w.key(page, e, binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), i == 0); err != nil {
			return err
		}
		if i == 0 {
			flags, _, _, err := n.header(child)
			if err != nil {
				return err
			}
			unread = flags == leafFlag && !n.leaves && !w.names
		}
		var err error
		if unread {
			err = n.mark(child, 0, isLeaf)
		} else {
			err = n.walk(child, depth+1, w)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// key looks at a key, whose place is counted from e. Keys ascend, and the first one of a page is that which its parent has for the page.
func (w *bucketWalk) key(page uint64, e []byte, at, size uint32, first bool) error {
	if uint64(at)+uint64(size) > uint64(len(e)) {
		return unsound("page %d: a key is outside", page)
	}
	key := e[at : at+size]
	if c := bytes.Compare(key, w.last); first && c != 0 && w.last != nil || !first && c <= 0 {
		return unsound("page %d: keys are out of order", page)
	}
	w.last = key
	return nil
}

func (n *inspection) leaf(page uint64, b []byte, count, depth int, w *bucketWalk) error {
	for i := range count {
		e := b[pageHeader+element*i:]
		flags, at := binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:])
		keySize, size := binary.LittleEndian.Uint32(e[8:]), binary.LittleEndian.Uint32(e[12:])
		if err := w.key(page, e, at, keySize, i == 0); err != nil {
			return err
		}
		begin := uint64(at) + uint64(keySize)
		if begin+uint64(size) > uint64(len(e)) {
			return unsound("page %d: a value is outside", page)
		}
		if flags&^bucketElement != 0 || flags == bucketElement && (!w.names || size < 16) {
			return unsound("page %d: an element of an unknown kind", page)
		}
		if flags != bucketElement {
			continue
		}
		if root := binary.LittleEndian.Uint64(e[begin:]); root != 0 {
			if err := n.walk(root, depth+1, &bucketWalk{}); err != nil {
				return err
			}
		}
	}
	return nil
}

// rest demands that every page is used or free. What is left must belong to the leaf before it.
func (n *inspection) rest() error {
	for p := range n.pages {
		if n.pages[p] != unknown {
			continue
		}
		if n.pages[p-1] != isLeaf {
			return unsound("page %d is neither used nor free", p)
		}
		_, _, more, err := n.header(uint64(p - 1))
		if err != nil {
			return err
		}
		if more == 0 {
			return unsound("page %d is neither used nor free", p)
		}
		if err := n.mark(uint64(p), more-1, isUsed); err != nil {
			return err
		}
	}
	return nil
}
