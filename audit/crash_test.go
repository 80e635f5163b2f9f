package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"cmmpd/internal/mail"
)

// node is a file or folder of the model disk.
type node struct {
	dir    bool
	now    []byte // what reading gives
	stable []byte // what was flushed
}

// modelDisk does what it is told on the real disk too, and knows what a power cut would
// leave: file contents that were flushed, names in folders that were flushed.
type modelDisk struct {
	disk
	mu     sync.Mutex
	now    map[string]*node
	stable map[string]*node
	after  func(op string) // called after each step
	before func(op string) error
}

func newModelDisk(d disk, files map[string][]byte) *modelDisk {
	m := &modelDisk{disk: d, now: make(map[string]*node), stable: make(map[string]*node)}
	for name, data := range files {
		m.now[name] = &node{now: data, stable: data}
		for dir := range parents(name) {
			m.now[dir] = &node{dir: true}
		}
	}
	maps.Copy(m.stable, m.now)
	return m
}

// step runs one operation, which a test may have decided shall fail: before it is done
// (errLost) or after (any other error).
func (m *modelDisk) step(op string, real func() error, model func()) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var fail error
	if m.before != nil {
		fail = m.before(op)
	}
	if fail == nil || !errors.Is(fail, errLost) {
		if err := real(); err != nil {
			return err
		}
		model()
	}
	if m.after != nil {
		m.after(op)
	}
	return fail
}

// errLost marks a fault that happens before the operation has any effect.
var errLost = errors.New("lost")

func (m *modelDisk) create(name string) (diskFile, error) {
	var f diskFile
	n := &node{}
	err := m.step("create "+name, func() (err error) {
		f, err = m.disk.create(name)
		return err
	}, func() {
		if old := m.now[name]; old != nil {
			n = old
			n.now = nil
			return
		}
		m.now[name] = n
	})
	if err != nil {
		if f != nil {
			f.Close()
		}
		return nil, err
	}
	return &modelFile{f, m, n, name}, nil
}

func (m *modelDisk) mkdir(name string) error {
	return m.step("mkdir "+name, func() error { return m.disk.mkdir(name) }, func() { m.now[name] = &node{dir: true} })
}

func (m *modelDisk) rename(from, to string) error {
	return m.step("rename "+to, func() error { return m.disk.rename(from, to) }, func() {
		m.now[to] = m.now[from]
		delete(m.now, from)
	})
}

func (m *modelDisk) remove(name string) error {
	return m.step("remove "+name, func() error { return m.disk.remove(name) }, func() { delete(m.now, name) })
}

func (m *modelDisk) syncDir(name string) error {
	return m.step("syncdir "+name, func() error { return nil }, func() {
		for n := range m.stable {
			if path.Dir(n) == name && m.now[n] == nil {
				delete(m.stable, n)
			}
		}
		for n, what := range m.now {
			if path.Dir(n) == name {
				m.stable[n] = what
			}
		}
	})
}

type modelFile struct {
	diskFile
	m    *modelDisk
	n    *node
	name string
}

// Write fails, if it is to fail, in the middle.
func (f *modelFile) Write(b []byte) (int, error) {
	err := f.m.step("write "+f.name, func() error { _, err := f.diskFile.Write(b); return err }, func() {
		f.n.now = append(f.n.now, b...)
	})
	if errors.Is(err, errLost) {
		half := b[:len(b)/2]
		f.diskFile.Write(half)
		f.n.now = append(f.n.now, half...)
	}
	return len(b), err
}

func (f *modelFile) Sync() error {
	return f.m.step("sync "+f.name, func() error { return nil }, func() { f.n.stable = bytes.Clone(f.n.now) })
}

// afterCrash is what the disk may hold after a crash: how 0 is kill -9 (all that was
// done), 1 a power cut (only what was flushed), others something in between.
func (m *modelDisk) afterCrash(how uint64) map[string][]byte {
	rnd := rand.New(rand.NewPCG(how, 7))
	pick := func(n int) int {
		if how < 2 {
			return int(how) * (n - 1)
		}
		return rnd.IntN(n)
	}
	names := maps.Clone(m.now)
	maps.Copy(names, m.stable)
	out := make(map[string][]byte)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		n := [...]*node{m.now[name], m.stable[name]}[pick(2)]
		if parent := path.Dir(name); n == nil || parent != "." && out[parent+"/"] == nil {
			continue
		}
		if n.dir {
			out[name+"/"] = []byte{}
			continue
		}
		torn := n.now
		if !bytes.Equal(n.now, n.stable) {
			torn = n.now[:len(n.now)/2]
		}
		out[name] = [...][]byte{n.now, torn, n.stable}[pick(3)]
	}
	return out
}

