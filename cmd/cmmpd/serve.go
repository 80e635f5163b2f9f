package main

import (
	"context"
	"crypto/fips140"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"cmmpd/audit"
	"cmmpd/directory/server"
	"cmmpd/imap"
	"cmmpd/internal/admin"
	"cmmpd/internal/metrics"
	"cmmpd/smtp"
)

// grace is how long connections may go on when the daemon is asked to stop.
const grace = 15 * time.Second

// daemon is a platform that listens.
type daemon struct {
	*platform
	control *admin.Server
	health  *http.Server
	ready   atomic.Bool // every listener is bound
	ending  atomic.Bool // asked to stop
	serving context.Context
	outlets outlets // of the audit log
	stop    context.CancelFunc
}

// serve is "cmmpd serve".
func serve(args []string) error {
	fs := newFlags("serve", "--config FILE")
	path := fs.config()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	d, err := startDaemon(ctx, cfg, newLog(cfg.Log.Level), nil)
	if err != nil {
		return err
	}
	return d.run(ctx)
}

// interruptible is done when the program is asked to end.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
}

func newLog(level string) *slog.Logger {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		l = slog.LevelInfo
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l}))
}

// startDaemon opens the platform, does what is to be done before anybody is served (which
// may be nil), binds every listener and serves.
func startDaemon(ctx context.Context, cfg *config, log *slog.Logger, before func(context.Context, *platform) error) (*daemon, error) {
	p, err := openPlatform(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	d := &daemon{platform: p}
	d.health = &http.Server{Handler: d.healthHandler(), ReadHeaderTimeout: 10 * time.Second}
	d.serving, d.stop = context.WithCancel(context.Background())
	d.meter.observe(d)
	if err := d.recordConfig(ctx); err != nil {
		return nil, errors.Join(err, d.shutdown())
	}
	config := d.inForce.digest()
	d.certificate.changing = d.recordCertificate
	if err := d.openWitnesses(); err != nil {
		return nil, errors.Join(err, d.shutdown())
	}
	keepHeap(d.serving, p.store.Release)
	if before != nil {
		if err := before(ctx, p); err != nil {
			return nil, errors.Join(err, d.shutdown())
		}
	}
	if err := d.listen(ctx); err != nil {
		return nil, errors.Join(err, d.shutdown())
	}
	d.audit.Note(audit.Event{Type: audit.ServerStart, Outcome: "ok", Detail: map[string]string{"version": version(), "config": config}})
	d.ready.Store(true)
	notifySystemd("READY=1")
	warnOfSwap(log)
	log.Info("ready", "hostname", cfg.Server.Hostname, "version", version(), "fips140", fips140.Enabled())
	return d, nil
}

// listener is one bound listener and what serves it.
type listener struct {
	net.Listener
	serve func(net.Listener) error
}

// listen binds all listeners first, so that a taken port stops the start before anything
// is served, and then serves.
func (d *daemon) listen(ctx context.Context) error {
	var bound []listener
	abandon := func(err error) error {
		for _, l := range bound {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	var lc net.ListenConfig
	for _, a := range d.cfg.Listen.all() {
		if a.addr == "" {
			continue
		}
		ln, err := lc.Listen(ctx, "tcp", a.addr)
		if err != nil {
			return abandon(fmt.Errorf("listen.%s: %w", a.service, err))
		}
		bound = append(bound, listener{meteredListener{ln, d.meter, a.service}, d.server(a.service)})
	}
	control, err := admin.Listen(d.cfg.Server.Socket, d.service)
	if err != nil {
		return abandon(err)
	}
	d.control = control
	d.queue.Run(meteredIntake{d.intake, d.meter})
	go d.watchKeystore(d.serving)
	go d.watchEscrow(d.serving)
	d.outlets.start(d.platform)
	go d.watch("control socket", control.Serve)
	for _, l := range bound {
		go d.watch(l.Addr().String(), func() error { return l.serve(l.Listener) })
	}
	return nil
}

// watch runs a server; that it ends before it was asked to ends the daemon.
func (d *daemon) watch(what string, run func() error) {
	err := run()
	if d.ending.Load() {
		return
	}
	if err == nil {
		err = errors.New("ended unasked")
	}
	d.fail(fmt.Errorf("%s: %w", what, err))
}

// server is what serves a service's listener.
func (d *daemon) server(service string) func(net.Listener) error {
	ctx := d.serving
	smtpMode := func(m smtp.Mode) func(net.Listener) error {
		return func(ln net.Listener) error { return d.smtp.Serve(ctx, ln, m) }
	}
	imapTLS := func(implicit bool) func(net.Listener) error {
		return func(ln net.Listener) error {
			if err := d.imap.Serve(ctx, ln, implicit); !errors.Is(err, imap.ErrServerClosed) {
				return err
			}
			return nil
		}
	}
	ldapMode := func(m server.Mode) func(net.Listener) error {
		return func(ln net.Listener) error { return d.embedded.Serve(ctx, ln, d.ldapTLS(), m) }
	}
	switch service {
	case "mx":
		return smtpMode(smtp.MX)
	case "submission":
		return smtpMode(smtp.Submission)
	case "submissions":
		return smtpMode(smtp.Submissions)
	case "imap":
		return imapTLS(false)
	case "imaps":
		return imapTLS(true)
	case "ldap":
		return ldapMode(server.StartTLS)
	case "ldaps":
		return ldapMode(server.Implicit)
	}
	return d.serveHealth
}

func (d *daemon) ldapTLS() *tls.Config { return d.tls.Clone() }

// serveHealth answers /healthz (the process lives), /readyz (it can do its work) and /metrics (what it did).
func (d *daemon) serveHealth(ln net.Listener) error {
	if err := d.health.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (d *daemon) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		lines, err := d.readiness(r.Context())
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, strings.Join(append([]string{"ready"}, lines...), "\n"))
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", metrics.ContentType)
		if err := d.meter.set.Write(w); err != nil {
			d.log.Debug("metrics were not taken", "err", err)
		}
	})
	return mux
}

