package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/search"
)

// neighbours is a store in which alice has n messages, sealed under one epoch or few.
func neighbours(t *testing.T, o Options, n int) *Store {
	t.Helper()
	s := mustOpen(t, o)
	for i := range n {
		data := testMessage(fmt.Sprint("m", i), "text")
		if _, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(data, NewEntry{Account: alice, Flags: []string{fmt.Sprint("Word", i%3)}})}}); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// expungeUIDs removes messages from INBOX.
func expungeUIDs(t *testing.T, s *Store, id mail.AccountID, uids imap.UIDSet) {
	t.Helper()
	ctx := context.Background()
	a, err := s.OpenAccount(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if _, _, err := m.StoreFlags(ctx, uids, AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Expunge(ctx, nil); err != nil {
		t.Fatal(err)
	}
}

// subjects is what can be read in INBOX, in order.
func subjects(t *testing.T, s *Store, id mail.AccountID) (list []string) {
	t.Helper()
	ctx := context.Background()
	a, err := s.OpenAccount(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	msgs, _ := m.Snapshot()
	for _, msg := range msgs {
		sum, err := m.Summary(ctx, msg.UID)
		if err != nil {
			list = append(list, mail.KindOf(err).String())
			continue
		}
		if !bytes.Contains(readAll(t, m, msg.UID), []byte("\r\n\r\ntext\r\n")) {
			t.Errorf("UID %d has another body", msg.UID)
		}
		list = append(list, sum.Index.Root.Envelope.Subject)
	}
	return list
}

// openable is the secrets of the store's index, by their sealed form, that some key in its vault opens.
func openable(t *testing.T, s *Store, id mail.AccountID) map[string]bool {
	t.Helper()
	a, err := s.acquire(context.Background(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer s.release(a)
	if err := a.unlock(context.Background()); err != nil {
		t.Fatal(err)
	}
	defer a.lock()
	open := make(map[string]bool)
	if err := s.scan(keyOf(keySecret, a.no()), func(k, v []byte) error {
		r, err := decodeSecret(v)
		if err != nil {
			return err
		}
		k[0] = keyEntry
		e, err := s.kv.Get(k)
		if err != nil {
			return err
		}
		entry, err := decodeEntry(e)
		if err != nil {
			return err
		}
		for _, epoch := range s.vault.Epochs(id) { // whatever it says it is sealed under
			w, err := a.opened(epoch)
			if err != nil {
				return err
			}
			if plain, err := w.Unwrap(r.blob, entryAAD(s.id, id, entry.body)); err == nil && len(plain) >= keySize {
				open[string(r.blob)] = true
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return open
}

// TestDispose: of messages that shared an epoch, those that were expunged cannot be opened with an old copy of the mail and today's vault, by any key in it;
// those that were not can be read in the store, and, with what goes with the vault's backup, in a restored old copy.
func TestDispose(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseRate: -1, HouseEvery: -1}
	s := neighbours(t, o, 10)
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Create(ctx, "Old name", ""), a.Subscribe(ctx, "Old name", true), a.Rename(ctx, "Old name", "New name"), a.Close()); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	if n := len(s.vault.Epochs(alice)); n != 1 {
		t.Fatalf("%d epochs: nothing has neighbours", n)
	}
	before := openable(t, s, alice)
	expungeUIDs(t, s, alice, imap.UIDSetNum(2, 3, 7))
	r, err := s.Dispose(ctx)
	if err != nil || r.Epochs != 1 || r.Waiting != 0 || slices.Contains(s.vault.Epochs(alice), 1) {
		t.Fatalf("%+v, %v, epochs %v", r, err, s.vault.Epochs(alice))
	}
	want := []string{"m0", "m3", "m4", "m5", "m7", "m8", "m9"}
	if got := subjects(t, s, alice); !slices.Equal(got, want) {
		t.Errorf("%v are left, want %v", got, want)
	}
	checkClean(t, s)
	if r, err := s.Dispose(ctx); err != nil || r.Epochs != 0 {
		t.Errorf("once more: %+v, %v", r, err)
	}
	var carried bytes.Buffer
	done, err := s.BackupCarried(ctx, &carried)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Dispose(ctx); mail.KindOf(err) != mail.Busy {
		t.Errorf("keys are erased while the vault is backed up: %v", err)
	}
	vault, err := os.Create(filepath.Join(old, VaultFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.BackupVault(ctx, vault), vault.Close()); err != nil {
		t.Fatal(err)
	}
	done()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	o.Dir = old
	s = mustOpen(t, o)
	after := openable(t, s, alice)
	if len(before) != 10 || len(after) != 0 {
		t.Fatalf("of an old copy %d keys could be opened before, %d can today", len(before), len(after))
	}
	if err := os.WriteFile(filepath.Join(old, CarriedFile), carried.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	if got := subjects(t, s, alice); !slices.Equal(got, want) {
		t.Errorf("%v are in the restored copy, want %v", got, want)
	}
	if a, err = s.OpenAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	list, err := a.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, info := range list {
		if strings.HasPrefix(info.Name, "Restored") || info.Name == "Old name" && info.Exists {
			t.Errorf("mailbox %+v", info)
		}
	}
	_ = a.Close()
	checkClean(t, s)
	if _, err := os.Stat(filepath.Join(old, CarriedFile)); err == nil {
		t.Error("what the restore needed is still there")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDisposeAgain: what was sealed again is disposed of, too, without its neighbours being harmed; names that were given up go.
func TestDisposeAgain(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 7, HouseRate: -1, HouseEvery: -1, act: 2}
	s := neighbours(t, o, 30)
	defer func() { _ = s.Close() }()
	for uid := uint32(1); uid <= 29; uid++ {
		expungeUIDs(t, s, alice, imap.UIDSetNum(imap.UID(uid)))
		before := s.vault.Epochs(alice)
		if _, err := s.Dispose(ctx); err != nil {
			t.Fatal(err)
		}
		if known, err := s.epochsOf(1); err != nil || slices.ContainsFunc(before, func(e uint32) bool { return known[e].tainted }) {
			t.Fatalf("tainted epochs are left: %+v, %v", known, err)
		}
		if got := subjects(t, s, alice); len(got) != 30-int(uid) || got[0] != fmt.Sprint("m", uid) {
			t.Fatalf("%v are left after the expunge of %d", got, uid)
		}
		checkClean(t, s)
	}
	if n := len(s.vault.Epochs(alice)); n > 8 {
		t.Errorf("%d epochs are left for one message", n)
	}
}

// sealable is a keystore whose mail slot can be sealed.
type sealable struct {
	keys.Keystore
	sealed bool
}

func (k *sealable) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	if k.sealed && slot == keys.Mail {
		return nil, fmt.Errorf("test: %w", keys.ErrSealed)
	}
	return k.Keystore.Unwrap(ctx, slot, name, sealed, aad)
}

// TestDisposeSealed: while the platform is sealed disposal waits, and what needs no account's key is done all the same.
func TestDisposeSealed(t *testing.T) {
	ctx := context.Background()
	ks := &sealable{Keystore: newKeys(t)}
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, HouseRate: -1, HouseEvery: -1}
	s := neighbours(t, o, 4)
	defer func() { _ = s.Close() }()
	half(t, s, 1)
	expungeUIDs(t, s, alice, imap.UIDSetNum(2))
	ks.sealed = true
	if r, err := s.Dispose(ctx); err != nil || r.Waiting != 1 || r.Epochs != 0 || s.Housekeeping().Waiting != 1 {
		t.Errorf("%+v, %v, %+v", r, err, s.Housekeeping())
	}
	ks.sealed = false
	if r, err := s.Dispose(ctx); err != nil || r.Waiting != 0 || r.Epochs == 0 || s.Housekeeping().Waiting != 0 {
		t.Errorf("%+v, %v, %+v", r, err, s.Housekeeping())
	}
	checkClean(t, s)
}

// TestDisposeGoesPast: an account whose key cannot be opened, now or ever, keeps no other waiting. What is opened is opened for disposal, not as for its owner.
func TestDisposeGoesPast(t *testing.T) {
	ctx := context.Background()
	ks := &hookedKeys{Manager: newKeys(t).(keys.Manager)}
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, HouseRate: -1, HouseEvery: -1})
	defer func() { _ = s.Close() }()
	list := []mail.AccountID{"a", "b", "c", "d", "e"}
	for _, id := range list {
		for i := range 3 {
			if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(fmt.Sprint("m", i), "text"), NewEntry{Account: id})}}); err != nil {
				t.Fatal(err)
			}
		}
		expungeUIDs(t, s, id, imap.UIDSetNum(2))
	}
	lack := map[string]error{
		"b": mail.E(mail.Corrupt, "", errors.New("test: damaged")), "c": keys.ErrTooMany, "d": mail.E(mail.NotFound, "", errors.New("test: no such key")),
	}
	ks.opens = func(ctx context.Context, account string) error {
		if p := keys.Purpose(ctx); p == "" {
			t.Errorf("the account %s is opened as for its owner", account)
		}
		return lack[account]
	}
	if r, err := s.Dispose(ctx); err != nil || r.Waiting != 3 || r.Epochs == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	lack = nil
	if r, err := s.Dispose(ctx); err != nil || r.Waiting != 0 || r.Epochs == 0 {
		t.Errorf("%+v, %v", r, err)
	}
	ks.opens = nil
	for _, id := range list {
		if got := subjects(t, s, id); !slices.Equal(got, []string{"m0", "m2"}) {
			t.Errorf("%s: %v", id, got)
		}
	}
	checkClean(t, s)
}

// TestDisposeSearch: a file of the search index has an epoch of its own, whose key goes with the file; no message is sealed under it.
func TestDisposeSearch(t *testing.T) {
	ctx := context.Background()
	o := searchStore(t)
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	fill(t, a, Inbox, 0, 60)
	if got := counts(t, openBox(t, a, Inbox), search.AllFields, "seventh3", true); got[2] != 0 {
		t.Fatalf("not indexed: %v", got)
	}
	names := files(t, o)
	if len(names) == 0 {
		t.Fatal("no file of the search index")
	}
	used, err := s.usedEpochs(ctx, a.a.no(), &pace{rate: -1})
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[uint32]bool)
	if err := s.searchEpochs(a.a.no(), of); err != nil || len(of) != len(names) {
		t.Fatalf("%d epochs for %d files, %v", len(of), len(names), err)
	}
	for e := range of {
		if used[e] {
			t.Errorf("epoch %d has a search file and something else", e)
		}
	}
}

// TestDisposeFaults makes every durable step of a disposal fail, in three ways, and loses the power then: nothing that was left can be lost, and the next
// disposal completes it.
func TestDisposeFaults(t *testing.T) {
	ks := newKeys(t)
	options := func(dir string, fsys *faultfs.FS) Options {
		return Options{Dir: dir, Keys: ks, FS: fsys, HouseRate: -1, HouseEvery: -1, EpochMessages: 5}
	}
	run := func(n int, mode faultfs.Mode) (done bool) {
		dir, cut := filepath.Join(t.TempDir(), "store"), t.TempDir()
		fsys := faultfs.New()
		s := neighbours(t, options(dir, fsys), 8)
		expungeUIDs(t, s, alice, imap.UIDSetNum(2, 6))
		fsys.FailAt(n, mode)
		_, _ = s.Dispose(context.Background())
		done = fsys.Count() < n
		copyIndex(t, s, cut)
		if err := fsys.PowerCut(rand.New(rand.NewPCG(uint64(n), uint64(mode))), dir, cut); err != nil {
			t.Fatal(err)
		}
		_ = s.Close() // fails if it has stopped
		s = mustOpen(t, options(cut, faultfs.New()))
		defer func() { _ = s.Close() }()
		want := []string{"m0", "m2", "m3", "m4", "m6", "m7"}
		for range 2 {
			if got := subjects(t, s, alice); !slices.Equal(got, want) {
				t.Fatalf("operation %d, mode %d: %v are left, want %v", n, mode, got, want)
			}
			checkClean(t, s)
			if _, err := s.Dispose(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		if known, err := s.epochsOf(1); err != nil || slices.ContainsFunc(s.vault.Epochs(alice), func(e uint32) bool { return known[e].tainted }) {
			t.Fatalf("operation %d, mode %d: %+v, epochs %v, %v", n, mode, known, s.vault.Epochs(alice), err)
		}
		return done
	}
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		n := 1
		for ; !run(n, mode); n++ {
			if n > 100 || t.Failed() {
				t.Fatal("the disposal has no end")
			}
		}
		if n < 6 {
			t.Errorf("a disposal is %d operations: this test looks past it", n)
		}
	}
}

// TestDisposeWhileReading reads, moves and delivers while messages are disposed of.
func TestDisposeWhileReading(t *testing.T) {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 6, HouseRate: -1, HouseEvery: -1}
	s := neighbours(t, o, 40)
	defer func() { _ = s.Close() }()
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	var wg sync.WaitGroup
	over := make(chan struct{})
	reading := func(f func(*Mailbox) error) {
		wg.Go(func() {
			m, err := a.Open(ctx, Inbox)
			if err != nil {
				t.Error(err)
				return
			}
			defer m.Close()
			for {
				select {
				case <-over:
					return
				default:
				}
				if err := f(m); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	reading(func(m *Mailbox) error {
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			if _, err := m.Summary(ctx, msg.UID); err != nil && !errors.Is(err, errGone) {
				return err
			}
		}
		return nil
	})
	reading(func(*Mailbox) error {
		_, err := a.List(ctx)
		return err
	})
	reading(func(m *Mailbox) error {
		_, err := m.Move(ctx, imap.UIDSet{{Start: 30, Stop: 0}}, Inbox)
		return err
	})
	for i := range 12 {
		expungeUIDs(t, s, alice, imap.UIDSetNum(imap.UID(2*i+1)))
		if _, err := s.Dispose(ctx); err != nil {
			t.Fatal(err)
		}
		data := testMessage(fmt.Sprint("n", i), "text")
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	close(over)
	wg.Wait()
	if r := checkClean(t, s); r.Entries != 40 {
		t.Errorf("%+v", r)
	}
}

// FuzzCarried: whatever the file holds, it is read whole or refused.
func FuzzCarried(f *testing.F) {
	var store blob.StoreID
	var b bytes.Buffer
	head := append([]byte(carriedMagic), carriedVersion, 0, 0, 0)
	b.Write(append(head, store[:]...))
	f.Add(b.Bytes())
	f.Fuzz(func(_ *testing.T, in []byte) {
		_ = readCarried(bytes.NewReader(in), store, func(*carriedThings) error { return nil })
	})
}

// TestEraseAccount: nothing of an account can be opened any more, in an old copy of the mail neither; what it shared with others, they can read.
func TestEraseAccount(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseRate: -1, HouseEvery: -1}
	s := neighbours(t, o, 5)
	data := testMessage("shared", "text")
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice}, NewEntry{Account: bob})}}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.EraseAccount(ctx, alice); mail.KindOf(err) != mail.Busy {
		t.Errorf("an account that is open was erased: %v", err)
	}
	_ = a.Close()
	if err := s.EraseAccount(ctx, "33333333-3333-4333-8333-333333333333"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("an account that is not there was erased: %v", err)
	}
	if err := s.EraseAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	if a, b := subjects(t, s, alice), subjects(t, s, bob); len(a) != 0 || !slices.Equal(b, []string{"shared"}) {
		t.Errorf("alice has %v, bob has %v", a, b)
	}
	checkClean(t, s)
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("new", "text"), NewEntry{Account: alice})}}); err != nil {
		t.Fatal(err)
	}
	if got := subjects(t, s, alice); !slices.Equal(got, []string{"new"}) {
		t.Errorf("alice has %v", got)
	}
	checkClean(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	vault, err := os.ReadFile(filepath.Join(o.Dir, VaultFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, VaultFile), vault, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = old
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if a, b := openable(t, s, alice), openable(t, s, bob); len(a) != 0 || len(b) != 1 {
		t.Errorf("of an old copy %d keys of alice and %d of bob can be opened", len(a), len(b))
	}
}
