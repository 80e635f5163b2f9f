package storage

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"

	"cmmpd/internal/mail"
)

// What else the model knows: subscriptions, the queue, a clock that goes where it likes, and what is asked for since
// some moment in the past.

// modelQueued is a queue item in the model.
type modelQueued struct {
	item QueueItem
	data string // of the body
}

// moveClock sets the clock to some time, mostly one that has been.
func (m *machine) moveClock() {
	m.now.Store(1_700_000_000 + rapid.Int64Range(-1000, 1000).Draw(m.t, "time"))
}

// born notes a mailbox's UIDVALIDITY, which no mailbox of the account may ever have had.
func (m *machine) born(id mail.AccountID, name string, x *modelMailbox) {
	validity := m.mailbox(id, name).UIDValidity()
	if x.validity == 0 {
		if m.validities[id] == nil {
			m.validities[id] = make(map[uint32]bool)
		}
		if m.validities[id][validity] {
			m.t.Fatalf("%s: UIDVALIDITY %d is used again", name, validity)
		}
		m.validities[id][validity], x.validity = true, validity
	}
	if x.validity != validity {
		m.t.Fatalf("%s: UIDVALIDITY %d has become %d", name, x.validity, validity)
	}
}

// stopCopy begins a copy of many messages and goes no further, as when the process is killed. Nothing of it may ever be seen.
func (m *machine) stopCopy() {
	id, name, x := m.pick()
	if len(x.msgs) < 3 {
		return
	}
	dest := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model[id]))).Draw(m.t, "destination")
	from := m.mailbox(id, name).m
	a := from.account
	e, err := a.sealing(context.Background(), maxKeywords)
	m.fail(err)
	defer e.done()
	a.mu.Lock()
	defer a.mu.Unlock()
	to, _, err := a.lookup(dest)
	m.fail(err)
	m.fail(m.s.takeBack(context.Background(), to))
	c := &manyCopies{from: from, epoch: e, to: to}
	m.fail(m.s.commit(context.Background(), &commit{}, func(b *build) error {
		return c.some(b, []uint32{x.msgs[0].uid, x.msgs[1].uid}, len(x.msgs))
	}))
	m.s.skip(to, c.last)
	m.lazy = false
}

func (m *machine) subscribe() {
	id, _, _ := m.pick()
	name, on := rapid.SampledFrom(someNames).Draw(m.t, "name"), rapid.Bool().Draw(m.t, "on")
	m.fail(m.account(id).Subscribe(context.Background(), name, on))
	if m.subscribed[id][name] != on {
		m.lazy = false
	}
	m.subscribed[id][name] = on
}

// compareSubscriptions looks at what List says of them, and of names that exist only as such.
func (m *machine) compareSubscriptions(id mail.AccountID, list []MailboxInfo) {
	for _, info := range list {
		if info.Subscribed != m.subscribed[id][info.Name] {
			m.t.Fatalf("%s: subscribed %v", info.Name, info.Subscribed)
		}
	}
	for name, on := range m.subscribed[id] {
		if on && !slices.ContainsFunc(list, func(info MailboxInfo) bool { return info.Name == name }) {
			m.t.Fatalf("%s is subscribed to and not in the list", name)
		}
	}
}

func (m *machine) drawItem() QueueItem {
	m.n++
	return QueueItem{
		Data: fmt.Append(nil, "item ", m.n), Due: time.UnixMilli(rapid.Int64Range(1, 9).Draw(m.t, "due")),
		Lane: rapid.Uint64Range(0, 3).Draw(m.t, "lane"), Held: rapid.Bool().Draw(m.t, "held"),
	}
}

// enqueue delivers a message that leaves on one or two ways, and perhaps stays here, too.
func (m *machine) enqueue() {
	data := m.message()
	b := body(data)
	if rapid.Bool().Draw(m.t, "here") {
		b = body(data, NewEntry{Account: alice})
	}
	for range rapid.IntRange(1, 2).Draw(m.t, "ways") {
		b.Queue = append(b.Queue, m.drawItem())
	}
	before, err := m.s.QueueList(context.Background(), 0, 1000)
	m.fail(err)
	placed, err := m.s.Deliver(context.Background(), Delivery{Bodies: []Body{b}})
	m.fail(err)
	m.lazy = false
	for _, p := range placed {
		m.exists(alice)
		m.added(m.model[alice][Inbox], p.UID, flagMap(nil), string(data), p.EmailID)
	}
	after, err := m.s.QueueList(context.Background(), 0, 1000)
	m.fail(err)
	fresh := after[len(before):]
	if len(fresh) != len(b.Queue) || !slices.Equal(after[:len(before)], before) {
		m.t.Fatalf("the queue was %v and is %v", before, after)
	}
	for i, id := range fresh {
		if id <= m.lastQueued {
			m.t.Fatalf("%v is used again", id)
		}
		m.lastQueued = id
		m.queue[id] = &modelQueued{b.Queue[i], string(data)}
	}
}

