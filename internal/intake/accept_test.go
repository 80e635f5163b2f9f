package intake

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

const hello = "From: Alice <alice@works.gov.example>\nTo: bob@works.gov.example\nSubject: hello\nDate: Mon, 2 Jan 2006 15:04:05 +0800\nMessage-ID: <1@works.gov.example>\n\ntext\n"

func TestOrdinary(t *testing.T) {
	w := newWorld(t)
	id, err := w.submit("alice", "bob dave", hello)
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 1 || w.uids(d.Bodies[0]) != "bob dave" || d.Bodies[0].Label != "" || len(d.Submitted) != 0 {
		t.Fatalf("delivery %+v", d)
	}
	b := d.Bodies[0]
	want := regexp.MustCompile(`^Received: by mail.gov.example with ESMTPSA \(TLS 1.3 X\)\r\n id ` + string(id) + `; [^\r\n]+\r\n` + regexp.QuoteMeta(string(crlf(hello))) + `$`)
	if !want.Match(b.Data) {
		t.Errorf("body %q", b.Data)
	}
	for _, secret := range []string{"192.0.2.77", "laptop"} {
		if bytes.Contains(b.Data, []byte(secret)) {
			t.Errorf("the trace tells %q of our user", secret)
		}
	}
	if int(b.Index.Size) != len(b.Data) {
		t.Error("the index is not the body's")
	}
	if got := string(b.Entries[1].Prefix); got != "Return-Path: <alice@works.gov.example>\r\nDelivered-To: dave@health.gov.example\r\n" {
		t.Errorf("prefix %q", got)
	}
	if len(w.notes.events) != 0 {
		t.Errorf("unlabelled mail is on record: %v", w.notes.events)
	}

	_, err = w.receive("bob", strings.ReplaceAll(hello, "From: Alice", "Return-Path: <x@y.example>\nAuthentication-Results: mail.gov.example; smime=pass\n"+
		"Authentication-Results: (a (b)) MAIL.gov.example 1; dkim=pass\nAuthentication-Results: mx.example.org; dkim=pass\nBcc: keep@example.org\nReceived: from x\n by y; date\nFrom: Alice"))
	w.must(err)
	got := string(w.last().Bodies[0].Data)
	if !strings.HasPrefix(got, "Received: from mx.example.org ([192.0.2.1])\r\n by mail.gov.example with ESMTP\r\n id ") ||
		!strings.HasSuffix(got, string(crlf("\nAuthentication-Results: mx.example.org; dkim=pass\nBcc: keep@example.org\nReceived: from x\n by y; date\n"+hello))) {
		t.Errorf("inbound body %q", got)
	}
	if strings.Contains(got, "Return-Path") || strings.Contains(got, "smime=pass") {
		t.Errorf("a forged field stays: %q", got)
	}
}

// Nobody but us says what we have found out, however it is written; and what others found out stays.
func TestForgedResults(t *testing.T) {
	w := newWorld(t)
	for _, forged := range []string{
		"Authentication-Results: mail.gov.example; smime=pass", "AUTHENTICATION-RESULTS: MAIL.GOV.EXAMPLE; smime=pass", "authentication-results : mail.gov.example; smime=pass",
		"Authentication-Results:\n mail.gov.example;\n smime=pass", "Authentication-Results:mail.gov.example 1; smime=pass", "Authentication-Results: (a (b) \\) ) mail.gov.example; smime=pass",
		"Authentication-Results: (a)\n\t(b) mail.gov.example (c); smime=pass", "Authentication-Results: \"mail.gov.example\"; smime=pass", "Authentication-Results: \"mail\\.gov.ex\\ample\"; smime=pass",
		"Authentication-Results: mail.(x)gov.example; smime=pass", "Authentication-Results: mail.gov.example/1; smime=pass", "Authentication-Results: mail.gov.example.; smime=pass",
		"Authentication-Results: mail.gov.example", "Authentication-Results: =?utf-8?q?mail=2Egov=2Eexample?=; smime=pass", "Authentication-Results: mail.gov\u200b.example; smime=pass",
		"Authentication-Results: ｍａｉｌ.gov.example; smime=pass", "Authentication-Results: \"mail.gov.example; smime=pass", "Authentication-Results: (mail.gov.example; smime=pass) mail.gov.example",
		"Authentication-Results: (mail.gov.example; smime=pass", "Authentication-Results: ; smime=pass",
	} {
		text := strings.Replace(hello, "Subject:", forged+"\nSubject:", 1)
		_, err := w.submit("alice", "bob", text)
		w.must(err)
		_, err = w.receive("bob", text)
		w.must(err)
		for i, d := range w.shelf.got[len(w.shelf.got)-2:] {
			if got := string(d.Bodies[0].Data); !strings.HasSuffix(got, string(crlf(hello))) || strings.Contains(strings.ToLower(got+string(d.Bodies[0].Entries[0].Prefix)), "smime=") {
				t.Errorf("%d: %q stays: %q", i, forged, got)
			}
		}
	}
	for _, other := range []string{
		"Authentication-Results: mx.example.org; dkim=pass", "Authentication-Results: (mail.gov.example) mx.example.org; spf=pass", "Authentication-Results: sub.mail.gov.example; spf=pass",
		"Authentication-Results: gov.example; spf=pass", "X-Authentication-Results: mail.gov.example; smime=pass", "Authentication-Results: \"mx.example.org mail.gov.example\"; spf=pass",
	} {
		text := strings.Replace(hello, "Subject:", other+"\nSubject:", 1)
		_, err := w.receive("bob", text)
		w.must(err)
		if got := string(w.last().Bodies[0].Data); !strings.HasSuffix(got, string(crlf(text))) {
			t.Errorf("%q does not stay: %q", other, got)
		}
	}
}

