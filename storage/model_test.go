package storage

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"pgregory.net/rapid"

	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// The model: what a mailbox store is when nothing about it is fast or durable.
type modelMessage struct {
	uid    uint32
	modSeq uint64
	flags  map[string]bool // lower case
	served string
	email  ObjectID
	saved  int64 // of a deleted message: when it was deleted
}

type modelMailbox struct {
	msgs    []*modelMessage
	uidNext uint32
	modSeq  uint64            // the highest
	gone    map[uint32]uint64 // UID to mod-sequence
	drafts  bool              // what is deleted from it is gone

	validity uint32
	seen     []uint64 // mod-sequences at which it was looked at

	shared, copied []uint32 // UIDs as they were given, and as they were then
}

type modelAccount map[string]*modelMailbox

// machine runs random operations on a store and on the model.
type machine struct {
	t           *rapid.T
	tb          testing.TB
	fsys        *faultfs.FS
	o           Options
	s           *Store
	model       map[mail.AccountID]modelAccount
	open        map[mail.AccountID]*Account
	boxes       map[mail.AccountID]map[string]*Mailbox // some stay open
	n           int
	lazy        bool // flags were changed since the last durable act
	departments map[mail.AccountID]string
	kept        map[mail.AccountID]*modelMailbox // deleted messages
	now         atomic.Int64                     // Unix seconds: the clock

	validities map[mail.AccountID]map[uint32]bool // that were ever given
	subscribed map[mail.AccountID]map[string]bool
	queue      map[QueueID]*modelQueued
	lastQueued QueueID
}

var modelIDs = []mail.AccountID{alice, bob}

func (m *machine) fail(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) account(id mail.AccountID) *Account {
	if m.open[id] == nil {
		a, err := m.s.OpenAccount(context.Background(), id)
		m.fail(err)
		m.open[id] = a
	}
	return m.open[id]
}

func (m *machine) mailbox(id mail.AccountID, name string) *Mailbox {
	if x := m.boxes[id][name]; x != nil {
		return x
	}
	x, err := m.account(id).Open(context.Background(), name)
	m.fail(err)
	if m.boxes[id] == nil {
		m.boxes[id] = make(map[string]*Mailbox)
	}
	m.boxes[id][name] = x
	return x
}

func (m *machine) closeHandles() {
	for _, boxes := range m.boxes {
		for _, x := range boxes {
			x.Close()
		}
	}
	for _, a := range m.open {
		m.fail(a.Close())
	}
	m.boxes, m.open = make(map[mail.AccountID]map[string]*Mailbox), make(map[mail.AccountID]*Account)
}

func (m *machine) pick() (mail.AccountID, string, *modelMailbox) {
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model))).Draw(m.t, "account")
	name := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model[id]))).Draw(m.t, "mailbox")
	return id, name, m.model[id][name]
}

// exists is for an act that makes the account if it is not there.
func (m *machine) exists(id mail.AccountID) {
	if m.model[id] != nil {
		return
	}
	m.model[id], m.subscribed[id] = make(modelAccount), make(map[string]bool)
	for _, f := range firstMailboxes {
		m.model[id][f.name], m.subscribed[id][f.name] = newModelMailbox(), true
		m.model[id][f.name].drafts = f.name == "Drafts"
	}
}

func newModelMailbox() *modelMailbox {
	return &modelMailbox{uidNext: 1, gone: make(map[uint32]uint64)}
}

func flagMap(flags []string) map[string]bool {
	f := make(map[string]bool)
	for _, name := range flags {
		f[strings.ToLower(name)] = true
	}
	return f
}

var someFlags = []string{`\Seen`, `\Deleted`, `\Flagged`, `\answered`, "$Work", "TODO", "todo", "$Forwarded"}

func (m *machine) drawFlags() []string {
	return rapid.SliceOfN(rapid.SampledFrom(someFlags), 0, 3).Draw(m.t, "flags")
}

