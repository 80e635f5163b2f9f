package storage

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

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
