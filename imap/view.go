package imap

import (
	"cmp"
	"slices"
	"sort"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// view is what a session has been told of its selected mailbox: its own numbering of
// messages, which changes only where the protocol lets it. It belongs to the session's
// goroutine.
type view struct {
	mbox     *storage.Mailbox
	readOnly bool
	restores bool   // it is that of deleted messages: nothing can be changed there, but they can be moved out
	noRecent bool   // nothing is \Recent: the client speaks IMAP4rev2
	stop     func() // ends the watch

	uids     []uint32     // of sequence numbers 1, 2, …; those in gone included. Perhaps shared: appended to, never changed in place
	gone     []uint32     // expunged in the store, the client has not been told; ascending
	recent   []wire.Range // UIDs that are \Recent for this session; ascending
	modseq   uint64       // all changes up to here are in uids and gone, and told or in news
	top      uint32       // the greatest UID ever seen
	told     []told       // the session's own changes in the command at hand; ascending
	keywords int          // how many keywords the client knows of
	saved    []wire.Range // UIDs: what the last SEARCH that was to save has found; ascending
}

// told is a change of flags that the client knows of already, because it made it.
type told struct {
	uid    uint32
	modseq uint64
}

// known notes changes that the session has made itself: they are not news.
func (v *view) known(changed storage.Stored) {
	uids := changed.UIDs
	sorted := len(v.told) == 0 || len(uids) == 0 || v.told[len(v.told)-1].uid < uids[0]
	v.told = slices.Grow(v.told, len(uids))
	for _, uid := range uids {
		v.told = append(v.told, told{uid, changed.ModSeq})
	}
	if !sorted {
		slices.SortFunc(v.told, func(a, b told) int { return cmp.Compare(a.uid, b.uid) })
	}
}

// follows says whether a change of the session's own is the only one since the view was brought up to the store. Then the view is
// up to it now.
func (v *view) follows(changed storage.Stored) bool {
	if changed.ModSeq == 0 || changed.Before != v.modseq {
		return false
	}
	v.modseq = changed.ModSeq
	return true
}

// own is the mod-sequence of the session's own change of a message in this command, or 0.
func (v *view) own(uid uint32) uint64 {
	i, ok := slices.BinarySearchFunc(v.told, uid, func(t told, uid uint32) int { return cmp.Compare(t.uid, uid) })
	if !ok {
		return 0
	}
	return v.told[i].modseq
}

// unselect leaves the selected mailbox, if there is one.
func (s *session) unselect() {
	if s.view != nil {
		s.view.close()
		s.view = nil
	}
}

// newView opens a mailbox for the session, with the messages that it has now. unseen is the index of the first
// that is not \Seen, or -1.
func (s *session) newView(mbox *storage.Mailbox, readOnly bool) (v *view, unseen int, st storage.State) {
	v = &view{mbox: mbox, readOnly: readOnly, noRecent: s.has(rev2)}
	v.stop = mbox.Watch(s.ctx, s.c.wake)
	first, last := v.claim()
	v.uids, unseen, st = mbox.UIDs()
	v.modseq = st.HighestModSeq
	v.top = st.UIDNext - 1
	v.addRecent(first, last)
	v.keywords = len(mbox.Keywords())
	return v, unseen, st
}

// close gives back what the view holds of the store.
func (v *view) close() {
	v.stop()
	v.mbox.Close()
}

// claim makes what is new \Recent for this session; a read-only session sees it as
// recent and leaves it so for others (RFC 3501, section 2.3.2). What comes between the claim
// and a look into the mailbox is for whoever claims next.
func (v *view) claim() (first, last uint32) {
	if v.readOnly {
		st := v.mbox.State()
		return st.FirstRecent, st.UIDNext - 1
	}
	return v.mbox.ClaimRecent()
}

func (v *view) addRecent(first, last uint32) {
	if v.noRecent || first == 0 || first > last {
		return
	}
	if n := len(v.recent); n > 0 && v.recent[n-1].Last >= first-1 {
		v.recent[n-1].Last = max(v.recent[n-1].Last, last)
		return
	}
	v.recent = append(v.recent, wire.Range{First: first, Last: last})
}

func (v *view) isRecent(uid uint32) bool { return inRanges(v.recent, uid) }

// recents is the number of messages that are \Recent.
func (v *view) recents() int {
	n := 0
	for _, r := range v.recent {
		lo, _ := slices.BinarySearch(v.uids, r.First)
		hi := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] > r.Last })
		n += hi - lo
	}
	return n
}

