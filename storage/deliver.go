package storage

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/blob"
)

// Deliver returns when everything of d is durable and visible to readers; on an error nothing of d is in the store
// (unless the store has stopped saving: then it is not known). Accounts that do not exist are made in the same act. The
// error is of kind mail.NotFound if a mailbox does not exist, mail.Invalid or mail.TooLarge if d cannot be stored,
// mail.Full if there is no space, mail.Unavailable if the store does not save any more.
func (s *Store) Deliver(ctx context.Context, d Delivery) ([]Placed, error) {
	p := &delivery{store: s, tells: d.Tells, must: d.Must}
	defer p.release()
	if err := p.prepare(ctx, &d); err != nil {
		return nil, err
	}
	return p.commit(ctx)
}

// EnsureAccount makes the account with its keys and first mailboxes, durably, if it does not exist, and counts it in its department
// (see NewEntry) from now on.
func (s *Store) EnsureAccount(ctx context.Context, id mail.AccountID, department string) error {
	p := &delivery{store: s}
	defer p.release()
	a, err := p.account(ctx, id)
	if err != nil {
		return err
	}
	a.department = department
	if a.no() != 0 {
		if known, err := s.joined(a.no(), department); err != nil || known {
			return err
		}
	}
	if err := p.seals(ctx); err != nil {
		return err
	}
	_, err = p.commit(ctx)
	return err
}

// delivery is a Delivery made ready: everything that takes time is done before the store's lock is taken.
type delivery struct {
	store    *Store
	accounts []*recipient // in the order of their IDs
	bodies   []*deliveryBody
	labels   []labelNote
	blob     []byte
	placed   []Placed
	tells    *Warning
	must     bool
}

// recipient is an account concerned.
type recipient struct {
	*account
	secrets    int    // how many will be sealed for it
	epoch      *epoch // for those
	first      []mailboxRecord
	subscribed []sealedText
	number     uint32 // its number, once the commit is being built
	department string // "": not said
}

type deliveryBody struct {
	*Body
	sealed  *sealedBody
	ids     messageIDs
	entries []*deliveryEntry
	queue   []newQueued
}

type deliveryEntry struct {
	*NewEntry
	to       *recipient
	mailbox  hash
	name     string
	flags    parsedFlags
	secret   []byte
	internal int64
	place    int // in placed
}

type labelNote struct {
	to    *recipient
	id    hash
	label mail.Label
}

// messageIDs are the Message-IDs in a message.
type messageIDs struct {
	own     string
	related []string // what it answers and refers to, nearest first
}

// maxRelated is how many Message-IDs of a References field are looked at.
const maxRelated = 20

func relatedIDs(data []byte, x *message.Index) messageIDs {
	var ids messageIDs
	add := func(list []string) {
		for _, id := range slices.Backward(list) {
			if len(ids.related) < maxRelated && !slices.Contains(ids.related, id) {
				ids.related = append(ids.related, id)
			}
		}
	}
	header := data[:x.Root.BodyStart]
	if own := message.MessageIDs(message.FieldValue(header, "Message-ID")); len(own) > 0 {
		ids.own = own[0]
	}
	add(message.MessageIDs(message.FieldValue(header, "In-Reply-To")))
	add(message.MessageIDs(message.FieldValue(header, "References")))
	return ids
}

// account returns the recipient for an account, noting it if it is new.
func (p *delivery) account(ctx context.Context, id mail.AccountID) (*recipient, error) {
	i, ok := slices.BinarySearchFunc(p.accounts, id, func(r *recipient, id mail.AccountID) int {
		return strings.Compare(string(r.id), string(id))
	})
	if ok {
		return p.accounts[i], nil
	}
	a, err := p.store.acquire(ctx, id)
	if err != nil {
		return nil, err
	}
	r := &recipient{account: a}
	p.accounts = slices.Insert(p.accounts, i, r)
	return r, nil
}

// spareBlob is up to which size the room for what is sealed is used again.
const spareBlob = 256 << 10

// blobFor is an empty slice for n octets.
func (s *Store) blobFor(n int) []byte {
	if b, _ := s.blobs.Get().(*[]byte); b != nil && cap(*b) >= n {
		return (*b)[:0]
	}
	return make([]byte, 0, n)
}

// release gives back what the delivery holds. Nobody reads the blob any more: it was written, or is not going to be.
func (p *delivery) release() {
	if b := p.blob; cap(b) > 0 && cap(b) <= spareBlob {
		p.store.blobs.Put(&b)
	}
	for _, r := range p.accounts {
		r.epoch.done()
		p.store.release(r.account)
	}
}

