package main

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/audit/feed"
	"cmmpd/audit/names"
	"cmmpd/audit/scheduled"
	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/imap"
	"cmmpd/internal/admin"
	"cmmpd/internal/auth"
	"cmmpd/internal/durable"
	"cmmpd/internal/intake"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
	"cmmpd/internal/queue"
	"cmmpd/smime"
	"cmmpd/smime/trust"
	"cmmpd/smtp"
	"cmmpd/storage"
)

// platform is every part of the daemon, opened in this order and closed in reverse.
type platform struct {
	cfg *config
	log *slog.Logger

	keystore  *guardedKeys
	audit     *audit.Log
	witnesses *audit.Witnesses    // nil: there are none, or this is no daemon
	names     *names.Table        // personal data beside the audit log; nil: it is in it
	feed      *feed.Feed          // nil: none is configured
	exports   *scheduled.Schedule // of the audit log; nil: none is configured
	store     *storage.Store
	embedded  *server.Server
	dir       *directory.Directory
	auth      *auth.Authenticator
	queue     *queue.Queue
	verifier  *trust.Verifier
	intake    *intake.Intake
	service   *admin.Service
	desk      *cases.Desk
	smtp      *smtp.Server
	imap      *imap.Server

	tls         *tls.Config
	certificate *certificate
	inForce     inForce // the configuration; certificate.mu guards it once the daemon serves
	meter       *meter

	warnings chan storage.Warning
	opened   chan struct{} // asks for owners to be told of openings
	closers  []func() error
	fatal    chan error // a part that cannot go on
}

// newPlatform is a platform of which nothing is open yet.
func newPlatform(cfg *config, log *slog.Logger) *platform {
	return &platform{cfg: cfg, log: log, meter: newMeter(), fatal: make(chan error, 8), warnings: make(chan storage.Warning, maxWarnings), opened: make(chan struct{}, 1)}
}