func (m *machine) requeueOrUnqueue() {
	if len(m.queue) == 0 {
		return
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.queue))).Draw(m.t, "item")
	m.lazy = false
	if rapid.Bool().Draw(m.t, "out") {
		m.fail(m.s.Unqueue(context.Background(), id))
		delete(m.queue, id)
		if err := m.s.Unqueue(context.Background(), id); mail.KindOf(err) != mail.NotFound {
			m.t.Fatalf("%v was taken out twice: %v", id, err)
		}
		return
	}
	m.queue[id].item = m.drawItem()
	m.fail(m.s.Requeue(context.Background(), id, m.queue[id].item))
}

// compareQueue looks at every item, at the order in which they are due and at one body.
func (m *machine) compareQueue() {
	ctx := context.Background()
	ids, err := m.s.QueueList(ctx, 0, 1000)
	m.fail(err)
	if !slices.Equal(ids, slices.Sorted(maps.Keys(m.queue))) {
		m.t.Fatalf("queue %v, want %v", ids, m.queue)
	}
	var want []QueueMark
	for id, q := range m.queue {
		got, err := m.s.Queued(ctx, id)
		m.fail(err)
		if string(got.Data) != string(q.item.Data) || !got.Due.Equal(q.item.Due) || got.Lane != q.item.Lane || got.Held != q.item.Held || got.Size != int64(len(q.data)) {
			m.t.Fatalf("%v: %+v, want %+v", id, got, q.item)
		}
		if !q.item.Held {
			want = append(want, QueueMark{Due: q.item.Due, ID: id, Lane: q.item.Lane})
		}
	}
	slices.SortFunc(want, func(a, b QueueMark) int {
		if c := a.Due.Compare(b.Due); c != 0 {
			return c
		}
		return int(a.ID) - int(b.ID)
	})
	due, err := m.s.QueueDue(ctx, QueueMark{}, 1000)
	m.fail(err)
	if !slices.Equal(due, want) {
		m.t.Fatalf("due %v, want %v", due, want)
	}
	if len(ids) > 0 {
		id := ids[m.n%len(ids)]
		content, err := m.s.QueueBody(ctx, id)
		m.fail(err)
		got := make([]byte, content.Size())
		if _, err := content.ReadAt(got, 0); err != nil || string(got) != m.queue[id].data {
			m.t.Fatalf("%v has another body (%v)", id, err)
		}
	}
}

// comparePast asks for the changes since some moment that was looked at before.
func (m *machine) comparePast(box *Mailbox, x *modelMailbox) {
	x.seen = append(x.seen, x.modSeq)
	since := x.seen[m.n%len(x.seen)]
	c, err := box.Changes(since)
	m.fail(err)
	var changed, want []uint32
	for _, msg := range c.Changed {
		changed = append(changed, msg.UID)
	}
	for _, msg := range x.msgs {
		if msg.modSeq > since {
			want = append(want, msg.uid)
		}
	}
	var vanished imap.UIDSet
	for uid, at := range x.gone {
		if at > since {
			vanished.AddNum(imap.UID(uid))
		}
	}
	if !slices.Equal(changed, want) || c.Vanished.String() != vanished.String() || c.HighestModSeq != max(x.modSeq, 1) {
		m.t.Fatalf("%s since %d of %d: changed %v, want %v; vanished %v, want %v", box.Name(), since, c.HighestModSeq, changed, want, c.Vanished, vanished)
	}
}

// compareUIDs looks at the list that sessions share, and sees that lists given out before have not changed.
func (m *machine) compareUIDs(box *Mailbox, x *modelMailbox) {
	uids, unseen, _ := box.UIDs()
	var want []uint32
	first := -1
	for i, msg := range x.msgs {
		want = append(want, msg.uid)
		if first < 0 && !msg.flags[`\seen`] {
			first = i
		}
	}
	if !slices.Equal(uids, want) || unseen != first {
		m.t.Fatalf("%s: UIDs %v, first unseen %d; want %v, %d", box.Name(), uids, unseen, want, first)
	}
	if !slices.Equal(x.shared, x.copied) {
		m.t.Fatalf("%s: a list of UIDs has changed from %v to %v", box.Name(), x.copied, x.shared)
	}
	x.shared, x.copied = uids, slices.Clone(uids)
}
