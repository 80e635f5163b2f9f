package audit

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// closedLog makes a log of n records that nobody has open.
func closedLog(t testing.TB, n int) string {
	t.Helper()
	o := testOptions()
	o.disk = func(d disk) disk { return noSync{d} }
	l, dir := newLog(t, o)
	fill(t, l, n)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// treeOf reads all files of a log.
func treeOf(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	out := make(map[string][]byte)
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		out[name], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func writeTree(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o640); err != nil {
			t.Fatal(err)
		}
	}
}

// memSource is a log in memory, for tests that verify it many times.
type memSource struct{ files map[string][]byte }

func (m memSource) read(name string, limit int64) ([]byte, error) {
	b, ok := m.files[name]
	if !ok {
		return nil, faultAt(name, "is missing")
	}
	if int64(len(b)) > limit {
		return nil, faultAt(name, "is too long")
	}
	return b, nil
}

func (m memSource) exactly(size int64) error {
	d := dirSource{files: make(map[string]int64)}
	for name, b := range m.files {
		d.files[name] = int64(len(b))
	}
	return d.exactly(size)
}
func (m memSource) hasCosigned() bool                { return m.files[cosignedFile] != nil }
func (m memSource) release()                         {}
func (m memSource) close()                           {}
func (m memSource) totals() (files int, bytes int64) { return len(m.files), 0 }

// memoKey remembers what it has verified: most of the changes that a test makes leave the
// checkpoint alone.
type memoKey struct {
	note.Verifier
	seen map[string]bool
}

func (m memoKey) Verify(msg, sig []byte) bool {
	k := string(msg) + string(sig)
	good, ok := m.seen[k]
	if !ok {
		good = m.Verifier.Verify(msg, sig)
		m.seen[k] = good
	}
	return good
}

// memVerifier returns Verify over files in memory.
func memVerifier(t testing.TB) func(source) error {
	t.Helper()
	key, pub, err := parseKey(testPub(t))
	if err != nil {
		t.Fatal(err)
	}
	memo := memoKey{key, make(map[string]bool)}
	return func(src source) error {
		_, err := verifySource(context.Background(), src, memo, pub, Demand{Behind: -1})
		return err
	}
}

// Every bit of every file: of a small log on disk, through the front door.
func TestEveryBitOfADirectory(t *testing.T) {
	dir := closedLog(t, 2)
	mustVerify(t, dir, nil)
	pub := testPub(t)
	for name, data := range treeOf(t, dir) {
		path := filepath.Join(dir, name)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		for bit := range len(data) * 8 {
			at := int64(bit / 8)
			f.WriteAt([]byte{data[at] ^ 1<<(bit%8)}, at)
			_, err := Verify(context.Background(), dir, pub, nil)
			var fault *Fault
			if !errors.As(err, &fault) || fault.File != name {
				t.Errorf("bit %d of %s changed: %v", bit, name, err)
			}
			f.WriteAt([]byte{data[at]}, at)
		}
		f.Close()
	}
	mustVerify(t, dir, nil)
}

