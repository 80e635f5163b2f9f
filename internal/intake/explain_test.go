package intake

import (
	"encoding/json"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
	"cmmpd/storage"
)

// What Explain says is what happens: the same action, the same words. It leaves no trace.
func TestExplainIsWhatHappens(t *testing.T) {
	w := newWorld(t)
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nadd: cmmpdClearance\ncmmpdClearance: confidential\n-\n")
	w.shelf.labels[string(w.principal("alice").Account)+"first@x"] = mail.Confidential
	actions := map[string]bool{}
	for _, subject := range []string{
		"x", "[RESTRICTED] x", "[CONFIDENTIAL] x", "[SECRET] x", "A123456(3)", "x\nIn-Reply-To: <first@x>", "[LOWER RESTRICTED: published] x",
		"x\nFrom: bob@works.gov.example", "x\nMIME-Version: 1.0\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data", "x\nSIO-Label: type=\":ess\"; label=\"MQYCAQMGASo=\"",
	} {
		for _, to := range []string{"bob", "bob carol", "dave", "frank", "team@works.gov.example", "nobody@works.gov.example", "x@partner.example"} {
			for _, path := range []policy.Path{policy.Submission, policy.Inbound} {
				from := "alice@works.gov.example"
				text := "From: " + from + "\nTo: bob@works.gov.example\nSubject: " + subject + "\n\nmarker A123456(3)\n"
				q := Question{Path: path, From: mail.MustParseAddress(from), To: w.addresses(to)}
				if path == policy.Submission {
					q.Sender = w.principal("alice")
				}
				got := w.explain(q, text)
				var err error
				if path == policy.Submission {
					_, err = w.submit("alice", to, text)
				} else {
					_, err = w.receive(to, text)
				}
				name := path.String() + " to " + to + " " + subject
				if mail.KindOf(err) != mail.KindOf(got.Err) || mail.PublicOf(err) != mail.PublicOf(got.Err) || (err == nil) != (got.Err == nil) {
					t.Errorf("%s: explained as %v, happens as %v", name, got.Err, err)
				}
				actions[got.Action] = true
				if err != nil {
					continue
				}
				d := w.last()
				if sealed := d.Bodies[0].Index.Root.Subtype == "pkcs7-mime"; sealed != (got.Action == policy.Seal.String()) && got.Protection == "plain" || string(d.Bodies[0].Label) != got.Label {
					t.Errorf("%s: explained as %+v", name, got)
				}
			}
		}
	}
	for _, a := range []policy.Action{policy.Pass, policy.RequireTLS, policy.Seal, policy.Refuse} {
		if !actions[a.String()] {
			t.Errorf("no case was %v", a)
		}
	}
	who := w.principal("alice")
	for uid, use := range map[string]policy.Path{`\Sent`: policy.Append, drafts: policy.Draft} {
		for _, subject := range []string{"x", "[RESTRICTED] x", "[CONFIDENTIAL] x", "[SECRET] x"} {
			text := "From: alice@works.gov.example\nSubject: " + subject + "\n\nmarker\n"
			got := w.explain(Question{Path: use, Sender: who, From: who.Address}, text)
			kept, release, err := w.in.keep(t.Context(), who, who.Account, func() (string, error) { return uid, nil }, storage.Append{Data: crlf(text)})
			release()
			if mail.PublicOf(err) != mail.PublicOf(got.Err) || err == nil && (string(kept.Label) != got.Label || strings.Contains(string(kept.Data), "marker") == (got.Action == policy.Seal.String())) {
				t.Errorf("saved to %s, %s: explained as %+v, happens as %v", uid, subject, got, err)
			}
		}
	}
}

// explain asks, and checks that nothing was kept or put on record, and nothing of the
// content is told.
func (w *world) explain(q Question, text string) *Explanation {
	w.t.Helper()
	kept, noted := len(w.shelf.got), len(w.notes.events)
	e, err := w.in.Explain(w.t.Context(), q, crlf(text))
	w.must(err)
	if len(w.shelf.got) != kept || len(w.notes.events) != noted {
		w.t.Errorf("explaining left a trace: %+v", w.notes.events[noted:])
	}
	b, err := json.Marshal(e)
	w.must(err)
	if strings.Contains(string(b), "marker") || strings.Contains(string(b), "A123456") {
		w.t.Errorf("content is told: %s", b)
	}
	return e
}

func TestExplanation(t *testing.T) {
	w := newWorld(t)
	w.lowerer()
	w.change("dn: uid=carol,ou=people," + base + "\nchangetype: modify\nadd: cmmpdClearance\ncmmpdClearance: secret\n-\n")
	who := w.principal("alice")
	w.shelf.labels[string(who.Account)+"first@x"] = mail.Confidential
	q := Question{Path: policy.Submission, Sender: who, From: who.Address, To: w.addresses("carol dave")}
	e := w.explain(q, "From: alice@works.gov.example\nTo: carol@health.gov.example\nIn-Reply-To: <first@x>\nSIO-Label: type=\":ess\"; label=\"MQYCAQIGASo=\"\nSubject: hello\n\nA123456(3)\n")
	want := []Signal{{"restricted", "sio-label", "1.2:2"}, {"confidential", "thread", ""}, {"restricted", "content", "hkid"}}
	if e.Label != "confidential" || e.Source != "thread" || len(e.Signals) != 3 || e.Signals[0] != want[0] || e.Signals[1] != want[1] || e.Signals[2] != want[2] {
		t.Errorf("%+v", e.Signals)
	}
	if len(e.Readers) != 3 || e.Readers[0].Certificate == nil || e.Readers[0].Clearance != "secret" || e.Readers[0].Blind || !e.Readers[1].Blind || e.Readers[1].Problem == "" || e.Readers[2].Role != "sender" {
		t.Errorf("%+v", e.Readers)
	}
	if c := e.Chinese; len(c) != 3 || c["confidential"] != "機密" || c["restricted"] != "限閱" || c["secret"] != "絕密" {
		t.Errorf("%v", c)
	}
	if e.Action != "refuse" || e.Demand != "smime" || !strings.Contains(mail.PublicOf(e.Err), "dave@health.gov.example has no certificate") {
		t.Errorf("%+v", e)
	}
	e = w.explain(q, "From: alice@works.gov.example\nIn-Reply-To: <first@x>\nSubject: [LOWER UNCLASSIFIED: published] hello\n\nx\n")
	if e.Label != "unclassified" || e.Floor != "confidential" || e.Reason != "published" || e.Action != "pass" {
		t.Errorf("lowered: %+v", e)
	}
	w.publish(-1)
	q.To = w.addresses("carol")
	if e = w.explain(q, "From: alice@works.gov.example\nSubject: [CONFIDENTIAL] x\n\nx\n"); e.Action != "defer" || !e.Readers[0].Temporary {
		t.Errorf("with revocation data that is too old: %+v", e)
	}
}

// Whose key signs by rule is told, too.
func TestExplainSigner(t *testing.T) {
	w := withSigning(t, policy.SignRule{From: []string{"works.gov.example"}, Labels: []mail.Label{mail.Restricted}, By: policy.ByDepartment})
	who := w.principal("alice")
	q := Question{Path: policy.Submission, Sender: who, From: who.Address, To: w.addresses("bob")}
	for subject, want := range map[string]string{"[RESTRICTED] x": "department", "x": ""} {
		if e := w.explain(q, "From: alice@works.gov.example\nSubject: "+subject+"\n\nmarker\n"); e.Signer != want || e.Err != nil {
			t.Errorf("%s: signed by %q, %v; want %q", subject, e.Signer, e.Err, want)
		}
	}
}
