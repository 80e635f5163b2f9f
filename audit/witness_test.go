package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/durable"
)

func seededKey(seed string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(seed))
	return ed25519.NewKeyFromSeed(sum[:])
}

// testWitness is a witness of the test log.
type testWitness struct {
	*Witness
	o      WitnessOptions
	server *httptest.Server
}

func newWitness(t testing.TB, name string, change func(*WitnessOptions)) *testWitness {
	t.Helper()
	o := WitnessOptions{
		Dir: t.TempDir(), Name: name, Key: seededKey(name), Logs: []WitnessedLog{{Key: testPub(t)}},
		Now: func() time.Time { return time.Unix(1795000000, 0) },
	}
	if change != nil {
		change(&o)
	}
	w, err := OpenWitness(o)
	if err != nil {
		t.Fatal(err)
	}
	tw := &testWitness{Witness: w, o: o}
	tw.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { tw.ServeHTTP(rw, r) }))
	t.Cleanup(func() {
		tw.server.Close()
		tw.Close()
	})
	return tw
}

// again closes the witness and opens it anew.
func (w *testWitness) again(t testing.TB) {
	t.Helper()
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if w.Witness, err = OpenWitness(w.o); err != nil {
		t.Fatal(err)
	}
}

func (w *testWitness) peer() WitnessPeer {
	u, _ := url.Parse(w.server.URL)
	return WitnessPeer{URL: u, Key: w.Key(), Client: w.server.Client(), Copy: w.o.Copy}
}

// post asks without a network.
func (w *testWitness) post(path string, body []byte) (int, string, http.Header) {
	rec := httptest.NewRecorder()
	w.ServeHTTP(rec, httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body)))
	return rec.Code, rec.Body.String(), rec.Header()
}

// grownLog is a log in memory of which every size can be shown.
type grownLog struct {
	t      testing.TB
	key    *noteKey
	leaves [][]byte
}

func newGrownLog(t testing.TB, n int, flavour string) *grownLog {
	t.Helper()
	k, err := newNoteKey(testOrigin, testKey())
	if err != nil {
		t.Fatal(err)
	}
	g := &grownLog{t: t, key: k}
	for i := range n {
		g.leaves = append(g.leaves, fmt.Appendf(nil, "%s %d", flavour, i))
	}
	return g
}

func (g *grownLog) at(size int) *tail {
	end, _ := (&tail{}).grow(g.leaves[:size])
	return end
}

func (g *grownLog) signed(size int) []byte {
	g.t.Helper()
	root, err := g.at(size).root()
	if err != nil {
		g.t.Fatal(err)
	}
	b, err := g.key.sign(tlog.Tree{N: int64(size), Hash: root})
	if err != nil {
		g.t.Fatal(err)
	}
	return b
}

// request is a good add-checkpoint from old to size; the sizes are below 256.
func (g *grownLog) request(old, size int) []byte {
	g.t.Helper()
	proof, err := g.at(size).proof(context.Background(), int64(old), nil)
	if err != nil {
		g.t.Fatal(err)
	}
	return (&addRequest{int64(old), proof, g.signed(size)}).encode()
}

