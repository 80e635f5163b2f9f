package durable_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
)

// TestWriteFile makes each operation fail: there is the old content or the new, before and after a power cut, and the
// new if WriteFile said so.
func TestWriteFile(t *testing.T) {
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 1; n < 8; n++ {
			fsys, dir, cut := faultfs.New(), t.TempDir(), t.TempDir()
			path := filepath.Join(dir, "file")
			if err := durable.WriteFile(fsys, path, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
			fsys.FailAt(n, mode)
			err := durable.WriteFile(fsys, path, []byte("new content"), 0o600)
			if err := fsys.PowerCut(rand.New(rand.NewPCG(uint64(n), 1)), dir, cut); err != nil {
				t.Fatal(err)
			}
			for _, where := range []string{dir, cut} {
				b, rerr := durable.ReadFile(durable.OS{}, filepath.Join(where, "file"), 100)
				if rerr != nil || string(b) != "new content" && (err == nil || string(b) != "old") {
					t.Errorf("operation %d, mode %d: %q, %v; WriteFile said %v", n, mode, b, rerr, err)
				}
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("1234"), 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := durable.ReadFile(durable.OS{}, path, 4); err != nil || string(b) != "1234" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := durable.ReadFile(durable.OS{}, path, 3); err == nil {
		t.Error("a file that is too long was read")
	}
}

func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := durable.LockFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := durable.LockFile(path); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second lock: %v", err)
	}
	if err := l.Unlock(); err != nil {
		t.Fatal(err)
	}
	if l, err = durable.LockFile(path); err != nil {
		t.Fatal(err)
	}
	_ = l.Unlock()
}
