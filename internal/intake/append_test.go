package intake

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/audit"
	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/storage"
)

// withStore is a world whose messages go to a real store.
func withStore(t testing.TB) (*world, *storage.Store) {
	t.Helper()
	return withStoreOn(t, durable.OS{})
}

func withStoreOn(t testing.TB, fsys durable.FS) (*world, *storage.Store) {
	t.Helper()
	w := newWorld(t)
	dir := t.TempDir()
	ks, err := keys.CreateFile(filepath.Join(dir, "keys"))
	w.must(err)
	for name, slot := range map[string]keys.Slot{"store": keys.Service, "blind": keys.Service, "platform": keys.Mail} {
		w.must(ks.Generate(slot, name, keys.KindAES256))
	}
	s, err := storage.Open(t.Context(), storage.Options{Dir: filepath.Join(dir, "store"), Keys: ks, FS: fsys})
	w.must(err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil && s.Ready() == nil {
			t.Errorf("closing the store: %v", err)
		}
		ks.Close()
	})
	w.in.o.Store = s
	return w, s
}

// desk is one person's open account.
type desk struct {
	*world
	who  *mail.Principal
	acct *storage.Account
}

func (w *world) desk(s *storage.Store, uid string) *desk {
	w.t.Helper()
	who := w.principal(uid)
	w.must(s.EnsureAccount(w.t.Context(), who.Account, ""))
	a, err := s.OpenAccount(w.t.Context(), who.Account)
	w.must(err)
	w.t.Cleanup(func() { a.Close() })
	return &desk{w, who, a}
}

// open is one of their mailboxes.
func (d *desk) open(name string) *storage.Mailbox {
	d.t.Helper()
	m, err := d.acct.Open(d.t.Context(), name)
	d.must(err)
	d.t.Cleanup(m.Close)
	return m
}

// texts are the messages of a mailbox.
func (d *desk) texts(name string) []string {
	d.t.Helper()
	m := d.open(name)
	all, _ := m.Snapshot()
	var out []string
	for _, msg := range all {
		b, err := content(d.t.Context(), m, msg.UID)
		d.must(err)
		out = append(out, string(b))
	}
	return out
}

func (d *desk) append(mailbox, text string, flags ...string) error {
	d.t.Helper()
	_, err := d.in.Append(d.t.Context(), d.who, d.acct, mailbox, []storage.Append{{Data: crlf(text), Flags: flags}})
	return err
}

// refuses checks that err is a refusal and that the mailbox still holds n messages.
func (d *desk) refuses(err error, mailbox string, n int, words ...string) {
	d.t.Helper()
	d.refused(err, mail.Refused, words...)
	if got := d.texts(mailbox); len(got) != n {
		d.t.Errorf("%s holds %d messages, want %d", mailbox, len(got), n)
	}
}

