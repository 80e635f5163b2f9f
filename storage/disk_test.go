package storage

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/blob"
)

// scan looks for a marker in every file below dir, in clear and in base64, whatever it begins at.
func scan(t *testing.T, dir, marker string) (found []string) {
	t.Helper()
	needles := [][]byte{[]byte(marker)}
	for shift := range 3 {
		b := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(".", shift) + marker))
		needles = append(needles, []byte(b[4:len(b)-4]))
	}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, n := range needles {
			if bytes.Contains(b, n) {
				found = append(found, path)
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestNothingInClear puts a marker everywhere a user can and looks for it on the disk, while the store is open and after.
func TestNothingInClear(t *testing.T) {
	ctx := context.Background()
	const marker = "Zq8MarkerThatIsNowhereElse"
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	s := mustOpen(t, o)
	data := testMessage(marker, strings.Repeat(marker+"\r\n", 10_000))
	_, err := s.Deliver(ctx, Delivery{
		Bodies:    []Body{{Data: data, Index: message.Parse(data, message.Limits{}), Label: "restricted", Entries: []NewEntry{{Account: alice, Prefix: []byte("X-A: " + marker + "\r\n"), Flags: []string{marker}}}, Queue: []QueueItem{{Data: []byte(marker)}}}},
		Submitted: []SubmittedLabel{{alice, marker + "@x", "secret"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(a.Create(ctx, marker+"/x", ""), a.Subscribe(ctx, "s/"+marker, true), a.Rename(ctx, marker, "r"+marker)); err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := m.StoreFlags(ctx, imap.UIDSetNum(1), AddFlags, []string{"x" + marker}, 0); err != nil {
		t.Fatal(err)
	}
	if r := checkClean(t, s); r.Queue != 1 {
		t.Errorf("%d queue items", r.Queue)
	}
	labels, err := s.LabelOf(ctx, alice, []string{marker + "@x", marker + "@x.example", "unknown"})
	if err != nil || strings.Join([]string{string(labels[0]), string(labels[1]), string(labels[2])}, " ") != "secret restricted " {
		t.Errorf("labels: %q, %v", labels, err)
	}
	if found := scan(t, o.Dir, marker); found != nil {
		t.Errorf("in clear while open: %v", found)
	}
	m.Close()
	if err := errors.Join(a.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}
	if found := scan(t, o.Dir, marker); found != nil {
		t.Errorf("in clear after closing: %v", found)
	}
	for _, planted := range []string{marker, base64.StdEncoding.EncodeToString([]byte("x " + marker + " y"))} {
		if err := os.WriteFile(filepath.Join(o.Dir, "planted"), []byte(planted), 0o600); err != nil {
			t.Fatal(err)
		}
		if scan(t, o.Dir, marker) == nil {
			t.Errorf("the scan does not find %q", planted)
		}
	}
}

func TestFormatVersions(t *testing.T) {
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, formatFile)
	format, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for content, want := range map[string]mail.Kind{
		string(encodeFormat(formatVersion+1, blob.StoreID{1})): mail.Unsupported,
		"something else\n": mail.Corrupt,
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), o); mail.KindOf(err) != want {
			t.Errorf("format %q: %v", content, err)
		}
	}
	if err := os.WriteFile(path, format, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{vaultFile, filepath.Join(segmentsDir, "00000001.seg")} {
		path := filepath.Join(o.Dir, name)
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		newer := bytes.Clone(b)
		newer[8]++ // the version
		if err := os.WriteFile(path, newer, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(context.Background(), o); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("a newer %s: %v", name, err)
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := mustOpen(t, o).Close(); err != nil {
		t.Fatal(err)
	}
	other := t.TempDir()
	if err := os.WriteFile(filepath.Join(other, "holiday.jpg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), Options{Dir: other, Keys: o.Keys}); mail.KindOf(err) != mail.Exists {
		t.Errorf("a directory with other things: %v", err)
	}
}

// TestDiskFull: what does not fit is refused and leaves nothing; reading goes on; when there is room, all is well.
func TestDiskFull(t *testing.T) {
	ctx := context.Background()
	fsys := faultfs.New()
	var fatal atomic.Bool
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), FS: fsys, Fatal: func(error) { fatal.Store(true) }}
	s := mustOpen(t, o)
	defer func() { _ = s.Close() }()
	send := func(subject string) ([]Placed, error) {
		return s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(subject, "x"), NewEntry{Account: alice})}})
	}
	if _, err := send("one"); err != nil {
		t.Fatal(err)
	}
	before := checkClean(t, s)
	fsys.FailAt(1, faultfs.Short)
	if _, err := send("two"); mail.KindOf(err) != mail.Full {
		t.Fatalf("a full disk: %v", err)
	}
	if s.Ready() != nil || fatal.Load() {
		t.Fatal("the store stopped")
	}
	after := checkClean(t, s)
	if after.Entries != before.Entries || after.Bodies != before.Bodies {
		t.Fatalf("a refused message left something: %+v, %+v", before, after)
	}
	if placed, err := send("three"); err != nil || placed[0].UID != 2 {
		t.Fatalf("after that: %+v, %v", placed, err)
	}
	if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage("no", "x"), NewEntry{Account: bob, Mailbox: "Nowhere"})}}); mail.KindOf(err) != mail.NotFound {
		t.Fatalf("to no mailbox: %v", err)
	}
	if r := checkClean(t, s); r.Accounts != 1 {
		t.Fatalf("a refused message made an account: %+v", r)
	}
}

