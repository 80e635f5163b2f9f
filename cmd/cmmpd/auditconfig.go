package main

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/audit/scheduled"
	"cmmpd/internal/mail"
)

type auditConfig struct {
	Path   string            `toml:"path"`
	Origin string            `toml:"origin"`
	Names  string            `toml:"names"`
	Syslog auditSyslogConfig `toml:"syslog"`
	Export auditExportConfig `toml:"export"`

	Require   int             `toml:"require"`
	Within    duration        `toml:"within"`
	Policy    string          `toml:"policy"`
	Witnesses []witnessOfLogs `toml:"witnesses"`
}

// auditSyslogConfig is the live feed of the log.
type auditSyslogConfig struct {
	Address     string `toml:"address"`
	ServerName  string `toml:"server-name"`
	CA          string `toml:"ca"`
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
	Facility    int    `toml:"facility"`
	AppName     string `toml:"app-name"`
	Enterprise  string `toml:"enterprise-number"`
	Limit       int    `toml:"limit"`
	Names       bool   `toml:"names"`
	Cursor      string `toml:"cursor"`
}

// auditExportConfig is the scheduled export.
type auditExportConfig struct {
	Every       string   `toml:"every"`
	At          string   `toml:"at"`
	Destination string   `toml:"destination"`
	Format      string   `toml:"format"`
	Names       bool     `toml:"names"`
	Actors      []string `toml:"actors"`
	Types       []string `toml:"types"`
	Objects     []string `toml:"objects"`
	Outcomes    []string `toml:"outcomes"`
	Cursor      string   `toml:"cursor"`
}

func defaultAudit() auditConfig {
	return auditConfig{
		Names: "audit-names.db", Within: duration(10 * time.Second), Policy: policyWarn,
		Syslog: auditSyslogConfig{Facility: 13, AppName: "cmmpd", Enterprise: "32473", Limit: 8192, Cursor: "audit-syslog.cursor"},
		Export: auditExportConfig{At: "02:00", Cursor: "audit-export.cursor"},
	}
}

func (a *auditConfig) check(f *tomlFile) {
	f.resolve("audit.path", &a.Path)
	if a.Origin == "" || strings.ContainsAny(a.Origin, " +\t\r\n") {
		f.bad("audit.origin", "%q is not an origin: one word without spaces or plus signs is needed", a.Origin)
	}
	if a.Names != "" {
		f.resolve("audit.names", &a.Names)
		a.outside(f, "audit.names", a.Names)
	}
	a.checkWitnesses(f)
	a.checkSyslog(f)
	a.checkExport(f)
}

func (a *auditConfig) checkSyslog(f *tomlFile) {
	s := &a.Syslog
	if s.Facility < 1 || s.Facility > 23 {
		f.bad("audit.syslog.facility", "%d is not between 1 and 23", s.Facility)
	}
	style := audit.Syslog{App: s.AppName, Facility: s.Facility, Enterprise: s.Enterprise, Limit: s.Limit}
	if err := style.Check(); err != nil {
		f.bad("audit.syslog", "%s", mail.PublicOf(err))
	}
	if s.Address == "" {
		return
	}
	if _, _, err := net.SplitHostPort(s.Address); err != nil {
		f.bad("audit.syslog.address", "%q is not a host and port: %v", s.Address, err)
	}
	f.file("audit.syslog.ca", &s.CA)
	if (s.Certificate == "") != (s.Key == "") {
		f.bad("audit.syslog.certificate", "certificate and key belong together")
	} else if s.Key != "" {
		f.file("audit.syslog.certificate", &s.Certificate)
		f.file("audit.syslog.key", &s.Key)
	}
	f.resolve("audit.syslog.cursor", &s.Cursor)
	a.outside(f, "audit.syslog.cursor", s.Cursor)
}

func (a *auditConfig) checkExport(f *tomlFile) {
	e := &a.Export
	if e.Every == "" {
		return
	}
	switch scheduled.Every(e.Every) {
	case scheduled.Daily, scheduled.Weekly, scheduled.Monthly:
	default:
		f.bad("audit.export.every", "%q is none of daily, weekly, monthly", e.Every)
	}
	if _, err := time.Parse("15:04", e.At); err != nil {
		f.bad("audit.export.at", "%q is not a time of the day such as 02:00", e.At)
	}
	if e.Format != "" && !slices.Contains(audit.Formats(), audit.Format(e.Format)) {
		f.bad("audit.export.format", "%q is none of jsonl, csv, cef, syslog", e.Format)
	}
	filter := e.filter()
	if err := filter.Check(); err != nil {
		f.bad("audit.export", "%s", mail.PublicOf(err))
	}
	if e.Destination == "" {
		f.bad("audit.export.destination", "a folder is needed")
	}
	f.resolve("audit.export.destination", &e.Destination)
	a.outside(f, "audit.export.destination", e.Destination)
	f.resolve("audit.export.cursor", &e.Cursor)
	a.outside(f, "audit.export.cursor", e.Cursor)
}

func (e *auditExportConfig) filter() audit.Filter {
	return audit.Filter{Actors: e.Actors, Types: e.Types, Objects: e.Objects, Outcomes: e.Outcomes}
}

// outside refuses a path in the audit log's folder, in which nothing else may lie.
func (a *auditConfig) outside(f *tomlFile, key, path string) {
	if rel, err := filepath.Rel(a.Path, path); err == nil && filepath.IsLocal(rel) {
		f.bad(key, "%s is in the audit log's folder, which has the log and nothing else", path)
	}
}

// auditSyslog is how records are written as syslog messages.
func (c *config) auditSyslog() audit.Syslog {
	s := &c.Audit.Syslog
	return audit.Syslog{Host: c.Server.Hostname, App: s.AppName, Facility: s.Facility, Enterprise: s.Enterprise}
}
