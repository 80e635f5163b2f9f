package server

import (
	"bytes"
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/boltfile"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

const bobDN = "uid=bob,ou=people,dc=gov,dc=example"

func export(t testing.TB, s *Server) string {
	t.Helper()
	var b bytes.Buffer
	if err := s.Export(context.Background(), &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// checkIndexes compares everything derived with what the entries say.
func checkIndexes(t testing.TB, s *Server) {
	t.Helper()
	want := map[string]bool{}
	var rows []row
	err := s.st.db.View(func(tx *boltfile.Tx) error {
		n, m := 0, 0
		tx.Bucket(bucketEntry).Scan(nil, nil, func(k, v []byte) bool {
			e, err := s.st.schema.decodeEntry(v)
			if err != nil {
				t.Error(err)
				return false
			}
			n++
			id := s.st.find(tx, e.key)
			if string(idKey(id)) != string(k) {
				t.Errorf("%s is not found by its name", e.dn)
			}
			for _, key := range s.st.indexKeys(e, id) {
				want[string(key)] = true
			}
			rows = append(rows, row{id, s.st.rowText(e)})
			return true
		})
		tx.Bucket(bucketDN).Scan(nil, nil, func(_, _ []byte) bool {
			m++
			return true
		})
		if m != n {
			t.Errorf("%d names for %d entries", m, n)
		}
		tx.Bucket(bucketIndex).Scan(nil, nil, func(k, _ []byte) bool {
			if !want[string(k)] {
				t.Errorf("stale index entry %q", k)
			}
			delete(want, string(k))
			return true
		})
		return nil
	})
	if err != nil || len(want) > 0 {
		t.Errorf("missing index entries: %v, %v", want, err)
	}
	have := *s.st.rows.Load()
	if len(have) != len(rows) {
		t.Fatalf("%d rows for %d entries", len(have), len(rows))
	}
	for i := range rows {
		if rows[i] != have[i] {
			t.Errorf("row %d: %q, want %q", i, have[i].text, rows[i].text)
		}
	}
}

func TestImportAgainChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	changes := 0
	s, cert := newTest(t, Options{Path: path, Changed: func() { changes++ }})
	text := strings.ReplaceAll(testLDIF, "CERT", base64.StdEncoding.EncodeToString(cert))
	first := export(t, s)
	if res := mustImport(t, s, text); res.Unchanged != 8 || res.Added+res.Modified+res.Deleted != 0 || len(res.Changed) != 0 {
		t.Errorf("the same again: %+v", res)
	}
	if changes != 1 {
		t.Errorf("Changed was called %d times", changes)
	}
	if res := mustImport(t, s, first); res.Unchanged != 8 {
		t.Errorf("its own export: %+v", res)
	}
	if export(t, s) != first {
		t.Error("the export has changed")
	}
	if strings.Contains(first, "alicepass") || !strings.Contains(first, "userPassword: SCRAM-SHA-256$4096:") {
		t.Error("the export holds clear passwords, or no verifiers")
	}
	checkIndexes(t, s)

	other := openTest(t, Options{})
	mustImport(t, other, first)
	if export(t, other) != first {
		t.Error("export, import, export differ")
	}
	if _, err := other.checkPassword(context.Background(), "alice", "alicepass"); err != nil {
		t.Error(err)
	}

	s.Shutdown(context.Background())
	s.Close()
	again := openTest(t, Options{Path: path})
	if export(t, again) != first {
		t.Error("not the same after opening again")
	}
	checkIndexes(t, again)
}

func TestChangeRecords(t *testing.T) {
	s, bobCert := newTest(t, Options{})
	der, _, _ := testCert(t, "alice")
	add := func(dn string, der []byte) string {
		return "dn: " + dn + "\nchangetype: modify\nadd: userCertificate;binary\nuserCertificate;binary:: " + base64.StdEncoding.EncodeToString(der) + "\n-\n\n"
	}
	if res := mustImport(t, s, add(bobDN, bobCert)); res.Unchanged != 1 || len(res.Changed) != 0 {
		t.Errorf("publishing what is there: %+v", res)
	}
	uuid := func() string {
		return find(t, trusted(t, s), "(uid=bob)", "entryUUID").Entries[0].GetAttributeValue("entryUUID")
	}
	before := uuid()
	if res := mustImport(t, s, add("UID=bob, ou=people,dc=gov,dc=example", der)); res.Modified != 1 || len(res.Changed) != 1 || res.Changed[0] != bobDN {
		t.Errorf("a second certificate: %+v", res)
	}
	if got := find(t, trusted(t, s), "(uid=bob)").Entries[0].GetRawAttributeValues("userCertificate;binary"); len(got) != 2 || !bytes.Equal(got[1], der) {
		t.Error("two certificates were expected")
	}
	mustImport(t, s, "dn: "+bobDN+"\nchangetype: modify\nreplace: mail\nmail: robert@works.gov.example\n-\nadd: mailAlternateAddress\nmailAlternateAddress: bob@works.gov.example\n-\ndelete: cmmpdRole\n-\nreplace: userPassword\nuserPassword: newpass\n")
	if uuid() != before {
		t.Error("entryUUID has changed")
	}
	if _, err := s.checkPassword(context.Background(), "robert@works.gov.example", "newpass"); err != nil {
		t.Error(err)
	}
	if _, err := s.checkPassword(context.Background(), "bob@works.gov.example", "bobpass"); mail.KindOf(err) != mail.AuthFailed {
		t.Error("the old password still works")
	}
	if res := mustImport(t, s, "dn: "+bobDN+"\nchangetype: modify\nadd: userPassword\nuserPassword: newpass\n"); res.Unchanged != 1 {
		t.Errorf("the same password again: %+v", res)
	}
	checkIndexes(t, s)
	if got := names(find(t, trusted(t, s), "(mail=robert@works.gov.example)")); got != "uid=bob" {
		t.Error(got)
	}

	mustImport(t, s, "dn: "+bobDN+"\nchangetype: modrdn\nnewrdn: uid=robert\ndeleteoldrdn: 1\n")
	if got := find(t, trusted(t, s), "(uid=robert)", "uid", "entryUUID").Entries; len(got) != 1 || got[0].GetAttributeValue("entryUUID") != before || len(got[0].GetAttributeValues("uid")) != 1 {
		t.Errorf("renamed: %v", got)
	}
	res := mustImport(t, s, "dn: uid=robert,ou=people,dc=gov,dc=example\nchangetype: modrdn\nnewrdn: uid=bob\ndeleteoldrdn: 1\nnewsuperior: ou=posts,dc=gov,dc=example\n\n"+
		"dn: uid=bob,ou=posts,dc=gov,dc=example\nchangetype: delete\n\n"+
		"dn: ou=empty,dc=gov,dc=example\nchangetype: add\nobjectClass: organizationalUnit\nou: empty\n")
	if res.Modified != 1 || res.Deleted != 1 || res.Added != 1 {
		t.Errorf("%+v", res)
	}
	checkIndexes(t, s)
	if got := names(find(t, trusted(t, s), "(|(uid=bob)(uid=robert)(sn=*wong*))")); got != "" {
		t.Error(got)
	}
}

func TestImportRefuses(t *testing.T) {
	s, _ := newTest(t, Options{})
	before := export(t, s)
	person := func(more string) string {
		return "dn: uid=x,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\nuid: x\ncn: x\nsn: x\n" + more
	}
	modify := func(more string) string { return "dn: " + bobDN + "\nchangetype: modify\n" + more }
	for text, want := range map[string]string{
		person("mail: bob@works.gov.example"):                    "line 1: mail bob@works.gov.example belongs to another",
		person("mailAlternateAddress: A.CHAN@works.gov.example"): "line 1: mailAlternateAddress A.CHAN",
		person("uid: Alice"):                                     "line 1: uid Alice belongs",
		person("mail: not an address"):                           "line 7: not a valid value of mail",
		person("userCertificate;binary:: AAAA"):                  "line 7: not a valid value of userCertificate",
		person("userCertificate;lang-en:: AAAA"):                 "line 7: not a valid value",
		person("cn;binary: y"):                                   "line 7: unknown attribute cn;binary",
		person("favouriteDrink: tea"):                            "line 7: unknown attribute favouriteDrink",
		person("objectClass: pirate"):                            "line 7: unknown object class pirate",
		person("member: uid=y,dc=x"):                             "line 1: its object classes do not allow member",
		person("displayName: a\ndisplayName: b"):                 "line 1: displayName takes one value",
		person("cn: X"):                                          "line 7: cn has this value twice",
		person("uid: a@b"):                                       "line 7: not a valid value of uid",
		person("userPassword: {SSHA}abcdefgh"):                   "this form of stored password",
		person("userPassword: SCRAM-SHA-256$1:AAAA$AAAA:AAAA"):   "verifier is damaged",
		person("userPassword: {SCRAM-SHA-256}100:AAAA"):          "verifier is damaged",
		person("cmmpdCipherProfile: rot13"):                      "line 7: not a valid value of cmmpdCipherProfile",
		person("cmmpdClearance: Top Secret"):                     "line 7: not a valid value",
		person("entryUUID: 1"):                                   "line 7: not a valid value of entryUUID",
		person("telephoneNumber:: /w=="):                         "line 7: the value of telephoneNumber is not UTF-8",
		person("telephoneNumber:"):                               "line 7: the value of telephoneNumber is empty",
		person("jpegPhoto: a") + "\n\nsn: y":                     "a record begins with dn",
		"dn: uid=x,ou=none,dc=gov,dc=example\nobjectClass: inetOrgPerson\nuid: x\ncn: x\nsn: x": "line 1: the entry above it",
		"dn: uid=x,dc=other\nuid: x":                    "line 1: outside of this directory",
		"dn: \nuid: x":                                  "line 1: not a distinguished name",
		"dn: uid=x,ou=people,dc=gov,dc=example\nuid: x": "line 1: a structural object class",
		"dn: uid=x,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\nuid: x\ncn: x":        "line 1: object class person needs sn",
		"dn: uid=x,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\nuid: y\ncn: x\nsn: x": "line 1: the entry lacks the uid of its name",
		"dn: " + bobDN + "\nchangetype: add\nobjectClass: person\ncn: x\nsn: x\nuid: bob":         "line 1: the entry exists",
		"dn: uid=none,dc=gov,dc=example\nchangetype: delete":                                      "line 1: there is no such entry",
		"dn: ou=people,dc=gov,dc=example\nchangetype: delete":                                     "line 1: there are entries below",
		"dn: " + bobDN + "\nchangetype: modrdn\nnewrdn: uid=alice\ndeleteoldrdn: 0":               "line 1: the new name is taken",
		modify("delete: title"):                            "line 3: there is no title",
		modify("delete: mail\nmail: x@y"):                  "line 4: mail has no such value",
		modify("replace: entryUUID\nentryUUID: x"):         "line 3: entryUUID cannot be changed",
		modify("replace: sn"):                              "line 1: object class person needs sn",
		modify("add: mail\nmail: alice@works.gov.example"): "line 1: mail alice@works.gov.example belongs",
		modify("add: dc\ndc: x"):                           "line 1: its object classes do not allow dc",
		person("") + "\n\n" + modify("delete: cmmpdRole"):  "line 9: content and change records do not mix",
	} {
		// A good record first: it must be undone too.
		good := "dn: ou=undone,dc=gov,dc=example\n"
		if strings.Contains(text, "changetype") && !strings.HasPrefix(text, "dn: uid=x,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount") {
			good += "changetype: add\n"
		}
		good += "objectClass: organizationalUnit\nou: undone\n\n"
		_, err := s.Import(context.Background(), strings.NewReader(text), "test")
		if mail.KindOf(err) != mail.Invalid || !strings.Contains(mail.PublicOf(err), want) {
			t.Errorf("%q:\n got %v\nwant %s", text, err, want)
		}
		if _, err := s.Import(context.Background(), strings.NewReader(good+text), "test"); err == nil {
			t.Errorf("%q: taken after a good record", text)
		}
	}
	if export(t, s) != before {
		t.Error("a refused import has changed something")
	}
	checkIndexes(t, s)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Import(ctx, strings.NewReader(person("")), "test"); err == nil {
		t.Error("a cancelled import went through")
	}
}

func TestAddressesMayChangeHandsInOneImport(t *testing.T) {
	s, _ := newTest(t, Options{})
	mustImport(t, s, "dn: "+bobDN+"\nchangetype: modify\nreplace: mail\nmail: alice@works.gov.example\n\n"+
		"dn: uid=alice,ou=people,dc=gov,dc=example\nchangetype: modify\nreplace: mail\nmail: bob@works.gov.example\n")
	if got := names(find(t, trusted(t, s), "(mail=alice@works.gov.example)")); got != "uid=bob" {
		t.Error(got)
	}
	checkIndexes(t, s)
}

func TestPasswords(t *testing.T) {
	text, err := HashPassword(bytes.NewReader(make([]byte, 16)), "密碼 pass", 4096)
	if err != nil {
		t.Fatal(err)
	}
	v, ok, err := parseVerifier(text)
	if err != nil || !ok || !v.verify("密碼 pass") || v.verify("密碼 Pass") || v.verify("") {
		t.Errorf("%s: %v", text, err)
	}
	braces := "{SCRAM-SHA-256}" + strings.TrimPrefix(text, "SCRAM-SHA-256$")
	if w, ok, err := parseVerifier(braces); err != nil || !ok || w.String() != text {
		t.Errorf("%s: %v", braces, err)
	}
	// RFC 7677, section 3: user "user", password "pencil".
	salt, _ := base64.StdEncoding.DecodeString("W22ZaJ0SNY7soEsUEjb6gQ==")
	if v, err := makeVerifier("pencil", salt, 4096); err != nil || base64.StdEncoding.EncodeToString(v.serverKey) != "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=" {
		t.Errorf("%s, %v", v, err)
	}
	for _, bad := range []string{"", "a\x00b", strings.Repeat("x", 1025)} {
		if _, err := HashPassword(bytes.NewReader(make([]byte, 16)), bad, 4096); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	if _, err := HashPassword(bytes.NewReader(make([]byte, 16)), "x", 100); err == nil {
		t.Error("100 rounds were accepted")
	}
	for _, plain := range []string{"pass{word}", "{}", "{a b}", "SCRAM"} {
		if _, ok, _ := parseVerifier(plain); ok {
			t.Errorf("%q was taken for a verifier", plain)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.db")
	s, err := Open(Options{Path: path, BaseDN: testBase})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Path: path, BaseDN: testBase}); mail.KindOf(err) != mail.Busy {
		t.Errorf("a second opener: %v", err)
	}
	s.Close()
	if _, err := Open(Options{Path: path, BaseDN: "dc=other"}); mail.KindOf(err) != mail.Invalid {
		t.Errorf("another base: %v", err)
	}
	for _, base := range []string{"", "x", "x=y"} {
		if _, err := Open(Options{Path: filepath.Join(t.TempDir(), "e.db"), BaseDN: base}); mail.KindOf(err) != mail.Invalid {
			t.Errorf("base %q: %v", base, err)
		}
	}
	db, err := boltfile.Open(durable.OS{}, path, boltfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *boltfile.Tx) error {
		return tx.Bucket(bucketMeta).Put([]byte("format"), []byte("cmmpd directory 3"))
	})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
	if _, err := Open(Options{Path: path, BaseDN: testBase}); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("a newer format: %v", err)
	}
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", fi.Mode(), err)
	}
}

func TestChangedIsCalledBeforeImportReturns(t *testing.T) {
	called := false
	s := openTest(t, Options{Changed: func() { called = true }})
	mustImport(t, s, "dn: dc=gov,dc=example\nobjectClass: domain\ndc: gov\n")
	if !called {
		t.Error("Changed was not called")
	}
}

func TestImportSize(t *testing.T) {
	s := openTest(t, Options{Limits: Limits{ImportBytes: 2000}})
	_, err := s.Import(context.Background(), strings.NewReader("version: 1\n"+strings.Repeat("# a comment\n", 200)), "test")
	if mail.KindOf(err) != mail.TooLarge && mail.KindOf(err) != mail.Invalid {
		t.Error(err)
	}
}
