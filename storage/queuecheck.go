package storage

import (
	"context"
	"encoding/binary"
	"errors"
)

// queued checks a queue item.
func (c *checker) queued(k, v []byte) {
	c.report.Queue++
	r, err := decodeQueue(v)
	if err != nil || len(k) != 9 {
		c.problem("queue item %x: %v", k, err)
		return
	}
	id := QueueID(binary.BigEndian.Uint64(k[1:]))
	if uint64(id) > c.number(keyBodyTop) || id == 0 {
		c.problem("queue item %v: the number was not given out", id)
	}
	if _, ok := c.bodies[r.body]; !ok {
		c.problem("queue item %v: its body %d is missing", id, r.body)
	}
	c.refs[r.body]++
	c.queue[id] = r
	if due, err := c.store.kv.Get(r.dueKey(id)); err != nil || (due == nil) != r.held {
		c.problem("queue item %v is held %v, but has a place in the order %v (%v)", id, r.held, due != nil, err)
	}
}

// due checks a place in the order of the queue.
func (c *checker) due(k, v []byte) {
	if len(k) != 17 || len(v) != 8 {
		c.problem("key %x has a wrong length", k)
		return
	}
	id := QueueID(binary.BigEndian.Uint64(k[9:]))
	r, ok := c.queue[id]
	if !ok || r.held || r.due != binary.BigEndian.Uint64(k[1:]) || r.lane != binary.BigEndian.Uint64(v) {
		c.problem("queue item %v has a place in the order that is not its own", id)
	}
}

// deepQueue opens every queue item and its body.
func (c *checker) deepQueue(ctx context.Context, verified map[uint64]bool) error {
	for id := range c.queue {
		if err := ctx.Err(); err != nil {
			return err
		}
		r, _, err := c.store.queueRecord(id)
		if errors.Is(err, errNotQueued) {
			continue // gone since
		}
		if err == nil {
			err = whereverItIs(func() error { return c.openQueued(ctx, id, r) })
		}
		if err != nil && !errors.Is(err, errNotQueued) {
			c.problem("queue item %v: %v", id, err)
			continue
		}
		verified[r.body] = true
	}
	return nil
}

func (c *checker) openQueued(ctx context.Context, id QueueID, r queueRecord) error {
	e, err := c.store.queueEntry(ctx, id, r)
	if err != nil {
		return err
	}
	if err := c.store.log.Verify(e.body.segment, e.body.offset, e.body.total(), e.body.sum); err != nil {
		return err
	}
	summary, err := c.store.readSummary(e)
	if err != nil {
		return err
	}
	content, err := c.store.content(e)
	if err != nil {
		return err
	}
	return readThrough(content, summary.Header)
}
