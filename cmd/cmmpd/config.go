package main

import (
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"cmmpd/internal/mail"
)

// config is the whole configuration. configs/cmmpd.toml explains every key and shows
// its default. Only this package knows it: every part gets an Options struct.
type config struct {
	file string // where it was read from, absolute

	Server struct {
		Hostname string `toml:"hostname"`
		Socket   string `toml:"socket"`
	} `toml:"server"`
	Domains struct {
		Local []string `toml:"local"`
	} `toml:"domains"`
	TLS struct {
		Certificate string `toml:"certificate"`
		Key         string `toml:"key"`
	} `toml:"tls"`
	Listen    listenConfig    `toml:"listen"`
	Keystore  keystoreConfig  `toml:"keystore"`
	Store     storeConfig     `toml:"store"`
	Escrow    escrowConfig    `toml:"escrow"`
	Directory directoryConfig `toml:"directory"`
	Audit     auditConfig     `toml:"audit"`
	SMIME     smimeConfig     `toml:"smime"`
	Trust     trustConfig     `toml:"trust"`
	Policy    policyConfig    `toml:"policy"`
	Queue     queueConfig     `toml:"queue"`
	Quota     quotaConfig     `toml:"quota"`
	Search    searchConfig    `toml:"search"`
	Limits    limitsConfig    `toml:"limits"`
	Log       struct {
		Level string `toml:"level"`
	} `toml:"log"`
}

// listenConfig has an address and port for each service; an empty one stays closed.
type listenConfig struct {
	MX          string `toml:"mx"`
	Submission  string `toml:"submission"`
	Submissions string `toml:"submissions"`
	IMAP        string `toml:"imap"`
	IMAPS       string `toml:"imaps"`
	LDAP        string `toml:"ldap"`
	LDAPS       string `toml:"ldaps"`
	Health      string `toml:"health"`
}

type smimeConfig struct {
	Anchors       []string       `toml:"anchors"`
	Intermediates []string       `toml:"intermediates"`
	CRLs          []string       `toml:"crls"`
	MaxCRLAge     duration       `toml:"max-crl-age"`
	MinRSABits    int            `toml:"min-rsa-bits"`
	ReadOld       []string       `toml:"read-old"`
	Signers       []signerConfig `toml:"signers"`
	Keys          []keyConfig    `toml:"keys"`
	Sign          []signRule     `toml:"sign"`
}

// signerConfig names the certificate and the key with which the gateway signs for a
// domain.
type signerConfig struct {
	Domain      string `toml:"domain"`
	Certificate string `toml:"certificate"`
	Key         string `toml:"key"`
}

// loadConfig reads, completes and checks the configuration at path. The error names
// file, line and reason for everything that is wrong.
func loadConfig(path string) (*config, error) {
	c := defaultConfig()
	f, err := readTOML(path, c)
	if err != nil {
		return nil, err
	}
	c.file = filepath.Join(f.dir, filepath.Base(path))
	c.check(f)
	if err := f.err(); err != nil {
		return nil, err
	}
	return c, nil
}

// check resolves paths and looks at every value.
func (c *config) check(f *tomlFile) {
	if !hostname.MatchString(c.Server.Hostname) {
		f.bad("server.hostname", "%q is not a host name", c.Server.Hostname)
	}
	f.resolve("server.socket", &c.Server.Socket)
	if len(c.Domains.Local) == 0 {
		f.bad("domains.local", "at least one local domain is needed")
	}
	for i, d := range c.Domains.Local {
		if a, err := mail.ParseAddress("postmaster@" + d); err != nil {
			f.bad("domains.local", "%q is not a domain", d)
		} else {
			c.Domains.Local[i] = a.Domain
		}
	}
	f.file("tls.certificate", &c.TLS.Certificate)
	if !strings.HasPrefix(c.TLS.Key, tokenPrefix) {
		f.file("tls.key", &c.TLS.Key)
	}
	c.Listen.check(f)
	c.Keystore.check(f)
	c.Store.check(f)
	c.Escrow.check(f, c.SMIME.MinRSABits)
	c.Directory.check(f, &c.Listen)
	c.Audit.check(f)
	c.SMIME.check(f)
	c.Trust.check(f)
	c.Policy.check(f, c.Domains.Local)
	if len(f.errs) == 0 { // the labels of rules for signing must be known
		if _, err := c.policy(); err != nil {
			f.bad("smime.sign", "%v", err)
		}
	}
	c.Queue.check(f, c.Domains.Local)
	c.Quota.check(f, c.Domains.Local)
	c.Search.check(f)
	c.Limits.check(f)
	if !logLevels[c.Log.Level] {
		f.bad("log.level", "%q is none of debug, info, warn, error", c.Log.Level)
	}
}