func cosignatureOf(t testing.TB, k *WitnessKey, signed []byte, answer string) {
	t.Helper()
	c, err := parseCosignature(strings.TrimSuffix(answer, "\n"))
	if err != nil {
		t.Fatalf("%q: %v", answer, err)
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	if _, ok := k.check(text+"\n", c); !ok {
		t.Errorf("the cosignature is not good: %q", answer)
	}
}

// The rules of tlog-witness, in the order of its text.
func TestWitnessProtocol(t *testing.T) {
	w := newWitness(t, "witness.example/w1", nil)
	g, other := newGrownLog(t, 100, "a"), newGrownLog(t, 100, "b")
	steps := []struct {
		what string
		body []byte
		code int
		size string // of 409
	}{
		{"nothing", nil, 400, ""},
		{"no old size", bytes.TrimPrefix(g.request(0, 5), []byte("old 0\n")), 400, ""},
		{"an old size with a zero", bytes.Replace(g.request(0, 5), []byte("old 0"), []byte("old 00"), 1), 400, ""},
		{"a hash that is none", bytes.Replace(g.request(0, 5), []byte("old 0\n"), []byte("old 0\nAAAA\n"), 1), 400, ""},
		{"64 hashes", bytes.Replace(g.request(0, 5), []byte("old 0\n"), []byte("old 0\n"+strings.Repeat(emptyRoot().String()+"\n", 64)), 1), 400, ""},
		{"another origin", bytes.ReplaceAll(g.request(0, 5), []byte(testOrigin), []byte("other.example")), 404, ""},
		{"no signature of the log", bytes.Replace(g.request(0, 5), []byte("— "+testOrigin), []byte("— other.example"), 1), 403, ""},
		{"a bad signature", bytes.Replace(g.request(0, 5), []byte("\n5\n"), []byte("\n6\n"), 1), 403, ""},
		{"too long", append(g.request(0, 5), make([]byte, maxWitnessing)...), 413, ""},
		{"an old size above the checkpoint's", bytes.Replace(g.request(0, 5), []byte("old 0"), []byte("old 6"), 1), 400, ""},
		{"an old size that was never cosigned", g.request(3, 5), 409, "0"},
		{"a proof from nothing", bytes.Replace(g.request(0, 5), []byte("old 0\n"), []byte("old 0\n"+emptyRoot().String()+"\n"), 1), 422, ""},
		{"the empty log", g.request(0, 0), 200, ""},
		{"the first five", g.request(0, 5), 200, ""},
		{"the same again", g.request(5, 5), 200, ""},
		{"from nothing again", g.request(0, 5), 409, "5"},
		{"the same with a proof", bytes.Replace(g.request(5, 5), []byte("old 5\n"), []byte("old 5\n"+emptyRoot().String()+"\n"), 1), 422, ""},
		{"another log of that size", other.request(5, 5), 422, ""},
		{"growth of another log", other.request(5, 9), 422, ""},
		{"growth without a proof", bytes.Replace(g.request(0, 9), []byte("old 0"), []byte("old 5"), 1), 422, ""},
		{"growth", g.request(5, 9), 200, ""},
		{"an older checkpoint", g.request(0, 5), 409, "9"},
		{"much growth", g.request(9, 100), 200, ""},
	}
	for _, s := range steps {
		code, body, head := w.post("/add-checkpoint", s.body)
		if code != s.code || s.size != "" && (body != s.size+"\n" || head.Get("Content-Type") != "text/x.tlog.size") {
			t.Errorf("%s: %d %q %v", s.what, code, body, head)
		}
		if code == 200 {
			_, signed, _ := bytes.Cut(s.body, []byte("\n\n"))
			cosignatureOf(t, w.Key(), signed, body)
		}
		if s.what == "growth" {
			w.again(t)
		}
	}
	if kept, err := os.ReadDir(filepath.Join(w.logs[testOrigin].dir, refusedDir)); err != nil || len(kept) != 1 || !strings.HasPrefix(kept[0].Name(), "5-") {
		t.Errorf("the proof that there are two logs: %v, %v", kept, err)
	}
	// What it shows to monitors.
	sum := sha256.Sum256([]byte(testOrigin))
	for path, want := range map[string]int{"/" + hex.EncodeToString(sum[:]) + "/checkpoint": 200, "/00/checkpoint": 404, "/x": 404} {
		rec := httptest.NewRecorder()
		w.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		if rec.Code != want {
			t.Errorf("%s: %d", path, rec.Code)
		}
		if want == 200 {
			c, err := parseCosigned(rec.Body.Bytes(), g.key, true)
			if err != nil || c.tree.N != 100 || len(c.lines) != 1 {
				t.Errorf("%q: %v", rec.Body, err)
			}
		}
	}
	if _, err := OpenWitness(w.o); !errors.Is(err, durable.ErrLocked) {
		t.Errorf("a second process: %v", err)
	}
}

// Two logs of one key grow at once before one witness, by many requests at the same time: it
// takes one of them, and every cosignature is of that one.
func TestWitnessTakesOneOfTwo(t *testing.T) {
	w := newWitness(t, "w1", nil)
	logs := []*grownLog{newGrownLog(t, 64, "a"), newGrownLog(t, 64, "b")}
	var mu sync.Mutex
	signed := make(map[int64]string)
	largest := int64(0)
	var wait sync.WaitGroup
	for c := range 8 {
		wait.Go(func() {
			g := logs[c%2]
			old := 0
			for size := 1 + c; size <= 64; {
				code, body, _ := w.post("/add-checkpoint", g.request(old, size))
				switch code {
				case 200:
					mu.Lock()
					tree, _ := parseCheckpoint(g.signed(size), g.key)
					if had, ok := signed[tree.tree.N]; ok && had != tree.tree.Hash.String() {
						t.Errorf("two trees of %d records are cosigned", size)
					}
					signed[tree.tree.N] = tree.tree.Hash.String()
					largest = max(largest, tree.tree.N)
					mu.Unlock()
					old, size = size, size+3
				case 409:
					fmt.Sscan(body, &old)
					size = max(size, old)
				case 422:
					return // the other one was taken
				default:
					t.Errorf("%d %s", code, body)
					return
				}
			}
		})
	}
	wait.Wait()
	roots := map[bool]int{}
	for n, root := range signed {
		a, _ := logs[0].at(int(n)).root()
		roots[a.String() == root]++
	}
	if len(roots) != 1 || largest < 60 {
		t.Errorf("cosigned: %v, up to %d", roots, largest)
	}
}

// witnessPeers are the peers of several witnesses.
func witnessPeers(list ...*testWitness) (out []WitnessPeer, keys []*WitnessKey) {
	for _, w := range list {
		out, keys = append(out, w.peer()), append(keys, w.Key())
	}
	return out, keys
}

// until waits for something to become true, which other goroutines work at.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func fastWitnessing(o Witnessing) Witnessing {
	o.Pause, o.Retry = time.Millisecond, 5*time.Millisecond
	if o.Within == 0 {
		o.Within = time.Hour
	}
	return o
}

