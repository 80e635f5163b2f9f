package queue

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"slices"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

const (
	maxBatch    = 100 // recipients in a transaction (RFC 5321, section 4.5.3.1.8)
	maxSessions = 100 // transactions over a connection
)

// work sees to one item that is due: an attempt, what follows from it, and the reports. It says false if what became of
// the item could not be saved: nobody must touch it again before the next start, for every attempt more could be one
// message more.
func (q *Queue) work(c *claim, t *trip) (saved bool) {
	log := q.o.Log.With("item", c.id.String())
	rec, err := q.o.Store.Queued(c.ctx, c.id)
	if err != nil {
		if mail.KindOf(err) != mail.NotFound {
			log.Error("queue: an item cannot be opened", "err", err)
			q.expect(q.o.Now().Add(time.Minute))
			q.wait(c.ctx, time.Minute)
		}
		return true
	}
	if rec.Held || q.early(rec.Due) {
		return true // it was changed since it was found due
	}
	j := &job{q: q, claim: c, size: rec.Size}
	if j.it, err = decodeItem(rec.Data); err != nil {
		log.Error("queue: an item cannot be read and is held", "err", err)
		rec.Held = true
		err = q.o.Store.Requeue(c.ctx, c.id, rec.QueueItem)
	} else {
		j.it.Accepted = min(j.it.Accepted, q.o.Now().UnixMilli()) // the clock was wrong: its lifetime begins now
		if err = j.attempt(t); err == nil {
			err = j.settle()
		}
	}
	if err != nil {
		log.Error("queue: an outcome could not be saved", "err", err)
	}
	return err == nil
}

// wait waits, unless the queue stops or somebody else wants the item.
func (q *Queue) wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	case <-q.stop:
	}
}

// job is the work on one item.
type job struct {
	q     *Queue
	claim *claim
	it    *item
	size  int64

	uncertain bool // an outcome of this attempt
}

// save makes what is known durable. It is not broken off with the attempt.
func (j *job) save(due time.Time) error {
	err := j.keep(func(ctx context.Context) error { return j.put(ctx, j.it, due) })
	if err == nil {
		j.q.expect(due)
	}
	return err
}

func (j *job) put(ctx context.Context, it *item, due time.Time) error {
	data, err := it.encode()
	if err != nil {
		return err
	}
	lane := j.claim.lane
	if list := it.in(waiting); len(list) > 0 {
		if w, err := j.q.way(list[0].address().Domain); err == nil {
			lane = j.q.hash(w.lane)
		}
	}
	return j.q.o.Store.Requeue(ctx, j.claim.id, storage.QueueItem{Data: data, Due: due, Lane: lane})
}

// doubt puts down, while the reply to the message is awaited, what will be true if the program ends now: to those for
// whom nothing else is known the outcome is uncertain. What comes of the attempt is saved over it.
func (j *job) doubt(to []*recipient, known []*outcome, host string) {
	now := j.q.o.Now()
	it := *j.it
	it.To = slices.Clone(it.To)
	it.Attempts++
	open := temporary("4.4.2", "the attempt ended before "+host+" had answered to the message").inDoubt()
	for i := range it.To {
		if n := slices.Index(to, &j.it.To[i]); n >= 0 {
			it.To[i].apply(cmp.Or(known[n], open), now)
		}
	}
	if err := j.put(context.WithoutCancel(j.claim.ctx), &it, now.Add(j.q.pause(it.Attempts))); err != nil {
		j.q.o.Log.Error("queue: a doubt could not be saved", "item", j.claim.id.String(), "err", err)
	}
}

// remove takes the item out of the queue, durably.
func (j *job) remove() error {
	return j.keep(func(ctx context.Context) error { return j.q.o.Store.Unqueue(ctx, j.claim.id) })
}

// keep does a write, which is not broken off with the attempt. While the disk is full it is tried again.
func (j *job) keep(write func(context.Context) error) error {
	ctx := context.WithoutCancel(j.claim.ctx)
	for {
		err := write(ctx)
		if err == nil || mail.KindOf(err) != mail.Full || j.q.ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(10 * time.Second):
		case <-j.q.ctx.Done():
		}
	}
}

