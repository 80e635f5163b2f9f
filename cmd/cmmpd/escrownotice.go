package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/intake"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/mail"
)

// noticeEvery is how often openings of which owners are to be told are looked for.
const noticeEvery = time.Minute

// tellOwners asks for a look at once. It does not wait.
func (p *platform) tellOwners() {
	select {
	case p.opened <- struct{}{}:
	default:
	}
}

// watchEscrow tells owners of openings, when their time has come, and wipes what officers have brought, until ctx is done.
func (p *platform) watchEscrow(ctx context.Context) {
	tick := time.NewTicker(noticeEvery)
	defer tick.Stop()
	for {
		p.desk.Wipe()
		for _, n := range p.desk.Due() {
			if err := p.tellOwner(ctx, n); err != nil && ctx.Err() == nil {
				p.log.Warn("an owner could not be told that their account was opened; it will be tried again", "request", n.ID, "err", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.opened:
		}
	}
}

// tellOwner tells those whose accounts were opened. A notice has the same Message-ID whenever it is tried, and is not brought to an account that has
// had it: so nobody gets it twice when we are cut off between bringing it and noting that. Nobody can know it before, and send mail with it so that the
// notice seems to have come.
func (p *platform) tellOwner(ctx context.Context, n cases.Notice) error {
	accounts := []mail.AccountID{n.AccountID}
	if n.All() {
		accounts = p.store.Accounts()
	}
	act, err := p.audit.Begin(ctx, audit.Event{Type: audit.EscrowNotice, Subject: n.Account, Approval: n.Case, Detail: map[string]string{"request": n.ID}})
	if err != nil {
		return err
	}
	var errs []error
	secret, err := p.keystore.Derive(ctx, keys.Service, "store", fmt.Appendf(nil, "cmmpd escrow notice 1 %s %d", n.ID, n.Index))
	if err != nil {
		accounts, errs = nil, []error{err}
	}
	id := fmt.Sprintf("escrow.%x@%s", secret, p.cfg.Server.Hostname)
	for _, account := range accounts {
		if err := p.tellOne(ctx, n, account, id); err != nil && len(errs) < 10 {
			errs = append(errs, fmt.Errorf("account %s: %w", account, err))
		}
	}
	err = errors.Join(errs...)
	if err == nil {
		err = p.desk.Told(n)
	}
	return errors.Join(act.End(context.WithoutCancel(ctx), err), err)
}

// tellOne tells one owner. One who is not in the directory any more cannot be told.
func (p *platform) tellOne(ctx context.Context, n cases.Notice, account mail.AccountID, id string) error {
	if known, err := p.store.Knows(ctx, account, id); err != nil || known {
		return err
	}
	o := n.Openings[n.Index]
	err := p.intake.TellOpened(ctx, intake.Opened{
		Account: account, MessageID: id, At: o.At, Case: n.Case, Requester: n.Requester, Export: o.What == cases.Export,
		Contact: mail.Address{Local: "postmaster", Domain: p.cfg.Domains.Local[0]},
	})
	if mail.KindOf(err) == mail.NotFound && err != nil {
		p.log.Warn("the owner of an account that was opened is not in the directory", "request", n.ID, "account", string(account))
		return nil
	}
	return err
}
