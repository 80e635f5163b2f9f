package storage

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// Compaction makes room: what is still needed of a segment is written once more, at the end of the log, and the segment's file is
// removed (reclaimed.go). Needed are the bodies that live, and the ops that say what the index says now: so the index can be
// made again from the segments that are left. All of it goes through the commits that everybody uses, none of
// which waits for a flush but the last, which records that the segment is not needed any more.
//
// Only segments that are complete and need little are taken, so an octet that is made free costs at most
// CompactBelow/(100-CompactBelow) octets written.

// compactor is what compaction remembers between rounds.
type compactor struct {
	garbage uint64           // octets of dead bodies when segments were looked at last
	active  uint32           // the active segment then
	full    map[uint32]int64 // segments that need more than their bodies tell: how many octets of those they had when that was found
	damaged map[uint32]bool  // segments that hold something that cannot be read: left alone
}

// CompactReport says what a compaction did.
type CompactReport struct {
	Segments int   `json:"segments"` // how many were removed
	Freed    int64 `json:"freed"`    // octets of their files
	Written  int64 `json:"written"`  // octets of bodies and ops written again
	Skipped  int   `json:"skipped"`  // segments left alone because something in them is damaged
}

// Compact removes everything from the disk that nobody needs any more, the bodies of expunged messages above all: the segment that is written is
// closed, and all segments that hold something dead are compacted, however little it is, and those that were found damaged: a body whose checksum is
// wrong is moved as it is, and stays damaged, but the segment is whole again and can be backed up. It goes at housekeeping's rate. The error is of kind
// mail.Full if there is not even room for what must be written before something becomes free.
func (s *Store) Compact(ctx context.Context) (CompactReport, error) {
	var r CompactReport
	err := s.house.alone(ctx, func(ctx context.Context) error {
		s.house.compactor.damaged = nil // they are looked at again
		if err := s.tell(s.rollLog); err != nil {
			return err
		}
		dead, _, err := s.garbage()
		if err != nil {
			return err
		}
		live, err := s.liveBodies(ctx)
		if err != nil {
			return err
		}
		sizes, err := s.closedSegments(ctx)
		if err != nil {
			return err
		}
		found := s.house.found.take()
		for n := range sizes {
			if dead[n] == 0 && !found[n] {
				delete(sizes, n)
			}
		}
		return s.compactAll(ctx, leastFirst(sizes, live), 100, &r)
	})
	return r, err
}

// compactSome compacts the segments that are worth it, if there is something new since it looked last.
func (s *Store) compactSome(ctx context.Context) error {
	if _, err := s.sweep(ctx); err != nil { // what was left when the power went, or pinned
		return err
	}
	c, percent := &s.house.compactor, s.o.CompactBelow
	if s.isLow() { // room counts for more than what it costs
		percent, c.full, c.active = max(percent, 90), nil, 0
	}
	_, total, err := s.garbage()
	active := s.log.Active()
	if err != nil || total == c.garbage && active == c.active {
		return err
	}
	live, err := s.liveBodies(ctx)
	if err != nil {
		return err
	}
	sizes, err := s.closedSegments(ctx)
	if err != nil {
		return err
	}
	for n, size := range sizes {
		if worth := c.full[n] == 0 || live[n] < c.full[n]-size/10; !worth || c.damaged[n] || !below(live[n], size, percent) {
			delete(sizes, n)
		}
	}
	var r CompactReport
	err = s.compactAll(ctx, leastFirst(sizes, live), percent, &r)
	if r.Segments > 0 {
		s.o.Log.Info("segments were compacted", "segments", r.Segments, "freed", r.Freed, "written", r.Written)
	}
	if err == nil {
		_, c.garbage, err = s.garbage()
		c.active = active
	}
	return err
}

func below(part, whole int64, percent int) bool { return part*100 < whole*int64(percent) }

