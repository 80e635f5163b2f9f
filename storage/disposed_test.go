package storage

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/message"
)

// TestRestoreWithNewerVault restores a backup of the mail with a vault from which keys were erased since: what they opened does not come back, all else
// does.
func TestRestoreWithNewerVault(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), EpochMessages: 20, HouseRate: -1}
	s := mustOpen(t, o)
	left := half(t, s, 60)
	a, err := s.OpenAccount(ctx, bob)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 { // each has a name under a key of its own, or nearly
		name := fmt.Sprint("Box ", i)
		if err := a.Create(ctx, name, ""); err != nil {
			t.Fatal(err)
		}
		if err := a.Subscribe(ctx, name, true); err != nil {
			t.Fatal(err)
		}
		var list []Append
		for range 18 {
			data := testMessage("boxed", "text")
			list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: []string{"Word"}})
		}
		if _, err := a.Append(ctx, name, list); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(o.Dir)); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	if a, err = s.OpenAccount(ctx, bob); err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		if err := a.Subscribe(ctx, fmt.Sprint("Box ", i), false); err != nil {
			t.Fatal(err)
		}
		if err := a.Delete(ctx, fmt.Sprint("Box ", i)); err != nil {
			t.Fatal(err)
		}
	}
	_ = a.Close()
	if r, err := s.eraseUnused(ctx); err != nil || r.Epochs == 0 {
		t.Fatalf("%+v erased, %v", r, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	newer, err := os.ReadFile(filepath.Join(o.Dir, VaultFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(old, VaultFile), newer, 0o600); err != nil {
		t.Fatal(err)
	}
	o.Dir = old
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if r, err := s.Check(ctx, true); err != nil || len(r.Problems) == 0 {
		t.Fatalf("nothing is missing: %+v, %v", r, err)
	}
	if err := s.Renew(ctx); err != nil {
		t.Fatal(err)
	}
	verifyHalf(t, s, left)
	if a, err = s.OpenAccount(ctx, bob); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	list, err := a.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	restored := 0
	for _, info := range list {
		if len(info.Name) > 9 && info.Name[:9] == "Restored " {
			restored++
		}
	}
	if restored == 0 {
		t.Errorf("mailboxes: %+v", list)
	}
	m, err := a.Open(ctx, "Box 4")
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if n := m.State().Messages; n != 18 {
		t.Errorf("%d messages in what was not deleted", n)
	}
	if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(1), AddFlags, []string{"Word", "Other"}, 0); err != nil {
		t.Error(err)
	}
	checkClean(t, s)
}