func TestAppend(t *testing.T) {
	w, s := withStore(t)
	alice := w.desk(s, "alice")
	plain := confidential("To: bob@works.gov.example, dave@health.gov.example\n")
	w.must(alice.append("Sent", hello))
	w.must(alice.append("Sent", plain, storage.FlagSeen))
	w.must(alice.append("Archive", plain))
	w.must(alice.append("Drafts", plain, storage.FlagDraft))
	sent := alice.texts("Sent")
	if len(sent) != 2 || sent[0] != string(crlf(hello)) {
		t.Fatalf("Sent holds %q", sent)
	}
	for _, text := range []string{sent[1], alice.texts("Archive")[0]} {
		if got := w.readers([]byte(text), secretWord); got != "alice" {
			t.Errorf("the sealed copy is read by %q", got)
		}
		if strings.Contains(text, secretWord) || strings.Contains(text, "bridge plan") {
			t.Errorf("in clear: %q", text)
		}
	}
	if got := alice.texts("Drafts"); len(got) != 1 || got[0] != string(crlf(plain)) {
		t.Errorf("Drafts holds %q", got)
	}
	if n := len(w.notes.events); n != 3 || w.notes.events[0].Type != audit.MailSealed || w.notes.events[2].Type != audit.MailPassed {
		t.Errorf("records %+v", w.notes.events)
	}

	dave := w.desk(s, "dave")
	dave.refuses(dave.append("Sent", plain), "Sent", 0, "dave@health.gov.example has no certificate")
	dave.refuses(dave.append("Sent", "Subject: [SECRET] x\n\ntext\n"), "Sent", 0, "not carried")
	dave.refuses(dave.append("Drafts", "Subject: [SECRET] x\n\ntext\n"), "Drafts", 0, "not carried")
	w.must(dave.append("Drafts", plain))
	w.must(dave.append("Sent", "Subject: [RESTRICTED] x\n\ntext\n"))
	// All or nothing.
	_, err := w.in.Append(t.Context(), dave.who, dave.acct, "Archive", []storage.Append{{Data: crlf(hello)}, {Data: crlf(plain)}})
	dave.refuses(err, "Archive", 0)
	if err := dave.append("Nowhere", hello); mail.KindOf(err) != mail.NotFound {
		t.Errorf("no such mailbox: %v", err)
	}
	if err := dave.append("Nowhere", plain); mail.KindOf(err) != mail.NotFound {
		t.Errorf("no such mailbox, confidential: %v", err)
	}

	// What a client encrypted is kept as it is.
	bob := w.desk(s, "bob")
	sealed := w.encryptTo("Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, "carol")
	w.must(bob.append("Sent", sealed))
	if got := bob.texts("Sent"); got[0] != string(crlf(sealed)) {
		t.Error("an encrypted copy was changed")
	}
	broken := "Subject: [CONFIDENTIAL] x\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nMIIBAAAA\n"
	w.must(bob.append("Sent", broken))
	if got := w.readers([]byte(bob.texts("Sent")[1]), ""); got != "bob" {
		t.Errorf("what only claims to be encrypted is read by %q", got)
	}
}

// TestSignedForTheAuthorOnly looks at the signature inside of what was sealed.
func TestSignedForTheAuthorOnly(t *testing.T) {
	w, s := withStore(t)
	alice := w.desk(s, "alice")
	key, err := cms.NewKeyOpener(w.people["alice"].Cert, w.people["alice"].Key)
	w.must(err)
	open := func(text string) *smime.Opened {
		t.Helper()
		o, err := w.gateway().Open([]byte(text), message.Parse([]byte(text), message.Limits{}), key)
		w.must(err)
		return o
	}
	w.must(alice.append("Sent", confidential("Bcc: erin@health.gov.example\n")))
	w.must(alice.append("Sent", "From: bob@works.gov.example\nSubject: [CONFIDENTIAL] forged\n\ntext\n"))
	w.must(alice.append("Sent", "Subject: [CONFIDENTIAL] nobody's\n\ntext\n"))
	_, err = w.receive("alice", confidential(""))
	w.must(err)
	sent := alice.texts("Sent")
	own := open(sent[0])
	if own.Signature.Status != smime.Pass || !own.Signature.Domain || !strings.Contains(string(own.Inner), "Bcc: erin@health.gov.example") {
		t.Errorf("alice's own copy: %+v, %q", own.Signature, own.Inner)
	}
	for i, text := range []string{sent[1], sent[2], alice.texts("INBOX")[0]} {
		if o := open(text); o.Signature.Status != smime.None {
			t.Errorf("%d: the domain vouches for somebody unknown: %+v", i, o.Signature)
		}
	}
}

// TestCopyOfSubmission saves a copy that does not say what label the submission had.
func TestCopyOfSubmission(t *testing.T) {
	w, s := withStore(t)
	_, err := w.receive("carol", "References: <0@x>\nSubject: to an account that does not exist yet\n\ntext\n")
	w.must(err)
	_, err = w.submit("alice", "bob", confidential("To: bob@works.gov.example\n"))
	w.must(err)
	alice := w.desk(s, "alice")
	w.must(alice.append("Sent", "Message-ID: <c1@works.gov.example>\nSubject: bridge plan\n\n"+secretWord+"\n"))
	w.must(alice.append("Sent", "Message-ID: <c2@works.gov.example>\nReferences: <0@x> <c1@works.gov.example>\nSubject: Re: bridge plan\n\n"+secretWord+"\n"))
	for i, text := range alice.texts("Sent") {
		if got := w.readers([]byte(text), secretWord); got != "alice" {
			t.Errorf("copy %d is read by %q", i, got)
		}
	}
	bob := w.desk(s, "bob") // he has received it: his answer is confidential, too
	in := bob.texts("INBOX")
	if len(in) != 1 || !strings.HasPrefix(in[0], "Return-Path: <alice@works.gov.example>\r\nDelivered-To: bob@works.gov.example\r\nReceived: ") {
		t.Fatalf("bob has %.300q", in)
	}
	if got := w.readers([]byte(in[0]), secretWord); got != "alice bob" {
		t.Errorf("read by %q", got)
	}
	w.must(bob.append("Sent", "In-Reply-To: <c1@works.gov.example>\nSubject: Re: bridge plan\n\n"+secretWord+"\n"))
	if got := w.readers([]byte(bob.texts("Sent")[0]), secretWord); got != "bob" {
		t.Errorf("the answer is read by %q", got)
	}
	if r, err := s.Check(t.Context(), true); err != nil || len(r.Problems) > 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
}

func TestRefusedLeavesNothing(t *testing.T) {
	w, s := withStore(t)
	before, err := s.Check(t.Context(), false)
	w.must(err)
	for _, to := range []string{"bob dave", "frank", "grace"} {
		_, err := w.submit("alice", to, confidential("To: bob@works.gov.example\n"))
		w.refused(err, mail.Refused)
		_, err = w.receive(to, confidential("To: bob@works.gov.example\n"))
		w.refused(err, mail.Refused)
	}
	after, err := s.Check(t.Context(), false)
	if err != nil || before.Entries != after.Entries || before.Bodies != after.Bodies || before.Accounts != after.Accounts || before.Mailboxes != after.Mailboxes {
		t.Errorf("before %+v, after %+v, %v", before, after, err)
	}
}

func TestOutOfDrafts(t *testing.T) {
	w, s := withStore(t)
	alice := w.desk(s, "alice")
	plain := confidential("To: bob@works.gov.example\n")
	for _, text := range []string{hello, plain, w.encryptTo("Subject: [CONFIDENTIAL] x\n", cms.AES256CBC, "alice")} {
		w.must(alice.append("Drafts", text, storage.FlagDraft, "$Forwarded"))
	}
	from := alice.open("Drafts")
	all := imap.UIDSet{{Start: 1, Stop: 3}}
	got, err := w.in.Copy(t.Context(), alice.who, alice.acct, from, all, "Archive")
	w.must(err)
	if len(got.From) != 3 || len(got.To) != 3 || got.UIDValidity != alice.open("Archive").UIDValidity() {
		t.Errorf("COPYUID %+v", got)
	}
	texts := alice.texts("Archive")
	if len(texts) != 3 || texts[0] != string(crlf(hello)) || w.readers([]byte(texts[1]), secretWord) != "alice" || w.readers([]byte(texts[2]), secretWord) != "alice" {
		t.Errorf("Archive holds %.300q", texts)
	}
	archived, _ := alice.open("Archive").Snapshot()
	drafted, _ := from.Snapshot()
	if len(drafted) != 3 || !archived[1].Flags.Has(`\Draft`) || !archived[1].Flags.Has("$Forwarded") || !archived[1].InternalDate.Equal(drafted[1].InternalDate) {
		t.Errorf("%d drafts are left; flags %v", len(drafted), archived[1].Flags.List())
	}
	// Nothing to seal: the store's own copy. To Drafts itself: no matter.
	_, err = w.in.Copy(t.Context(), alice.who, alice.acct, from, imap.UIDSet{{Start: 1, Stop: 1}, {Start: 3, Stop: 3}}, "Junk")
	w.must(err)
	_, err = w.in.Copy(t.Context(), alice.who, alice.acct, from, imap.UIDSet{{Start: 2, Stop: 2}}, "Drafts")
	w.must(err)
	if n := alice.texts("Drafts"); len(n) != 4 || n[3] != string(crlf(plain)) {
		t.Errorf("Drafts holds %d messages", len(n))
	}
	if _, err = w.in.Move(t.Context(), alice.who, alice.acct, from, imap.UIDSet{{Start: 1, Stop: 4}}, "Nowhere"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("no such mailbox: %v", err)
	}
	moved, err := w.in.Move(t.Context(), alice.who, alice.acct, from, imap.UIDSet{{Start: 2, Stop: 9}}, "Trash")
	w.must(err)
	if left := alice.texts("Drafts"); len(left) != 1 || left[0] != string(crlf(hello)) || len(moved.To) != 3 {
		t.Errorf("after MOVE %d drafts are left, %+v", len(left), moved)
	}
	for _, text := range alice.texts("Trash") {
		w.readers([]byte(text), secretWord)
	}

	dave := w.desk(s, "dave")
	w.must(dave.append("Drafts", plain))
	w.must(dave.append("Drafts", hello))
	_, err = w.in.Move(t.Context(), dave.who, dave.acct, dave.open("Drafts"), imap.UIDSet{{Start: 1, Stop: 2}}, "Sent")
	dave.refuses(err, "Sent", 0, "dave@health.gov.example has no certificate")
	if len(dave.texts("Drafts")) != 2 {
		t.Error("a draft is gone")
	}
	_, err = w.in.Move(t.Context(), dave.who, dave.acct, dave.open("Drafts"), imap.UIDSet{{Start: 2, Stop: 2}}, "Sent")
	w.must(err)
	if r, err := s.Check(t.Context(), true); err != nil || len(r.Problems) > 0 {
		t.Errorf("check: %+v, %v", r, err)
	}
}

// TestMoveOutOfDraftsFails: what is reported as moved, and nothing else, has left Drafts, whichever write or flush fails.
func TestMoveOutOfDraftsFails(t *testing.T) {
	failed := 0
	for at, done := 1, false; !done; at++ {
		fsys := faultfs.New()
		w, s := withStoreOn(t, fsys)
		alice := w.desk(s, "alice")
		for range 3 {
			w.must(alice.append("Drafts", confidential("To: bob@works.gov.example\n")))
		}
		from := alice.open("Drafts")
		fsys.FailAt(at, faultfs.Short)
		moved, err := w.in.Move(t.Context(), alice.who, alice.acct, from, imap.UIDSet{{Start: 1, Stop: 2}}, "Trash")
		fsys.FailAt(0, faultfs.Short)
		if done = err == nil; !done {
			failed++
		}
		left, there := len(alice.texts("Drafts")), len(alice.texts("Trash"))
		if left != 3-len(moved.From) || there < len(moved.To) || len(moved.From) != len(moved.To) || done && left != 1 {
			t.Errorf("operation %d: %d drafts are left, %d messages in Trash, %+v, %v", at, left, there, moved, err)
		}
		if at > 20 {
			t.Fatal("no end")
		}
	}
	if failed < 4 {
		t.Errorf("%d operations failed", failed)
	}
}

func TestDraftsSealed(t *testing.T) {
	w, s := withStore(t)
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{Drafts: policy.DraftsSeal})
	w.must(err)
	alice := w.desk(s, "alice")
	w.must(alice.append("Drafts", confidential("")))
	text := []byte(alice.texts("Drafts")[0])
	if k := w.gateway().Inspect(text, message.Parse(text, message.Limits{})).Kind; k != smime.Encrypted {
		t.Errorf("the draft is %v", k)
	}
}

func TestStaleAppend(t *testing.T) {
	w, s := withStore(t)
	w.publish(-time.Second)
	alice := w.desk(s, "alice")
	err := alice.append("Sent", confidential(""))
	w.refused(err, mail.Unavailable)
	if len(alice.texts("Sent")) != 0 {
		t.Error("something was kept")
	}
}
