package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// hookedKeys calls a function before each wrapping and unwrapping in the slot mail.
type hookedKeys struct {
	keys.Manager
	wrap, unwrap func(name string) error
	opens        func(ctx context.Context, account string) error
}

func (h *hookedKeys) Wrap(ctx context.Context, slot keys.Slot, name string, plain, aad []byte) ([]byte, error) {
	if slot == keys.Mail && h.wrap != nil {
		if err := h.wrap(name); err != nil {
			return nil, err
		}
	}
	return h.Manager.Wrap(ctx, slot, name, plain, aad)
}

func (h *hookedKeys) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	if slot == keys.Mail && h.unwrap != nil {
		if err := h.unwrap(name); err != nil {
			return nil, err
		}
	}
	if slot == keys.Mail && h.opens != nil {
		if err := h.opens(ctx, keys.AccountOf(aad)); err != nil {
			return nil, err
		}
	}
	return h.Manager.Unwrap(ctx, slot, name, sealed, aad)
}

func accountNo(i int) mail.AccountID {
	return mail.AccountID(fmt.Sprintf("%08d-1111-4111-8111-111111111111", i))
}

// side runs acts of one sort until it is stopped, which says how many there were.
func side(t *testing.T, act func(n int) error) (stop func() int) {
	var wg sync.WaitGroup
	var ended atomic.Bool
	n := 0
	wg.Go(func() {
		for ; !ended.Load() || n == 0; n++ {
			if err := act(n); err != nil {
				t.Error(err)
				return
			}
		}
	})
	return func() int {
		ended.Store(true)
		wg.Wait()
		return n
	}
}

