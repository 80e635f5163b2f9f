package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSwapForbidden(t *testing.T) {
	root := t.TempDir()
	for path, value := range map[string]string{"system.slice/cmmpd.service": "0\n", "system.slice/other.service": "max\n", "closed": "0\n", "closed/in": "max\n"} {
		if err := os.MkdirAll(filepath.Join(root, path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, path, "memory.swap.max"), []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for groups, want := range map[string]bool{
		"0::/system.slice/cmmpd.service\n": true, "0::/system.slice/other.service\n": false, "0::/closed/in\n": true, "0::/\n": false, "": false,
		"4:memory:/closed\n0::/system.slice\n": false, "4:memory:/x\n0::/closed\n": true, "0::/gone\n": false,
	} {
		if got := swapForbidden(root, groups); got != want {
			t.Errorf("%q: %v", groups, got)
		}
	}
}
