package storage

import (
	"context"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// Batch is some messages of a mailbox whose records were read together, which is cheaper than one by one. It shows them as they
// were when it was made. It belongs to one goroutine, and is of use only while the mailbox is open.
type Batch struct {
	m      *Mailbox
	items  []batchItem
	arena  []byte // the records
	sealed []byte // used again and again
}

type batchItem struct {
	msg              Msg
	there            bool
	secret, location []byte // in arena; nil if there is none
}

// Batch looks up messages by UID; open says that Summary or Envelope of them will be asked for. old, which may be nil, is used again.
func (m *Mailbox) Batch(old *Batch, uids []uint32, open bool) (*Batch, error) {
	b := old
	if b == nil {
		b = &Batch{}
	}
	b.m, b.items, b.arena = m, b.items[:0], b.arena[:0]
	x := m.m
	x.mu.RLock()
	at := -1
	for _, uid := range uids {
		if at < 0 || at >= len(x.msgs) || x.msgs[at].uid != uid {
			at = x.at(uid)
		}
		var it batchItem
		if at < len(x.msgs) && x.msgs[at].uid == uid {
			it.msg, it.there = x.msg(&x.msgs[at]), true
			at++ // mostly the next one is asked for next
		}
		b.items = append(b.items, it)
	}
	x.mu.RUnlock()
	if !open {
		return b, nil
	}
	m.noteRead()
	return b, x.store.kv.View(func(r engine.Reader) error {
		for i := range b.items {
			if it := &b.items[i]; it.there {
				it.secret = b.keep(r.Get(keyOf(keySecret, x.key.account, x.key.mailbox, it.msg.UID)))
				it.location = b.keep(r.Get(keyOf64(keyBody, uint64(it.msg.EmailID))))
			}
		}
		return nil
	})
}

// keep copies a record, which is nil if there is none.
func (b *Batch) keep(v []byte) []byte {
	if v == nil {
		return nil
	}
	if cap(b.arena)-len(b.arena) < len(v) {
		b.arena = make([]byte, 0, max(16<<10, len(v))) // what is in the old one stays there
	}
	n := len(b.arena)
	b.arena = append(b.arena, v...)
	return b.arena[n:len(b.arena):len(b.arena)]
}

// Msg is a message of the batch; ok is false if there is none with that UID.
func (b *Batch) Msg(i int) (msg Msg, ok bool) { return b.items[i].msg, b.items[i].there }

// open unwraps the key of a message.
func (b *Batch) open(i int) (*openedEntry, error) {
	it := &b.items[i]
	if it.secret == nil || it.location == nil {
		return nil, errGone
	}
	secret, err := decodeSecret(it.secret)
	if err != nil {
		return nil, err
	}
	return b.m.m.account.openEntry(secret, uint64(it.msg.EmailID), it.location)
}

// Summary is Mailbox.Summary of a message of the batch.
func (b *Batch) Summary(ctx context.Context, i int) (*Summary, error) {
	e, err := b.open(i)
	if err == nil {
		var s *Summary
		if s, err = b.m.m.store.readSummary(e); err == nil {
			return s, nil
		}
	}
	return b.m.Summary(ctx, b.items[i].msg.UID) // the body may lie elsewhere now
}

// Body is Mailbox.Body of a message of the batch.
func (b *Batch) Body(ctx context.Context, i int) (*Content, error) {
	if e, err := b.open(i); err == nil {
		if c, err := b.m.m.store.content(e); err == nil {
			return c, nil
		}
	}
	return b.m.Body(ctx, b.items[i].msg.UID)
}

// Envelope is the envelope in the summary of a message. The rest of the summary is not read.
func (b *Batch) Envelope(ctx context.Context, i int) (*message.Envelope, error) {
	if e, err := b.open(i); err == nil {
		if v, err := b.envelope(e); err == nil {
			return v, nil
		}
	}
	s, err := b.m.Summary(ctx, b.items[i].msg.UID)
	if err != nil {
		return nil, err
	}
	return s.Index.Root.Envelope, nil
}

func (b *Batch) envelope(e *openedEntry) (*message.Envelope, error) {
	if n := int(e.body.summary); cap(b.sealed) < n {
		b.sealed = make([]byte, n+n/4)
	}
	b.sealed = b.sealed[:e.body.summary]
	if err := b.m.m.store.log.Read(e.body.segment, e.body.offset, b.sealed); err != nil {
		return nil, damaged(err)
	}
	plain, err := e.key.open(b.sealed, domainSummary, 0)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	d := decoder{b: plain}
	if d.bytes(); d.bad {
		return nil, errRecord
	}
	v, err := message.DecodeEnvelope(d.b)
	if err != nil {
		err = mail.E(mail.Corrupt, "the message is damaged", err)
	}
	return v, err
}
