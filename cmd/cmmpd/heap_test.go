package main

import (
	"runtime/debug"
	"testing"
)

func TestHeapPercent(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{
		{0, heapMost},
		{1 << 20, heapMost},
		{6 << 20, 800},
		{24 << 20, 200},
		{48 << 20, heapRule},
		{1 << 30, heapRule}, // no more room than Go's own rule gives
	} {
		if got := heapPercent(c.live); got != c.want {
			t.Errorf("%d MiB in use: %d, want %d", c.live>>20, got, c.want)
		}
	}
}

// TestHeap: while there is work the collector has more room, afterwards no more than Go's own rule.
func TestHeap(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(heapRule))
	released := 0
	h := &heap{percent: heapRule, collected: make(chan struct{}, 1), release: func() { released++ }}
	h.look() // what was made before
	released = 0
	kept := make([][]byte, 0, heapQuiet>>20+1)
	for range cap(kept) {
		kept = append(kept, make([]byte, 1<<20))
	}
	h.look()
	if !h.busy || h.percent <= heapRule {
		t.Errorf("after %d MiB: busy %v, %d percent", len(kept), h.busy, h.percent)
	}
	h.look()
	if h.busy || h.percent != heapRule {
		t.Errorf("after no work: busy %v, %d percent", h.busy, h.percent)
	}
	if h.look(); released != 1 {
		t.Errorf("memory is given back %d times", released)
	}
	for range 2 * heapAgain {
		h.look()
	}
	if released != 2 {
		t.Errorf("memory is given back %d times in all", released)
	}
	if set := debug.SetGCPercent(heapRule); set != heapRule {
		t.Errorf("the collector is left at %d percent", set)
	}
}