func TestSubmissionIsCompleted(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ text, want string }{
		{"Subject: x\n\ntext\n", "(?s)^Received: .*\r\nDate: [^\r]+\r\nMessage-ID: <[a-z2-9]{26}@mail.gov.example>\r\nFrom: <alice@works.gov.example>\r\nSubject: x\r\n\r\ntext\r\n$"},
		{"text only\n", "(?s)^Received: .*\r\nFrom: <alice@works.gov.example>\r\n\r\ntext only\r\n$"},
		{"\ntext only\n", "(?s)^Received: .*\r\nFrom: <alice@works.gov.example>\r\n\r\ntext only\r\n$"},
		{"Subject: no body", "(?s)^Received: .*\r\nFrom: <alice@works.gov.example>\r\nSubject: no body\r\n\r\n$"},
		{"Subject: no body\n", "(?s)^Received: .*\r\nSubject: no body\r\n\r\n$"},
		{"", "(?s)^Received: .*\r\n\r\n$"},
		{"Bcc: carol@health.gov.example\nSubject: x\nBCC:\n a@b.example,\n c@d.example\n\nBcc: not a field\n", "(?s)<alice@works.gov.example>\r\nSubject: x\r\n\r\nBcc: not a field\r\n$"},
	} {
		_, err := w.submit("alice", "bob", c.text)
		w.must(err)
		if got := w.last().Bodies[0].Data; !regexp.MustCompile(c.want).Match(got) {
			t.Errorf("%q becomes %q", c.text, got)
		}
	}
}

func TestAuthors(t *testing.T) {
	w := newWorld(t)
	for from, want := range map[string]mail.Kind{
		"From: bob@works.gov.example\n":                                             mail.Internal, // of no error
		"From: BOB.alias@works.gov.example\n":                                       mail.Internal,
		"From: ds1@works.gov.example\nSender: bob@works.gov.example\n":              mail.Internal,
		"From: alice@works.gov.example\n":                                           mail.Refused,
		"From: bob@works.gov.example, alice@works.gov.example\n":                    mail.Refused,
		"From: bob@works.gov.example\nFrom: alice@works.gov.example\n":              mail.Refused,
		"From: bob@works.gov.example\nFrom: bob@works.gov.example\n":                mail.Refused,
		"From: bob@works.gov.example\nSender: alice@works.gov.example\n":            mail.Refused,
		"From: \"bob@works.gov.example\" <alice@works.gov.example>\n":               mail.Refused,
		"from:\n alice@works.gov.example\n":                                         mail.Refused,
		"From: bob\n":                                                               mail.Refused,
		"From: team: alice@works.gov.example;\n":                                    mail.Refused,
		"From: bob@works.gov.example <alice@works.gov.example>\n":                   mail.Refused,
		"From: bob@works.gov.example\nSubject: x\nFROM : alice@works.gov.example\n": mail.Refused,
		"From: =?utf-8?q?alice=40works=2Egov=2Eexample?= <bob@works.gov.example>\n": mail.Internal,
	} {
		_, err := w.submit("bob", "carol", from+"Subject: x\n\ntext\n")
		if want == mail.Internal {
			if err != nil {
				t.Errorf("%q: %v", from, err)
			}
			w.shelf.got = nil
			continue
		}
		w.refused(err, want)
		if t.Failed() {
			t.Fatalf("%q", from)
		}
	}
	for _, start := range []string{" , alice@works.gov.example\nSubject: x\n\ntext\n", "\tSubject: x\n\ntext\n"} {
		_, err := w.submit("bob", "carol", start)
		w.refused(err, mail.Invalid)
		_, err = w.receive("carol", start)
		w.refused(err, mail.Invalid)
	}
	_, err := w.receive("carol", "From: a@b.example\nFrom: c@d.example\nSubject: x\n\ntext\n")
	w.must(err)
}

