package storage

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// A segment out of which everything was moved is reclaimed: first that is recorded (keyReclaimed), then the index is
// flushed, so that nothing has to be replayed from it, and then its file is removed. Until then, after a crash in between too,
// it is merely not needed. What is missing without being recorded is damage.

// complete finds segments that are missing.
func (s *Store) complete() error {
	numbers, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		return err
	}
	var lost []string
	for _, n := range blob.Missing(numbers) {
		v, err := s.kv.Get(keyOf(keyReclaimed, n))
		if err != nil {
			return err
		}
		if v == nil {
			lost = append(lost, blob.SegmentName(n))
		}
	}
	if lost == nil {
		return nil
	}
	return mail.E(mail.Corrupt, "", fmt.Errorf("%w: missing in %s: %s; put them back from a copy of this directory, or restore the last backup", blob.ErrDamaged, s.segmentsDir(), strings.Join(lost[:min(len(lost), 10)], ", ")))
}

func (s *Store) segmentsDir() string { return filepath.Join(s.o.Dir, segmentsDir) }

// pin keeps the files of all segments until unpin.
func (s *Store) pin() {
	s.pinMu.Lock()
	defer s.pinMu.Unlock()
	s.pins++
}

func (s *Store) unpin() {
	s.pinMu.Lock()
	defer s.pinMu.Unlock()
	s.pins--
	s.pinned = time.Now()
}

// sweep removes the files of segments that are reclaimed, unless something is pinned: then the next sweep does. It says how many octets
// that made free.
func (s *Store) sweep(ctx context.Context) (freed int64, err error) {
	numbers, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		return 0, err
	}
	var gone []uint32
	for _, n := range numbers {
		v, err := s.kv.Get(keyOf(keyReclaimed, n))
		if err != nil {
			return 0, err
		}
		if v != nil {
			gone = append(gone, n)
		}
	}
	if gone == nil {
		return 0, nil
	}
	if err := s.writer.flush(ctx); err != nil { // now no opening replays anything of them
		return 0, err
	}
	s.pinMu.Lock()
	defer s.pinMu.Unlock()
	for _, n := range gone {
		if s.pins > 0 {
			return freed, nil
		}
		size, err := s.log.Size(n)
		if err != nil {
			return freed, err
		}
		if err := s.log.Remove(n); err != nil {
			return freed, err
		}
		freed += size
		s.house.freed.Add(size)
		s.house.segments.Add(1)
	}
	return freed, nil
}

// reclaimed checks the record of a reclaimed segment.
func (c *checker) reclaimed(k, v []byte) {
	if _, err := decodeNumber(v); err != nil || len(k) != 5 {
		c.problem("reclaimed segment %x: %v", k, err)
		return
	}
	c.gone[binary.BigEndian.Uint32(k[1:])] = true
}

// segments checks that every body lies in a segment that is there, together with what is dead in it.
func (c *checker) segments() {
	numbers, err := blob.Segments(c.store.o.FS, c.store.segmentsDir())
	if err != nil {
		c.problem("segments: %v", err)
		return
	}
	for _, n := range blob.Missing(numbers) {
		if !c.gone[n] {
			c.problem("segment %s is missing", blob.SegmentName(n))
		}
	}
	full := c.dead
	for id, b := range c.bodies {
		if c.gone[b.segment] || b.segment == 0 || b.segment > c.store.log.Active() {
			c.problem("body %d is in segment %d, which is not there", id, b.segment)
			continue
		}
		full[b.segment] += uint64(b.total())
	}
	for n, octets := range full {
		if c.gone[n] || n >= c.store.log.Active() {
			continue
		}
		if size, err := c.store.log.Size(n); err != nil || uint64(size) < octets {
			c.problem("segment %s has %d octets, but holds %d (%v)", blob.SegmentName(n), size, octets, err)
		}
	}
}
