package storage

import (
	"context"
	"errors"
	"slices"
)

// wholeBytes is up to which size a message is read together with its summary.
const wholeBytes = 1 << 20

// Whole is the summary of a message of the batch and the message as stored, without the prefix of its entry, for those who look
// through many. It is read into buf, which is returned, larger perhaps, for the next one; data is good until then.
func (b *Batch) Whole(ctx context.Context, i int, buf []byte) (sum *Summary, data, again []byte, err error) {
	if e, err := b.open(i); err == nil && e.body.sealed <= wholeBytes {
		if sum, data, buf, err = b.m.m.store.readWhole(e, buf); err == nil {
			return sum, data, buf, nil
		}
	}
	if sum, err = b.Summary(ctx, i); err != nil {
		return nil, nil, buf, err
	}
	c, err := b.Body(ctx, i)
	if err != nil {
		return nil, nil, buf, err
	}
	defer func() { _ = c.Close() }()
	buf = slices.Grow(buf[:0], int(sum.Index.Size))
	data = buf[:sum.Index.Size]
	if n, err := c.ReadAt(data, int64(len(sum.Prefix))); n < len(data) {
		return nil, nil, buf, errors.Join(err, errRecord)
	}
	return sum, data, buf, nil
}

// readWhole reads summary and frames, which lie beside each other, at once.
func (s *Store) readWhole(e *openedEntry, buf []byte) (*Summary, []byte, []byte, error) {
	buf = slices.Grow(buf[:0], int(e.body.total()))[:e.body.total()]
	if err := s.log.Read(e.body.segment, e.body.offset, buf); err != nil {
		return nil, nil, buf, damaged(err)
	}
	sealed, rest := buf[:e.body.summary:e.body.summary], buf[e.body.summary:]
	data := rest[:0]
	for frame := range frames(e.body.plain) {
		n, domain := min(len(rest), frameSize+tagSize), byte(domainFrame)
		if n == len(rest) {
			domain = domainLast
		}
		plain, err := e.key.open(rest[:n], domain, uint32(frame))
		if err != nil {
			return nil, nil, buf, err
		}
		data, rest = append(data, plain...), rest[n:] // it moves to the front by the tags before it
	}
	// What is kept of the summary is not in buf.
	sum, err := e.openSummary(slices.Clone(sealed), func() ([]byte, error) { return slices.Clone(data[:min(len(data), headerInBody)]), nil })
	if err != nil {
		return nil, nil, buf, err
	}
	return sum, data, buf, nil
}
