package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"text/template"
	"time"

	"cmmpd/audit"
	"cmmpd/configs"
	"cmmpd/directory/server"
	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// demoDir is the folder of a demonstration.
type demoDir struct {
	dir      string
	basePort int
}

// member is one of those who have a mailbox in the demonstration.
type member struct {
	uid, domain string
	role        string // an administrative role
	post        bool
	name        string // in Chinese, for the address book

	cert     bool // has a certificate …
	key      demopki.Kind
	nameless bool   // … without the address in it
	profile  string // what the directory says about the client
	withheld bool   // not in the directory at first
	expired  bool
	revoked  bool
}

func (m *member) address() string { return m.uid + "@" + m.domain }

// cn is the capitalised uid.
func (m *member) cn() string { return strings.ToUpper(m.uid[:1]) + m.uid[1:] }

const (
	works          = "works.gov.example"
	health         = "health.gov.example"
	platformDomain = "platform.gov.example"
)

func demoMembers() []member {
	return []member{
		{uid: "alice", domain: works, cert: true, key: demopki.RSA2048, profile: "oaep", name: "愛麗絲"},
		{uid: "bob", domain: works, cert: true, key: demopki.RSA3072, profile: "pkcs1v15", name: "鮑伯"},
		{uid: "carol", domain: health, cert: true, key: demopki.P256, name: "卡蘿"},
		{uid: "erin", domain: health, cert: true, key: demopki.P384, nameless: true, name: "艾琳"},
		{uid: "dave", domain: health, name: "戴夫"},
		{uid: "henry", domain: health, cert: true, key: demopki.P256, withheld: true, name: "亨利"},
		{uid: "frank", domain: works, cert: true, key: demopki.RSA2048, expired: true, name: "弗蘭克"},
		{uid: "grace", domain: works, cert: true, key: demopki.RSA2048, revoked: true, name: "格蕾絲"},
		{uid: "ds1", domain: works, cert: true, key: demopki.RSA2048, post: true, name: "副秘書長(一)"},
		{uid: "admin", domain: platformDomain, role: "admin", name: "系統管理員"},
		{uid: "secoff1", domain: platformDomain, role: "security-officer", name: "保安主任(一)"},
		{uid: "secoff2", domain: platformDomain, role: "security-officer", name: "保安主任(二)"},
		{uid: "auditor", domain: platformDomain, role: "auditor", name: "審計員"},
		{uid: "records", domain: platformDomain, role: "records-manager", name: "檔案主任"},
	}
}

func (dd demoDir) path(elem ...string) string {
	return filepath.Join(append([]string{dd.dir}, elem...)...)
}

// setupMark stands in the folder while it is being made: with it and without a
// configuration, what is there is the rest of an attempt that was cut off.
const setupMark = "setup-unfinished"

// prepare makes the demonstration, or renews what is there: the ports, if others are
// asked for, and the revocation list.
func (dd demoDir) prepare(ctx context.Context) error {
	if _, err := os.Stat(dd.path("cmmpd.toml")); err == nil {
		return errors.Join(dd.renewCRL(), dd.setPorts())
	}
	if err := os.MkdirAll(dd.dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dd.dir)
	if err != nil {
		return err
	}
	if _, err := os.Stat(dd.path(setupMark)); err == nil {
		for _, e := range entries {
			if err := os.RemoveAll(dd.path(e.Name())); err != nil {
				return err
			}
		}
	} else if len(entries) > 0 {
		return errors.New("the folder is not empty and holds no demonstration; give an empty one")
	}
	if err := dd.write("", setupMark); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "making the demonstration in %s\n", dd.dir)
	if err := dd.build(ctx); err != nil {
		return err
	}
	if err := os.Remove(dd.path(setupMark)); err != nil {
		return err
	}
	return dd.setPorts()
}

