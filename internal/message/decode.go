package message

import (
	"errors"
	"slices"

	"cmmpd/internal/mail"
)

var (
	errInconsistent = errors.New("the parts of a message index do not fit together")
	errEncoding     = errors.New("a message index is not encoded as it should be")
	errVersion      = errors.New("a message index of an unknown version")
)

// DecodeIndex reads what AppendBinary wrote, all of b and no other encoding of the same
// index. The error is of kind Corrupt; for a version that this program does not know,
// Unsupported. Nothing is kept of b.
func DecodeIndex(b []byte) (*Index, error) {
	d := decoder{s: string(b)}
	if len(b) > 0 && b[0] != indexVersion {
		return nil, mail.E(mail.Unsupported, "", errVersion)
	}
	d.take(1)
	x := &Index{Size: d.offset(), Defects: Defect(d.bits(uint64(allDefects)))}
	x.Root = d.part(nil, x.Size, 0, 0)
	if d.pos != len(d.s) {
		d.fail(errEncoding)
	}
	if d.err != nil {
		return nil, mail.E(mail.Corrupt, "", d.err)
	}
	return x, nil
}

// decoder is the state of one run of DecodeIndex. After the first error, which stays,
// it reads zeros.
type decoder struct {
	s     string
	pos   int
	err   error
	host  string // of the address before
	parts int
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.pos = len(d.s)
}

func (d *decoder) take(n uint64) string {
	if n > uint64(len(d.s)-d.pos) {
		d.fail(errEncoding)
		return ""
	}
	s := d.s[d.pos : d.pos+int(n)]
	d.pos += int(n)
	return s
}

// uint reads a number in its shortest form, below 1<<63.
func (d *decoder) uint() (v uint64) {
	for shift := 0; shift < 63; shift += 7 {
		if d.pos >= len(d.s) {
			break
		}
		c := d.s[d.pos]
		d.pos++
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			if c == 0 && shift > 0 {
				break
			}
			return v
		}
	}
	d.fail(errEncoding)
	return 0
}

// offset reads a number that an offset may be.
func (d *decoder) offset() int64 {
	v := d.uint()
	if v > 1<<48 {
		d.fail(errEncoding)
		return 0
	}
	return int64(v)
}

// count reads how many things follow, each of which takes at least size bytes.
func (d *decoder) count(size int) int {
	v := d.uint()
	if v > uint64((len(d.s)-d.pos)/size) {
		d.fail(errEncoding)
		return 0
	}
	return int(v)
}

// bits reads a set.
func (d *decoder) bits(all uint64) uint64 {
	v := d.uint()
	if v&^all != 0 {
		d.fail(errEncoding)
		return 0
	}
	return v
}

func (d *decoder) word() string { return d.numbered(d.uint()) }

// numbered is the string with that number, and the bytes of it if it is not in the
// dictionary.
func (d *decoder) numbered(v uint64) string {
	if v < uint64(len(dictionary)) {
		return dictionary[v]
	}
	s := d.take(v - uint64(len(dictionary)))
	if d.err != nil {
		return ""
	}
	if _, ok := slices.BinarySearch(dictionary[:], s); ok {
		d.fail(errEncoding)
	}
	return s
}

// present reads a string that must not have the value which is encoded by its absence.
func (d *decoder) present(absent string) string {
	s := d.word()
	if s == absent {
		d.fail(errEncoding)
	}
	return s
}

