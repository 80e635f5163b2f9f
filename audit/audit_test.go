package audit

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

const testOrigin = "audit.gov.example/log"

func testKey() ed25519.PrivateKey {
	seed := sha256.Sum256([]byte("audit test key"))
	return ed25519.NewKeyFromSeed(seed[:])
}

// testOptions has a clock that goes on by a second at each look.
func testOptions() Options {
	var mu sync.Mutex
	now := time.Date(2026, 11, 22, 10, 0, 0, 123456789, time.UTC)
	return Options{Origin: testOrigin, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second)
		return now
	}}
}

func testPub(t testing.TB) []byte {
	t.Helper()
	k, err := newNoteKey(testOrigin, testKey())
	if err != nil {
		t.Fatal(err)
	}
	return k.pub
}

// newLog makes a log in a new folder.
func newLog(t testing.TB, o Options) (*Log, string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	if o.disk != nil { // faults, or no flushing: the real disk matters little
		dir = filepath.Join(memDir(t), "audit")
	}
	if err := Create(dir, testKey(), o); err != nil {
		t.Fatal(err)
	}
	return openLog(t, dir, o), dir
}

func openLog(t testing.TB, dir string, o Options) *Log {
	t.Helper()
	l, err := Open(dir, testKey(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustRecord(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		if err := l.Record(context.Background(), Event{Type: StoreCheck, Actor: "admin", Subject: fmt.Sprint("check ", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

// fill adds n records in as few commits as possible.
func fill(t testing.TB, l *Log, n int) {
	t.Helper()
	for i := range n {
		l.Note(Event{Type: MailSealed, Actor: "alice", Subject: fmt.Sprint("message ", i)})
		if i%1000 == 999 {
			mustFlush(t, l)
		}
	}
	mustFlush(t, l)
}

func mustFlush(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func mustVerify(t testing.TB, path string, since []byte) *Report {
	t.Helper()
	r, err := Verify(context.Background(), path, testPub(t), since)
	if err != nil {
		t.Fatalf("verifying %s: %v", path, err)
	}
	return r
}

// mustFail demands that Verify finds a fault whose text has all of words.
func mustFail(t testing.TB, path string, since []byte, words ...string) {
	t.Helper()
	_, err := Verify(context.Background(), path, testPub(t), since)
	var f *Fault
	if !errors.As(err, &f) {
		t.Errorf("want a fault with %q, got %v", words, err)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("want a fault with %q, got %v", w, err)
		}
	}
}

// records reads a log back through Export.
func records(t testing.TB, dir string) []Record {
	t.Helper()
	var b bytes.Buffer
	if err := (Export{Format: JSONL}).Write(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	var out []Record
	for line := range bytes.Lines(b.Bytes()) {
		r, _, err := decodeRecord(bytes.TrimSuffix(line, []byte("\n")), nil)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestActIsOnRecordBeforeAndAfter(t *testing.T) {
	ctx := context.Background()
	l, dir := newLog(t, testOptions())
	a, err := l.Begin(ctx, Event{
		Type: DirectoryImport, Actor: "admin", Subject: "uid=henry", Client: "socket",
		Approval: "A-1", Detail: map[string]string{"bytes": "1234"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, nil); r.Records != 1 || r.First.IsZero() {
		t.Errorf("after Begin: %+v", r)
	}
	before := l.Checkpoint()
	a.Detail("modified", "1")
	if err := a.End(ctx, mail.E(mail.Refused, "no such entry", errors.New("secret cause"))); err != nil {
		t.Fatal(err)
	}
	if err := a.End(ctx, nil); err == nil {
		t.Error("an act ended twice")
	}
	r := mustVerify(t, dir, before)
	if r.Records != 2 || r.Since != 1 || !r.Last.After(r.First) || r.Origin != testOrigin || r.Files != 4 {
		t.Errorf("after End: %+v", r)
	}
	got := records(t, dir)
	if len(got) != 2 || got[0].Phase != "begin" || got[1].Phase != "end" || got[1].Act != got[0].Seq ||
		got[0].Detail["bytes"] != "1234" || got[1].Detail["modified"] != "1" || got[1].Outcome != "refused: no such entry" ||
		got[0].Approval != "A-1" || got[1].Actor != "admin" {
		t.Errorf("records: %+v", got)
	}
	if _, err := l.Begin(ctx, Event{Type: "no.such"}); mail.KindOf(err) != mail.Invalid {
		t.Errorf("unknown type: %v", err)
	}
}

func TestReopenGoesOn(t *testing.T) {
	o := testOptions()
	l, dir := newLog(t, o)
	for _, n := range []int{1, 3, 252, 1, 254, 2, 600, 1} {
		fill(t, l, n)
		kept := l.Checkpoint()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if err := l.Record(context.Background(), Event{Type: StoreCheck}); mail.KindOf(err) != mail.Unavailable {
			t.Errorf("a closed log took a record: %v", err)
		}
		mustVerify(t, dir, kept)
		l = openLog(t, dir, o)
		mustRecord(t, l, 1)
		mustVerify(t, dir, kept)
	}
	for i, r := range records(t, dir) {
		if r.Seq != int64(i) {
			t.Fatalf("record %d carries %d", i, r.Seq)
		}
	}
}

func TestOneWriter(t *testing.T) {
	l, dir := newLog(t, testOptions())
	if _, err := Open(dir, testKey(), testOptions()); mail.KindOf(err) != mail.Busy {
		t.Errorf("a second writer: %v", err)
	}
	if err := Create(dir, testKey(), testOptions()); mail.KindOf(err) != mail.Exists {
		t.Errorf("creating over a log: %v", err)
	}
	if _, err := Open(dir+"x", testKey(), testOptions()); mail.KindOf(err) != mail.NotFound {
		t.Errorf("no log: %v", err)
	}
	// A checkpoint of somebody else's hand stops the writer.
	if err := os.WriteFile(filepath.Join(dir, "checkpoint"), l.Checkpoint()[1:], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(context.Background(), Event{Type: StoreCheck}); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("a record over a foreign checkpoint: %v", err)
	}
	if l.Ready() == nil {
		t.Error("ready after that")
	}
}

func TestVerifyWhileRunning(t *testing.T) {
	l, dir := newLog(t, testOptions())
	stop := make(chan struct{})
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := l.Record(context.Background(), Event{Type: StoreCheck, Actor: "admin"}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	var since []byte
	for range 30 {
		kept := l.Checkpoint()
		mustVerify(t, dir, since)
		since = kept
		var b bytes.Buffer
		if err := Bundle(context.Background(), dir, &b); err != nil {
			t.Error(err)
		}
		file := filepath.Join(t.TempDir(), "bundle")
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		mustVerify(t, file, since)
	}
	close(stop)
	wait.Wait()
}

func BenchmarkRecord(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			l, _ := newLog(b, Options{Origin: testOrigin})
			e := Event{Type: DirectoryImport, Actor: "admin", Subject: "uid=henry,ou=people,dc=gov,dc=example", Client: "socket"}
			b.SetParallelism((callers + 1) / 2)
			b.RunParallel(func(p *testing.PB) {
				for p.Next() {
					if err := l.Record(context.Background(), e); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}
