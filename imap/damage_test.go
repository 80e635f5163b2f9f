package imap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A damaged message is reported, and the others are served.
func TestDamagedMessage(t *testing.T) {
	dir := t.TempDir()
	ts := newServerIn(t, dir, Limits{})
	c := ts.login("alice")
	c.append("INBOX", "", "Subject: a\n\nfirst\n")
	c.append("INBOX", "", "Subject: b\n\n"+strings.Repeat("x", 2_000_000)+"\n")
	c.append("INBOX", "", "Subject: c\n\nthird\n")
	flip(t, filepath.Join(dir, "store", "segments"))
	c.talk(`
		C: a EXAMINE INBOX
		S? a OK …
		C: b FETCH 1:* (UID BODY.PEEK[TEXT])
		S: * 1 FETCH (UID 1 BODY[TEXT] {7}
		S: first
		S: )
		S: * 3 FETCH (UID 3 BODY[TEXT] {7}
		S: third
		S: )
		S: b NO [CORRUPTION] …
		C: c FETCH 2 (RFC822.SIZE BODY[]<0.5>)
		S: * 2 FETCH (RFC822.SIZE 2000016 BODY[]<0> {5}
		S: Subje)
		S: c OK …
		C: d SEARCH TEXT third
		S: * SEARCH 3
		S: * NO [CORRUPTION] …
		S: d OK …`)
}

// flip changes one byte in the middle of the largest file below dir.
func flip(t *testing.T, dir string) {
	t.Helper()
	var path string
	var size int64
	must(t, filepath.Walk(dir, func(p string, i os.FileInfo, err error) error {
		if err == nil && i.Mode().IsRegular() && i.Size() > size {
			path, size = p, i.Size()
		}
		return err
	}))
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, 1_000_000)
	must(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, 1_000_000)
	must(t, err)
}
