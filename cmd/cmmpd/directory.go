package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/internal/admin"
	"cmmpd/internal/auth"
	"cmmpd/internal/mail"
)

// directoryConfig says where people, posts and groups are kept. What is of the one kind
// must be empty with the other.
type directoryConfig struct {
	Kind             string           `toml:"kind"`
	Base             string           `toml:"base"`
	Path             string           `toml:"path"`
	URL              string           `toml:"url"`
	CA               string           `toml:"ca"`
	BindDN           string           `toml:"bind-dn"`
	BindPasswordFile string           `toml:"bind-password-file"`
	Attributes       attributesConfig `toml:"attributes"`
}

// attributesConfig is directory.Names.
type attributesConfig struct {
	UID         string `toml:"uid"`
	Name        string `toml:"name"`
	Mail        string `toml:"mail"`
	Alias       string `toml:"alias"`
	Certificate string `toml:"certificate"`
	SMIME       string `toml:"smime-certificate"`
	Profile     string `toml:"cipher-profile"`
	Clearance   string `toml:"clearance"`
	Role        string `toml:"role"`
	Member      string `toml:"member"`
	Holder      string `toml:"holder"`
	Department  string `toml:"department"`
	UUID        string `toml:"uuid"`
}

// all are the names by their keys.
func (a *attributesConfig) all() map[string]string {
	return map[string]string{
		"uid": a.UID, "name": a.Name, "mail": a.Mail, "alias": a.Alias, "certificate": a.Certificate, "smime-certificate": a.SMIME, "cipher-profile": a.Profile, "clearance": a.Clearance,
		"role": a.Role, "member": a.Member, "holder": a.Holder, "department": a.Department, "uuid": a.UUID,
	}
}

// The kinds of directories.
const (
	embeddedDirectory = "embedded"
	ldapDirectory     = "ldap"
)

func defaultDirectory() directoryConfig {
	return directoryConfig{Kind: embeddedDirectory, Attributes: attributesConfig(directory.DefaultNames())}
}