// attempt tries all who wait. The error is that of saving.
func (j *job) attempt(t *trip) error {
	left := j.it.in(waiting)
	for len(left) > 0 {
		w, err := j.q.way(left[0].address().Domain)
		if err != nil {
			left[0].apply(temporary("4.4.4", mail.PublicOf(err)), j.q.o.Now()) // the way was taken out of the configuration
			left = left[1:]
			continue
		}
		var batch, others []*recipient
		for _, r := range left {
			if x, err := j.q.way(r.address().Domain); len(batch) < maxBatch && err == nil && x.lane == w.lane {
				batch = append(batch, r)
			} else {
				others = append(others, r)
			}
		}
		outcomes := t.carry(j, w, batch)
		now := j.q.o.Now()
		for i, r := range batch {
			r.apply(outcomes[i], now)
			j.uncertain = j.uncertain || outcomes[i].uncertain
			j.log(r)
		}
		if left = others; len(left) > 0 {
			if err := j.save(now); err != nil {
				return err
			}
		}
	}
	return nil
}

func (j *job) log(r *recipient) {
	what := map[state]string{delivered: "delivered", failed: "bounced", waiting: "deferred"}[r.State]
	j.q.o.Outcome(what)
	j.q.o.Log.Info("queue: "+what,
		"item", j.claim.id.String(), "id", string(j.it.ID), "to", r.Address, "host", r.Host, "status", r.Status, "reply", r.Text, "attempt", j.it.Attempts+1)
}

// settle draws the consequences: done, another attempt, reports.
func (j *job) settle() error {
	q, it := j.q, j.it
	now := q.o.Now()
	due := now
	if j.uncertain || j.claim.ctx.Err() == nil || q.overdue(j.claim.ctx) { // else it was broken off, and counts for none
		it.Attempts++
		due = now.Add(q.pause(it.Attempts))
	}
	ends := it.accepted().Add(q.o.Lifetime)
	if !now.Before(ends) {
		for _, r := range it.in(waiting) {
			r.State, r.Status = failed, "5.4.7"
		}
	} else if due.After(ends) {
		due = ends
	}
	late := q.o.WarnAfter >= 0 && !it.Warned && now.Sub(it.accepted()) >= q.o.WarnAfter && len(it.in(waiting)) > 0
	bad := len(it.in(failed)) > 0
	if !late && !bad && len(it.in(waiting)) == 0 {
		return j.remove()
	}
	if err := j.save(due); err != nil || !late && !bad {
		return err
	}
	return j.tell(due, late, bad)
}

