package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/directory/ldif"
	"cmmpd/internal/demopki"
	"cmmpd/smime/cms"
)

// From records to the table: who was sealed to, and what was issued, renewed and used.
func TestCertificateHistory(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	ca, err := demopki.NewCA("Root", func() time.Time { return now })
	must(err)
	issue := func(year int, address, policy string) *x509.Certificate {
		id, err := ca.Issue(demopki.Spec{CN: "x", Address: address, NotBefore: time.Date(year, 5, 1, 0, 0, 0, 0, time.UTC), Adjust: func(c *x509.Certificate) {
			if policy != "" {
				o, err := x509.ParseOID(policy)
				must(err)
				c.Policies = []x509.OID{o}
			}
		}})
		must(err)
		return id.Cert
	}
	const alice, bob, carol = "alice@works.gov.example", "bob@works.gov.example", "carol@works.gov.example"
	old, renewed := issue(2023, alice, "1.2.3.4.1"), issue(2025, alice, "1.2.3.4.2")
	first, lost, again := issue(2025, bob, ""), issue(2023, carol, "1.2.3.4.1"), issue(2025, carol, "1.2.3.4.2")

	_, key, err := ed25519.GenerateKey(nil)
	must(err)
	dir := filepath.Join(t.TempDir(), "audit")
	o := audit.Options{Origin: "test/audit", Now: func() time.Time { return now }}
	must(audit.Create(dir, key, o))
	log, err := audit.Open(dir, key, o)
	must(err)
	seal := func(at time.Time, message string, readers ...string) {
		now = at
		e := audit.Event{Type: audit.MailSealed, Subject: message, Outcome: "seal", Detail: map[string]string{}}
		for i, r := range readers {
			e.Detail[fmt.Sprintf("reader.%d", i+1)] = r
		}
		log.Note(e)
	}
	reader := func(c *x509.Certificate, certType, address string) string {
		sum := sha256.Sum256(c.Raw)
		return hex.EncodeToString(sum[:]) + " | directory | " + certType + " | " + address
	}
	seal(time.Date(2024, 7, 1, 0, 0, 0, 0, time.UTC), "m0", reader(lost, "1.2.3.4.1", carol))
	seal(time.Date(2025, 7, 1, 0, 0, 0, 0, time.UTC), "m1", reader(renewed, "1.2.3.4.2", alice), reader(first, "Root", bob))
	seal(time.Date(2025, 8, 1, 0, 0, 0, 0, time.UTC), "m2", reader(renewed, "1.2.3.4.2", alice), reader(first, "=Root", `"a | b"@x.example`))
	log.Note(audit.Event{Type: audit.MailRefused, Outcome: "refuse"})
	must(log.Close())
	var exported bytes.Buffer
	must(audit.Export{Format: audit.JSONL}.Write(context.Background(), dir, &exported))

	uses, err := readUses(bytes.NewReader(exported.Bytes()))
	must(err)
	if len(uses) != 5 || uses[1].address != alice || uses[4].address != `"a | b"@x.example` || uses[0].message != "m0" || uses[2].certType != "Root" {
		t.Fatalf("%+v", uses)
	}
	if _, err := readUses(strings.NewReader("rubbish\n")); err == nil {
		t.Error("rubbish was read")
	}

	ldif := "version: 1\n"
	for uid, certs := range map[string][]*x509.Certificate{alice: {renewed, old}, bob: {first}, carol: {again}} {
		ldif += "\ndn: mail=" + uid + ",dc=x\nobjectClass: person\nmail: " + strings.ToUpper(uid) + "\n"
		for _, c := range certs {
			ldif += "userCertificate;binary:: " + base64.StdEncoding.EncodeToString(c.Raw) + "\n"
		}
	}
	cfg := trustConfig{Policies: []policiesConfig{{Name: "e-Cert", Accept: []string{"1.2.3.4.*"}}}}
	c := counts{year: 2025, name: cfg.typeName, types: map[string]*count{}}
	c.addUses(uses)
	must(c.addDirectory(strings.NewReader(ldif), uses))
	var out strings.Builder
	must(writeRows(&out, c.rows(true), true))
	const want = "type,issued,renewed,used,messages\n'=Root,0,0,1,1\nRoot,1,0,1,1\ne-Cert,0,2,1,2\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
	out.Reset()
	must(writeRows(&out, c.rows(false), false))
	if !strings.Contains(out.String(), "e-Cert                   1     2") {
		t.Errorf("\n%s", out.String())
	}
}

// Certificates in userSMIMECertificate count like those in userCertificate, each once, without those of authorities.
func TestPublishedStatements(t *testing.T) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue(demopki.Spec{CN: "x", Address: "x@works.gov.example"})
	if err != nil {
		t.Fatal(err)
	}
	der, err := cms.Sign(nil, true, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{Certificates: []*x509.Certificate{ca.Cert}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	rec := &ldif.Record{Values: []ldif.Value{
		{Desc: "mail", Data: []byte("X@works.gov.example")},
		{Desc: "userSMIMECertificate;binary", Data: der},
		{Desc: "userCertificate;binary", Data: id.Cert.Raw},
		{Desc: "userSMIMECertificate", Data: []byte("rubbish")},
	}}
	certs, addresses := published(rec)
	if len(certs) != 1 || !certs[0].Equal(id.Cert) || len(addresses) != 1 {
		t.Errorf("%d certificates of %q", len(certs), addresses)
	}
}
