package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.etcd.io/bbolt"

	"cmmpd/internal/mail"
)

// glance is all that can be seen of a store, as text: one line for each thing, by its name.
func glance(ctx context.Context, s *Store, ids []mail.AccountID) map[string]string {
	seen := make(map[string]string)
	for _, id := range ids {
		a, err := s.OpenAccount(ctx, id)
		if err != nil {
			continue
		}
		list, err := a.List(ctx)
		if err != nil {
			_ = a.Close()
			continue
		}
		for _, info := range list {
			name := fmt.Sprint(id, " ", info.Name)
			seen[name] = info.SpecialUse
			if info.Subscribed {
				seen[name+" subscribed"] = ""
			}
			m, err := a.Open(ctx, info.Name)
			if err != nil {
				delete(seen, name)
				continue
			}
			msgs, state := m.Snapshot()
			seen[name+" state"] = fmt.Sprintf("%+v", state)
			for _, msg := range msgs {
				uid := fmt.Sprint(name, " ", msg.UID)
				seen[uid] = fmt.Sprintln(msg.ModSeq, msg.Flags.List(), msg.InternalDate.Unix(), msg.Size, msg.EmailID, msg.ThreadID)
				if sum, err := m.Summary(ctx, msg.UID); err == nil {
					index, _ := sum.Index.AppendBinary(nil)
					seen[uid+" summary"] = string(sum.Header) + string(index)
				}
				if c, err := m.Body(ctx, msg.UID); err == nil {
					b := make([]byte, c.Size())
					if _, err := c.ReadAt(b, 0); err == nil {
						seen[uid+" body"] = string(b)
					}
					_ = c.Close()
				}
			}
			m.Close()
		}
		_ = a.Close()
	}
	return seen
}

// rotStore makes a small store that has some of everything.
func rotStore(t testing.TB, o Options) []mail.AccountID {
	t.Helper()
	ctx := context.Background()
	s := mustOpen(t, o)
	for i := range 6 {
		d := Delivery{Bodies: []Body{body(testMessage(fmt.Sprint("rot", i), strings.Repeat("text ", i*50)), NewEntry{Account: alice}, NewEntry{Account: bob, Flags: []string{"$Work"}})}}
		if _, err := s.Deliver(ctx, d); err != nil {
			t.Fatal(err)
		}
	}
	b := body(testMessage("leaving", "x"))
	b.Queue = []QueueItem{{Data: []byte("item"), Due: time.Unix(1, 0)}}
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}}); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.StoreFlags(ctx, imap.UIDSet{{Start: 2, Stop: 4}}, AddFlags, []string{FlagFlagged, FlagDeleted}, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Copy(ctx, imap.UIDSetNum(1), "Archive"); err != nil {
		t.Fatal(err)
	}
	set := imap.UIDSetNum(3)
	if _, err := m.Expunge(ctx, &set); err != nil {
		t.Fatal(err)
	}
	m.Close()
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	checkClean(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return []mail.AccountID{alice, bob}
}

// TestRot flips a bit in every region of every file, one at a time. It must be reported when the store is opened, or by a
// deep check, or nothing of what can be seen differs; and nothing that is served is ever wrong.
func TestRot(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	ids := rotStore(t, o)
	s := mustOpen(t, o)
	want := glance(ctx, s, ids)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	original, sizes := make(map[string][]byte), make(map[string]int64) // without the zeros at the end
	for _, name := range []string{formatFile, vaultFile, indexFile, filepath.Join(segmentsDir, "00000001.seg")} {
		b, err := os.ReadFile(filepath.Join(o.Dir, name))
		if err != nil {
			t.Fatal(err)
		}
		original[name] = bytes.TrimRight(b, "\x00")
		sizes[name] = int64(len(b))
	}
	stride := 101
	if testing.Short() {
		stride = 1009
	}
	for _, name := range slices.Sorted(maps.Keys(original)) {
		b, count := original[name], map[string]int{}
		for at := 0; at < len(b); at += stride {
			for other, b := range original {
				path := filepath.Join(o.Dir, other) // a new file: bbolt may hold a lock on the one that it could not open
				if err := errors.Join(os.Remove(path), os.WriteFile(path, b, 0o600), os.Truncate(path, sizes[other])); err != nil {
					t.Fatal(err)
				}
			}
			if len(bytes.Trim(b[at:min(at+stride, len(b))], "\x00")) == 0 {
				continue
			}
			bad := bytes.Clone(b)
			bad[at] ^= 1 << (at % 8)
			path := filepath.Join(o.Dir, name)
			if err := errors.Join(os.WriteFile(path, bad, 0o600), os.Truncate(path, sizes[name])); err != nil {
				t.Fatal(err)
			}
			what := rot(ctx, o, ids, want, strings.HasPrefix(name, segmentsDir))
			count[what]++
			if strings.HasPrefix(what, "WRONG") {
				t.Errorf("%s at %d: %s", name, at, what)
			}
		}
		t.Logf("%s: %v", name, count)
	}
}

// rot opens and looks, and says how the damage was noticed. With single it may concern one message only, which at most
// three mailboxes have.
func rot(ctx context.Context, o Options, ids []mail.AccountID, want map[string]string, single bool) string {
	s, err := Open(ctx, o)
	if err != nil {
		return "open " + mail.KindOf(err).String()
	}
	defer func() { _ = s.Close() }()
	got := glance(ctx, s, ids)
	var lost []string
	var wrong []string
	for k, v := range got {
		if want[k] != v {
			wrong = append(wrong, fmt.Sprintf("%s: %q, was %q", k, v, want[k]))
		}
	}
	for k := range want {
		if _, ok := got[k]; !ok {
			lost = append(lost, k)
		}
	}
	slices.Sort(wrong)
	r, err := s.Check(ctx, true)
	if len(wrong) > 0 {
		return fmt.Sprint("WRONG served ", wrong[0][:min(300, len(wrong[0]))], r, err)
	}
	switch {
	case single && len(lost) > 3*2:
		return fmt.Sprint("WRONG not served ", lost)
	case err != nil:
		return "check " + mail.KindOf(err).String()
	case len(r.Problems) > 0:
		return "checked"
	case len(lost) > 0:
		return fmt.Sprint("WRONG missing without report ", lost)
	}
	return "unused"
}

// TestIndexMadeAgain takes the index away, and puts one there as it was before values had checksums: it is made again from
// the log, and all is as it was.
func TestIndexMadeAgain(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	ids := rotStore(t, o)
	s := mustOpen(t, o)
	want := glance(ctx, s, ids)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, indexFile)
	for name, put := range map[string]func() error{
		"none": func() error { return nil },
		"old": func() error {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				return err
			}
			return errors.Join(db.Update(func(tx *bbolt.Tx) error {
				_, err := tx.CreateBucket([]byte("kv"))
				return err
			}), db.Close())
		},
	} {
		if err := errors.Join(os.Remove(path), put()); err != nil {
			t.Fatal(err)
		}
		s := mustOpen(t, o)
		if got := glance(ctx, s, ids); !maps.Equal(got, want) {
			t.Errorf("%s: %v, want %v", name, got, want)
		}
		checkClean(t, s)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