// TestRewrapUnderLoad: a new platform key takes the place of the old one under 1,000 accounts, while mail is delivered and read and accounts are
// made, none of which fails; it is interrupted as by a crash, and goes on. Then the old key can be retired and nothing is left of what it opens.
func TestRewrapUnderLoad(t *testing.T) {
	count := 1000
	if testing.Short() {
		count = 100
	}
	ctx := context.Background()
	dir, ks := filepath.Join(t.TempDir(), "store"), &hookedKeys{Manager: newKeys(t).(keys.Manager)}
	o := Options{Dir: dir, Keys: ks, HouseEvery: -1, RewrapRate: -1}
	s := mustOpen(t, o)
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for i := g; i < count; i += 16 {
				m := body(testMessage(fmt.Sprint("first ", i), "text"), NewEntry{Account: accountNo(i), Mailbox: "INBOX"})
				if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{m}}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := ks.Generate(keys.Mail, "platform-2", keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPlatformKey(ctx, "platform-3"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("a key that is not there: %v", err)
	}
	before := s.vault.Wraps()
	if err := s.SetPlatformKey(ctx, "platform-2"); err != nil || before[keys.PlatformKey] != count {
		t.Fatal(before, err)
	}

	delivering := side(t, func(n int) error {
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(fmt.Sprint("more ", n), "text"), NewEntry{Account: accountNo(n * 7 % count), Mailbox: "INBOX"})}})
		return err
	})
	reading := side(t, func(n int) error {
		a, err := s.OpenAccount(ctx, accountNo(n*11%count))
		if err != nil {
			return err
		}
		defer a.Close()
		m, err := a.Open(ctx, "INBOX")
		if err != nil {
			return err
		}
		defer m.Close()
		readAll(t, m, 1)
		return nil
	})
	making := side(t, func(n int) error { return s.EnsureAccount(ctx, accountNo(count+n), "") })

	half, interrupt := context.WithCancel(ctx)
	var wrapped atomic.Int32
	ks.wrap = func(name string) error {
		if name == "platform-2" && wrapped.Add(1) == int32(count/2) {
			interrupt()
		}
		return nil
	}
	err := s.RewrapAll(half)
	if err == nil || half.Err() == nil {
		t.Fatalf("it was not interrupted: %v", err)
	}
	p := s.PlatformKeys()
	if p.Waiting() == 0 || p.Under["platform-2"] == 0 || !p.Needed(keys.PlatformKey) {
		t.Fatalf("half way: %+v", p)
	}
	t.Logf("interrupted with %d accounts to go", p.Waiting())
	crashed := filepath.Join(t.TempDir(), "crashed")
	if err := os.MkdirAll(crashed, 0o700); err != nil {
		t.Fatal(err)
	}
	vault, err := os.ReadFile(filepath.Join(dir, vaultFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RewrapAll(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("meanwhile %d messages were delivered, %d accounts read, %d made", delivering(), reading(), making())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// The vault as a crash in the middle left it, with the mail as it is: what is missing are epochs of later, not accounts' keys.
	copyTree(t, dir, crashed)
	if err := os.WriteFile(filepath.Join(crashed, vaultFile), vault, 0o600); err != nil {
		t.Fatal(err)
	}
	id, _, err := openFormat(Defaults().FS, crashed)
	if err != nil {
		t.Fatal(err)
	}
	v, err := keys.OpenVault(Defaults().FS, filepath.Join(crashed, vaultFile), id)
	if err != nil {
		t.Fatal(err)
	}
	if v.Platform() != "platform-2" || len(v.NotUnder("platform-2")) == 0 {
		t.Errorf("after a crash %s is the key and %d accounts are to go", v.Platform(), len(v.NotUnder("platform-2")))
	}
	for i := range count {
		k, ok, err := v.Account(accountNo(i))
		if err == nil && ok {
			_, err = k.Open(ctx, ks, accountNo(i))
		}
		if err != nil || !ok {
			t.Fatalf("after a crash account %d cannot be opened: %v", i, err)
		}
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}

	s = mustOpen(t, o)
	defer s.Close()
	if p := s.PlatformKeys(); p.Waiting() != 0 || p.Stale || p.Current != "platform-2" || p.Needed(keys.PlatformKey) || p.Waits != nil {
		t.Fatalf("after all: %+v", p)
	}
	if err := ks.Retire(keys.Mail, keys.PlatformKey); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
}

// TestRewrapWaits: while the keystore cannot answer nothing is lost and it is said why nothing goes on; an account whose key is damaged does not hold
// up the others.
func TestRewrapWaits(t *testing.T) {
	ctx := context.Background()
	ks := &hookedKeys{Manager: newKeys(t).(keys.Manager)}
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, HouseEvery: -1, RewrapRate: -1})
	defer s.Close()
	for i := range 3 {
		if err := s.EnsureAccount(ctx, accountNo(i), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := ks.Generate(keys.Mail, "platform-2", keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	if err := s.SetPlatformKey(ctx, "platform-2"); err != nil {
		t.Fatal(err)
	}
	ks.unwrap = func(string) error { return keys.ErrSealed }
	if err := s.SetPlatformKey(ctx, "platform-2"); err == nil {
		t.Error("a key was taken that cannot be tried")
	}
	if err := s.RewrapAll(ctx); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("while sealed: %v", err)
	}
	if p := s.PlatformKeys(); p.Waits == nil || p.Waiting() != 3 {
		t.Errorf("while sealed: %+v", p)
	}
	ks.unwrap = func(name string) error {
		if name == keys.PlatformKey {
			ks.unwrap = nil
			return mail.E(mail.Corrupt, "", nil)
		}
		return nil
	}
	if err := s.RewrapAll(ctx); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("with a damaged key: %v", err)
	}
	if p := s.PlatformKeys(); p.Waiting() != 1 || !p.Stale || !p.Needed(keys.PlatformKey) {
		t.Errorf("with a damaged key: %+v", p)
	}
	clear(s.rewrap.left)
	if err := s.RewrapAll(ctx); err != nil {
		t.Fatal(err)
	}
	if p := s.PlatformKeys(); p.Waiting() != 0 || p.Stale || p.Waits != nil {
		t.Errorf("at last: %+v", p)
	}
}
