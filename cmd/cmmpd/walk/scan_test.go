package walk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestScan(t *testing.T) {
	dir := t.TempDir()
	markers := []string{"MarkerOTHER", "MarkerABCDEFGHIJKLMNOPQRSTUV"}
	for _, form := range plantedForms(markers[1]) {
		// at the start, around the seam of two blocks, and at the end
		for _, before := range []int{0, scanBlock - 40, scanBlock - overlap - 3, scanBlock + 7} {
			path := filepath.Join(dir, "f")
			data := append(bytes.Repeat([]byte{'\xfe'}, before), form.text...)
			if err := os.WriteFile(path, append(data, "tail"...), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, how, err := scan(path, markers); err != nil || how != form.how {
				t.Errorf("%s after %d bytes: found %q, %v", form.how, before, how, err)
			}
		}
	}
	path := filepath.Join(dir, "clean")
	if err := os.WriteFile(path, bytes.Repeat([]byte("MarkerABCDEFGHIJ and so on"), 1<<16), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, how, err := scan(path, markers); err != nil || how != "" || n != 26<<16 {
		t.Errorf("a clean file: %d bytes, found %q, %v", n, how, err)
	}
}
