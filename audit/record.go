package audit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// Record is an Event in its place in the log.
type Record struct {
	Seq  int64     // its number, from 0; the index of its leaf
	Time time.Time // when it happened by the clock of the day; Seq alone gives the order
	Event
	Phase string    // "begin" or "end" of an act; empty if the record stands alone
	Act   int64     // with "end": the Seq of its "begin"
	Count int64     // above 0: so many events folded into this record, or lost in a gap
	Last  time.Time // with Count: when the last of them happened

	// Version is that of the record format: 2 if values may be hidden behind digests; 0 is 1.
	Version int64
}

// The phases.
const (
	phaseBegin = "begin"
	phaseEnd   = "end"
)

// The versions of the record format. A reader refuses a newer one.
const (
	plainVersion  = 1
	hidingVersion = 2 // digests stand for values, and nothing else looks like one
)

func (r *Record) version() int64 { return max(r.Version, plainVersion) }

// maxRecord is what the length prefix of an entry bundle can say.
const maxRecord = 65535

var errNotCanonical = errors.New("not in canonical form")

// appendRecord appends the one encoding of r: canonical JSON (RFC 8785), empty fields
// left out.
func appendRecord(b []byte, r *Record) []byte {
	start := len(b)
	b = append(b, '{')
	member := func(name string) {
		if len(b) > start+1 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = append(b, name...)
		b = append(b, '"', ':')
	}
	str := func(name, v string) {
		if v != "" {
			member(name)
			b = appendString(b, v)
		}
	}
	num := func(name string, v int64) {
		member(name)
		b = strconv.AppendInt(b, v, 10)
	}
	when := func(name string, t time.Time) {
		member(name)
		b = append(b, '"')
		b = appendStamp(b, t)
		b = append(b, '"')
	}
	if r.Phase == phaseEnd {
		num("act", r.Act)
	}
	str("actor", r.Actor)
	str("approval", r.Approval)
	str("client", r.Client)
	if r.Count > 0 {
		num("count", r.Count)
	}
	if len(r.Detail) > 0 {
		member("detail")
		b = appendDetail(b, r.Detail)
	}
	if r.Count > 0 {
		when("last", r.Last)
	}
	str("outcome", r.Outcome)
	str("phase", r.Phase)
	num("seq", r.Seq)
	str("subject", r.Subject)
	when("time", r.Time)
	str("type", r.Type)
	num("v", r.version())
	return append(b, '}')
}

func appendDetail(b []byte, detail map[string]string) []byte {
	var room [16]string
	names := room[:0]
	for name := range detail {
		names = append(names, name)
	}
	slices.Sort(names)
	b = append(b, '{')
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, ':')
		b = appendString(b, detail[name])
	}
	return append(b, '}')
}

// decodeRecord reads what appendRecord wrote, and nothing else: it writes the record
// anew into scratch, which it returns for the next call, and demands equality.
func decodeRecord(b, scratch []byte) (r Record, used []byte, err error) {
	if len(b) > maxRecord {
		return Record{}, scratch, fmt.Errorf("longer than %d bytes", maxRecord)
	}
	c := cursor{b: b}
	if err := c.record(&r); err != nil {
		return Record{}, scratch, err
	}
	scratch = appendRecord(scratch[:0], &r)
	if !bytes.Equal(scratch, b) {
		return Record{}, scratch, errNotCanonical
	}
	return r, scratch, nil
}

// record reads one object with the members of a record, in any order that the
// comparison of decodeRecord will then judge.
func (c *cursor) record(r *Record) error {
	version := int64(-1)
	err := c.object(func(name string) (err error) {
		switch name {
		case "act":
			r.Act, err = c.integer()
		case "actor":
			r.Actor, err = c.str()
		case "approval":
			r.Approval, err = c.str()
		case "client":
			r.Client, err = c.str()
		case "count":
			r.Count, err = c.integer()
		case "detail":
			err = c.detail(r)
		case "last":
			r.Last, err = c.when()
		case "outcome":
			r.Outcome, err = c.str()
		case "phase":
			r.Phase, err = c.str()
		case "seq":
			r.Seq, err = c.integer()
		case "subject":
			r.Subject, err = c.str()
		case "time":
			r.Time, err = c.when()
		case "type":
			r.Type, err = c.str()
		case "v":
			version, err = c.integer()
		default:
			err = fmt.Errorf("unknown member %q", name)
		}
		return err
	})
	if version > plainVersion {
		r.Version = version
	}
	switch {
	case err != nil:
		return err
	case c.i != len(c.b):
		return errors.New("bytes after the record")
	case version > hidingVersion:
		return fmt.Errorf("record format %d is newer than this program", version)
	case version < plainVersion:
		return errors.New("no record format")
	case !validName(r.Type):
		return errors.New("no valid type")
	case r.Phase != "" && r.Phase != phaseBegin && r.Phase != phaseEnd:
		return fmt.Errorf("unknown phase %q", r.Phase)
	case r.Phase == phaseEnd && r.Act >= r.Seq:
		return errors.New("ends an act that has not begun")
	}
	return nil
}

func (c *cursor) detail(r *Record) error {
	r.Detail = make(map[string]string)
	return c.object(func(name string) error {
		if !validName(name) {
			return fmt.Errorf("bad name of a detail %q", name)
		}
		v, err := c.str()
		r.Detail[name] = v
		return err
	})
}

func (c *cursor) when() (time.Time, error) {
	s, err := c.str()
	if err != nil {
		return time.Time{}, err
	}
	t, ok := parseStamp(s)
	if !ok {
		return time.Time{}, errors.New("bad time")
	}
	return t, nil
}

// parseStamp reads what appendStamp writes, and a little more: a day that no month has
// becomes another one, which the comparison of decodeRecord then judges.
func parseStamp(s string) (time.Time, bool) {
	if len(s) != len(timeLayout) {
		return time.Time{}, false
	}
	var n [7]int
	field := 0
	for i := range len(s) {
		switch c := s[i]; {
		case timeLayout[i] >= '0' && timeLayout[i] <= '9':
			if c < '0' || c > '9' {
				return time.Time{}, false
			}
			n[field] = 10*n[field] + int(c-'0')
		case c != timeLayout[i]:
			return time.Time{}, false
		default:
			field++
		}
	}
	return time.Date(n[0], time.Month(n[1]), n[2], n[3], n[4], n[5], n[6], time.UTC), true
}

// appendStamp appends t, which stamp gave, in timeLayout.
func appendStamp(b []byte, t time.Time) []byte {
	year, month, day := t.Date()
	hour, minute, second := t.Clock()
	digits := func(n, width int) {
		at := len(b)
		for range width {
			b = append(b, '0')
		}
		for i := at + width - 1; n > 0 && i >= at; i-- {
			b[i] = byte('0' + n%10)
			n /= 10
		}
	}
	for _, part := range [...]struct {
		n, width int
		end      byte
	}{{year, 4, '-'}, {int(month), 2, '-'}, {day, 2, 'T'}, {hour, 2, ':'}, {minute, 2, ':'}, {second, 2, '.'}, {t.Nanosecond(), 9, 'Z'}} {
		digits(part.n, part.width)
		b = append(b, part.end)
	}
	return b
}