func onDisk(dir string) int64 {
	b, err := os.ReadFile(filepath.Join(dir, cosignedFile))
	if err != nil {
		return -1
	}
	var n int64 = -1
	fmt.Sscan(strings.SplitN(string(b), "\n", 3)[1], &n)
	return n
}

// witnessedLog is a closed log of more than n records whose end three witnesses have cosigned.
func witnessedLog(t testing.TB, n int) (dir string, keys []*WitnessKey) {
	t.Helper()
	o := testOptions()
	l, dir := newLog(t, o)
	peers, keys := witnessPeers(newWitness(t, "w1", nil), newWitness(t, "w2", nil), newWitness(t, "w3", nil))
	w := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 3}))
	fill(t, l, n)
	until(t, "cosigned", func() bool { return l.Size() == int64(n+3) && onDisk(dir) == l.Size() })
	w.Close()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, keys
}

func TestWitnessedLogVerifies(t *testing.T) {
	ctx := context.Background()
	dir, keys := witnessedLog(t, 300)
	file := filepath.Join(t.TempDir(), "bundle")
	if err := os.WriteFile(file, bundleOf(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	stranger, err := NewWitnessKey("w1", seededKey("other").Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, file} {
		r, err := VerifyDemand(ctx, path, testPub(t), Demand{Witnesses: keys, Need: 3, Behind: 0})
		if err != nil || r.Cosigned != 303 || len(r.Cosigners) != 3 || r.CosignedFrom.Unix() != 1795000000 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		if r, err := Verify(ctx, path, testPub(t), nil); err != nil || r.Cosigned != 303 || len(r.Cosigners) != 0 {
			t.Errorf("%s: %+v, %v", path, r, err)
		}
		_, err = VerifyDemand(ctx, path, testPub(t), Demand{Witnesses: []*WitnessKey{keys[0], stranger}, Need: 2, Behind: -1})
		if err == nil || !strings.Contains(err.Error(), "1 of the witnesses given have cosigned, 2 are needed") {
			t.Errorf("%s: %v", path, err)
		}
		// The same witness twice is one.
		if _, err = VerifyDemand(ctx, path, testPub(t), Demand{Witnesses: []*WitnessKey{keys[0], keys[0]}, Need: 2}); err == nil {
			t.Error("one witness counts twice")
		}
	}
	// The log goes on without witnesses; the clock of this opening is behind, which is a record more.
	l := openLog(t, dir, testOptions())
	mustRecord(t, l, 2)
	if r, err := VerifyDemand(ctx, dir, testPub(t), Demand{Witnesses: keys, Need: 3, Behind: 3}); err != nil || r.Records != 306 || r.Cosigned != 303 {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = VerifyDemand(ctx, dir, testPub(t), Demand{Witnesses: keys, Need: 3, Behind: 2})
	var f *Fault
	if !errors.As(err, &f) || f.Record != 303 || !strings.Contains(f.Reason, "3 records from here on are not cosigned") {
		t.Errorf("%v", err)
	}
	// A cosigned checkpoint is as good to be kept as any.
	kept, err := os.ReadFile(filepath.Join(dir, cosignedFile))
	if err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir, kept); r.Since != 303 {
		t.Errorf("%+v", r)
	}
}

// Every bit of a witnessed log, even if the keys of the witnesses are not given.
func TestEveryBitOfCosignatures(t *testing.T) {
	dir, _ := witnessedLog(t, 1)
	files := treeOf(t, dir)
	verify := memVerifier(t)
	if err := verify(memSource{files}); err != nil {
		t.Fatal(err)
	}
	data := files[cosignedFile]
	for bit := range len(data) * 8 {
		data[bit/8] ^= 1 << (bit % 8)
		var fault *Fault
		if err := verify(memSource{files}); !errors.As(err, &fault) || fault.File != cosignedFile && fault.File != checkpointFile {
			t.Errorf("bit %d changed: %v", bit, err)
		}
		data[bit/8] ^= 1 << (bit % 8)
	}
	lines := strings.SplitAfter(string(data), "\n") // three, an empty one, the log's, three of witnesses
	for what, changed := range map[string]string{
		"a line dropped":    strings.Join(lines[:4], ""),
		"all lines dropped": strings.Join(lines[:5], ""),
		"a line doubled":    string(data) + lines[7],
		"lines swapped":     strings.Join(lines[:5], "") + lines[6] + lines[5] + lines[7],
		"another line":      string(data) + "— w4 AAAAAAAA\n",
		"cut":               string(data[:len(data)-1]),
		"empty":             "",
	} {
		files[cosignedFile] = []byte(changed)
		var fault *Fault
		if err := verify(memSource{files}); !errors.As(err, &fault) || fault.File != cosignedFile {
			t.Errorf("%s: %v", what, err)
		}
	}
	// In a bundle.
	files[cosignedFile] = data
	b := bundleOf(t, dir)
	check := bundleVerifier(t)
	if err := check(b); err != nil {
		t.Fatal(err)
	}
	for at := range b {
		b[at] ^= 4
		if check(b) == nil {
			t.Errorf("byte %d of the bundle changed", at)
		}
		b[at] ^= 4
	}
}

func TestWitnessesAreLate(t *testing.T) {
	ctx := context.Background()
	o := testOptions() // its clock goes on by a second at each look
	l, dir := newLog(t, o)
	var down sync.Map
	gate := func(w *testWitness) {
		inner := w.server.Config.Handler
		w.server.Config.Handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if _, no := down.Load(w.o.Name); no {
				http.Error(rw, "down", http.StatusBadGateway)
				return
			}
			inner.ServeHTTP(rw, r)
		})
	}
	w1, w2 := newWitness(t, "w1", nil), newWitness(t, "w2", nil)
	gate(w1)
	gate(w2)
	peers, keys := witnessPeers(w1, w2)
	w := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 2, Within: time.Minute, Stop: true}))
	defer w.Close()
	until(t, "first", func() bool { return onDisk(dir) == l.Size() && l.Size() == 2 })
	mustRecord(t, l, 1)
	act, err := l.Begin(ctx, Event{Type: StoreCheck})
	if err != nil {
		t.Fatal(err)
	}
	down.Store("w2", true)
	mustRecord(t, l, 1)
	until(t, "late", func() bool { return w.State().Late })
	if err := l.Record(ctx, Event{Type: StoreCheck}); !errors.Is(err, ErrUnwitnessed) {
		t.Errorf("an act without witnesses: %v", err)
	}
	if _, err := l.Begin(ctx, Event{Type: StoreCheck}); !errors.Is(err, ErrUnwitnessed) {
		t.Errorf("an act without witnesses: %v", err)
	}
	if err := act.End(ctx, nil); err != nil {
		t.Errorf("the outcome of what was begun: %v", err)
	}
	l.Note(Event{Type: MailSealed})
	mustFlush(t, l) // mail goes on
	if s := w.States(); s[0].Err != nil || s[1].Err == nil || !strings.Contains(s[1].Err.Error(), "502") {
		t.Errorf("%+v", s)
	}
	down.Clear()
	until(t, "witnessed again", func() bool { return !w.State().Late })
	mustRecord(t, l, 1)
	until(t, "all of it", func() bool { return onDisk(dir) == l.Size() })
	if r, err := VerifyDemand(ctx, dir, testPub(t), Demand{Witnesses: keys, Need: 2, Behind: 0}); err != nil {
		t.Errorf("%+v, %v", r, err)
	}
}