func (m *machine) message() []byte {
	m.n++
	size := rapid.SampledFrom([]int{0, 10, 3000, 70_000}).Draw(m.t, "size")
	return testMessage(fmt.Sprint("m", m.n), strings.Repeat("x", size))
}

func (m *machine) deliver() {
	data, prefix, flags := m.message(), "", m.drawFlags()
	if rapid.Bool().Draw(m.t, "prefix") {
		prefix = "Delivered-To: somebody\r\n"
	}
	ids := rapid.SliceOfNDistinct(rapid.SampledFrom(modelIDs), 1, 2, rapid.ID).Draw(m.t, "to")
	var entries []NewEntry
	for _, id := range ids {
		entries = append(entries, NewEntry{Account: id, Prefix: []byte(prefix), Flags: flags})
	}
	placed, err := m.s.Deliver(context.Background(), Delivery{Bodies: []Body{body(data, entries...)}})
	m.fail(err)
	m.lazy = false
	for i, id := range ids {
		m.exists(id)
		m.added(m.model[id][Inbox], placed[i].UID, flagMap(flags), prefix+string(data), placed[i].EmailID)
	}
}

func (m *machine) added(x *modelMailbox, uid uint32, flags map[string]bool, served string, email ObjectID) {
	if uid < x.uidNext {
		m.t.Fatalf("UID %d was given, the next was %d", uid, x.uidNext)
	}
	x.uidNext = uid + 1
	x.msgs = append(x.msgs, &modelMessage{uid: uid, flags: flags, served: served, email: email})
}

func (m *machine) appendMessages() {
	id, name, x := m.pick()
	var list []Append
	flags := m.drawFlags()
	for range rapid.IntRange(1, 3).Draw(m.t, "messages") {
		data := m.message()
		list = append(list, Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: flags})
	}
	placed, err := m.account(id).Append(context.Background(), name, list)
	m.fail(err)
	m.lazy = false
	for i, p := range placed {
		m.added(x, p.UID, flagMap(flags), string(list[i].Data), p.EmailID)
	}
}

func (m *machine) uids(x *modelMailbox) imap.UIDSet {
	var set imap.UIDSet
	for range rapid.IntRange(1, 3).Draw(m.t, "ranges") {
		from := rapid.Uint32Range(1, x.uidNext).Draw(m.t, "from")
		set.AddRange(imap.UID(from), imap.UID(rapid.Uint32Range(from, x.uidNext+2).Draw(m.t, "to")))
	}
	return set
}

func (m *machine) storeFlags() {
	id, name, x := m.pick()
	set, op, flags := m.uids(x), FlagOp(rapid.IntRange(0, 2).Draw(m.t, "op")), m.drawFlags()
	since := uint64(0)
	if rapid.Bool().Draw(m.t, "conditional") && x.modSeq > 1 {
		since = rapid.Uint64Range(1, x.modSeq).Draw(m.t, "since")
	}
	changed, modified, err := m.mailbox(id, name).StoreFlags(context.Background(), set, op, flags, since)
	m.fail(err)
	var want []uint32
	var wantModified imap.UIDSet
	given := flagMap(flags)
	for _, msg := range x.msgs {
		if !set.Contains(imap.UID(msg.uid)) {
			continue
		}
		if since > 0 && msg.modSeq > since {
			wantModified.AddNum(imap.UID(msg.uid))
			continue
		}
		after := maps.Clone(msg.flags)
		if op == SetFlags {
			after = make(map[string]bool)
		}
		for f := range given {
			if op == DelFlags {
				delete(after, f)
			} else {
				after[f] = true
			}
		}
		if !maps.Equal(after, msg.flags) {
			want = append(want, msg.uid)
			msg.flags = after
		}
	}
	if !slices.Equal(changed.UIDs, want) || modified.String() != wantModified.String() {
		m.t.Fatalf("changed %v, want %v; modified %v, want %v", changed.UIDs, want, modified, wantModified)
	}
	m.lazy = m.lazy || len(changed.UIDs) > 0
}

