package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// newKeys is a keystore with the keys that a store needs.
func newKeys(t testing.TB) keys.Keystore {
	t.Helper()
	return newKeysIn(t, filepath.Join(t.TempDir(), "keys"))
}

func newKeysIn(t testing.TB, dir string) keys.Keystore {
	t.Helper()
	ks, err := keys.CreateFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []struct {
		slot keys.Slot
		name string
	}{{keys.Service, "store"}, {keys.Service, "blind"}, {keys.Mail, "platform"}} {
		if err := ks.Generate(k.slot, k.name, keys.KindAES256); err != nil {
			t.Fatal(err)
		}
	}
	return ks
}

func mustOpen(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func testMessage(subject, body string) []byte {
	return fmt.Appendf(nil, "From: Alice <alice@works.gov.example>\r\nTo: bob@works.gov.example\r\nSubject: %s\r\nMessage-ID: <%s@x.example>\r\n\r\n%s\r\n",
		subject, strings.ReplaceAll(subject, " ", "."), body)
}

func body(data []byte, entries ...NewEntry) Body {
	return Body{Data: data, Index: message.Parse(data, message.Limits{}), Entries: entries}
}

const (
	alice = mail.AccountID("11111111-1111-4111-8111-111111111111")
	bob   = mail.AccountID("22222222-2222-4222-8222-222222222222")
)

func readAll(t testing.TB, m *Mailbox, uid uint32) []byte {
	t.Helper()
	c, err := m.Body(context.Background(), uid)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func checkClean(t testing.TB, s *Store) *Report {
	t.Helper()
	r, err := s.Check(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		t.Fatalf("check: %s", strings.Join(r.Problems, "\n"))
	}
	return r
}

func TestDeliverAndRead(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	data := testMessage("hello", strings.Repeat("0123456789abcdef", 10_000))
	prefix := []byte("Delivered-To: bob\r\n")
	placed, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(data, NewEntry{Account: alice}, NewEntry{Account: bob, Prefix: prefix, Flags: []string{`\seen`, "$Work"}})}})
	if err != nil {
		t.Fatal(err)
	}
	if len(placed) != 2 || placed[0].UID != 1 || placed[1].UID != 1 || placed[0].EmailID != placed[1].EmailID || placed[0].EmailID == 0 {
		t.Fatalf("placed: %+v", placed)
	}
	for range 2 {
		a, err := s.OpenAccount(ctx, bob)
		if err != nil {
			t.Fatal(err)
		}
		list, err := a.List(ctx)
		if err != nil || len(list) != 6 || list[0].Name != "INBOX" || !list[0].Subscribed || !list[0].Exists {
			t.Fatalf("list: %+v, %v", list, err)
		}
		m, err := a.Open(ctx, "inbox")
		if err != nil {
			t.Fatal(err)
		}
		msgs, state := m.Snapshot()
		if len(msgs) != 1 || state.UIDNext != 2 || msgs[0].Size != int64(len(prefix)+len(data)) || !msgs[0].Flags.Has(`\Seen`) || !msgs[0].Flags.Has("$work") {
			t.Fatalf("snapshot: %+v %+v", msgs, state)
		}
		if got := readAll(t, m, 1); !bytes.Equal(got, append(prefix, data...)) {
			t.Fatal("the body is not what was delivered")
		}
		sum, err := m.Summary(ctx, 1)
		if err != nil || !bytes.HasPrefix(sum.Header, prefix) || !bytes.HasSuffix(sum.Header, []byte("\r\n\r\n")) || sum.Index.Root.Envelope.Subject != "hello" {
			t.Fatalf("summary: %+v, %v", sum, err)
		}
		if st, err := a.Status(ctx, "INBOX"); err != nil || st.Messages != 1 || st.Unseen != 0 || st.Size != msgs[0].Size {
			t.Fatalf("status: %+v, %v", st, err)
		}
		checkClean(t, s)
		m.Close()
		_ = a.Close()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = mustOpen(t, o)
	}
	if _, err := s.OpenAccount(ctx, "nobody"); mail.KindOf(err) != mail.NotFound {
		t.Fatalf("opening an account that is not there: %v", err)
	}
	if _, err := Open(ctx, o); mail.KindOf(err) != mail.Busy {
		t.Fatalf("second opener: %v", err)
	}
}

