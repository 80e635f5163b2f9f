package keys

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"testing"

	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
)

func newFileStore(t testing.TB) (*FileStore, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "keys")
	f, err := CreateFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	for slot, name := range map[Slot]string{Service: "blind", Mail: PlatformKey} {
		if err := f.Generate(slot, name, KindAES256); err != nil {
			t.Fatal(err)
		}
	}
	return f, dir
}

func TestFileStore(t *testing.T) {
	ctx := context.Background()
	f, dir := newFileStore(t)
	sealed, err := f.Wrap(ctx, Mail, PlatformKey, []byte("secret"), []byte("aad"))
	if err != nil || bytes.Contains(sealed, []byte("secret")) {
		t.Fatal(err)
	}
	derived, err := f.Derive(ctx, Service, "blind", []byte("a"))
	if err != nil || len(derived) != 32 {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Import(Service, "gateway/works.gov.example", key); err != nil {
		t.Fatal(err)
	}
	if err := f.Generate(Service, "audit", KindEd25519); err != nil {
		t.Fatal(err)
	}
	if err := f.Generate(Service, "audit", KindEd25519); mail.KindOf(err) != mail.Exists {
		t.Errorf("a key made twice: %v", err)
	}
	_ = f.Close()
	if _, err := f.Unwrap(ctx, Mail, PlatformKey, sealed, []byte("aad")); err == nil {
		t.Error("a closed keystore answers")
	}
	if f, err = OpenFile(dir); err != nil {
		t.Fatal(err)
	}
	if plain, err := f.Unwrap(ctx, Mail, PlatformKey, sealed, []byte("aad")); err != nil || string(plain) != "secret" {
		t.Errorf("unwrap: %q, %v", plain, err)
	}
	if _, err := f.Unwrap(ctx, Mail, PlatformKey, sealed, []byte("other")); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("unwrap with other additional data: %v", err)
	}
	if again, err := f.Derive(ctx, Service, "blind", []byte("a")); err != nil || !bytes.Equal(again, derived) {
		t.Errorf("derive again: %v", err)
	}
	if other, err := f.Derive(ctx, Service, "blind", []byte("b")); err != nil || bytes.Equal(other, derived) {
		t.Errorf("derive for another purpose: %v", err)
	}
	s, err := f.Signer(ctx, Service, "gateway/works.gov.example")
	if err != nil || !s.Public().(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Fatalf("signer: %v", err)
	}
	digest := sha256.Sum256([]byte("x"))
	if sig, err := s.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
		t.Errorf("signature: %v", err)
	}
	if s, err = f.Signer(ctx, Service, "audit"); err != nil || len(s.Public().(ed25519.PublicKey)) != 32 {
		t.Errorf("audit signer: %v", err)
	}
	for _, c := range []struct {
		slot Slot
		name string
		want mail.Kind
	}{{Service, "nobody", mail.NotFound}, {Mail, PlatformKey, mail.Invalid}, {"other", "audit", mail.Invalid}, {Service, "../mail/platform", mail.Invalid}, {Service, "a/../../mail/platform", mail.NotFound}} {
		if _, err := f.Signer(ctx, c.slot, c.name); mail.KindOf(err) != c.want {
			t.Errorf("%s/%s: %v, want %v", c.slot, c.name, err, c.want)
		}
	}
}