func (m *machine) expunge() {
	id, name, x := m.pick()
	var set *imap.UIDSet
	if rapid.Bool().Draw(m.t, "some") {
		s := m.uids(x)
		set = &s
	}
	gone, err := m.mailbox(id, name).Expunge(context.Background(), set)
	m.fail(err)
	var want imap.UIDSet
	x.msgs = slices.DeleteFunc(x.msgs, func(msg *modelMessage) bool {
		if !msg.flags[`\deleted`] || set != nil && !set.Contains(imap.UID(msg.uid)) {
			return false
		}
		want.AddNum(imap.UID(msg.uid))
		x.gone[msg.uid] = 0
		m.keep(id, x, msg)
		return true
	})
	if gone.String() != want.String() {
		m.t.Fatalf("expunged %v, want %v", gone, want)
	}
	m.lazy = m.lazy && len(gone) == 0
}

func (m *machine) copyOrMove() {
	id, name, x := m.pick()
	dest := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model[id]))).Draw(m.t, "destination")
	m.transfer(id, name, x, dest, m.model[id][dest])
}

func (m *machine) transfer(id mail.AccountID, name string, x *modelMailbox, dest string, to *modelMailbox) {
	move := rapid.Bool().Draw(m.t, "move")
	set := m.uids(x)
	box, f := m.mailbox(id, name), (*Mailbox).Copy
	if move {
		f = (*Mailbox).Move
	}
	result, err := f(box, context.Background(), set, dest)
	m.fail(err)
	i := 0
	for _, msg := range slices.Clone(x.msgs) {
		if !set.Contains(imap.UID(msg.uid)) {
			continue
		}
		if i >= len(result.From) || result.From[i] != msg.uid {
			m.t.Fatalf("copied %v, which should have %d", result.From, msg.uid)
		}
		m.added(to, result.To[i], maps.Clone(msg.flags), msg.served, msg.email)
		if move {
			x.msgs = slices.DeleteFunc(x.msgs, func(y *modelMessage) bool { return y == msg })
			x.gone[msg.uid] = 0
		}
		i++
	}
	if i != len(result.From) {
		m.t.Fatalf("copied %v, only %d of them should be there", result.From, i)
	}
	m.lazy = m.lazy && i == 0
}

var someNames = []string{"A", "A/B", "A/B/C", "D", "Drafts/Old", "INBOX/Sub", "卷宗"}

func (m *machine) create() {
	id, _, _ := m.pick()
	name := rapid.SampledFrom(someNames).Draw(m.t, "name")
	err := m.account(id).Create(context.Background(), name, "")
	if m.model[id][name] != nil {
		if mail.KindOf(err) != mail.Exists {
			m.t.Fatalf("create %s again: %v", name, err)
		}
		return
	}
	m.fail(err)
	m.lazy = false
	for _, n := range append(parents(name), name) {
		if m.model[id][n] == nil {
			m.model[id][n] = newModelMailbox()
		}
	}
}

func (m *machine) drop(id mail.AccountID, name string) {
	if x := m.boxes[id][name]; x != nil {
		x.Close()
		delete(m.boxes[id], name)
	}
}

func (m *machine) deleteMailbox() {
	id, name, x := m.pick()
	err := m.account(id).Delete(context.Background(), name)
	if name == Inbox {
		if mail.KindOf(err) != mail.Denied {
			m.t.Fatalf("delete INBOX: %v", err)
		}
		return
	}
	m.fail(err)
	m.lazy = false
	for _, msg := range x.msgs {
		m.keep(id, x, msg)
	}
	delete(m.model[id], name)
	m.drop(id, name)
}