var (
	hostname  = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?$`)
	logLevels = map[string]bool{"debug": true, "info": true, "warn": true, "error": true}
)

func (l *listenConfig) check(f *tomlFile) {
	seen := map[string]string{}
	for _, a := range l.all() {
		key, addr := "listen."+a.service, a.addr
		if addr == "" {
			continue
		}
		host, port, err := net.SplitHostPort(addr)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		switch {
		case err != nil:
			f.bad(key, "%q is not an address and port: %v", addr, err)
		case seen[addr] != "":
			f.bad(key, "%s is taken by %s", addr, seen[addr])
		case key == "listen.health" && !loopback(host):
			f.bad(key, "%q is not a loopback address; health and metrics are not for strangers", addr)
		}
		seen[addr] = key
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// listenAddr is where one service listens.
type listenAddr struct{ service, addr string }

// all lists the services in the order of the file.
func (l *listenConfig) all() []listenAddr {
	return []listenAddr{
		{"mx", l.MX},
		{"submission", l.Submission},
		{"submissions", l.Submissions},
		{"imap", l.IMAP},
		{"imaps", l.IMAPS},
		{"ldap", l.LDAP},
		{"ldaps", l.LDAPS},
		{"health", l.Health},
	}
}

func (s *smimeConfig) check(f *tomlFile) {
	if len(s.Anchors) == 0 {
		f.bad("smime.anchors", "without a trust anchor no certificate is good and no confidential mail can be sent")
	}
	for _, list := range []struct {
		key   string
		paths []string
	}{{"smime.anchors", s.Anchors}, {"smime.intermediates", s.Intermediates}, {"smime.crls", s.CRLs}} {
		for i := range list.paths {
			f.file(list.key, &list.paths[i])
		}
	}
	if s.MinRSABits < 2048 || s.MinRSABits > 8192 {
		f.bad("smime.min-rsa-bits", "%d is not between 2048 and 8192", s.MinRSABits)
	}
	for _, o := range s.ReadOld {
		if o != oldSHA1 && o != oldTripleDES {
			f.bad("smime.read-old", "%q is neither \"sha1\" nor \"3des\"; MD5, RC2 and DES are never read", o)
		}
	}
	for i := range s.Signers {
		key := "smime.signers[" + string(rune('0'+i%10)) + "]"
		f.file(key+".certificate", &s.Signers[i].Certificate)
		if s.Signers[i].Domain == "" || s.Signers[i].Key == "" {
			f.bad(key, "domain and key must not be empty")
		}
	}
	s.checkSigning(f)
}

// What smime.read-old can name.
const (
	oldSHA1      = "sha1"
	oldTripleDES = "3des"
)

// defaultConfig holds the defaults that configs/cmmpd.toml names.
func defaultConfig() *config {
	var c config
	c.Keystore.Kind, c.Keystore.Unwraps, c.Keystore.Acts = fileKeystore, defaultUnwraps, "key-acts"
	c.Directory = defaultDirectory()
	c.Server.Socket = "cmmpd.sock"
	c.Audit = defaultAudit()
	c.SMIME.MaxCRLAge = duration(7 * 24 * time.Hour)
	c.SMIME.MinRSABits = 2048
	c.Trust = defaultTrust()
	c.Store = defaultStore()
	c.Escrow = defaultEscrow()
	c.Policy.Drafts = "at-rest"
	c.Queue = defaultQueue()
	c.Quota = defaultQuota()
	c.Search = defaultSearch()
	c.Limits = defaultLimits()
	c.Log.Level = "info"
	return &c
}
