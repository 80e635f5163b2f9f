package escrow

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// File is the file of the envelopes, beside the key vault of a store. What is put is durable on return, flushes being shared; the newest
// envelope of an account counts. It is read in the background when it is opened, and what needs to know it waits. A record that is damaged is
// left out: its account counts as not covered, and can be covered again. All methods may be called concurrently.
type File struct {
	fsys  durable.FS
	path  string
	store [16]byte
	seed  uint32

	loaded chan struct{} // closed when the file is read

	mu       sync.Mutex // guards what follows
	file     durable.File
	size     int64
	failed   error
	accounts map[accountKey]place
	spoilt   int // places with something that is no record

	flush  sync.Mutex // held while flushing, and while the file is written anew; taken before mu
	synced int64      // under mu; only a holder of flush changes it
}

// accountKey stands for an account's ID in memory.
type accountKey [16]byte

func keyOf(id mail.AccountID) accountKey {
	sum := sha256.Sum256([]byte(id))
	return accountKey(sum[:16])
}

// place is where an envelope is, and for whom.
type place struct {
	offset int64
	group  *Group
}

// Open opens the file of the store and makes it if it is absent. A torn tail is cut off.
func Open(fsys durable.FS, path string, store [16]byte) (*File, error) {
	if err := fsys.Remove(path + durable.TempSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := fsys.Open(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		if err := durable.WriteFile(fsys, path, fileHeader(store), 0o600); err != nil {
			return nil, err
		}
		f, err = fsys.Open(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	e := &File{fsys: fsys, path: path, store: store, file: f, loaded: make(chan struct{})}
	head := make([]byte, headerSize)
	n, err := f.ReadAt(head, 0)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err == nil {
		e.seed, err = checkHeader(head[:n], store)
	}
	if err != nil {
		kind := mail.Corrupt
		if mail.KindOf(err) == mail.Unsupported {
			kind = mail.Unsupported
		}
		return nil, errors.Join(mail.E(kind, "", fmt.Errorf("escrowed keys %s: %w", path, err)), f.Close())
	}
	go e.load()
	return e, nil
}

// load reads all records, cuts off a torn tail, and flushes what there is: a failed flush may have left it in the page cache only.
func (f *File) load() {
	defer close(f.loaded)
	groups, accounts := make(map[GroupID]*Group), make(map[accountKey]place)
	size, err := f.file.Size()
	var end int64
	var spoilt int
	if err == nil {
		end, spoilt, err = readRecords(f.file, f.seed, size, func(payload []byte, at int64) error {
			return index(groups, accounts, payload, at)
		})
	}
	if err == nil && end < size && size-end <= maxUnflushed {
		err = f.file.Truncate(end)
	} else if end < size { // it was flushed once, so it is no torn tail; what follows it will be found
		end, spoilt = size, spoilt+1
	}
	if err == nil {
		err = f.resettle(end)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.accounts, f.size, f.synced, f.spoilt = accounts, end, end, spoilt
	if err != nil && f.failed == nil {
		f.failed = mail.E(mail.Unavailable, "", fmt.Errorf("escrowed keys %s: %w", f.path, err))
	}
}

// maxUnflushed is more than one group of appends can be.
const maxUnflushed = 4 << 20

// resettle writes the end of the file over itself and flushes it.
func (f *File) resettle(end int64) error {
	from := max(headerSize, end-maxUnflushed)
	tail := make([]byte, end-from)
	if _, err := f.file.ReadAt(tail, from); err != nil && len(tail) > 0 {
		return err
	}
	if _, err := f.file.WriteAt(tail, from); err != nil {
		return err
	}
	return f.file.Sync()
}

// index notes a record. One that says something impossible counts as damaged.
func index(groups map[GroupID]*Group, accounts map[accountKey]place, payload []byte, at int64) error {
	id, body, _, err := ownerOf(payload)
	if err != nil {
		return errRecord
	}
	g := groups[idOf(body)]
	if g == nil {
		if g, err = parseGroup(body); err != nil {
			return errRecord
		}
		groups[g.ID] = g
	}
	accounts[keyOf(id)] = place{at, g}
	return nil
}

// readRecords calls f with every record. What is no record is passed over, up to the next that is one; spoilt counts such places. end is where
// the last good one ends. f may say errRecord.
func readRecords(file io.ReaderAt, seed uint32, size int64, f func(payload []byte, at int64) error) (end int64, spoilt int, err error) {
	end = headerSize
	buf := make([]byte, min(2<<20, max(size-headerSize, 0)))
	fill, lost := 0, false
	for base := int64(headerSize); base < size; {
		n, err := file.ReadAt(buf[fill:min(int64(len(buf)), size-base)], base+int64(fill))
		if err != nil && !errors.Is(err, io.EOF) {
			return 0, 0, err
		}
		fill += n
		if fill == 0 {
			return 0, 0, io.ErrUnexpectedEOF
		}
		b, more := buf[:fill], base+int64(fill) < size
		for len(b) > 0 && (!more || len(b) >= recordHead+maxPayload) {
			n := 1
			payload, err := decodeRecord(b, seed)
			if err == nil {
				n = recordHead + len(payload)
				err = f(payload, base)
			}
			switch {
			case err == nil:
				if lost {
					spoilt++
				}
				lost, end = false, base+int64(n)
			case errors.Is(err, errRecord):
				lost = true
			default:
				return 0, 0, err
			}
			b, base = b[n:], base+int64(n)
		}
		fill = copy(buf, b)
	}
	return end, spoilt, nil
}

// wait returns when the file is read, or with what failed.
func (f *File) wait() error {
	<-f.loaded
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// Put keeps an envelope. It is durable on return, and an earlier one of the account does not count any more.
func (f *File) Put(e *Envelope) error {
	if err := f.wait(); err != nil {
		return err
	}
	end, err := f.append(e)
	if err != nil {
		return err
	}
	f.flush.Lock()
	defer f.flush.Unlock()
	f.mu.Lock()
	done, to, failed := f.synced >= end, f.size, f.failed
	f.mu.Unlock()
	if failed != nil || done { // another's flush carried it
		return failed
	}
	err = f.file.Sync()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.failed = mail.E(mail.Unavailable, "", fmt.Errorf("flush of the escrowed keys: %w", err))
		return f.failed
	}
	f.synced = to
	return nil
}

func (f *File) append(e *Envelope) (end int64, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed != nil {
		return 0, f.failed
	}
	b := encodeRecord(e.payload(), f.seed)
	if f.size-f.synced+int64(len(b)) > maxUnflushed {
		return 0, mail.E(mail.Busy, "", errors.New("the escrowed keys have too much to flush"))
	}
	if _, err := f.file.WriteAt(b, f.size); err != nil {
		terr := f.file.Truncate(f.size)
		if terr == nil && noSpace(err) {
			return 0, mail.E(mail.Full, "no space left for keys", err)
		}
		f.failed = mail.E(mail.Unavailable, "", errors.Join(fmt.Errorf("write to the escrowed keys: %w", err), terr))
		return 0, f.failed
	}
	f.accounts[keyOf(e.Account)] = place{f.size, e.Group}
	f.size += int64(len(b))
	return f.size, nil
}

// noSpace says whether the error is for want of space only.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Get is the account's envelope. The error is of kind mail.NotFound if there is none, mail.Corrupt if it is damaged.
func (f *File) Get(id mail.AccountID) (*Envelope, error) {
	if err := f.wait(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p, ok := f.accounts[keyOf(id)]
	if !ok {
		return nil, mail.E(mail.NotFound, "the key of this account is not in escrow", nil)
	}
	e, err := f.read(p.offset)
	if err == nil && e.Account != id {
		err = errEnvelope
	}
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("escrowed key of account %s: %w", id, err))
	}
	return e, nil
}

// read reads an envelope. f.mu is held.
func (f *File) read(offset int64) (*Envelope, error) {
	b := make([]byte, recordHead)
	if _, err := f.file.ReadAt(b, offset); err != nil {
		return nil, err
	}
	n, _, err := decodeHead(b, f.seed)
	if err != nil {
		return nil, err
	}
	b = make([]byte, recordHead+n)
	if _, err := f.file.ReadAt(b, offset); err != nil {
		return nil, err
	}
	payload, err := decodeRecord(b, f.seed)
	if err != nil {
		return nil, err
	}
	return parseEnvelope(payload)
}

// Covered is the group for which the account's key is kept, nil if it is not kept.
func (f *File) Covered(id mail.AccountID) (*Group, error) {
	if err := f.wait(); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.accounts[keyOf(id)].group, nil
}

// Stats are counts.
type Stats struct {
	Accounts int   // envelopes that count
	Octets   int64 // of the file
	Spoilt   int   // places where something was damaged when the file was opened
}

// Stats counts.
func (f *File) Stats() (Stats, error) {
	if err := f.wait(); err != nil {
		return Stats{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return Stats{len(f.accounts), f.size, f.spoilt}, nil
}

// Backup writes a copy of the file as it is now. Records are added meanwhile.
func (f *File) Backup(w io.Writer) error {
	if err := f.wait(); err != nil {
		return err
	}
	f.mu.Lock()
	size := f.size
	file, err := f.fsys.Open(f.path, os.O_RDONLY, 0) // the file that is open may be closed by a rewrite
	f.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // it was only read
	_, err = io.Copy(w, io.NewSectionReader(file, 0, size))
	return err
}

// Failed is the reason why nothing more is taken, or nil.
func (f *File) Failed() error { return f.wait() }

// Close closes the file.
func (f *File) Close() error {
	<-f.loaded
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = mail.E(mail.Unavailable, "", errors.New("the escrowed keys are closed"))
	return f.file.Close()
}