// The same with full tiles and two levels, in memory; every bit of the small files, a
// bit of each byte of the others.
func TestEveryByteOfALargerLog(t *testing.T) {
	files := treeOf(t, closedLog(t, 259))
	verify := memVerifier(t)
	if err := verify(memSource{files}); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		step := 1
		if len(data) > 300 {
			step = 97
		}
		if len(data) > 10000 {
			step = 499
		}
		for bit := 0; bit < len(data)*8; bit += step {
			data[bit/8] ^= 1 << (bit % 8)
			var fault *Fault
			if err := verify(memSource{files}); !errors.As(err, &fault) || fault.File != name {
				t.Errorf("bit %d of %s changed: %v", bit, name, err)
			}
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func bundleOf(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Bundle(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// bundleVerifier returns Verify over bundles in memory.
func bundleVerifier(t testing.TB) func(b []byte) error {
	t.Helper()
	verify := memVerifier(t)
	return func(b []byte) error {
		src, err := newBundle(bytes.NewReader(b), int64(len(b)), io.NopCloser(nil))
		if err != nil {
			return err
		}
		return verify(src)
	}
}

func TestEveryBitOfABundle(t *testing.T) {
	b := bundleOf(t, closedLog(t, 2))
	verify := bundleVerifier(t)
	if err := verify(b); err != nil {
		t.Fatal(err)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		var fault *Fault
		if err := verify(b); !errors.As(err, &fault) || fault.File == "" && !strings.Contains(fault.Reason, "byte ") {
			t.Errorf("bit %d changed: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(b) {
		if err := verify(b[:n]); err == nil {
			t.Errorf("the first %d bytes pass", n)
		}
	}
	for _, more := range []string{"\x00", "x", string(make([]byte, 512)), string(b)} {
		if err := verify(append(bytes.Clone(b), more...)); err == nil {
			t.Errorf("%d more bytes pass", len(more))
		}
	}
}

func TestBundleThroughTheFrontDoor(t *testing.T) {
	dir := closedLog(t, 300)
	file := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(file, bundleOf(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	a, b := mustVerify(t, dir, nil), mustVerify(t, file, nil)
	if a.Root != b.Root || a.Records != 300 || b.Records != 300 || a.Last != b.Last {
		t.Errorf("directory %+v, bundle %+v", a, b)
	}
}

// Files and folders added, removed, renamed, replaced.
func TestStrangeDirectories(t *testing.T) {
	good := treeOf(t, closedLog(t, 300))
	for name, c := range map[string]struct {
		do   func(dir string) error
		want string
	}{
		"file added":         {func(d string) error { return os.WriteFile(d+"/x", nil, 0o600) }, "x: "},
		"temporary added":    {func(d string) error { return os.WriteFile(d+"/checkpoint.new", nil, 0o600) }, "checkpoint.new"},
		"hidden file":        {func(d string) error { return os.WriteFile(d+"/tile/.x", nil, 0o600) }, "tile/.x"},
		"folder added":       {func(d string) error { return os.Mkdir(d+"/tile/7", 0o700) }, "tile/7"},
		"folder at the top":  {func(d string) error { return os.Mkdir(d+"/y", 0o700) }, "y: "},
		"superseded tile":    {func(d string) error { return os.WriteFile(d+"/tile/0/001.p/3", good["tile/0/001.p/44"][:96], 0o600) }, "tile/0/001.p/3"},
		"tile of later":      {func(d string) error { return os.WriteFile(d+"/tile/0/002", nil, 0o600) }, "tile/0/002"},
		"key removed":        {func(d string) error { return os.Remove(d + "/audit.pub") }, "audit.pub"},
		"checkpoint removed": {func(d string) error { return os.Remove(d + "/checkpoint") }, "checkpoint"},
		"tile removed":       {func(d string) error { return os.Remove(d + "/tile/0/000") }, "tile/0/000"},
		"bundle removed":     {func(d string) error { return os.Remove(d + "/tile/entries/000") }, "tile/entries/000"},
		"edge removed":       {func(d string) error { return os.Remove(d + "/tile/1/000.p/1") }, "tile/1/000.p/1"},
		"tiles removed":      {func(d string) error { return os.RemoveAll(d + "/tile") }, "tile/entries/000"},
		"case changed":       {func(d string) error { return os.Rename(d+"/audit.pub", d+"/Audit.pub") }, "audit.pub"},
		"tile emptied":       {func(d string) error { return os.Truncate(d+"/tile/0/000", 0) }, "tile/0/000"},
		"tile shortened":     {func(d string) error { return os.Truncate(d+"/tile/0/000", 8160) }, "tile/0/000"},
		"bundle shortened":   {func(d string) error { return os.Truncate(d+"/tile/entries/000", 1000) }, "tile/entries/000"},
		"bundle lengthened":  {func(d string) error { return os.Truncate(d+"/tile/entries/001.p/44", 100000) }, "tile/entries/001.p/44"},
		"link for a file": {func(d string) error {
			return errors.Join(os.Rename(d+"/tile/0/000", d+"/../000"), os.Symlink("../../../000", d+"/tile/0/000"))
		}, "tile/0/000"},
		"link for a folder": {func(d string) error {
			return errors.Join(os.Rename(d+"/tile", d+"/../tile"), os.Symlink("../tile", d+"/tile"))
		}, "tile"},
		"pipe for a file": {func(d string) error {
			return errors.Join(os.Remove(d+"/checkpoint"), syscall.Mkfifo(d+"/checkpoint", 0o600))
		}, "checkpoint"},
		"folder for a file":   {func(d string) error { return errors.Join(os.Remove(d+"/checkpoint"), os.Mkdir(d+"/checkpoint", 0o700)) }, "checkpoint"},
		"file for a folder":   {func(d string) error { return errors.Join(os.RemoveAll(d+"/tile"), os.WriteFile(d+"/tile", nil, 0o600)) }, "tile"},
		"everything removed":  {func(d string) error { return errors.Join(os.RemoveAll(d), os.Mkdir(d, 0o700)) }, "audit.pub"},
		"not a log":           {func(d string) error { return errors.Join(os.RemoveAll(d), os.WriteFile(d, []byte("hello"), 0o600)) }, "audit.pub"},
		"an empty file":       {func(d string) error { return errors.Join(os.RemoveAll(d), os.WriteFile(d, nil, 0o600)) }, "audit.pub"},
		"a pipe for all":      {func(d string) error { return errors.Join(os.RemoveAll(d), syscall.Mkfifo(d, 0o600)) }, "neither"},
		"records swapped":     {func(d string) error { return swapRecords(d + "/tile/entries/000") }, "tile/entries/000, record 0"},
		"a key of the origin": {func(d string) error { return os.WriteFile(d+"/audit.pub", []byte(otherKey(t)), 0o600) }, "audit.pub"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "audit")
			writeTree(t, dir, good)
			mustVerify(t, dir, nil)
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			mustFail(t, dir, nil, c.want)
		})
	}
}

func swapRecords(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	first, rest, _ := cutEntry(b)
	second, rest, _ := cutEntry(rest)
	n, m := len(first)+2, len(second)+2
	return os.WriteFile(path, bytes.Join([][]byte{b[n : n+m], b[:n], rest}, nil), 0o600)
}

func otherKey(t testing.TB) string {
	t.Helper()
	k, err := newNoteKey("other.example/log", testKey())
	if err != nil {
		t.Fatal(err)
	}
	return string(k.pub)
}

func TestSince(t *testing.T) {
	l, dir := newLog(t, testOptions())
	kept := [][]byte{l.Checkpoint()}
	var copies []map[string][]byte
	for _, n := range []int{1, 1, 200, 54, 1, 300} {
		fill(t, l, n)
		kept = append(kept, l.Checkpoint())
		copies = append(copies, treeOf(t, dir))
	}
	for i, since := range kept {
		if r := mustVerify(t, dir, since); r.Since < 0 {
			t.Errorf("checkpoint %d: %+v", i, r)
		}
	}
	// The tail cut, or an old copy put back.
	old := filepath.Join(t.TempDir(), "audit")
	writeTree(t, old, copies[2])
	mustVerify(t, old, kept[3])
	mustFail(t, old, kept[4], "has 202 records", "covers 256")
	// Another log with the same key: a fork.
	fork := closedLog(t, 600)
	mustVerify(t, fork, kept[0])
	mustFail(t, fork, kept[6], "not those of the checkpoint given")
	same := closedLog(t, 557)
	mustFail(t, same, append(bytes.Clone(kept[6]), 'x'), "checkpoint given")
	mustFail(t, same, []byte{}, "checkpoint given")
}

func TestVerifyKeysAndPaths(t *testing.T) {
	dir := closedLog(t, 2)
	ctx := context.Background()
	if _, err := Verify(ctx, dir+"x", testPub(t), nil); !errors.Is(err, ErrCannotOpen) {
		t.Errorf("no such path: %v", err)
	}
	if _, err := Verify(ctx, dir, bytes.TrimSpace(testPub(t)), nil); err != nil {
		t.Errorf("a key without its line end: %v", err)
	}
	for _, key := range []string{"", "x", string(testPub(t)) + "\n", " " + string(testPub(t)), otherKey(t), strings.ToUpper(string(testPub(t)))} {
		var f *Fault
		if _, err := Verify(ctx, dir, []byte(key), nil); !errors.As(err, &f) || errors.Is(err, ErrCannotOpen) {
			t.Errorf("key %q: %v", key, err)
		}
	}
	cancelled, stop := context.WithCancel(ctx)
	stop()
	if _, err := Verify(cancelled, closedLog(t, 300), testPub(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// resign makes a log of arbitrary records with a good signature, to see what Verify says
// of a log whose own writer was wrong.
func resign(t testing.TB, raw ...string) map[string][]byte {
	t.Helper()
	k, err := newNoteKey(testOrigin, testKey())
	if err != nil {
		t.Fatal(err)
	}
	var records [][]byte
	for _, r := range raw {
		records = append(records, []byte(r))
	}
	end, files := (&tail{}).grow(records)
	root, err := end.root()
	if err != nil {
		t.Fatal(err)
	}
	signed, err := k.sign(tlog.Tree{N: end.size, Hash: root})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{keyFile: k.pub, checkpointFile: signed}
	for _, f := range files {
		out[f.name] = f.data
	}
	return out
}

func TestSignedButWrongRecords(t *testing.T) {
	const first = `{"seq":0,"time":"2026-11-22T10:00:00.000000000Z","type":"server.start","v":1}`
	verify := memVerifier(t)
	if err := verify(memSource{resign(t, first)}); err != nil {
		t.Fatal(err)
	}
	for _, second := range []string{
		first, "", "{}", strings.Replace(first, `:0,`, `:2,`, 1), strings.Replace(first, `:0,`, `: 1,`, 1),
		strings.Replace(first, `"v":1`, `"v":2`, 1), strings.Replace(strings.Replace(first, `:0,`, `:1,`, 1), "Z", "", 1),
	} {
		var f *Fault
		if err := verify(memSource{resign(t, first, second)}); !errors.As(err, &f) || f.Record != 1 || f.File != "tile/entries/000.p/2" {
			t.Errorf("%q: %v", second, err)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	dir := closedLog(b, 20000)
	pub := testPub(b)
	for b.Loop() {
		if _, err := Verify(context.Background(), dir, pub, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(20000*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}

// TestOtherTypes: a log of another version, with types that this one does not write, verifies and can be exported.
func TestOtherTypes(t *testing.T) {
	const typ = "records.search"
	if ClassOf(typ) != Unknown {
		t.Fatal("the type is known")
	}
	o := testOptions()
	l, dir := newLog(t, o)
	if err := l.Record(t.Context(), Event{Type: typ}); err == nil {
		t.Error("an unknown type was recorded as an act")
	}
	l.Note(Event{Type: typ, Actor: "alice", Outcome: "ok"})
	mustFlush(t, l)
	mustVerify(t, dir, nil)
	if out := exported(t, dir, Export{Format: JSONL, Filter: Filter{Types: []string{"records."}}}); !strings.Contains(out, typ) {
		t.Errorf("the export: %q", out)
	}
	f := Filter{Types: []string{typ}} // as an extract of that version has it
	if f.Check() == nil {
		t.Error("an unknown type may be asked for")
	}
	b, err := f.encode()
	if err == nil {
		_, err = decodeFilter(b)
	}
	if err != nil {
		t.Errorf("its filter: %v", err)
	}
}
