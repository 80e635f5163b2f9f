package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

const testBase = "dc=gov,dc=example"

// testLDIF is a small directory; CERT is bob's certificate.
const testLDIF = `version: 1

dn: dc=gov,dc=example
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

dn: uid=alice,ou=people,dc=gov,dc=example
objectClass: inetOrgPerson
objectClass: cmmpdAccount
uid: alice
cn: Alice
cn;lang-zh-hant: 陳愛麗
sn: Chan
displayName: 陳愛麗 Alice Chan
mail: alice@works.gov.example
mailAlternateAddress: a.chan@works.gov.example
telephoneNumber: +852 2345-6789
ou: Works
userPassword: alicepass

dn: uid=bob,ou=people,dc=gov,dc=example
objectClass: inetOrgPerson
objectClass: cmmpdAccount
uid: bob
cn: Bob
sn: Ｗｏｎｇ
mail: bob@works.gov.example
userCertificate;binary:: CERT
cmmpdCipherProfile: pkcs1v15
cmmpdRole: admin
userPassword: bobpass

dn: cn=ds1,ou=posts,dc=gov,dc=example
objectClass: organizationalRole
objectClass: cmmpdAccount
cn: ds1
uid: ds1
mail: ds1@works.gov.example
roleOccupant: uid=bob,ou=people,dc=gov,dc=example

dn: cn=team,ou=groups,dc=gov,dc=example
objectClass: groupOfNames
objectClass: cmmpdGroup
cn: team
mail: team@works.gov.example
member: uid=alice,ou=people,dc=gov,dc=example
member: uid=bob,ou=people,dc=gov,dc=example
`

// testCert makes a certificate signed by a CA of its own.
func testCert(t testing.TB, cn string) (der, ca []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	make := func(tmpl, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		tmpl.NotBefore, tmpl.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	ca, caKey := make(root, root, nil)
	der, key = make(&x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, root, caKey)
	return der, ca, key
}

func openTest(t testing.TB, o Options) *Server {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "directory.db")
	}
	o.BaseDN, o.Rounds = testBase, minRounds
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Shutdown(context.Background())
		s.Close()
	})
	return s
}

// newTest opens a directory with testLDIF in it; cert is bob's.
func newTest(t testing.TB, o Options) (s *Server, cert []byte) {
	t.Helper()
	s = openTest(t, o)
	cert, _, _ = testCert(t, "bob")
	mustImport(t, s, strings.ReplaceAll(testLDIF, "CERT", base64.StdEncoding.EncodeToString(cert)))
	return s, cert
}