// build makes everything but the ports. The configuration comes last: with it the
// demonstration is complete.
func (dd demoDir) build(ctx context.Context) error {
	ca, err := demopki.NewCA("cmmpd demonstration authority", time.Now)
	if err != nil {
		return err
	}
	store, err := dd.makeKeystore()
	if err != nil {
		return err
	}
	defer store.Close()
	if err := dd.makePKI(ca, store); err != nil {
		return err
	}
	certs, err := dd.makePeople(ca)
	if err != nil {
		return err
	}
	if err := dd.writeCRL(ca); err != nil {
		return err
	}
	key, err := store.Signer(ctx, keys.Service, "audit")
	if err != nil {
		return err
	}
	if err := audit.Create(dd.path("audit"), key, audit.Options{Origin: demoOrigin}); err != nil {
		return err
	}
	ldif, err := dd.ldif(certs)
	if err != nil {
		return err
	}
	if err := dd.write(ldif, "directory.ldif"); err != nil {
		return err
	}
	if err := dd.write(demoConfig(), "cmmpd.toml.new"); err != nil {
		return err
	}
	if err := dd.importLDIF(ctx, ldif); err != nil {
		return err
	}
	return os.Rename(dd.path("cmmpd.toml.new"), dd.path("cmmpd.toml"))
}

// demoOrigin is the name of the log in the example configuration.
const demoOrigin = "cmmpd.gov.example/audit"

// demoConfig is the annotated configuration with the demonstration's few departures.
func demoConfig() string {
	return strings.NewReplacer(
		`exempt-networks = [] `, `exempt-networks = ["127.0.0.0/8"] `,
		`level = "info"`, `level = "warn"`,
	).Replace(configs.Example)
}

// write writes a private file below the folder.
func (dd demoDir) write(data string, elem ...string) error {
	path := dd.path(elem...)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(data), 0o600)
}

func (dd demoDir) makeKeystore() (*keys.FileStore, error) {
	if err := os.MkdirAll(dd.path("keys"), 0o700); err != nil {
		return nil, err
	}
	s, err := keys.CreateFile(dd.path("keys", "keystore"))
	if err != nil {
		return nil, err
	}
	for _, k := range []struct {
		slot keys.Slot
		name string
		kind keys.Kind
	}{
		{keys.Mail, "platform", keys.KindAES256},
		{keys.Service, "store", keys.KindAES256},
		{keys.Service, "blind", keys.KindAES256},
		{keys.Service, "audit", keys.KindEd25519},
	} {
		if err := s.Generate(k.slot, k.name, k.kind); err != nil {
			return nil, fmt.Errorf("key %s/%s: %w", k.slot, k.name, err)
		}
	}
	return s, nil
}

