package main

import (
	"context"
	"crypto"
	"errors"
	"io"
	"log/slog"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// guardedKeys counts every use of a key that is not made in memory, and puts the opening of accounts on record and within bounds.
//
// An account that is opened for anybody but its owner (keys.Purpose) is opened only when that is on record, and the outcome is put on record, too. For
// its owner it is recorded or counted: nobody could log in otherwise when the audit log's disk is full.
type guardedKeys struct {
	keys.Slots
	meter *meter
	audit *audit.Log // nil until it is open
	rate  *keys.Rate // of what keyd does not bound; nil: it does
	now   func() time.Time
	log   *slog.Logger
}

// Wrap satisfies keys.Keystore.
func (g *guardedKeys) Wrap(ctx context.Context, slot keys.Slot, name string, plain, aad []byte) ([]byte, error) {
	b, err := g.Slots.Wrap(ctx, slot, name, plain, aad)
	g.meter.keyUses.Inc(string(slot), "wrap", outcome(err, "ok"))
	return b, err
}

// Unwrap satisfies keys.Keystore.
func (g *guardedKeys) Unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) ([]byte, error) {
	if slot != keys.Mail || g.audit == nil {
		return g.unwrap(ctx, slot, name, sealed, aad)
	}
	account, purpose := keys.AccountOf(aad), keys.Purpose(ctx)
	if purpose == "" {
		b, err := g.unwrap(ctx, slot, name, sealed, aad)
		if errors.Is(err, keys.ErrSealed) {
			return nil, err
		}
		e := audit.Event{Type: audit.KeyUnwrap, Subject: account, Outcome: "ok"}
		if err != nil {
			e.Outcome = mail.KindOf(err).String()
		}
		g.audit.Note(e)
		return b, err
	}
	act, err := g.audit.Begin(ctx, audit.Event{Type: audit.AccountOpen, Subject: account, Detail: map[string]string{"for": purpose, "key": name}})
	if err != nil {
		return nil, mail.E(mail.Unavailable, "the audit log cannot be written, so nothing was done", err)
	}
	b, err := g.unwrap(ctx, slot, name, sealed, aad)
	if aerr := act.End(context.WithoutCancel(ctx), err); aerr != nil {
		clear(b)
		return nil, mail.E(mail.Unavailable, "the act may have been done, but its outcome could not be put on record", errors.Join(aerr, err))
	}
	return b, err
}

// unwrap unwraps, within bounds, and counts.
func (g *guardedKeys) unwrap(ctx context.Context, slot keys.Slot, name string, sealed, aad []byte) (b []byte, err error) {
	if slot == keys.Mail && g.rate != nil && !g.rate.Take(g.now()) {
		err = keys.ErrTooMany
	} else {
		b, err = g.Slots.Unwrap(ctx, slot, name, sealed, aad)
	}
	g.meter.keyUses.Inc(string(slot), "unwrap", outcome(err, "ok"))
	if err != nil && slot == keys.Mail && (mail.KindOf(err) == mail.NotFound || mail.KindOf(err) == mail.Corrupt) {
		g.log.Error("an account's mail cannot be read: its key does not open; if the key that it is under was retired, cmmpd keys unretire brings it back",
			"account", keys.AccountOf(aad), "key", string(slot)+"/"+name, "err", err)
	}
	return b, err
}

// Derive satisfies keys.Keystore.
func (g *guardedKeys) Derive(ctx context.Context, slot keys.Slot, name string, info []byte) ([]byte, error) {
	b, err := g.Slots.Derive(ctx, slot, name, info)
	g.meter.keyUses.Inc(string(slot), "derive", outcome(err, "ok"))
	return b, err
}

// Signer satisfies keys.Keystore.
func (g *guardedKeys) Signer(ctx context.Context, slot keys.Slot, name string) (crypto.Signer, error) {
	s, err := g.Slots.Signer(ctx, slot, name)
	if err != nil {
		return nil, err
	}
	return countedSigner{s, g.meter, string(slot)}, nil
}

// countedSigner counts signatures.
type countedSigner struct {
	crypto.Signer
	meter *meter
	slot  string
}

// Sign satisfies crypto.Signer.
func (s countedSigner) Sign(rand io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	sig, err := s.Signer.Sign(rand, digest, o)
	s.meter.keyUses.Inc(s.slot, "sign", outcome(err, "ok"))
	return sig, err
}