// inRanges says whether n is in ascending ranges.
func inRanges(ranges []wire.Range, n uint32) bool {
	i := sort.Search(len(ranges), func(i int) bool { return ranges[i].Last >= n })
	return i < len(ranges) && ranges[i].First <= n
}

// seq is the sequence number of a UID, 0 if it is not in the view.
func (v *view) seq(uid uint32) uint32 {
	i, ok := slices.BinarySearch(v.uids, uid)
	if !ok {
		return 0
	}
	return uint32(i + 1)
}

// ranges resolves a set of sequence numbers or UIDs to ranges of indexes into uids, [First, Last].
// A sequence number beyond the last message is an error; UIDs that are not there are ignored (RFC 3501, section 6.4.8).
func (v *view) ranges(set wire.Set, uid bool) ([]wire.Range, error) {
	n := uint32(len(v.uids))
	if !uid {
		rs := set.Resolve(n)
		if len(rs) > 0 && rs[len(rs)-1].Last > n {
			return nil, &wire.Error{Text: "No message has that number"}
		}
		for i := range rs {
			rs[i].First--
			rs[i].Last--
		}
		return rs, nil
	}
	if n == 0 {
		return nil, nil
	}
	var out []wire.Range
	for _, r := range set.Resolve(v.uids[n-1]) {
		lo, _ := slices.BinarySearch(v.uids, r.First)
		hi := sort.Search(len(v.uids), func(i int) bool { return v.uids[i] > r.Last })
		if lo < hi {
			out = append(out, wire.Range{First: uint32(lo), Last: uint32(hi - 1)})
		}
	}
	return out, nil
}

// pick is the UIDs that a set of a command means: the messages of the view in ranges of UIDs
// with nothing of other messages between.
func (v *view) pick(set wire.Set, uid bool) ([]wire.Range, imap.UIDSet, error) {
	rs, err := v.ranges(set, uid)
	if err != nil {
		return nil, nil, err
	}
	var uids imap.UIDSet
	for _, r := range rs {
		// One range of UIDs, however many are missing in it: all between two messages of
		// the view that are not in the view were expunged, or will be told later.
		uids = append(uids, imap.UIDRange{Start: imap.UID(v.uids[r.First]), Stop: imap.UID(v.uids[r.Last])})
	}
	return rs, uids, nil
}

// pull brings the view up to the store and returns the messages, known to the client
// already, whose flags have changed; added is the number of new messages.
func (v *view) pull() (changed []storage.Msg, added int, err error) {
	st := v.mbox.State()
	if st.HighestModSeq == v.modseq && st.UIDNext-1 == v.top {
		return nil, 0, nil
	}
	var first, last uint32
	if st.UIDNext-1 > v.top {
		first, last = v.claim()
	}
	ch, err := v.mbox.Changes(v.modseq)
	if err != nil {
		return nil, 0, err
	}
	v.modseq = ch.HighestModSeq
	for _, r := range wire.RangesOf(ch.Vanished) {
		lo, _ := slices.BinarySearch(v.uids, r.First)
		for i := lo; i < len(v.uids) && v.uids[i] <= r.Last; i++ {
			v.gone = append(v.gone, v.uids[i])
		}
	}
	slices.Sort(v.gone)
	v.gone = slices.Compact(v.gone)
	known := sort.Search(len(ch.Changed), func(i int) bool { return ch.Changed[i].UID > v.top })
	for _, m := range ch.Changed[known:] {
		v.uids = append(v.uids, m.UID)
		v.top = m.UID
	}
	v.top = max(v.top, st.UIDNext-1)
	v.addRecent(first, last)
	return ch.Changed[:known], len(ch.Changed) - known, nil
}

// tell sends what is new in the mailbox; with expunge also what is gone from it, which
// changes sequence numbers.
func (s *session) tell(expunge bool) {
	v := s.view
	if v.mbox.Deleted() {
		s.bye(imap.ResponseCodeNonExistent, "The mailbox was deleted")
		return
	}
	changed, added, err := v.pull()
	if err == nil && s.has(condstore) {
		err = v.mbox.Settle()
	}
	if err != nil {
		s.log.Error("imap: changes of the mailbox", "err", err)
		s.bye(imap.ResponseCodeUnavailable, "The changes of the mailbox cannot be read")
		return
	}
	if expunge && len(v.gone) > 0 {
		s.tellGone()
	}
	if added > 0 {
		s.c.buffer()
		s.c.out = wire.AppendNumber(append(s.c.out, "* "...), len(v.uids))
		s.c.write(" EXISTS")
		s.c.end()
		s.tellRecent()
	}
	for i := range changed {
		m := &changed[i]
		if seq := v.seq(m.UID); seq > 0 && v.own(m.UID) != m.ModSeq {
			s.tellFlags(seq, m)
		}
	}
	v.told = nil
}

