package queue

import (
	"context"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// Listing is an item as an operator sees it: nothing of the message.
type Listing struct {
	Item       string             `json:"item"`
	ID         mail.ID            `json:"id"` // of the acceptance
	State      string             `json:"state"`
	Accepted   time.Time          `json:"accepted"`
	Due        time.Time          `json:"due"`
	Attempts   int                `json:"attempts"`
	Size       int64              `json:"size"`
	From       string             `json:"from"`
	Label      mail.Label         `json:"label"`
	Recipients []ListingRecipient `json:"recipients"`
	Problem    string             `json:"problem,omitempty"` // the item cannot be read
}

// ListingRecipient is a recipient and what happened last.
type ListingRecipient struct {
	Address string `json:"address"`
	State   string `json:"state"`
	Status  string `json:"status"`
	Text    string `json:"text"`
	Host    string `json:"host"`
	// Uncertain is how often the whole message went out and nothing certain came back: the server may have it.
	Uncertain int `json:"uncertain"`
}

// List shows the items to f, in the order of acceptance, until f returns an error.
func (q *Queue) List(ctx context.Context, f func(Listing) error) error {
	var after storage.QueueID
	for {
		ids, err := q.o.Store.QueueList(ctx, after, scanStep)
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, id := range ids {
			rec, err := q.o.Store.Queued(ctx, id)
			if mail.KindOf(err) == mail.NotFound && err != nil {
				continue // gone since
			}
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(q.listing(id, rec, err)); err != nil {
				return err
			}
		}
		after = ids[len(ids)-1]
	}
}

func (q *Queue) listing(id storage.QueueID, rec *storage.Queued, err error) Listing {
	l := Listing{Item: id.String(), State: "damaged", Recipients: []ListingRecipient{}}
	var it *item
	if err == nil {
		l.Due, l.Size = rec.Due.UTC(), rec.Size
		it, err = decodeItem(rec.Data)
	}
	if err != nil {
		l.Problem = err.Error()
		return l
	}
	q.mu.Lock()
	c := q.claims[id]
	q.mu.Unlock()
	switch {
	case rec.Held:
		l.State = "held"
	case c != nil && c.started:
		l.State = "active"
	default:
		l.State = "waiting"
	}
	l.ID, l.Accepted, l.Attempts, l.From, l.Label = it.ID, it.accepted().UTC(), it.Attempts, it.From, it.Label
	for _, r := range it.To {
		l.Recipients = append(l.Recipients, ListingRecipient{r.Address, string(r.State), r.Status, r.Text, r.Host, r.Uncertain})
	}
	return l
}

// Hold keeps the items back until they are released. An attempt that is under way is broken off.
func (q *Queue) Hold(ctx context.Context, id storage.QueueID) error {
	return q.change(ctx, id, func(rec *storage.Queued) { rec.Held = true })
}

// Release lets an item that is held go, at once.
func (q *Queue) Release(ctx context.Context, id storage.QueueID) error {
	return q.change(ctx, id, func(rec *storage.Queued) {
		rec.Held, rec.Due = false, q.o.Now()
		q.setUp(rec.Lane)
	})
}

// Retry has an item tried now instead of later. One that is held stays so.
func (q *Queue) Retry(ctx context.Context, id storage.QueueID) error {
	return q.change(ctx, id, func(rec *storage.Queued) {
		rec.Due = q.o.Now()
		q.setUp(rec.Lane)
	})
}

// Remove takes an item out of the queue. Its sender is not told.
func (q *Queue) Remove(ctx context.Context, id storage.QueueID) error {
	give, err := q.seize(ctx, id)
	if err != nil {
		return err
	}
	defer give()
	return q.o.Store.Unqueue(ctx, id)
}

func (q *Queue) change(ctx context.Context, id storage.QueueID, f func(*storage.Queued)) error {
	give, err := q.seize(ctx, id)
	if err != nil {
		return err
	}
	defer give()
	rec, err := q.o.Store.Queued(ctx, id)
	if err != nil {
		return err
	}
	f(rec)
	return q.o.Store.Requeue(ctx, id, rec.QueueItem)
}