// keep has a deleted message be among those that can be brought back.
func (m *machine) keep(id mail.AccountID, from *modelMailbox, msg *modelMessage) {
	if from.drafts {
		return
	}
	if m.kept[id] == nil {
		m.kept[id] = newModelMailbox()
	}
	x := m.kept[id]
	flags := maps.Clone(msg.flags)
	delete(flags, `\deleted`)
	x.msgs = append(x.msgs, &modelMessage{uid: x.uidNext, flags: flags, served: msg.served, email: msg.email, saved: m.now.Load()})
	x.uidNext++
}

// recover brings deleted messages back.
func (m *machine) recover() {
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model))).Draw(m.t, "account")
	x := m.kept[id]
	if x == nil {
		return
	}
	dest := rapid.SampledFrom(slices.Sorted(maps.Keys(m.model[id]))).Draw(m.t, "destination")
	m.transfer(id, recoverableName, x, dest, m.model[id][dest])
}

// expire lets time pass and has what was deleted long ago removed, the oldest first.
func (m *machine) expire() {
	m.now.Add(int64(rapid.IntRange(0, 36).Draw(m.t, "hours")) * 3600)
	m.fail(m.s.expireSome(context.Background()))
	for _, x := range m.kept {
		for len(x.msgs) > 0 && x.msgs[0].saved <= m.now.Load()-int64(modelRecover/time.Second) { // the clock may have been put back
			x.gone[x.msgs[0].uid] = 0
			x.msgs = x.msgs[1:]
			m.lazy = false
		}
	}
}

const modelRecover = 24 * time.Hour

func (m *machine) rename() {
	id, name, x := m.pick()
	to := rapid.SampledFrom(someNames).Draw(m.t, "name")
	model := m.model[id]
	err := m.account(id).Rename(context.Background(), name, to)
	possible := model[to] == nil && !strings.HasPrefix(to, name+"/") || name == Inbox && model[to] == nil
	for other := range model {
		if rest, ok := strings.CutPrefix(other, name+"/"); ok && name != Inbox && model[to+"/"+rest] != nil {
			possible = false
		}
	}
	if !possible {
		if k := mail.KindOf(err); k != mail.Exists && k != mail.Denied {
			m.t.Fatalf("rename %s to %s: %v", name, to, err)
		}
		return
	}
	m.fail(err)
	m.lazy = false
	if name == Inbox {
		model[to] = newModelMailbox()
		for i, msg := range x.msgs {
			x.gone[msg.uid] = 0
			m.added(model[to], uint32(i+1), msg.flags, msg.served, msg.email)
		}
		x.msgs = nil
	} else {
		for _, other := range slices.Sorted(maps.Keys(model)) {
			if rest, ok := strings.CutPrefix(other, name); ok && (rest == "" || rest[0] == '/') {
				model[to+rest] = model[other]
				delete(model, other)
				m.drop(id, other)
			}
		}
	}
	for _, n := range parents(to) {
		if model[n] == nil {
			model[n] = newModelMailbox()
		}
	}
}

func (m *machine) reopen() {
	m.closeHandles()
	m.fail(m.s.Close())
	s, err := Open(context.Background(), m.o)
	m.fail(err)
	m.s = s
}

// crash opens what a power cut would have left.
func (m *machine) crash() {
	if m.lazy { // flags may be lost: a durable act first, so that the model is right
		_, err := m.s.Deliver(context.Background(), Delivery{Bodies: []Body{}, Submitted: []SubmittedLabel{{alice, fmt.Sprint("l", m.n), "restricted"}}})
		m.fail(err)
		m.lazy = false
		m.exists(alice)
	}
	dir := filepath.Join(m.tb.TempDir(), "store")
	m.fail(m.s.o.FS.Mkdir(dir, 0o700))
	index := m.tb.TempDir()
	copyIndex(m.tb, m.s, index)
	m.fail(m.fsys.PowerCut(rand.New(rand.NewPCG(uint64(m.n), 1)), m.o.Dir, dir))
	m.closeHandles()
	m.fail(m.s.Close())
	m.fsys = faultfs.New()
	m.fail(m.fsys.Adopt(dir))
	m.fail(os.Rename(filepath.Join(index, indexFile), filepath.Join(dir, indexFile)))
	m.o.Dir, m.o.FS = dir, m.fsys
	s, err := Open(context.Background(), m.o)
	m.fail(err)
	m.s = s
}

