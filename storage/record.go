package storage

import (
	"bytes"
	"math/bits"

	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// hash is a blind hash: a keyed hash under the account's blind-index key.
type hash [16]byte

func (d *decoder) hash() (h hash) {
	copy(h[:], d.take(len(h)))
	return h
}

// accountRecord is what delivery needs of an account; its keys are in the vault.
type accountRecord struct {
	number       uint32
	mailboxes    uint32 // the mailbox number given last
	uidValidity  uint32 // the UIDVALIDITY given last
	mailboxCount uint32 // how many there are now
	kept         uint32 // the mailbox of deleted messages; 0: there is none yet
}

func (r accountRecord) encode() []byte {
	b := appendUint(nil, uint64(r.number))
	b = appendUint(b, uint64(r.mailboxes))
	b = appendUint(b, uint64(r.uidValidity))
	b = appendUint(b, uint64(r.mailboxCount))
	if r.kept != 0 {
		b = appendUint(b, uint64(r.kept))
	}
	return b
}

func decodeAccount(b []byte) (accountRecord, error) {
	d := decoder{b: b}
	r := accountRecord{number: d.uint32(), mailboxes: d.uint32(), uidValidity: d.uint32(), mailboxCount: d.uint32()}
	if len(d.b) > 0 {
		if r.kept = d.uint32(); r.kept == 0 {
			d.fail()
		}
	}
	return r, d.end()
}

// sealedText is a name, sealed under an epoch key of the account: a mailbox's, a keyword's.
type sealedText struct {
	epoch uint32
	blob  []byte
}

func (t sealedText) append(b []byte) []byte {
	return appendBytes(appendUint(b, uint64(t.epoch)), t.blob)
}

func (d *decoder) sealedText() sealedText {
	return sealedText{epoch: d.uint32(), blob: bytes.Clone(d.bytes())}
}

func decodeSealedText(b []byte) (sealedText, error) {
	d := decoder{b: b}
	t := d.sealedText()
	return t, d.end()
}

// keyword is one keyword that a mailbox knows. Its place in the list is its bit.
type keyword struct {
	hash hash // of the keyword in lower case
	name sealedText
}

// mailboxRecord is what seldom changes of a mailbox.
type mailboxRecord struct {
	use      byte // index into specialUses
	nameHash hash
	name     sealedText
	keywords []keyword
}

func (r mailboxRecord) encode() []byte {
	b := append([]byte{r.use}, r.nameHash[:]...)
	b = r.name.append(b)
	b = appendUint(b, uint64(len(r.keywords)))
	for _, k := range r.keywords {
		b = append(b, k.hash[:]...)
		b = k.name.append(b)
	}
	return b
}

func decodeMailbox(b []byte) (mailboxRecord, error) {
	d := decoder{b: b}
	r := mailboxRecord{use: d.byte(), nameHash: d.hash(), name: d.sealedText()}
	n := d.size()
	if n > maxKeywords || int(r.use) >= len(specialUses) {
		d.fail()
		n = 0
	}
	for range n {
		r.keywords = append(r.keywords, keyword{d.hash(), d.sealedText()})
	}
	return r, d.end()
}

// counters is what every change of a mailbox changes.
type counters struct {
	uidValidity uint32
	uidNext     uint32
	modSeq      uint64 // the highest
	ceiling     uint64 // no mod-sequence above this was given out; durable whenever it is raised
	boot        uint64 // in which opening of the store this was written
	firstRecent uint32
	messages    uint32
	recent      uint32
	unseen      uint32
	deleted     uint32
	size        int64
}

func (c counters) encode() []byte {
	b := appendUint(make([]byte, 0, 40), uint64(c.uidValidity))
	b = appendUint(b, uint64(c.uidNext))
	b = appendUint(b, c.modSeq)
	b = appendUint(b, c.ceiling)
	b = appendUint(b, c.boot)
	b = appendUint(b, uint64(c.firstRecent))
	b = appendUint(b, uint64(c.messages))
	b = appendUint(b, uint64(c.recent))
	b = appendUint(b, uint64(c.unseen))
	b = appendUint(b, uint64(c.deleted))
	return appendInt(b, c.size)
}

func decodeCounters(b []byte) (counters, error) {
	d := decoder{b: b}
	c := counters{
		uidValidity: d.uint32(), uidNext: d.uint32(), modSeq: d.uint(), ceiling: d.uint(), boot: d.uint(), firstRecent: d.uint32(),
		messages: d.uint32(), recent: d.uint32(), unseen: d.uint32(), deleted: d.uint32(), size: d.int(),
	}
	return c, d.end()
}

// flagSet is a message's flags: system flags, and keywords by their place in the mailbox's list.
type flagSet struct {
	sys   uint8
	words [2]uint64
}

func (f flagSet) append(b []byte) []byte {
	b = append(b, f.sys)
	b = appendUint(b, uint64(bits.OnesCount64(f.words[0])+bits.OnesCount64(f.words[1])))
	for i, w := range f.words {
		for ; w != 0; w &= w - 1 {
			b = append(b, byte(i*64+bits.TrailingZeros64(w)))
		}
	}
	return b
}

func (d *decoder) flagSet() (f flagSet) {
	f.sys = d.byte()
	if f.sys&^sysMask != 0 {
		d.fail()
	}
	last := -1
	for range d.size() {
		i := int(d.byte())
		if i <= last || i >= maxKeywords {
			d.fail()
			return flagSet{}
		}
		f.words[i/64] |= 1 << (i % 64)
		last = i
	}
	return f
}

// entryRecord is one message in one mailbox as it was when it came.
type entryRecord struct {
	modSeq   uint64
	body     uint64
	thread   uint64
	internal int64 // Unix seconds
	saved    int64
	size     int64 // prefix and body
	flags    flagSet
}

func (r entryRecord) encode() []byte {
	b := appendUint(make([]byte, 0, 48), r.modSeq)
	b = appendUint(b, r.body)
	b = appendUint(b, r.thread)
	b = appendInt(b, r.internal)
	b = appendInt(b, r.saved)
	b = appendInt(b, r.size)
	return r.flags.append(b)
}

func decodeEntry(b []byte) (entryRecord, error) {
	d := decoder{b: b}
	r := entryRecord{
		modSeq: d.uint(), body: d.uint(), thread: d.uint(), internal: d.int(), saved: d.int(), size: d.int(), flags: d.flagSet(),
	}
	return r, d.end()
}

// secretRecord opens a body: the message key and the entry's header prefix, wrapped under an epoch key.
type secretRecord struct {
	epoch uint32
	blob  []byte
}

func (r secretRecord) encode() []byte {
	return append(appendUint(make([]byte, 0, 5+len(r.blob)), uint64(r.epoch)), r.blob...)
}

func decodeSecret(b []byte) (secretRecord, error) {
	d := decoder{b: b}
	r := secretRecord{epoch: d.uint32()}
	r.blob = d.take(len(d.b))
	return r, d.end()
}

// bodyRecord says where a body is. In an op of the record that carries the body, segment is 0 and offset counts from
// the beginning of the blob.
type bodyRecord struct {
	refs    uint32 // entries that refer to it
	segment uint32
	offset  int64  // of the sealed summary; the frames of the body follow it
	summary uint32 // octets of the sealed summary
	sealed  int64  // octets of the frames
	plain   int64  // octets of the body
	sum     uint32 // blob.Checksum of summary and frames
}

func (r bodyRecord) total() int64 { return int64(r.summary) + r.sealed }

func (r bodyRecord) encode() []byte {
	b := appendUint(make([]byte, 0, 32), uint64(r.refs))
	b = appendUint(b, uint64(r.segment))
	b = appendUint(b, uint64(r.offset))
	b = appendUint(b, uint64(r.summary))
	b = appendUint(b, uint64(r.sealed))
	b = appendUint(b, uint64(r.plain))
	return appendUint(b, uint64(r.sum))
}

const maxOffset = 1 << 60

func decodeBody(b []byte) (bodyRecord, error) {
	d := decoder{b: b}
	r := bodyRecord{refs: d.uint32(), segment: d.uint32()}
	offset, summary, sealed, plain := d.uint(), d.uint32(), d.uint(), d.uint()
	r.sum = d.uint32()
	if offset > maxOffset || sealed > maxOffset || plain > maxOffset || sealedSize(int64(plain)) != int64(sealed) {
		d.fail()
	}
	r.offset, r.summary, r.sealed, r.plain = int64(offset), summary, int64(sealed), int64(plain)
	return r, d.end()
}

// messageIDRecord is what an account remembers under the blind hash of a Message-ID.
type messageIDRecord struct {
	thread uint64
	day    uint64 // since 1970, when it was last of use; 0: not known
	label  string
}

// dayMark stands before the day; no label begins with it.
const dayMark = 1

func (r messageIDRecord) encode() []byte {
	b := appendUint(make([]byte, 0, 13+len(r.label)), r.thread)
	if r.day > 0 {
		b = appendUint(append(b, dayMark), r.day)
	}
	return append(b, r.label...)
}

func decodeMessageID(b []byte) (messageIDRecord, error) {
	d := decoder{b: b}
	r := messageIDRecord{thread: d.uint()}
	if len(d.b) > 0 && d.b[0] == dayMark {
		d.byte()
		if r.day = d.uint(); r.day == 0 {
			d.fail()
		}
	}
	r.label = string(d.take(len(d.b)))
	return r, d.end()
}

// flagRun is the flags of messages with consecutive UIDs that changed together.
type flagRun struct {
	uid, count uint32
	modSeq     uint64
	flags      flagSet
}

// chunkBits says how many UIDs share a record of changed flags: 64. A flag of one message writes the record anew; one of all writes all records.
const chunkBits = 6

func encodeFlagRuns(chunk uint32, runs []flagRun) []byte {
	w := runWriter{at: chunk << chunkBits}
	for _, r := range runs {
		w.write(r)
	}
	return w.b
}

// runWriter makes the record of a chunk of changed flags from its messages, by UID.
type runWriter struct {
	b   []byte
	at  uint32  // the UID after what is written
	run flagRun // goes on perhaps
}

func (w *runWriter) add(f flagEvent) {
	if r := &w.run; r.count > 0 && r.uid+r.count == f.uid && r.modSeq == f.modSeq && r.flags == f.flags {
		r.count++
		return
	}
	if w.run.count > 0 {
		w.write(w.run)
	}
	w.run = flagRun{f.uid, 1, f.modSeq, f.flags}
}

func (w *runWriter) write(r flagRun) {
	if w.b == nil {
		w.b = make([]byte, 0, 64)
	}
	w.b = appendUint(w.b, uint64(r.uid-w.at))
	w.b = appendUint(w.b, uint64(r.count))
	w.b = appendUint(w.b, r.modSeq)
	w.b = r.flags.append(w.b)
	w.at = r.uid + r.count
}

// end is the record, nil if there is nothing in it.
func (w *runWriter) end() []byte {
	if w.run.count > 0 {
		w.write(w.run)
	}
	return w.b
}

func decodeFlagRuns(chunk uint32, b []byte) ([]flagRun, error) {
	return decodeRuns(chunk, chunkBits, b)
}

func decodeRuns(chunk uint32, bits int, b []byte) ([]flagRun, error) {
	d := decoder{b: b}
	var runs []flagRun
	at, all := uint64(chunk)<<bits, uint64(1)<<bits
	end := at + all
	for len(d.b) > 0 {
		skip, count := d.uint(), d.uint()
		if skip > all || count == 0 || count > all || at+skip+count > end || at+skip > 1<<32-1 {
			return nil, errRecord
		}
		runs = append(runs, flagRun{uid: uint32(at + skip), count: uint32(count), modSeq: d.uint(), flags: d.flagSet()})
		at += skip + count
	}
	return runs, d.end()
}

// uidRange is an inclusive range of UIDs.
type uidRange struct{ from, to uint32 }

func encodeUIDs(ranges []uidRange) []byte {
	var b []byte
	var at uint32
	for _, r := range ranges {
		b = appendUint(b, uint64(r.from-at))
		b = appendUint(b, uint64(r.to-r.from))
		at = r.to
	}
	return b
}

func decodeUIDs(b []byte) ([]uidRange, error) {
	d := decoder{b: b}
	var ranges []uidRange
	var at uint64
	for len(d.b) > 0 {
		gap, n := d.uint(), d.uint()
		if gap == 0 || gap > 1<<32-1 || n > 1<<32-1 || at+gap+n > 1<<32-1 {
			return nil, errRecord
		}
		ranges = append(ranges, uidRange{uint32(at + gap), uint32(at + gap + n)})
		at += gap + n
	}
	return ranges, d.end()
}

// appendUID adds a UID greater than all before it.
func appendUID(ranges []uidRange, uid uint32) []uidRange {
	if n := len(ranges); n > 0 && ranges[n-1].to+1 == uid {
		ranges[n-1].to = uid
		return ranges
	}
	return append(ranges, uidRange{uid, uid})
}

func encodePosition(p blob.Position) []byte {
	b := appendUint(nil, uint64(p.Segment))
	b = appendUint(b, uint64(p.Offset))
	return appendUint(b, p.Seq)
}

func decodePosition(b []byte) (blob.Position, error) {
	d := decoder{b: b}
	segment, offset, seq := d.uint32(), d.uint(), d.uint()
	if offset > maxOffset {
		d.fail()
	}
	return blob.Position{Segment: segment, Offset: int64(offset), Seq: seq}, d.end()
}

func encodeNumber(n uint64) []byte { return appendUint(nil, n) }

func decodeNumber(b []byte) (uint64, error) {
	if b == nil {
		return 0, nil
	}
	d := decoder{b: b}
	n := d.uint()
	return n, d.end()
}

// The kinds of ops in a log record.
const (
	opPut     = 1
	opDelete  = 2
	opPutBody = 3 // the value is a bodyRecord that refers to the blob of this log record
	opCopy    = 4 // as opPutBody, but it changes nothing: the blob has a copy of the body, to which a later record may refer
)

// encodeOps writes the ops of a log record. A body record with segment 0 is one of this log record.
func encodeOps(ops []engine.Op) []byte {
	n := 5
	for _, op := range ops {
		n += len(op.Key) + len(op.Value) + 8
	}
	b := appendUint(make([]byte, 0, n), uint64(len(ops)))
	for _, op := range ops {
		switch {
		case op.Value == nil:
			b = append(b, opDelete)
			b = appendBytes(b, op.Key)
			continue
		case isNewBody(op):
			b = append(b, opPutBody)
		default:
			b = append(b, opPut)
		}
		b = appendBytes(b, op.Key)
		b = appendBytes(b, op.Value)
	}
	return b
}

// isNewBody says whether the op puts a body record whose segment is 0.
func isNewBody(op engine.Op) bool {
	if op.Key[0] != keyBody || op.Value == nil {
		return false
	}
	d := decoder{b: op.Value}
	d.uint()
	return d.uint() == 0
}

// encodeCopies writes the ops of a log record that brings copies of bodies and changes nothing.
func encodeCopies(ops []engine.Op) []byte {
	b := appendUint(nil, uint64(len(ops)))
	for _, op := range ops {
		b = append(b, opCopy)
		b = appendBytes(b, op.Key)
		b = appendBytes(b, op.Value)
	}
	return b
}

// decodeOps reads the ops of a log record, those that change something. Keys and values alias b.
func decodeOps(b []byte) ([]engine.Op, error) {
	var ops []engine.Op
	err := eachOp(b, func(kind byte, op engine.Op) {
		if kind != opCopy {
			ops = append(ops, op)
		}
	})
	if err != nil {
		return nil, err
	}
	return ops, nil
}

// decodeCopies reads what encodeCopies wrote; other ops are passed over.
func decodeCopies(b []byte) (ops []engine.Op, err error) {
	err = eachOp(b, func(kind byte, op engine.Op) {
		if kind == opCopy {
			ops = append(ops, op)
		}
	})
	return ops, err
}

func eachOp(b []byte, f func(kind byte, op engine.Op)) error {
	d := decoder{b: b}
	n := d.size()
	copies := 0
	for i := 0; len(d.b) > 0; i++ {
		kind := d.byte()
		op := engine.Op{Key: d.bytes()}
		if len(op.Key) == 0 || kind < opPut || kind > opCopy {
			return errRecord
		}
		if kind != opDelete {
			op.Value = d.bytes()
		}
		if !d.bad && (kind == opPutBody || kind == opCopy) != isNewBody(op) {
			return errRecord
		}
		if kind == opCopy {
			copies++
		}
		f(kind, op)
		n--
		if copies > 0 && copies != i+1 { // a record brings copies or changes, not both
			return errRecord
		}
	}
	if n != 0 && !d.bad {
		return errRecord
	}
	return d.end()
}

// place turns the body records of a log record into what they are once its place is known.
func place(ops []engine.Op, r *blob.Record) error {
	for i, op := range ops {
		if !isNewBody(op) {
			continue
		}
		body, err := decodeBody(op.Value)
		if err != nil {
			return err
		}
		if body.offset+body.total() > int64(len(r.Blob)) && r.Blob != nil {
			return errRecord
		}
		body.segment, body.offset = r.Segment, r.BlobOffset+body.offset
		ops[i].Value = body.encode()
	}
	return nil
}
