package storage

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// QueueID names a queue item: unique in the store, never used again.
type QueueID uint64

// String is the ID as people see it.
func (id QueueID) String() string { return "Q" + strconv.FormatUint(uint64(id), 36) }

// ParseQueueID undoes String. The error is of kind mail.Invalid.
func ParseQueueID(s string) (QueueID, error) {
	if len(s) > 1 && s[0] == 'Q' {
		if n, err := strconv.ParseUint(s[1:], 36, 64); err == nil && QueueID(n).String() == s {
			return QueueID(n), nil
		}
	}
	return 0, mail.E(mail.Invalid, "that is not the name of a queue item", nil)
}

// QueueItem says that the body is to be sent to other servers.
type QueueItem struct {
	Data []byte    // what the queue must know; opaque to the store, sealed under the service slot
	Due  time.Time // when it is to be looked at next; kept to the millisecond
	Lane uint64    // items of one lane go the same way. It is not sealed: make it a keyed hash
	Held bool      // it is not due until it is released
}

// Queued is a queue item in the store.
type Queued struct {
	QueueItem
	ID   QueueID
	Size int64 // octets of the body
}

// QueueMark is the place of an item in the order in which items are due.
type QueueMark struct {
	Due  time.Time
	ID   QueueID
	Lane uint64
}

// queueRecord is a queue item in the index. The message key is sealed with its data, under the service slot and not
// under an account's key, so that queued mail can leave while the mail slot is sealed.
type queueRecord struct {
	body   uint64
	due    uint64 // Unix milliseconds
	lane   uint64
	held   bool
	sealed []byte
}

func (r queueRecord) encode() []byte {
	b := appendUint(make([]byte, 0, 32+len(r.sealed)), r.body)
	b = appendUint(b, r.due)
	b = binary.BigEndian.AppendUint64(b, r.lane)
	held := byte(0)
	if r.held {
		held = 1
	}
	return append(append(b, held), r.sealed...)
}

func decodeQueue(b []byte) (queueRecord, error) {
	d := decoder{b: b}
	r := queueRecord{body: d.uint(), due: d.uint()}
	if lane := d.take(8); lane != nil {
		r.lane = binary.BigEndian.Uint64(lane)
	}
	held := d.byte()
	if held > 1 {
		d.fail()
	}
	r.held = held == 1
	r.sealed = bytes.Clone(d.take(len(d.b)))
	return r, d.end()
}

func (r queueRecord) dueKey(id QueueID) []byte { return keyOfDue(r.due, id) }

// keyOfDue sorts by time and then by number.
func keyOfDue(due uint64, id QueueID) []byte {
	return binary.BigEndian.AppendUint64(keyOf64(keyQueueDue, due), uint64(id))
}

func millis(t time.Time) uint64 { return uint64(max(t.UnixMilli(), 0)) }

// queueKey is the name, in the Service slot, of the key that wraps queue items.
const queueKey = "store"

