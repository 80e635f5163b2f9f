package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cmmpd/internal/auth"
	"cmmpd/internal/durable"
	"cmmpd/internal/intake"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/metrics"
	"cmmpd/storage"
)

// meter counts what the parts do, from outside: they know nothing of it. Nothing that it shows is about persons,
// addresses or content.
type meter struct {
	set         metrics.Set
	messages    *metrics.Counter
	recipients  *metrics.Counter
	deliveries  *metrics.Counter
	appends     *metrics.Counter
	logins      *metrics.Counter
	accepted    *metrics.Counter
	connections *metrics.Level
	commits     *metrics.Counter
	flushes     *metrics.Histogram
	reloads     *metrics.Counter
	outcomes    *metrics.Counter
	keyUses     *metrics.Counter
}

func newMeter() *meter {
	m := &meter{}
	s := &m.set
	s.Info("cmmpd_build_info", "The version of this program.", "version", version())
	m.messages = s.Counter("cmmpd_messages_total", "Messages at the end of DATA, by protocol and outcome: accepted, or the kind of error.", "protocol", "outcome")
	m.recipients = s.Counter("cmmpd_recipients_refused_total", "Recipients refused in the dialogue, by protocol and kind of error.", "protocol", "reason")
	m.deliveries = s.Counter("cmmpd_deliveries_total", "Messages put into mailboxes by delivery: one for each mailbox.")
	m.appends = s.Counter("cmmpd_appends_total", "Messages saved by IMAP clients, by outcome.", "outcome")
	m.outcomes = s.Counter("cmmpd_queue_outcomes_total", "What attempts on mail to other domains came to, for each recipient: delivered, deferred, bounced.", "outcome")
	m.logins = s.Counter("cmmpd_logins_total", "Log-ins, by protocol and outcome.", "protocol", "outcome")
	m.keyUses = s.Counter("cmmpd_key_uses_total", "Uses of the keystore's keys, by slot, use and outcome. What a daemon derives from a service key in memory is not a use of it in a token.", "slot", "use", "outcome")
	var services []string
	for _, a := range new(listenConfig).all() {
		services = append(services, a.service)
	}
	m.accepted = s.Counter("cmmpd_connections_total", "Connections taken, by service.", "service")
	m.connections = s.Level("cmmpd_connections", "Connections open now, by service.", "service", services...)
	m.commits = s.Counter("cmmpd_store_deliver_commits_total", "Acts of delivery that the store has made durable.")
	m.flushes = s.Histogram("cmmpd_store_flush_seconds", "Time of a flush of the store's log to the disk.",
		100*time.Microsecond, 250*time.Microsecond, 500*time.Microsecond, time.Millisecond, 2500*time.Microsecond, 5*time.Millisecond,
		10*time.Millisecond, 25*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 500*time.Millisecond, 2*time.Second)
	m.reloads = s.Counter("cmmpd_tls_reloads_total", "Readings of a changed server certificate, by outcome.", "outcome")
	metrics.AddProcess(s, time.Now())
	return m
}

// observe adds what the platform's parts say of themselves when they are asked.
func (m *meter) observe(d *daemon) {
	truth := func(err error) float64 {
		if err != nil {
			return 0
		}
		return 1
	}
	ready := func() float64 {
		_, err := d.readiness(context.Background())
		return truth(err)
	}
	m.set.CounterFunc("cmmpd_audit_records_total", "Records in the audit log.", func() float64 { return float64(d.audit.Size()) })
	m.set.Gauge("cmmpd_audit_ready", "1 while the audit log can be written.", func() float64 { return truth(d.audit.Ready()) })
	m.observeWitnesses(d)
	m.set.Gauge("cmmpd_audit_syslog_lag_records", "Records of the audit log that the syslog receiver has not taken yet; 0 without one.", func() float64 {
		if d.feed == nil {
			return 0
		}
		return float64(d.feed.State().Lag)
	})
	m.set.Gauge("cmmpd_audit_syslog_behind_seconds", "For how long there has been something left to send to the syslog receiver; 0 without one.", func() float64 {
		if d.feed == nil {
			return 0
		}
		return time.Since(d.feed.State().Current).Seconds()
	})
	m.set.Gauge("cmmpd_audit_export_failed", "1 if the last scheduled export of the audit log failed.", func() float64 {
		if d.exports == nil {
			return 0
		}
		return 1 - truth(d.exports.Trouble())
	})
	m.set.Gauge("cmmpd_store_ready", "1 while the store acknowledges.", func() float64 { return truth(d.store.Ready()) })
	m.set.CounterFunc("cmmpd_store_freed_octets_total", "Octets of the files that compaction of the store has removed.", func() float64 { return float64(d.store.Housekeeping().Freed) })
	m.set.Gauge("cmmpd_store_damaged_segments", "Files of the store that are not compacted because something in them is damaged.", func() float64 { return float64(d.store.Housekeeping().Damaged) })
	m.set.Gauge("cmmpd_store_scrubbed_seconds", "When all of the store was last read and compared with its checksums, in Unix time; 0: never.", func() float64 { return float64(d.store.Housekeeping().Scrubbed) })
	m.set.Gauge("cmmpd_store_damaged_messages", "Messages that were found damaged by that, or by the one under way.", func() float64 { return float64(d.store.Housekeeping().Spoilt) })
	m.set.Gauge("cmmpd_store_disposals_waiting", "Accounts in which mail was disposed of whose keys wait to be erased, because the account's cannot be had: is the platform sealed?", func() float64 { return float64(d.store.Housekeeping().Waiting) })
	m.set.Gauge("cmmpd_store_space_low", "1 while mail is refused because no more than the reserve is free on the disk.", func() float64 {
		if d.store.Housekeeping().Low {
			return 1
		}
		return 0
	})
	m.set.Gauge("cmmpd_queue_overdue_seconds", "How long ago the first of the mail that waits for other domains was due.", func() float64 {
		d, err := d.queue.Overdue(context.Background())
		if err != nil {
			return -1
		}
		return max(d.Seconds(), 0)
	})
	m.set.Gauge("cmmpd_keystore_service", "The slot service of the keystore: 1 open, 0 sealed, -1 not to be used.", d.slotGauge(keys.Service))
	m.set.Gauge("cmmpd_keystore_mail", "The slot mail of the keystore: 1 open, 0 sealed (mail is taken and sent, not read), -1 not to be used.", d.slotGauge(keys.Mail))
	m.set.Gauge("cmmpd_rewrap_waiting_accounts", "Accounts whose keys are to be wrapped by the platform key of now.", func() float64 { return float64(d.store.PlatformKeys().Waiting()) })
	m.set.Gauge("cmmpd_keystore_in_files", "How many slots of the keystore are in files, which is for development only.", func() float64 { return float64(len(d.cfg.Keystore.inFiles())) })
	m.set.Gauge("cmmpd_ready", "1 while the platform can do its work: as /readyz.", func() float64 { return ready() })
	m.set.Gauge("cmmpd_revocation_next_update_seconds", "When the first of the revocation lists in use must have been replaced, in Unix time; 0: there is none.", func() float64 {
		if next := d.verifier.Health().Next; !next.IsZero() {
			return float64(next.Unix())
		}
		return 0
	})
	m.set.Gauge("cmmpd_revocation_fetches_failing", "Lists, responders and issuers' addresses that could not be fetched when last tried.", func() float64 { return float64(d.verifier.Health().Failing) })
	m.set.Gauge("cmmpd_revocation_files_unread", "Configured files of revocation lists that cannot be read, and what lies in their folders and is no file.", func() float64 { return float64(d.verifier.Health().Unread) })
	m.set.Gauge("cmmpd_tls_certificate_not_after_seconds", "When the server certificate expires, in Unix time.", func() float64 { return float64(d.certificate.notAfter().Unix()) })
}

