package intake

import (
	"bytes"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime"
	"cmmpd/smime/cms"
)

// A group that is a blind recipient is expanded first: each member has an envelope of their own, and nobody sees the others. An
// author who is a blind recipient of their own mail gets it too.
func TestBlindGroup(t *testing.T) {
	w := newWorld(t)
	_, err := w.submit("ds1", "erin team@works.gov.example ds1", strings.ReplaceAll(confidential("To: erin@health.gov.example\nBcc: team@works.gov.example, ds1@works.gov.example\n"), "Alice <alice@", "<ds1@"))
	w.must(err)
	got := map[string]string{}
	for _, b := range w.last().Bodies {
		got[w.uids(b)] = w.readers(b.Data, secretWord)
	}
	want := map[string]string{"erin": "ds1 erin", "alice": "alice ds1", "bob": "bob ds1", "carol": "carol ds1", "ds1": "ds1"}
	if len(got) != len(want) {
		t.Errorf("envelopes %v", got)
	}
	for who, readers := range want {
		if got[who] != readers {
			t.Errorf("%s's is read by %q, want %q", who, got[who], readers)
		}
	}
}

// What the author's client has signed lies byte for byte within what is sealed, and its signature holds.
func TestSignedByClientIsSealed(t *testing.T) {
	w := newWorld(t)
	bob := w.people["bob"]
	content := []byte("Content-Type: text/plain\r\n\r\n" + secretWord + " \t\r\n")
	der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: bob.Cert, Key: bob.Key}}, cms.SignOptions{}, content)
	w.must(err)
	body := base64Lines(der)
	_, err = w.submit("bob", "carol", "From: bob@works.gov.example\nTo: carol@health.gov.example\nSubject: [CONFIDENTIAL] x\n"+
		"Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n"+body)
	w.must(err)
	b := w.last().Bodies[0]
	for _, id := range []string{"bob", "carol"} {
		key, err := cms.NewKeyOpener(w.people[id].Cert, w.people[id].Key)
		w.must(err)
		o, err := w.gateway().Open(b.Data, b.Index, key)
		w.must(err)
		if !bytes.Contains(o.Entity, crlf(body)) {
			t.Errorf("%s: the bytes have changed: %q", id, o.Entity)
		}
		if o.Signature.Status != smime.Pass || !o.Signature.Domain || o.Author.Status != smime.Pass || o.Author.Domain || o.Author.Signer != mail.MustParseAddress("bob@works.gov.example") {
			t.Errorf("%s: %+v, %+v", id, o.Signature, o.Author)
		}
	}
	h := message.ParseHeader(b.Data, message.Limits{}) // as Outlook and Apple Mail need it
	if got := h.Get("Content-Type"); got != `application/pkcs7-mime; smime-type=enveloped-data; name="smime.p7m"` {
		t.Errorf("Content-Type %q", got)
	}
	if h.Get("Content-Disposition") != `attachment; filename="smime.p7m"` || h.Get("Content-Transfer-Encoding") != "base64" || h.Get("MIME-Version") != "1.0" {
		t.Errorf("header %q", b.Data[:h.Len()])
	}
}
