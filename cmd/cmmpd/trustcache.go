package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"cmmpd/internal/durable"
)

// trustCache keeps fetched revocation data and issuers' certificates in a folder, one
// file for each (docs/formats.md). They are public; whoever changes them can take them
// away, but not make them say something else, for they are verified after reading.
type trustCache struct {
	dir  string
	keep bool // may write
}

const (
	trustHeader  = "cmmpd fetched 1\n"
	maxTrustFile = 65 << 20
	// trustForgotten is how long a file that nobody renewed stays.
	trustForgotten = 90 * 24 * time.Hour
)

// trustFile is the name of a file of ours, whole or as it was being written.
var trustFile = regexp.MustCompile(`^[0-9a-f]{32}(` + regexp.QuoteMeta(durable.TempSuffix) + `)?$`)

// openTrustCache makes the folder and clears out what is old, if it may write. What bears
// no name of ours is left alone: the folder may have been somebody else's first.
func openTrustCache(dir string, keep bool) (*trustCache, error) {
	if !keep {
		return &trustCache{dir: dir}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !trustFile.MatchString(e.Name()) {
			continue
		}
		st, err := e.Info()
		if err == nil && st.Mode().IsRegular() && (time.Since(st.ModTime()) > trustForgotten || filepath.Ext(e.Name()) == durable.TempSuffix) {
			err = os.Remove(filepath.Join(dir, e.Name()))
		}
		if err != nil {
			return nil, err
		}
	}
	return &trustCache{dir: dir, keep: true}, nil
}

func (c *trustCache) path(key string) string {
	sum := sha256.Sum256([]byte(key))
	return filepath.Join(c.dir, hex.EncodeToString(sum[:16]))
}

// Load satisfies trust.Cache.
func (c *trustCache) Load(key string) ([]byte, error) {
	b, err := durable.ReadFile(durable.OS{}, c.path(key), maxTrustFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	data, ok := bytes.CutPrefix(b, []byte(trustHeader+key+"\n"))
	if !ok {
		return nil, errors.New("not a file of this folder's kind, or of another address")
	}
	return data, nil
}

// Save satisfies trust.Cache.
func (c *trustCache) Save(key string, data []byte) error {
	if !c.keep {
		return nil
	}
	return durable.WriteFile(durable.OS{}, c.path(key), append([]byte(trustHeader+key+"\n"), data...), 0o600)
}
