package storage

import (
	"bytes"
	"context"
	"encoding/binary"

	"cmmpd/internal/message"
	"cmmpd/storage/engine"
)

// Batch is some messages of a mailbox whose records were read together, which is cheaper than one by one. It shows them as they
// were when it was made. It belongs to one goroutine, and is of use only while the mailbox is open.
type Batch struct {
	m     *Mailbox
	items []batchItem
	arena []byte // the records
	plain []byte // the summaries
}

type batchItem struct {
	msg              Msg
	there            bool
	loaded           bool
	secret, location []byte // in arena; nil if there is none
	summary          summary
}

// Batch looks up messages by UID; open says that something of their summaries or bodies will be asked for. old, which may be nil, is used again.
func (m *Mailbox) Batch(old *Batch, uids []uint32, open bool) (*Batch, error) {
	b := old
	if b == nil {
		b = &Batch{}
	}
	clear(b.plain)
	b.m, b.items, b.arena, b.plain = m, b.items[:0], b.arena[:0], b.plain[:0]
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
		b.look(r, keyOf(keySecret, x.key.account, x.key.mailbox),
			func(k []byte, it *batchItem) []byte { return binary.BigEndian.AppendUint32(k, it.msg.UID) },
			func(it *batchItem) uint64 { return uint64(it.msg.UID) },
			func(it *batchItem, v []byte) { it.secret = b.keep(v) })
		b.look(r, key0(keyBody),
			func(k []byte, it *batchItem) []byte { return binary.BigEndian.AppendUint64(k, uint64(it.msg.EmailID)) },
			func(it *batchItem) uint64 { return uint64(it.msg.EmailID) },
			func(it *batchItem, v []byte) { it.location = b.keep(v) })
		return nil
	})
}

// look reads one record for each message. Where their keys, a prefix and a number, follow each other closely they are read in one go.
func (b *Batch) look(r engine.Reader, prefix []byte, key func([]byte, *batchItem) []byte, number func(*batchItem) uint64, found func(*batchItem, []byte)) {
	var first, last *batchItem
	n, ascending := uint64(0), true
	for i := range b.items {
		it := &b.items[i]
		if !it.there {
			continue
		}
		if first == nil {
			first = it
		} else if number(it) < number(last) {
			ascending = false
		}
		last = it
		n++
	}
	if n == 0 {
		return
	}
	if !ascending || number(last)-number(first) > 4*n {
		for i := range b.items {
			if it := &b.items[i]; it.there {
				found(it, r.Get(key(prefix[:len(prefix):len(prefix)], it)))
			}
		}
		return
	}
	i := 0
	wanted := func() *batchItem {
		for ; i < len(b.items); i++ {
			if b.items[i].there {
				return &b.items[i]
			}
		}
		return nil
	}
	want := make([]byte, 0, 16)
	r.Scan(prefix, key(append(want, prefix...), first), func(k, v []byte) bool {
		for it := wanted(); it != nil; it = wanted() {
			c := bytes.Compare(key(append(want, prefix...), it), k)
			if c > 0 {
				return true
			}
			if c == 0 {
				found(it, v)
			}
			i++
		}
		return false
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

// Load reads and opens the summaries, which AppendEnvelope and AppendStructure would otherwise do one by one. What cannot be read now they try
// again.
func (b *Batch) Load() {
	for i := range b.items {
		if len(b.plain) > maxLoad {
			return
		}
		if b.items[i].there {
			_ = b.load(i) // whoever asks for it is told
		}
	}
}

// maxLoad is about how many octets of summaries are in memory for a batch.
const maxLoad = 1 << 20

// load opens a summary.
func (b *Batch) load(i int) error {
	it := &b.items[i]
	if it.loaded {
		return nil
	}
	e, err := b.open(i)
	if err != nil {
		return err
	}
	n := int(e.body.summary)
	if cap(b.plain)-len(b.plain) < n {
		b.plain = make([]byte, 0, max(len(b.items)<<10, 2*n)) // what is in the old one stays there
	}
	sealed := b.plain[len(b.plain) : len(b.plain)+n]
	if err := b.m.m.store.log.Read(e.body.segment, e.body.offset, sealed); err != nil {
		return damaged(err)
	}
	plain, err := e.key.open(sealed, domainSummary, 0)
	if err != nil {
		return err
	}
	if it.summary, err = decodeSummary(plain); err != nil {
		return err
	}
	it.loaded, b.plain = true, b.plain[:len(b.plain)+n]
	return nil
}

// AppendEnvelope appends the ENVELOPE of a message as IMAP sends it.
func (b *Batch) AppendEnvelope(ctx context.Context, dst []byte, i int) ([]byte, error) {
	if b.load(i) == nil {
		if dst, err := b.items[i].summary.appendEnvelope(dst); err == nil {
			return dst, nil
		}
	}
	s, err := b.m.Summary(ctx, b.items[i].msg.UID)
	if err != nil {
		return dst, err
	}
	return message.AppendEnvelope(dst, s.Index.Root.Envelope), nil
}

// AppendStructure appends the BODYSTRUCTURE of a message as IMAP sends it.
func (b *Batch) AppendStructure(ctx context.Context, dst []byte, i int) ([]byte, error) {
	if b.load(i) == nil && len(b.items[i].summary.structure) > 0 {
		return append(dst, b.items[i].summary.structure...), nil
	}
	s, err := b.Summary(ctx, i)
	if err != nil {
		return dst, err
	}
	return s.AppendStructure(dst), nil
}
