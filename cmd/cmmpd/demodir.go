package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"cmmpd/configs"
	"cmmpd/directory/server"
	"cmmpd/internal/demopki"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// demoDir is the folder of a demonstration.
type demoDir struct {
	installation
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

// prepare makes the demonstration, or renews what is there: the ports, if others are
// asked for, and the revocation list.
func (dd demoDir) prepare(ctx context.Context) error {
	if _, err := os.Stat(dd.path(configFile)); err == nil {
		return errors.Join(dd.renewCRL(), dd.setPorts())
	}
	if err := dd.begin(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "making the demonstration in %s\n", dd.dir)
	if err := dd.build(ctx); err != nil {
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
	store, err := dd.makeKeystore(&keystoreFlags{})
	if err != nil {
		return err
	}
	defer store.Close()
	if err := dd.makePKI(ctx, ca, store, serverNames(), []string{works, health, platformDomain}); err != nil {
		return err
	}
	certs, err := dd.makePeople(ca)
	if err != nil {
		return err
	}
	if err := dd.makeEscrow(ca); err != nil {
		return err
	}
	if err := dd.writeCRL(ca, crlHolds); err != nil {
		return err
	}
	if err := dd.makeAudit(ctx, store, demoOrigin); err != nil {
		return err
	}
	ldif, err := dd.ldif(certs)
	if err != nil {
		return err
	}
	if err := dd.write(ldif, "directory.ldif"); err != nil {
		return err
	}
	config, err := editConfig(configs.Example, map[string]string{
		"limits.exempt-networks": `["127.0.0.0/8"]`,
		"log.level":              `"warn"`,
		"policy.lower-roles":     `["declassifier"]`,
		"policy.ess-policy":      `"2.25.113865221376509670885562157255721961056.3.1"`,
		"escrow.threshold":       "2",
	})
	if err != nil {
		return err
	}
	return dd.finish(ctx, config+escrowBlocks(demoEscrow()), ldif)
}

// demoOrigin is the name of the log in the example configuration.
const demoOrigin = "cmmpd.gov.example/audit"

const demoBase = "dc=gov,dc=example"

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

// demoEscrow are the officers who keep the accounts' keys in the demonstration.
func demoEscrow() []escrowOfficer {
	return []escrowOfficer{
		{UID: "secoff1", Certificate: "pki/escrow-secoff1.pem"},
		{UID: "secoff2", Certificate: "pki/escrow-secoff2.pem"},
	}
}

// makeEscrow makes the certificates of the officers who keep the accounts' keys, and of the one who may ask for an account, with their keys, which
// would be in cards of their own.
func (dd demoDir) makeEscrow(ca *demopki.CA) error {
	for uid, kind := range map[string]demopki.Kind{"secoff1": demopki.RSA2048, "secoff2": demopki.P256, "records": demopki.RSA2048} {
		id, err := ca.Issue(demopki.Spec{CN: "escrow, " + uid, Address: uid + "@" + platformDomain, Key: kind})
		if err != nil {
			return fmt.Errorf("escrow certificate of %s: %w", uid, err)
		}
		password, err := os.ReadFile(dd.path("people", uid, "password"))
		if err != nil {
			return err
		}
		p12, err := id.PKCS12(string(password))
		if err != nil {
			return err
		}
		if err := errors.Join(
			dd.write(string(demopki.CertPEM(id.Cert)), "pki", "escrow-"+uid+".pem"), dd.write(string(p12), "keys", "escrow-"+uid+".p12"),
		); err != nil {
			return err
		}
	}
	return nil
}

// crlHolds is how long a revocation list of the demonstration is good; each start makes a
// new one.
const crlHolds = 7 * 24 * time.Hour

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
	return dd.writeCRL(ca, crlHolds)
}

var listenLine = regexp.MustCompile(`(?m)^(mx|submissions?|imaps?|ldaps?|health)( *= *"127\.0\.0\.1:)\d+(")`)

// setPorts makes the configuration listen at the base port. Nothing else in it is touched.
func (dd demoDir) setPorts() error {
	ports := servicePorts()
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
	return durable.WriteFile(durable.OS{}, dd.path(configFile), []byte(text), 0o600)
}

// ldif is the directory of the demonstration. Passwords stand in it as verifiers.
func (dd demoDir) ldif(certs map[string]*x509.Certificate) (string, error) {
	d, err := newDirectoryLDIF(demoBase, "people", "posts", "groups", "bench")
	if err != nil {
		return "", err
	}
	for _, m := range demoMembers() {
		password, err := os.ReadFile(dd.path("people", m.uid, "password"))
		if err != nil {
			return "", err
		}
		verifier, err := server.HashPassword(rand.Reader, string(password), server.DefaultRounds)
		if err != nil {
			return "", err
		}
		a := account{
			uid: m.uid, cn: m.cn(), display: m.cn() + " " + m.name, mail: m.address(), unit: m.domain, verifier: verifier,
			role: m.role, profile: m.profile,
		}
		if m.post {
			a.holder = "bob"
		}
		if m.role == "admin" {
			a.aliases = postmasters([]string{works, health, platformDomain})
		}
		if c := certs[m.uid]; c != nil {
			a.certificate = c.Raw
		}
		d.account(a)
	}
	d.entry("cn=team,ou=groups,"+demoBase, "objectClass", "groupOfNames", "objectClass", "cmmpdGroup", "cn", "team", "mail", "team@"+works,
		"member", d.person("alice"), "member", d.person("bob"), "member", d.person("carol"))
	return d.String()
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
	return importLocally(ctx, cfg, ldif.String())
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
