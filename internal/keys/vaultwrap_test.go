package keys

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
)

func testKey(name, wrapped string) AccountKey {
	return AccountKey{1, []byte("public"), name, []byte(wrapped)}
}

// wrapRecords is what a vault can hold: a has been wrapped anew twice, b was made under a second platform key.
func wrapRecords() []*vaultRecord {
	public := AccountKey{1, []byte("public"), "", nil}
	return []*vaultRecord{
		{kind: vaultAccount, id: "a", key: testKey(PlatformKey, "a under the first")},
		{kind: vaultEpoch, id: "a", epoch: 1, sealed: []byte("epoch")},
		{kind: vaultPlatform, key: AccountKey{Key: "platform-2"}},
		{kind: vaultWrap, id: "a", key: testKey("platform-2", "a under the second")},
		{kind: vaultWrap, id: "b", key: testKey("platform-2", "b under the second")},
		{kind: vaultAccount, id: "b", key: public},
		{kind: vaultEpoch, id: "b", epoch: 1, sealed: []byte("epoch")},
		{kind: vaultWrap, id: "a", key: testKey("platform-3", "a under the third")},
	}
}

func wantAccount(t *testing.T, v *Vault, id mail.AccountID, want AccountKey) {
	t.Helper()
	if k, ok, err := v.Account(id); err != nil || !ok || !reflect.DeepEqual(k, want) {
		t.Fatalf("account %s: %+v, %v, %v; want %+v", id, k, ok, err, want)
	}
}