// memDir is a temporary folder, in memory if the system has one there.
func memDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "cmmpd-audit-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// materialize writes such a state into a new folder.
func materialize(t testing.TB, files map[string][]byte) string {
	t.Helper()
	dir := memDir(t)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name)
		var err error
		if strings.HasSuffix(name, "/") {
			err = os.Mkdir(path, 0o750)
		} else {
			err = os.WriteFile(path, files[name], 0o640)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// noSync makes recovery fast: nothing is flushed.
type noSync struct{ disk }

func (noSync) syncDir(string) error { return nil }
func (d noSync) create(name string) (diskFile, error) {
	f, err := d.disk.create(name)
	return noSyncFile{f}, err
}

type noSyncFile struct{ diskFile }

func (noSyncFile) Sync() error { return nil }

// testRecords makes n records that go on from size.
func testRecords(size int64, n int) [][]byte {
	var out [][]byte
	for i := range n {
		r := Record{Seq: size + int64(i), Event: Event{Type: StoreCheck, Actor: "admin"}}
		out = append(out, appendRecord(nil, &r))
	}
	return out
}

// modelStore makes a log of n records on a model disk.
func modelStore(t testing.TB, n int) (*store, *modelDisk, string) {
	t.Helper()
	dir := closedLog(t, n)
	var m *modelDisk
	s, err := openStore(dir, testKey(), testOrigin, func(d disk) disk {
		m = newModelDisk(noSync{d}, treeOf(t, dir))
		return m
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s, m, dir
}

// mustRecover opens a directory that a crash left and demands that nothing acknowledged
// is missing, that all of it verifies, and that it can be written again.
func mustRecover(t testing.TB, dir string, acked []byte, what string) int64 {
	t.Helper()
	s, err := openStore(dir, testKey(), testOrigin, func(d disk) disk { return noSync{d} })
	if err != nil {
		t.Fatalf("%s: opening: %v", what, err)
	}
	defer s.close()
	size := s.tail.size
	if _, err := Verify(context.Background(), dir, testPub(t), acked); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if err := s.commit(testRecords(s.tail.size, 3)); err != nil {
		t.Fatalf("%s: writing again: %v", what, err)
	}
	return size
}

func TestCrashAtEachStep(t *testing.T) {
	for _, c := range []struct{ have, add int }{{0, 1}, {2, 300}, {250, 10}, {256, 1}} {
		t.Run(fmt.Sprintf("%d+%d", c.have, c.add), func(t *testing.T) {
			s, m, _ := modelStore(t, c.have)
			steps := 0
			m.after = func(op string) {
				steps++
				for how := range uint64(4) {
					what := fmt.Sprintf("crash %d after step %d (%s)", how, steps, op)
					dir := materialize(t, m.afterCrash(how))
					size := mustRecover(t, dir, s.last, what)
					if size != int64(c.have) && size != int64(c.have+c.add) {
						t.Fatalf("%s: %d records", what, size)
					}
				}
			}
			if err := s.commit(testRecords(s.tail.size, c.add)); err != nil {
				t.Fatal(err)
			}
			if steps < 8 {
				t.Errorf("only %d steps seen", steps)
			}
		})
	}
}

// A second crash hits each step of the repair after the first.
func TestCrashDuringRecovery(t *testing.T) {
	s, m, _ := modelStore(t, 250)
	steps := 0
	firsts := 0
	m.after = func(op string) {
		if firsts++; firsts%3 != 0 {
			return
		}
		first := materialize(t, m.afterCrash(0))
		var second *modelDisk
		again, err := openStore(first, testKey(), testOrigin, func(d disk) disk {
			second = newModelDisk(noSync{d}, treeOf(t, first))
			second.after = func(repair string) {
				steps++
				for how := range uint64(2) {
					mustRecover(t, materialize(t, second.afterCrash(how)), s.last, "crash after "+op+", then after "+repair)
				}
			}
			return second
		})
		if err != nil {
			t.Fatal(err)
		}
		again.close()
	}
	if err := s.commit(testRecords(250, 10)); err != nil {
		t.Fatal(err)
	}
	if steps < 30 {
		t.Errorf("only %d steps of repair seen", steps)
	}
}

// Each step of a commit fails, in each way. Either nothing has changed and the log goes
// on, or it says that it must be opened anew, and that works.
func TestFaultAtEachStep(t *testing.T) {
	for _, cause := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, lost := range []bool{true, false} {
			for k := 0; ; k++ {
				s, m, dir := modelStore(t, 250)
				step, hit := 0, ""
				m.before = func(op string) error {
					step++
					if step-1 != k {
						return nil
					}
					hit = op
					if lost {
						return errors.Join(errLost, cause)
					}
					return cause
				}
				kept := s.last
				err := s.commit(testRecords(250, 10))
				m.before = nil
				what := fmt.Sprintf("%v (lost %v) at step %d (%s)", cause, lost, k, hit)
				if hit == "" {
					s.close()
					break
				}
				checkAfterFault(t, s, dir, kept, err, hit, what)
				s.close()
			}
		}
	}
}

func checkAfterFault(t *testing.T, s *store, dir string, kept []byte, err error, hit, what string) {
	t.Helper()
	if strings.HasPrefix(hit, "remove") { // a superseded file: tried again later
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	} else if err == nil {
		t.Errorf("%s: acknowledged", what)
	}
	if unknown(err) {
		s.close()
		mustRecover(t, dir, kept, what)
		return
	}
	if err != nil {
		if _, err := Verify(context.Background(), dir, testPub(t), kept); err != nil || !bytes.Equal(s.last, kept) {
			t.Errorf("%s: after taking back: %v", what, err)
		}
	}
	if err := s.commit(testRecords(s.tail.size, 5)); err != nil {
		t.Errorf("%s: writing again: %v", what, err)
	}
	if _, err := Verify(context.Background(), dir, testPub(t), s.last); err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

// What no crash leaves behind stops Open, which names the place and changes nothing.
func TestOpenRefusesTampering(t *testing.T) {
	l, src := newLog(t, testOptions())
	fill(t, l, 300)
	older := treeOf(t, src)
	fill(t, l, 600)
	l.Close()
	good := treeOf(t, src)
	for name, c := range map[string]struct {
		do   func(files map[string][]byte)
		want string
	}{
		"old checkpoint":            {func(f map[string][]byte) { f["checkpoint"] = older["checkpoint"] }, "tile/entries/001.p/44: is missing"},
		"old checkpoint and tiles":  {func(f map[string][]byte) { maps.Copy(f, older) }, "older than the log"},
		"checkpoint changed":        {func(f map[string][]byte) { f["checkpoint"][40] ^= 1 }, "checkpoint"},
		"key changed":               {func(f map[string][]byte) { f["audit.pub"][4] ^= 1 }, "audit.pub"},
		"edge changed":              {func(f map[string][]byte) { f["tile/0/003.p/132"][40] ^= 1 }, "tile/0/003.p/132"},
		"level 1 changed":           {func(f map[string][]byte) { f["tile/1/000.p/3"][40] ^= 1 }, "tile/1/000.p/3"},
		"last records changed":      {func(f map[string][]byte) { f["tile/entries/003.p/132"][40] ^= 1 }, "tile/entries/003.p/132, record 768"},
		"tile missing":              {func(f map[string][]byte) { delete(f, "tile/0/001") }, "tile/0/001"},
		"tile short":                {func(f map[string][]byte) { f["tile/0/001"] = f["tile/0/001"][:100] }, "tile/0/001"},
		"unknown file":              {func(f map[string][]byte) { f["notes.txt"] = nil }, "notes.txt"},
		"unknown folder":            {func(f map[string][]byte) { f["tile/9/"] = nil }, "tile/9"},
		"old partial tile":          {func(f map[string][]byte) { f["tile/0/001.p/44"] = older["tile/0/001.p/44"] }, "superseded long ago"},
		"foreign partial tile":      {func(f map[string][]byte) { f["tile/0/003.p/2"] = make([]byte, 64) }, "not the beginning"},
		"tile far beyond":           {func(f map[string][]byte) { f["tile/0/010"] = make([]byte, 8192) }, "older than the log"},
		"tile of a level not there": {func(f map[string][]byte) { f["tile/2/000.p/1"] = make([]byte, 32) }, "tile/2/000.p/1"},
	} {
		t.Run(name, func(t *testing.T) {
			files := make(map[string][]byte)
			for n, data := range good {
				files[n] = bytes.Clone(data)
			}
			c.do(files)
			dir := t.TempDir()
			for n, data := range files {
				if strings.HasSuffix(n, "/") {
					os.MkdirAll(filepath.Join(dir, n), 0o750)
					delete(files, n)
					continue
				}
				writeTree(t, dir, map[string][]byte{n: data})
			}
			_, err := Open(dir, testKey(), testOptions())
			var f *Fault
			if !errors.As(err, &f) || mail.KindOf(err) != mail.Corrupt || !strings.Contains(err.Error(), c.want) {
				t.Errorf("want %q, got %v", c.want, err)
			}
			if !maps.EqualFunc(treeOf(t, dir), files, bytes.Equal) {
				t.Error("Open changed the directory")
			}
		})
	}
}
