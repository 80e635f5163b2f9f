package main

import (
	"context"
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
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case w := <-p.warnings:
				p.bringWarning(ctx, w)
			}
		}
	}()
	p.onClose(func() error {
		cancel()
		<-done
		return nil
	})
}

func (p *platform) bringWarning(ctx context.Context, w storage.Warning) {
	to := mail.Address{}
	if w.Account == "" {
		if to = p.cfg.Quota.warnTo(w.Department); to.IsZero() {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := p.intake.Warn(ctx, w, to)
	if err != nil && mail.KindOf(err) != mail.Exists { // it was brought already
		p.log.Warn("a warning about a quota could not be brought; it will be tried with the next change", "account", string(w.Account), "department", w.Department, "err", err)
	}
}