var attributeName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(;[A-Za-z0-9-]+)*$`)

func (c *directoryConfig) check(f *tomlFile, l *listenConfig) {
	if _, err := ldap.ParseDN(c.Base); err != nil || c.Base == "" {
		f.bad("directory.base", "%q is not a distinguished name", c.Base)
	}
	switch c.Kind {
	case embeddedDirectory:
		c.checkEmbedded(f)
	case ldapDirectory:
		c.checkLDAP(f, l)
	default:
		f.bad("directory.kind", "%q is neither \"embedded\" nor \"ldap\"", c.Kind)
	}
}

func (c *directoryConfig) checkEmbedded(f *tomlFile) {
	f.resolve("directory.path", &c.Path)
	for key, value := range map[string]string{"url": c.URL, "ca": c.CA, "bind-dn": c.BindDN, "bind-password-file": c.BindPasswordFile} {
		if value != "" {
			f.bad("directory."+key, "is for kind = \"ldap\" only")
		}
	}
	def := defaultDirectory()
	own := def.Attributes.all()
	for key, name := range c.Attributes.all() {
		if name != own[key] {
			f.bad("directory.attributes."+key, "the embedded directory calls it %q; other names are for kind = \"ldap\" only", own[key])
		}
	}
}

func (c *directoryConfig) checkLDAP(f *tomlFile, l *listenConfig) {
	if c.Path != "" {
		f.bad("directory.path", "is for kind = \"embedded\" only")
	}
	for key, addr := range map[string]string{"ldap": l.LDAP, "ldaps": l.LDAPS} {
		if addr != "" {
			f.bad("listen."+key, "is the embedded directory's; with directory.kind = \"ldap\" clients ask %s, and this must be empty", c.URL)
		}
	}
	if err := new(directory.Options).Reach(c.URL, nil); err != nil {
		f.bad("directory.url", "%q: %s", c.URL, mail.PublicOf(err))
	}
	if c.CA != "" {
		f.file("directory.ca", &c.CA)
	}
	if _, err := ldap.ParseDN(c.BindDN); err != nil || c.BindDN == "" {
		f.bad("directory.bind-dn", "%q is not a distinguished name", c.BindDN)
	}
	f.file("directory.bind-password-file", &c.BindPasswordFile)
	if info, err := os.Stat(c.BindPasswordFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		f.bad("directory.bind-password-file", "%s may be read by others than its owner", c.BindPasswordFile)
	}
	for key, name := range c.Attributes.all() {
		if !attributeName.MatchString(name) {
			f.bad("directory.attributes."+key, "%q is not the name of an attribute", name)
		}
	}
}

// remote is how to ask the LDAP server.
func (c *directoryConfig) remote() (o directory.Options, err error) {
	var roots *x509.CertPool
	if c.CA != "" {
		certs, err := readCertificates([]string{c.CA})
		if err != nil {
			return o, err
		}
		roots = x509.NewCertPool()
		for _, cert := range certs {
			roots.AddCert(cert)
		}
	}
	password, err := os.ReadFile(c.BindPasswordFile)
	if err != nil {
		return o, err
	}
	o = directory.Options{BindDN: c.BindDN, BindPassword: strings.TrimRight(string(password), "\r\n"), Names: directory.Names(c.Attributes)}
	if o.BindPassword == "" {
		return o, fmt.Errorf("%s is empty", c.BindPasswordFile) // a bind without a password proves nothing and often succeeds
	}
	return o, o.Reach(c.URL, roots)
}

// changedElsewhere is why entries of an LDAP server are not changed here.
func (c *directoryConfig) changedElsewhere() error {
	return mail.E(mail.Unsupported, "the directory is the LDAP server at "+c.URL+": change, load and export its entries there, with its own tools", nil)
}

// openDirectory opens the resolver, the embedded directory if that is what it asks, and
// log-in.
func (p *platform) openDirectory(ctx context.Context) (err error) {
	var o directory.Options
	if p.cfg.Directory.Kind == embeddedDirectory {
		p.embedded, err = openEmbedded(p.cfg, p.log, func() {
			p.dir.Changed()
			p.auth.Changed()
		}, func(ctx context.Context, c mail.Client, name, password string) (mail.Principal, error) {
			return p.auth.Login(ctx, c, name, password)
		})
		if err != nil {
			return err
		}
		p.onClose(p.embedded.Close)
		o.Dial, o.Trusted = p.embedded.Dial, true
	} else if o, err = p.cfg.Directory.remote(); err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	o.BaseDN, o.Limits, o.Log = p.cfg.Directory.Base, p.cfg.Limits.directory(), p.log
	p.dir, err = directory.New(o)
	if err != nil {
		return fmt.Errorf("directory: %w", err)
	}
	p.onClose(p.dir.Close)
	if p.embedded == nil {
		if err := p.dir.Ready(ctx); err != nil { // it may come later: until then mail waits
			p.log.Error("the directory does not answer", "url", p.cfg.Directory.URL, "err", err)
		}
	}
	p.auth = auth.New(auth.Options{Directory: p.dir, Limits: p.cfg.Limits.login(), Exempt: p.cfg.Limits.exempt(), Outcome: p.loginOutcome, Log: p.log})
	p.service = admin.NewService(admin.Options{
		Login: p.auth.Login, Import: p.importDirectory, ExportDirectory: p.exportDirectory, Check: p.checkWith, Compact: p.store.Compact, ImportKey: p.importKey, KeyAct: p.keyAct,
		PlatformKeys: p.platformKeys, RotateKey: p.rotateKey,
		Queue:  func(context.Context) (admin.Queue, error) { return p.queue, nil },
		Backup: p.writeBackup, VerifyBackup: p.verifyBackup, RestoreAccount: p.restoreAccount,
		Explain: p.explain, Escrow: escrowActs{p}, AuditDir: p.cfg.Audit.Path, Audit: p.audit, Syslog: p.cfg.auditSyslog(), Names: p.auditNames(), Forget: p.forgetNames(), Log: p.log,
	})
	return nil
}

// openEmbedded opens the embedded directory alone.
func openEmbedded(cfg *config, log *slog.Logger, changed func(),
	login func(context.Context, mail.Client, string, string) (mail.Principal, error),
) (*server.Server, error) {
	s, err := server.Open(server.Options{
		Path: cfg.Directory.Path, BaseDN: cfg.Directory.Base, Log: log, Login: login, Changed: changed,
		Limits: cfg.Limits.ldap(), Exempt: cfg.Limits.exempt(),
	})
	if err != nil {
		return nil, fmt.Errorf("embedded directory: %w", err)
	}
	return s, nil
}

// importDirectory applies LDIF to the embedded directory.
func (p *platform) importDirectory(ctx context.Context, ldif io.Reader, actor string) (admin.ImportResult, error) {
	if p.embedded == nil {
		return admin.ImportResult{}, p.cfg.Directory.changedElsewhere()
	}
	r, err := p.embedded.Import(ctx, ldif, actor)
	return admin.ImportResult{Added: r.Added, Modified: r.Modified, Deleted: r.Deleted, Unchanged: r.Unchanged, Changed: r.Changed}, err
}

// exportDirectory writes the embedded directory as LDIF.
func (p *platform) exportDirectory(ctx context.Context, w io.Writer) error {
	if p.embedded == nil {
		return p.cfg.Directory.changedElsewhere()
	}
	return p.embedded.Export(ctx, w)
}
