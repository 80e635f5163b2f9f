package keys

import (
	"io"
	"os"
)

// Backup writes a copy of the vault as it is now. Records are added meanwhile; an Erase that happens meanwhile is not in it.
func (v *Vault) Backup(w io.Writer) error {
	v.mu.Lock()
	if v.failed != nil {
		v.mu.Unlock()
		return v.failed
	}
	size := v.size
	f, err := v.fsys.Open(v.path, os.O_RDONLY, 0) // the file that is open may be closed by an Erase
	v.mu.Unlock()
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	_, err = io.Copy(w, io.NewSectionReader(f, 0, size))
	return err
}
