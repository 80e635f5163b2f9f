package intake

import (
	"bytes"
	"context"
	"strings"
	"testing"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// fullShelf is a store in which some accounts have no room. late is as full, but says so to Deliver only.
type fullShelf struct {
	*shelf
	full, late map[mail.AccountID]bool
}

func (f *fullShelf) Room(_ context.Context, id mail.AccountID, _ int64) error {
	if f.full[id] {
		return mail.E(mail.OverQuota, "the mailbox is full", nil)
	}
	return nil
}

func (f *fullShelf) Deliver(ctx context.Context, d storage.Delivery) ([]storage.Placed, error) {
	full := &storage.FullError{}
	for _, b := range d.Bodies {
		for _, e := range b.Entries {
			if f.full[e.Account] || f.late[e.Account] {
				full.Accounts = append(full.Accounts, e.Account)
			}
		}
	}
	if len(full.Accounts) > 0 {
		return nil, mail.E(mail.OverQuota, "the mailbox is full", full)
	}
	return f.shelf.Deliver(ctx, d)
}

// fill makes the mailboxes of people full.
func (w *world) fill(uids ...string) *fullShelf {
	w.t.Helper()
	f := &fullShelf{shelf: w.shelf, full: map[mail.AccountID]bool{}, late: map[mail.AccountID]bool{}}
	for _, uid := range uids {
		e, err := w.dir.ByUID(w.t.Context(), uid)
		w.must(err)
		f.full[e.Account] = true
	}
	w.in.o.Store = f
	return f
}

// TestResolveFullMailbox: a full mailbox is refused at RCPT, a group when all its members' are.
func TestResolveFullMailbox(t *testing.T) {
	w := newWorld(t)
	for full, want := range map[string]map[string]bool{
		"bob":             {"bob": true, "alice": false, "team": false},
		"alice bob carol": {"bob": true, "alice": true, "team": true, "dave": false},
	} {
		w.fill(strings.Fields(full)...)
		for rcpt, want := range want {
			err := w.in.Resolve(t.Context(), &mail.Envelope{}, w.addresses(map[bool]string{true: "team@works.gov.example", false: rcpt}[rcpt == "team"])[0])
			if got := mail.KindOf(err) == mail.OverQuota && err != nil; got != want || !want && err != nil {
				t.Errorf("%s full, to %s: %v", full, rcpt, err)
			}
		}
	}
}

// TestFullMember: the other members of the group get the mail, and the sender, in the same act, the report about the full one.
func TestFullMember(t *testing.T) {
	w := newWorld(t)
	w.fill("bob")
	_, err := w.submit("alice", "team@works.gov.example", hello)
	w.must(err)
	d := w.last()
	if len(w.shelf.got) != 1 || len(d.Bodies) != 2 || w.uids(d.Bodies[0]) != "alice carol" || w.uids(d.Bodies[1]) != "alice" {
		t.Fatalf("%d acts, the last %+v", len(w.shelf.got), d)
	}
	report, prefix := string(d.Bodies[1].Data), string(d.Bodies[1].Entries[0].Prefix)
	for _, want := range []string{
		"Received: by mail.gov.example (delivery report)\r\n", "To: <alice@works.gov.example>\r\n", "report-type=delivery-status",
		"Final-Recipient: rfc822; bob@works.gov.example\r\nAction: failed\r\nStatus: 5.2.2\r\n", "the mailbox is full", "Subject: hello",
	} {
		if !strings.Contains(report, want) {
			t.Errorf("the report does not say %q:\n%s", want, report)
		}
	}
	if strings.Contains(report, "carol@") || strings.Contains(report, "\r\ntext\r\n") || !strings.HasPrefix(prefix, "Return-Path: <>\r\n") {
		t.Errorf("%s\n%s", prefix, report)
	}
}

// TestFullMemberConfidential: a Bcc of his own is left out whole, and the report says nothing of what was sealed.
func TestFullMemberConfidential(t *testing.T) {
	w := newWorld(t)
	w.fill("carol")
	_, err := w.submit("alice", "bob carol", "To: bob@works.gov.example\nSubject: [CONFIDENTIAL] the plan\n\nattack at dawn\n")
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 2 || w.uids(d.Bodies[0]) != "bob" || w.uids(d.Bodies[1]) != "alice" {
		t.Fatalf("%+v", d)
	}
	report := d.Bodies[1].Data
	if bytes.Contains(report, []byte("plan")) || bytes.Contains(report, []byte("dawn")) || !bytes.Contains(report, []byte("Final-Recipient: rfc822; carol@health.gov.example")) {
		t.Errorf("report:\n%s", report)
	}
}

// TestAllFull: nothing is kept, and the client is told to come again.
func TestAllFull(t *testing.T) {
	w := newWorld(t)
	w.fill("alice", "bob", "carol")
	_, err := w.receive("team@works.gov.example", hello)
	w.refused(err, mail.OverQuota, "full")
	_, err = w.submit("dave", "bob", "Subject: hello\n\ntext\n")
	w.refused(err, mail.OverQuota, "full")

	w.fill("alice", "bob") // the sender has no room for the report
	_, err = w.submit("alice", "team@works.gov.example", hello)
	w.refused(err, mail.OverQuota, "and so is yours")
}

// TestFullOneByOne: mailboxes that fill up while the delivery is under way are all left out.
func TestFullOneByOne(t *testing.T) {
	w := newWorld(t)
	w.fill("bob").late[w.principal("carol").Account] = true
	_, err := w.submit("dave", "team@works.gov.example", "Subject: hello\n\ntext\n")
	w.must(err)
	if d := w.last(); len(d.Bodies) != 2 || w.uids(d.Bodies[0]) != "alice" || !bytes.Contains(d.Bodies[1].Data, []byte("Final-Recipient: rfc822; carol@health.gov.example")) ||
		!bytes.Contains(d.Bodies[1].Data, []byte("Final-Recipient: rfc822; bob@works.gov.example")) {
		t.Errorf("%+v", d)
	}
}

// TestFullMemberOfStrangers: a stranger hears by the queue, of the address that they wrote to and not of who is behind it.
func TestFullMemberOfStrangers(t *testing.T) {
	w := newWorld(t)
	w.fill("bob", "carol")
	_, err := w.receive("team@works.gov.example", hello)
	w.must(err)
	if d := w.last(); len(d.Bodies) != 1 || w.uids(d.Bodies[0]) != "alice" || len(w.notes.events) != 1 || w.notes.events[0].Type != audit.MailUntold {
		t.Fatalf("without a way: %+v, %+v", d, w.notes.events)
	}
	w.withQueue()
	_, err = w.receive("team@works.gov.example", hello)
	w.must(err)
	d := w.last()
	if len(d.Bodies) != 2 || len(d.Bodies[1].Entries) != 0 || len(d.Bodies[1].Queue) != 1 || len(w.notes.events) != 1 {
		t.Fatalf("%+v, %+v", d, w.notes.events)
	}
	report, item := string(d.Bodies[1].Data), string(d.Bodies[1].Queue[0].Data)
	if !strings.Contains(item, `"from":"",`) || !strings.Contains(item, `"address":"sender@example.org"`) || strings.Contains(report, "rfc822; bob@") ||
		strings.Count(report, "Final-Recipient: rfc822; team@works.gov.example\r\n") != 1 {
		t.Errorf("%s\n%s", item, report)
	}
	env := &mail.Envelope{To: w.addresses("team@works.gov.example"), Client: mail.Client{Protocol: "smtp"}}
	_, err = w.in.Accept(t.Context(), env, crlf(hello)) // nothing is said to nobody
	w.must(err)
	if got := w.last().Bodies; len(got) != 1 || len(w.notes.events) != 2 {
		t.Errorf("%+v, %+v", got, w.notes.events)
	}
}

// TestFullHereOnly: who is elsewhere gets the mail though the one here is full.
func TestFullHereOnly(t *testing.T) {
	w := newWorld(t)
	w.withQueue()
	w.fill("bob")
	_, err := w.submit("alice", "bob someone@partner.example", hello)
	w.must(err)
	if d := w.last(); len(d.Bodies) != 2 || len(d.Bodies[0].Entries) != 0 || len(d.Bodies[0].Queue) != 1 || w.uids(d.Bodies[1]) != "alice" {
		t.Errorf("%+v", d)
	}
}
