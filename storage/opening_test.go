package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// onRead is a source of random bytes that calls a function before it gives the next ones, once.
type onRead struct{ next atomic.Pointer[func()] }

func (r *onRead) Read(b []byte) (int, error) {
	if f := r.next.Swap(nil); f != nil {
		(*f)()
	}
	return rand.Read(b)
}

// TestOpeningHoldsNobodyUp: while the keystore takes its time to open an account, mail for the account is taken that got its epoch before, and with it
// everybody's: acts are made one after the other.
func TestOpeningHoldsNobodyUp(t *testing.T) {
	ctx := context.Background()
	ks, rnd := &hookedKeys{Manager: newKeys(t).(keys.Manager)}, new(onRead)
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, Rand: rnd, HouseEvery: -1})
	defer func() { _ = s.Close() }()
	deliver := func() {
		t.Helper()
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("m", "text"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	deliver() // now there is an epoch
	opening, delivered, opened := make(chan struct{}), make(chan struct{}), make(chan error)
	ks.opens = func(context.Context, string) error {
		close(opening)
		select {
		case <-delivered:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("test: an act waits for the keystore")
		}
	}
	open := func() {
		go func() {
			a, err := s.OpenAccount(ctx, alice)
			if err == nil {
				err = a.Close()
			}
			opened <- err
		}()
		<-opening
	}
	defer s.Watch(func(mail.AccountID) { close(delivered) })() // the act is done; who delivered gives the epoch back when the account is open
	rnd.next.Store(&open)                                      // when the message is sealed, and not in the index yet
	deliver()
	if err := <-opened; err != nil {
		t.Error(err)
	}
}
