package directory

import (
	"sync"
	"time"
)

// cache remembers answers, empty ones too, for a short time. Its memory is bounded.
type cache struct {
	ttl time.Duration
	max int
	now func() time.Time

	mu         sync.Mutex // guards what follows
	generation uint64     // counts drops: an answer to an older question is not kept
	answers    map[string]answer
}

type answer struct {
	entries []Entry
	until   time.Time
}

func (c *cache) get(key string) (entries []Entry, ok bool, generation uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.answers[key]
	return a.entries, ok && c.now().Before(a.until), c.generation
}

func (c *cache) put(key string, entries []Entry, generation uint64) {
	if c.ttl < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	if len(c.answers) >= c.max {
		c.sweep()
	}
	if c.answers == nil {
		c.answers = map[string]answer{}
	}
	c.answers[key] = answer{entries, c.now().Add(c.ttl)}
}

// sweep makes room: what is over goes, and if that is not half, everything.
func (c *cache) sweep() {
	now := c.now()
	for k, a := range c.answers {
		if !now.Before(a.until) {
			delete(c.answers, k)
		}
	}
	if len(c.answers) > c.max/2 {
		clear(c.answers)
	}
}

func (c *cache) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	clear(c.answers)
}
