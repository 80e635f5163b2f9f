package server

import (
	"sync"
	"time"
)

// rates is a bucket of searches for each bound user: a minute's worth at most, filled
// steadily. Full buckets are forgotten.
type rates struct {
	limit int // a minute
	now   func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
	swept   time.Time
}

type bucket struct {
	left float64
	at   time.Time
}

// allow takes one search out of the user's bucket.
func (r *rates) allow(user string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if r.buckets == nil {
		r.buckets = map[string]*bucket{}
	}
	if now.Sub(r.swept) > time.Minute {
		for u, b := range r.buckets {
			if now.Sub(b.at) > time.Minute {
				delete(r.buckets, u)
			}
		}
		r.swept = now
	}
	b := r.buckets[user]
	if b == nil {
		b = &bucket{left: float64(r.limit), at: now}
		r.buckets[user] = b
	}
	b.left = min(float64(r.limit), b.left+now.Sub(b.at).Minutes()*float64(r.limit))
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
