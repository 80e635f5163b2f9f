package intake

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
	"cmmpd/storage"
)

// cipher is how a kept message is encrypted.
func (w *world) cipher(b []byte) cms.Cipher {
	w.t.Helper()
	p := w.gateway().Inspect(b, message.Parse(b, message.Limits{}))
	if p.Enveloped == nil {
		w.t.Fatalf("not encrypted: %v", p)
	}
	return p.Enveloped.Cipher
}

// TestCipherByReaders: each copy is in the form that all who read it can open, the author
// among them, and the record says so.
func TestCipherByReaders(t *testing.T) {
	w := newWorld(t)
	statement, err := cms.Sign(nil, true, []cms.SignerSpec{{Cert: w.people["erin"].Cert, Key: w.people["erin"].Key}}, cms.SignOptions{Capabilities: cms.Capabilities()}, nil)
	w.must(err)
	for uid, more := range map[string]string{
		"alice": "replace: cmmpdCipherProfile\ncmmpdCipherProfile: gcm\n",
		"carol": "replace: cmmpdCipherProfile\ncmmpdCipherProfile: gcm\n",
		"bob":   "replace: cmmpdCipherProfile\ncmmpdCipherProfile: pkcs1v15\n",
		"erin":  "add: userSMIMECertificate;binary\nuserSMIMECertificate;binary:: " + base64.StdEncoding.EncodeToString(statement) + "\n",
	} {
		w.change("dn: uid=" + uid + ",ou=people," + base + "\nchangetype: modify\n" + more)
	}
	const gcm, cbc = "aes-256-gcm", "aes-256-cbc"
	for _, c := range []struct {
		from, to, header string
		want             []string // the copies
		record           string
	}{
		{"alice", "carol", "To: carol@health.gov.example\n", []string{gcm}, "aes-256-gcm (ecdh, rsa-oaep)"},
		{"alice", "carol erin", "To: carol@health.gov.example, erin@health.gov.example\n", []string{gcm}, "aes-256-gcm (ecdh, rsa-oaep)"},
		{"alice", "carol bob", "To: carol@health.gov.example, bob@works.gov.example\n", []string{cbc}, "aes-256-cbc (ecdh, rsa-oaep)"},
		{"alice", "team@works.gov.example", "To: team@works.gov.example\n", []string{cbc}, "aes-256-cbc (ecdh, rsa-oaep)"},
		{"bob", "carol", "To: carol@health.gov.example\n", []string{cbc}, "aes-256-cbc (ecdh)"}, // the author reads it too
		{"alice", "carol bob", "To: carol@health.gov.example\n", []string{cbc, gcm}, "aes-256-cbc (ecdh, rsa-oaep); aes-256-gcm (ecdh, rsa-oaep)"},
		{"alice", "bob erin", "To: bob@works.gov.example\n", []string{cbc, gcm}, "aes-256-cbc (ecdh, rsa-oaep); aes-256-gcm (ecdh, rsa-oaep)"},
	} {
		w.shelf.got, w.notes.events = nil, nil
		if _, err := w.submit(c.from, c.to, c.header+"Subject: [CONFIDENTIAL] x\n\nmarker\n"); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, b := range w.last().Bodies {
			got = append(got, w.cipher(b.Data).String())
			for _, uid := range strings.Fields(w.uids(b)) {
				if r := w.readers(b.Data, "marker"); !strings.Contains(r, uid) || !strings.Contains(r, c.from) {
					t.Errorf("%s to %s: %s reads it", c.from, c.to, r)
				}
			}
		}
		if slices.Sort(got); !slices.Equal(got, c.want) {
			t.Errorf("%s to %s: copies %v, want %v", c.from, c.to, got, c.want)
		}
		if e := w.notes.events; len(e) != 1 || e[0].Detail["cipher"] != c.record {
			t.Errorf("%s to %s: recorded %+v, want %s", c.from, c.to, e, c.record)
		}
	}

	// From outside no author of ours reads it.
	if _, err := w.receive("carol", "From: x@example.org\nTo: carol@health.gov.example\nSubject: [CONFIDENTIAL] x\n\nmarker\n"); err != nil || w.cipher(w.last().Bodies[0].Data) != cms.AES256GCM {
		t.Errorf("inbound: %v", err)
	}
}

// TestCipherOfOwnCopies: what one keeps, drafts too where they are sealed, is in the form that
// one reads.
func TestCipherOfOwnCopies(t *testing.T) {
	w := newWorld(t)
	w.change("dn: uid=alice,ou=people," + base + "\nchangetype: modify\nreplace: cmmpdCipherProfile\ncmmpdCipherProfile: gcm\n")
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{Drafts: policy.DraftsSeal})
	w.must(err)
	for _, c := range []struct {
		uid, use string
		want     cms.Cipher
	}{{"alice", `\Sent`, cms.AES256GCM}, {"alice", drafts, cms.AES256GCM}, {"bob", `\Sent`, cms.AES256CBC}, {"bob", drafts, cms.AES256CBC}} {
		uid, want := c.uid, c.want
		who := w.principal(uid)
		m := storage.Append{Data: crlf("From: " + who.Address.String() + "\nTo: bob@works.gov.example\nSubject: [CONFIDENTIAL] x\n\nmarker\n")}
		kept, release, err := w.in.keep(t.Context(), who, who.Account, func() (string, error) { return c.use, nil }, m)
		if err != nil {
			t.Fatal(err)
		}
		release()
		if got := w.cipher(kept.Data); got != want {
			t.Errorf("%s: %v, want %v", uid, got, want)
		}
		e := w.notes.events[len(w.notes.events)-1]
		if e.Detail["cipher"] != want.String()+" (rsa-oaep)" && e.Detail["cipher"] != want.String()+" (ecdh)" {
			t.Errorf("%s: recorded %+v", uid, e)
		}
	}
}

// TestCipherOfClients: the record names the cipher that the author's client chose.
func TestCipherOfClients(t *testing.T) {
	w := newWorld(t)
	der, err := cms.Encrypt(nil, cms.AES256GCM, cms.Data, []cms.RecipientSpec{{Cert: w.people["alice"].Cert}, {Cert: w.people["carol"].Cert}}, []byte("Content-Type: text/plain\r\n\r\nx"))
	w.must(err)
	_, err = w.submit("alice", "carol", "To: carol@health.gov.example\nSubject: x\nX-Classification: confidential\nMIME-Version: 1.0\n"+
		"Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data\nContent-Transfer-Encoding: base64\n\n"+base64Lines(der))
	if err != nil {
		t.Fatal(err)
	}
	if e := w.notes.events; len(e) != 1 || e[0].Detail["cipher"] != "aes-256-gcm" || e[0].Detail["label"] != string(mail.Confidential) {
		t.Errorf("recorded %+v", e)
	}
}