// leastFirst orders segments by what lives in them: what frees much for little comes first.
func leastFirst[V any](of map[uint32]V, live map[uint32]int64) []uint32 {
	list := make([]uint32, 0, len(of))
	for n := range of {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b uint32) int { return cmp.Or(cmp.Compare(live[a], live[b]), cmp.Compare(a, b)) })
	return list
}

// compactAll compacts segments one by one. One that is damaged is left alone.
func (s *Store) compactAll(ctx context.Context, list []uint32, percent int, r *CompactReport) error {
	for _, n := range list {
		j := &compaction{store: s, segment: n, percent: percent, pace: pace{rate: s.o.HouseRate}, report: r}
		err := j.run(ctx)
		switch {
		case errors.Is(err, blob.ErrDamaged), errors.Is(err, blob.ErrChecksum), mail.KindOf(err) == mail.Corrupt:
			if s.house.compactor.damaged == nil {
				s.house.compactor.damaged = make(map[uint32]bool)
			}
			s.house.compactor.damaged[n] = true
			s.house.found.add(n)
			r.Skipped++
			s.house.damaged.Store(int64(len(s.house.compactor.damaged)))
			s.o.Log.Error("a segment is damaged and is not compacted; a deep check names the messages", "segment", blob.SegmentName(n), "error", err)
		case err != nil:
			return fmt.Errorf("%s: %w", blob.SegmentName(n), err)
		}
	}
	return nil
}

// garbage is the octets of dead bodies by segment, and their sum.
func (s *Store) garbage() (map[uint32]uint64, uint64, error) {
	dead, total := make(map[uint32]uint64), uint64(0)
	err := s.scan(key0(keyGarbage), func(k, v []byte) error {
		n, err := decodeNumber(v)
		dead[last32(k)] = n
		total += n
		return err
	})
	return dead, total, err
}

// liveBodies is the octets of living bodies by segment, about: commits go on.
func (s *Store) liveBodies(ctx context.Context) (map[uint32]int64, error) {
	live := make(map[uint32]int64)
	p := pace{rate: s.o.HouseRate}
	err := s.scan(key0(keyBody), func(k, v []byte) error {
		r, err := decodeBody(v)
		if err != nil {
			return err
		}
		live[r.segment] += r.total()
		return p.spend(ctx, int64(len(k)+len(v)))
	})
	return live, err
}

// closedSegments is the sizes of the segments that are complete and not reclaimed.
func (s *Store) closedSegments(ctx context.Context) (map[uint32]int64, error) {
	numbers, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		return nil, err
	}
	sizes, active := make(map[uint32]int64), s.log.Active()
	for _, n := range numbers {
		v, err := s.kv.Get(keyOf(keyReclaimed, n))
		if err != nil {
			return nil, err
		}
		if n >= active || v != nil {
			continue
		}
		if sizes[n], err = s.log.Size(n); err != nil {
			return nil, err
		}
	}
	return sizes, ctx.Err()
}

// compaction is that of one segment.
type compaction struct {
	store   *Store
	segment uint32
	percent int // how much of it may be needed
	pace    pace
	report  *CompactReport

	first bool // there is no segment before it: what deletions delete is nowhere any more
}

// living is a body in the segment.
type living struct {
	id   uint64
	body bodyRecord
}

func (j *compaction) run(ctx context.Context) error {
	s := j.store
	size, err := s.log.Size(j.segment)
	if err != nil {
		return err
	}
	numbers, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		return err
	}
	j.first = len(numbers) > 0 && numbers[0] == j.segment
	list, octets, err := j.bodies(ctx)
	if err != nil {
		return err
	}
	ops, err := j.eachNeeded(ctx, nil)
	if err != nil {
		return err
	}
	if j.percent < 100 && !below(octets+ops, size, j.percent) {
		s.house.compactor.noteFull(j.segment, octets)
		return nil
	}
	if err := s.fits(octets + ops); err != nil { // nothing is begun that cannot be finished
		return err
	}
	if err := j.move(ctx, list); err != nil {
		return err
	}
	if _, err := j.eachNeeded(ctx, j.carry); err != nil {
		return err
	}
	if left, _, err := j.bodies(ctx); err != nil || len(left) > 0 {
		return errors.Join(err, fmt.Errorf("%d bodies are still in it", len(left))) // never seen; the next round begins anew
	}
	err = s.commit(ctx, &commit{}, func(b *build) error {
		b.put(keyOf(keyReclaimed, j.segment), encodeNumber(uint64(size)))
		b.delete(keyOf(keyGarbage, j.segment))
		return nil
	})
	if err != nil {
		return err
	}
	freed, err := s.sweep(ctx)
	j.report.Segments++
	j.report.Freed += freed
	return err
}