// readiness is nil when every listener is bound, the store and the audit log can be
// written, and the keystore answers. What else is to be said of it is in words.
func (d *daemon) readiness(ctx context.Context) (words []string, err error) {
	if !d.ready.Load() {
		return nil, errors.New("starting or stopping")
	}
	if err := d.store.Ready(); err != nil {
		return nil, fmt.Errorf("the store does not acknowledge: %w", err)
	}
	words, err = d.keystoreHealth(ctx)
	if err != nil {
		return nil, err
	}
	if err := d.audit.Ready(); err != nil {
		return nil, fmt.Errorf("the audit log cannot be written: %w", err)
	}
	if fips140.Enabled() {
		words = append(words, "fips140: on")
	}
	return slices.Concat(words, d.witnessHealth(), d.auditOutletsHealth(), d.escrowWarnings(ctx)), nil
}

// run serves until ctx is done or a part fails, and then stops in order. SIGHUP has it read the server certificate
// again.
func (d *daemon) run(ctx context.Context) error {
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	defer signal.Stop(hangup)
	for {
		select {
		case <-hangup:
			d.certificate.reload()
			continue
		case <-ctx.Done():
			d.log.Info("stopping")
			return d.shutdown()
		case failure := <-d.fatal:
			d.log.Error("a part has failed; stopping", "err", failure)
			return errors.Join(failure, d.shutdown())
		}
	}
}

// shutdown ends service, letting what is under way finish within the grace, and closes
// the platform.
func (d *daemon) shutdown() error {
	notifySystemd("STOPPING=1")
	d.ready.Store(false)
	d.audit.Note(audit.Event{Type: audit.ServerStop, Outcome: "ok"})
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	d.ending.Store(true)
	done := make(chan error, 6)
	stops := []func(context.Context) error{d.smtp.Shutdown, d.imap.Shutdown, d.queue.Shutdown, d.health.Shutdown}
	if d.embedded != nil {
		stops = append(stops, d.embedded.Shutdown)
	}
	if d.control != nil {
		stops = append(stops, d.control.Shutdown)
	}
	for _, stop := range stops {
		go func() { done <- stop(ctx) }()
	}
	for range stops {
		if err := <-done; err != nil && !errors.Is(err, context.DeadlineExceeded) {
			d.log.Warn("while stopping", "err", err)
		}
	}
	d.outlets.end()
	d.stop()
	return d.close()
}