// part reads a part, whose header cannot begin before from. end is that of the root.
func (d *decoder) part(parent *Part, end, from int64, depth int) *Part {
	d.parts++
	if depth > maxDepth || d.parts > maxParts {
		d.fail(errInconsistent)
	}
	p := &Part{HeaderStart: from, Encoding: "7bit"}
	bits := d.bits(allPartBits)
	if parent != nil {
		p.HeaderStart += d.offset()
	}
	p.BodyStart = p.HeaderStart + d.offset()
	p.BodyEnd = end
	if parent != nil {
		p.BodyEnd = p.BodyStart + d.offset()
	}
	p.Lines = d.offset()
	p.Type, p.Subtype = d.word(), d.word()
	d.rarer(p, bits)
	if parent == nil || parent.isMessage() {
		p.Envelope = d.envelope()
	}
	children := 0
	switch {
	case p.Type == "multipart":
		children = d.count(6)
	case p.isMessage():
		children = 1
	}
	from = p.BodyStart
	for i := 0; i < children && d.err == nil; i++ {
		if p.Children == nil {
			p.Children = make([]*Part, 0, min(children, maxParts))
		}
		child := d.part(p, 0, from, depth+1)
		p.Children = append(p.Children, child)
		from = child.BodyEnd
	}
	if d.err == nil && !p.consistent(parent, p.HeaderStart) {
		d.fail(errInconsistent)
	}
	return p
}

// rarer reads the values that bits announces.
func (d *decoder) rarer(p *Part, bits uint64) {
	p.Opaque = bits&isOpaque != 0
	if bits&hasParams != 0 {
		if p.Params = d.params(); p.Params == nil {
			d.fail(errEncoding)
		}
	}
	if bits&hasEncoding != 0 {
		p.Encoding = d.present("7bit")
	}
	if bits&hasDisposition != 0 {
		p.Disposition = d.present("")
		p.DispositionParams = d.params()
	}
	if bits&hasID != 0 {
		p.ID = d.present("")
	}
	if bits&hasDescription != 0 {
		p.Description = d.present("")
	}
	if bits&hasLanguage != 0 {
		n := d.count(1)
		if n == 0 {
			d.fail(errEncoding)
		}
		for range n {
			p.Language = append(p.Language, d.word())
		}
	}
	if bits&hasMD5 != 0 {
		p.MD5 = d.present("")
	}
	if bits&hasLocation != 0 {
		p.Location = d.present("")
	}
}

func (d *decoder) params() []Param {
	n := d.count(2)
	if n == 0 {
		return nil
	}
	params := make([]Param, n)
	for i := range params {
		params[i] = Param{d.word(), d.word()}
	}
	return params
}

func (d *decoder) envelope() *Envelope {
	v := &Envelope{}
	bits := d.bits(allEnvelopeBits)
	if bits&hasDate != 0 {
		v.Date = d.present("")
	}
	if bits&hasSubject != 0 {
		v.Subject = d.present("")
	}
	if bits&hasMessageID != 0 {
		v.MessageID = d.present("")
	}
	if bits&hasInReplyTo != 0 {
		v.InReplyTo = d.present("")
	}
	v.From = d.addresses(bits&hasFrom != 0)
	v.To = d.addresses(bits&hasTo != 0)
	v.Cc = d.addresses(bits&hasCc != 0)
	v.Sender = d.orFrom(v, bits&hasSender != 0)
	v.ReplyTo = d.orFrom(v, bits&hasReplyTo != 0)
	v.Bcc = d.addresses(bits&hasBcc != 0)
	return v
}

// addresses reads a list that is not empty.
func (d *decoder) addresses(present bool) []Address {
	if !present {
		return nil
	}
	list := d.list()
	if len(list) == 0 {
		d.fail(errEncoding)
	}
	return list
}

// orFrom reads a list that differs from From, or it is From.
func (d *decoder) orFrom(v *Envelope, present bool) []Address {
	if !present {
		return v.From
	}
	list := d.list()
	if slices.Equal(list, v.From) {
		d.fail(errEncoding)
	}
	return list
}

func (d *decoder) list() []Address {
	n := d.count(3)
	if n == 0 {
		return nil
	}
	list := make([]Address, n)
	for i := range list {
		list[i] = Address{Name: d.word(), Mailbox: d.word(), Host: d.hostOf()}
	}
	return list
}

// hostOf reads a host, or the sign that it is the one before.
func (d *decoder) hostOf() string {
	v := d.uint()
	if v == 0 {
		return d.host
	}
	host := d.numbered(v - 1)
	if host == d.host {
		d.fail(errEncoding)
	}
	d.host = host
	return host
}
