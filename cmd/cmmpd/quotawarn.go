package main

import (
	"context"
	"log/slog"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// maxWarnings is how many warnings wait to be brought. What does not fit comes again with the next change.
const maxWarnings = 256

// warn takes a warning of the store. It never blocks.
func (p *platform) warn(w storage.Warning) {
	select {
	case p.warnings <- w:
	default:
	}
}

// bringWarnings brings the warnings of the store to those whom they concern, one after the other, until the platform closes.
func (p *platform) bringWarnings() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	b := bringer{bring: p.bringWarning, log: p.log, now: time.Now, failed: make(map[warnedOf]time.Time)}
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case w := <-p.warnings:
				b.one(ctx, w)
			}
		}
	}()
	p.onClose(func() error {
		cancel()
		<-done
		return nil
	})
}

// bringWarning brings one. The error is of kind mail.Exists if it was brought already.
func (p *platform) bringWarning(ctx context.Context, w storage.Warning) error {
	to := mail.Address{}
	if w.Account == "" {
		if to = p.cfg.Quota.warnTo(w.Department); to.IsZero() {
			return nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return p.intake.Warn(ctx, w, to)
}

// warnRest is how long a warning that could not be brought rests: the store asks for it with every message.
const warnRest = 10 * time.Minute

// warnedOf is what a warning is about.
type warnedOf struct {
	account    mail.AccountID
	department string
}

// bringer brings warnings. It belongs to one goroutine.
type bringer struct {
	bring  func(context.Context, storage.Warning) error
	log    *slog.Logger
	now    func() time.Time
	failed map[warnedOf]time.Time // when they last could not be brought
}

func (b *bringer) one(ctx context.Context, w storage.Warning) {
	of := warnedOf{w.Account, w.Department}
	if at, ok := b.failed[of]; ok && b.now().Sub(at) < warnRest {
		return
	}
	delete(b.failed, of)
	err := b.bring(ctx, w)
	if err == nil || mail.KindOf(err) == mail.Exists {
		return
	}
	if len(b.failed) >= maxWarnings {
		clear(b.failed)
	}
	b.failed[of] = b.now()
	b.log.Warn("a warning about a quota could not be brought; it will be tried later, with a change", "account", string(w.Account), "department", w.Department, "err", err)
}