// TestVaultRewrap: the latest wrapping holds, through opening anew and erasing, after which the others are gone from the file.
func TestVaultRewrap(t *testing.T) {
	v, path := newVault(t, durable.OS{})
	first, second, third := testKey(PlatformKey, "a under the first"), testKey("platform-2", "a under the second"), testKey("platform-3", "a under the third")
	if err := v.PutAccount("a", first); err != nil {
		t.Fatal(err)
	}
	if v.Platform() != PlatformKey || v.Stale() {
		t.Error("a new vault is not under the first key, or stale")
	}
	if err := v.SetPlatform("platform-2"); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap("a", first, second); err != nil {
		t.Fatal(err)
	}
	if err := v.Rewrap("a", first, third); mail.KindOf(err) != mail.Exists {
		t.Errorf("wrapped anew from what it was before: %v", err)
	}
	if err := v.Rewrap("nobody", first, second); mail.KindOf(err) != mail.NotFound {
		t.Errorf("an account without keys: %v", err)
	}
	if err := v.Rewrap("a", second, AccountKey{1, []byte("other"), "platform-3", []byte("x")}); mail.KindOf(err) != mail.Internal {
		t.Errorf("with another public key: %v", err)
	}
	b := testKey("platform-2", "b under the second")
	if err := v.PutAccount("b", b); err != nil {
		t.Fatal(err)
	}
	if err := v.PutAccount("c", testKey(PlatformKey, "c")); !errors.Is(err, ErrPlatformChanged) {
		t.Errorf("an account under the key of before: %v", err)
	}
	if err := v.PutAccount("b", b); mail.KindOf(err) != mail.Exists {
		t.Errorf("a second key pair: %v", err)
	}
	reopen := func() {
		t.Helper()
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		var err error
		if v, err = OpenVault(durable.OS{}, path, testStore); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	wantAccount(t, v, "a", second)
	wantAccount(t, v, "b", b)
	if v.Platform() != "platform-2" || !v.Stale() {
		t.Errorf("under %s, stale %v", v.Platform(), v.Stale())
	}
	if err := v.Rewrap("a", second, third); err != nil {
		t.Fatal(err)
	}
	if n := v.Wraps(); len(n) != 2 || n["platform-2"] != 1 || n["platform-3"] != 1 {
		t.Errorf("accounts under each: %v", n)
	}
	if list := v.NotUnder("platform-2"); len(list) != 1 || list[0] != "a" {
		t.Errorf("not under the second: %v", list)
	}
	if err := v.Erase(nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wantAccount(t, v, "a", third)
		wantAccount(t, v, "b", b)
		if v.Platform() != "platform-2" || v.Stale() {
			t.Errorf("written anew: under %s, stale %v", v.Platform(), v.Stale())
		}
		reopen()
	}
	file, err := os.ReadFile(path)
	if err != nil || bytes.Contains(file, first.Wrapped) || bytes.Contains(file, second.Wrapped) || !bytes.Contains(file, third.Wrapped) || !bytes.Contains(file, b.Wrapped) {
		t.Error("the file has what was replaced, or not what replaced it")
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVaultNewAccountTorn: wherever the records of a new account under a later key are torn, it is there with its key or not at all, and can be made.
func TestVaultNewAccountTorn(t *testing.T) {
	v, path := newVault(t, durable.OS{})
	if err := v.SetPlatform("platform-2"); err != nil {
		t.Fatal(err)
	}
	before := v.size
	if err := v.PutAccount("a", testKey("platform-2", "torn")); err != nil {
		t.Fatal(err)
	}
	_ = v.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := before; n < int64(len(whole)); n++ {
		for _, fresh := range []AccountKey{testKey(PlatformKey, "first"), testKey("platform-2", "again")} {
			if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
				t.Fatal(err)
			}
			v, err := OpenVault(durable.OS{}, path, testStore)
			if err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			if _, ok, err := v.Account("a"); ok || err != nil {
				t.Fatalf("cut at %d: half an account is there (%v)", n, err)
			}
			if err := v.SetPlatform(fresh.Key); err != nil {
				t.Fatal(err)
			}
			if err := v.PutAccount("a", fresh); err != nil {
				t.Fatalf("cut at %d: %v", n, err)
			}
			wantAccount(t, v, "a", fresh)
			if err := v.Erase(nil); err != nil {
				t.Fatal(err)
			}
			_ = v.Close()
			if v, err = OpenVault(durable.OS{}, path, testStore); err != nil {
				t.Fatal(err)
			}
			wantAccount(t, v, "a", fresh)
			_ = v.Close()
		}
	}
}

// TestVaultRewrittenSpoilt: of a file that was written anew every spoilt bit is noticed, or, in its last record, cut off.
func TestVaultRewrittenSpoilt(t *testing.T) {
	v, path := newVault(t, durable.OS{})
	if err := v.PutAccount("a", testKey(PlatformKey, "first")); err != nil {
		t.Fatal(err)
	}
	for n := uint32(1); n <= 3; n++ {
		if err := v.PutEpoch("a", n, []byte("epoch")); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Rewrap("a", testKey(PlatformKey, "first"), testKey("platform-2", "second")); err != nil {
		t.Fatal(err)
	}
	if err := v.SetPlatform("platform-2"); err != nil {
		t.Fatal(err)
	}
	if err := v.Erase(map[mail.AccountID][]uint32{"a": {2}}); err != nil {
		t.Fatal(err)
	}
	last := v.size - int64(len((&vaultRecord{kind: vaultPlatform, key: AccountKey{Key: "platform-2"}}).encode(0, 0)))
	_ = v.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for n := range 8 * len(whole) {
		b := bytes.Clone(whole)
		b[n/8] ^= 1 << (n % 8)
		if _, err := f.WriteAt(b, 0); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVault(durable.OS{}, path, testStore)
		if int64(n/8) < last != (err != nil) {
			t.Fatalf("bit %d of octet %d: %v", n%8, n/8, err)
		}
		if err == nil {
			wantAccount(t, v, "a", testKey("platform-2", "second"))
			_ = v.Close()
		}
	}
}

// vaultOfVersion1 is a vault as version 1 wrote it.
func vaultOfVersion1(t testing.TB) []byte {
	t.Helper()
	b := vaultHeader(testStore)
	binary.LittleEndian.PutUint32(b[8:], 1)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	seed, version, err := checkVaultHeader(b, testStore)
	if err != nil || version != 1 {
		t.Fatal(version, err)
	}
	for i := range 5 {
		id := mail.AccountID(fmt.Sprint("account ", i))
		for _, r := range []*vaultRecord{
			{kind: vaultAccount, id: id, key: testKey(PlatformKey, string(id))},
			{kind: vaultEpoch, id: id, epoch: 1, sealed: []byte("epoch")},
			{kind: vaultFloor, id: id, epoch: 7},
		} {
			b = append(b, r.encode(seed, int64(len(b)))...)
		}
	}
	return b
}

// TestVaultUpgrade: a vault of version 1 becomes one of version 2 with the same in it, whatever fails on the way.
func TestVaultUpgrade(t *testing.T) {
	old := vaultOfVersion1(t)
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 0; n < 20; n++ {
			fsys := faultfs.New()
			path := filepath.Join(t.TempDir(), "vault")
			if err := os.WriteFile(path, old, 0o600); err != nil {
				t.Fatal(err)
			}
			fsys.FailAt(n, mode)
			v, err := OpenVault(fsys, path, testStore)
			fsys.FailAt(0, mode)
			if err != nil {
				if n == 0 {
					t.Fatal(err)
				}
				if v, err = OpenVault(fsys, path, testStore); err != nil {
					t.Fatalf("operation %d, mode %d: %v", n, mode, err)
				}
			}
			for i := range 5 {
				id := mail.AccountID(fmt.Sprint("account ", i))
				wantAccount(t, v, id, testKey(PlatformKey, string(id)))
				if !v.HasEpoch(id, 1) || v.LastEpoch(id) != 7 {
					t.Fatalf("operation %d, mode %d: epochs of %s are lost", n, mode, id)
				}
			}
			if err := v.PutEpoch("account 0", 8, []byte("epoch")); err != nil {
				t.Fatal(err)
			}
			_ = v.Close()
			b, err := os.ReadFile(path)
			if err != nil || binary.LittleEndian.Uint32(b[8:]) != 2 {
				t.Fatalf("operation %d, mode %d: it is of version %d (%v)", n, mode, b[8], err)
			}
		}
	}
	newer := vaultHeader(testStore)
	binary.LittleEndian.PutUint32(newer[8:], vaultVersion+1)
	path := filepath.Join(t.TempDir(), "vault")
	if err := os.WriteFile(path, newer, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenVault(durable.OS{}, path, testStore); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("a newer version: %v", err)
	}
}

// TestVaultRewrapFaults makes every operation fail: an acknowledged wrapping holds, and none is without.
func TestVaultRewrapFaults(t *testing.T) {
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 1; n < 25; n++ {
			fsys := faultfs.New()
			v, path := newVault(t, fsys)
			first, second := testKey(PlatformKey, "first"), testKey("platform-2", "second")
			if err := v.PutAccount("a", first); err != nil {
				t.Fatal(err)
			}
			fsys.FailAt(n, mode)
			named := v.SetPlatform("platform-2") == nil
			wrapped := v.Rewrap("a", first, second) == nil
			made := v.PutAccount("b", testKey(v.Platform(), "b")) == nil
			erased := v.Erase(nil) == nil
			_ = v.Close()
			fsys.FailAt(0, mode)
			v, err := OpenVault(fsys, path, testStore)
			if err != nil {
				t.Fatalf("operation %d, mode %d: %v", n, mode, err)
			}
			k, ok, err := v.Account("a")
			if err != nil || !ok || wrapped && !reflect.DeepEqual(k, second) || !reflect.DeepEqual(k, first) && !reflect.DeepEqual(k, second) {
				t.Fatalf("operation %d, mode %d: %+v, %v", n, mode, k, err)
			}
			if named && v.Platform() != "platform-2" || wrapped && erased && v.Stale() {
				t.Errorf("operation %d, mode %d: under %s, stale %v", n, mode, v.Platform(), v.Stale())
			}
			if _, ok, err := v.Account("b"); err != nil || made && !ok {
				t.Errorf("operation %d, mode %d: an account is lost: %v", n, mode, err)
			}
			_ = v.Close()
		}
	}
}

// TestRewrap: what a second key wraps opens without the first.
func TestRewrap(t *testing.T) {
	ctx := context.Background()
	f, _ := newFileStore(t)
	if err := f.Generate(Mail, "platform-2", KindAES256); err != nil {
		t.Fatal(err)
	}
	k, err := NewAccountKey(ctx, f, PlatformKey, "a", func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.SealEpoch("a", 1, bytes.Repeat([]byte{7}, 32))
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := k.Rewrap(ctx, f, "platform-2", "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Rewrap(ctx, f, "platform-3", "a"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("under a key that is not there: %v", err)
	}
	if err := f.Retire(Mail, PlatformKey); err != nil {
		t.Fatal(err)
	}
	p, err := fresh.Open(ctx, f, "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.OpenEpoch(1, sealed); err != nil {
		t.Error(err)
	}
	if _, err := k.Open(ctx, f, "a"); mail.KindOf(err) != mail.NotFound || !bytes.Contains([]byte(err.Error()), []byte("mail/platform")) ||
		!bytes.Contains([]byte(err.Error()), []byte("keys unretire")) {
		t.Errorf("under the key that was retired: %v", err)
	}
	list, err := f.List(Mail)
	if err != nil || len(list) != 2 || !list[1].Retired {
		t.Fatalf("%+v, %v", list, err)
	}
	retired := list[1].Name
	for name, kind := range map[string]mail.Kind{"platform-2": mail.Invalid, "retired x": mail.Invalid, "retired x ../y": mail.Invalid, "retired x other": mail.NotFound} {
		if err := f.Unretire(Mail, name); mail.KindOf(err) != kind {
			t.Errorf("%q comes back: %v", name, err)
		}
	}
	if err := f.Unretire(Mail, retired); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(ctx, f, "a"); err != nil {
		t.Errorf("under the key that was brought back: %v", err)
	}
	if err := f.Retire(Mail, PlatformKey); err != nil {
		t.Fatal(err)
	}
	if err := f.Generate(Mail, PlatformKey, KindAES256); err != nil {
		t.Fatal(err)
	}
	if list, err = f.List(Mail); err != nil || !list[2].Retired {
		t.Fatalf("%+v, %v", list, err)
	}
	if err := f.Unretire(Mail, list[2].Name); mail.KindOf(err) != mail.Exists {
		t.Errorf("in the place of another: %v", err)
	}
	other := fresh
	other.Public = []byte("other")
	if _, err := other.Open(ctx, f, "a"); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("a private key that is not that of the public one: %v", err)
	}
}