// restoreTree makes dir what it was.
func restoreTree(t testing.TB, dir string, files map[string][]byte) {
	t.Helper()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	writeTree(t, dir, files)
}

// An old copy of the log is put back, or another log of the same key goes on: the witness
// shows what it has seen, and nothing is recorded any more.
func TestWitnessStopsAnOldCopy(t *testing.T) {
	for _, keep := range []bool{false, true} { // with a copy at the witness, or without
		for what, want := range map[string]string{"old": "it has seen 40", "fork": "are others than the first"} {
			t.Run(fmt.Sprintf("%s, copy %v", what, keep), func(t *testing.T) {
				o := testOptions()
				l, dir := newLog(t, o)
				mustRecord(t, l, 1)
				l.Close()
				before := treeOf(t, dir)
				l = openLog(t, dir, o)
				tw := newWitness(t, "w1", func(o *WitnessOptions) { o.Copy = keep })
				peers, _ := witnessPeers(tw)
				w := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1}))
				mustRecord(t, l, 38)
				until(t, "cosigned", func() bool { return w.State().Cosigned == 40 })
				w.Close()
				l.Close()
				restoreTree(t, dir, before)
				l = openLog(t, dir, o)
				if what == "fork" {
					mustRecord(t, l, 60)
				}
				fatal := make(chan error, 1)
				w = l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1, Fatal: func(err error) { fatal <- err }}))
				defer w.Close()
				if err := <-fatal; !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "w1") {
					t.Errorf("%v", err)
				}
				if err := l.Record(t.Context(), Event{Type: StoreCheck}); err == nil {
					t.Error("the log goes on")
				}
				if l.Ready() == nil {
					t.Error("ready")
				}
			})
		}
	}
}