func TestRecipients(t *testing.T) {
	w := newWorld(t)
	_, err := w.submit("alice", "team@works.gov.example bob BOB.alias@works.gov.example", hello)
	w.must(err)
	if got := w.uids(w.last().Bodies[0]); got != "alice bob carol" {
		t.Errorf("delivered to %q", got)
	}
	w.shelf.got = nil
	_, err = w.submit("alice", "bob nobody@works.gov.example", hello)
	w.refused(err, mail.NotFound)
	_, err = w.submit("alice", "x@example.org", hello)
	w.refused(err, mail.Refused, "mail to other domains is not served yet")
	_, err = w.receive("x@example.org", hello)
	w.refused(err, mail.Refused, "relay")
	_, err = w.submit("alice", "", hello)
	w.refused(err, mail.Invalid)
	for rcpt, want := range map[string]mail.Kind{"bob@works.gov.example": mail.Internal, "nobody@works.gov.example": mail.NotFound, "x@example.org": mail.Refused} {
		if err := w.in.Resolve(t.Context(), &mail.Envelope{}, mail.MustParseAddress(rcpt)); mail.KindOf(err) != want && err != nil || (err == nil) != (want == mail.Internal) {
			t.Errorf("RCPT %s: %v", rcpt, err)
		}
	}
}

const secretWord = "the marker in the text"

// confidential is a labelled message from alice.
func confidential(to string) string {
	return "From: Alice <alice@works.gov.example>\n" + to + "Subject: [CONFIDENTIAL] bridge plan\nMessage-ID: <c1@works.gov.example>\nDate: Mon, 2 Jan 2006 15:04:05 +0800\n\n" + secretWord + "\n"
}

func TestSealed(t *testing.T) {
	w := newWorld(t)
	_, err := w.submit("alice", "bob carol", confidential("To: bob@works.gov.example\nCc: carol.alias@health.gov.example\n"))
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 1 || w.uids(d.Bodies[0]) != "bob carol" {
		t.Fatalf("%d bodies, the first for %q", len(d.Bodies), w.uids(d.Bodies[0]))
	}
	b := d.Bodies[0]
	if got := w.readers(b.Data, secretWord); got != "alice bob carol" {
		t.Errorf("read by %q", got)
	}
	for _, plain := range []string{"bridge plan", secretWord} {
		if bytes.Contains(b.Data, []byte(plain)) {
			t.Errorf("%q is in clear", plain)
		}
	}
	if !bytes.HasPrefix(b.Data, []byte("Received: by mail.gov.example")) || int(b.Index.Size) != len(b.Data) || b.Label != mail.Confidential {
		t.Errorf("body %.200q, label %q", b.Data, b.Label)
	}
	if len(d.Submitted) != 1 || d.Submitted[0].MessageID != "c1@works.gov.example" || d.Submitted[0].Account != w.principal("alice").Account || d.Submitted[0].Label != mail.Confidential {
		t.Errorf("remembered: %+v", d.Submitted)
	}
	e := w.notes.events
	if len(e) != 1 || e[0].Type != audit.MailSealed || e[0].Actor != "alice" || e[0].Detail["label"] != "confidential" || e[0].Detail["source"] != "subject" ||
		e[0].Detail["to"] != "bob@works.gov.example carol@health.gov.example" {
		t.Errorf("record %+v", e)
	}
	var readers []string
	for i := range 3 { // bob, carol and the author
		part := strings.Split(e[0].Detail[fmt.Sprintf("reader.%d", i+1)], " | ")
		if len(part) != 4 || len(part[0]) != 64 || part[1] != smime.FromDirectory || part[2] == "" {
			t.Fatalf("reader %d: %q", i, part)
		}
		readers = append(readers, part[3])
	}
	if slices.Sort(readers); strings.Join(readers, " ") != "alice@works.gov.example bob@works.gov.example carol@health.gov.example" {
		t.Errorf("readers %q", readers)
	}
	for _, ev := range e {
		for _, v := range ev.Detail {
			if strings.Contains(v, "bridge plan") || strings.Contains(v, "marker") {
				t.Errorf("the record holds what the message says: %+v", ev)
			}
		}
	}
}

