package main

import (
	"path/filepath"
	"strings"
	"time"

	"cmmpd/audit"
)

type auditConfig struct {
	Path   string `toml:"path"`
	Origin string `toml:"origin"`
	Names  string `toml:"names"`

	Require   int             `toml:"require"`
	Within    duration        `toml:"within"`
	Policy    string          `toml:"policy"`
	Witnesses []witnessOfLogs `toml:"witnesses"`
}

func defaultAudit() auditConfig {
	return auditConfig{Names: "audit-names.db", Within: duration(10 * time.Second), Policy: policyWarn}
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
}

// outside refuses a path in the audit log's folder, in which nothing else may lie.
func (a *auditConfig) outside(f *tomlFile, key, path string) {
	if rel, err := filepath.Rel(a.Path, path); err == nil && filepath.IsLocal(rel) {
		f.bad(key, "%s is in the audit log's folder, which has the log and nothing else", path)
	}
}

// auditSyslog is how records are written as syslog messages.
func (c *config) auditSyslog() audit.Syslog { return audit.Syslog{Host: c.Server.Hostname} }
