package storage

import (
	"context"
	"path/filepath"
	"testing"

	"cmmpd/internal/mail"
)

// TestRenameUnderOrphan renames a mailbox to a name whose parent is there while the
// parent's parent is not.
func TestRenameUnderOrphan(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, err := range []error{a.Create(ctx, "A/B", ""), a.Delete(ctx, "A"), a.Rename(ctx, "Trash", "A/B/C")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Create(ctx, "A/B", ""); mail.KindOf(err) != mail.Exists {
		t.Errorf("creating what is there: %v", err)
	}
	if r, err := s.Check(ctx, true); err != nil || len(r.Problems) > 0 || r.Mailboxes != 8 {
		t.Errorf("%+v %v", r, err)
	}
}
