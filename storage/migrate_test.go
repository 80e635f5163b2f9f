package storage

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// fixture is a copy of the store in testdata that a program of that format made, and options to open it with.
func fixture(t *testing.T, name string) Options {
	t.Helper()
	from, to := filepath.Join("testdata", name), t.TempDir()
	copyTree(t, from, to)
	ks, err := keys.OpenFile(filepath.Join(to, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return Options{Dir: filepath.Join(to, "store"), Keys: ks}
}

func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), b, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// verifyFixture looks at what the program of format 1 put into the store.
func verifyFixture(t *testing.T, s *Store) {
	t.Helper()
	ctx := context.Background()
	if r := checkClean(t, s); r.Accounts != 3 || r.Entries != 10 || r.Bodies != 6 || r.Queue != 1 {
		t.Errorf("%+v", r)
	}
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if u, err := a.Usage(ctx); err != nil || u.Messages != 5 {
		t.Errorf("%+v, %v", u, err)
	}
	m, err := a.Open(ctx, Inbox)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	msgs, st := m.Snapshot()
	if len(msgs) != 4 || st.UIDNext != 6 || st.UIDValidity != 1763800000 || st.HighestModSeq < 8 {
		t.Errorf("%d messages, %+v", len(msgs), st)
	}
	if f := strings.Join(msgs[2].Flags.List(), " "); f != `\Seen word` {
		t.Errorf("flags %s", f)
	}
	for i, name := range []string{"uid1.eml", "uid2.eml"} {
		want, err := os.ReadFile(filepath.Join("testdata", "format1", name))
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, m, uint32(i+1)); !bytes.HasSuffix(got, want) || !bytes.HasPrefix(got, []byte("Delivered-To: ")) {
			t.Errorf("UID %d is\n%s", i+1, got)
		}
	}
	sum, err := m.Summary(ctx, 2)
	if err != nil || len(sum.Index.Root.Children) != 3 || !bytes.Contains(sum.Header, []byte("Subject: Grüße")) {
		t.Errorf("%+v, %v", sum, err)
	}
	if _, err := a.Open(ctx, "Box/文件"); err != nil {
		t.Error(err)
	}
}

func TestMigration(t *testing.T) {
	o := fixture(t, "format1")
	var log bytes.Buffer
	o.Log = slog.New(slog.NewTextHandler(&log, nil))
	s := mustOpen(t, o)
	verifyFixture(t, s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(log.String(), "to a newer format"); n != 2 {
		t.Errorf("log:\n%s", &log)
	}
	b, err := os.ReadFile(filepath.Join(o.Dir, formatFile))
	if err != nil || !strings.HasPrefix(string(b), "cmmpd mailbox store 3\n") {
		t.Errorf("%q, %v", b, err)
	}
	log.Reset()
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if verifyFixture(t, s); strings.Contains(log.String(), "newer format") {
		t.Errorf("again:\n%s", &log)
	}
}

// TestMigrationFrom2 drops what format 2 kept of where deleted messages had been, and keeps flags for fewer UIDs together.
func TestMigrationFrom2(t *testing.T) {
	ctx := context.Background()
	o := Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), migrationBatch: 2, Recover: time.Hour}
	s := mustOpen(t, o)
	left := half(t, s, 10)
	a, err := s.OpenAccount(ctx, alice)
	if err != nil {
		t.Fatal(err)
	}
	fill(t, a, "Sent", 0, 1100)
	flags := func(a *Account) (list []string) {
		m := openBox(t, a, "Sent")
		defer m.Close()
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			list = append(list, fmt.Sprint(msg.UID, msg.ModSeq, msg.Flags.List()))
		}
		return list
	}
	m := openBox(t, a, "Sent")
	for i := range 40 {
		set := imap.UIDSet{{Start: imap.UID(1 + 27*i), Stop: imap.UID(1 + 27*i + i)}}
		if _, _, err := m.StoreFlags(ctx, set, AddFlags, []string{FlagSeen, fmt.Sprint("word", i%3)}, 0); err != nil {
			t.Fatal(err)
		}
	}
	m.Close()
	want := flags(a)
	_ = a.Close()
	if err := s.commit(ctx, &commit{}, func(b *build) error {
		for i := range uint32(7) {
			b.put(keyOf(oldOrigin, 1, i+1), sealedText{1, []byte("name")}.append(nil))
		}
		b.put(key0(keyFormat), progress{format: 2}.encode())
		return oldRecords(b)
	}); err != nil {
		t.Fatal(err)
	}
	id := s.id
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(o.Dir, formatFile), encodeFormat(2, id), 0o600); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	verifyHalf(t, s, left)
	if err := s.strange(); err != nil { // nor are there keys that nobody knows
		t.Error(err)
	}
	if a, err = s.OpenAccount(ctx, alice); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	if got := flags(a); !slices.Equal(got, want) {
		t.Errorf("flags are\n%s\nand were\n%s", got, want)
	}
}

