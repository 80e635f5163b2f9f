package keys

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sort"
	"sync"
	"syscall"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Vault is the file of the accounts' keys: each account's key pair (the private key wrapped by the platform key) and
// its epoch keys (sealed to the public key). What is put is durable on return, flushes being shared. Erase rewrites the
// file whole, so that what was erased is gone. All methods may be called concurrently.
type Vault struct {
	fsys  durable.FS
	path  string
	store [16]byte

	mu       sync.Mutex // guards what follows
	seed     uint32
	file     durable.File
	size     int64
	failed   error
	accounts map[mail.AccountID]*vaultEntry
	platform string   // the key that accounts are to be wrapped under; empty: PlatformKey
	names    []string // of all keys that wrap
	stale    bool     // the file has wrapped keys that others have taken the place of

	erasing sync.Mutex // held while the file is written anew; taken before flush
	flush   sync.Mutex // held while flushing; taken before mu
	synced  int64      // under mu; only a holder of flush changes it
}

type vaultEntry struct {
	id     mail.AccountID
	key    int64      // offset of the account's record; 0: none
	own    bool       // that record has the private key wrapped
	wrap   int64      // offset of the latest record that says how the private key is wrapped; 0: the account's does
	under  string     // the key that wraps it
	epochs []epochRef // ascending
	last   uint32     // the highest epoch ever used
}

type epochRef struct {
	epoch  uint32
	offset int64
}

func (e *vaultEntry) find(epoch uint32) (int, bool) {
	i := sort.Search(len(e.epochs), func(i int) bool { return e.epochs[i].epoch >= epoch })
	return i, i < len(e.epochs) && e.epochs[i].epoch == epoch
}

// CreateVault makes an empty vault for the store.
func CreateVault(fsys durable.FS, path string, store [16]byte) error {
	return durable.WriteFile(fsys, path, vaultHeader(store), 0o600)
}

