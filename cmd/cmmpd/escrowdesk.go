package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmmpd/internal/admin"
	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// casesFile is the name, in the store's folder, of what was asked of the officers.
const casesFile = "escrow-requests"

// openEscrow opens the desk at which accounts are opened by officers, and tells owners of openings until the platform closes.
func (p *platform) openEscrow(ctx context.Context) error {
	key, err := p.keystore.Derive(ctx, keys.Service, "store", []byte("cmmpd escrow requests 1"))
	if err != nil {
		return fmt.Errorf("escrow: %w", err)
	}
	defer clear(key)
	w, err := keys.NewWrapper(key)
	if err != nil {
		return err
	}
	aad := []byte("cmmpd escrow requests 1 " + p.store.ID())
	p.desk, err = cases.New(cases.Options{
		FS: durable.OS{}, Path: filepath.Join(p.cfg.Store.Path, casesFile), Envelope: p.store.Escrow, Hold: time.Duration(p.cfg.Escrow.Hold), Now: time.Now,
		Seal: func(b []byte) ([]byte, error) { return w.Wrap(rand.Reader, nil, b, aad) },
		Open: func(b []byte) ([]byte, error) { return w.Unwrap(b, aad) },
	})
	if err != nil {
		return err
	}
	p.onClose(p.desk.Close)
	return nil
}

// escrowActs does the acts of admin.Escrow.
type escrowActs struct{ *platform }

func (p escrowActs) Case(id string) (cases.View, error) { return p.desk.Get(id) }

func (p escrowActs) RequestRoles() []string { return p.cfg.Escrow.RequestRoles }

// Do satisfies admin.Escrow.
func (p escrowActs) Do(ctx context.Context, act admin.EscrowAct, uid string, q admin.EscrowQuery, in io.Reader, out io.Writer, note func(name, value string)) error {
	answer := func(v any, err error) error {
		if err != nil {
			return err
		}
		return json.NewEncoder(out).Encode(v)
	}
	switch act {
	case admin.EscrowStatus:
		return answer(p.escrowStatus(ctx))
	case admin.EscrowCover:
		return p.coverAll(ctx, out, note)
	case admin.EscrowRequest:
		return answer(p.escrowRequest(ctx, uid, q.Request, note))
	case admin.EscrowList:
		return answer(p.desk.List(), nil)
	case admin.EscrowShare:
		n, err := p.desk.Part(q.ID, uid, p.store.Accounts, out)
		note("accounts", strconv.Itoa(n))
		return err
	case admin.EscrowApprove:
		have, n, err := p.desk.Approve(q.ID, uid, in)
		note("officers", strconv.Itoa(have))
		note("accounts", strconv.Itoa(n))
		if err != nil {
			return err
		}
		return answer(p.desk.Get(q.ID))
	case admin.EscrowRefuse:
		note("reason", q.Why)
		return p.desk.End(q.ID, "refused by "+uid)
	case admin.EscrowClose:
		return p.desk.End(q.ID, "closed by "+uid)
	case admin.EscrowExport:
		return p.escrowExport(ctx, uid, q.ID, out, note)
	case admin.EscrowRecover:
		return p.escrowRecover(ctx, uid, q.ID, out, note)
	}
	return mail.E(mail.Unsupported, "there is no such act", nil)
}

// escrowStatus says whose keys are kept, as "cmmpd escrow status" shows it.
type escrowStatus struct {
	Configured bool     `json:"configured"`
	Threshold  int      `json:"threshold"`
	Officers   []string `json:"officers"`
	Accounts   int      `json:"accounts"`
	Covered    int      `json:"covered"`
	Former     int      `json:"former"`  // kept for former officers only
	Damaged    int      `json:"damaged"` // places in the file
	Warnings   []string `json:"warnings"`
}

func (p *platform) escrowStatus(ctx context.Context) (escrowStatus, error) {
	r, err := p.store.EscrowReport(ctx)
	s := escrowStatus{Accounts: r.Accounts, Covered: r.Covered, Former: r.Former, Damaged: r.Spoilt, Officers: []string{}, Warnings: p.escrowWarnings(ctx)}
	if r.Group != nil {
		s.Configured, s.Threshold = true, r.Group.Threshold
		for _, o := range r.Group.Officers {
			s.Officers = append(s.Officers, o.UID)
		}
	}
	return s, err
}

// escrowWarnings is what is not as it should be: for health, check and status.
func (p *platform) escrowWarnings(ctx context.Context) []string {
	list := p.cfg.Escrow.warnings(time.Now())
	if p.cfg.Escrow.group == nil {
		return list
	}
	r, err := p.store.EscrowReport(ctx)
	switch n := r.Accounts - r.Covered; {
	case err != nil:
		list = append(list, "escrow: "+err.Error())
	case n > 0:
		list = append(list, fmt.Sprintf("escrow: the officers do not keep the keys of %d of %d accounts: cmmpd escrow cover", n, r.Accounts))
	}
	return list
}