func (c *compactor) noteFull(segment uint32, live int64) {
	if c.full == nil {
		c.full = make(map[uint32]int64)
	}
	c.full[segment] = max(live, 1)
}

// bodies finds what lives in the segment, in the order of places. Nothing can come to it any more.
func (j *compaction) bodies(ctx context.Context) (list []living, octets int64, err error) {
	err = j.store.scan(key0(keyBody), func(k, v []byte) error {
		r, err := decodeBody(v)
		if err != nil {
			return err
		}
		if r.segment == j.segment {
			list = append(list, living{binary.BigEndian.Uint64(k[1:]), r})
			octets += r.total()
		}
		return j.pace.spend(ctx, int64(len(k)+len(v)))
	})
	slices.SortFunc(list, func(a, b living) int { return cmp.Compare(a.body.offset, b.body.offset) })
	return list, octets, err
}

// How many bodies, and octets of them, are moved in one act: more only if one body is larger.
const (
	moveBodies = 128
	moveBytes  = 512 << 10
)

// move writes the living bodies again and has the index point there.
func (j *compaction) move(ctx context.Context, list []living) error {
	held, err := j.store.log.Hold(j.segment)
	if err != nil {
		return err
	}
	defer held.Close()
	var buf []byte
	for len(list) > 0 {
		n, size := 0, int64(0)
		for n < min(len(list), moveBodies) && (n == 0 || size+list[n].body.total() <= moveBytes) {
			size += list[n].body.total()
			n++
		}
		if int64(cap(buf)) < size || cap(buf) > moveBytes && size <= moveBytes {
			buf = make([]byte, max(size, moveBytes))
		}
		if err := j.moveSome(ctx, held, list[:n], buf[:size]); err != nil {
			return err
		}
		list = list[n:]
		if err := j.pace.spend(ctx, 2*size); err != nil {
			return err
		}
	}
	return nil
}

// moveSome copies bodies in two acts. The first brings the copies and changes nothing; then their place is known, and the second has those records
// point there that still point to the old place. So no commit ever builds on a record of a body whose place is not known yet.
func (j *compaction) moveSome(ctx context.Context, held *blob.Held, list []living, buf []byte) error {
	s := j.store
	copies, at := make([]engine.Op, len(list)), int64(0)
	for i, l := range list {
		b := buf[at : at+l.body.total()]
		if err := held.Read(l.body.offset, b); err != nil {
			return damaged(err)
		}
		if blob.Checksum(b) != l.body.sum {
			if j.percent < 100 {
				return fmt.Errorf("body %d: %w", l.id, blob.ErrChecksum)
			}
			s.o.Log.Error("a damaged message is moved as it is", "id", ObjectID(l.id).String())
		}
		r := l.body
		r.segment, r.offset = 0, at
		copies[i] = engine.Op{Key: keyOf64(keyBody, l.id), Value: r.encode()}
		at += l.body.total()
	}
	c := &commit{lazy: true, copies: encodeCopies(copies)}
	c.record.Blob, c.record.BlobSum = buf, blob.Checksum(buf)
	if err := s.commit(ctx, c, func(*build) error { return nil }); err != nil {
		return err
	}
	j.report.Written += int64(len(buf))
	return s.commit(ctx, &commit{lazy: true}, func(b *build) error {
		at, left := c.record.BlobOffset, uint64(0)
		died := uint64(0)
		for _, l := range list {
			v, err := b.get(keyOf64(keyBody, l.id))
			if err != nil {
				return err
			}
			n := l.body.total()
			if v == nil {
				died += uint64(n)
			} else {
				r, err := decodeBody(v)
				if err != nil || r.segment != l.body.segment || r.offset != l.body.offset {
					return errors.Join(errRecord, fmt.Errorf("body %d has moved", l.id))
				}
				r.segment, r.offset = c.record.Segment, at
				b.put(keyOf64(keyBody, l.id), r.encode())
				left += uint64(n)
			}
			at += n
		}
		return errors.Join(b.addGarbage(j.segment, left), b.addGarbage(c.record.Segment, died))
	})
}

