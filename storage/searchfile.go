package storage

import (
	"bufio"
	"context"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/search"
)

// A search file is a head and a segment of an account's search index (package search), sealed under a key of its own
// that the account's epoch key wraps. It names the files that it replaces: which files count follows from the directory
// alone, whatever a crash has left. All of it can be made again from the messages.
const (
	searchDir     = "search"
	searchSuffix  = ".idx"
	searchMagic   = "CMMPDSRC"
	searchVersion = 1

	searchFixed = 60 // octets of the head before what has a length
	searchHead  = 4 << 10
)

// searchHeader is the head of a search file.
type searchHeader struct {
	store    blob.StoreID
	account  uint32
	number   uint32
	docs     uint32
	epoch    uint32
	written  int64 // Unix seconds
	wrapped  []byte
	rules    string
	replaces []uint32
}

func (h *searchHeader) encode() []byte {
	b := append(make([]byte, 0, 256), searchMagic...)
	b = binary.LittleEndian.AppendUint32(b, searchVersion)
	b = append(b, h.store[:]...)
	for _, n := range []uint32{h.account, h.number, h.docs, h.epoch} {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(h.written))
	for _, n := range []int{len(h.wrapped), len(h.rules), len(h.replaces), 0} {
		b = binary.LittleEndian.AppendUint16(b, uint16(n))
	}
	b = append(append(b, h.wrapped...), h.rules...)
	for _, n := range h.replaces {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	return binary.LittleEndian.AppendUint32(b, blob.Checksum(b))
}

var errSearchFile = errors.New("not a file of the search index")

// decodeSearchHeader reads the head that begins b, and returns its length.
func decodeSearchHeader(b []byte) (h searchHeader, n int, err error) {
	if len(b) < searchFixed || string(b[:8]) != searchMagic {
		return h, 0, errSearchFile
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v != searchVersion {
		return h, 0, fmt.Errorf("a file of the search index of version %d", v)
	}
	copy(h.store[:], b[12:])
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(b[at:]) }
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(b[at:])) }
	h.account, h.number, h.docs, h.epoch = u32(28), u32(32), u32(36), u32(40)
	h.written = int64(binary.LittleEndian.Uint64(b[44:]))
	wrapped, rules, replaces := u16(52), u16(54), u16(56)
	n = searchFixed + wrapped + rules + 4*replaces
	if n+4 > len(b) || u16(58) != 0 || u32(n) != blob.Checksum(b[:n]) || h.docs > search.MaxDocs {
		return h, 0, errSearchFile
	}
	h.wrapped = slices.Clone(b[searchFixed:][:wrapped])
	h.rules = string(b[searchFixed+wrapped:][:rules])
	for at := searchFixed + wrapped + rules; at < n; at += 4 {
		h.replaces = append(h.replaces, u32(at))
	}
	return h, n + 4, nil
}

// searchFile is a file of the index.
type searchFile struct {
	searchHeader
	name  string
	begin int64 // of the segment
	size  int64
	aead  cipher.AEAD // once it was needed
}

func (s *Store) searchPath(account uint32) string {
	return filepath.Join(s.o.Dir, searchDir, fmt.Sprintf("%08x", account))
}

func searchName(number uint32) string { return fmt.Sprintf("%08x", number) + searchSuffix }

func searchNumber(name string) (uint32, bool) {
	digits, ok := strings.CutSuffix(name, searchSuffix)
	n, err := strconv.ParseUint(digits, 16, 32)
	return uint32(n), ok && err == nil && searchName(uint32(n)) == name
}

// readSearchFile reads the head of a file.
func (s *Store) readSearchFile(account uint32, name string) (*searchFile, error) {
	path := filepath.Join(s.searchPath(account), name)
	f, err := s.o.FS.Open(path, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, searchHead))
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, err
	}
	h, begin, err := decodeSearchHeader(b)
	if err != nil {
		return nil, err
	}
	if number, ok := searchNumber(name); !ok || h.number != number || h.account != account || h.store != s.id {
		return nil, fmt.Errorf("%w: it belongs elsewhere", errSearchFile)
	}
	return &searchFile{searchHeader: h, name: path, begin: int64(begin), size: size}, nil
}

// bound is what the blocks of a search file are bound to.
func (h *searchHeader) bound() []byte {
	b := append([]byte("cmmpd search block 1 "), h.store[:]...)
	b = binary.BigEndian.AppendUint32(b, h.account)
	return binary.BigEndian.AppendUint32(b, h.number)
}

// keyAAD is what the key of a search file is bound to.
func (h *searchHeader) keyAAD(id mail.AccountID) []byte {
	b := append([]byte("cmmpd search key 1 "), h.store[:]...)
	b = binary.BigEndian.AppendUint32(b, h.number)
	return append(b, id...)
}