// prepare checks d and seals everything.
func (p *delivery) prepare(ctx context.Context, d *Delivery) error {
	if err := p.store.Ready(); err != nil {
		return err
	}
	total := int64(0)
	for i := range d.Bodies {
		b := &d.Bodies[i]
		if len(b.Entries)+len(b.Queue) == 0 {
			return mail.E(mail.Invalid, "", errors.New("a body that nobody gets"))
		}
		if int64(len(b.Data)) > p.store.o.MessageBytes {
			return mail.E(mail.TooLarge, "the message is too large", nil)
		}
		if x := b.Index; x == nil || x.Root == nil || x.Root.BodyStart < 0 || x.Root.BodyStart > int64(len(b.Data)) {
			return mail.E(mail.Invalid, "", errors.New("the index is not that of the message"))
		}
		body := &deliveryBody{Body: b, ids: relatedIDs(b.Data, b.Index)}
		p.bodies = append(p.bodies, body)
		for j := range b.Entries {
			e, err := p.entry(ctx, body, &b.Entries[j])
			if err != nil {
				return err
			}
			body.entries = append(body.entries, e)
		}
		total += sealedSize(int64(len(b.Data))) + b.Index.Root.BodyStart + 1024
	}
	for _, l := range d.Submitted {
		r, err := p.account(ctx, l.Account)
		if err != nil {
			return err
		}
		p.labels = append(p.labels, labelNote{r, r.hash(hashMessageID, l.MessageID), l.Label})
	}
	if err := p.store.room(total); err != nil {
		return err
	}
	if err := p.seals(ctx); err != nil {
		return err
	}
	p.blob = p.store.blobFor(int(total))
	for _, b := range p.bodies {
		if err := p.seal(ctx, b); err != nil {
			return err
		}
	}
	return nil
}

func (p *delivery) entry(ctx context.Context, b *deliveryBody, n *NewEntry) (*deliveryEntry, error) {
	r, err := p.account(ctx, n.Account)
	if err != nil {
		return nil, err
	}
	e := &deliveryEntry{NewEntry: n, to: r, name: Inbox, place: len(p.placed)}
	if n.Mailbox != "" {
		if e.name, err = canonicalName(n.Mailbox); err != nil {
			return nil, err
		}
	}
	if len(n.Prefix) > 0 && !strings.HasSuffix(string(n.Prefix), "\r\n") || len(n.Prefix) > maxPrefix {
		return nil, mail.E(mail.Invalid, "", errors.New("the prefix is not header lines"))
	}
	for _, other := range b.entries {
		if other.to == r && string(other.Prefix) != string(n.Prefix) { // the account's search index knows a body once
			return nil, mail.E(mail.Invalid, "", errors.New("one account gets a body with two prefixes"))
		}
	}
	if e.flags, err = parseFlags(n.Flags); err != nil {
		return nil, err
	}
	if int64(len(n.Prefix))+int64(len(b.Data)) > maxMessage {
		return nil, mail.E(mail.TooLarge, "the message is too large", nil)
	}
	internal := n.InternalDate
	if internal.IsZero() {
		internal = p.store.o.Now()
	}
	e.internal = internal.Unix()
	e.mailbox = r.hash(hashName, e.name)
	r.secrets += 1 + len(e.flags.words)
	if n.Department != "" {
		r.department = n.Department
	}
	p.placed = append(p.placed, Placed{Account: r.id, Mailbox: e.name})
	return e, nil
}

const maxPrefix = 64 << 10

// seals gets the epoch keys, and for accounts that do not exist what they are made of.
func (p *delivery) seals(ctx context.Context) error {
	for _, r := range p.accounts {
		fresh := r.no() == 0
		if fresh {
			r.secrets += 2 * len(firstMailboxes)
		}
		if r.secrets == 0 {
			continue
		}
		var err error
		if r.epoch, err = r.sealing(ctx, r.secrets); err != nil {
			return err
		}
		if !fresh {
			continue
		}
		for _, m := range firstMailboxes {
			record, err := r.newMailboxRecord(r.epoch, m.name, m.use)
			if err != nil {
				return err
			}
			text, err := r.sealText(r.epoch, m.name)
			if err != nil {
				return err
			}
			r.first, r.subscribed = append(r.first, record), append(r.subscribed, text)
		}
	}
	return nil
}

func (a *account) newMailboxRecord(e *epoch, name string, use byte) (mailboxRecord, error) {
	text, err := a.sealText(e, name)
	return mailboxRecord{use: use, nameHash: a.hash(hashName, name), name: text}, err
}

func (p *delivery) seal(ctx context.Context, b *deliveryBody) error {
	s := p.store
	begin := int64(len(p.blob))
	id := s.bodyNext.Add(1)
	var err error
	if p.blob, b.sealed, err = sealBody(p.blob, s.o.Rand, s.id, id, b.Data, b.Index); err != nil {
		return err
	}
	defer clear(b.sealed.key)
	b.sealed.record.offset, b.sealed.record.refs = begin, uint32(len(b.entries)+len(b.Queue))
	for _, e := range b.entries {
		plain := append(append(make([]byte, 0, keySize+len(e.Prefix)), b.sealed.key...), e.Prefix...)
		e.secret, err = e.to.epoch.wrapper.Wrap(s.o.Rand, nil, plain, entryAAD(s.id, e.to.id, id))
		clear(plain)
		if err != nil {
			return err
		}
	}
	for _, item := range b.Queue {
		q := newQueued{id: QueueID(s.bodyNext.Add(1))}
		if q.record, err = s.sealQueueItem(ctx, q.id, id, b.sealed.key, item); err != nil {
			return err
		}
		b.queue = append(b.queue, q)
	}
	return nil
}