func mustImport(t testing.TB, s *Server, text string) ImportResult {
	t.Helper()
	res, err := s.Import(context.Background(), strings.NewReader(text), "test")
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// listen serves on 127.0.0.1 with a fresh certificate; caFile holds it.
func listen(t testing.TB, s *Server, mode Mode) (addr, caFile string, client *tls.Config) {
	t.Helper()
	der, caDER, key := testCert(t, "localhost")
	pair := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { served <- s.Serve(ctx, ln, &tls.Config{Certificates: []tls.Certificate{pair}}, mode) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	caFile = filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	ca, _ := x509.ParseCertificate(caDER)
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	return ln.Addr().String(), caFile, &tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// trusted is an in-process client.
func trusted(t testing.TB, s *Server) *ldap.Conn {
	t.Helper()
	nc, err := s.Dial(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	c := ldap.NewConn(nc, false)
	c.Start()
	t.Cleanup(func() { c.Close() })
	return c
}

func find(t testing.TB, c *ldap.Conn, filter string, attrs ...string) *ldap.SearchResult {
	t.Helper()
	res, err := c.Search(ldap.NewSearchRequest(testBase, ldap.ScopeWholeSubtree, 0, 0, 0, false, filter, attrs, nil))
	if err != nil {
		t.Fatalf("%s: %v", filter, err)
	}
	return res
}

func names(res *ldap.SearchResult) string {
	var out []string
	for _, e := range res.Entries {
		rdn, _, _ := strings.Cut(e.DN, ",")
		out = append(out, rdn)
	}
	return strings.Join(out, " ")
}

func TestFilters(t *testing.T) {
	s, _ := newTest(t, Options{})
	c := trusted(t, s)
	for filter, want := range map[string]string{
		"(uid=alice)":                    "uid=alice",
		"(UID=ALICE)":                    "uid=alice",
		"(mail=Alice@Works.GOV.example)": "uid=alice",
		"(|(mail=a.chan@works.gov.example)(mailAlternateAddress=a.chan@works.gov.example))": "uid=alice",
		"(cn=*陳*)":                            "uid=alice",
		"(cn=陳*)":                             "uid=alice",
		"(cn;lang-zh-hant=*麗)":                "uid=alice",
		"(cn;lang-en=*麗)":                     "",
		"(cn=*lic*)":                          "uid=alice",
		"(cn=陳愛麗)":                            "uid=alice",
		"(sn=wong)":                           "uid=bob", // full-width letters fold
		"(sn=*ＯＮ*)":                           "uid=bob",
		"(name=bob)":                          "uid=bob",
		"(name=*ob)":                          "uid=bob",
		"(&(objectClass=person)(!(uid=bob)))": "uid=alice",
		"(|(cn=*wo*)(mail=*wo*)(displayName=*wo*)(sn=*wo*))": "uid=alice uid=bob cn=ds1 cn=team",
		"(telephoneNumber=+85223456789)":                     "uid=alice",
		"(telephoneNumber=+852*6789)":                        "uid=alice",
		"(telephoneNumber=*2345 67*)":                        "uid=alice",
		"(member=UID=Alice, OU=people,dc=gov,dc=example)":    "cn=team",
		"(roleOccupant=uid=bob,ou=people,dc=gov,dc=example)": "cn=ds1",
		"(userCertificate=*)":                                "uid=bob",
		"(userCertificate;binary=*)":                         "uid=bob",
		"(userPassword=*)":                                   "",
		"(!(userPassword=*))":                                "dc=gov ou=people ou=posts ou=groups uid=alice uid=bob cn=ds1 cn=team",
		"(userPassword=alicepass)":                           "",
		"(!(userPassword=alicepass))":                        "", // Undefined stays Undefined
		"(nonsense=x)":                                       "",
		"(!(nonsense=x))":                                    "",
		"(&)":                                                "dc=gov ou=people ou=posts ou=groups uid=alice uid=bob cn=ds1 cn=team",
		"(|)":                                                "",
		"(cn~=bob)":                                          "uid=bob",
		"(uid>=b)":                                           "uid=bob cn=ds1",
		"(uid<=b)":                                           "uid=alice",
		"(cn:caseExactMatch:=bob)":                           "",
		"(cn:caseExactMatch:=Bob)":                           "uid=bob",
		"(cn:2.5.13.2:=BOB)":                                 "uid=bob",
		"(ou:dn:=people)":                                    "ou=people uid=alice uid=bob",
		"(:dn:caseIgnoreMatch:=posts)":                       "ou=posts cn=ds1",
		"(:caseIgnoreMatch:=chan)":                           "uid=alice",
		"(entryDN=uid=bob,ou=people,dc=gov,dc=example)":      "uid=bob",
		"(&(objectClass=*)(entryDN=uid=none,dc=gov,dc=example))": "",
	} {
		if got := names(find(t, c, filter, "1.1")); got != want {
			t.Errorf("%s: got %q, want %q", filter, got, want)
		}
	}
}

func TestScopesAndAttributes(t *testing.T) {
	s, cert := newTest(t, Options{})
	c := trusted(t, s)
	search := func(base string, scope int, attrs ...string) *ldap.SearchResult {
		res, err := c.Search(ldap.NewSearchRequest(base, scope, 0, 0, 0, false, "(objectClass=*)", attrs, nil))
		if err != nil {
			t.Fatalf("%s: %v", base, err)
		}
		return res
	}
	if got := names(search("OU=People,dc=gov,dc=example", ldap.ScopeSingleLevel, "1.1")); got != "uid=alice uid=bob" {
		t.Error(got)
	}
	if got := names(search(testBase, ldap.ScopeSingleLevel, "1.1")); got != "ou=people ou=posts ou=groups" {
		t.Error(got)
	}
	if got := names(search("ou=people,dc=gov,dc=example", ldap.ScopeWholeSubtree, "1.1")); got != "ou=people uid=alice uid=bob" {
		t.Error(got)
	}
	bob := "uid=bob,ou=people,dc=gov,dc=example"
	all := search(bob, ldap.ScopeBaseObject).Entries[0]
	if got := all.GetRawAttributeValue("userCertificate;binary"); string(got) != string(cert) {
		t.Error("the certificate is not byte for byte what was imported")
	}
	if len(all.GetAttributeValues("userPassword")) > 0 || len(all.GetAttributeValues("entryUUID")) > 0 {
		t.Error("too much is shown")
	}
	for _, ask := range []string{"userCertificate", "usercertificate;binary", "2.5.4.36"} {
		e := search(bob, ldap.ScopeBaseObject, ask, "userPassword").Entries[0]
		if len(e.Attributes) != 1 || e.Attributes[0].Name != "userCertificate;binary" {
			t.Errorf("%s: %v", ask, e.Attributes)
		}
	}
	op := search(bob, ldap.ScopeBaseObject, "+").Entries[0]
	if !validUUID(op.GetAttributeValue("entryUUID")) || op.GetAttributeValue("entryDN") != bob || op.GetAttributeValue("subschemaSubentry") != subschemaDN || op.GetAttributeValue("createTimestamp") == "" || op.GetAttributeValue("uid") != "" {
		t.Errorf("operational attributes: %v", op.Attributes)
	}
	if e := search("uid=alice,ou=people,dc=gov,dc=example", ldap.ScopeBaseObject, "commonName").Entries[0]; e.GetAttributeValue("cn;lang-zh-hant") != "陳愛麗" || e.GetAttributeValue("cn") != "Alice" {
		t.Errorf("subtypes: %v", e.Attributes)
	}
	dse := search("", ldap.ScopeBaseObject, "+", "*").Entries[0]
	if dse.GetAttributeValue("namingContexts") != testBase || dse.GetAttributeValue("objectClass") != "top" {
		t.Errorf("root DSE: %v", dse.Attributes)
	}
	sub := search(subschemaDN, ldap.ScopeBaseObject, "attributeTypes", "objectClasses").Entries[0]
	if len(sub.GetAttributeValues("attributeTypes")) < 50 || len(sub.GetAttributeValues("objectClasses")) < 15 {
		t.Error("subschema is incomplete")
	}
	_, err := c.Search(ldap.NewSearchRequest("uid=none,ou=people,dc=gov,dc=example", ldap.ScopeBaseObject, 0, 0, 0, false, "(objectClass=*)", nil, nil))
	if le, ok := err.(*ldap.Error); !ok || le.ResultCode != ldap.LDAPResultNoSuchObject || le.MatchedDN != "ou=people,dc=gov,dc=example" {
		t.Errorf("%v", err)
	}
	types, err := c.Search(ldap.NewSearchRequest(bob, ldap.ScopeBaseObject, 0, 0, 0, true, "(objectClass=*)", []string{"mail"}, nil))
	if err != nil || len(types.Entries[0].Attributes) != 1 || len(types.Entries[0].Attributes[0].Values) != 0 {
		t.Errorf("typesOnly: %v, %v", types.Entries[0].Attributes, err)
	}
}

func TestBindRules(t *testing.T) {
	s, _ := newTest(t, Options{})
	addr, _, conf := listen(t, s, StartTLS)
	c, err := ldap.DialURL("ldap://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	code := func(err error) uint16 {
		if err == nil {
			return 0
		}
		le, ok := err.(*ldap.Error)
		if !ok {
			t.Fatal(err)
		}
		return le.ResultCode
	}
	search := func() error {
		_, err := c.Search(ldap.NewSearchRequest(testBase, 2, 0, 0, 0, false, "(uid=bob)", nil, nil))
		return err
	}
	if got := code(c.Bind("uid=alice,ou=people,dc=gov,dc=example", "alicepass")); got != ldap.LDAPResultConfidentialityRequired {
		t.Errorf("bind in clear: %d", got)
	}
	if _, err := c.Search(ldap.NewSearchRequest("", 0, 0, 0, 0, false, "(objectClass=*)", []string{"supportedExtension"}, nil)); err != nil {
		t.Errorf("root DSE: %v", err)
	}
	if got := code(search()); got != ldap.LDAPResultInsufficientAccessRights {
		t.Errorf("search in clear: %d", got)
	}
	if err := c.StartTLS(conf); err != nil {
		t.Fatal(err)
	}
	if got := code(search()); got != ldap.LDAPResultInsufficientAccessRights {
		t.Errorf("anonymous search: %d", got)
	}
	if got := code(c.UnauthenticatedBind("uid=alice,ou=people,dc=gov,dc=example")); got != ldap.LDAPResultUnwillingToPerform {
		t.Errorf("empty password: %d", got)
	}
	for _, name := range []string{"uid=alice,ou=people,dc=gov,dc=example", "alice", "ALICE", "alice@works.gov.example", "a.chan@works.gov.example"} {
		if err := c.Bind(name, "alicepass"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		who, err := c.WhoAmI(nil)
		if err != nil || who.AuthzID != "dn:uid=alice,ou=people,dc=gov,dc=example" {
			t.Errorf("%s: %v, %v", name, who, err)
		}
		if err := search(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := code(c.Bind(name, "wrong")); got != ldap.LDAPResultInvalidCredentials {
			t.Errorf("%s: wrong password: %d", name, got)
		}
		if got := code(search()); got != ldap.LDAPResultInsufficientAccessRights {
			t.Errorf("after a failed bind: %d", got)
		}
	}
	for _, name := range []string{"nobody", "*", "uid=nobody,dc=x", "team", "team@works.gov.example", "cn=team,ou=groups,dc=gov,dc=example"} {
		if got := code(c.Bind(name, "x")); got != ldap.LDAPResultInvalidCredentials {
			t.Errorf("%s: %d", name, got)
		}
	}
	if err := c.Bind("alice", "alicepass"); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		c.Del(ldap.NewDelRequest("uid=bob,ou=people,dc=gov,dc=example", nil)),
		c.Add(&ldap.AddRequest{DN: "uid=x," + testBase}),
		c.Modify(&ldap.ModifyRequest{DN: "uid=bob,ou=people,dc=gov,dc=example"}),
		c.ModifyDN(&ldap.ModifyDNRequest{DN: "uid=bob,ou=people,dc=gov,dc=example", NewRDN: "uid=y"}),
	} {
		if got := code(err); got != ldap.LDAPResultUnwillingToPerform {
			t.Errorf("write: %v", err)
		}
	}
	for _, v := range []struct {
		attr, value string
		want        uint16
	}{
		{"mail", "BOB@works.gov.example", ldap.LDAPResultCompareTrue},
		{"mail", "x@y", ldap.LDAPResultCompareFalse},
		{"userPassword", "bobpass", ldap.LDAPResultNoSuchAttribute},
		{"nonsense", "x", ldap.LDAPResultUndefinedAttributeType},
	} {
		ok, err := c.Compare("uid=bob,ou=people,dc=gov,dc=example", v.attr, v.value)
		if (v.want == ldap.LDAPResultCompareTrue) != ok || v.want > 6 && code(err) != v.want {
			t.Errorf("compare %s: %v, %v", v.attr, ok, err)
		}
	}
	if err := search(); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestLoginHook(t *testing.T) {
	var s *Server
	s, _ = newTest(t, Options{Login: func(ctx context.Context, c mail.Client, name, pw string) (mail.Principal, error) {
		switch {
		case c.Protocol != "ldaps" || !strings.HasPrefix(c.TLS, "TLS 1.3") || c.Remote == "":
			t.Errorf("%+v", c)
		case pw == "busy":
			return mail.Principal{}, mail.E(mail.Busy, "too many failures", nil)
		case pw == "good":
			return mail.Principal{DN: "uid=bob,ou=people,dc=gov,dc=example"}, nil
		}
		return mail.Principal{}, mail.E(mail.AuthFailed, "", nil)
	}})
	addr, _, conf := listen(t, s, Implicit)
	c, err := ldap.DialURL("ldaps://"+addr, ldap.DialWithTLSConfig(conf))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind("x", "busy"); !ldap.IsErrorWithCode(err, ldap.LDAPResultBusy) {
		t.Error(err)
	}
	if err := c.Bind("x", "bad"); !ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidCredentials) {
		t.Error(err)
	}
	if err := c.Bind("x", "good"); err != nil {
		t.Error(err)
	}
	if who, err := c.WhoAmI(nil); err != nil || who.AuthzID != "dn:uid=bob,ou=people,dc=gov,dc=example" {
		t.Error(who, err)
	}
}