// makePKI makes the authority's files, the server's certificate and the domains' signing
// certificates.
func (dd demoDir) makePKI(ca *demopki.CA, store *keys.FileStore) error {
	caKey, err := demopki.KeyPEM(ca.Key)
	if err != nil {
		return err
	}
	srv, err := ca.Server(serverNames()...)
	if err != nil {
		return err
	}
	srvKey, err := demopki.KeyPEM(srv.Key)
	if err != nil {
		return err
	}
	err = errors.Join(
		dd.write(string(demopki.CertPEM(ca.Cert)), "pki", "ca.pem"), dd.write(string(caKey), "keys", "ca.key"),
		dd.write(string(demopki.CertPEM(srv.Cert)), "pki", "server.pem"), dd.write(string(srvKey), "keys", "server.key"),
	)
	for _, domain := range []string{works, health, platformDomain} {
		id, err := ca.Issue(demopki.Spec{CN: "Domain signing authority of " + domain, Address: "domain-signing-authority@" + domain, Key: demopki.RSA2048, Usage: x509.KeyUsageDigitalSignature})
		if err != nil {
			return err
		}
		if err := store.Import(keys.Service, "gateway/"+domain, id.Key); err != nil {
			return err
		}
		if err := dd.write(string(demopki.CertPEM(id.Cert)), "pki", "gateway-"+domain+".pem"); err != nil {
			return err
		}
	}
	return err
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

// makePeople makes everyone's password and certificate files, and returns the certificates
// that stand in the directory from the beginning.
func (dd demoDir) makePeople(ca *demopki.CA) (map[string]*x509.Certificate, error) {
	published := make(map[string]*x509.Certificate)
	for _, m := range demoMembers() {
		password := rand.Text()
		if err := dd.write(password, "people", m.uid, "password"); err != nil {
			return nil, err
		}
		if !m.cert {
			continue
		}
		spec := demopki.Spec{CN: m.cn(), Address: m.address(), Key: m.key}
		if m.nameless {
			spec.Address = ""
		}
		if m.expired {
			spec.NotBefore, spec.NotAfter = time.Now().AddDate(-2, 0, 0), time.Now().AddDate(0, -1, 0)
		}
		id, err := ca.Issue(spec)
		if err != nil {
			return nil, fmt.Errorf("certificate of %s: %w", m.uid, err)
		}
		if m.revoked {
			ca.Revoke(id.Cert)
		}
		if !m.withheld {
			published[m.uid] = id.Cert
		}
		key, err := demopki.KeyPEM(id.Key)
		if err != nil {
			return nil, err
		}
		p12, err := id.PKCS12(password)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(
			dd.write(string(demopki.CertPEM(id.Cert)), "people", m.uid, "cert.pem"),
			dd.write(string(key), "people", m.uid, "key.pem"), dd.write(string(p12), "people", m.uid, m.uid+".p12"),
		); err != nil {
			return nil, err
		}
	}
	return published, nil
}

// crlHolds is how long a revocation list of the demonstration is good; each start makes a
// new one.
const crlHolds = 7 * 24 * time.Hour

func (dd demoDir) writeCRL(ca *demopki.CA) error {
	crl, err := ca.CRL(crlHolds)
	if err != nil {
		return err
	}
	if err := dd.write(string(demopki.CRLPEM(crl)), "pki", "ca.crl.new"); err != nil {
		return err
	}
	return os.Rename(dd.path("pki", "ca.crl.new"), dd.path("pki", "ca.crl"))
}

// renewCRL makes the authority's next revocation list.
func (dd demoDir) renewCRL() error {
	read := func(elem ...string) []byte {
		b, err := os.ReadFile(dd.path(elem...))
		if err != nil {
			return nil
		}
		return b
	}
	certs, err := demopki.ParseCerts(read("pki", "ca.pem"))
	if err != nil {
		return fmt.Errorf("pki/ca.pem: %w", err)
	}
	key, err := demopki.ParseKey(read("keys", "ca.key"))
	if err != nil {
		return fmt.Errorf("keys/ca.key: %w", err)
	}
	last, err := demopki.ParseCRL(read("pki", "ca.crl"))
	if err != nil {
		return fmt.Errorf("pki/ca.crl: %w", err)
	}
	ca, err := demopki.LoadCA(certs[0], key, last, time.Now)
	if err != nil {
		return err
	}
	return dd.writeCRL(ca)
}

var listenLine = regexp.MustCompile(`(?m)^(mx|submissions?|imaps?|ldaps?|health)( *= *"127\.0\.0\.1:)\d+(")`)

// setPorts makes the configuration listen at the base port. Nothing else in it is touched.
func (dd demoDir) setPorts() error {
	ports := map[string]int{"mx": 25, "submission": 587, "submissions": 465, "imap": 143, "imaps": 993, "ldap": 389, "ldaps": 636, "health": 90}
	old, err := os.ReadFile(dd.path("cmmpd.toml"))
	if err != nil {
		return err
	}
	text := listenLine.ReplaceAllStringFunc(string(old), func(line string) string {
		m := listenLine.FindStringSubmatch(line)
		return m[1] + m[2] + strconv.Itoa(dd.basePort+ports[m[1]]) + m[3]
	})
	if text == string(old) {
		return nil
	}
	if err := dd.write(text, "cmmpd.toml.new"); err != nil {
		return err
	}
	return os.Rename(dd.path("cmmpd.toml.new"), dd.path("cmmpd.toml"))
}

var demoLDIF = template.Must(template.New("ldif").Parse(`version: 1

dn: dc=gov,dc=example
objectClass: domain
dc: gov

{{range .Units}}dn: ou={{.}},dc=gov,dc=example
objectClass: organizationalUnit
ou: {{.}}

{{end}}{{range .Members}}dn: {{if .Post}}cn={{.UID}},ou=posts{{else}}uid={{.UID}},ou=people{{end}},dc=gov,dc=example
{{if .Post}}objectClass: organizationalRole
cn: {{.UID}}
roleOccupant: uid=bob,ou=people,dc=gov,dc=example
{{else}}objectClass: inetOrgPerson
cn: {{.CN}}
sn: {{.CN}}
{{end}}objectClass: cmmpdAccount
uid: {{.UID}}
displayName:: {{.Display}}
mail: {{.Mail}}
ou: {{.Domain}}
userPassword: {{.Password}}
{{with .Role}}cmmpdRole: {{.}}
{{end}}{{with .Profile}}cmmpdCipherProfile: {{.}}
{{end}}{{with .Cert}}userCertificate;binary:: {{.}}
{{end}}
{{end}}dn: cn=team,ou=groups,dc=gov,dc=example
objectClass: groupOfNames
objectClass: cmmpdGroup
cn: team
mail: team@works.gov.example
member: uid=alice,ou=people,dc=gov,dc=example
member: uid=bob,ou=people,dc=gov,dc=example
member: uid=carol,ou=people,dc=gov,dc=example
`))

// ldifMember is a member as the LDIF shows them.
type ldifMember struct {
	UID, CN, Display, Mail, Domain, Password, Role, Profile, Cert string
	Post                                                          bool
}

// ldif is the directory of the demonstration. Passwords stand in it as verifiers.
func (dd demoDir) ldif(certs map[string]*x509.Certificate) (string, error) {
	b64 := base64.StdEncoding.EncodeToString
	var members []ldifMember
	for _, m := range demoMembers() {
		password, err := os.ReadFile(dd.path("people", m.uid, "password"))
		if err != nil {
			return "", err
		}
		verifier, err := server.HashPassword(rand.Reader, string(password), server.DefaultRounds)
		if err != nil {
			return "", err
		}
		l := ldifMember{
			UID: m.uid, CN: m.cn(), Display: b64([]byte(m.cn() + " " + m.name)), Mail: m.address(), Domain: m.domain,
			Password: verifier, Role: m.role, Profile: m.profile, Post: m.post,
		}
		if c := certs[m.uid]; c != nil {
			l.Cert = b64(c.Raw)
		}
		members = append(members, l)
	}
	var out bytes.Buffer
	err := demoLDIF.Execute(&out, map[string]any{"Units": []string{"people", "posts", "groups", "bench"}, "Members": members})
	return out.String(), err
}

// importLDIF fills the embedded directory before the first start.
func (dd demoDir) importLDIF(ctx context.Context, ldif string) error {
	cfg, err := loadConfig(dd.path("cmmpd.toml.new"))
	if err != nil {
		return err
	}
	return dd.importInto(ctx, cfg, ldif)
}

func (dd demoDir) importInto(ctx context.Context, cfg *config, ldif string) error {
	op, err := localOperator(ctx, cfg, "", "")
	if err != nil {
		return err
	}
	_, err = op.importLDIF(ctx, strings.NewReader(ldif))
	return errors.Join(err, op.close())
}

// addBenchUsers adds those of bench0 … bench(n-1) that are not there yet. All have the
// password benchpass and share one verifier.
func (dd demoDir) addBenchUsers(ctx context.Context, cfg *config, n int) error {
	if n == 0 {
		return nil
	}
	have, err := benchUsers(ctx, cfg, n)
	if err != nil || have == n {
		return err
	}
	const rounds = 4096
	verifier, err := server.HashPassword(rand.Reader, "benchpass", rounds)
	if err != nil {
		return err
	}
	var ldif strings.Builder
	for i := have; i < n; i++ {
		fmt.Fprintf(&ldif, "dn: uid=bench%[1]d,ou=bench,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\n"+
			"uid: bench%[1]d\ncn: Bench%[1]d\nsn: Bench%[1]d\nmail: bench%[1]d@bench.test\nuserPassword: %[2]s\n\n", i, verifier)
	}
	return dd.importInto(ctx, cfg, ldif.String())
}

// benchUsers counts the first n bench users that are in the directory: they are added in
// order.
func benchUsers(ctx context.Context, cfg *config, n int) (int, error) {
	p := newPlatform(cfg, newLog("error"))
	err := p.openDirectory(ctx)
	have := sort.Search(n, func(i int) bool {
		if err != nil {
			return true
		}
		_, e := p.dir.ByUID(ctx, fmt.Sprintf("bench%d", i))
		if mail.KindOf(e) != mail.NotFound {
			err = e
		}
		return e != nil
	})
	return have, errors.Join(err, p.close())
}
