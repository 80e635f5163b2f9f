package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/audit"
	"cmmpd/directory/ldif"
	"cmmpd/internal/demopki"
	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// installation is a folder that holds all of a platform: configuration, keys, audit log, directory and, later, mail.
// The configuration comes last: with it the installation is complete.
type installation struct{ dir string }

const (
	configFile = "cmmpd.toml"
	// setupMark stands in the folder while it is being made: with it and without a
	// configuration, what is there is the rest of an attempt that was cut off.
	setupMark = "setup-unfinished"
)

func (in installation) path(elem ...string) string {
	return filepath.Join(append([]string{in.dir}, elem...)...)
}

// write writes a private file below the folder.
func (in installation) write(data string, elem ...string) error {
	path := in.path(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o600)
}

// begin makes the folder if it is absent. It must be empty but for what an attempt that was cut off has left, which is
// removed.
func (in installation) begin() error {
	if err := os.MkdirAll(in.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(in.dir)
	if err != nil {
		return err
	}
	_, unfinished := os.Stat(in.path(setupMark))
	_, complete := os.Stat(in.path(configFile))
	switch {
	case complete == nil:
		return errors.New("there is an installation already")
	case unfinished == nil:
		for _, e := range entries {
			if e.Name() == setupMark {
				continue // it goes last
			}
			if err := os.RemoveAll(in.path(e.Name())); err != nil {
				return err
			}
		}
	case len(entries) > 0:
		return errors.New("the folder is not empty; give an empty one")
	}
	return in.write("", setupMark)
}

// finish fills the directory, and puts the configuration in its place when it is known to be good and all is on the disk.
func (in installation) finish(ctx context.Context, config, ldif string) error {
	next := in.path(configFile + ".new")
	if err := in.write(config, configFile+".new"); err != nil {
		return err
	}
	cfg, err := loadConfig(next)
	if err != nil {
		return err
	}
	if err := importLocally(ctx, cfg, ldif); err != nil {
		return err
	}
	if err := durable.FlushAll(in.dir); err != nil {
		return err
	}
	if err := os.Rename(next, in.path(configFile)); err != nil {
		return err
	}
	if err := os.Remove(in.path(setupMark)); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(in.dir)
}

// importLocally changes the embedded directory while no daemon runs.
func importLocally(ctx context.Context, cfg *config, ldif string) error {
	op, err := localOperator(ctx, cfg, "", "")
	if err != nil {
		return err
	}
	_, err = op.importLDIF(ctx, strings.NewReader(ldif))
	return errors.Join(err, op.close())
}

// makeKeystore makes the platform's own keys, where the flags say. In a token those that are there already are taken.
func (in installation) makeKeystore(where *keystoreFlags) (keys.Slots, error) {
	if err := os.MkdirAll(in.path("keys"), 0o700); err != nil {
		return keys.Slots{}, err
	}
	c := where.config(in.path("keys", "keystore"))
	if len(c.inFiles()) > 0 {
		f, err := keys.CreateFile(c.Path)
		if err == nil {
			err = f.Close()
		}
		if err != nil {
			return keys.Slots{}, err
		}
	}
	s, err := c.open()
	if err != nil {
		return s, err
	}
	return s, makePlatformKeys(s)
}

// makePlatformKeys makes those of the keys that every platform needs that are not there.
func makePlatformKeys(s keys.Slots) error {
	for _, k := range []keys.Info{
		{Slot: keys.Mail, Name: keys.PlatformKey, Kind: keys.KindAES256},
		{Slot: keys.Service, Name: "store", Kind: keys.KindHMAC256},
		{Slot: keys.Service, Name: "blind", Kind: keys.KindHMAC256},
		{Slot: keys.Service, Name: "audit", Kind: keys.KindEd25519},
	} {
		if err := ensureKey(s, k); err != nil {
			return fmt.Errorf("key %s/%s: %w", k.Slot, k.Name, err)
		}
	}
	return nil
}

// ensureKey makes a key if it is not there.
func ensureKey(s keys.Slots, k keys.Info) error {
	list, err := s.List(k.Slot)
	if err != nil {
		return err
	}
	for _, have := range list {
		switch {
		case have.Name != k.Name:
		case have.Kind == k.Kind, have.Kind == keys.KindAES256 && k.Kind == keys.KindHMAC256: // a key file is both
			return nil
		default:
			return fmt.Errorf("there is one, of kind %s; %s is needed", have.Kind, k.Kind)
		}
	}
	err = s.Generate(k.Slot, k.Name, k.Kind)
	if mail.KindOf(err) == mail.Denied && err != nil {
		return fmt.Errorf("an operator of keyd must make it first, with: cmmpd keys generate --platform (%w)", err)
	}
	return err
}

// makeAudit makes the audit log.
func (in installation) makeAudit(ctx context.Context, store keys.Slots, origin string) error {
	key, err := store.Signer(ctx, keys.Service, "audit")
	if err != nil {
		return err
	}
	return audit.Create(in.path("audit"), key, audit.Options{Origin: origin})
}

// makePKI makes a development authority's files, the server's certificate for the names, and the domains' signing
// certificates.
func (in installation) makePKI(ctx context.Context, ca *demopki.CA, store keys.Slots, names, domains []string) error {
	caKey, err := demopki.KeyPEM(ca.Key)
	if err != nil {
		return err
	}
	srv, err := ca.Server(names...)
	if err != nil {
		return err
	}
	srvKey, err := demopki.KeyPEM(srv.Key)
	if err != nil {
		return err
	}
	err = errors.Join(
		in.write(string(demopki.CertPEM(ca.Cert)), "pki", "ca.pem"), in.write(string(caKey), "keys", "ca.key"),
		in.write(string(demopki.CertPEM(srv.Cert)), "pki", "server.pem"), in.write(string(srvKey), "keys", "server.key"),
	)
	if err != nil {
		return err
	}
	for _, domain := range domains {
		if err := ensureKey(store, keys.Info{Slot: keys.Service, Name: gatewayKey(domain), Kind: keys.KindRSA2048}); err != nil {
			return err
		}
		key, err := store.Signer(ctx, keys.Service, gatewayKey(domain))
		if err != nil {
			return err
		}
		id, err := ca.Issue(demopki.Spec{CN: "Domain signing authority of " + domain, Address: "domain-signing-authority@" + domain, Signer: key, Usage: x509.KeyUsageDigitalSignature})
		if err != nil {
			return err
		}
		if err := in.write(string(demopki.CertPEM(id.Cert)), "pki", gatewayFile(domain)); err != nil {
			return err
		}
	}
	return nil
}

// gatewayKey and gatewayFile name a domain's signing key in the keystore, and its certificate.
func gatewayKey(domain string) string  { return "gateway/" + domain }
func gatewayFile(domain string) string { return "gateway-" + domain + ".pem" }

// writeCRL writes the development authority's next revocation list.
func (in installation) writeCRL(ca *demopki.CA, holds time.Duration) error {
	crl, err := ca.CRL(holds)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, in.path("pki", "ca.crl"), demopki.CRLPEM(crl), 0o600)
}