func TestMailboxOperations(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	var list []Append
	for i := range 10 {
		data := testMessage(fmt.Sprint("m", i), "text")
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: []string{"tag"}})
	}
	if _, err := a.Append(ctx, "INBOX", list); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Append(ctx, "Nowhere", list); mail.KindOf(err) != mail.NotFound {
		t.Fatalf("append to no mailbox: %v", err)
	}
	if err := a.Create(ctx, "Projects/Bridge/2026", ""); err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(ctx, "INBOX")
	if err != nil {
		t.Fatal(err)
	}
	told := make(chan struct{}, 100)
	m.Watch(ctx, func() { told <- struct{}{} })
	if first, last := m.ClaimRecent(); first != 1 || last != 10 {
		t.Fatalf("claim: %d to %d", first, last)
	}
	if first, last := m.ClaimRecent(); first <= last {
		t.Fatalf("second claim: %d to %d", first, last)
	}
	before := m.State().HighestModSeq
	changed, modified, err := m.StoreFlags(ctx, imap.UIDSetNum(1, 2, 3, 99), AddFlags, []string{`\Deleted`, "other"}, 0)
	if err != nil || len(changed.UIDs) != 3 || len(modified) != 0 || changed.ModSeq <= before {
		t.Fatalf("store: %+v %v %v", changed, modified, err)
	}
	if msg, ok := m.Get(3); !ok || !msg.Flags.Has("other") || msg.ModSeq != changed.ModSeq {
		t.Fatalf("after store: %+v", msg)
	}
	<-told
	if _, modified, err = m.StoreFlags(ctx, imap.UIDSetNum(3, 4), AddFlags, []string{`\Flagged`}, before); err != nil || modified.String() != "3" {
		t.Fatalf("conditional store: %v %v", modified, err)
	}
	c, err := m.Copy(ctx, imap.UIDSetNum(3, 4), "Projects/Bridge/2026")
	if err != nil || fmt.Sprint(c.From, c.To) != "[3 4] [1 2]" {
		t.Fatalf("copy: %+v %v", c, err)
	}
	gone, err := m.Expunge(ctx, &imap.UIDSet{{Start: 1, Stop: 2}})
	if err != nil || gone.String() != "1:2" {
		t.Fatalf("expunge: %v %v", gone, err)
	}
	if gone, err = m.Expunge(ctx, nil); err != nil || gone.String() != "3" {
		t.Fatalf("expunge: %v %v", gone, err)
	}
	ch, err := m.Changes(before)
	if err != nil || ch.Vanished.String() != "1:3" || len(ch.Changed) != 1 || ch.Changed[0].UID != 4 {
		t.Fatalf("changes: %+v %v", ch, err)
	}
	checkClean(t, s)
	c, err = m.Move(ctx, imap.UIDSet{{Start: 5, Stop: 0}}, "Projects")
	if err != nil || len(c.From) != 6 {
		t.Fatalf("move: %+v %v", c, err)
	}
	if n := m.State().Messages; n != 1 {
		t.Fatalf("%d messages left", n)
	}
	if err := a.Rename(ctx, "Projects", "Old/Projects"); err != nil {
		t.Fatal(err)
	}
	p, err := a.Open(ctx, "Old/Projects/Bridge/2026")
	if err != nil {
		t.Fatal(err)
	}
	msgs, _ := p.Snapshot()
	if len(msgs) != 2 || !msgs[0].Flags.Has("tag") || !msgs[0].Flags.Has("other") || !bytes.Contains(readAll(t, p, 1), []byte("Subject: m2")) {
		t.Fatalf("renamed: %+v", msgs)
	}
	if err := a.Delete(ctx, "Old/Projects/Bridge/2026"); err != nil {
		t.Fatal(err)
	}
	if !p.Deleted() || p.State().Messages != 0 {
		t.Fatal("the deleted mailbox does not show it")
	}
	p.Close()
	if err := a.Rename(ctx, "INBOX", "Before"); err != nil {
		t.Fatal(err)
	}
	if st, err := a.Status(ctx, "Before"); err != nil || st.Messages != 1 {
		t.Fatalf("renamed INBOX: %+v %v", st, err)
	}
	if err := a.Subscribe(ctx, "Later", true); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
	m.Close()
	_ = a.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(list[0].Data, NewEntry{Account: bob})}}); err == nil || errors.Is(err, io.EOF) {
		t.Fatal("a closed store accepted mail")
	}
	s = mustOpen(t, o)
	r := checkClean(t, s)
	if r.Accounts != 1 || r.Entries != 7 || r.Bodies != 7 {
		t.Fatalf("report: %+v", r)
	}
}
