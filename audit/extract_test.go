package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/testkit"
)

// extractOf is an extract of the log in dir.
func extractOf(t testing.TB, dir string, f Filter) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := (Export{Filter: f}).Extract(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// extractVerifier returns Verify over extracts in memory.
func extractVerifier(t testing.TB) func(b []byte) (*Report, error) {
	t.Helper()
	key, pub, err := parseKey(testPub(t))
	if err != nil {
		t.Fatal(err)
	}
	memo := memoKey{key, make(map[string]bool)}
	return func(b []byte) (*Report, error) {
		x := &extractSource{r: bytes.NewReader(b), size: int64(len(b)), file: io.NopCloser(nil)}
		return verifyExtract(context.Background(), x, memo, pub, Demand{})
	}
}

// mixedLog has n records, of which every thirteenth is of bob.
func mixedLog(t testing.TB, n int) string {
	t.Helper()
	o := testOptions()
	o.disk = func(d disk) disk { return noSync{d} }
	l, dir := newLog(t, o)
	for i := range n {
		who := "alice"
		if i%13 == 5 {
			who = "bob"
		}
		l.Note(Event{Type: MailSealed, Actor: who, Subject: fmt.Sprint("message ", i)})
		if i%1000 == 999 {
			mustFlush(t, l)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestExtract(t *testing.T) {
	verify := extractVerifier(t)
	for _, n := range []int{0, 1, 2, 7, 255, 256, 257, 3000, 5000} {
		dir := mixedLog(t, n)
		for _, f := range []Filter{
			{},
			{Actors: []string{"bob"}},
			{Actors: []string{"carol"}},
			{Objects: []string{"message 3"}},
			{First: int64(n) / 2},
			{First: int64(n) / 3, End: int64(n)/3 + 1},
			{First: 3, End: 6},
			{Types: []string{"mail."}, Actors: []string{"bob"}, First: 256},
		} {
			if f.First >= int64(n) || f.End > int64(n) {
				continue
			}
			r, err := verify(extractOf(t, dir, f))
			if err != nil {
				t.Errorf("%d records, %+v: %v", n, f, err)
				continue
			}
			want := int64(0)
			for _, rec := range records(t, dir) {
				if f.matches(&rec) {
					want++
				}
			}
			if r.Records != int64(n) || r.Part.Records != want || r.Part.Whole != f.all() {
				t.Errorf("%d records, %+v: %+v, %+v, want %d", n, f, r, r.Part, want)
			}
		}
	}
	if err := (Export{Filter: Filter{First: 9}}).Extract(context.Background(), mixedLog(t, 3), io.Discard); err == nil {
		t.Error("records beyond the end of the log were extracted")
	}
}

func TestEveryBitOfAnExtract(t *testing.T) {
	b := extractOf(t, mixedLog(t, 40), Filter{Actors: []string{"bob"}})
	verify := extractVerifier(t)
	if r, err := verify(b); err != nil || r.Part.Records != 3 || r.Part.First != 5 || r.Part.Last != 31 {
		t.Fatalf("%+v, %v", r, err)
	}
	for bit := range len(b) * 8 {
		b[bit/8] ^= 1 << (bit % 8)
		var fault *Fault
		if _, err := verify(b); !errors.As(err, &fault) || fault.File == "" && !strings.Contains(fault.Reason, "byte ") {
			t.Errorf("bit %d changed: %v", bit, err)
		}
		b[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(b) {
		if _, err := verify(b[:n]); err == nil {
			t.Errorf("the first %d bytes pass", n)
		}
	}
	for _, more := range []string{"\x00", "x", string(make([]byte, 512)), string(b)} {
		if _, err := verify(append(bytes.Clone(b), more...)); err == nil {
			t.Errorf("%d more bytes pass", len(more))
		}
	}
}

// remade writes the files of an extract anew, after change.
func remade(t *testing.T, b []byte, change func(name string, data []byte) []byte) []byte {
	t.Helper()
	src := &extractSource{r: bytes.NewReader(b), size: int64(len(b))}
	var out bytes.Buffer
	x := &extractor{w: &out}
	for {
		name, _ := src.peek()
		if name == "" {
			break
		}
		name = strings.TrimPrefix(name, extractDir)
		data, err := src.take(name, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		if data = change(name, bytes.Clone(data)); data != nil {
			x.file(name, data)
		}
	}
	out.Write(make([]byte, 2*bundleBlock))
	return out.Bytes()
}

// What somebody who can write tar archives may try.
func TestForgedExtracts(t *testing.T) {
	verify := extractVerifier(t)
	dir := mixedLog(t, 3000)
	byName, byNumber, long := extractOf(t, dir, Filter{Actors: []string{"bob"}}), extractOf(t, dir, Filter{First: 10, End: 20}), extractOf(t, dir, Filter{First: 100, End: 2900})
	if same := remade(t, byName, func(_ string, d []byte) []byte { return d }); !bytes.Equal(same, byName) {
		t.Fatal("an extract is not as it is written")
	}
	proof := func(start int64, level int) []byte {
		key, _, _ := parseKey(testPub(t))
		src, err := openDir(context.Background(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer src.close()
		v := &verifier{src: src, key: key}
		if err := errors.Join(v.checkpoint(), v.loadTail()); err != nil {
			t.Fatal(err)
		}
		h := hashReader{v, map[int]lastTile{}}
		hash, err := h.hash(block{start, level})
		if err != nil {
			t.Fatal(err)
		}
		return proofLine(block{start, level}, hash)
	}
	// without is an extract for filter f from which somebody left out a record.
	without := func(f Filter, leftOut int64) []byte {
		var names []string
		for _, r := range records(t, dir)[:200] {
			if f.matches(&r) && r.Seq != leftOut {
				names = append(names, r.Subject)
			}
		}
		said, err := f.encode()
		if err != nil {
			t.Fatal(err)
		}
		return remade(t, extractOf(t, dir, Filter{Objects: names}), func(name string, d []byte) []byte {
			if name == filterFile {
				return said
			}
			return d
		})
	}
	if r, err := verify(without(Filter{Actors: []string{"bob"}}, 31)); err != nil || r.Part.Records != 14 || r.Part.Whole {
		t.Errorf("that none is left out must not be said of a filter by name: %+v, %v", r, err)
	}
	for what, c := range map[string]struct {
		b    []byte
		want string
	}{
		"one left out of a range": {without(Filter{First: 10, End: 20}, 13), "asks for all 10"},
		"another filter": {remade(t, byName, func(name string, d []byte) []byte {
			return bytes.ReplaceAll(d, []byte(`"actors":["bob"]`), []byte(`"actors":["eve"]`))
		}), "is not one that was asked for"},
		"a filter said to be a range": {remade(t, byName, func(name string, d []byte) []byte {
			return bytes.ReplaceAll(d, []byte(`{"actors":["bob"]}`), []byte(`{}`))
		}), "asks for all 3000"},
		"an end said to be earlier": {remade(t, byNumber, func(name string, d []byte) []byte {
			return bytes.ReplaceAll(d, []byte(`"end":20`), []byte(`"end":19`))
		}), "is not one that was asked for"},
		"a hash in two halves": {remade(t, byNumber, func(name string, d []byte) []byte {
			return bytes.Replace(d, proof(0, 3), append(proof(0, 2), proof(4, 2)...), 1)
		}), "canonical"},
		"no records": {remade(t, byNumber, func(name string, d []byte) []byte {
			if strings.HasPrefix(name, "records/") {
				return nil
			}
			return d
		}), "records/000000000"},
		"a chunk twice": {remade(t, byNumber, func(name string, d []byte) []byte {
			if strings.HasPrefix(name, "records/") {
				return append(d, d...)
			}
			return d
		}), "records/000000000"},
		"the second chunk left out": {remade(t, long, func(name string, d []byte) []byte {
			if strings.HasSuffix(name, "1") || strings.HasSuffix(name, "1.jsonl") {
				return nil
			}
			return d
		}), "two blocks of zeros"},
	} {
		if _, err := verify(c.b); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", what, err, c.want)
		}
	}
	if _, err := verify(remade(t, long, func(name string, d []byte) []byte { return d })); err != nil {
		t.Error(err)
	}
	file := filepath.Join(t.TempDir(), "extract.tar")
	if err := os.WriteFile(file, byName, 0o600); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, file, nil); r.Part == nil || r.Part.Records != 231 {
		t.Errorf("%+v", r)
	}
	since, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	mustFail(t, file, since, "continues an earlier")
}

// Unpacked with tar, the records of an extract are lines of JSON.
func TestExtractIsTar(t *testing.T) {
	tar := testkit.Need(t, "tar")
	file := filepath.Join(t.TempDir(), "extract.tar")
	if err := os.WriteFile(file, extractOf(t, mixedLog(t, 30), Filter{Actors: []string{"bob"}}), 0o600); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if out, err := exec.Command(tar, "-xf", file, "-C", to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(to, "audit-extract/records/000000000.jsonl"))
	if err != nil || bytes.Count(b, []byte("\n")) != 2 || bytes.Count(b, []byte(`"actor":"bob"`)) != 2 {
		t.Errorf("%s, %v", b, err)
	}
}

// Any set of records and the blocks between them give the root, and no block can be in another's place.
func TestFold(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		n := rng.Int64N(700)
		hashes := make([]tlog.Hash, n)
		stored := []tlog.Hash{}
		reader := tlog.HashReaderFunc(func(x []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, i := range x {
				out = append(out, stored[i])
			}
			return out, nil
		})
		for i := range hashes {
			hashes[i] = tlog.RecordHash(fmt.Append(nil, i))
			more, err := tlog.StoredHashesForRecordHash(int64(i), hashes[i], reader)
			if err != nil {
				t.Fatal(err)
			}
			stored = append(stored, more...)
		}
		want, err := tlog.TreeHash(n, reader)
		if err != nil {
			t.Fatal(err)
		}
		var f fold
		gap := func(end int64) {
			for b := range blocksOf(f.pos, end) {
				if err := f.add(b.level, stored[tlog.StoredHashIndex(b.level, b.start>>b.level)], true); err != nil {
					t.Fatal(err)
				}
			}
		}
		for i := range n {
			if rng.IntN(20) == 0 {
				gap(i)
				if err := f.add(0, hashes[i], false); err != nil {
					t.Fatal(err)
				}
			}
		}
		gap(n)
		if f.pos != n || f.root() != want {
			t.Fatalf("%d records: %v, want %v", n, f.root(), want)
		}
	}
	f := fold{pos: 2}
	if f.add(2, tlog.Hash{}, true) == nil || f.add(-1, tlog.Hash{}, true) == nil || f.add(63, tlog.Hash{}, true) == nil {
		t.Error("a block that does not begin here was taken")
	}
}

func FuzzExtract(f *testing.F) {
	dir := mixedLog(f, 40)
	good := extractOf(f, dir, Filter{Actors: []string{"bob"}})
	f.Add(good)
	f.Add(extractOf(f, dir, Filter{First: 3, End: 9}))
	f.Add(good[:2048])
	verify := extractVerifier(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := verify(b)
		if err != nil {
			return
		}
		// Whatever is accepted is what this program writes of that log for that filter, or with fewer records.
		if r.Part.Whole && !bytes.Equal(b, extractOf(t, dir, r.Part.Filter)) {
			t.Fatalf("accepted %q", b)
		}
	})
}

func FuzzProofLine(f *testing.F) {
	f.Add("12 2 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")
	f.Fuzz(func(t *testing.T, line string) {
		if b, h, err := parseProofLine(line); err == nil && string(proofLine(b, h)) != line+"\n" {
			t.Fatalf("%q", line)
		}
	})
}
