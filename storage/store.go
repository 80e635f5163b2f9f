// Package storage is the mailbox store: messages, mailboxes, flags and mod-sequences, encrypted at rest, in one
// durable act per acceptance.
package storage

import (
	"context"
	"io"
	"log/slog"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// Options say where a store is and what it works with. The zero value of everything but Dir and Keys is the default.
type Options struct {
	Dir  string
	Keys keys.Keystore
	Log  *slog.Logger
	Now  func() time.Time // the clock; time.Now
	Rand io.Reader        // randomness for keys; crypto/rand

	// Fatal is called once, from a goroutine of its own, when a write or flush has failed in such a way that nothing
	// can be acknowledged any more. The program should stop and be started again.
	Fatal func(error)

	EpochAge      time.Duration // an account's epoch key is used no longer than this; 1 hour
	EpochMessages int           // nor for more messages than this; 10,000
	SegmentBytes  int64         // a segment file is closed when it is as long as this; 256 MiB
}

// Store is an open mailbox store. All methods may be called concurrently.
type Store struct{}

var errSoon = mail.E(mail.Unsupported, "", nil)

// Open opens the store in o.Dir and makes it if the directory is absent or empty.
func Open(ctx context.Context, o Options) (*Store, error) { return nil, errSoon }

// Close writes out what is pending and closes the store.
func (s *Store) Close() error { return errSoon }

// Check verifies every invariant; deep also opens every body.
func (s *Store) Check(ctx context.Context, deep bool) (*Report, error) { return nil, errSoon }

// Ready is nil while the store acknowledges, else the failure.
func (s *Store) Ready() error { return errSoon }

// EnsureAccount makes the account, its keys and its first mailboxes, if it is not there.
func (s *Store) EnsureAccount(ctx context.Context, id mail.AccountID) error { return errSoon }

// Deliver returns when everything of d is durable and visible to readers.
func (s *Store) Deliver(ctx context.Context, d Delivery) ([]Placed, error) { return nil, errSoon }

// LabelOf is the labels remembered for these Message-IDs in the account, "" where there is none.
func (s *Store) LabelOf(ctx context.Context, id mail.AccountID, messageIDs []string) ([]mail.Label, error) {
	return nil, errSoon
}

// OpenAccount unwraps the account's private key, which stays in memory until every handle is closed.
func (s *Store) OpenAccount(ctx context.Context, id mail.AccountID) (*Account, error) {
	return nil, errSoon
}