func TestBlindRecipients(t *testing.T) {
	w := newWorld(t)
	_, err := w.submit("alice", "team@works.gov.example erin ds1", confidential("To: Team <team@works.gov.example>\nBcc: erin@health.gov.example, ds1@works.gov.example\n"))
	w.must(err)
	d := w.last()
	want := []struct{ uids, readers, bcc string }{
		{"alice bob carol", "alice bob carol", ""}, {"erin", "alice erin", "erin@health.gov.example"}, {"ds1", "alice ds1", "ds1@works.gov.example"},
	}
	if len(d.Bodies) != len(want) {
		t.Fatalf("%d bodies", len(d.Bodies))
	}
	alice := w.people["alice"]
	key, err := cms.NewKeyOpener(alice.Cert, alice.Key)
	w.must(err)
	for i, b := range d.Bodies {
		if got := w.uids(b); got != want[i].uids {
			t.Errorf("body %d is for %q, want %q", i, got, want[i].uids)
		}
		if got := w.readers(b.Data, secretWord); got != want[i].readers {
			t.Errorf("body %d is read by %q, want %q", i, got, want[i].readers)
		}
		opened, err := w.gateway().Open(b.Data, b.Index, key)
		w.must(err)
		for _, name := range []string{"erin", "ds1"} {
			if strings.HasPrefix(want[i].bcc, name) {
				if !bytes.Contains(opened.Inner, []byte("Bcc: "+want[i].bcc)) {
					t.Errorf("body %d does not say that it is a blind copy", i)
				}
				continue
			}
			for _, text := range [][]byte{b.Data, opened.Inner} {
				if bytes.Contains(text, []byte(name+"@")) { // with the @: three letters stand in any base64 by chance
					t.Errorf("body %d names %s", i, name)
				}
			}
		}
	}
}

func TestRefusedWhole(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct{ from, to, why string }{
		{"alice", "bob dave", "dave@health.gov.example has no certificate"},
		{"alice", "bob frank", "the certificate of frank@works.gov.example has expired"},
		{"alice", "bob grace", "the certificate of grace@works.gov.example has been revoked"},
		{"alice", "dave frank", "dave@health.gov.example has no certificate; the certificate of frank@works.gov.example has expired"},
		{"dave", "bob", "dave@health.gov.example has no certificate"},
	} {
		_, err := w.submit(c.from, c.to, strings.ReplaceAll(confidential(""), "From: Alice <alice@works.gov.example>\n", ""))
		w.refused(err, mail.Refused, "CONFIDENTIAL", c.why)
		if mail.KindOf(err).Temporary() {
			t.Error("the refusal is temporary")
		}
	}
	e := w.notes.events
	if len(e) != 5 || e[0].Type != audit.MailRefused || e[0].Outcome != "refuse" || !strings.Contains(e[0].Detail["reason"], "dave") {
		t.Errorf("records %+v", e)
	}
	for _, label := range []string{"SECRET", "TOP SECRET", "絕密"} {
		_, err := w.submit("alice", "bob", "From: alice@works.gov.example\nSubject: ["+label+"] x\n\ntext\n")
		w.refused(err, mail.Refused, "SECRET mail is not carried")
	}
}