// oldRecords has changed flags in records as format 2 had them.
func oldRecords(b *build) error {
	writers := make(map[string]*runWriter)
	err := b.store.scan(key0(keyFlags), func(k, v []byte) error {
		runs, err := decodeFlagRuns(last32(k), v)
		key := mailboxOfKey(k)
		for _, r := range runs {
			for n := range r.count {
				chunk := (r.uid + n) >> oldChunkBits
				old := string(keyOf(oldFlags, key.account, key.mailbox, chunk))
				if writers[old] == nil {
					writers[old] = &runWriter{at: chunk << oldChunkBits}
				}
				writers[old].add(flagEvent{r.uid + n, r.modSeq, r.flags})
			}
		}
		b.delete(slices.Clone(k))
		return err
	})
	for old, w := range writers {
		b.put([]byte(old), w.end())
	}
	return err
}

// TestMigrationFaults makes everything fail that an opening writes, one by one, and opens the store again, from what is left then and from
// what a power cut leaves of that.
func TestMigrationFaults(t *testing.T) {
	resumed := 0
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for n, done := 1, false; !done; n++ {
			o := fixture(t, "format1")
			o.migrationBatch = 1 // several commits
			fsys := faultfs.New()
			if err := fsys.Adopt(o.Dir); err != nil {
				t.Fatal(err)
			}
			o.FS = fsys
			fsys.FailAt(n, mode)
			s, err := Open(context.Background(), o)
			if err == nil {
				done = fsys.Count() < n
				_ = s.Close() // fails if the fault came after the opening
			}
			cut := t.TempDir()
			if _, err := os.Stat(filepath.Join(o.Dir, indexFile)); err == nil { // it may be about to be made anew
				copyFile(t, filepath.Join(o.Dir, indexFile), filepath.Join(cut, indexFile))
			}
			if err := fsys.PowerCut(rand.New(rand.NewPCG(uint64(n), uint64(mode))), o.Dir, cut); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprint(n, mode), func(t *testing.T) {
				fsys.FailAt(0, mode)
				for _, dir := range []string{o.Dir, cut} {
					var log bytes.Buffer
					again := Options{Dir: dir, Keys: o.Keys, Log: slog.New(slog.NewTextHandler(&log, nil)), migrationBatch: 1}
					s := mustOpen(t, again)
					verifyFixture(t, s)
					if strings.Contains(log.String(), "being brought") && !strings.Contains(log.String(), "is brought") {
						resumed++
					}
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				}
			})
			if n > 100 || t.Failed() {
				t.Fatal("the migration has no end")
			}
		}
	}
	if resumed == 0 {
		t.Error("no migration was gone on with")
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzProgress(f *testing.F) {
	f.Add([]byte{1, 'x'})
	f.Add([]byte{2})
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := decodeProgress(b)
		if err == nil && b != nil && string(p.encode()) != string(b) {
			t.Errorf("%x is read as %+v", b, p)
		}
		if err != nil && mail.KindOf(err) != mail.Corrupt {
			t.Error(err)
		}
	})
}
