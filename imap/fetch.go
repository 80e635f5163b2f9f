package imap

import (
	"errors"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// cmdFetch sends data of messages (RFC 3501, section 6.4.5). A message that is damaged is
// left out and makes the answer NO; the others are served.
func cmdFetch(s *session, p *wire.Parser) (string, error) {
	set := p.Set()
	p.SP()
	items := p.FetchItems()
	var mod wire.FetchModifiers
	if p.Err() == nil && !p.AtEnd() {
		p.SP()
		mod = p.FetchModifiers()
	}
	if mod.Vanished && !(s.uid && s.has(qresync)) {
		p.Fail(&wire.Error{Text: "VANISHED needs UID FETCH and QRESYNC"})
	}
	if err := p.End(); err != nil {
		return "", err
	}
	rs, err := s.view.ranges(set, s.uid)
	if err != nil {
		return "", err
	}
	f := newFetch(s, items, mod.Since)
	if f.modseq {
		s.enable(condstore)
	}
	if mod.Since {
		if rs, err = s.changedSince(rs, set, &mod); err != nil {
			return "", err
		}
	}
	if f.flags {
		s.tellKeywords()
	}
	send := f.each
	if f.ready && !f.marks && many(rs) {
		send = f.ahead
	}
	if err := send(rs); err != nil {
		return "", err
	}
	return "", f.err
}

// each sends the messages of ranges of the view.
func (f *fetch) each(rs []wire.Range) error {
	for _, r := range rs {
		for first := r.First; first <= r.Last; first += fetchBatch {
			if err := f.some(first, min(r.Last, first+fetchBatch-1)); err != nil {
				return err
			}
		}
	}
	return nil
}

// changedSince leaves of ranges of the view what has changed since (RFC 7162, section 3.1.4.1), and
// with VANISHED says what of the set is gone (section 3.2.6).
func (s *session) changedSince(rs []wire.Range, set wire.Set, mod *wire.FetchModifiers) ([]wire.Range, error) {
	v := s.view
	ch, err := v.mbox.Changes(mod.ModSeq)
	if err != nil {
		return nil, err
	}
	if mod.Vanished {
		s.vanishedEarlier(wire.RangesOf(ch.Vanished), set.Resolve(v.top))
	}
	var changed []wire.Range
	for i := range ch.Changed {
		if seq := v.seq(ch.Changed[i].UID); seq > 0 {
			changed = wire.AddNum(changed, seq-1)
		}
	}
	return intersect(changed, rs), nil
}

// fetch is one FETCH command.
type fetch struct {
	s       *session
	items   []wire.FetchItem
	batch   *storage.Batch
	summary bool // an item needs the index or the header in the summary
	ready   bool // an item is in the summary as it goes out
	body    bool // an item is octets of the message
	marks   bool // the messages become \Seen
	flags   bool // FLAGS is among the items
	modseq  bool // MODSEQ is among the items
	err     error
}

func newFetch(s *session, items []wire.FetchItem, since bool) *fetch {
	f := &fetch{s: s}
	if s.uid {
		f.items = append(f.items, wire.FetchItem{Kind: wire.FetchUID})
	}
	for _, it := range items {
		switch it.Kind {
		case wire.FetchUID:
			if s.uid {
				continue
			}
		case wire.FetchFlags:
			f.flags = true
		case wire.FetchModSeq:
			f.modseq = true
		case wire.FetchEnvelope, wire.FetchBodyStructure:
			f.ready = true
		case wire.FetchBody:
			f.summary = true
		case wire.FetchSection, wire.FetchRFC822, wire.FetchRFC822Header, wire.FetchRFC822Text, wire.FetchBinary, wire.FetchBinarySize:
			f.summary = f.summary || !isWhole(&it.Section)
			f.body = true
			f.marks = f.marks || !it.Section.Peek && !s.view.readOnly
		}
		f.items = append(f.items, it)
	}
	if since && !f.modseq {
		f.items, f.modseq = append(f.items, wire.FetchItem{Kind: wire.FetchModSeq}), true
	}
	return f
}

// fetchBatch is how many messages are looked up, and marked \Seen, at a time, just before they are sent.
const fetchBatch = 64

// some sends the messages first to last of the view.
func (f *fetch) some(first, last uint32) (err error) {
	if f.marks {
		if err := f.mark(first, last); err != nil {
			return err
		}
	}
	v := f.s.view
	if f.batch, err = v.mbox.Batch(f.batch, v.uids[first:last+1], f.summary || f.ready || f.body); err != nil {
		return err
	}
	return f.send(first, last)
}

// send sends the messages first to last of the view, which are those of the batch.
func (f *fetch) send(first, last uint32) error {
	for i := first; i <= last; i++ {
		if err := f.message(i, int(i-first)); err != nil {
			return err
		}
	}
	return nil
}

// mark sets \Seen on the messages first to last of the view that are not.
func (f *fetch) mark(first, last uint32) error {
	v := f.s.view
	any := false
	for i := first; i <= last && !any; i++ {
		m, ok := v.mbox.Get(v.uids[i])
		any = ok && !m.Flags.Has(storage.FlagSeen)
	}
	if !any {
		return nil
	}
	uids := uidSet(v.uids[first], v.uids[last])
	changed, _, err := v.mbox.StoreFlags(f.s.ctx, uids, storage.AddFlags, []string{storage.FlagSeen}, 0)
	if err != nil {
		return err
	}
	v.known(changed)
	v.follows(changed)
	f.s.tellKeywords()
	return nil
}

// message sends the response for message i of the view, which has that place in the batch. An error ends the command; what is
// wrong with this message alone goes to f.err.
func (f *fetch) message(i uint32, place int) error {
	s, v := f.s, f.s.view
	m, ok := f.batch.Msg(place)
	if !ok {
		if err := s.expunged(); f.err == nil {
			f.err = err
		}
		return nil
	}
	src := source{ctx: s.ctx, mbox: v.mbox, uid: m.UID, batch: f.batch, place: place}
	defer src.close()
	s.c.buffer()
	start, sends := len(s.c.out), s.c.sends
	err := f.respond(i+1, &m, &src)
	if err == nil {
		s.c.end()
		return s.c.err
	}
	if s.c.sends != sends {
		// A part of the response is out, and cannot be taken back.
		s.log.Error("imap: a message could not be read to its end", "uid", m.UID, "err", err)
		s.c.out, s.over = s.c.out[:0], true
		return errAnswered
	}
	s.c.out = s.c.out[:start]
	var known *wire.Error
	if errors.As(err, &known) { // what the client asked for, not a fault
		if f.err == nil {
			f.err = err
		}
		return s.ctx.Err()
	}
	s.log.Warn("imap: a message cannot be served", "uid", m.UID, "err", err)
	if f.err == nil {
		f.err = err
		if _, still := v.mbox.Get(m.UID); !still && mail.KindOf(err) == mail.NotFound {
			f.err = s.expunged()
		}
	}
	return s.ctx.Err()
}

func (f *fetch) respond(seq uint32, m *storage.Msg, src *source) (err error) {
	s := f.s
	if f.summary {
		if err := src.open(); err != nil {
			return err
		}
	}
	news := f.marks && s.view.own(m.UID) > 0
	tellModSeq := news && !f.modseq && s.has(condstore)
	if f.modseq || tellModSeq {
		if err := s.view.mbox.Settle(); err != nil {
			return err
		}
	}
	c := s.c
	c.out = append(wire.AppendNumber(append(c.out, "* "...), seq), " FETCH ("...)
	if news && !f.flags {
		c.out = append(s.view.appendFlags(c.out, m), ' ')
	}
	if tellModSeq {
		c.out = append(appendModSeq(c.out, m), ' ')
	}
	for i := range f.items {
		it := &f.items[i]
		if i > 0 {
			c.out = append(c.out, ' ')
		}
		switch it.Kind {
		case wire.FetchUID:
			c.out = wire.AppendNumber(append(c.out, "UID "...), m.UID)
		case wire.FetchFlags:
			c.out = s.view.appendFlags(c.out, m)
		case wire.FetchEmailID:
			c.out = append(append(append(c.out, "EMAILID ("...), m.EmailID.String()...), ')')
		case wire.FetchThreadID:
			c.out = append(append(append(c.out, "THREADID ("...), m.ThreadID.Thread()...), ')')
		case wire.FetchSaveDate:
			c.out = wire.AppendDateTime(append(c.out, "SAVEDATE "...), m.SaveDate)
		case wire.FetchModSeq:
			c.out = appendModSeq(c.out, m)
		case wire.FetchInternalDate:
			c.out = wire.AppendDateTime(append(c.out, "INTERNALDATE "...), m.InternalDate)
		case wire.FetchSize:
			c.out = wire.AppendNumber(append(c.out, "RFC822.SIZE "...), m.Size)
		case wire.FetchEnvelope:
			if c.out, err = f.batch.AppendEnvelope(s.ctx, append(c.out, "ENVELOPE "...), src.place); err != nil {
				return err
			}
		case wire.FetchBody:
			c.out = message.AppendStructure(append(c.out, "BODY "...), src.sum.Index.Root, false)
		case wire.FetchBodyStructure:
			if c.out, err = f.batch.AppendStructure(s.ctx, append(c.out, "BODYSTRUCTURE "...), src.place); err != nil {
				return err
			}
		case wire.FetchBinary, wire.FetchBinarySize:
			if err := f.binary(it, src); err != nil {
				return err
			}
		default:
			if err := f.section(it, src); err != nil {
				return err
			}
		}
	}
	c.out = append(c.out, ')')
	return nil
}