// A witness that says much and shows nothing stops nothing.
func TestLyingWitness(t *testing.T) {
	l, _ := newLog(t, testOptions())
	mustRecord(t, l, 3)
	for _, code := range []int{409, 422, 200, 500} {
		s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				rw.Write(newGrownLog(t, 3, "x").signed(3)[1:])
				return
			}
			rw.WriteHeader(code)
			io.WriteString(rw, "1000\n")
		}))
		u, _ := url.Parse(s.URL)
		key, err := NewWitnessKey("w", seededKey("w").Public().(ed25519.PublicKey))
		if err != nil {
			t.Fatal(err)
		}
		w := l.Witness(fastWitnessing(Witnessing{Peers: []WitnessPeer{{URL: u, Key: key, Client: s.Client()}}, Require: 1, Fatal: func(err error) { t.Error(err) }}))
		until(t, "an answer", func() bool { return w.States()[0].Err != nil })
		mustRecord(t, l, 1)
		w.Close()
		s.Close()
	}
}

func TestWitnessKeepsACopy(t *testing.T) {
	o := testOptions()
	o.disk = func(d disk) disk { return noSync{d} }
	l, dir := newLog(t, o)
	fill(t, l, 40000) // more than one request takes
	tw := newWitness(t, "w1", func(o *WitnessOptions) { o.Copy = true; o.Log = slog.New(slog.DiscardHandler) })
	copied := filepath.Join(tw.logs[testOrigin].dir, "copy")
	// A checkpoint whose records are not in the copy is not cosigned.
	if code, body, _ := tw.post("/add-checkpoint", (&addRequest{0, nil, l.Checkpoint()}).encode()); code != 503 {
		t.Errorf("%d %s", code, body)
	}
	peers, keys := witnessPeers(tw)
	w := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1}))
	until(t, "copied", func() bool { return w.State().Cosigned == 40001 })
	mustVerify(t, copied, l.Checkpoint())
	for range 5 {
		fill(t, l, 100)
		until(t, "copied", func() bool { return w.State().Cosigned == l.Size() })
		mustVerify(t, copied, l.Checkpoint())
		tw.again(t)
	}
	w.Close()
	l.Close()
	a, b := treeOf(t, dir), treeOf(t, copied)
	delete(a, cosignedFile)
	if len(a) != len(b) {
		t.Errorf("%d files and %d", len(a), len(b))
	}
	for name, data := range a {
		if !bytes.Equal(b[name], data) {
			t.Errorf("%s differs", name)
		}
	}
	// The log is lost: the copy takes its place and goes on.
	restoreTree(t, dir, b)
	l = openLog(t, dir, o)
	w = l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1, Fatal: func(err error) { t.Error(err) }}))
	mustRecord(t, l, 1)
	until(t, "witnessed", func() bool { return onDisk(dir) == l.Size() })
	w.Close()
	if _, err := VerifyDemand(t.Context(), dir, testPub(t), Demand{Witnesses: keys, Need: 1}); err != nil {
		t.Error(err)
	}
}

