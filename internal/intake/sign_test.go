package intake

import (
	"bytes"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/smime/cms"
)

// withSigning has the rules hold. bob, ds1, which bob holds, carol and grace, who is revoked, have keys here.
func withSigning(t *testing.T, rules ...policy.SignRule) *world {
	t.Helper()
	w := newWorld(t)
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{Sign: rules})
	w.must(err)
	authority, err := w.ca.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example"})
	w.must(err)
	w.in.o.Gateway = smime.New(smime.Options{
		Trust: w.trust,
		Signers: func(domain string) (cms.SignerSpec, bool) {
			return cms.SignerSpec{Cert: authority.Cert, Key: authority.Key}, domain == "works.gov.example"
		},
		Own: func(a mail.Address) (cms.SignerSpec, bool) {
			for _, uid := range []string{"bob", "ds1", "carol", "grace"} {
				if id := w.people[uid]; a.Equal(mail.MustParseAddress(id.Cert.EmailAddresses[0])) {
					return cms.SignerSpec{Cert: id.Cert, Key: id.Key}, true
				}
			}
			return cms.SignerSpec{}, false
		},
	})
	return w
}

func TestSignByRule(t *testing.T) {
	w := withSigning(
		t,
		policy.SignRule{From: []string{"Bob@works.gov.example", "ds1@works.gov.example", "alice@works.gov.example", "grace@works.gov.example"}, Labels: []mail.Label{"", mail.Confidential}, By: policy.ByAuthor},
		policy.SignRule{From: []string{"works.gov.example"}, Labels: []mail.Label{mail.Restricted, ""}, By: policy.ByDepartment},
	)
	for name, c := range map[string]struct {
		uid, from, subject, want string
	}{
		"own key":                                {"bob", "bob@works.gov.example", "x", "author"},
		"own key, another case":                  {"bob", "BOB@works.gov.example", "x", "author"},
		"restricted: not by the first rule":      {"bob", "bob@works.gov.example", "[RESTRICTED] x", "department"},
		"confidential: within what is sealed":    {"bob", "bob@works.gov.example", "[CONFIDENTIAL] x", "author"},
		"a post's key by its holder":             {"bob", "ds1@works.gov.example", "x", "author"},
		"an alias has no key":                    {"bob", "bob.alias@works.gov.example", "x", "department"},
		"nobody's own: their department":         {"alice", "alice@works.gov.example", "x", "department"},
		"another label: nobody":                  {"alice", "alice@works.gov.example", "[UNCLASSIFIED] x", ""},
		"another department: nobody":             {"carol", "carol@health.gov.example", "x", ""},
		"confidential without rule: the domain":  {"dave", "dave@health.gov.example", "x", ""},
		"confidential, own key of nobody's rule": {"alice", "alice@works.gov.example", "[CONFIDENTIAL] x", "sealed by the domain"},
	} {
		text := "From: " + c.from + "\nTo: bob@works.gov.example\nSubject: " + c.subject + "\nMessage-ID: <" + strings.ReplaceAll(name, " ", "") + "@x>\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n預算\n"
		_, err := w.submit(c.uid, "bob", text)
		w.must(err)
		b := w.last().Bodies[0]
		got := ""
		r := w.gateway().Verify(b.Data, b.Index)
		if strings.Contains(c.subject, "CONFIDENTIAL") {
			key, err := cms.NewKeyOpener(w.people["bob"].Cert, w.people["bob"].Key)
			w.must(err)
			o, err := w.gateway().Open(b.Data, b.Index, key)
			w.must(err)
			r = o.Signature
			got = "sealed by the "
		}
		switch {
		case r.Status == smime.None:
			got = ""
		case r.Status != smime.Pass:
			got = r.Reason
		case r.Domain:
			if got += "domain"; got == "domain" {
				got = "department"
			}
		default:
			got = "author"
		}
		if got != c.want {
			t.Errorf("%s: signed by %q, want %q", name, got, c.want)
		}
		if c.want == "" && !bytes.HasSuffix(b.Data, crlf("\n預算\n")) {
			t.Errorf("%s: changed: %q", name, b.Data)
		}
		if int(b.Index.Size) != len(b.Data) {
			t.Errorf("%s: the index is of another text", name)
		}
	}
	signers := map[string]int{}
	for _, e := range w.notes.events {
		signers[e.Detail["signer"]]++
	}
	if signers["author"] != 4 || signers["department"] != 1 { // an author's own key without a label, too
		t.Errorf("on record: %v", signers)
	}
}

// TestSignWithoutAuthority: a rule for everybody keeps nobody from writing whose department has no authority.
func TestSignWithoutAuthority(t *testing.T) {
	w := withSigning(t, policy.SignRule{By: policy.ByDepartment})
	_, err := w.submit("carol", "bob", "From: carol@health.gov.example\nSubject: x\n\ntext\n")
	w.must(err)
	if b := w.last().Bodies[0]; !bytes.HasSuffix(b.Data, crlf("\n\ntext\n")) {
		t.Errorf("changed: %q", b.Data)
	}
}

// TestNotSignedFor: nobody else's key, nothing that is protected already, nothing from outside, and nothing by a key that does not hold.
func TestNotSignedFor(t *testing.T) {
	w := withSigning(t, policy.SignRule{By: policy.ByAuthor})
	kept := func(name, text string, err error) {
		t.Helper()
		w.must(err)
		if b := w.last().Bodies[0]; !bytes.HasSuffix(b.Data, crlf(text)) {
			t.Errorf("%s: %q", name, b.Data)
		}
	}
	_, err := w.receive("alice", "From: bob@works.gov.example\nSubject: x\n\ntext\n")
	kept("from outside", "text\n", err)
	encrypted := w.encryptTo("From: bob@works.gov.example\nTo: carol@health.gov.example\nSubject: x\n", cms.AES256CBC, "bob", "carol")
	_, err = w.submit("bob", "carol", encrypted)
	kept("encrypted", encrypted, err)
	own, err := w.gateway().Sign(crlf(hello), message.Parse(crlf(hello), message.Limits{}), smime.SignOptions{Author: mail.MustParseAddress("alice@works.gov.example")})
	w.must(err)
	_, err = w.submit("alice", "bob", strings.ReplaceAll(string(own), "\r\n", "\n"))
	kept("signed", strings.ReplaceAll(string(own), "\r\n", "\n"), err)
	pgp := "From: bob@works.gov.example\nContent-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=b\n\n--b\n\nx\n--b--\n"
	_, err = w.submit("bob", "alice", pgp)
	kept("OpenPGP", pgp, err)
	two := "From: bob@works.gov.example, ds1@works.gov.example\nSender: bob@works.gov.example\nSubject: x\n\ntext\n"
	_, err = w.submit("bob", "alice", two)
	kept("two authors", two, err)
	w.shelf.got = nil
	for _, e := range w.notes.events {
		if e.Detail["signer"] != "" {
			t.Errorf("on record as signed: %+v", e)
		}
	}
	_, err = w.submit("grace", "alice", "From: grace@works.gov.example\nSubject: x\n\ntext\n")
	w.refused(err, mail.Internal)

	// Somebody who may write in another person's name has not that person's key.
	who := *w.principal("alice")
	who.SendAs = append(who.SendAs, mail.MustParseAddress("bob@works.gov.example"))
	text := "From: bob@works.gov.example\nSubject: x\n\ntext\n"
	_, err = w.in.Accept(t.Context(), &mail.Envelope{From: who.Address, Sender: &who, To: w.addresses("carol")}, crlf(text))
	kept("for somebody", "text\n", err)
}
