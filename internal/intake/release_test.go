package intake

import (
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
)

// A clearance in the directory binds, whichever way the mail comes.
func TestClearance(t *testing.T) {
	w := newWorld(t)
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nadd: cmmpdClearance\ncmmpdClearance: restricted\n-\n")
	const secret = "From: alice@works.gov.example\nTo: carol@health.gov.example\nSubject: [CONFIDENTIAL] x\n\nmarker\n"
	_, err := w.submit("alice", "bob carol", secret)
	w.refused(err, mail.Refused, "CONFIDENTIAL mail may not be sent to carol@health.gov.example")
	_, err = w.submit("alice", "team@works.gov.example", secret)
	w.refused(err, mail.Refused, "carol@health.gov.example")
	_, err = w.receive("carol", secret)
	w.refused(err, mail.Refused, "carol@health.gov.example")
	if _, err := w.submit("alice", "carol", "From: alice@works.gov.example\nSubject: [RESTRICTED] x\n\nx\n"); err != nil {
		t.Error(err)
	}
	w.shelf.got = nil
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nreplace: cmmpdClearance\ncmmpdClearance: confidental\n-\n")
	_, err = w.submit("alice", "carol", "From: alice@works.gov.example\nSubject: [UNCLASSIFIED] x\n\nx\n")
	w.refused(err, mail.Refused, "carol@health.gov.example") // a clearance that does not exist allows nothing
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nreplace: cmmpdClearance\ncmmpdClearance: secret\n-\n")
	if _, err := w.submit("alice", "bob carol", secret); err != nil {
		t.Error(err)
	}
}

// A stranger learns of a refusal by the addresses that they wrote to, never who is behind them.
func TestStrangersLearnNoMembers(t *testing.T) {
	w := newWorld(t)
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nadd: cmmpdClearance\ncmmpdClearance: unclassified\n-\n")
	w.change("dn: cn=team,ou=groups," + base + "\nchangetype: modify\nadd: member\nmember: uid=dave,ou=people," + base + "\n-\n")
	for to, text := range map[string]string{
		"team@works.gov.example":         "From: x@example.org\nSubject: [RESTRICTED] x\n\nx\n",
		"dave.alias@health.gov.example":  "From: x@example.org\nSubject: [CONFIDENTIAL] x\n\nx\n",
		"carol.alias@health.gov.example": "From: x@example.org\nSubject: [CONFIDENTIAL] x\n\nx\n",
	} {
		_, err := w.receive(to, text)
		w.refused(err, mail.Refused, to)
		if said := mail.PublicOf(err); strings.Contains(said, "carol@") || strings.Contains(said, "dave@") {
			t.Errorf("the stranger is told %q", said)
		}
		if e := w.notes.events[len(w.notes.events)-1]; !strings.Contains(e.Detail["reason"], "carol@") && !strings.Contains(e.Detail["reason"], "dave@") {
			t.Errorf("the record says %q", e.Detail["reason"])
		}
	}
}

// A rule that demands S/MIME of a destination has the message sealed to all its readers.
func TestReleaseByDestination(t *testing.T) {
	w := newWorld(t)
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{Release: []policy.ReleaseRule{{Destinations: []string{"health.gov.example"}, Require: policy.SMIME}}})
	w.must(err)
	const text = "From: alice@works.gov.example\nTo: bob@works.gov.example, carol@health.gov.example\nSubject: hello\n\nmarker\n"
	if _, err := w.submit("alice", "bob", text); err != nil || len(w.last().Bodies) != 1 || w.last().Bodies[0].Index.Root.Subtype != "plain" {
		t.Errorf("to works: %v", err)
	}
	if _, err := w.submit("alice", "bob carol", text); err != nil {
		t.Fatal(err)
	}
	if got := w.readers(w.last().Bodies[0].Data, "marker"); got != "alice bob carol" {
		t.Errorf("to health: read by %s", got)
	}
	w.shelf.got = nil
	_, err = w.submit("alice", "dave", text)
	w.refused(err, mail.Refused, "unlabelled mail must be readable", "dave@health.gov.example has no certificate")
}