// How many ops, and octets of them, are carried in one act.
const (
	carryOps   = 256
	carryBytes = 128 << 10
)

// eachNeeded finds the ops of the segment that say what the index says now, and calls f, if it is not nil, with some of them at a time. It returns
// how many octets they are. An op that is passed over is not needed: a later one of another record says what is so now.
func (j *compaction) eachNeeded(ctx context.Context, f func(context.Context, []engine.Op) error) (octets int64, err error) {
	var some []engine.Op
	size := 0
	flush := func() error {
		octets += int64(size)
		list, n := some, int64(size)
		some, size = nil, 0
		if f == nil || len(list) == 0 {
			return ctx.Err()
		}
		if err := f(ctx, list); err != nil {
			return err
		}
		return j.pace.spend(ctx, n)
	}
	err = j.store.log.Ops(j.segment, func(r *blob.Record) error {
		ops, err := decodeOps(r.Ops)
		if err == nil {
			err = place(ops, r)
		}
		if err != nil {
			return err
		}
		for _, op := range ops {
			now, err := j.store.kv.Get(op.Key)
			if err != nil {
				return err
			}
			if now == nil && !j.first || now != nil && bytes.Equal(now, op.Value) {
				some = append(some, engine.Op{Key: op.Key, Value: now})
				size += len(op.Key) + len(now) + 8
			}
			if len(some) >= carryOps || size >= carryBytes {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		return j.pace.spend(ctx, int64(len(r.Ops)+recordOverhead))
	})
	return octets, errors.Join(err, flush())
}

// recordOverhead is what reading a record costs beside its ops, about.
const recordOverhead = 4096

// carry writes ops again, if they still say what the index says.
func (j *compaction) carry(ctx context.Context, ops []engine.Op) error {
	for {
		var wait *commit
		err := j.store.commit(ctx, &commit{lazy: true}, func(b *build) (err error) {
			wait, err = b.carry(ops)
			return err
		})
		if !errors.Is(err, errPending) {
			for _, op := range ops {
				j.report.Written += int64(len(op.Key) + len(op.Value) + 8)
			}
			return err
		}
		<-wait.done
	}
}

var errPending = errors.New("a commit under way changes it")

// carry puts those ops again that are what is visible. One that another commit is about to change must not be passed over, for that commit may
// fail: then the error is errPending, and the commit is worth waiting for.
func (b *build) carry(ops []engine.Op) (wait *commit, err error) {
	for _, op := range ops {
		visible, err := b.store.kv.Get(op.Key)
		if err != nil {
			return nil, err
		}
		if (visible == nil) != (op.Value == nil) || !bytes.Equal(visible, op.Value) {
			continue
		}
		if p, ok := b.store.pending[string(op.Key)]; ok {
			return p.by, errPending
		}
		b.put(op.Key, op.Value)
	}
	return nil, nil
}

// addGarbage counts octets of dead bodies.
func (b *build) addGarbage(segment uint32, n uint64) error {
	if n == 0 {
		return nil
	}
	key := keyOf(keyGarbage, segment)
	v, err := b.get(key)
	if err != nil {
		return err
	}
	dead, err := decodeNumber(v)
	b.put(key, encodeNumber(dead+n))
	return err
}