func TestStaleRevocationData(t *testing.T) {
	w := newWorld(t)
	w.publish(-time.Second)
	_, err := w.submit("alice", "bob", confidential("To: bob@works.gov.example\n"))
	w.refused(err, mail.Unavailable, "bob@works.gov.example")
	_, err = w.submit("alice", "bob dave", confidential("To: bob@works.gov.example\n"))
	w.refused(err, mail.Refused, "dave@health.gov.example")
	_, err = w.submit("alice", "bob", hello)
	w.must(err)
}

// What a client encrypted waits too, but under labels that are soft; a revoked reader is
// refused in any case, and what we seal ourselves is never soft.
func TestSoftRevocation(t *testing.T) {
	w := newWorld(t)
	w.publish(-time.Second)
	const fields = "From: bob@works.gov.example\nTo: carol@health.gov.example\n"
	w.in.o.Soft = []mail.Label{mail.Unclassified}
	encrypted := func(subject string) error {
		_, err := w.submit("bob", "carol", w.encryptTo(fields+"Subject: "+subject+"\n", cms.AES256CBC, "bob", "carol"))
		return err
	}
	for _, hard := range []string{"[RESTRICTED] x", "[CONFIDENTIAL] x"} {
		w.refused(encrypted(hard), mail.Unavailable, "carol@health.gov.example")
	}
	_, err := w.submit("bob", "grace", w.encryptTo("From: bob@works.gov.example\nTo: grace@works.gov.example\nSubject: x\n", cms.AES256CBC, "bob", "grace"))
	w.refused(err, mail.Refused, "grace@works.gov.example has been revoked")
	w.in.o.Soft = []mail.Label{mail.Unclassified, mail.Restricted, mail.Confidential}
	_, err = w.submit("alice", "bob", confidential("To: bob@works.gov.example\n"))
	w.refused(err, mail.Unavailable, "bob@works.gov.example")
	w.in.o.Soft = []mail.Label{mail.Unclassified}
	for _, subject := range []string{"x", "[UNCLASSIFIED] x"} {
		w.notes.events = nil
		w.must(encrypted(subject))
		if e := w.notes.events; len(e) != 1 || e[0].Type != audit.MailPassed || e[0].Detail["revocation-unknown"] != "carol@health.gov.example bob@works.gov.example" {
			t.Errorf("%s: the record does not say what is not known: %+v", subject, e)
		}
	}
	w.shelf.got = nil
	strict, err := policy.New(policy.Options{Release: []policy.ReleaseRule{{Destinations: []string{"health.gov.example"}, Require: policy.SMIME}}})
	w.must(err)
	w.in.o.Policy, strict = strict, w.in.o.Policy
	w.refused(encrypted("[UNCLASSIFIED] x"), mail.Unavailable, "carol@health.gov.example") // a rule demands S/MIME
	w.in.o.Policy = strict
	w.publish(time.Hour)
	w.notes.events = nil
	w.must(encrypted("x"))
	if len(w.notes.events) != 0 {
		t.Errorf("on record: %+v", w.notes.events)
	}
}

// What a client encrypted passes by the last list that is known, and the record says so.
func TestLastKnownGoodOfClients(t *testing.T) {
	w := newWorld(t)
	w.publish(-time.Second)
	v, err := trust.New(trust.Options{Anchors: []*x509.Certificate{w.ca.Cert}, CRLs: []string{w.crl}, RequireCRL: true, LastKnownGood: time.Hour})
	w.must(err)
	w.in.o.Gateway = smime.New(smime.Options{Trust: v})
	_, err = w.submit("bob", "carol", w.encryptTo("From: bob@works.gov.example\nTo: carol@health.gov.example\nSubject: [CONFIDENTIAL] x\n", cms.AES256CBC, "bob", "carol"))
	w.must(err)
	if e := w.notes.events; len(e) != 1 || e[0].Detail["last-known-good"] == "" || e[0].Detail["revocation-unknown"] != "" {
		t.Errorf("%+v", e)
	}
}

// The record of a sealed message says how old revocation data was whose own time was over.
func TestLastKnownGoodIsRecorded(t *testing.T) {
	made := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := &passage{envelopes: []envelope{{readers: []smime.Usable{
		{Candidate: smime.Candidate{Address: mail.MustParseAddress("a@x.example")}, Cert: &x509.Certificate{}, Evidence: []trust.Evidence{{Made: made.Add(-time.Hour)}, {Made: made, LastKnown: true}}},
		{Candidate: smime.Candidate{Address: mail.MustParseAddress("b@x.example")}, Cert: &x509.Certificate{}, Evidence: []trust.Evidence{{Made: made.Add(time.Hour), LastKnown: true}}},
	}}}}
	detail := map[string]string{}
	if p.readers(detail); detail["last-known-good"] != "2026-03-01T12:00:00Z" || len(detail) != 3 {
		t.Errorf("%v", detail)
	}
}