// openPlatform opens every part; nothing listens yet.
func openPlatform(ctx context.Context, cfg *config, log *slog.Logger) (_ *platform, err error) {
	p := newPlatform(cfg, log)
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close())
		}
	}()
	for _, open := range []func(context.Context) error{
		p.openKeystore, p.openTLS, p.openAudit, p.openAuditOutlets, p.openStore, p.openEscrow, p.openQueue, p.openDirectory, p.openIntake, p.openFrontEnds,
	} {
		if err := open(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// onClose notes what to do when the platform closes; last noted, first done.
func (p *platform) onClose(f func() error) { p.closers = append(p.closers, f) }

// close closes what was opened.
func (p *platform) close() error {
	var errs []error
	for i := len(p.closers) - 1; i >= 0; i-- {
		errs = append(errs, p.closers[i]())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// fail hands a fault to run, which stops the daemon. It never blocks.
func (p *platform) fail(err error) {
	select {
	case p.fatal <- err:
	default:
	}
}

func (p *platform) openTLS(ctx context.Context) (err error) {
	var key crypto.Signer // or in a file
	if name, ok := strings.CutPrefix(p.cfg.TLS.Key, tokenPrefix); ok {
		if key, err = p.keystore.Signer(ctx, keys.Service, name); err != nil {
			return fmt.Errorf("server key: %w", err)
		}
	}
	p.certificate, err = openCertificate(p.cfg.TLS.Certificate, p.cfg.TLS.Key, key, p.log, p.meter)
	if err != nil {
		return fmt.Errorf("server certificate: %w", err)
	}
	p.tls = &tls.Config{GetCertificate: p.certificate.get, MinVersion: tls.VersionTLS12}
	return nil
}

func (p *platform) openKeystore(context.Context) (err error) {
	slots, err := p.cfg.Keystore.open()
	if err != nil {
		return err
	}
	p.keystore = &guardedKeys{Slots: slots, meter: p.meter, now: time.Now, log: p.log}
	if p.cfg.Keystore.Mail.Kind == fileKeystore {
		p.keystore.rate = keys.NewRate(p.cfg.Keystore.Unwraps, time.Now())
	}
	p.onClose(p.keystore.Close)
	if in := p.cfg.Keystore.inFiles(); len(in) > 0 {
		p.log.Warn("the keystore is made of files: whoever can read them can read all mail; for development only", "slots", strings.Join(in, ", "))
	}
	return nil
}

func (p *platform) openAudit(ctx context.Context) error {
	key, err := p.keystore.Signer(ctx, keys.Service, "audit")
	if err != nil {
		return fmt.Errorf("audit key: %w", err)
	}
	if p.names, err = p.cfg.openNames(ctx, p.keystore, p.cfg.Audit.Names); err != nil {
		return err
	}
	if p.names != nil {
		p.onClose(p.names.Close)
	}
	p.audit, err = audit.Open(p.cfg.Audit.Path, key, audit.Options{
		Origin: p.cfg.Audit.Origin, Log: p.log, Names: p.auditNames(), Local: p.cfg.localDomain,
	})
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	p.onClose(p.audit.Close)
	p.keystore.audit = p.audit
	return nil
}

func (p *platform) openStore(ctx context.Context) (err error) {
	p.store, err = storage.Open(ctx, p.cfg.Store.options(storage.Options{
		Keys: p.keystore, Log: p.log, Fatal: p.fail, FS: meteredFS{durable.OS{}, p.meter},
		Quotas: p.cfg.Quota.quotas(), Warn: p.warn, Search: p.cfg.Search.options(), Escrow: p.cfg.Escrow.group,
	}))
	if err != nil {
		return fmt.Errorf("store: %w", err)
	}
	p.onClose(p.store.Close)
	for _, w := range p.cfg.Escrow.warnings(time.Now()) {
		p.log.Warn(w)
	}
	return nil
}

// openQueue makes the queue, which does not run yet.
func (p *platform) openQueue(ctx context.Context) error {
	o, err := p.cfg.Queue.options()
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	if o.LaneKey, err = p.keystore.Derive(ctx, keys.Service, "blind", []byte("cmmpd queue lanes 1")); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	o.Hostname, o.Store, o.Audit, o.Log = p.cfg.Server.Hostname, p.store, p.audit, p.log
	o.Outcome = func(what string) { p.meter.outcomes.Inc(what) }
	o.Timeouts.Progress = time.Duration(p.cfg.Limits.ProgressTimeout)
	if p.queue, err = queue.New(o); err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	return nil
}

func checkOf(s *storage.Store) func(context.Context, bool) (admin.CheckReport, error) {
	return func(ctx context.Context, deep bool) (admin.CheckReport, error) {
		r, err := s.Check(ctx, deep)
		if err != nil {
			return admin.CheckReport{}, err
		}
		return admin.CheckReport{
			Accounts: r.Accounts, Mailboxes: r.Mailboxes, Entries: r.Entries, Bodies: r.Bodies, Queue: r.Queue, Recoverable: r.Recoverable, Problems: r.Problems,
		}, nil
	}
}

// loginOutcome puts a log-in on record.
func (p *platform) loginOutcome(o auth.Outcome) {
	e := audit.Event{Type: audit.AuthLogin, Actor: o.Principal.UID, Client: o.Client.Protocol + " " + host(o.Client.Remote), Outcome: "ok"}
	if e.Actor == "" {
		e.Actor = o.Name
	}
	if o.Err != nil {
		e.Outcome = mail.KindOf(o.Err).String()
	}
	p.meter.login(o)
	p.audit.Note(e)
}

func (p *platform) openIntake(ctx context.Context) error {
	gateway, err := p.openGateway(ctx)
	if err != nil {
		return err
	}
	rules, err := p.cfg.policy()
	if err != nil {
		return fmt.Errorf("policy: %w", err)
	}
	p.intake, err = intake.New(intake.Options{
		Hostname: p.cfg.Server.Hostname, Domains: p.cfg.Domains.Local,
		Directory: p.dir, Store: meteredStore{p.store, p.meter}, Gateway: gateway, Audit: p.audit, Policy: rules, Queue: p.queue,
		Memory: limit.NewBudget(int64(p.cfg.Limits.MemoryInFlight)), Message: p.cfg.Limits.message(), MaxHops: p.cfg.Limits.Message.Received, Log: p.log,
		Soft: p.cfg.Policy.SoftRevocation, Lowerers: p.cfg.Policy.LowerRoles,
	})
	if err != nil {
		return fmt.Errorf("intake: %w", err)
	}
	p.bringWarnings()
	return nil
}

// openGateway reads the anchors and the signers' certificates.
func (p *platform) openGateway(ctx context.Context) (*smime.Gateway, error) {
	c := &p.cfg.SMIME
	verifier, err := p.openTrust()
	if err != nil {
		return nil, err
	}
	domains, own, err := c.signing(ctx, p.keystore)
	if err != nil {
		return nil, err
	}
	pinned, err := p.cfg.Trust.pinned()
	if err != nil {
		return nil, fmt.Errorf("trust: pins: %w", err)
	}
	sources, closeSources, err := p.cfg.Trust.sources(p.log)
	p.onClose(closeSources)
	if err != nil {
		return nil, fmt.Errorf("trust: authorities: %w", err)
	}
	o := smime.Options{
		Trust: verifier, Pinned: pinned, Sources: sources, Log: p.log,
		Signers: domains, Own: own,
	}
	switch book, err := p.cfg.Trust.openSeen(ctx, p.keystore, true, p.log); {
	case err != nil:
		return nil, fmt.Errorf("trust: seen: %w", err)
	case book != nil:
		o.Book = book
	}
	return smime.New(o), nil
}

// readCertificates reads all certificates of PEM files.
func readCertificates(paths []string) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		found := 0
		for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
			c, err := trust.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			certs, found = append(certs, c), found+1
		}
		if found == 0 {
			return nil, fmt.Errorf("%s holds no certificate", path)
		}
	}
	return certs, nil
}

func (p *platform) openFrontEnds(context.Context) (err error) {
	l := &p.cfg.Limits
	p.smtp, err = smtp.New(smtp.Options{
		Hostname: p.cfg.Server.Hostname, Domains: p.cfg.Domains.Local, Exempt: l.exempt(), TLS: p.tls, Auth: p.auth, Door: meteredIntake{p.intake, p.meter}, Log: p.log,
		Limits: l.smtp(),
	})
	if err != nil {
		return fmt.Errorf("smtp: %w", err)
	}
	p.imap, err = imap.New(imap.Options{
		Auth: p.auth, Store: p.store, Intake: meteredIntake{p.intake, p.meter}, TLS: p.tls, Log: p.log,
		Limits: l.imap(), Exempt: l.exempt(),
	})
	if err != nil {
		return fmt.Errorf("imap: %w", err)
	}
	return nil
}
