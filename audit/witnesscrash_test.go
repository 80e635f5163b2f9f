package audit

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/durable/faultfs"
)

// Each step of remembering fails, in each way, and then the power is cut: what the witness
// remembers is never less than what it has signed, and it goes on with the same log only.
func TestWitnessFaultsAndPowerCuts(t *testing.T) {
	g := newGrownLog(t, 40, "a")
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for at := 1; at <= 12; at++ {
			rnd := rand.New(rand.NewPCG(uint64(at), uint64(mode)))
			fsys := faultfs.New()
			w := newWitness(t, "w1", func(o *WitnessOptions) { o.FS = fsys })
			signed := int64(0)
			ask := func(size int) {
				q := g.request(int(min(w.logs[testOrigin].tree.N, int64(size))), size)
				switch code, body, _ := w.post("/add-checkpoint", q); code {
				case 200:
					signed = int64(size)
				case 503, 409:
				default:
					t.Fatalf("%d %s", code, body)
				}
			}
			ask(5)
			fsys.FailAt(at, mode)
			for _, size := range []int{9, 9, 12, 20} {
				ask(size)
			}
			before := signed
			dir := t.TempDir()
			if err := fsys.PowerCut(rnd, w.o.Dir, dir); err != nil {
				t.Fatal(err)
			}
			o := w.o
			o.Dir, o.FS = dir, nil
			again, err := OpenWitness(o)
			if err != nil {
				t.Errorf("mode %d, step %d: %v", mode, at, err)
				continue
			}
			if have := again.logs[testOrigin].tree; have.N < before {
				t.Errorf("mode %d, step %d: it signed %d records and remembers %d", mode, at, before, have.N)
			} else if root, _ := g.at(int(have.N)).root(); root != have.Hash {
				t.Errorf("mode %d, step %d: it remembers another tree", mode, at)
			}
			again.Close()
		}
	}
}

// What stands in the folder is looked at when the witness begins.
func TestWitnessRefusesADamagedFolder(t *testing.T) {
	g := newGrownLog(t, 40, "a")
	for what, c := range map[string]struct {
		do   func(dir string) error
		want string // "": it goes on
	}{
		"nothing":           {func(string) error { return nil }, ""},
		"a torn history":    {func(d string) error { return appendTo(d+"/history", "cosigned 2026-11-22T10:00:00Z 500\nold 3") }, ""},
		"the state gone":    {func(d string) error { return os.Remove(d + "/checkpoint") }, "is gone"},
		"the state changed": {func(d string) error { return appendTo(d+"/checkpoint", "x") }, "checkpoint"},
		"the state of another": {func(d string) error {
			return os.WriteFile(d+"/checkpoint", newGrownLog(t, 1, "a").signed(1)[3:], 0o600)
		}, "checkpoint"},
		"a damaged history": {func(d string) error {
			return os.WriteFile(d+"/history", bytes.Repeat([]byte("x"), maxWitnessing*2), 0o600)
		}, "damaged at byte 0"},
	} {
		w := newWitness(t, "w1", nil)
		for size := 5; size <= 40; size += 5 {
			if code, body, _ := w.post("/add-checkpoint", g.request(size-5, size)); code != http.StatusOK {
				t.Fatalf("%d %s", code, body)
			}
		}
		w.Close()
		if err := c.do(w.logs[testOrigin].dir); err != nil {
			t.Fatal(err)
		}
		again, err := OpenWitness(w.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			history, err := os.ReadFile(filepath.Join(w.logs[testOrigin].dir, historyFile))
			if n := bytes.Count(history, []byte(historyHead)); err != nil || n != 8 {
				t.Errorf("%s: %d entries, %v", what, n, err)
			}
			again.Close()
		}
	}
}

func appendTo(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString(text)
	return err
}