// TestDamage: one damaged message is reported, and the others are served.
func TestDamage(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
	s := mustOpen(t, o)
	for _, subject := range []string{"one", "two", "three"} {
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{body(testMessage(subject, "x"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
	}
	v, err := s.kv.Get(keyOf64(keyBody, s.bodyNext.Load()-1))
	if err != nil {
		t.Fatal(err)
	}
	where, err := decodeBody(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(o.Dir, segmentsDir, "00000001.seg")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[where.offset+where.total()-20] ^= 1
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	r, err := s.Check(ctx, true)
	if err != nil || len(r.Problems) != 3 || !strings.Contains(strings.Join(r.Problems, " "), "UID 2 in") {
		t.Errorf("check: %+v, %v", r, err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for uid := uint32(1); uid <= 3; uid++ {
		c, err := m.Body(ctx, uid)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.ReadAt(make([]byte, c.Size()), 0)
		if (uid == 2) != (mail.KindOf(err) == mail.Corrupt) || uid != 2 && err != nil {
			t.Errorf("UID %d: %v", uid, err)
		}
		if _, err := m.Summary(ctx, uid); (uid == 2) != (mail.KindOf(err) == mail.Corrupt) || uid != 2 && err != nil {
			t.Errorf("summary of UID %d, whose header is in its body: %v", uid, err)
		}
		b, err := m.Batch(nil, []uint32{uid}, true)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.AppendEnvelope(ctx, nil, 0); err != nil {
			t.Errorf("envelope of UID %d: %v", uid, err)
		}
	}
}

// TestThreads: replies join the thread of what they answer, in whatever order they come, in each account by itself.
func TestThreads(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	var list []Append
	for _, header := range []string{
		"Message-ID: <2@x>\r\nIn-Reply-To: <1@x>\r\n", "Message-ID: <1@x>\r\n", "Message-ID: <9@x>\r\n",
		"Message-ID: <3@x>\r\nReferences: <1@x> <2@x>\r\n", "Subject: none\r\n",
	} {
		data := []byte(header + "\r\nx\r\n")
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{})})
	}
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if _, err := a.Append(ctx, Inbox, list); err != nil {
		t.Fatal(err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	msgs, _ := m.Snapshot()
	th := func(i int) string { return msgs[i].ThreadID.Thread() }
	if th(0) != th(1) || th(0) != th(3) || th(2) == th(0) || th(4) == th(0) || th(4) == th(2) || !strings.HasPrefix(th(0), "T") {
		t.Errorf("threads: %s %s %s %s %s", th(0), th(1), th(2), th(3), th(4))
	}
}

// TestFormatLost: what has keys or mail is never made anew, whatever file is missing.
func TestFormatLost(t *testing.T) {
	for _, lost := range [][]string{{formatFile, indexFile}, {formatFile, indexFile, segmentsDir}} {
		o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)}
		s := mustOpen(t, o)
		if _, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(testMessage("one", "x"), NewEntry{Account: alice})}}); err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(filepath.Join(o.Dir, vaultFile))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range lost {
			if err := os.RemoveAll(filepath.Join(o.Dir, name)); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(context.Background(), o); mail.KindOf(err) != mail.Corrupt {
			t.Errorf("without %v: %v", lost, err)
		}
		if got, err := os.ReadFile(filepath.Join(o.Dir, vaultFile)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("without %v the key vault is not what it was: %v", lost, err)
		}
	}
}