// openedSearch is a search file opened for reading.
type openedSearch struct {
	*search.Segment
	file *searchFile
	f    durable.File
}

// openSearchFile opens a file. A handle of the account must be held.
func (a *account) openSearchFile(sf *searchFile) (*openedSearch, error) {
	if sf.aead == nil {
		w, err := a.opened(sf.epoch)
		if err != nil {
			return nil, err
		}
		key, err := w.Unwrap(sf.wrapped, sf.keyAAD(a.id))
		if err != nil {
			return nil, err
		}
		if sf.aead, err = keys.NewGCM(key); err != nil {
			return nil, err
		}
		clear(key)
	}
	f, err := a.store.o.FS.Open(sf.name, os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	seg, err := search.Open(f, sf.begin, sf.size, sf.aead, sf.bound())
	if err == nil && !a.store.plausible(seg.Docs(), sf.docs) {
		err = errSearchFile
	}
	if err != nil {
		_ = f.Close() // it was only read
		return nil, err
	}
	return &openedSearch{seg, sf, f}, nil
}

// plausible says whether a file can hold these messages: as many as its head says, and none whose EMAILID was never given.
func (s *Store) plausible(docs []search.Doc, n uint32) bool {
	return len(docs) == int(n) && (n == 0 || docs[n-1].ID <= s.bodyNext.Load())
}

func closeSearch(list []*openedSearch) {
	for _, o := range list {
		_ = o.f.Close() // it was only read
	}
}

// writeSearchFile makes a file whose segment is written by write, from a place in the file on. Nothing is left of it on an
// error. It has an epoch of its own, whose key is erased when the file is gone: no mail is sealed under it that would need to live on.
func (a *account) writeSearchFile(ctx context.Context, h searchHeader, write func(w io.Writer, begin int64, aead cipher.AEAD, bound []byte) (docs int, err error)) (*searchFile, error) {
	s := a.store
	e, err := a.ownEpoch(ctx)
	if err != nil {
		return nil, err
	}
	defer e.done()
	key := make([]byte, keySize)
	defer clear(key)
	if _, err := io.ReadFull(s.o.Rand, key); err != nil {
		return nil, err
	}
	h.store, h.account, h.epoch, h.written, h.rules = s.id, a.no(), e.number, s.o.Now().Unix(), search.Rules
	if h.wrapped, err = e.wrapper.Wrap(s.o.Rand, nil, key, h.keyAAD(a.id)); err != nil {
		return nil, err
	}
	sf := &searchFile{searchHeader: h, name: filepath.Join(s.searchPath(h.account), searchName(h.number))}
	if sf.aead, err = keys.NewGCM(key); err != nil {
		return nil, err
	}
	if err := makeDir(s.o.FS, filepath.Dir(sf.name)); err != nil {
		return nil, err
	}
	temp := sf.name + durable.TempSuffix
	f, err := s.o.FS.Open(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	err = sf.fill(&fileWriter{f: f, room: s.room}, write)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.o.FS.Rename(temp, sf.name)
	}
	if err != nil {
		return nil, errors.Join(err, s.o.FS.Remove(temp))
	}
	if err := s.o.FS.SyncDir(filepath.Dir(sf.name)); err != nil {
		return nil, errors.Join(err, s.o.FS.Remove(sf.name))
	}
	return sf, nil
}

// fill writes the segment, and the head once the number of messages is known.
func (sf *searchFile) fill(w *fileWriter, write func(io.Writer, int64, cipher.AEAD, []byte) (int, error)) error {
	sf.begin = int64(len(sf.encode()))
	w.at = sf.begin
	buffered := bufio.NewWriterSize(w, 256<<10)
	docs, err := write(buffered, sf.begin, sf.aead, sf.bound())
	if err != nil {
		return err
	}
	if err := buffered.Flush(); err != nil {
		return err
	}
	sf.docs, sf.size = uint32(docs), w.at
	if _, err := w.f.WriteAt(sf.encode(), 0); err != nil {
		return err
	}
	return w.f.Sync()
}

// fileWriter writes to a file from a place on, where there is room for mail: what is kept free of that is not for the search index either.
type fileWriter struct {
	f    durable.File
	room func(int64) error
	at   int64
}

func (w *fileWriter) Write(b []byte) (int, error) {
	if err := w.room(int64(len(b))); err != nil {
		return 0, err
	}
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}

// age is how long ago the file was written.
func (sf *searchFile) age(now time.Time) time.Duration { return now.Sub(time.Unix(sf.written, 0)) }
