package intake

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/queue"
	"cmmpd/storage"
)

// withQueue gives the world ways to partner.example and all others.
func (w *world) withQueue() {
	w.t.Helper()
	q, err := queue.New(queue.Options{Hostname: "mail.gov.example", Store: &storage.Store{}, Routes: []queue.Route{
		{Domain: "partner.example", Host: "127.0.0.1:1"}, {Domain: "*", Host: "127.0.0.1:2"},
	}})
	w.must(err)
	w.in.o.Queue = q
}

// letters are the queue items of a body, as the queue keeps them.
func letters(b storage.Body) []string {
	var out []string
	for _, item := range b.Queue {
		out = append(out, string(item.Data))
	}
	return out
}

func TestOtherDomains(t *testing.T) {
	w := newWorld(t)
	_, err := w.submit("alice", "bob someone@partner.example", hello)
	w.refused(err, mail.Refused, "mail to other domains is not served yet")

	w.withQueue()
	_, err = w.submit("alice", "bob someone@partner.example other@PARTNER.example s@example.org t@example.net", hello)
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 1 || w.uids(d.Bodies[0]) != "bob" || !bytes.HasSuffix(d.Bodies[0].Data, crlf(hello)) {
		t.Fatalf("delivery %+v", d)
	}
	items := letters(d.Bodies[0])
	if len(items) != 2 || !strings.Contains(items[0], "someone@partner.example") || !strings.Contains(items[0], "other@partner.example") ||
		!strings.Contains(items[1], "s@example.org") || !strings.Contains(items[1], "t@example.net") || strings.Contains(items[0], "example.org") {
		t.Errorf("items %q", items)
	}
	if !strings.Contains(items[0], `"verified-tls":false`) || !strings.Contains(items[0], `"from":"alice@works.gov.example"`) {
		t.Errorf("item %q", items[0])
	}

	_, err = w.submit("alice", "someone@partner.example", hello)
	w.must(err)
	if b := w.last().Bodies; len(b) != 1 || len(b[0].Entries) != 0 || len(b[0].Queue) != 1 {
		t.Errorf("to elsewhere alone: %+v", b)
	}
	_, err = w.submit("alice", "someone@partner.example Someone@PARTNER.example someone@partner.example", hello)
	w.must(err)
	if items := letters(w.last().Bodies[0]); len(items) != 1 || strings.Count(items[0], `"address"`) != 2 {
		t.Errorf("who differ by case may be two people there: %q", items)
	}
	w.shelf.got = nil
	_, err = w.receive("someone@partner.example", hello)
	w.refused(err, mail.Refused, "relay")
}

func TestLabelsToOtherDomains(t *testing.T) {
	w := newWorld(t)
	w.withQueue()
	_, err := w.submit("alice", "someone@partner.example", "Subject: [RESTRICTED] x\n\ntext\n")
	w.must(err)
	if items := letters(w.last().Bodies[0]); len(items) != 1 || !strings.Contains(items[0], `"verified-tls":true`) || !strings.Contains(items[0], `"confidential":false`) {
		t.Errorf("restricted: %q", items)
	}
	w.shelf.got = nil
	secret := "To: s@example.org, bob@works.gov.example\nSubject: [CONFIDENTIAL] x\n\nthe plan\n"
	_, err = w.submit("alice", "s@example.org someone@partner.example bob", secret)
	w.refused(err, mail.Refused, "someone@partner.example has no certificate")

	_, err = w.submit("alice", "S@example.org bob", secret)
	w.must(err)
	b := w.last().Bodies
	if len(b) != 1 || w.uids(b[0]) != "bob" || len(b[0].Queue) != 1 || bytes.Contains(b[0].Data, []byte("the plan")) {
		t.Fatalf("confidential: %+v", b)
	}
	if got := w.readers(b[0].Data, "the plan"); got != "alice bob stranger" {
		t.Errorf("readers %q", got)
	}
	if items := letters(b[0]); !strings.Contains(items[0], `"confidential":true`) || !strings.Contains(items[0], "S@example.org") {
		t.Errorf("items %q", items)
	}

	w.change("dn: cn=contact,ou=people," + base + "\nchangetype: modify\nadd: mail\nmail: t@example.org\n") // the certificate names s alone
	_, err = w.submit("alice", "t@example.org bob", strings.ReplaceAll(secret, "s@", "t@"))
	w.must(err)
	if b := w.last().Bodies; len(b) != 1 || w.readers(b[0].Data, "the plan") != "alice bob stranger" || !strings.Contains(letters(b[0])[0], "t@example.org") {
		t.Errorf("to another address of theirs: %+v", b)
	}

	_, err = w.submit("alice", "s@example.org bob", strings.Replace(secret, "s@example.org, ", "", 1)) // s is a blind recipient
	w.must(err)
	b = w.last().Bodies
	if len(b) != 2 || len(b[0].Queue) != 0 || len(b[1].Queue) != 1 || len(b[1].Entries) != 0 {
		t.Fatalf("blind: %+v", b)
	}
	got := []string{w.readers(b[0].Data, "the plan"), w.readers(b[1].Data, "the plan")}
	if !slices.Equal(got, []string{"alice bob", "alice stranger"}) {
		t.Errorf("readers %q", got)
	}
}

func TestReport(t *testing.T) {
	w := newWorld(t)
	env := &mail.Envelope{To: w.addresses("alice"), Client: mail.Client{Protocol: mail.ProtocolQueue}}
	_, err := w.in.Accept(t.Context(), env, crlf("From: postmaster@localhost\nSubject: x\n\ntext\n"))
	w.must(err)
	b := w.last().Bodies[0]
	if !bytes.HasPrefix(b.Data, []byte("Received: by mail.gov.example (delivery report)\r\n id ")) || !bytes.HasPrefix(b.Entries[0].Prefix, []byte("Return-Path: <>\r\n")) {
		t.Errorf("%q %q", b.Entries[0].Prefix, b.Data)
	}
}