// tellRecent sends how many messages are \Recent, which IMAP4rev2 has no more.
func (s *session) tellRecent() {
	if s.view.noRecent {
		return
	}
	s.c.buffer()
	s.c.out = wire.AppendNumber(append(s.c.out, "* "...), s.view.recents())
	s.c.write(" RECENT")
	s.c.end()
}

// tellGone sends what is gone: VANISHED (RFC 7162, section 3.2.10), or EXPUNGE for each, the last
// message first: so the numbers of the others still hold.
func (s *session) tellGone() {
	v := s.view
	if s.has(qresync) {
		var gone []wire.Range
		for _, uid := range v.gone {
			gone = wire.AddNum(gone, uid)
		}
		s.c.write("* VANISHED ")
		s.c.out = wire.AppendRanges(s.c.out, gone)
		s.c.end()
	}
	g := len(v.gone) - 1
	for i := len(v.uids) - 1; i >= 0 && g >= 0 && !s.has(qresync); i-- {
		if v.uids[i] == v.gone[g] {
			g--
			s.c.buffer()
			s.c.out = wire.AppendNumber(append(s.c.out, "* "...), i+1)
			s.c.write(" EXPUNGE")
			s.c.end()
		}
	}
	kept := make([]uint32, 0, len(v.uids)) // the list may be others', too
	g = 0
	for _, uid := range v.uids {
		if g < len(v.gone) && v.gone[g] == uid {
			g++
			continue
		}
		kept = append(kept, uid)
	}
	v.uids, v.gone = kept, nil
}

// tellFlags sends the flags of a message, before that any keyword that the client
// has not heard of. The UID is always with them.
func (s *session) tellFlags(seq uint32, m *storage.Msg) {
	s.tellKeywords()
	s.c.buffer()
	b := wire.AppendNumber(append(s.c.out, "* "...), seq)
	b = wire.AppendNumber(append(b, " FETCH (UID "...), m.UID)
	if s.has(condstore) {
		b = appendModSeq(append(b, ' '), m)
	}
	s.c.out = append(s.view.appendFlags(append(b, ' '), m), ')')
	s.c.end()
}

// appendModSeq appends the MODSEQ item of a message, which must be settled.
func appendModSeq(b []byte, m *storage.Msg) []byte {
	return append(wire.AppendNumber(append(b, "MODSEQ ("...), m.ModSeq), ')')
}

// appendFlags appends the FLAGS item of a message.
func (v *view) appendFlags(b []byte, m *storage.Msg) []byte {
	b = wire.AppendFlags(append(b, "FLAGS "...), m.Flags.List())
	if v.isRecent(m.UID) {
		b = b[:len(b)-1]
		if b[len(b)-1] != '(' {
			b = append(b, ' ')
		}
		b = append(b, `\Recent)`...)
	}
	return b
}

// tellKeywords sends FLAGS when the mailbox knows keywords that the client does not.
func (s *session) tellKeywords() {
	kw := s.view.mbox.Keywords()
	if len(kw) == s.view.keywords {
		return
	}
	s.view.keywords = len(kw)
	s.sendFlags(kw)
}

// sendFlags sends the flags that the mailbox has, and those that can be set.
func (s *session) sendFlags(keywords []string) {
	flags := append([]string{storage.FlagAnswered, storage.FlagFlagged, storage.FlagDeleted, storage.FlagSeen, storage.FlagDraft}, keywords...)
	s.c.write("* FLAGS ")
	s.c.out = wire.AppendFlags(s.c.out, flags)
	s.c.end()
	s.c.write("* OK [PERMANENTFLAGS ")
	if s.view.readOnly {
		s.c.write("()")
	} else {
		s.c.out = wire.AppendFlags(s.c.out, flags)
		s.c.out = append(s.c.out[:len(s.c.out)-1], ` \*)`...)
	}
	s.c.write("] Flags")
	s.c.end()
}
