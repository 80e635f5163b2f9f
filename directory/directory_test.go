package directory_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

const base = "dc=gov,dc=example"

const tree = `dn: dc=gov,dc=example
objectClass: domain
dc: gov

dn: ou=people,dc=gov,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=posts,dc=gov,dc=example
objectClass: organizationalUnit
ou: posts

dn: ou=groups,dc=gov,dc=example
objectClass: organizationalUnit
ou: groups
`

func person(uid string, more ...string) string {
	return fmt.Sprintf("\ndn: uid=%s,ou=people,%s\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\nuid: %s\ncn: %s\nsn: %s\nmail: %s@works.gov.example\nuserPassword: %spass\n%s",
		uid, base, uid, uid, uid, uid, uid, lines(more))
}

func group(cn string, members ...string) string {
	s := fmt.Sprintf("\ndn: cn=%s,ou=groups,%s\nobjectClass: groupOfNames\nobjectClass: cmmpdGroup\ncn: %s\nmail: %s@works.gov.example\n", cn, base, cn, cn)
	for _, m := range members {
		s += "member: " + m + "," + base + "\n"
	}
	return s
}

func lines(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return strings.Join(s, "\n") + "\n"
}

// newPair opens an embedded directory and a resolver on it, in process.
func newPair(t testing.TB, ldif string, o directory.Options) (*directory.Directory, *server.Server) {
	t.Helper()
	var d *directory.Directory
	s, err := server.Open(server.Options{Path: filepath.Join(t.TempDir(), "d.db"), BaseDN: base, Rounds: 4096, Changed: func() {
		if d != nil {
			d.Changed()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if o.Dial == nil {
		o.Dial = s.Dial
	}
	o.Trusted, o.BaseDN = true, base
	if d, err = directory.New(o); err != nil {
		t.Fatal(err)
	}
	load(t, s, tree+ldif)
	t.Cleanup(func() {
		d.Close()
		s.Shutdown(context.Background())
		s.Close()
	})
	return d, s
}

// everyServer runs a test's body over resolvers that ask the embedded directory in process,
// and OpenLDAP's slapd over LDAPS and with StartTLS.
func everyServer(t *testing.T, ldif string, o directory.Options, body func(t *testing.T, d *directory.Directory)) {
	t.Run("embedded", func(t *testing.T) {
		d, _ := newPair(t, ldif, o)
		body(t, d)
	})
	t.Run("slapd", func(t *testing.T) {
		s, roots := startSlapd(t, ldif)
		for name, startTLS := range map[string]bool{"LDAPS": false, "StartTLS": true} {
			t.Run(name, func(t *testing.T) {
				body(t, remote(t, o, s.URL(startTLS), roots))
			})
		}
	})
}

const servicePassword = "servicepass"

// startSlapd serves the entries, and one for the resolver itself.
func startSlapd(t testing.TB, ldif string) (*testkit.Slapd, *x509.CertPool) {
	t.Helper()
	testkit.Need(t, "slapd")
	ca, err := demopki.NewCA("Test", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := demopki.KeyPEM(id.Key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	service := "\ndn: cn=cmmpd," + base + "\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: cmmpd\nuserPassword: " + servicePassword + "\n"
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	return testkit.StartSlapd(t, testkit.SlapdOptions{
		Conf: "../configs/openldap", LDIF: tree + service + ldif,
		CA: file("ca.pem", demopki.CertPEM(ca.Cert)), Cert: file("server.pem", demopki.CertPEM(id.Cert)), Key: file("server.key", key),
	}), roots
}

// remote is a resolver that asks the server at a URL.
func remote(t testing.TB, o directory.Options, url string, roots *x509.CertPool) *directory.Directory {
	t.Helper()
	o.BaseDN, o.BindDN, o.BindPassword = base, "cn=cmmpd,"+base, servicePassword
	if err := o.Reach(url, roots); err != nil {
		t.Fatal(err)
	}
	d, err := directory.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func load(t testing.TB, s *server.Server, ldif string) {
	t.Helper()
	if _, err := s.Import(context.Background(), strings.NewReader(ldif), "test"); err != nil {
		t.Fatal(err)
	}
}

func addr(s string) mail.Address { return mail.MustParseAddress(s) }

func uids(list []directory.Entry) string {
	var out []string
	for _, e := range list {
		out = append(out, e.UID)
	}
	return strings.Join(out, " ")
}

func sample() string {
	return person("alice", "mailAlternateAddress: a.chan@works.gov.example", "displayName: 陳愛麗", "cmmpdClearance: confidential", "cmmpdRole: admin", "ou: Works") +
		person("bob") + person("carol") +
		"\ndn: cn=ds1,ou=posts," + base + "\nobjectClass: organizationalRole\nobjectClass: cmmpdAccount\ncn: ds1\nuid: ds1\nmail: ds1@works.gov.example\nmailAlternateAddress: desk@works.gov.example\nroleOccupant: uid=bob,ou=people," + base + "\n" +
		group("team", "uid=alice,ou=people", "UID=Bob, ou=people", "uid=carol,ou=people", "uid=gone,ou=people") +
		group("all", "cn=team,ou=groups", "cn=loop,ou=groups", "cn=ds1,ou=posts", "uid=alice,ou=people") +
		group("loop", "cn=all,ou=groups", "cn=loop,ou=groups") +
		group("empty", "uid=gone,ou=people")
}

func TestResolve(t *testing.T) { everyServer(t, sample(), directory.Options{}, testResolve) }

func testResolve(t *testing.T, d *directory.Directory) {
	ctx := context.Background()
	for a, want := range map[string]string{
		"alice@works.gov.example":  "alice",
		"ALICE@Works.gov.example":  "alice",
		"a.chan@works.gov.example": "alice",
		"ds1@works.gov.example":    "ds1",
		"desk@works.gov.example":   "ds1",
		"team@works.gov.example":   "alice bob carol",
		"all@works.gov.example":    "alice bob carol ds1",
		"loop@works.gov.example":   "alice bob carol ds1",
	} {
		list, err := d.Resolve(ctx, addr(a))
		if err != nil || uids(list) != want {
			t.Errorf("%s: %q, %v; want %q", a, uids(list), err, want)
		}
	}
	for _, a := range []string{"nobody@works.gov.example", "empty@works.gov.example", "*@works.gov.example", "alice@elsewhere.example", `")(uid=*"@works.gov.example`} {
		if _, err := d.Resolve(ctx, addr(a)); mail.KindOf(err) != mail.NotFound || err == nil {
			t.Errorf("%s: %v", a, err)
		}
	}
	e, err := d.Lookup(ctx, addr("a.chan@works.gov.example"))
	if err != nil || e.Kind != directory.Person || len(e.Account) != 36 || e.Name != "陳愛麗" || e.Clearance != mail.Confidential || len(e.Roles) != 1 || e.Department != "Works" || len(e.Aliases) != 1 || e.Address.String() != "alice@works.gov.example" {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := d.Lookup(ctx, addr("team@works.gov.example")); err != nil || e.Kind != directory.Group || len(e.Members) != 4 || e.Account != "" {
		t.Errorf("%+v, %v", e, err)
	}
	if e, err := d.ByUID(ctx, "ds1"); err != nil || e.Kind != directory.Post || !strings.HasPrefix(e.Holder, "uid=bob,") {
		t.Errorf("%+v, %v", e, err)
	}
	if err := d.Ready(ctx); err != nil {
		t.Error(err)
	}
}

func TestPrincipal(t *testing.T) { everyServer(t, sample(), directory.Options{}, testPrincipal) }

func testPrincipal(t *testing.T, d *directory.Directory) {
	for _, name := range []string{"bob", "BOB", "bob@works.gov.example", "uid=bob,ou=people," + base} {
		p, err := d.Principal(context.Background(), name)
		if err != nil || p.UID != "bob" || p.Account == "" {
			t.Fatalf("%s: %+v, %v", name, p, err)
		}
		for a, want := range map[string]bool{"bob@works.gov.example": true, "ds1@works.gov.example": true, "desk@works.gov.example": true, "alice@works.gov.example": false, "team@works.gov.example": false} {
			if p.MaySendAs(addr(a)) != want {
				t.Errorf("%s may send as %s: %v", name, a, !want)
			}
		}
	}
	for _, name := range []string{"", "nobody", "team@works.gov.example", "*", "cn=team,ou=groups," + base, "a=b", strings.Repeat("x", 1000)} {
		if _, err := d.Principal(context.Background(), name); err == nil || mail.KindOf(err) != mail.NotFound {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestBind(t *testing.T) { everyServer(t, sample(), directory.Options{}, testBind) }

func testBind(t *testing.T, d *directory.Directory) {
	ctx := context.Background()
	for _, name := range []string{"bob", "bob@works.gov.example", "uid=bob,ou=people," + base} {
		if err := d.Bind(ctx, name, "bobpass"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := d.Bind(ctx, name, "bobpas"); mail.KindOf(err) != mail.AuthFailed {
			t.Errorf("%s, wrong password: %v", name, err)
		}
	}
	for _, c := range [][2]string{{"bob", ""}, {"nobody", "x"}, {"", "x"}, {"*", "bobpass"}, {"ds1", "x"}, {"team@works.gov.example", "x"}, {"uid=nobody", "x"}, {"uid=bob", "bobpass"}} {
		err := d.Bind(ctx, c[0], c[1])
		if mail.KindOf(err) != mail.AuthFailed || mail.PublicOf(err) != "authentication failed" {
			t.Errorf("%q: %v", c, err)
		}
	}
	if list, err := d.Resolve(ctx, addr("bob@works.gov.example")); err != nil || len(list) != 1 {
		t.Errorf("searches suffer from binds: %v", err)
	}
}

func TestChangesAreSeenAtOnce(t *testing.T) {
	d, s := newPair(t, sample(), directory.Options{Limits: directory.Limits{CacheTTL: time.Hour}})
	ctx := context.Background()
	if _, err := d.Lookup(ctx, addr("new@works.gov.example")); mail.KindOf(err) != mail.NotFound {
		t.Fatal(err)
	}
	before, err := d.Lookup(ctx, addr("alice@works.gov.example"))
	if err != nil {
		t.Fatal(err)
	}
	load(t, s, "dn: uid=alice,ou=people,"+base+"\nchangetype: modify\nadd: mailAlternateAddress\nmailAlternateAddress: new@works.gov.example\n")
	after, err := d.Lookup(ctx, addr("new@works.gov.example"))
	if err != nil || after.Account != before.Account {
		t.Errorf("%+v, %v", after, err)
	}
}

func TestDirectoryDown(t *testing.T) {
	var down atomic.Bool
	var conns []net.Conn
	var d *directory.Directory
	var srv *server.Server
	o := directory.Options{Limits: directory.Limits{CacheTTL: -1}}
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		if down.Load() {
			return nil, errors.New("connection refused")
		}
		c, err := srv.Dial(ctx)
		conns = append(conns, c)
		return c, err
	}
	d, srv = newPair(t, sample(), o)
	ctx := context.Background()
	a := addr("alice@works.gov.example")
	if _, err := d.Lookup(ctx, a); err != nil {
		t.Fatal(err)
	}
	down.Store(true)
	for _, c := range conns {
		c.Close()
	}
	unavailable(t, d)
	down.Store(false)
	if _, err := d.Resolve(ctx, a); err != nil {
		t.Errorf("it does not come back: %v", err)
	}
}

// unavailable demands that everything is a temporary failure.
func unavailable(t *testing.T, d *directory.Directory) {
	t.Helper()
	ctx := context.Background()
	for range 3 {
		if _, err := d.Resolve(ctx, addr("alice@works.gov.example")); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("resolve: %v", err)
		}
		if _, err := d.Lookup(ctx, addr("nobody@works.gov.example")); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("an unknown address must not be refused for good: %v", err)
		}
		if _, err := d.ByDN(ctx, "uid=bob,ou=people,"+base); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("by name: %v", err)
		}
		if err := d.Bind(ctx, "alice", "alicepass"); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("bind: %v", err)
		}
		if err := d.Ready(ctx); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("ready: %v", err)
		}
	}
}

// TestSlapdStops takes a real server away and brings it back.
func TestSlapdStops(t *testing.T) {
	s, roots := startSlapd(t, sample())
	o := directory.Options{Limits: directory.Limits{CacheTTL: -1}}
	for _, startTLS := range []bool{false, true} {
		d := remote(t, o, s.URL(startTLS), roots)
		ctx := context.Background()
		works := func() {
			t.Helper()
			if _, err := d.Resolve(ctx, addr("team@works.gov.example")); err != nil {
				t.Error(err)
			}
			if err := d.Bind(ctx, "alice", "alicepass"); err != nil {
				t.Error(err)
			}
		}
		works()
		s.Stop()
		unavailable(t, d)
		s.Start()
		works()
	}
}

// TestWrongWayThere is what a configuration gets that is not right.
func TestWrongWayThere(t *testing.T) {
	s, roots := startSlapd(t, sample())
	stranger, err := demopki.NewCA("Stranger", nil)
	if err != nil {
		t.Fatal(err)
	}
	others := x509.NewCertPool()
	others.AddCert(stranger.Cert)
	for _, startTLS := range []bool{false, true} {
		unavailable(t, remote(t, directory.Options{}, s.URL(startTLS), others))
		// The certificate names the address only.
		unavailable(t, remote(t, directory.Options{}, strings.Replace(s.URL(startTLS), "127.0.0.1", "localhost", 1), roots))
	}
	o := directory.Options{BaseDN: base, BindDN: "cn=cmmpd," + base, BindPassword: "wrong"}
	if err := o.Reach(s.URL(false), roots); err != nil {
		t.Fatal(err)
	}
	d, err := directory.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	unavailable(t, d)
}

// TestOtherNames has entries in somebody else's words, and two that share an address.
func TestOtherNames(t *testing.T) {
	member := func(uid, mail string) string {
		return "\ndn: uid=" + uid + ",ou=people," + base + "\nobjectClass: inetOrgPerson\nuid: " + uid + "\ncn: Clerk " + uid + "\nsn: x\n" +
			"displayName: Not this\nemployeeType: " + mail + "@works.gov.example\ndescription: alias-" + uid + "@works.gov.example\ndepartmentNumber: Works\n"
	}
	s, roots := startSlapd(t, member("u1", "one")+member("u2", "two")+member("u3", "two")+
		"\ndn: cn=all,ou=groups,"+base+"\nobjectClass: groupOfUniqueNames\nobjectClass: cmmpdGroup\ncn: all\ndescription: all@works.gov.example\nuniqueMember: uid=u1,ou=people,"+base+"\nuniqueMember: uid=u3,ou=people,"+base+"\n")
	d := remote(t, directory.Options{Names: directory.Names{Name: "cn", Mail: "employeeType", Alias: "description", Department: "departmentNumber", Member: "uniqueMember"}}, s.URL(false), roots)
	ctx := context.Background()
	e, err := d.Lookup(ctx, addr("ALIAS-u1@works.gov.example"))
	if err != nil || e.UID != "u1" || e.Name != "Clerk u1" || e.Address.String() != "one@works.gov.example" || e.Department != "Works" || len(e.Account) != 36 {
		t.Errorf("%+v, %v", e, err)
	}
	if list, err := d.Resolve(ctx, addr("all@works.gov.example")); err != nil || uids(list) != "u1 u3" {
		t.Errorf("%s, %v", uids(list), err)
	}
	if _, err := d.Lookup(ctx, addr("two@works.gov.example")); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("an address that two have: %v", err)
	}
}

func TestReach(t *testing.T) {
	for _, good := range []string{"ldaps://dir.example", "ldap://dir.example", "ldaps://dir.example:1636/", "ldap://[::1]:389"} {
		var o directory.Options
		if err := o.Reach(good, nil); err != nil || o.Dial == nil || (o.StartTLS != nil) != strings.HasPrefix(good, "ldap:") {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "dir.example", "ldapi:///", "http://dir.example", "ldap://", "ldaps://u:p@dir.example", "ldap://dir.example/dc=x", "ldap://dir.example?x", "ldap://a b"} {
		if err := new(directory.Options).Reach(bad, nil); mail.KindOf(err) != mail.Invalid || mail.PublicOf(err) == "" {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestDeadConnectionsAreReplaced(t *testing.T) {
	var conns []net.Conn
	var srv *server.Server
	o := directory.Options{Limits: directory.Limits{CacheTTL: -1}}
	o.Dial = func(ctx context.Context) (net.Conn, error) {
		c, err := srv.Dial(ctx)
		conns = append(conns, c)
		return c, err
	}
	var d *directory.Directory
	d, srv = newPair(t, sample(), o)
	for range 3 {
		if _, err := d.Lookup(context.Background(), addr("alice@works.gov.example")); err != nil {
			t.Fatal(err)
		}
		for _, c := range conns {
			c.Close()
		}
	}
}

// TestCancelled has a server that never answers.
func TestCancelled(t *testing.T) {
	d, err := directory.New(directory.Options{BaseDN: base, Trusted: true, Dial: func(context.Context) (net.Conn, error) {
		c, mute := net.Pipe()
		go func() {
			b := make([]byte, 1024)
			for {
				if _, err := mute.Read(b); err != nil {
					return
				}
			}
		}()
		return c, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := d.Lookup(ctx, addr("a@b.example")); mail.KindOf(err) != mail.Unavailable {
		t.Error(err)
	}
}

func TestDeepAndLargeGroups(t *testing.T) {
	var b strings.Builder
	b.WriteString(person("alice"))
	for i := range 12 {
		member := fmt.Sprintf("cn=g%d,ou=groups", i+1)
		if i == 11 {
			member = "uid=alice,ou=people"
		}
		b.WriteString(group(fmt.Sprintf("g%d", i), member))
	}
	everyServer(t, b.String(), directory.Options{}, func(t *testing.T, d *directory.Directory) {
		if _, err := d.Resolve(context.Background(), addr("g0@works.gov.example")); mail.KindOf(err) != mail.TooLarge {
			t.Error(err)
		}
		if list, err := d.Resolve(context.Background(), addr("g5@works.gov.example")); err != nil || uids(list) != "alice" {
			t.Error(list, err)
		}
	})
	d, _ := newPair(t, b.String(), directory.Options{Limits: directory.Limits{GroupDepth: 20}})
	if list, err := d.Resolve(context.Background(), addr("g0@works.gov.example")); err != nil || uids(list) != "alice" {
		t.Error(list, err)
	}
	d, _ = newPair(t, b.String(), directory.Options{Limits: directory.Limits{GroupDepth: 20, GroupMembers: 5}})
	if _, err := d.Resolve(context.Background(), addr("g0@works.gov.example")); mail.KindOf(err) != mail.TooLarge {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []directory.Options{{}, {BaseDN: "not a dn"}, {BaseDN: base, BindDN: "not a dn"}, {BaseDN: base, Names: directory.Names{Mail: "mail=*)("}}} {
		if _, err := directory.New(o); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%+v: %v", o.Names, err)
		}
	}
}

// TestSMIMECertificates: what a client said of itself comes with the entry, as RFC 2798 wants
// it asked for and as slapd, whose schema has no certificates' syntax for it, keeps it.
func TestSMIMECertificates(t *testing.T) {
	const value = "\x30\x03\x02\x01\x05"
	post := "\ndn: cn=ds1,ou=posts," + base + "\nobjectClass: organizationalRole\nobjectClass: cmmpdAccount\ncn: ds1\nmail: ds1@works.gov.example\nuserSMIMECertificate:: MAMCAQU=\n"
	everyServer(t, person("alice", "userSMIMECertificate:: MAMCAQU=", "cmmpdCipherProfile: gcm")+person("bob")+post, directory.Options{}, func(t *testing.T, d *directory.Directory) {
		for name, profile := range map[string]string{"alice": "gcm", "ds1": ""} {
			e, err := d.Lookup(context.Background(), addr(name+"@works.gov.example"))
			if err != nil || len(e.SMIME) != 1 || string(e.SMIME[0]) != value || e.Profile != profile || len(e.Certificates) != 0 {
				t.Errorf("%s: %+v, %v", name, e, err)
			}
		}
		all, err := d.Certified(context.Background())
		if err != nil || len(all) != 2 {
			t.Errorf("certified: %s, %v", uids(all), err)
		}
	})
	t.Run("binary", func(t *testing.T) {
		d, _ := newPair(t, person("alice", "userSMIMECertificate;binary:: MAMCAQU="), directory.Options{})
		if e, err := d.Lookup(context.Background(), addr("alice@works.gov.example")); err != nil || len(e.SMIME) != 1 || string(e.SMIME[0]) != value {
			t.Errorf("%+v, %v", e, err)
		}
	})
}
