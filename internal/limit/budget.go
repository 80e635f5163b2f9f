// Package limit holds the bounds that several front ends share: bytes in memory,
// connections per address.
package limit

import (
	"context"

	"golang.org/x/sync/semaphore"

	"cmmpd/internal/mail"
)

// Budget bounds the bytes of messages that are in memory at a time. It is safe for
// concurrent use.
type Budget struct {
	total int64
	sem   *semaphore.Weighted
}

// NewBudget makes a budget of total bytes.
func NewBudget(total int64) *Budget {
	return &Budget{total: total, sem: semaphore.NewWeighted(total)}
}

// Acquire takes n bytes, waiting until they are free or ctx is done (Busy). More than
// the whole budget is TooLarge.
func (b *Budget) Acquire(ctx context.Context, n int64) error {
	if n > b.total {
		return mail.E(mail.TooLarge, "message too large", nil)
	}
	if err := b.sem.Acquire(ctx, n); err != nil {
		return mail.E(mail.Busy, "too many messages at once, try again later", err)
	}
	return nil
}

// TryAcquire takes n bytes if they are free and nobody waits for some.
func (b *Budget) TryAcquire(n int64) bool { return b.sem.TryAcquire(n) }

// Release gives n bytes back.
func (b *Budget) Release(n int64) { b.sem.Release(n) }