// overdue says that the attempt took all its time, rather than being broken off by somebody.
func (q *Queue) overdue(ctx context.Context) bool {
	return q.ctx.Err() == nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// tell gives the sender the reports that are due. What must be told stays in the queue until it is in their mailbox.
func (j *job) tell(due time.Time, late, bad bool) error {
	q, it := j.q, j.it
	ctx := context.WithoutCancel(j.claim.ctx)
	if bad {
		if err := j.report(ctx, failure); err != nil {
			return j.save(q.o.Now().Add(q.o.Retry[0]))
		}
		for _, r := range it.in(failed) {
			r.State = reported
		}
	}
	if late {
		if err := j.report(ctx, delay); err == nil {
			it.Warned = true
		}
	}
	if len(it.in(waiting)) == 0 {
		return j.remove()
	}
	return j.save(due)
}

// report brings a report to the sender's mailbox, by the door that all mail comes in by. The error is temporary; where
// there is nobody to tell, that is put on record.
func (j *job) report(ctx context.Context, kind reportKind) error {
	q, it := j.q, j.it
	if it.From == "" { // never a report about a report (RFC 5321, section 4.5.5)
		return j.untold(kind, "the sender is null")
	}
	to, err := mail.ParseAddress(it.From)
	if err != nil {
		return j.untold(kind, "the sender is no address")
	}
	header, err := j.header(ctx)
	if err != nil {
		q.o.Log.Error("queue: no header for a report", "item", j.claim.id.String(), "err", err)
	}
	err = j.deliver(ctx, kind, to, it, header)
	if mail.KindOf(err) == mail.Refused { // policy may object to words of others in it: without them it is a report, too
		err = j.deliver(ctx, kind, to, it.bare(), nil)
	}
	switch {
	case err == nil:
		return nil
	case mail.KindOf(err).Temporary():
		return err
	}
	return j.untold(kind, mail.KindOf(err).String())
}

// deliver brings one report about it to the sender.
func (j *job) deliver(ctx context.Context, kind reportKind, to mail.Address, it *item, header []byte) error {
	q := j.q
	raw, err := q.compose(kind, it, header)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	size := int64(len(raw))
	if err := q.door.Reserve(ctx, size); err != nil {
		return err
	}
	defer q.door.Release(size)
	env := &mail.Envelope{To: []mail.Address{to}, Client: mail.Client{Protocol: mail.ProtocolQueue}, Size: size}
	id, err := q.door.Accept(ctx, env, raw)
	if err != nil {
		q.o.Log.Error("queue: a report was not taken", "item", j.claim.id.String(), "err", err)
		return err
	}
	q.o.Log.Info("queue: reported", "item", j.claim.id.String(), "id", string(it.ID), "report", string(id), "kind", kind.String())
	return nil
}

func (j *job) untold(kind reportKind, why string) error {
	j.q.o.Audit.Note(audit.Event{
		Type: audit.MailUntold, Subject: string(j.it.ID), Outcome: why,
		Detail: map[string]string{"item": j.claim.id.String(), "from": j.it.From, "report": kind.String()},
	})
	return nil
}

// maxHeader is how much of a message is looked at for its header.
const maxHeader = 1 << 20

// header is the beginning of the message, with its header.
func (j *job) header(ctx context.Context) ([]byte, error) {
	content, err := j.q.o.Store.QueueBody(ctx, j.claim.id)
	if err != nil {
		return nil, err
	}
	defer func() { _ = content.Close() }()
	b := make([]byte, min(content.Size(), maxHeader))
	if _, err := content.ReadAt(b, 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}

// trip is a courier's connection, kept from one item to the next where it fits.
type trip struct {
	q    *Queue
	s    *session
	lane string
}

func (t *trip) end() {
	if t.s != nil {
		t.s.quit()
		t.s = nil
	}
}

// carry takes the item to some of its recipients, who are reached in one way.
func (t *trip) carry(j *job, w way, to []*recipient) []*outcome {
	all := func(o *outcome) []*outcome {
		list := make([]*outcome, len(to))
		for i := range list {
			list[i] = o
		}
		return list
	}
	content, err := t.q.o.Store.QueueBody(j.claim.ctx, j.claim.id)
	if err != nil {
		t.q.o.Log.Error("queue: a message cannot be opened", "item", j.claim.id.String(), "err", err)
		return all(temporary("4.3.0", "the message could not be read from the queue"))
	}
	defer func() { _ = content.Close() }()
	for {
		used := t.fits(w, j.it)
		if !used {
			t.end()
			if o := t.begin(j.claim.ctx, w, j.it); o != nil {
				return all(o)
			}
		}
		p := &parcel{from: ascii(j.it.From), size: j.size, utf8: j.it.UTF8, eightBit: j.it.EightBit, body: io.NewSectionReader(content, 0, content.Size())}
		for _, r := range to {
			p.to = append(p.to, ascii(r.Address))
		}
		p.doubt = func(known []*outcome) { j.doubt(to, known, t.s.host) }
		release := t.s.guard(j.claim.ctx)
		outcomes, early := t.s.send(p)
		release()
		if t.s.broken {
			t.end()
			if used && early && j.claim.ctx.Err() == nil {
				continue // the server had tired of the connection; nothing was sent over it
			}
		}
		return outcomes
	}
}

// ascii is the address with its domain as DNS knows it.
func ascii(address string) string {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return address
	}
	if d, err := asciiDomain(a.Domain); err == nil {
		a.Domain = d
	}
	return a.String()
}

// fits says whether the connection that is open serves for the item.
func (t *trip) fits(w way, it *item) bool {
	return t.s != nil && !t.s.broken && t.lane == w.lane && t.s.sent < maxSessions && (t.s.verified || !it.VerifiedTLS)
}

// begin opens a connection: to the first server that answers.
func (t *trip) begin(ctx context.Context, w way, it *item) *outcome {
	q := t.q
	key := q.hash(w.lane)
	if o := q.isDown(key); o != nil {
		return o
	}
	mode, usual := q.o.MXTLS, true
	if w.route != nil {
		mode = w.route.TLS
	}
	if it.VerifiedTLS && mode != Verify {
		mode, usual = Verify, false // the route's ease is not for this one
	}
	servers, o := q.targets(ctx, w)
	for _, server := range servers {
		conf := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: server.name}
		if w.route != nil {
			conf.RootCAs = w.route.Roots
		}
		conf.InsecureSkipVerify = mode != Verify
		var err error
		t.s, o, err = q.open(ctx, server, mode, conf, false)
		if errors.Is(err, errPlain) {
			t.s, o, _ = q.open(ctx, server, mode, conf, true)
		}
		if o == nil {
			t.lane = w.lane
			return nil
		}
		if ctx.Err() != nil {
			return temporary("4.3.2", "the attempt was broken off")
		}
	}
	if usual && o.state == waiting {
		q.setDown(key, o)
	}
	return o
}
