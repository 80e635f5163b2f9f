package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// While there is work, garbage may take heapRoom, or as much as what is in use if that is more, before it is collected:
// what is in use is little, and Go's own rule (as much again) would have it looked through a dozen times a second. When
// there is no more work, the memory is given back.
const (
	heapRoom  = 48 << 20
	heapRule  = 100             // percent: Go's own rule
	heapMost  = 1600            // percent
	heapLook  = 2 * time.Second // how often it is asked whether there is work
	heapQuiet = 2 << 20         // octets made in that time; less is no work
	heapAgain = 30              // looks without work after which memory is given back once more: what is kept for a while is unused now
	heapOften = time.Second     // collections that follow each other more quickly mean work
)

// heap keeps the garbage collector to that. Its fields belong to the goroutine of run.
type heap struct {
	percent   int
	busy      bool
	quiet     int           // looks without work, at most heapAgain + 1
	made      uint64        // octets since the start, when last looked
	last      time.Time     // of the last collection
	collected chan struct{} // after each collection
	release   func()        // gives back what is not the collector's
}

// keepHeap does so until ctx is done, unless the environment says how the collector shall be. release gives back
// memory that is not the collector's.
func keepHeap(ctx context.Context, release func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	h := &heap{percent: heapRule, collected: make(chan struct{}, 1), release: release}
	go h.run(ctx)
}

func (h *heap) run(ctx context.Context) {
	look := time.NewTicker(heapLook)
	defer look.Stop()
	defer debug.SetGCPercent(heapRule)
	h.arm()
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.collected:
			h.arm()
			now := time.Now()
			h.busy = h.busy || now.Sub(h.last) < heapOften
			h.last = now
			h.adjust()
		case <-look.C:
			h.look()
		}
	}
}

// arm has the next collection noticed: it finds something that nobody uses.
func (h *heap) arm() {
	runtime.AddCleanup(new([32]byte), func(c chan<- struct{}) {
		select {
		case c <- struct{}{}:
		default:
		}
	}, h.collected)
}

// look finds out whether there is work. When it has ended, memory is given back, and once more later.
func (h *heap) look() {
	made := measure("/gc/heap/allocs:bytes")
	h.busy = made-h.made >= heapQuiet
	h.made = made
	if h.quiet = min(h.quiet+1, heapAgain+1); h.busy {
		h.quiet = 0
	}
	h.adjust()
	if h.quiet == 1 || h.quiet == heapAgain {
		h.release()
		runtime.GC() // what lies in pools goes with the second collection only
		debug.FreeOSMemory()
	}
}

// adjust sets the collector after what is in use now.
func (h *heap) adjust() {
	want := heapRule
	if h.busy {
		want = heapPercent(measure("/gc/heap/live:bytes"))
	}
	if 4*want > 5*h.percent || 5*want < 4*h.percent || want == heapRule && want != h.percent {
		h.percent = want
		debug.SetGCPercent(want)
	}
}

// heapPercent is how much garbage there may be for so many octets in use.
func heapPercent(live uint64) int {
	return int(min(max(heapRoom*100/max(live, 1), heapRule), heapMost))
}

func measure(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}
