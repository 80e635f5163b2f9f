package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/mail"
	"cmmpd/storage/engine"
)

// brokenIndex fails at one of its updates, in one of the ways of faultfs. That bbolt makes an update whole or not at all is
// what test/e2e cuts the power for.
type brokenIndex struct {
	engine.Engine
	at    int64
	mode  faultfs.Mode
	count atomic.Int64
}

func (b *brokenIndex) Update(f func(engine.Writer) error) error {
	if b.count.Add(1) != b.at {
		return b.Engine.Update(f)
	}
	switch b.mode {
	case faultfs.Done:
		return errors.Join(b.Engine.Update(f), syscall.EIO)
	case faultfs.Short:
		return fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	return syscall.EIO
}

// TestIndexFaults has each writing of the index fail. For want of space nothing stops, and it is written later; after any other
// error nothing is acknowledged any more, and the next opening finds everything that was.
func TestIndexFaults(t *testing.T) {
	ks := newKeys(t)
	const most = 4
	for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
		for at := int64(1); at <= most; at++ {
			t.Run(fmt.Sprint(mode, at), func(t *testing.T) {
				broken := &brokenIndex{at: at, mode: mode}
				stopped := make(chan error, 1)
				o := faultOptions(filepath.Join(t.TempDir(), "store"), ks, faultfs.New())
				o.Fatal = func(err error) { stopped <- err }
				o.index = func(e engine.Engine) engine.Engine {
					broken.Engine = e
					return broken
				}
				s := mustOpen(t, o)
				p := &promise{data: make(map[string][]byte), maybe: make(map[string]bool), gone: make(map[string]bool)}
				down := false
				for i := range 2 * most {
					subject := fmt.Sprint("n", i)
					data := testMessage(subject, "x")
					p.maybe[subject] = true
					_, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(data, NewEntry{Account: alice}, NewEntry{Account: bob})}})
					if (err != nil) != down {
						t.Fatalf("delivery %d: %v", i, err)
					}
					if err == nil {
						p.data[subject] = data
					}
					err = s.writer.flush(context.Background())
					switch {
					case broken.count.Load() != at || i > int(at):
					case mode == faultfs.Short && mail.KindOf(err) != mail.Full, err == nil:
						t.Fatalf("the index was written: %v", err)
					case mode != faultfs.Short && !down: // what is taken until it stops is durable all the same
						if <-stopped; s.Ready() == nil {
							t.Fatal("the store goes on")
						}
						down = true
					}
				}
				if mode == faultfs.Short {
					if err := s.Ready(); err != nil || s.kv.Pending() != 0 {
						t.Fatalf("%v; %d octets wait for the index", err, s.kv.Pending())
					}
					checkClean(t, s)
				} else if !down {
					t.Fatal("the store goes on")
				}
				_ = s.Close() // fails if it has stopped
				o.index, o.Fatal = nil, nil
				s = mustOpen(t, o)
				defer func() { _ = s.Close() }()
				p.verify(t, s)
			})
		}
	}
}

// TestIndexNotRetried: after a failed writing of the index nothing more is written to it: what of it is on the disk is not known.
func TestIndexNotRetried(t *testing.T) {
	broken := &brokenIndex{at: 1, mode: faultfs.Lost}
	stopped := make(chan error, 1)
	o := faultOptions(filepath.Join(t.TempDir(), "store"), newKeys(t), faultfs.New())
	o.Fatal = func(err error) { stopped <- err }
	o.index = func(e engine.Engine) engine.Engine {
		broken.Engine = e
		return broken
	}
	s := mustOpen(t, o)
	if _, err := s.Deliver(context.Background(), Delivery{Bodies: []Body{body(testMessage("one", "x"), NewEntry{Account: alice})}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := s.writer.flush(context.Background()); err == nil {
			t.Error("the index was written")
		}
	}
	<-stopped
	_ = s.Close()
	if n := broken.count.Load(); n != 1 {
		t.Errorf("the index was written %d times", n)
	}
}

// fullIndex has no space.
type fullIndex struct {
	engine.Engine
	full  atomic.Bool
	count atomic.Int64
}

func (f *fullIndex) Update(u func(engine.Writer) error) error {
	if !f.full.Load() {
		return f.Engine.Update(u)
	}
	f.count.Add(1)
	return fmt.Errorf("write: %w", syscall.ENOSPC)
}

// TestMuchBehind: a store that was killed with as much in memory as may be, on a disk without space for the index, opens without trying again with
// each record, refuses mail, and takes it when there is room.
func TestMuchBehind(t *testing.T) {
	ctx := context.Background()
	index := &fullIndex{}
	index.full.Store(true)
	o := Options{
		Dir: filepath.Join(t.TempDir(), "store"), Keys: newKeys(t), Reserve: -1, HouseEvery: -1,
		index: func(e engine.Engine) engine.Engine {
			index.Engine = e
			return index
		},
	}
	s := mustOpen(t, o)
	put := func() error {
		b := body(testMessage("one", "x"))
		b.Queue = []QueueItem{{Data: make([]byte, 1<<20), Due: time.Unix(1, 0)}}
		_, err := s.Deliver(ctx, Delivery{Bodies: []Body{b}})
		return err
	}
	for n := 0; s.kv.Pending() <= maxPending; n++ {
		if err := put(); err != nil {
			t.Fatal(n, err)
		}
	}
	_ = s.Close() // it has no space either
	index.count.Store(0)
	s = mustOpen(t, o)
	defer func() { _ = s.Close() }()
	if n := index.count.Load(); n > 3 {
		t.Errorf("the index was tried %d times", n)
	}
	if s.kv.Pending() <= maxPending {
		t.Fatalf("only %d octets are not in the index", s.kv.Pending())
	}
	if err := put(); mail.KindOf(err) != mail.Full {
		t.Errorf("a delivery without space: %v", err)
	}
	index.full.Store(false)
	if err := s.writer.flush(ctx); err != nil {
		t.Fatal(err)
	}
	if err := put(); err != nil {
		t.Error(err)
	}
	checkClean(t, s)
}