// outcome is a label for an error.
func outcome(err error, good string) string {
	if err == nil {
		return good
	}
	return strings.ReplaceAll(mail.KindOf(err).String(), " ", "-")
}

func (m *meter) login(o auth.Outcome) { m.logins.Inc(o.Client.Protocol, outcome(o.Err, "ok")) }

// meteredIntake counts what goes through the door.
type meteredIntake struct {
	*intake.Intake
	m *meter
}

// Accept is Intake.Accept.
func (d meteredIntake) Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error) {
	id, err := d.Intake.Accept(ctx, env, raw)
	d.m.messages.Inc(env.Client.Protocol, outcome(err, "accepted"))
	return id, err
}

// Resolve is Intake.Resolve.
func (d meteredIntake) Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error {
	err := d.Intake.Resolve(ctx, env, rcpt)
	if err != nil {
		d.m.recipients.Inc(env.Client.Protocol, outcome(err, ""))
	}
	return err
}

// Append is Intake.Append.
func (d meteredIntake) Append(ctx context.Context, who *mail.Principal, acct *storage.Account, mailbox string, msgs []storage.Append) ([]storage.Placed, error) {
	placed, err := d.Intake.Append(ctx, who, acct, mailbox, msgs)
	d.m.appends.Add(len(msgs), outcome(err, "ok"))
	return placed, err
}

// meteredStore counts deliveries.
type meteredStore struct {
	*storage.Store
	m *meter
}

// Deliver is Store.Deliver.
func (s meteredStore) Deliver(ctx context.Context, d storage.Delivery) ([]storage.Placed, error) {
	placed, err := s.Store.Deliver(ctx, d)
	if err == nil {
		s.m.commits.Inc()
		s.m.deliveries.Add(len(placed))
	}
	return placed, err
}

// meteredFS times the flushes of segments.
type meteredFS struct {
	durable.FS
	m *meter
}

// Open is FS.Open.
func (f meteredFS) Open(name string, flag int, perm os.FileMode) (durable.File, error) {
	file, err := f.FS.Open(name, flag, perm)
	if err != nil || filepath.Ext(name) != ".seg" {
		return file, err
	}
	return meteredFile{file, f.m}, nil
}

type meteredFile struct {
	durable.File
	m *meter
}

// Sync is File.Sync.
func (f meteredFile) Sync() error {
	begin := time.Now()
	err := f.File.Sync()
	f.m.flushes.Observe(time.Since(begin))
	return err
}

// meteredListener counts the connections of a service.
type meteredListener struct {
	net.Listener
	m       *meter
	service string
}

// Accept is Listener.Accept.
func (l meteredListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.m.accepted.Inc(l.service)
	l.m.connections.Add(l.service, 1)
	return &meteredConn{Conn: c, closed: sync.OnceFunc(func() { l.m.connections.Add(l.service, -1) })}, nil
}

type meteredConn struct {
	net.Conn
	closed func()
}

// Close is Conn.Close.
func (c *meteredConn) Close() error {
	c.closed()
	return c.Conn.Close()
}

// CloseWrite ends what we send, if the connection can.
func (c *meteredConn) CloseWrite() error {
	if t, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return t.CloseWrite()
	}
	return nil
}
