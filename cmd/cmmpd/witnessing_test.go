package main

import (
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/audit"
)

// Every witness that is required is another one, and there are no more than a checkpoint has room for.
func TestWitnessesDiffer(t *testing.T) {
	dir := t.TempDir()
	key := func(seed byte) ed25519.PublicKey {
		b := make([]byte, ed25519.SeedSize)
		b[0] = seed
		return ed25519.NewKeyFromSeed(b).Public().(ed25519.PublicKey)
	}
	read := func(n int, of func(i int) (name string, pub ed25519.PublicKey)) error {
		text := ""
		for i := range n {
			k, err := audit.NewWitnessKey(of(i))
			file := fmt.Sprintf("%d.pub", i)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, file), []byte(k.String()+"\n"), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			text += fmt.Sprintf("[[witnesses]]\nurl = \"https://w%d.example/\"\nkey = %q\n", i, file)
		}
		path := filepath.Join(dir, "audit.toml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c := defaultAudit()
		f, err := readTOML(path, &c)
		if err != nil {
			t.Fatal(err)
		}
		c.checkWitnesses(f)
		return f.err()
	}
	another := func(i int) (string, ed25519.PublicKey) { return fmt.Sprint("w", i), key(byte(i)) }
	if err := read(audit.MaxWitnesses, another); err != nil {
		t.Error(err)
	}
	if err := read(audit.MaxWitnesses+1, another); err == nil || !strings.Contains(err.Error(), "too many") {
		t.Errorf("one too many: %v", err)
	}
	if err := read(2, func(i int) (string, ed25519.PublicKey) { return fmt.Sprint("w", i), key(7) }); err == nil || !strings.Contains(err.Error(), "same key or name") {
		t.Errorf("one key under two names: %v", err)
	}
	if err := read(2, func(i int) (string, ed25519.PublicKey) { return "w", key(byte(i)) }); err == nil || !strings.Contains(err.Error(), "same key or name") {
		t.Errorf("two keys under one name: %v", err)
	}
}
