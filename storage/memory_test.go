//go:build linux

package storage

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cmmpd/internal/keys"
)

// masked is a secret that this process looks for in its own memory, kept in such a way that it does not find itself.
type masked struct{ mask, value []byte }

func mask(secret []byte) *masked {
	m := &masked{make([]byte, len(secret)), make([]byte, len(secret))}
	_, _ = rand.Read(m.mask) // never fails
	for i := range secret {
		m.value[i] = secret[i] ^ m.mask[i]
	}
	return m
}

func (m *masked) at(b []byte) bool {
	for i := range m.value {
		if b[i]^m.mask[i] != m.value[i] {
			return false
		}
	}
	return true
}

// copies is how often the secret is in the memory that this process can write.
func (m *masked) copies(t *testing.T) (n int) {
	t.Helper()
	const size = 1 << 20
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE) // not on the heap, and passed over
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Munmap(buf) }()
	own := fmt.Sprintf("%p", &buf[0])[2:]
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open("/proc/self/mem")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = mem.Close() }()
	for in := bufio.NewScanner(bytes.NewReader(maps)); in.Scan(); {
		var from, to int64
		var may string
		if _, err := fmt.Sscanf(in.Text(), "%x-%x %s", &from, &to, &may); err != nil || !strings.HasPrefix(may, "rw") || strings.HasPrefix(in.Text(), own) {
			continue
		}
		for at := from; at < to; at += size - int64(len(m.value)) {
			b := buf[:min(size, to-at)]
			got, err := mem.ReadAt(b, at)
			if err != nil {
				break // the rest of it is not there
			}
			b = b[:got]
			first := m.value[0] ^ m.mask[0]
			for i := bytes.IndexByte(b, first); i >= 0 && i+len(m.value) <= len(b); {
				if m.at(b[i:]) {
					n++
				}
				next := bytes.IndexByte(b[i+1:], first)
				if next < 0 {
					break
				}
				i += 1 + next
			}
			clear(b)
		}
	}
	return n
}

// watchedKeys notes, masked, what is unwrapped of the slot mail.
type watchedKeys struct {
	keys.Keystore
	seen *masked
}

func (k *watchedKeys) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	b, err := k.Keystore.Unwrap(ctx, slot, name, sealed, aad)
	if err == nil && slot == keys.Mail {
		k.seen = mask(b)
	}
	return b, err
}

// memoryVariable names the folder in which a process of its own makes the account: what makes a key leaves a copy behind.
const memoryVariable = "CMMPD_MEMORY_TEST"

// TestPrivateKeyLeavesMemory looks into this process's memory: an account's private key is there while somebody has the account open, and not after the last
// one has closed it.
func TestPrivateKeyLeavesMemory(t *testing.T) {
	o := Options{HouseEvery: -1, EpochMessages: 3}
	if o.Dir = os.Getenv(memoryVariable); o.Dir != "" {
		ks, err := keys.OpenFile(o.Dir + ".keys")
		if err != nil {
			t.Fatal(err)
		}
		o.Keys = ks
		if err := neighbours(t, o, 20).Close(); err != nil {
			t.Fatal(err)
		}
		return
	}
	o.Dir = filepath.Join(t.TempDir(), "store")
	ks := &watchedKeys{Keystore: newKeysIn(t, o.Dir+".keys")}
	child := exec.Command(os.Args[0], "-test.run=^TestPrivateKeyLeavesMemory$")
	child.Env = append(os.Environ(), memoryVariable+"="+o.Dir)
	if out, err := child.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	o.Keys = ks
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	ctx := context.Background()
	one, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	two, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(subjects(t, s, alice)); n != 20 {
		t.Fatalf("%d messages", n)
	}
	key := ks.seen
	open := key.copies(t)
	_ = one.Close()
	half := key.copies(t)
	_ = two.Close()
	runtime.GC()
	closed := key.copies(t)
	t.Logf("copies of the private key: %d while the account is open, %d when one of two has closed it, %d afterwards", open, half, closed)
	if open == 0 || half == 0 {
		t.Error("the key is not found while the account is open: nothing is proved")
	}
	if closed != 0 {
		t.Errorf("%d copies of the key are left", closed)
	}
	if err := ks.Keystore.(keys.Manager).Generate(keys.Mail, "platform-2", keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPlatformKey(ctx, "platform-2"); err != nil {
		t.Fatal(err)
	}
	if err := s.RewrapAll(ctx); err != nil || s.PlatformKeys().Waiting() != 0 {
		t.Fatal(s.PlatformKeys(), err)
	}
	runtime.GC()
	if n := key.copies(t); n != 0 {
		t.Errorf("%d copies of the key are left by wrapping it anew", n)
	}
}