// compact makes room, and demands that nothing dead is left in the complete segments. A message that is open stays readable.
func (m *machine) compact() {
	var open []*Content
	var want []string
	for id, boxes := range m.boxes {
		for name, x := range boxes {
			box := m.model[id][name]
			if name == recoverableName {
				box = m.kept[id]
			}
			for _, msg := range box.msgs {
				c, err := x.Body(context.Background(), msg.uid)
				m.fail(err)
				open, want = append(open, c), append(want, msg.served)
			}
		}
	}
	_, err := m.s.Compact(context.Background())
	m.fail(err)
	m.lazy = false
	for i, c := range open {
		got := make([]byte, c.Size())
		if _, err := c.ReadAt(got, 0); err != nil || string(got) != want[i] {
			m.t.Fatalf("a message that was open while its segment was removed: %v", err)
		}
		m.fail(c.Close())
	}
	dead, _, err := m.s.garbage()
	m.fail(err)
	for n, octets := range dead {
		if octets > 0 && n < m.s.log.Active() {
			m.t.Fatalf("%d dead octets are left in segment %d", octets, n)
		}
	}
}

// erase erases the keys that open nothing any more, and those that open something that was disposed of: none of either is left.
func (m *machine) erase() {
	_, err := m.s.eraseUnused(context.Background())
	m.fail(err)
	for id := range m.model {
		number := m.account(id).a.no()
		known, err := m.s.epochsOf(number)
		m.fail(err)
		used, err := m.s.usedEpochs(context.Background(), number, &pace{rate: -1})
		m.fail(err)
		for e := range used {
			if known[e].tainted {
				m.t.Fatalf("epoch %d of %s, under which something was disposed of, is in use still", e, id)
			}
		}
	}
}

// rebuild makes the index again from the segments, and demands that it is the same.
func (m *machine) rebuild() {
	before := wholeIndex(m.tb, m.s)
	m.closeHandles()
	m.fail(m.s.Close())
	m.lazy = false
	m.fail(os.Remove(filepath.Join(m.o.Dir, indexFile)))
	s, err := Open(context.Background(), m.o)
	m.fail(err)
	m.s = s
	after := wholeIndex(m.tb, s)
	for k, v := range before {
		if after[k] != v {
			m.t.Fatalf("%x is %x in the index made again, and was %x", k, after[k], v)
		}
		delete(after, k)
	}
	for k, v := range after {
		m.t.Fatalf("%x is %x in the index made again, and was not there", k, v)
	}
}

