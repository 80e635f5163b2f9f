package server

import (
	"os"
	"path/filepath"
	"testing"

	"cmmpd/internal/durable"
)

// TestCreateAfterACut makes the database where an attempt that was cut off left a piece of one.
func TestCreateAfterACut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "directory.db")
	if err := os.WriteFile(path+durable.TempSuffix, []byte("cut off"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		st, err := openStore(path, "dc=gov,dc=example")
		if err != nil {
			t.Fatal(err)
		}
		if err := st.db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if names, err := os.ReadDir(filepath.Dir(path)); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}
