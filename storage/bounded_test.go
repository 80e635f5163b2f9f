package storage

import (
	"context"
	"path/filepath"
	"slices"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// TestManyMessages moves, copies, expunges and deletes more messages than one act takes. Each act is whole by itself, and one that fails leaves
// what was done before.
func TestManyMessages(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), FS: fsys, HouseRate: -1})
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	const many = 2*boundedAct + 500
	var list []Append
	data := testMessage("m", "text")
	for range many {
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: []string{"Word"}})
	}
	if _, err := a.Append(ctx, Inbox, list); err != nil {
		t.Fatal(err)
	}
	if err := a.Create(ctx, "Box", ""); err != nil {
		t.Fatal(err)
	}
	inbox, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer inbox.Close()
	box, err := a.Open(ctx, "Box")
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	all := imap.UIDSet{{Start: 1, Stop: 0}}
	if r, err := inbox.Copy(ctx, imap.UIDSetNum(9999999), "Box"); err != nil || len(r.To) != 0 || r.UIDValidity == 0 {
		t.Fatalf("a copy of nothing: %+v, %v", r, err)
	}

	fsys.FailAt(3, faultfs.Short) // each act is a write and a flush
	r, err := inbox.Move(ctx, all, "Box")
	fsys.FailAt(0, faultfs.Short)
	if mail.KindOf(err) != mail.Full || len(r.To) != boundedAct || len(r.From) != len(r.To) {
		t.Fatalf("a move into a full disk: %d moved, %v", len(r.To), err)
	}
	checkClean(t, s)
	if in, out := inbox.State().Messages, box.State().Messages; in != many-boundedAct || out != boundedAct {
		t.Fatalf("%d and %d messages", in, out)
	}
	r, err = inbox.Move(ctx, all, "Box")
	if err != nil || len(r.To) != many-boundedAct || !slices.IsSorted(r.To) || r.UIDValidity != box.UIDValidity() {
		t.Fatalf("%d moved, %v", len(r.To), err)
	}
	if r, err := box.Copy(ctx, all, Inbox); err != nil || len(r.To) != many {
		t.Fatalf("%d copied, %v", len(r.To), err)
	}
	before := inbox.State().HighestModSeq
	if _, _, err := inbox.StoreFlags(ctx, all, AddFlags, []string{FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	gone, err := inbox.Expunge(ctx, nil)
	if n, _ := gone.Nums(); err != nil || len(n) != many || inbox.State().Messages != 0 {
		t.Fatalf("%d expunged, %v", len(n), err)
	}
	if c, err := inbox.Changes(before); err != nil || c.Vanished.String() != gone.String() {
		t.Fatalf("%v vanished, %v", c.Vanished, err)
	}
	checkClean(t, s)
	if err := a.Delete(ctx, "Box"); err != nil || !box.Deleted() || box.State().Messages != 0 {
		t.Fatal(err)
	}
	checkClean(t, s)
}