// VaultInUse says whether there is a vault that holds more than its header: then it must not be made anew, whatever else is missing.
func VaultInUse(fsys durable.FS, path string) (bool, error) {
	f, err := fsys.Open(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	size, err := f.Size()
	return size > vaultHeaderSize, errors.Join(err, f.Close())
}

// OpenVault opens the vault of the store. A torn tail is cut off.
func OpenVault(fsys durable.FS, path string, store [16]byte) (*Vault, error) {
	if err := fsys.Remove(path + durable.TempSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	f, err := fsys.Open(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	v := &Vault{fsys: fsys, path: path, store: store, file: f, accounts: make(map[mail.AccountID]*vaultEntry)}
	version, err := v.load()
	if err != nil {
		kind := mail.Corrupt
		if mail.KindOf(err) == mail.Unsupported {
			kind = mail.Unsupported
		}
		return nil, errors.Join(mail.E(kind, "", fmt.Errorf("key vault %s: %w", path, err)), f.Close())
	}
	if version < vaultVersion {
		if err := v.Erase(nil); err != nil { // an older program refuses what comes out
			return nil, errors.Join(fmt.Errorf("key vault %s, bringing it from version %d to %d: %w", path, version, vaultVersion, err), v.Close())
		}
	}
	return v, nil
}

// load reads all records, cuts off a torn tail, and writes and flushes the end once more, because a failed flush
// may have left it in the page cache only.
func (v *Vault) load() (version uint32, err error) {
	size, err := v.file.Size()
	if err != nil {
		return 0, err
	}
	head := make([]byte, vaultHeaderSize)
	if _, err := v.file.ReadAt(head, 0); err != nil {
		return 0, err
	}
	if v.seed, version, err = checkVaultHeader(head, v.store); err != nil {
		return 0, err
	}
	v.size = vaultHeaderSize
	err = v.readVault(v.file, vaultHeaderSize, size, func(r *vaultRecord, end int64) error {
		v.index(r, v.size)
		v.size = end
		return nil
	})
	if errors.Is(err, errVaultRecord) {
		err = v.cut(size)
	} else if err == nil {
		err = v.settle(size)
	}
	return version, err
}

// readVault calls f with the records of a part of the file, which begins with one, and where each ends. The error is errVaultRecord if there is
// something else.
// r is f's until it returns.
func (v *Vault) readVault(file io.ReaderAt, from, to int64, f func(r *vaultRecord, end int64) error) error {
	var r vaultRecord
	buf := make([]byte, min(1<<20, to-from))
	for fill, base := 0, from; base < to; {
		n, err := file.ReadAt(buf[fill:min(int64(len(buf)), to-base)], base+int64(fill))
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		fill += n
		b, more := buf[:fill], base+int64(fill) < to
		if n == 0 && more {
			return errVaultRecord // it is shorter than it was
		}
		for len(b) > 0 && (!more || len(b) >= vaultRecordHead+maxVaultPayload) {
			n, err := r.decode(b, v.seed, v.knownID)
			if err != nil {
				return err
			}
			b, base = b[n:], base+int64(n)
			if err := f(&r, base); err != nil {
				return err
			}
		}
		fill = copy(buf, b)
	}
	return nil
}

// cut removes what follows the last good record, unless a later record proves that it was whole once.
func (v *Vault) cut(size int64) error {
	rest := make([]byte, size-v.size)
	if _, err := v.file.ReadAt(rest, v.size); err != nil {
		return err
	}
	magic := binary.LittleEndian.AppendUint32(nil, vaultRecordMagic)
	for i := 1; ; i++ {
		j := bytes.Index(rest[i:], magic)
		if j < 0 {
			return v.settle(size)
		}
		i += j
		if _, synced, _, _, err := decodeVaultHead(rest[i:], v.seed); err == nil && synced > v.size {
			return fmt.Errorf("damaged at %d", v.size)
		}
	}
}

// maxUnflushed is more than one group of appends can be.
const maxUnflushed = 1 << 20

func (v *Vault) settle(size int64) error {
	if size > v.size {
		if err := v.file.Truncate(v.size); err != nil {
			return err
		}
	}
	from := max(vaultHeaderSize, v.size-maxUnflushed)
	tail := make([]byte, v.size-from)
	if _, err := v.file.ReadAt(tail, from); err != nil && len(tail) > 0 {
		return err
	}
	if _, err := v.file.WriteAt(tail, from); err != nil {
		return err
	}
	v.synced = v.size
	return v.file.Sync()
}

// knownID is the ID of an account, as the string that is there already if it is known.
func (v *Vault) knownID(id []byte) mail.AccountID {
	if e := v.accounts[mail.AccountID(id)]; e != nil {
		return e.id
	}
	return mail.AccountID(id)
}

// oneName is the name of a key that wraps, the same string for all accounts.
func (v *Vault) oneName(name string) string {
	i := slices.Index(v.names, name)
	if i < 0 {
		i, v.names = len(v.names), append(v.names, name)
	}
	return v.names[i]
}

func (v *Vault) index(r *vaultRecord, offset int64) {
	if r.kind == vaultPlatform {
		v.platform = r.key.Key
		return
	}
	e := v.accounts[r.id]
	if e == nil {
		e = &vaultEntry{id: r.id}
		v.accounts[r.id] = e
	}
	switch r.kind {
	case vaultAccount:
		e.key, e.own = offset, len(r.key.Wrapped) > 0
		if e.own { // what was there was that of an account whose own record got torn off
			v.stale = v.stale || e.wrap != 0
			e.wrap, e.under = 0, PlatformKey
		}
	case vaultWrap:
		v.stale = v.stale || e.own || e.wrap != 0
		e.wrap, e.under = offset, v.oneName(r.key.Key)
	case vaultEpoch:
		if i, ok := e.find(r.epoch); ok {
			e.epochs[i].offset = offset
		} else {
			e.epochs = slices.Insert(e.epochs, i, epochRef{r.epoch, offset})
		}
		e.last = max(e.last, r.epoch)
	case vaultFloor:
		e.last = max(e.last, r.epoch)
	}
}

// put appends records and returns when they are durable. They are visible before that. check, which is called under v.mu, may refuse.
func (v *Vault) put(check func() error, list ...*vaultRecord) error {
	end, err := v.append(check, list)
	if err != nil {
		return err
	}
	v.flush.Lock()
	defer v.flush.Unlock()
	v.mu.Lock()
	done, to, failed := v.synced >= end, v.size, v.failed
	v.mu.Unlock()
	if failed != nil {
		return failed
	}
	if done { // another's flush carried it
		return nil
	}
	err = v.file.Sync()
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil {
		v.failed = mail.E(mail.Unavailable, "", fmt.Errorf("flush of the key vault: %w", err))
		return v.failed
	}
	v.synced = to
	return nil
}

func (v *Vault) append(check func() error, list []*vaultRecord) (end int64, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.failed != nil {
		return 0, v.failed
	}
	if err := check(); err != nil {
		return 0, err
	}
	if v.size-v.synced > maxUnflushed-int64(len(list))*(vaultRecordHead+maxVaultPayload) {
		return 0, mail.E(mail.Busy, "", errors.New("the key vault has too much to flush"))
	}
	var b []byte
	ends := make([]int64, len(list))
	for i, r := range list {
		b = append(b, r.encode(v.seed, v.synced)...)
		ends[i] = v.size + int64(len(b))
	}
	if _, err := v.file.WriteAt(b, v.size); err != nil {
		terr := v.file.Truncate(v.size)
		if terr == nil && noSpace(err) {
			return 0, mail.E(mail.Full, "no space left for keys", err)
		}
		v.failed = mail.E(mail.Unavailable, "", errors.Join(fmt.Errorf("write to the key vault: %w", err), terr))
		return 0, v.failed
	}
	for i, r := range list {
		v.index(r, v.size)
		v.size = ends[i]
	}
	return v.size, nil
}

// noSpace says whether the error is for want of space only.
func noSpace(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// Failed is the reason why the vault takes nothing more, or nil.
func (v *Vault) Failed() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.failed
}

func (v *Vault) read(offset int64) (*vaultRecord, error) {
	b := make([]byte, 512)
	for {
		n, err := v.file.ReadAt(b, offset)
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		r, _, err := decodeVaultRecord(b[:n], v.seed)
		if err == nil {
			return r, nil
		}
		if len(b) > maxVaultPayload || n < len(b) {
			return nil, mail.E(mail.Corrupt, "", fmt.Errorf("key vault at %d: %w", offset, err))
		}
		b = make([]byte, vaultRecordHead+maxVaultPayload)
	}
}

// ErrPlatformChanged is the error of PutAccount when the key pair is not under the platform key of now: one under a key that is on its way out could
// come after the last look at what that one still wraps.
var ErrPlatformChanged = mail.E(mail.Busy, "", errors.New("the platform key has changed meanwhile"))

// PutAccount keeps an account's key pair, which must be under the key that Platform names. The error is of kind mail.Exists if it has one.
func (v *Vault) PutAccount(id mail.AccountID, k AccountKey) error {
	if len(id) == 0 || len(id) > 255 {
		return mail.E(mail.Invalid, "", fmt.Errorf("account id of %d bytes", len(id)))
	}
	if err := k.check(); err != nil {
		return err
	}
	none := func() error {
		if e := v.accounts[id]; e != nil && e.key != 0 {
			return mail.E(mail.Exists, "", fmt.Errorf("account %s has keys", id))
		}
		if k.Key != v.platformName() {
			return ErrPlatformChanged
		}
		return nil
	}
	if k.Key == PlatformKey {
		return v.put(none, &vaultRecord{kind: vaultAccount, id: id, key: k})
	}
	// The wrapped key comes first: whatever is torn off, no account is there without.
	wrap := &vaultRecord{kind: vaultWrap, id: id, key: k}
	k.Wrapped = nil
	return v.put(none, wrap, &vaultRecord{kind: vaultAccount, id: id, key: k})
}

// Account is the account's key pair.
func (v *Vault) Account(id mail.AccountID) (k AccountKey, ok bool, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.account(id)
}

// account is Account. v.mu is held.
func (v *Vault) account(id mail.AccountID) (k AccountKey, ok bool, err error) {
	e := v.accounts[id]
	if e == nil || e.key == 0 {
		return AccountKey{}, false, nil
	}
	r, err := v.read(e.key)
	if err != nil {
		return AccountKey{}, false, err
	}
	k = r.key
	if e.wrap != 0 {
		if r, err = v.read(e.wrap); err != nil {
			return AccountKey{}, false, err
		}
		k.Key, k.Wrapped = r.key.Key, r.key.Wrapped
	}
	if len(k.Wrapped) == 0 {
		return AccountKey{}, false, mail.E(mail.Corrupt, "", fmt.Errorf("the key vault has no private key of account %s", id))
	}
	return k, true, nil
}

// LastEpoch is the highest epoch that the account ever had, 0 if none: the next is one more.
func (v *Vault) LastEpoch(id mail.AccountID) uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.accounts[id]; e != nil {
		return e.last
	}
	return 0
}

// PutEpoch keeps a sealed epoch key. The epochs of an account are put in order, by one goroutine at a time.
func (v *Vault) PutEpoch(id mail.AccountID, epoch uint32, sealed []byte) error {
	next := func() error {
		if e := v.accounts[id]; e == nil || epoch != e.last+1 {
			return mail.E(mail.Internal, "", fmt.Errorf("epoch %d of account %s is out of order", epoch, id))
		}
		return nil
	}
	return v.put(next, &vaultRecord{kind: vaultEpoch, id: id, epoch: epoch, sealed: sealed})
}

// Epoch is the sealed epoch key. The error is of kind mail.NotFound if there is none, as when it was erased.
func (v *Vault) Epoch(id mail.AccountID, epoch uint32) ([]byte, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if e := v.accounts[id]; e != nil {
		if i, ok := e.find(epoch); ok {
			r, err := v.read(e.epochs[i].offset)
			if err != nil {
				return nil, err
			}
			return r.sealed, nil
		}
	}
	return nil, mail.E(mail.NotFound, "", fmt.Errorf("no epoch %d of account %s in the key vault", epoch, id))
}

// HasEpoch says whether the epoch key is there.
func (v *Vault) HasEpoch(id mail.AccountID, epoch uint32) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.accounts[id]
	if e == nil {
		return false
	}
	_, ok := e.find(epoch)
	return ok
}

// Close closes the file.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.failed = mail.E(mail.Unavailable, "", errors.New("the key vault is closed"))
	return v.file.Close()
}
