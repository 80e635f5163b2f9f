package keys

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Erase removes epoch keys for good, and with them all wrapped keys that Rewrap has replaced before: the file is written anew without them, and when
// Erase returns the old one is unlinked. What the disk keeps in its free blocks is docs/security.md's matter. Others use the vault while it is copied, and wait only for
// the end. If there is no space the error is of kind mail.Full, and nothing was done.
func (v *Vault) Erase(gone map[mail.AccountID][]uint32) error { return v.erase(gone, "") }

// EraseAccount removes all keys of an account, as Erase does. The numbers of its epochs are not used again.
func (v *Vault) EraseAccount(id mail.AccountID) error {
	return v.erase(map[mail.AccountID][]uint32{id: nil}, id)
}

// erase removes epoch keys, and all that there is of one account, unless that is "".
func (v *Vault) erase(gone map[mail.AccountID][]uint32, whole mail.AccountID) error {
	v.erasing.Lock()
	defer v.erasing.Unlock()
	w := &rewriting{Vault: Vault{store: v.store, accounts: make(map[mail.AccountID]*vaultEntry)}, gone: gone, whole: whole, wraps: make(map[mail.AccountID]int64)}
	v.mu.Lock()
	file, size, failed := v.file, v.size, v.failed
	w.seed = v.seed
	for id, e := range v.accounts {
		if e.wrap != 0 {
			w.wraps[id] = e.wrap
		}
	}
	v.mu.Unlock()
	if failed != nil {
		return failed
	}
	temp := v.path + durable.TempSuffix
	f, err := v.fsys.Open(temp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fullError(err)
	}
	w.file, w.buf = f, vaultHeader(v.store)
	if w.fresh, _, err = checkVaultHeader(w.buf, v.store); err != nil {
		return errors.Join(err, f.Close(), v.fsys.Remove(temp))
	}
	err = w.readVault(file, vaultHeaderSize, size, w.add)
	if err == nil {
		err = w.write()
	}
	if err == nil {
		err = f.Sync() // what is left to flush when others wait is little
	}
	if err != nil {
		return errors.Join(fullError(err), f.Close(), v.fsys.Remove(temp))
	}
	v.flush.Lock()
	defer v.flush.Unlock()
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.replace(w, size, temp)
}

// fullError tells a want of space from other errors.
func fullError(err error) error {
	if noSpace(err) {
		return mail.E(mail.Full, "no space left for keys", err)
	}
	return fmt.Errorf("rewrite of the key vault: %w", err)
}

// replace brings over what came since and puts the new file in the place of the old. v.flush and v.mu are held.
func (v *Vault) replace(w *rewriting, size int64, temp string) error {
	err := v.failed
	if err == nil {
		err = w.readVault(v.file, size, v.size, w.add)
	}
	if err == nil {
		w.floors(v.accounts)
		w.name(v.platform)
		err = w.write()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err != nil {
		return errors.Join(fullError(err), w.file.Close(), v.fsys.Remove(temp))
	}
	err = v.fsys.Rename(temp, v.path)
	if err == nil {
		err = v.fsys.SyncDir(filepath.Dir(v.path))
	}
	if err != nil {
		// The name may stand for either file now, so nothing more may be appended to the one that is open.
		v.failed = mail.E(mail.Unavailable, "", fmt.Errorf("rewrite of the key vault: %w", err))
		return errors.Join(v.failed, w.file.Close())
	}
	old := v.file
	v.file, v.accounts, v.size, v.synced, v.seed, v.stale = w.file, w.accounts, w.size, w.size, w.fresh, w.stale
	return old.Close()
}

// rewriting is a vault that is written without some records.
type rewriting struct {
	Vault
	gone  map[mail.AccountID][]uint32
	whole mail.AccountID           // nothing of this account is kept
	wraps map[mail.AccountID]int64 // where the wrapped keys that are to stay were; what comes after them is new
	fresh uint32                   // the new file's seed
	buf   []byte                   // not written yet
}

// add copies a record that ends at end in the old file.
func (w *rewriting) add(r *vaultRecord, end int64) error {
	if w.whole != "" && r.id == w.whole {
		return nil
	}
	epochs, concerned := w.gone[r.id]
	newest := w.wraps[r.id]
	switch r.kind {
	case vaultFloor:
		if concerned {
			return nil
		}
	case vaultEpoch:
		if slices.Contains(epochs, r.epoch) {
			return nil
		}
	case vaultAccount:
		if newest != 0 {
			r.key.Wrapped = nil
		}
	case vaultWrap:
		if end <= newest { // where a record begins another has ended
			return nil
		}
	case vaultPlatform:
		return nil
	}
	w.put(r)
	if len(w.buf) >= 1<<20 {
		return w.write()
	}
	return nil
}

func (w *rewriting) put(r *vaultRecord) {
	w.index(r, w.size+int64(len(w.buf)))
	w.buf = append(w.buf, r.encode(w.fresh, w.size+int64(len(w.buf)))...) // the file has its name only when all of it is flushed
}

// name keeps in mind which key accounts are to be wrapped under.
func (w *rewriting) name(platform string) {
	if platform != "" {
		w.put(&vaultRecord{kind: vaultPlatform, key: AccountKey{Key: platform}})
	}
}

// floors keeps in mind which epochs those who lose some have used.
func (w *rewriting) floors(accounts map[mail.AccountID]*vaultEntry) {
	for id := range w.gone {
		if e := accounts[id]; e != nil && e.last > 0 {
			w.put(&vaultRecord{kind: vaultFloor, id: id, epoch: e.last})
		}
	}
}

func (w *rewriting) write() error {
	n, err := w.file.WriteAt(w.buf, w.size)
	w.size += int64(n)
	w.buf = w.buf[:0]
	return err
}

// Accounts is the accounts that have a key pair, in no order.
func (v *Vault) Accounts() []mail.AccountID {
	v.mu.Lock()
	defer v.mu.Unlock()
	list := make([]mail.AccountID, 0, len(v.accounts))
	for id, e := range v.accounts {
		if e.key != 0 {
			list = append(list, id)
		}
	}
	return list
}

// Epochs is the account's epochs whose keys are in the vault, ascending.
func (v *Vault) Epochs(id mail.AccountID) []uint32 {
	v.mu.Lock()
	defer v.mu.Unlock()
	e := v.accounts[id]
	if e == nil {
		return nil
	}
	list := make([]uint32, len(e.epochs))
	for i, ref := range e.epochs {
		list[i] = ref.epoch
	}
	return list
}