// One cosignature of a grown log: the proof, the request over TLS, what the witness makes
// durable, its answer checked.
func BenchmarkWitness(b *testing.B) {
	o := Options{Origin: testOrigin}
	l, _ := newLog(b, o)
	fill(b, l, 10000)
	tw := newWitness(b, "w1", func(o *WitnessOptions) { o.Now = time.Now })
	server := httptest.NewTLSServer(tw.Witness)
	defer server.Close()
	u, _ := url.Parse(server.URL)
	p := &peer{WitnessPeer: WitnessPeer{URL: u, Key: tw.Key(), Client: server.Client()}, log: l, has: -1}
	for b.Loop() {
		b.StopTimer()
		mustRecord(b, l, 1)
		now := snapshot{l.last, l.tail}
		b.StartTimer()
		if _, err := p.ask(b.Context(), now); err != nil {
			b.Fatal(err)
		}
	}
	proof, err := l.tail.proof(b.Context(), l.size-1, l.readTile)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len((&addRequest{l.size - 1, proof, l.last}).encode())), "B/request")
}

// One key under two names is one witness, and so are two keys under one name.
func TestOneWitnessCountsOnce(t *testing.T) {
	g := newGrownLog(t, 5, "")
	one, other := seededKey("one"), seededKey("other")
	for _, pair := range [][2]struct {
		name string
		key  ed25519.PrivateKey
	}{{{"a", one}, {"b", one}}, {{"a", one}, {"a", other}}} {
		c, err := parseCosigned(g.signed(5), g.key, true)
		if err != nil {
			t.Fatal(err)
		}
		d := Demand{Need: 2, Behind: -1}
		for _, w := range pair {
			s, err := newCosigner(w.name, w.key)
			if err != nil {
				t.Fatal(err)
			}
			l, err := s.cosign(c.text(), time.Unix(1795000000, 0))
			if err != nil {
				t.Fatal(err)
			}
			c.lines, d.Witnesses = append(c.lines, l), append(d.Witnesses, s.WitnessKey)
		}
		if err := d.met(c, &Report{}); err == nil {
			t.Errorf("%v counts twice", d.Witnesses)
		}
	}
}

// A first line that does not end is not read into memory.
func TestWitnessBoundsTheFirstLine(t *testing.T) {
	in := bufio.NewReader(io.MultiReader(strings.NewReader("entries "), &untilTaken{limit: 1 << 20, t: t}))
	if _, _, _, err := readEntriesHead(in); err == nil {
		t.Error("taken")
	}
}

// untilTaken gives digits, and fails the test when more than limit are read.
type untilTaken struct {
	limit int
	t     *testing.T
}

func (u *untilTaken) Read(b []byte) (int, error) {
	if u.limit -= len(b); u.limit < 0 {
		u.t.Error("it is read without a bound")
		return 0, io.EOF
	}
	for i := range b {
		b[i] = '1'
	}
	return len(b), nil
}
