package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"sync"
	"time"

	"cmmpd/audit"
	"cmmpd/audit/feed"
	"cmmpd/audit/scheduled"
)

// openAuditOutlets makes the live feed and the scheduled export of the audit log, if they are configured. They do not run
// yet.
func (p *platform) openAuditOutlets(context.Context) (err error) {
	if s := &p.cfg.Audit.Syslog; s.Address != "" {
		if p.feed, err = s.open(p); err != nil {
			return fmt.Errorf("audit.syslog: %w", err)
		}
	}
	if e := &p.cfg.Audit.Export; e.Every != "" {
		if p.exports, err = e.open(p); err != nil {
			return fmt.Errorf("audit.export: %w", err)
		}
	}
	return nil
}

func (s *auditSyslogConfig) open(p *platform) (*feed.Feed, error) {
	o := feed.Options{Source: p.audit, Format: p.cfg.auditSyslog(), Address: s.Address, Cursor: s.Cursor, Log: p.log}
	o.Format.Limit = s.Limit
	if s.Names {
		o.Names = p.auditNames()
	}
	certs, err := readCertificates([]string{s.CA})
	if err != nil {
		return nil, err
	}
	o.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: s.ServerName, MinVersion: tls.VersionTLS12}
	for _, c := range certs {
		o.TLS.RootCAs.AddCert(c)
	}
	if o.TLS.ServerName == "" {
		if o.TLS.ServerName, _, err = net.SplitHostPort(s.Address); err != nil {
			return nil, err
		}
	}
	if s.Key != "" {
		pair, err := tls.LoadX509KeyPair(s.Certificate, s.Key)
		if err != nil {
			return nil, err
		}
		o.TLS.Certificates = []tls.Certificate{pair}
	}
	return feed.New(o)
}

func (e *auditExportConfig) open(p *platform) (*scheduled.Schedule, error) {
	at, err := time.Parse("15:04", e.At)
	if err != nil {
		return nil, err
	}
	o := scheduled.Options{
		Log: p.audit, Dir: p.cfg.Audit.Path, Every: scheduled.Every(e.Every), Dest: e.Destination, Cursor: e.Cursor, Logger: p.log,
		At:     time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute,
		Export: audit.Export{Filter: e.filter(), Format: audit.Format(e.Format), Syslog: p.cfg.auditSyslog()},
	}
	if e.Names {
		o.Export.Names = p.auditNames()
	}
	return scheduled.New(o)
}

// feedLate is how long the feed may have something left to send before that is a warning.
const feedLate = 5 * time.Minute

// auditOutletsHealth is what /readyz says of the feed and the exports. Mail and administration go on without them.
func (p *platform) auditOutletsHealth() (lines []string) {
	if p.feed != nil {
		if s := p.feed.State(); s.Trouble != nil || time.Since(s.Current) > feedLate {
			lines = append(lines, fmt.Sprintf("audit: the syslog receiver has not taken %d records: %v", s.Lag, s.Trouble))
		}
	}
	if p.exports != nil {
		if err := p.exports.Trouble(); err != nil {
			lines = append(lines, fmt.Sprintf("audit: the scheduled export failed: %v", err))
		}
	}
	return lines
}

// outlets are the feed and the exports while they run.
type outlets struct {
	running sync.WaitGroup
	stop    context.CancelFunc // nil before start
}

func (o *outlets) start(p *platform) {
	ctx, stop := context.WithCancel(context.Background())
	o.stop = stop
	if p.feed != nil {
		o.running.Go(func() { p.feed.Run(ctx) })
	}
	if p.exports != nil {
		o.running.Go(func() { p.exports.Run(ctx) })
	}
}

// end waits for them, so that the audit log is not closed under them.
func (o *outlets) end() {
	if o.stop != nil {
		o.stop()
		o.running.Wait()
	}
}
