package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// inTheClear is a group of officers whose parts are not encrypted: package escrow's tests have real ones.
func inTheClear(t testing.TB, k int, uids ...string) *escrow.Group {
	t.Helper()
	var list []escrow.Officer
	for i, uid := range uids {
		list = append(list, escrow.Officer{UID: uid, Certificate: [32]byte{byte(i + 1)}, Seal: func(plain []byte) ([]byte, error) { return bytes.Clone(plain), nil }})
	}
	g, err := escrow.NewGroup(k, list)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// secretOf is what the first k officers have together.
func secretOf(t testing.TB, s *Store, id mail.AccountID) []byte {
	t.Helper()
	e, err := s.Escrow(id)
	if err != nil {
		t.Fatal(err)
	}
	var list []shares.Share
	for _, p := range e.Parts[:e.Threshold()] {
		share, err := shares.ParseShare(string(p))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, share)
	}
	secret, err := e.Open(list)
	if err != nil {
		t.Fatal(err)
	}
	return secret
}

// noMail is a keystore whose mail slot cannot be used.
type noMail struct{ keys.Keystore }

func (noMail) Unwrap(context.Context, keys.Slot, string, []byte, []byte) ([]byte, error) {
	return nil, errors.New("sealed")
}

func deliverTo(t testing.TB, s *Store, id mail.AccountID, subject string) {
	t.Helper()
	if err := s.EnsureAccount(t.Context(), id, "works.gov.example"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Deliver(t.Context(), Delivery{Bodies: []Body{body(testMessage(subject, "text"), NewEntry{Account: id})}}); err != nil {
		t.Fatal(err)
	}
}

// readWith reads the only message of an account with what the officers have.
func readWith(t testing.TB, s *Store, id mail.AccountID, secret []byte) []byte {
	t.Helper()
	a, err := s.OpenAccountSecret(t.Context(), id, secret)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	m, err := a.Open(t.Context(), Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	return readAll(t, m, 1)
}

func TestEscrow(t *testing.T) {
	ctx := t.Context()
	g := inTheClear(t, 2, "secoff1", "secoff2", "secoff3")
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseEvery: -1, Escrow: g}
	s := mustOpen(t, o)
	deliverTo(t, s, alice, "one")
	deliverTo(t, s, bob, "two")
	if r, err := s.EscrowReport(ctx); err != nil || r != (EscrowReport{Group: g, Accounts: 2, Covered: 2}) {
		t.Errorf("%+v %v", r, err)
	}
	checkClean(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	locked := o
	locked.Keys = noMail{o.Keys}
	s = mustOpen(t, locked)
	if _, err := s.OpenAccount(ctx, alice); err == nil {
		t.Error("the account opens without the platform key")
	}
	if got := readWith(t, s, alice, secretOf(t, s, alice)); !bytes.Contains(got, []byte("Subject: one")) {
		t.Errorf("%q", got)
	}
	if _, err := s.OpenAccountSecret(ctx, alice, secretOf(t, s, bob)); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("another account's key: %v", err)
	}
	if _, err := s.OpenAccountSecret(ctx, "nobody", secretOf(t, s, bob)); mail.KindOf(err) != mail.NotFound {
		t.Errorf("nobody's: %v", err)
	}
	// Beside its owner, too.
	secret := secretOf(t, s, alice)
	a, err := s.OpenAccountSecret(ctx, alice, secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.OpenAccountSecret(ctx, alice, secretOf(t, s, bob)); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("another account's key for an open account: %v", err)
	}
	readWith(t, s, alice, secret)
	a.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestCoverLater(t *testing.T) {
	ctx := t.Context()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseEvery: -1}
	s := mustOpen(t, o)
	deliverTo(t, s, alice, "one")
	deliverTo(t, s, bob, "two")
	if r, err := s.EscrowReport(ctx); err != nil || r != (EscrowReport{Accounts: 2}) {
		t.Errorf("%+v %v", r, err)
	}
	if _, err := s.Uncovered(); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("without officers: %v", err)
	}
	if _, err := os.Stat(filepath.Join(o.Dir, EscrowFile)); err == nil {
		t.Error("there is a file without officers")
	}
	for round, g := range []*escrow.Group{inTheClear(t, 2, "secoff1", "secoff2"), inTheClear(t, 2, "secoff2", "secoff3", "secoff4")} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		o.Escrow = g
		s = mustOpen(t, o)
		list, err := s.Uncovered()
		if err != nil || len(list) != 2 {
			t.Fatalf("%v %v", list, err)
		}
		if err := s.CoverAccount(ctx, alice); err != nil {
			t.Fatal(err)
		}
		if r, err := s.EscrowReport(ctx); err != nil || r != (EscrowReport{Group: g, Accounts: 2, Covered: 1, Former: round}) {
			t.Errorf("%+v %v", r, err)
		}
		if list, err := s.Uncovered(); err != nil || len(list) != 1 || list[0] != bob {
			t.Fatalf("%v %v", list, err)
		}
		if err := errors.Join(s.CoverAccount(ctx, bob), s.TidyEscrow()); err != nil {
			t.Fatal(err)
		}
		for _, id := range []mail.AccountID{alice, bob} {
			e, err := s.Escrow(id)
			if err != nil || e.Group.ID != g.ID {
				t.Errorf("%+v %v", e, err)
			}
			readWith(t, s, id, secretOf(t, s, id))
		}
	}
	data, err := os.ReadFile(filepath.Join(o.Dir, EscrowFile))
	if err != nil || bytes.Contains(data, []byte("secoff1")) {
		t.Errorf("former officers have parts in the file: %v", err)
	}
	if err := s.CoverAccount(ctx, "nobody"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("nobody's: %v", err)
	}
	var copied bytes.Buffer
	if err := s.BackupEscrow(ctx, &copied); err != nil || !bytes.Equal(copied.Bytes(), data) {
		t.Errorf("the backup differs: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	// What is damaged is named, and can be covered again.
	data[100] ^= 1
	if err := os.WriteFile(filepath.Join(o.Dir, EscrowFile), data, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer s.Close()
	list, err := s.Uncovered()
	if r, rerr := s.EscrowReport(ctx); rerr != nil || r.Spoilt != 1 || err != nil || len(list) != 1 {
		t.Errorf("%+v %v %v %v", r, list, err, rerr)
	}
	if err := s.CoverAccount(ctx, list[0]); err != nil {
		t.Fatal(err)
	}
	readWith(t, s, list[0], secretOf(t, s, list[0]))
}

// TestEscrowFirst makes every step of an account's first delivery, and of covering, fail, and cuts the power: whatever stays, no account has a key that
// the officers do not have, once it was covered.
func TestEscrowFirst(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	g, fresh := inTheClear(t, 2, "secoff1", "secoff2"), inTheClear(t, 2, "secoff3", "secoff4")
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done} {
		for n := 1; n < 14; n++ {
			fsys := faultfs.New()
			o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseEvery: -1, Reserve: -1, Escrow: g, FS: fsys}
			s := mustOpen(t, o)
			deliverTo(t, s, bob, "two")
			fsys.FailAt(n, mode)
			_ = s.EnsureAccount(t.Context(), alice, "works.gov.example")
			s.o.Escrow = fresh
			_ = s.CoverAccount(t.Context(), bob)
			_ = s.TidyEscrow()
			fsys.FailAt(0, mode)
			_ = s.Close()
			cut := filepath.Join(t.TempDir(), "cut")
			if err := fsys.PowerCut(rnd, o.Dir, cut); err != nil {
				t.Fatal(err)
			}
			for _, dir := range []string{o.Dir, cut} {
				o.Dir, o.FS = dir, nil
				s := mustOpen(t, o)
				for _, id := range s.Accounts() {
					k, err := s.accountKey(id)
					if err == nil {
						_, err = k.OpenSecret(id, secretOf(t, s, id))
					}
					if err != nil {
						t.Errorf("operation %d, mode %d, %s: %s: %v", n, mode, filepath.Base(dir), id, err)
					}
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func BenchmarkEscrowNewAccount(b *testing.B) {
	for name, g := range map[string]*escrow.Group{"without": nil, "3 officers": inTheClear(b, 2, "a", "b", "c")} {
		b.Run(name, func(b *testing.B) {
			s := mustOpen(b, Options{Dir: filepath.Join(b.TempDir(), "store"), Keys: newKeys(b), HouseEvery: -1, Escrow: g})
			defer s.Close()
			i := 0
			for b.Loop() {
				i++
				if err := s.EnsureAccount(b.Context(), mail.AccountID(fmt.Sprintf("%036d", i)), "works.gov.example"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestEraseEscrow: an account that is erased cannot be opened by officers either, with an old copy of the mail in hand.
func TestEraseEscrow(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseEvery: -1, Escrow: inTheClear(t, 2, "secoff1", "secoff2")}
	s := mustOpen(t, o)
	defer s.Close()
	deliverTo(t, s, alice, "one")
	deliverTo(t, s, bob, "two")
	before, err := s.Escrow(alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.EraseAccount(t.Context(), alice); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(o.Dir, EscrowFile))
	if err != nil || bytes.Contains(data, before.Parts[0]) {
		t.Errorf("the file has what was erased: %v", err)
	}
	readWith(t, s, bob, secretOf(t, s, bob))
	deliverTo(t, s, alice, "new")
	if now, err := s.Escrow(alice); err != nil || now.SetID() == before.SetID() {
		t.Errorf("the new key is not kept: %v", err)
	}
	checkClean(t, s)
}

// erasing is a keystore that calls a function once after it has opened an account.
type erasing struct {
	keys.Keystore
	then func()
}

func (k *erasing) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	b, err := k.Keystore.Unwrap(ctx, slot, name, sealed, aad)
	if then := k.then; then != nil {
		k.then = nil
		then()
	}
	return b, err
}

// TestEscrowErasedMeanwhile: a key that was erased while it was about to be covered is not in escrow afterwards.
func TestEscrowErasedMeanwhile(t *testing.T) {
	ks := &erasing{Keystore: newKeys(t)}
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, HouseEvery: -1, Escrow: inTheClear(t, 2, "secoff1", "secoff2")})
	defer func() { _ = s.Close() }()
	deliverTo(t, s, alice, "one")
	old := secretOf(t, s, alice)
	ks.then = func() {
		if err := s.EraseAccount(t.Context(), alice); err != nil {
			t.Error(err)
		}
	}
	if err := s.CoverAccount(t.Context(), alice); err == nil {
		t.Error("covered")
	}
	if e, err := s.Escrow(alice); err == nil && bytes.Equal(secretOf(t, s, alice), old) {
		t.Errorf("the key that was erased is in escrow: %v", e.Account)
	}
}

// TestEscrowTidyMeanwhile: accounts that are made while what former officers had is removed are covered.
func TestEscrowTidyMeanwhile(t *testing.T) {
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), HouseEvery: -1, Escrow: inTheClear(t, 2, "secoff1", "secoff2")})
	defer func() { _ = s.Close() }()
	made := make(chan error)
	go func() {
		var err error
		for i := 0; i < 60 && err == nil; i++ {
			err = s.EnsureAccount(context.Background(), accountNo(i), "")
		}
		made <- err
	}()
	for more := true; more; {
		select {
		case err := <-made:
			if err != nil {
				t.Error(err)
			}
			more = false
		default:
			if err := s.TidyEscrow(); err != nil {
				t.Error(err)
			}
		}
	}
	if list, err := s.Uncovered(); err != nil || len(list) > 0 {
		t.Errorf("%d accounts are not covered, %v", len(list), err)
	}
}
