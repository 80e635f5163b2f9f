package storage

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cmmpd/internal/durable"
	"cmmpd/internal/testkit"
	"cmmpd/storage/engine"
)

// hookFS calls its hooks before what is done to segments.
type hookFS struct {
	durable.OS
	write, sync func()
}

type hookFile struct {
	durable.File
	fs *hookFS
}

func (f *hookFS) Open(name string, flag int, perm fs.FileMode) (durable.File, error) {
	file, err := f.OS.Open(name, flag, perm)
	if err != nil || !strings.HasSuffix(name, ".seg") || flag&os.O_RDWR == 0 {
		return file, err
	}
	return hookFile{file, f}, nil
}

func (f hookFile) WriteAt(b []byte, off int64) (int, error) {
	f.fs.write()
	return f.File.WriteAt(b, off)
}

func (f hookFile) Sync() error {
	f.fs.sync()
	return f.File.Sync()
}

// TestLazyFlushUnderLoad has a lazy commit's flush fall due while the next ones are being written, and demands that the
// later ones are flushed in time too.
func TestLazyFlushUnderLoad(t *testing.T) {
	ks := newKeys(t)
	testkit.Bubble(t, func(t *testing.T) {
		ctx := context.Background()
		var slow atomic.Bool
		var dirty atomic.Bool
		fsys := &hookFS{sync: func() { dirty.Store(false) }}
		fsys.write = func() {
			dirty.Store(true)
			if slow.Load() {
				time.Sleep(2 * lazyFlush)
			}
		}
		s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, FS: fsys})
		defer func() { _ = s.Close() }()
		touch := func(id string) { // one lazy commit
			err := s.commit(ctx, &commit{lazy: true}, func(b *build) error {
				b.put(keyOfHash(keySubscribe, 99, hash{id[0]}), []byte(time.Now().String()))
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}
		touch("a")
		slow.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() { touch("b") })
		time.Sleep(lazyFlush / 2) // b is being written, slowly
		wg.Go(func() { touch("c") })
		wg.Wait()
		slow.Store(false)
		synctest.Wait() // the flush that was due is over
		touch("d")
		if !dirty.Load() {
			t.Fatal("nothing was left to flush: the test tests nothing")
		}
		time.Sleep(2 * lazyFlush)
		if dirty.Load() {
			t.Error("a lazy commit was not flushed in time")
		}
	})
}

// TestScanReads changes and reads the store from within a scan, as Check does.
func TestScanReads(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	if err := s.EnsureAccount(ctx, alice, ""); err != nil {
		t.Fatal(err)
	}
	n := 0
	err := s.scan(key0(keyMailbox), func(k, v []byte) error {
		n++
		s.kv.Apply([]engine.Op{{Key: []byte{keySubscribe, byte(n)}, Value: bytes.Clone(v)}})
		_, err := s.kv.Get(k)
		return err
	})
	if err != nil || n != len(firstMailboxes) {
		t.Fatal(n, err)
	}
}

// TestScanBatches scans more than one batch.
func TestScanBatches(t *testing.T) {
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	const many = 2*scanBatch + 7
	for i := range uint32(many) {
		s.kv.Apply([]engine.Op{{Key: keyOf(keyGarbage, i), Value: bytes.Repeat([]byte{byte(i)}, int(i%7)*100)}})
	}
	next := uint32(3)
	err := s.scanFrom(key0(keyGarbage), keyOf(keyGarbage, next), func(k, v []byte) error {
		if last32(k) != next || len(v) != int(next%7)*100 || len(v) > 0 && v[0] != byte(next) {
			t.Fatalf("%x, wanted %d", k, next)
		}
		next++
		return nil
	})
	if err != nil || next != many {
		t.Fatal(next, err)
	}
}

// TestCloseWhileWriting closes the store while much of the index is being written, and more is to be written at once.
// That is no failure.
func TestCloseWhileWriting(t *testing.T) {
	ctx := context.Background()
	ks, root := newKeys(t), t.TempDir()
	for i := range 8 {
		o := Options{Dir: filepath.Join(root, string(rune('a'+i))), Keys: ks, Fatal: func(err error) { t.Errorf("round %d: %v", i, err) }}
		s := mustOpen(t, o)
		ops := make([]engine.Op, 20_000)
		for n := range ops {
			ops[n] = engine.Op{Key: keyOf(keyGarbage, uint32(n)), Value: make([]byte, 100)}
		}
		s.kv.Apply(ops)
		s.writer.full <- struct{}{}
		for len(s.writer.full) > 0 { // until the writer has begun
			runtime.Gosched()
		}
		if err := s.EnsureAccount(ctx, alice, ""); err != nil {
			t.Fatal(err)
		}
		s.writer.full <- struct{}{}
		end := make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
					s.poke()
					runtime.Gosched()
				}
			}
		})
		err := s.Close()
		close(end)
		wg.Wait()
		if err != nil || s.Ready() != nil {
			t.Fatalf("round %d: %v, %v", i, err, s.Ready())
		}
	}
}

// TestUnqueueAtOnce takes queue items away as soon as they can be seen. What is left of their bodies must be right.
func TestUnqueueAtOnce(t *testing.T) {
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t)})
	defer func() { _ = s.Close() }()
	const rounds = 300
	end := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for done := 0; ; {
			ids, err := s.QueueList(ctx, 0, 10)
			if err != nil {
				t.Error(err)
				return
			}
			for _, id := range ids {
				if err := s.Unqueue(ctx, id); err != nil {
					t.Error(err)
					return
				}
				done++
			}
			select {
			case <-end:
				if len(ids) == 0 {
					return
				}
			default:
			}
		}
	})
	for range rounds {
		entries := make([]NewEntry, 50)
		for i := range entries {
			entries[i].Account = alice
		}
		b := body(testMessage("out", "leaving"), entries...)
		b.Queue = []QueueItem{{Data: []byte("state")}}
		if _, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}}); err != nil {
			t.Fatal(err)
		}
	}
	close(end)
	wg.Wait()
	r, err := s.Check(ctx, true)
	if err != nil || len(r.Problems) > 0 || r.Queue != 0 || r.Bodies != rounds {
		t.Errorf("%+v, %v", r, err)
	}
}