// serverNames are what the server's certificate names: this machine as its clients call
// it. OpenLDAP's library asks for the machine's own name when told "localhost".
func serverNames() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	if h, err := os.Hostname(); err == nil && h != "localhost" && hostname.MatchString(h) {
		names = append(names, h)
	}
	return names
}

// servicePorts are the well-known ports, to which the base port is added.
func servicePorts() map[string]int {
	return map[string]int{"mx": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "ldap": 389, "ldaps": 636, "health": 90}
}

// account is one who has a mailbox, for the first LDIF.
type account struct {
	uid, cn, display, mail, unit string
	verifier                     string // of the password
	role, profile                string // may be empty
	certificate                  []byte // DER; may be empty
	holder                       string // of a post: the holder's uid
	aliases                      []string
}

// postmasters are the addresses that every mail server must take mail for (RFC 5321, section
// 4.5.1), but for those that somebody has as their own.
func postmasters(domains []string, taken ...string) []string {
	var all []string
	for _, d := range domains {
		if a := "postmaster@" + d; !slices.ContainsFunc(taken, func(t string) bool { return strings.EqualFold(t, a) }) {
			all = append(all, a)
		}
	}
	return all
}

// directoryLDIF collects the first entries of a directory.
type directoryLDIF struct {
	base string
	out  bytes.Buffer
	w    *ldif.Writer
}

// newDirectoryLDIF begins with the base and the given units below it.
func newDirectoryLDIF(base string, units ...string) (*directoryLDIF, error) {
	d := &directoryLDIF{base: base}
	d.w = ldif.NewWriter(&d.out)
	dn, err := ldap.ParseDN(base)
	if err != nil || len(dn.RDNs) == 0 {
		return nil, fmt.Errorf("%q is not a distinguished name", base)
	}
	first := dn.RDNs[0].Attributes[0]
	class, ok := map[string]string{"dc": "domain", "o": "organization", "ou": "organizationalUnit", "c": "country", "l": "locality"}[strings.ToLower(first.Type)]
	if !ok || len(dn.RDNs[0].Attributes) > 1 {
		return nil, fmt.Errorf("the base %q must begin with dc, o, ou, c or l", base)
	}
	d.entry(base, "objectClass", class, first.Type, first.Value)
	for _, ou := range units {
		d.entry("ou="+ou+","+base, "objectClass", "organizationalUnit", "ou", ou)
	}
	return d, nil
}

// entry adds an entry; pairs are names and values by turns, of which empty ones are left out.
func (d *directoryLDIF) entry(dn string, pairs ...string) {
	var values []ldif.Value
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values = append(values, ldif.Value{Desc: pairs[i], Data: []byte(pairs[i+1])})
		}
	}
	d.w.Entry(dn, values)
}

func (d *directoryLDIF) person(uid string) string { return "uid=" + uid + ",ou=people," + d.base }

// account adds a person or a post. The values of an attribute stand together: slapadd
// keeps one run of them only.
func (d *directoryLDIF) account(a account) {
	dn, naming := d.person(a.uid), []string{"objectClass", "inetOrgPerson", "objectClass", "cmmpdAccount", "cn", a.cn, "sn", a.cn}
	if a.holder != "" {
		dn = "cn=" + a.uid + ",ou=posts," + d.base
		naming = []string{"objectClass", "organizationalRole", "objectClass", "cmmpdAccount", "cn", a.uid, "roleOccupant", d.person(a.holder)}
	}
	for _, alias := range a.aliases {
		naming = append(naming, "mailAlternateAddress", alias)
	}
	d.entry(dn, append(naming,
		"uid", a.uid, "displayName", a.display, "mail", a.mail, "ou", a.unit, "userPassword", a.verifier,
		"cmmpdRole", a.role, "cmmpdCipherProfile", a.profile, "userCertificate;binary", string(a.certificate))...)
}

// String is the whole LDIF.
func (d *directoryLDIF) String() (string, error) {
	err := d.w.Flush()
	return d.out.String(), err
}

// checkPEM demands that a file holds at least one certificate, or key, that can be read.
func checkPEM(path string, private bool) error {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s does not exist", path)
	} else if err != nil {
		return err
	}
	if private {
		_, err = demopki.ParseKey(data)
	} else {
		_, err = demopki.ParseCerts(data)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if block, _ := pem.Decode(data); block == nil {
		return fmt.Errorf("%s is not a PEM file", path)
	}
	return nil
}