func TestLabels(t *testing.T) {
	w := newWorld(t)
	for name, c := range map[string]struct{ fields, label string }{
		"encoded":        {"Subject: =?utf-8?b?44CQ5qmf5a+G44CR?= x\n", "confidential"},
		"utf-8":          {"Subject: Re: 【機密】x\n", "confidential"},
		"big5":           {"Subject: =?big5?b?oWm+97FLoWo=?=\n", "confidential"},
		"folded":         {"Subject: \n [CONFIDENTIAL]\n x\n", "confidential"},
		"sensitivity":    {"Sensitivity: Company-Confidential\n", "confidential"},
		"classification": {"X-Classification: Confidential\n", "confidential"},
		"sio":            {"SIO-Label: marking=\"CONFIDENTIAL\"; fgcolor=red\n", "confidential"},
		"second subject": {"Subject: x\nSubject: [CONFIDENTIAL] y\n", "confidential"},
		"restricted":     {"Subject: [RESTRICTED] x\n", "restricted"},
		"content":        {"Subject: x\n\nA123456(3)\n", "restricted"},
		"none":           {"Subject: confidential\n", ""},
	} {
		_, err := w.submit("alice", "bob", c.fields+"\ntext\n")
		w.must(err)
		if got := w.last().Bodies[0].Label; string(got) != c.label {
			t.Errorf("%s: label %q, want %q", name, got, c.label)
		}
	}
	// What answers a confidential message is confidential.
	_, err := w.submit("alice", "bob", confidential("To: bob@works.gov.example\n"))
	w.must(err)
	_, err = w.submit("alice", "bob", "Subject: Re: x\nIn-Reply-To: <c1@works.gov.example>\n\ntext\n")
	w.must(err)
	if got := w.last().Bodies[0].Label; got != mail.Confidential {
		t.Errorf("a reply has the label %q", got)
	}
	_, err = w.receive("alice", "Subject: Re: x\nReferences: <c1@works.gov.example> <2@x>\n\ntext\n")
	w.must(err)
	if got := w.readers(w.last().Bodies[0].Data, "text"); got != "alice" {
		t.Errorf("an answer from outside is read by %q", got)
	}
}

// encryptTo is a message from bob that his own client encrypted.
func (w *world) encryptTo(fields string, cipher cms.Cipher, uids ...string) string {
	w.t.Helper()
	var to []cms.RecipientSpec
	for _, uid := range uids {
		to = append(to, cms.RecipientSpec{Cert: w.people[uid].Cert})
	}
	der, err := cms.Encrypt(rand.Reader, cipher, cms.Data, to, []byte("Content-Type: text/plain\r\n\r\n"+secretWord+"\r\n"))
	w.must(err)
	return fields + "Content-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\n" + base64Lines(der)
}