// progressEvery is how often somebody who waits hears how far it is.
const progressEvery = 500

// coverAll has the officers keep every key that they do not keep yet. It can be interrupted and begun again; while it runs all else goes on.
func (p *platform) coverAll(ctx context.Context, out io.Writer, note func(name, value string)) error {
	list, err := p.store.Uncovered()
	if err != nil {
		return err
	}
	covered, failed := 0, 0
	var first error
	for i, id := range list {
		err := p.patiently(ctx, func() error { return p.store.CoverAccount(ctx, id) })
		if ctx.Err() != nil || p.store.Ready() != nil || err != nil && mail.KindOf(err).Temporary() {
			first = errors.Join(err, ctx.Err())
			break
		}
		if err != nil {
			failed++
			if first == nil {
				first = err
			}
			continue
		}
		covered++
		if (i+1)%progressEvery == 0 {
			fmt.Fprintf(out, "%d of %d\n", i+1, len(list))
		}
	}
	note("covered", strconv.Itoa(covered))
	note("failed", strconv.Itoa(failed))
	if first != nil {
		return fmt.Errorf("%d of %d accounts covered; the first that was not: %w", covered, len(list), first)
	}
	if err := p.store.TidyEscrow(); err != nil {
		return fmt.Errorf("all accounts are covered, but what former officers keep is still there: %w", err)
	}
	fmt.Fprintf(out, "covered %d; the officers keep the keys of all %d accounts\n", covered, len(p.store.Accounts()))
	return nil
}

// patiently runs f, and again after a pause while too much is asked of the keystore.
func (p *platform) patiently(ctx context.Context, f func() error) error {
	for {
		err := f()
		if mail.KindOf(err) != mail.Busy || err == nil {
			return err
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

// escrowRequest takes a request.
func (p *platform) escrowRequest(ctx context.Context, uid string, r cases.Request, note func(name, value string)) (cases.View, error) {
	r.Requester, r.AccountID = uid, ""
	if r.Account != "" {
		e, err := p.dir.ByUID(ctx, r.Account)
		if err != nil {
			return cases.View{}, err
		}
		r.AccountID = e.Account
		if r.AccountID == "" {
			return cases.View{}, mail.E(mail.Invalid, r.Account+" has no mailbox", nil)
		}
	}
	if len(r.Certificate) > 0 {
		c, err := trust.ParseCertificate(r.Certificate)
		if err == nil {
			err = encryptable(c, p.cfg.SMIME.MinRSABits)
		}
		if err != nil {
			return cases.View{}, mail.E(mail.Invalid, "this certificate cannot be used", err)
		}
		note("certificate", fingerprint(c))
	}
	v, err := p.desk.Ask(r)
	note("request", v.ID)
	note("reason", r.Reason)
	note("from", r.From.UTC().Format(time.RFC3339))
	note("to", r.To.UTC().Format(time.RFC3339))
	if !r.NoNoticeUntil.IsZero() {
		note("no-notice-until", r.NoNoticeUntil.UTC().Format(time.RFC3339))
	}
	return v, err
}

// escrowRecover wraps the key of the account of a request under the platform key of now, or those of all accounts of which enough was brought.
func (p *platform) escrowRecover(ctx context.Context, uid, id string, out io.Writer, note func(name, value string)) error {
	v, err := p.desk.Get(id)
	if err != nil {
		return err
	}
	if err := p.desk.Begin(id, uid, cases.Recover); err != nil {
		return err
	}
	note("approved", strings.Join(v.Approved, ", "))
	list := []mail.AccountID{v.AccountID}
	if v.All() {
		list = p.store.Accounts()
		slices.Sort(list)
	}
	done, without := 0, 0
	var first error
	for _, account := range list {
		switch err := p.recoverOne(ctx, id, account); {
		case err == nil:
			done++
		case ctx.Err() != nil || p.store.Ready() != nil:
			return errors.Join(err, ctx.Err())
		default:
			without++
			if first == nil {
				first = fmt.Errorf("account %s: %w", account, err)
			}
		}
	}
	note("recovered", strconv.Itoa(done))
	note("not", strconv.Itoa(without))
	p.tellOwners()
	if first != nil {
		return fmt.Errorf("%d accounts recovered, %d not; the first of these: %w", done, without, first)
	}
	_, err = fmt.Fprintf(out, "recovered %d\n", done)
	return err
}

func (p *platform) recoverOne(ctx context.Context, id string, account mail.AccountID) error {
	secret, err := p.desk.Secret(id, account)
	if err != nil {
		return err
	}
	defer clear(secret)
	return p.patiently(ctx, func() error { return p.store.RecoverAccount(ctx, account, secret) })
}

// fingerprint is a certificate's SHA-256, by which people know it.
func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}