func TestFileStoreRefusesOpenFiles(t *testing.T) {
	f, dir := newFileStore(t)
	if err := os.Chmod(f.path(Mail, PlatformKey), 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wrap(context.Background(), Mail, PlatformKey, nil, nil); mail.KindOf(err) != mail.Denied {
		t.Errorf("a key that the group can read: %v", err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenFile(dir); mail.KindOf(err) != mail.Denied {
		t.Errorf("a directory that everybody can read: %v", err)
	}
}

func TestLadder(t *testing.T) {
	ctx := context.Background()
	f, _ := newFileStore(t)
	k, err := NewAccountKey(ctx, f, PlatformKey, "a", func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	epoch := bytes.Repeat([]byte{7}, 32)
	sealed, err := k.SealEpoch("a", 3, epoch)
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.Open(ctx, f, "a")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := p.OpenEpoch(3, sealed); err != nil || !bytes.Equal(got, epoch) {
		t.Errorf("epoch key: %v", err)
	}
	if _, err := p.OpenEpoch(4, sealed); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("as another epoch's: %v", err)
	}
	if _, err := k.Open(ctx, f, "b"); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("as another account's: %v", err)
	}
}

var testStore = [16]byte{1, 2, 3}

func newVault(t testing.TB, fsys durable.FS) (*Vault, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vault")
	if err := CreateVault(fsys, path, testStore); err != nil {
		t.Fatal(err)
	}
	v, err := OpenVault(fsys, path, testStore)
	if err != nil {
		t.Fatal(err)
	}
	return v, path
}

func TestVault(t *testing.T) {
	v, path := newVault(t, durable.OS{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			id := mail.AccountID(fmt.Sprint("account ", i))
			if err := v.PutAccount(id, AccountKey{1, []byte("public"), PlatformKey, []byte(id)}); err != nil {
				t.Error(err)
			}
			for n := uint32(1); n <= 50; n++ {
				if err := v.PutEpoch(id, n, fmt.Appendf(nil, "epoch %d of %s", n, id)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	id := mail.AccountID("account 3")
	if err := v.PutAccount(id, AccountKey{1, []byte("p"), PlatformKey, []byte("w")}); mail.KindOf(err) != mail.Exists {
		t.Errorf("a second key pair: %v", err)
	}
	if err := v.Erase(map[mail.AccountID][]uint32{id: {2, 50}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if b, err := v.Epoch(id, 3); err != nil || string(b) != "epoch 3 of account 3" {
			t.Errorf("epoch: %q, %v", b, err)
		}
		if _, err := v.Epoch(id, 2); mail.KindOf(err) != mail.NotFound || v.HasEpoch(id, 50) || v.LastEpoch(id) != 50 {
			t.Errorf("an erased epoch: %v, last is %d", err, v.LastEpoch(id))
		}
		if k, ok, err := v.Account("account 7"); err != nil || !ok || string(k.Wrapped) != "account 7" {
			t.Errorf("account: %+v %v", k, err)
		}
		_ = v.Close()
		var err error
		if v, err = OpenVault(durable.OS{}, path, testStore); err != nil {
			t.Fatal(err)
		}
	}
	_ = v.Close()
	b, err := os.ReadFile(path)
	if err != nil || bytes.Contains(b, []byte("epoch 2 of account 3")) || !bytes.Contains(b, []byte("epoch 2 of account 4")) {
		t.Error("the file still holds what was erased, or not what was not")
	}
	if _, err := OpenVault(durable.OS{}, path, [16]byte{9}); err == nil {
		t.Error("the vault of another store was opened")
	}
}

// TestVaultTail: a torn tail is cut off, damage before it is noticed.
func TestVaultTail(t *testing.T) {
	v, path := newVault(t, durable.OS{})
	var ends []int64
	for n := uint32(1); n <= 3; n++ {
		if n == 1 {
			if err := v.PutAccount("a", AccountKey{1, []byte("p"), PlatformKey, []byte("w")}); err != nil {
				t.Fatal(err)
			}
		}
		if err := v.PutEpoch("a", n, []byte("epoch")); err != nil {
			t.Fatal(err)
		}
		ends = append(ends, v.size)
	}
	_ = v.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	try := func(b []byte) (uint32, error) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVault(durable.OS{}, path, testStore)
		if err != nil {
			return 0, err
		}
		return v.LastEpoch("a"), v.Close()
	}
	for n := ends[0]; n < ends[2]; n++ {
		want := uint32(1)
		if n >= ends[1] {
			want = 2
		}
		if got, err := try(whole[:n]); err != nil || got != want {
			t.Fatalf("cut at %d: last epoch %d, want %d, %v", n, got, want, err)
		}
	}
	for n := range whole {
		b := bytes.Clone(whole)
		b[n] ^= 1
		if got, err := try(b); int64(n) < ends[1] && err == nil || int64(n) >= ends[1] && (err != nil || got != 2) {
			t.Fatalf("spoilt at %d: %d, %v", n, got, err)
		}
	}
}

// TestVaultFaults makes every operation fail: what was acknowledged is there, and after a failed flush nothing more is.
func TestVaultFaults(t *testing.T) {
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n := 1; n < 30; n++ {
			fsys := faultfs.New()
			v, path := newVault(t, fsys)
			fsys.FailAt(n, mode)
			acked, erased := uint32(0), false
			if err := v.PutAccount("a", AccountKey{1, []byte("p"), PlatformKey, []byte("w")}); err == nil {
				for e := uint32(1); e <= 3; e++ {
					if v.PutEpoch("a", v.LastEpoch("a")+1, []byte("epoch")) == nil {
						acked = v.LastEpoch("a")
					}
				}
				erased = v.Erase(map[mail.AccountID][]uint32{"a": {1}}) == nil
				if v.PutEpoch("a", v.LastEpoch("a")+1, []byte("epoch")) == nil {
					acked = v.LastEpoch("a")
				}
			}
			_ = v.Close()
			fsys.FailAt(0, mode)
			v, err := OpenVault(fsys, path, testStore)
			if err != nil {
				t.Fatalf("operation %d, mode %d: %v", n, mode, err)
			}
			if acked > 0 && !v.HasEpoch("a", acked) || v.LastEpoch("a") < acked || erased && v.HasEpoch("a", 1) {
				t.Errorf("operation %d, mode %d: epoch %d is lost, or an erased one is back", n, mode, acked)
			}
			_ = v.Close()
		}
	}
}

func FuzzVaultRecord(f *testing.F) {
	for _, r := range []*vaultRecord{
		{kind: vaultAccount, id: "a", key: AccountKey{1, []byte("p"), PlatformKey, []byte("w")}},
		{kind: vaultEpoch, id: "a", epoch: 3, sealed: []byte("s")},
		{kind: vaultFloor, id: "a", epoch: 3},
		{kind: vaultAccount, id: "a", key: AccountKey{1, []byte("p"), PlatformKey, nil}},
		{kind: vaultWrap, id: "a", key: AccountKey{0, nil, "platform-2", []byte("w")}},
		{kind: vaultPlatform, key: AccountKey{Key: "platform-2"}},
	} {
		f.Add(r.encode(7, 64), uint32(7))
		f.Add(r.payload(), uint32(r.kind))
	}
	f.Fuzz(func(t *testing.T, b []byte, seed uint32) {
		if r, n, err := decodeVaultRecord(b, seed); err == nil {
			_, synced, _, _, _ := decodeVaultHead(b, seed)
			if !bytes.Equal(r.encode(seed, synced), b[:n]) {
				t.Fatalf("%x is written again otherwise", b[:n])
			}
		}
		if kind := vaultKind(seed); kind >= vaultAccount && kind <= vaultPlatform {
			if r, err := decodeVaultPayload(kind, b); err == nil && !bytes.Equal(r.payload(), b) {
				t.Fatalf("%x is written again otherwise", b)
			}
		}
	})
}

func FuzzVaultOpen(f *testing.F) {
	f.Add([]byte{})
	seed, _, err := checkVaultHeader(vaultHeader(testStore), testStore)
	if err != nil {
		f.Fatal(err)
	}
	var b []byte
	for _, r := range wrapRecords() {
		b = append(b, r.encode(seed, 0)...)
	}
	f.Add(b)
	path := filepath.Join(f.TempDir(), "vault")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, append(vaultHeader(testStore), b...), 0o600); err != nil {
			t.Fatal(err)
		}
		v, err := OpenVault(durable.OS{}, path, testStore)
		if err != nil {
			return
		}
		e := v.LastEpoch("a")
		if err := v.PutEpoch("a", e+1, []byte("x")); err == nil && !v.HasEpoch("a", e+1) {
			t.Fatal("what was put is not there")
		}
		k, ok, err := v.Account("a")
		if err != nil {
			t.Skip() // wrapped, it is nowhere
		}
		if err := v.Erase(nil); err != nil || v.Stale() {
			t.Fatalf("erase: %v, stale %v", err, v.Stale())
		}
		again, there, err := v.Account("a")
		if err != nil || there != ok || !reflect.DeepEqual(k, again) || v.LastEpoch("a") < e {
			t.Fatalf("written anew: %+v, not %+v (%v)", again, k, err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