// wholeIndex is everything in the index but the place up to which the log is in it.
func wholeIndex(t testing.TB, s *Store) map[string]string {
	all := make(map[string]string)
	err := s.scan(nil, func(k, v []byte) error {
		if k[0] != keyPosition {
			all[string(k)] = string(v)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// compare looks at everything that can be seen.
func (m *machine) compare() {
	ctx := context.Background()
	r, err := m.s.Check(ctx, m.n%7 == 0)
	m.fail(err)
	if len(r.Problems) > 0 {
		m.t.Fatalf("check: %s", strings.Join(r.Problems, "\n"))
	}
	if r.Accounts != len(m.model) {
		m.t.Fatalf("%d accounts, want %d", r.Accounts, len(m.model))
	}
	for id, model := range m.model {
		list, err := m.account(id).List(ctx)
		m.fail(err)
		var names []string
		for _, info := range list {
			if info.Recoverable != (info.Name == recoverableName) {
				m.t.Fatalf("%+v", info)
			}
			if info.Exists && !info.Recoverable {
				names = append(names, info.Name)
			}
		}
		if x := m.kept[id]; x != nil {
			m.compareMailbox(id, recoverableName, x)
		}
		if want := slices.SortedFunc(maps.Keys(model), compareNames); !slices.Equal(names, want) {
			m.t.Fatalf("mailboxes %v, want %v", names, want)
		}
		m.compareSubscriptions(id, list)
		for name, x := range model {
			m.born(id, name, x)
			m.compareMailbox(id, name, x)
		}
	}
	m.compareUsage()
	m.compareQueue()
}

// someDepartments is of which department an account is said to be, by a number that changes now and then.
var someDepartments = []string{"", "one.example", "two.example"}

// join has an account change its department.
func (m *machine) join() {
	id, _, _ := m.pick()
	d := rapid.SampledFrom(someDepartments).Draw(m.t, "department")
	m.fail(m.s.EnsureAccount(context.Background(), id, d))
	if d != "" && m.departments[id] != d {
		m.departments[id] = d
		m.lazy = false
	}
}

// compareUsage looks at what accounts and departments are said to hold.
func (m *machine) compareUsage() {
	own, all := make(map[mail.AccountID]Usage), make(map[string]Usage)
	for id, boxes := range m.model {
		u := Usage{}
		for _, x := range boxes {
			for _, msg := range x.msgs {
				u.Messages++
				u.Size += int64(len(msg.served))
			}
		}
		own[id] = u
		if d := m.departments[id]; d != "" {
			t := all[d]
			all[d] = Usage{Messages: t.Messages + u.Messages, Size: t.Size + u.Size}
		}
	}
	for id := range m.model {
		u, err := m.account(id).Usage(context.Background())
		m.fail(err)
		d, t, err := m.account(id).DepartmentUsage(context.Background())
		m.fail(err)
		if u != own[id] || d != m.departments[id] || t != all[d] {
			m.t.Fatalf("%s holds %+v, want %+v; %q holds %+v, want %q with %+v", id, u, own[id], d, t, m.departments[id], all[d])
		}
	}
}

func (m *machine) compareMailbox(id mail.AccountID, name string, x *modelMailbox) {
	ctx := context.Background()
	box := m.mailbox(id, name)
	msgs, state := box.Snapshot()
	status, err := m.account(id).Status(ctx, name)
	m.fail(err)
	if len(msgs) != len(x.msgs) || state.UIDNext < x.uidNext || status.Messages != state.Messages || state.HighestModSeq < x.modSeq || box.Name() != name {
		m.t.Fatalf("%s: %d messages, want %d; %+v, %+v", name, len(msgs), len(x.msgs), state, status)
	}
	before := x.modSeq
	x.modSeq = state.HighestModSeq
	var fresh []uint32
	for i, msg := range msgs {
		want := x.msgs[i]
		if msg.UID != want.uid || msg.EmailID != want.email || msg.Size != int64(len(want.served)) || !maps.Equal(flagMap(msg.Flags.List()), want.flags) {
			m.t.Fatalf("%s: %+v %v, want %+v", name, msg, msg.Flags.List(), want)
		}
		if msg.ModSeq != want.modSeq {
			if msg.ModSeq <= before && want.modSeq != 0 {
				m.t.Fatalf("%s: UID %d got the old mod-sequence %d", name, msg.UID, msg.ModSeq)
			}
			fresh = append(fresh, msg.UID)
			want.modSeq = msg.ModSeq
		}
	}
	c, err := box.Changes(before)
	m.fail(err)
	var changed []uint32
	for _, msg := range c.Changed {
		changed = append(changed, msg.UID)
	}
	var vanished imap.UIDSet
	for uid, at := range x.gone {
		if at == 0 {
			vanished.AddNum(imap.UID(uid))
			x.gone[uid] = x.modSeq
		}
	}
	if !slices.Equal(changed, fresh) || c.Vanished.String() != vanished.String() {
		m.t.Fatalf("%s since %d: changed %v, want %v; vanished %v, want %v", name, before, changed, fresh, c.Vanished, vanished)
	}
	m.comparePast(box, x)
	m.compareUIDs(box, x)
	if len(msgs) > 0 {
		i := m.n % len(msgs)
		content, err := box.Body(ctx, msgs[i].UID)
		m.fail(err)
		got := make([]byte, content.Size())
		if _, err := content.ReadAt(got, 0); err != nil || string(got) != x.msgs[i].served {
			m.t.Fatalf("%s: UID %d has another body (%v)", name, msgs[i].UID, err)
		}
		sum, err := box.Summary(ctx, msgs[i].UID)
		m.fail(err)
		if !bytes.HasPrefix(got, sum.Header) {
			m.t.Fatalf("%s: UID %d has another header", name, msgs[i].UID)
		}
	}
}

// TestModel runs random operations against the model, with Check after each, closing and opening the store and cutting
// the power now and then.
func TestModel(t *testing.T) {
	ks := newKeys(t)
	rapid.Check(t, func(rt *rapid.T) {
		fsys := faultfs.New()
		m := &machine{
			t: rt, tb: t, fsys: fsys, model: make(map[mail.AccountID]modelAccount),
			open: make(map[mail.AccountID]*Account), boxes: make(map[mail.AccountID]map[string]*Mailbox), departments: make(map[mail.AccountID]string), kept: make(map[mail.AccountID]*modelMailbox),
			validities: make(map[mail.AccountID]map[uint32]bool),
			subscribed: make(map[mail.AccountID]map[string]bool), queue: make(map[QueueID]*modelQueued),
		}
		m.now.Store(1_700_000_000)
		m.o = Options{
			Dir: filepath.Join(t.TempDir(), "store"), Keys: keys.Keystore(ks), FS: fsys, SegmentBytes: 100_000, EpochMessages: 40, HouseRate: -1,
			Now: func() time.Time { return time.Unix(m.now.Load(), 0) }, Recover: modelRecover, HouseEvery: -1, act: 2,
		}
		s, err := Open(context.Background(), m.o)
		m.fail(err)
		m.s = s
		defer func() {
			m.closeHandles()
			_ = m.s.Close()
		}()
		m.deliver()
		rt.Repeat(map[string]func(*rapid.T){
			"deliver": func(*rapid.T) { m.deliver() },
			"append":  func(*rapid.T) { m.appendMessages() },
			"flags":   func(*rapid.T) { m.storeFlags() },
			"flags2":  func(*rapid.T) { m.storeFlags() },
			"expunge": func(*rapid.T) { m.expunge() },
			"copy":    func(*rapid.T) { m.copyOrMove() },
			"stop":    func(*rapid.T) { m.stopCopy() },
			"back":    func(*rapid.T) { m.fail(m.s.takeBackAll(context.Background())) },
			"create":  func(*rapid.T) { m.create() },
			"delete":  func(*rapid.T) { m.deleteMailbox() },
			"rename":  func(*rapid.T) { m.rename() },
			"reopen":  func(*rapid.T) { m.reopen() },
			"crash":   func(*rapid.T) { m.crash() },
			"compact": func(*rapid.T) { m.compact() },
			"rebuild": func(*rapid.T) { m.rebuild() },
			"erase":   func(*rapid.T) { m.erase() },
			"join":    func(*rapid.T) { m.join() },
			"recover": func(*rapid.T) { m.recover() },
			"expire":  func(*rapid.T) { m.expire() },

			"clock":     func(*rapid.T) { m.moveClock() },
			"subscribe": func(*rapid.T) { m.subscribe() },
			"enqueue":   func(*rapid.T) { m.enqueue() },
			"queue":     func(*rapid.T) { m.requeueOrUnqueue() },
			"":          func(*rapid.T) { m.compare() },
		})
	})
}
