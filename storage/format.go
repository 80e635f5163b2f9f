package storage

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// The files of a store.
const (
	formatFile  = "format"
	lockFile    = "lock"
	indexFile   = "index.db"
	vaultFile   = "vault"
	escrowFile  = "escrow"
	segmentsDir = "segments"
)

// formatVersion is the version that this program writes. It refuses a newer one; migrate.go brings an older one to it.
const formatVersion = 3

const formatLine = "cmmpd mailbox store "

// encodeFormat is the format file: two lines of text, the version and the store's random identity.
func encodeFormat(version int, id blob.StoreID) []byte {
	return fmt.Appendf(nil, "%s%d\n%x\n", formatLine, version, id[:])
}

func decodeFormat(b []byte) (id blob.StoreID, version int, err error) {
	first, rest, ok := strings.Cut(string(b), "\n")
	number, isOurs := strings.CutPrefix(first, formatLine)
	n, err := strconv.ParseUint(number, 10, 31)
	if !ok || !isOurs || err != nil || n < 1 {
		return id, 0, mail.E(mail.Corrupt, "", errors.New("the format file is not one of a mailbox store"))
	}
	if n > formatVersion {
		return id, 0, mail.E(mail.Unsupported, "", fmt.Errorf("the store has format %d, made by a newer version of this program, which knows formats up to %d", n, formatVersion))
	}
	raw, err := hex.DecodeString(strings.TrimSuffix(rest, "\n"))
	if err != nil || len(raw) != len(id) || string(encodeFormat(int(n), blob.StoreID(raw))) != string(b) {
		return id, 0, mail.E(mail.Corrupt, "", errors.New("the format file is damaged"))
	}
	return blob.StoreID(raw), int(n), nil
}

// openFormat reads the format file of the store with its version, and makes a new store if there is none. It is written last when a
// store is made: without it there is no store, and what else lies there, without any mail, is made anew.
func openFormat(fsys durable.FS, dir string) (id blob.StoreID, version int, err error) {
	b, err := durable.ReadFile(fsys, filepath.Join(dir, formatFile), 1<<10)
	if err == nil {
		return decodeFormat(b)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return id, 0, err
	}
	id, err = create(fsys, dir)
	return id, formatVersion, err
}

func create(fsys durable.FS, dir string) (blob.StoreID, error) {
	var id blob.StoreID
	names, err := fsys.List(dir)
	if err != nil {
		return id, err
	}
	for _, name := range names {
		switch strings.TrimSuffix(name, durable.TempSuffix) {
		case lockFile, segmentsDir, formatFile, vaultFile:
		default:
			return id, mail.E(mail.Exists, "", fmt.Errorf("%s holds other things than a store", dir))
		}
	}
	segments := filepath.Join(dir, segmentsDir)
	if err := fsys.Mkdir(segments, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return id, err
	}
	inside, err := fsys.List(segments)
	if err != nil {
		return id, err
	}
	if len(inside) > 0 {
		return id, mail.E(mail.Corrupt, "", fmt.Errorf("%s has segments but no format file", dir))
	}
	vault := filepath.Join(dir, vaultFile)
	if used, err := keys.VaultInUse(fsys, vault); err != nil {
		return id, err
	} else if used {
		return id, mail.E(mail.Corrupt, "", fmt.Errorf("%s has a key vault with keys but no format file", dir))
	}
	if _, err := rand.Read(id[:]); err != nil {
		return id, err
	}
	if err := keys.CreateVault(fsys, vault, id); err != nil {
		return id, err
	}
	return id, durable.WriteFile(fsys, filepath.Join(dir, formatFile), encodeFormat(formatVersion, id), 0o600)
}

// makeDir makes the store's directory if it is absent, durably.
func makeDir(fsys durable.FS, dir string) error {
	if err := fsys.Mkdir(dir, 0o700); errors.Is(err, fs.ErrExist) {
		return nil
	} else if errors.Is(err, fs.ErrNotExist) && filepath.Dir(dir) != dir {
		if err := makeDir(fsys, filepath.Dir(dir)); err != nil {
			return err
		}
		if err := fsys.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) { // another goroutine may be as fast
			return err
		}
	} else if err != nil {
		return err
	}
	return fsys.SyncDir(filepath.Dir(dir))
}
