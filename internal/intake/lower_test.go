package intake

import (
	"crypto/ed25519"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
	"cmmpd/storage"
)

// conversation has alice send dave, who has no certificate, an answer to confidential mail.
func (w *world) conversation(header string) error {
	w.t.Helper()
	w.shelf.labels[string(w.principal("alice").Account)+"first@x"] = mail.Confidential
	_, err := w.submit("alice", "dave", "From: alice@works.gov.example\nTo: dave@health.gov.example\nMessage-ID: <answer@x>\nIn-Reply-To: <first@x>\n"+header+"\nthe body\n")
	return err
}

// A tag that somebody else wrote asks for nothing in the answer of one who may, and keeps nobody from answering.
func TestLoweringByOthers(t *testing.T) {
	w := newWorld(t)
	for _, subject := range []string{"Re: [LOWER UNCLASSIFIED: planted] x", "Re: [Lower Albert Road: works]", "[Lower Albert Road: works]"} {
		w.refused(w.conversation("Subject: "+subject+"\n"), mail.Refused, "has no certificate")
		if _, err := w.submit("bob", "dave", "From: bob@works.gov.example\nSubject: "+subject+"\n\nx\n"); err != nil || !strings.Contains(string(w.last().Bodies[0].Data), subject) {
			t.Errorf("%q: %v", subject, err)
		}
		w.shelf.got = nil
	}
	w.lowerer()
	w.refused(w.conversation("Subject: Re: [LOWER UNCLASSIFIED: planted] x\n"), mail.Refused, "put it first")
}

// lowerer lets alice lower labels, and gives acts a log.
func (w *world) lowerer() *audit.Log {
	w.t.Helper()
	w.in.o.Lowerers = []string{"declassifier"}
	w.change("dn: uid=alice,ou=people," + base + "\nchangetype: modify\nadd: cmmpdRole\ncmmpdRole: declassifier\n-\n")
	_, key, err := ed25519.GenerateKey(nil)
	w.must(err)
	dir := filepath.Join(w.t.TempDir(), "audit")
	w.must(audit.Create(dir, key, audit.Options{Origin: "test"}))
	log, err := audit.Open(dir, key, audit.Options{Origin: "test"})
	w.must(err)
	w.t.Cleanup(func() { log.Close() })
	w.notes.log = log
	return log
}