func queueAAD(store blob.StoreID, id QueueID, body uint64) []byte {
	b := append([]byte("cmmpd queue item 1 "), store[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(id))
	return binary.BigEndian.AppendUint64(b, body)
}

func (s *Store) sealQueueItem(ctx context.Context, id QueueID, body uint64, key []byte, item QueueItem) (queueRecord, error) {
	plain := append(append(make([]byte, 0, keySize+len(item.Data)), key...), item.Data...)
	sealed, err := s.o.Keys.Wrap(ctx, keys.Service, queueKey, plain, queueAAD(s.id, id, body))
	clear(plain)
	return queueRecord{body: body, due: millis(item.Due), lane: item.Lane, held: item.Held, sealed: sealed}, err
}

// openQueueItem returns the message key and the data.
func (s *Store) openQueueItem(ctx context.Context, id QueueID, r queueRecord) (key, data []byte, err error) {
	plain, err := s.o.Keys.Unwrap(ctx, keys.Service, queueKey, r.sealed, queueAAD(s.id, id, r.body))
	if err != nil {
		return nil, nil, err
	}
	if len(plain) < keySize {
		return nil, nil, errRecord
	}
	return plain[:keySize], plain[keySize:], nil
}

// newQueued is an item that is being delivered to the queue.
type newQueued struct {
	id     QueueID
	record queueRecord
}

// putQueued writes the record and its place in the order; a held item has no place there.
func (b *build) putQueued(id QueueID, r queueRecord) {
	b.put(keyOf64(keyQueue, uint64(id)), r.encode())
	if !r.held {
		b.put(r.dueKey(id), binary.BigEndian.AppendUint64(nil, r.lane))
	}
}

var errNotQueued = mail.E(mail.NotFound, "there is no such item in the queue", nil)

func (s *Store) queueRecord(id QueueID) (queueRecord, []byte, error) {
	v, err := s.kv.Get(keyOf64(keyQueue, uint64(id)))
	if err != nil {
		return queueRecord{}, nil, err
	}
	if v == nil {
		return queueRecord{}, nil, errNotQueued
	}
	r, err := decodeQueue(v)
	return r, v, err
}

// QueueDue is up to n items that are not held, in the order in which they are due, from those after the mark on. The
// zero mark is before all.
func (s *Store) QueueDue(_ context.Context, after QueueMark, n int) ([]QueueMark, error) {
	from := key0(keyQueueDue)
	if after.ID != 0 {
		from = append(keyOfDue(millis(after.Due), after.ID), 0)
	}
	var list []QueueMark
	var bad error
	err := s.kv.View(func(r engine.Reader) error {
		r.Scan(key0(keyQueueDue), from, func(k, v []byte) bool {
			if len(k) != 17 || len(v) != 8 {
				bad = errRecord
				return false
			}
			list = append(list, QueueMark{
				Due: time.UnixMilli(int64(binary.BigEndian.Uint64(k[1:]))), ID: QueueID(binary.BigEndian.Uint64(k[9:])),
				Lane: binary.BigEndian.Uint64(v),
			})
			return len(list) < n
		})
		return bad
	})
	return list, err
}

// QueueList is the IDs of up to n items, held ones too, in the order of acceptance, of those after the ID.
func (s *Store) QueueList(_ context.Context, after QueueID, n int) ([]QueueID, error) {
	var list []QueueID
	err := s.kv.View(func(r engine.Reader) error {
		r.Scan(key0(keyQueue), keyOf64(keyQueue, uint64(after)+1), func(k, _ []byte) bool {
			if len(k) == 9 {
				list = append(list, QueueID(binary.BigEndian.Uint64(k[1:])))
			}
			return len(list) < n
		})
		return nil
	})
	return list, err
}

// Queued is a queue item. The error is of kind mail.NotFound if there is none.
func (s *Store) Queued(ctx context.Context, id QueueID) (*Queued, error) {
	r, _, err := s.queueRecord(id)
	if err != nil {
		return nil, err
	}
	key, data, err := s.openQueueItem(ctx, id, r)
	clear(key)
	if err != nil {
		return nil, err
	}
	body, err := s.bodyRecord(r.body)
	if err != nil {
		return nil, err
	}
	return &Queued{ID: id, Size: body.plain, QueueItem: QueueItem{Data: data, Due: time.UnixMilli(int64(r.due)), Lane: r.lane, Held: r.held}}, nil
}

func (s *Store) bodyRecord(id uint64) (bodyRecord, error) {
	v, err := s.kv.Get(keyOf64(keyBody, id))
	if err != nil {
		return bodyRecord{}, err
	}
	if v == nil {
		return bodyRecord{}, errNotQueued
	}
	return decodeBody(v)
}

// QueueBody opens the message of a queue item for reading. The errors are those of Queued, and mail.Corrupt.
func (s *Store) QueueBody(ctx context.Context, id QueueID) (*Content, error) {
	r, _, err := s.queueRecord(id)
	if err != nil {
		return nil, err
	}
	var c *Content
	err = whereverItIs(func() error {
		e, err := s.queueEntry(ctx, id, r)
		if err == nil {
			c, err = s.content(e)
		}
		return err
	})
	return c, err
}

func (s *Store) queueEntry(ctx context.Context, id QueueID, r queueRecord) (*openedEntry, error) {
	body, err := s.bodyRecord(r.body)
	if err != nil {
		return nil, err
	}
	secret, _, err := s.openQueueItem(ctx, id, r)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	key, err := newMessageKey(secret, s.id, r.body)
	return &openedEntry{key: key, body: body}, err
}

// Requeue replaces what is kept of a queue item, durably. The error is of kind mail.NotFound if there is no such item,
// mail.Busy if somebody else changed it meanwhile.
func (s *Store) Requeue(ctx context.Context, id QueueID, item QueueItem) error {
	old, raw, err := s.queueRecord(id)
	if err != nil {
		return err
	}
	key, _, err := s.openQueueItem(ctx, id, old)
	if err != nil {
		return err
	}
	r, err := s.sealQueueItem(ctx, id, old.body, key, item)
	clear(key)
	if err != nil {
		return err
	}
	return s.commit(ctx, &commit{}, func(b *build) error {
		now, err := b.get(keyOf64(keyQueue, uint64(id)))
		switch {
		case err != nil:
			return err
		case now == nil:
			return errNotQueued
		case !bytes.Equal(now, raw):
			return mail.E(mail.Busy, "", errors.New("the queue item changed meanwhile"))
		}
		if !old.held {
			b.delete(old.dueKey(id))
		}
		b.putQueued(id, r)
		return nil
	})
}

// Unqueue takes an item out of the queue, durably, and with the last reference its body. The error is of kind
// mail.NotFound if there is no such item.
func (s *Store) Unqueue(ctx context.Context, id QueueID) error {
	return s.commit(ctx, &commit{}, func(b *build) error {
		key := keyOf64(keyQueue, uint64(id))
		v, err := b.get(key)
		if err != nil {
			return err
		}
		if v == nil {
			return errNotQueued
		}
		r, err := decodeQueue(v)
		if err != nil {
			return err
		}
		if !r.held {
			b.delete(r.dueKey(id))
		}
		b.delete(key)
		return b.unref(r.body, 1)
	})
}
