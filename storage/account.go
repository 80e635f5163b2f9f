package storage

import (
	"context"

	"cmmpd/internal/mail"
)

// Account is a handle on an account whose mail may be read.
type Account struct{ id mail.AccountID }

// Close gives the handle back.
func (a *Account) Close() error { return errSoon }

// ID is the account's.
func (a *Account) ID() mail.AccountID { return a.id }

// List is all mailboxes and subscriptions, by name, INBOX first.
func (a *Account) List(ctx context.Context) ([]MailboxInfo, error) { return nil, errSoon }

// Create makes a mailbox and what is missing of its parents. specialUse may be "".
func (a *Account) Create(ctx context.Context, name, specialUse string) error { return errSoon }

// Delete deletes a mailbox.
func (a *Account) Delete(ctx context.Context, name string) error { return errSoon }

// Rename renames a mailbox and its children.
func (a *Account) Rename(ctx context.Context, from, to string) error { return errSoon }

// Subscribe adds or removes a subscription.
func (a *Account) Subscribe(ctx context.Context, name string, on bool) error { return errSoon }

// Status is the mailbox's counters.
func (a *Account) Status(ctx context.Context, name string) (Status, error) {
	return Status{}, errSoon
}

// Open opens a mailbox.
func (a *Account) Open(ctx context.Context, name string) (*Mailbox, error) { return nil, errSoon }

// Append adds messages to a mailbox, all or none.
func (a *Account) Append(ctx context.Context, mailbox string, msgs []Append) ([]Placed, error) {
	return nil, errSoon
}
