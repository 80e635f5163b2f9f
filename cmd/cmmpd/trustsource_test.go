package main

import (
	"encoding/base64"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

// An authority's directory, OpenLDAP, asked in clear and without a name.
func TestAuthorityDirectory(t *testing.T) {
	testkit.Need(t, "slapd")
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	server, err := ca.Server("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	key, err := demopki.KeyPEM(server.Key)
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
	ldif := "dn: dc=gov,dc=example\nobjectClass: dcObject\nobjectClass: organization\ndc: gov\no: CA\n"
	for i := range 2 { // an entry for each certificate of hers
		id, err := ca.Issue(demopki.Spec{CN: "Eve", Address: "eve@partner.example"})
		if err != nil {
			t.Fatal(err)
		}
		ldif += fmt.Sprintf("\ndn: cn=eve %d,dc=gov,dc=example\nobjectClass: inetOrgPerson\ncn: eve %d\nsn: eve\nmail: eve@partner.example\nuserCertificate;binary:: %s\n",
			i, i, base64.StdEncoding.EncodeToString(id.Cert.Raw))
	}
	pem := file("ca.pem", demopki.CertPEM(ca.Cert))
	s := testkit.StartSlapd(t, testkit.SlapdOptions{
		Conf: "../../configs/openldap", LDIF: ldif, Public: true,
		CA: pem, Cert: file("server.pem", demopki.CertPEM(server.Cert)), Key: file("server.key", key),
	})
	for _, clear := range []bool{true, false} {
		c := trustConfig{Authorities: []authorityConfig{{Name: "CA", URL: s.URL(clear), CA: pem, Base: "dc=gov,dc=example"}}}
		sources, closeAll, err := c.sources(slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		a := sources[0].(*authority)
		now := time.Now()
		a.now = func() time.Time { return now }
		for who, want := range map[string]int{"Eve@partner.example": 2, "bob@partner.example": 0, `"*"@partner.example`: 0} {
			if ders, err := a.Certificates(mail.MustParseAddress(who)); len(ders) != want || err != nil {
				t.Errorf("%s: %d, %v", who, len(ders), err)
			}
		}
		// It goes away: what was answered is remembered; another question fails, and is not tried again at once.
		s.Stop()
		if ders, err := a.Certificates(mail.MustParseAddress("eve@partner.example")); len(ders) != 2 || err != nil {
			t.Errorf("%d, %v", len(ders), err)
		}
		if _, err := a.Certificates(mail.MustParseAddress("carol@partner.example")); err == nil {
			t.Error("a server that is gone answered")
		}
		s.Start()
		if _, err := a.Certificates(mail.MustParseAddress("carol@partner.example")); err == nil {
			t.Error("it was asked again at once")
		}
		now = now.Add(2 * authorityPause)
		if ders, err := a.Certificates(mail.MustParseAddress("carol@partner.example")); len(ders) != 0 || err != nil {
			t.Errorf("%d, %v", len(ders), err)
		}
		if err := closeAll(); err != nil {
			t.Error(err)
		}
	}
}