func TestDepartmentRules(t *testing.T) {
	w := newWorld(t)
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{Departments: []policy.Department{
		{Domain: "works.gov.example", Cipher: policy.OAEP},
		{Domain: "health.gov.example", Refuse: true},
	}})
	w.must(err)
	text := func(from string) string {
		return "From: " + from + "\nTo: bob@works.gov.example\nSubject: [CONFIDENTIAL] x\nMIME-Version: 1.0\n"
	}
	_, err = w.submit("carol", "bob", text("carol@health.gov.example")+"\nmarker\n")
	w.refused(err, mail.Refused, "encrypted by your own mail program")
	encrypted := func(to string, o cms.Cipher, transport cms.KeyTransport) string {
		der, err := cms.Encrypt(nil, o, cms.Data, []cms.RecipientSpec{{Cert: w.people[to].Cert, Transport: transport}, {Cert: w.people["bob"].Cert}}, []byte("Content-Type: text/plain\r\n\r\nx"))
		w.must(err)
		return "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\n" + base64Lines(der)
	}
	if _, err = w.submit("carol", "bob", text("carol@health.gov.example")+encrypted("carol", cms.AES256CBC, cms.OAEPSHA256)); err != nil {
		t.Errorf("encrypted by herself: %v", err)
	}
	w.shelf.got = nil
	_, err = w.submit("alice", "bob", text("alice@works.gov.example")+encrypted("alice", cms.AES256CBC, cms.PKCS1v15))
	w.refused(err, mail.Refused, "older way than is demanded")
	if _, err = w.submit("alice", "bob", text("alice@works.gov.example")+encrypted("alice", cms.AES256CBC, cms.OAEPSHA256)); err != nil {
		t.Error(err)
	}
	w.shelf.got = nil
	w.change("dn: uid=alice,ou=people," + base + "\nchangetype: modify\nreplace: cmmpdCipherProfile\ncmmpdCipherProfile: pkcs1v15\n-\n")
	_, err = w.submit("alice", "bob", text("alice@works.gov.example")+"\nmarker\n")
	w.refused(err, mail.Refused, "alice@works.gov.example reads only mail that is encrypted in an older way")
	// Who writes as their post in another department is held to what both demand, whichever address stands in MAIL FROM.
	w.change("dn: cn=post,ou=posts," + base + "\nchangetype: add\nobjectClass: organizationalRole\nobjectClass: cmmpdAccount\ncn: post\nuid: post\nmail: post@health.gov.example\nroleOccupant: uid=erin,ou=people," + base + "\nroleOccupant: uid=bob,ou=people," + base + "\n")
	as := func(from, text string) error {
		who := w.principal("bob")
		_, err := w.in.Accept(w.t.Context(), &mail.Envelope{From: mail.MustParseAddress(from), Sender: who, To: w.addresses("carol"), Client: mail.Client{Protocol: "submission"}}, crlf(text))
		return err
	}
	for _, c := range [][2]string{
		{"bob@works.gov.example", "post@health.gov.example"},
		{"post@health.gov.example", "bob@works.gov.example"},
		{"post@health.gov.example", "post@health.gov.example"},
		{"bob@works.gov.example", "bob@works.gov.example, post@health.gov.example"},
	} {
		w.refused(as(c[0], text(c[1])+"Sender: bob@works.gov.example\n\nmarker\n"), mail.Refused, "encrypted by your own mail program")
	}
	if err := as("bob@works.gov.example", text("bob@works.gov.example")+"\nmarker\n"); err != nil {
		t.Error(err)
	}
	w.shelf.got = nil
	w.in.o.Policy, err = policy.New(policy.Options{Departments: []policy.Department{{Domain: "*", Cipher: policy.GCM}}})
	w.must(err)
	_, err = w.receive("bob carol", text("x@example.org")+"\nmarker\n")
	w.refused(err, mail.Refused, "bob@works.gov.example reads only", "carol@health.gov.example reads only")
	for _, uid := range []string{"bob", "carol"} {
		w.change("dn: uid=" + uid + ",ou=people," + base + "\nchangetype: modify\nreplace: cmmpdCipherProfile\ncmmpdCipherProfile: gcm\n-\n")
	}
	if _, err = w.receive("bob carol", text("x@example.org")+"\nmarker\n"); err != nil || w.cipher(w.last().Bodies[0].Data) != cms.AES256GCM {
		t.Error(err)
	}
}
