package storage

import "sync"

// spoilt is the segments in which something damaged was found since the store was opened, by whoever read them: a scrub, a backup, a
// compaction. Compact makes them whole.
type spoilt struct {
	mu       sync.Mutex
	segments map[uint32]bool
}

func (x *spoilt) add(segment uint32) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.segments == nil {
		x.segments = make(map[uint32]bool)
	}
	x.segments[segment] = true
}

// take returns them and forgets them.
func (x *spoilt) take() map[uint32]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	segments := x.segments
	x.segments = nil
	return segments
}