// commit does the act.
func (p *delivery) commit(ctx context.Context) ([]Placed, error) {
	for _, r := range p.accounts {
		r.mu.RLock()
		defer r.mu.RUnlock()
	}
	c := &commit{}
	c.record.Blob = p.blob
	if len(p.bodies) == 1 {
		c.record.BlobSum = p.bodies[0].sealed.record.sum // the body is the blob
	} else {
		c.record.BlobSum = blob.Checksum(p.blob)
	}
	if err := p.store.commit(ctx, c, p.build); err != nil {
		return nil, err
	}
	return p.placed, nil
}

func (p *delivery) build(b *build) error {
	for _, r := range p.accounts {
		var err error
		if r.number, err = b.account(r.account, r.first, r.subscribed); err != nil {
			return err
		}
		b.join(r.account, r.number, r.department)
	}
	b.tells, b.must = p.tells, p.must
	now := p.store.o.Now()
	for _, body := range p.bodies {
		if err := b.useBody(body.sealed.id); err != nil {
			return err
		}
		b.put(keyOf64(keyBody, body.sealed.id), body.sealed.record.encode())
		for _, e := range body.entries {
			if err := p.buildEntry(b, body, e, now); err != nil {
				return err
			}
		}
		for _, q := range body.queue {
			if err := b.useBody(uint64(q.id)); err != nil {
				return err
			}
			b.putQueued(q.id, q.record)
		}
	}
	for _, l := range p.labels {
		if err := b.label(l.to.number, l.id, l.label, true); err != nil {
			return err
		}
	}
	return nil
}

func (p *delivery) buildEntry(b *build, body *deliveryBody, e *deliveryEntry, now time.Time) error {
	key, err := b.find(e.to.number, e.mailbox)
	if err != nil {
		return err
	}
	x, err := b.box(e.to.account, key)
	if err != nil {
		return err
	}
	if x.recoverable {
		return errRecoverable
	}
	uid, err := x.uid()
	if err != nil {
		return err
	}
	r := entryRecord{
		modSeq: x.modSeq(b.store.boot), body: body.sealed.id, internal: e.internal, saved: now.Unix(),
		size: int64(len(e.Prefix)) + int64(len(body.Data)),
	}
	if r.flags, err = b.flags(x, e.to.epoch, e.flags); err != nil {
		return err
	}
	if r.thread, err = p.thread(b, body, e); err != nil {
		return err
	}
	b.put(keyOf(keyEntry, key.account, key.mailbox, uid), r.encode())
	b.put(keyOf(keySecret, key.account, key.mailbox, uid), secretRecord{e.to.epoch.number, e.secret}.encode())
	x.count(1, r.flags, r.size, true)
	x.event.added = append(x.event.added, entryEvent{uid, r})
	at := &p.placed[e.place]
	at.UIDValidity, at.UID, at.EmailID = x.c.uidValidity, uid, ObjectID(body.sealed.id)
	return nil
}

// thread finds the message's thread in the account and notes its label there.
func (p *delivery) thread(b *build, body *deliveryBody, e *deliveryEntry) (uint64, error) {
	related := make([]hash, len(body.ids.related))
	for i, id := range body.ids.related {
		related[i] = e.to.hash(hashMessageID, id)
	}
	var own hash
	if body.ids.own != "" {
		own = e.to.hash(hashMessageID, body.ids.own)
		if err := b.label(e.to.number, own, body.Label, false); err != nil {
			return 0, err
		}
	}
	return b.thread(e.to.number, related, own, body.ids.own != "", body.sealed.id)
}

// Knows says whether the account had a message with this Message-ID (without angle brackets) since Options.KeepMessageIDs. No key that opens mail is used.
func (s *Store) Knows(ctx context.Context, id mail.AccountID, messageID string) (bool, error) {
	a, err := s.acquire(ctx, id)
	if err != nil {
		return false, err
	}
	defer s.release(a)
	if a.no() == 0 {
		return false, nil
	}
	v, err := s.kv.Get(keyOfHash(keyMessageID, a.no(), a.hash(hashMessageID, messageID)))
	return v != nil, err
}

// LabelOf is the labels remembered for these Message-IDs (without angle brackets) in the account, "" where there is
// none. No key that opens mail is used.
func (s *Store) LabelOf(ctx context.Context, id mail.AccountID, messageIDs []string) ([]mail.Label, error) {
	labels := make([]mail.Label, len(messageIDs))
	a, err := s.acquire(ctx, id)
	if err != nil {
		return nil, err
	}
	defer s.release(a)
	number := a.no()
	if number == 0 {
		return labels, nil
	}
	for i, mid := range messageIDs {
		v, err := s.kv.Get(keyOfHash(keyMessageID, number, a.hash(hashMessageID, mid)))
		if err != nil {
			return nil, err
		}
		if v == nil {
			continue
		}
		r, err := decodeMessageID(v)
		if err != nil {
			return nil, fmt.Errorf("label: %w", err)
		}
		labels[i] = mail.Label(r.label)
	}
	return labels, nil
}