func TestLowering(t *testing.T) {
	w := newWorld(t)
	const field = "X-Classification-Lower: restricted; reason=\"published on Monday\"\nSubject: Re: x\n"
	w.refused(w.conversation("Subject: Re: x\n"), mail.Refused, "dave@health.gov.example has no certificate")
	w.refused(w.conversation(field), mail.Refused, "you may not lower the label")
	if e := w.notes.events[len(w.notes.events)-1]; e.Type != audit.MailRefused || e.Actor != "alice" || e.Detail["source"] != string(policy.FromRequest) {
		t.Errorf("the refusal is on record as %+v", e)
	}
	log := w.lowerer()
	for header, want := range map[string]string{
		"X-Classification-Lower: restricted\nSubject: Re: x\n":                           "gives no reason",
		"X-Classification-Lower: harmless; reason=\"it is\"\nSubject: x\n":               "does not name one label",
		field + "X-Classification-Lower: unclassified; reason=\"published on Monday\"\n": "asks twice",
		"Subject: [LOWER RESTRICTED] Re: x\n":                                            "gives no reason",
		"Subject: Re: [LOWER RESTRICTED: published on Monday] x\n":                       "behind the mark of a reply", // whoever wrote first could have planted it
		"Subject: Fwd: x [LOWER RESTRICTED: published on Monday]\n":                      "has no certificate",
		"Subject: [Lower Albert Road: works] x\n":                                        "does not name one label",
		"Subject: Re: [Lower Albert Road: works] x\n":                                    "has no certificate",
		"Subject: [LOWER RESTRICTED: published on Monday] x\nMIME-Version: 1.0\nContent-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; boundary=b\n\n--b\nSubject: [LOWER RESTRICTED: published on Monday] x\nContent-Type: text/plain; hp=clear\n\nx\n--b\nContent-Type: application/pkcs7-signature\n\nx\n--b--\n": "has signed the request",
		"X-Classification-Lower: restricted; reason=\"published\"\nSubject: [CONFIDENTIAL] x\n": "has no certificate", // what its author says stands
		"X-Classification-Lower: restricted; reason=\"published\"\nX-Classification: secret\n":  "not carried",
		"X-Classification-Lower: confidential; reason=\"as it was\"\nSubject: x\n":              "has no certificate",
		"Subject: [Lower Austria] x\n": "has no certificate", // asks for nothing
	} {
		w.refused(w.conversation(header), mail.Refused, want)
	}
	for i, header := range []string{
		field,
		"Subject: [LOWER RESTRICTED: published on Monday] Re: x\n",
		"Subject: [Downgrade to restricted: published on Monday] Re: x\n",
		"Subject: =?utf-8?B?44CQ6ZmN57SaIOmZkOmWse+8mnB1Ymxpc2hlZCBvbiBNb25kYXnjgJE=?= x\n", // 【降級 限閱：published on Monday】
		field + "Subject: [LOWER RESTRICTED: published on Monday] x\n",
	} {
		if err := w.conversation(header); err != nil {
			t.Errorf("%q: %v", header, err)
			continue
		}
		d := w.last()
		body := string(d.Bodies[0].Data)
		if d.Bodies[0].Label != mail.Restricted || d.Submitted[0].Label != mail.Restricted || !strings.Contains(body, "the body") {
			t.Errorf("%q: %+v", header, d.Submitted)
		}
		for _, word := range []string{"published", "Lower", "LOWER", "降級", "=?utf-8"} {
			if strings.Contains(body, word) {
				t.Errorf("%q leaves: %s", header, body)
			}
		}
		if !strings.Contains(body, "\r\nSubject: ") || !strings.Contains(body, "x\r\n") {
			t.Errorf("%q: the subject is lost: %s", header, body)
		}
		if log.Size() != int64(2*(i+1)) {
			t.Errorf("%q: %d records", header, log.Size())
		}
	}
	// The copy that the author keeps is not sealed for the sake of the conversation.
	who := w.principal("alice")
	saved := storage.Append{Data: crlf("From: alice@works.gov.example\nMessage-ID: <answer@x>\nIn-Reply-To: <first@x>\n" + field + "\nthe body\n")}
	kept, release, err := w.in.keep(t.Context(), who, who.Account, func() (string, error) { return `\Sent`, nil }, saved)
	w.must(err)
	release()
	if kept.Label != mail.Restricted || !strings.Contains(string(kept.Data), "the body") {
		t.Errorf("the copy that its author keeps: %q, %s", kept.Label, kept.Data)
	}
	w.shelf.got = nil
	w.notes.log = nil
	w.refused(w.conversation(field), mail.Unavailable, "audit log cannot be written")
	if _, err := w.submit("alice", "dave", "From: alice@works.gov.example\n"+field+"\nnothing to lower\n"); err != nil || w.last().Bodies[0].Label != mail.Restricted {
		t.Errorf("a request with nothing to lower: %v", err)
	}
	if _, err := w.receive("dave", "From: x@example.org\nX-Classification-Lower: unclassified; reason=planted\nSubject: [LOWER UNCLASSIFIED: CONFIDENTIAL was wrong] x\n\nbody\n"); err != nil {
		t.Fatal(err)
	}
	if got := string(w.last().Bodies[0].Data); strings.Contains(got, "planted") || !strings.Contains(got, "[LOWER UNCLASSIFIED") || w.last().Bodies[0].Label != mail.Unclassified {
		t.Errorf("a stranger's request: %q, %s", w.last().Bodies[0].Label, got)
	}
}

// A submission under the Message-ID of confidential mail is confidential: otherwise its label would be that
// conversation's from then on.
func TestLabelIsNotReplaced(t *testing.T) {
	w := newWorld(t)
	w.shelf.labels[string(w.principal("alice").Account)+"first@x"] = mail.Confidential
	_, err := w.submit("alice", "dave", "From: alice@works.gov.example\nMessage-ID: <first@x>\nX-Classification: unclassified\n\nthe body\n")
	w.refused(err, mail.Refused, "has no certificate")
}