// Two witnesses were shown two logs of one key. Each is content; their checkpoints are not.
func TestCompare(t *testing.T) {
	ctx := t.Context()
	a, b := closedLog(t, 300), closedLog(t, 400)
	l := openLog(t, b, testOptions())
	early := l.Checkpoint()
	l.Close()
	var seen [2][]byte
	for i, dir := range []string{a, b} {
		w := newWitness(t, fmt.Sprint("w", i), nil)
		l := openLog(t, dir, Options{Origin: testOrigin, Now: testOptions().Now})
		peers, _ := witnessPeers(w)
		ws := l.Witness(fastWitnessing(Witnessing{Peers: peers, Require: 1}))
		until(t, "cosigned", func() bool { return onDisk(dir) == l.Size() && l.Size() > 400 || onDisk(dir) == l.Size() && i == 0 })
		ws.Close()
		l.Close()
		seen[i], _ = os.ReadFile(filepath.Join(dir, cosignedFile))
	}
	pub := testPub(t)
	if c, err := Compare(ctx, pub, seen[0], seen[1], ""); err != nil || c.Decided {
		t.Errorf("different sizes, and no log: %+v, %v", c, err)
	}
	for i, dir := range []string{a, b} {
		_, err := Compare(ctx, pub, seen[0], seen[1], dir)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("checkpoint %d", 2-i)) {
			t.Errorf("%v", err)
		}
	}
	if c, err := Compare(ctx, pub, early, seen[1], b); err != nil || !c.Decided || c.Sizes[0] != 400 {
		t.Errorf("%+v, %v", c, err)
	}
	g, fork := newGrownLog(t, 9, "a"), newGrownLog(t, 9, "b")
	if _, err := Compare(ctx, pub, g.signed(9), fork.signed(9), ""); err == nil || !strings.Contains(err.Error(), "two trees of 9 records") {
		t.Errorf("%v", err)
	}
	if c, err := Compare(ctx, pub, g.signed(9), g.signed(9), ""); err != nil || !c.Decided {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := Compare(ctx, pub, g.signed(9), []byte("x"), ""); err == nil {
		t.Error("no checkpoint")
	}
}

func FuzzAddCheckpoint(f *testing.F) {
	g := newGrownLog(f, 20, "a")
	f.Add(g.request(0, 5))
	f.Add(g.request(3, 20))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, err := parseAddCheckpoint(b)
		if err == nil && !bytes.Equal(q.encode(), b) {
			t.Errorf("%q becomes %q", b, q.encode())
		}
	})
}

func FuzzCosigned(f *testing.F) {
	g := newGrownLog(f, 20, "a")
	signed := g.signed(20)
	s, err := newCosigner("w", seededKey("w"))
	if err != nil {
		f.Fatal(err)
	}
	text, _, _ := strings.Cut(string(signed), "\n\n")
	c, err := s.cosign(text+"\n", testOptions().Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(append(bytes.Clone(signed), c.line()...))
	f.Add(append([]byte(text+"\n\n"+c.line()), strings.SplitN(string(signed), "\n\n", 2)[1]...))
	f.Add([]byte(s.String()))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := parseCosigned(b, g.key, true); err == nil && !bytes.Equal(c.encode(), b) {
			t.Errorf("%q becomes %q", b, c.encode())
		}
		if _, err := parseCosigned(b, g.key, false); err == nil && !bytes.Contains(b, []byte(testOrigin)) {
			t.Errorf("%q", b)
		}
		if k, err := ParseWitnessKey(b); err == nil && strings.TrimRight(string(b), "\r\n") != k.String() {
			t.Errorf("%q becomes %q", b, k)
		}
	})
}

func FuzzEntries(f *testing.F) {
	g := newGrownLog(f, 20, "a")
	f.Add(entriesRequest(0, 20, g.signed(20), g.at(20).bundle))
	f.Add([]byte("entries 0 0 0\n"))
	w := newWitness(f, "w", func(o *WitnessOptions) { o.Copy = true })
	if code, body, _ := w.post("/add-entries", entriesRequest(0, 0, g.signed(0), nil)); code != 200 {
		f.Fatal(code, body)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		code, body, _ := w.post("/add-entries", b)
		if have := w.logs[testOrigin].copy.size(); code == 200 && have != 20 && have != 0 || code >= 500 {
			t.Errorf("%d %s, %d records", code, body, have)
		}
		if root, _ := w.logs[testOrigin].copy.store.tail.root(); root != (tlog.Hash{}) && w.logs[testOrigin].copy.size() == 20 {
			if want, _ := g.at(20).root(); want != root {
				t.Error("other records are in the copy")
			}
		}
	})
}