func TestEncryptedByClient(t *testing.T) {
	w := newWorld(t)
	const fields = "From: bob@works.gov.example\nTo: carol@health.gov.example\nCc: alice@works.gov.example\n"
	for name, c := range map[string]struct {
		fields string
		cipher cms.Cipher
		uids   []string
		why    string
	}{
		"good":              {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"bob", "carol"}, ""},
		"good, no label":    {"Subject: x\n", cms.AES256CBC, []string{"bob", "carol"}, ""},
		"Cc may read it":    {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"bob", "carol", "alice"}, ""},
		"not carol":         {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"bob"}, "carol@health.gov.example"},
		"not the sender":    {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"carol"}, "bob@works.gov.example"},
		"one too many":      {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"bob", "carol", "erin"}, "erin@health.gov.example could read it"},
		"a stranger":        {"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, []string{"bob", "carol", "stranger"}, "somebody who is not among"},
		"weak cipher":       {"Subject: [CONFIDENTIAL] x\n", cms.AES128CBC, []string{"bob", "carol"}, "AES-256"},
		"no label, missing": {"Subject: x\n", cms.AES256CBC, []string{"bob"}, "carol@health.gov.example"},
		"secret":            {"Subject: [SECRET] x\n", cms.AES256CBC, []string{"bob", "carol"}, "not carried"},
	} {
		text := w.encryptTo(fields+c.fields, c.cipher, c.uids...)
		_, err := w.submit("bob", "carol", text)
		if c.why != "" {
			w.refused(err, mail.Refused, c.why)
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.HasSuffix(w.last().Bodies[0].Data, crlf(text)) {
			t.Errorf("%s: the message was changed", name)
		}
		if w.shelf.got = nil; t.Failed() {
			t.Fatal(name)
		}
	}
	broken := fields + "Subject: [CONFIDENTIAL] x\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nMIIBAAAA\n"
	_, err := w.submit("bob", "carol", broken)
	w.refused(err, mail.Refused)
	_, err = w.receive("carol", broken)
	w.refused(err, mail.Refused)
	_, err = w.receive("carol", strings.ReplaceAll(broken, "[CONFIDENTIAL] ", ""))
	w.must(err)
	w.shelf.got = nil

	// Inbound: the local recipients must be able to read it; who else can is not our affair.
	_, err = w.receive("carol", w.encryptTo(fields+"Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, "carol", "stranger"))
	w.must(err)
	w.shelf.got = nil
	_, err = w.receive("carol erin", w.encryptTo(fields+"Subject: x\n", cms.AES256CBC, "carol", "stranger"))
	w.refused(err, mail.Refused, "erin@health.gov.example")
}

func TestInboundInClear(t *testing.T) {
	w := newWorld(t)
	_, err := w.receive("bob carol", confidential("To: bob@works.gov.example\n"))
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 2 || len(d.Submitted) != 0 {
		t.Fatalf("%d bodies", len(d.Bodies))
	}
	for i, want := range []string{"bob", "carol"} { // carol is not named: a blind recipient, for all that bob may know
		if got := w.readers(d.Bodies[i].Data, secretWord); got != want {
			t.Errorf("body %d is read by %q", i, got)
		}
	}
	w.shelf.got = nil
	_, err = w.receive("bob carol", confidential("To: team@works.gov.example\nCc: Bob@Works.gov.example, CAROL@health.gov.example\n"))
	w.must(err)
	if d := w.last(); len(d.Bodies) != 1 || w.readers(d.Bodies[0].Data, secretWord) != "bob carol" {
		t.Errorf("%d bodies", len(d.Bodies))
	}
	w.shelf.got = nil
	_, err = w.receive("bob dave", confidential("To: bob@works.gov.example\n"))
	w.refused(err, mail.Refused, "dave@health.gov.example has no certificate")
}

func TestSignedInbound(t *testing.T) {
	w := newWorld(t)
	content := "Content-Type: text/plain\r\n\r\nsigned text\r\n"
	id := w.people["bob"]
	sig, err := cms.Sign(rand.Reader, true, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{Time: time.Now()}, []byte(content))
	w.must(err)
	text := "From: bob@works.gov.example\nSubject: x\nMIME-Version: 1.0\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\n\n--b\n" +
		strings.ReplaceAll(content, "\r\n", "\n") + "\n--b\nContent-Type: application/pkcs7-signature\nContent-Transfer-Encoding: base64\n\n" + base64Lines(sig) + "\n--b--\n"
	_, err = w.receive("carol", text)
	w.must(err)
	prefix := string(w.last().Bodies[0].Entries[0].Prefix)
	if !strings.Contains(prefix, "Authentication-Results: mail.gov.example;\r\n smime=pass") || !strings.HasSuffix(prefix, "\r\n") {
		t.Errorf("prefix %q", prefix)
	}
	_, err = w.receive("carol", strings.Replace(text, "signed text", "forged text", 1))
	w.must(err)
	if prefix := string(w.last().Bodies[0].Entries[0].Prefix); !strings.Contains(prefix, "smime=fail") {
		t.Errorf("prefix %q", prefix)
	}
}

func TestLoopsAndLimits(t *testing.T) {
	w := newWorld(t)
	_, err := w.receive("bob", strings.Repeat("Received: from a by b; c\n", 51)+hello)
	w.refused(err, mail.Refused, "loop")
	_, err = w.receive("bob", strings.Repeat("Received: from a by b; c\n", 50)+hello)
	w.must(err)
	w.shelf.got = nil
	_, err = w.receive("bob", strings.Repeat("X-A: b\n", 10_001)+hello)
	w.refused(err, mail.TooLarge)
	_, err = w.receive("bob", "X-A: "+strings.Repeat("x", 1<<20)+"\n"+hello)
	w.refused(err, mail.TooLarge)

	w.shelf.fail = mail.E(mail.Full, "", errors.New("disk"))
	_, err = w.submit("alice", "bob", hello)
	if mail.KindOf(err) != mail.Full {
		t.Errorf("a full disk: %v", err)
	}
	_, err = w.submit("alice", "bob", "In-Reply-To: <x@y>\n"+hello)
	if mail.KindOf(err) != mail.Full {
		t.Errorf("labels cannot be read: %v", err)
	}
	w.shelf.fail = nil
	text := confidential("To: bob@works.gov.example\n") + strings.Repeat("x\n", 8<<20)
	_, err = w.submit("alice", "bob erin ds1", text)
	w.refused(err, mail.TooLarge, "blind recipients")
}

func TestMessageLimits(t *testing.T) {
	w := newWorld(t)
	w.in.o.Message, w.in.o.MaxHops = message.Limits{HeaderBytes: 2000, Fields: 30, Parts: 3, Depth: 1}, 3
	_, err := w.receive("bob", "X: "+strings.Repeat("x", 2000)+"\n"+hello)
	w.refused(err, mail.TooLarge, "header")
	_, err = w.receive("bob", strings.Repeat("X: x\n", 40)+hello)
	w.refused(err, mail.TooLarge, "header")
	_, err = w.receive("bob", strings.Repeat("Received: from a by b; c\n", 4)+hello)
	w.refused(err, mail.Refused, "loop")
	_, err = w.receive("bob", "From: a@example.org\nContent-Type: multipart/mixed; boundary=a\n\n"+strings.Repeat("--a\n\nx\n", 10)+"--a--\n")
	w.must(err)
	if x := w.last().Bodies[0].Index; x.Defects&message.TooManyParts == 0 {
		t.Errorf("defects %v", x.Defects)
	}
	_, err = w.receive("bob", "From: a@example.org\nContent-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nx\n--b--\n--a--\n")
	w.must(err)
	if x := w.last().Bodies[0].Index; x.Defects&message.TooDeep == 0 {
		t.Errorf("defects %v", x.Defects)
	}
}

func TestDirectoryDown(t *testing.T) {
	w := newWorld(t)
	who := w.principal("alice")
	w.dir.Close()
	w.dir.Changed()
	_, err := w.in.Accept(t.Context(), &mail.Envelope{Sender: who, From: who.Address, To: []mail.Address{mail.MustParseAddress("bob@works.gov.example")}}, crlf(hello))
	w.refused(err, mail.Unavailable)
	if err := w.in.Resolve(t.Context(), &mail.Envelope{}, mail.MustParseAddress("bob@works.gov.example")); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("RCPT: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Options{}); mail.KindOf(err) != mail.Invalid {
		t.Errorf("New without options: %v", err)
	}
}

func FuzzSplice(f *testing.F) {
	w := newWorld(f)
	f.Add([]byte("Bcc: a\r\n b\r\nFrom: alice@works.gov.example\r\n\r\nx"), true)
	f.Add([]byte("Authentication-Results: (x) mail.gov.example;\r\n\r\n"), false)
	f.Add([]byte("From x\r\nno field\r\n"), false)
	who := w.principal("alice")
	f.Fuzz(func(t *testing.T, raw []byte, submitted bool) {
		p := &passage{env: &mail.Envelope{ID: "id"}}
		if submitted {
			p.env.Sender = who
		} else {
			p.path = 1
		}
		if err := w.in.parse(p, raw); err != nil {
			return
		}
		for _, f := range p.header.Fields() {
			if w.in.drops(p.path, p.header, f) {
				t.Fatalf("%q keeps %q", raw, p.header.Raw(f))
			}
		}
		h := message.ParseHeader(raw, message.Limits{})
		if !bytes.HasSuffix(p.text, raw[h.Len():]) || !bytes.HasPrefix(p.text, []byte("Received: ")) {
			t.Fatalf("%q becomes %q", raw, p.text)
		}
	})
}
