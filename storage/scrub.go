package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// A scrub reads every complete segment from its beginning to its end and compares all checksums, so that a disk that forgets is noticed while there is
// a backup to bring things back from. It goes on where it was after a restart. What it finds damaged it names in the log; the messages
// concerned cannot be read, all others can.

// scrubState is how far the scrub is.
type scrubState struct {
	next     uint32 // the segment that is next; 0: no scrub is under way
	finished int64  // when the last one was complete, in Unix seconds
	damaged  uint64 // messages found damaged by the one under way, or the last
}

func (r scrubState) encode() []byte {
	return appendUint(appendInt(appendUint(nil, uint64(r.next)), r.finished), r.damaged)
}

func decodeScrub(b []byte) (scrubState, error) {
	if b == nil {
		return scrubState{}, nil
	}
	d := decoder{b: b}
	r := scrubState{next: d.uint32(), finished: d.int(), damaged: d.uint()}
	return r, d.end()
}

// scrubSome reads one segment, if a scrub is under way or due. more says that there is more to do.
func (s *Store) scrubSome(ctx context.Context) (more bool, err error) {
	v, err := s.kv.Get(key0(keyScrub))
	if err != nil {
		return false, err
	}
	r, err := decodeScrub(v)
	if err != nil {
		return false, err
	}
	s.house.scrubbed.Store(r.finished)
	s.house.spoilt.Store(int64(r.damaged))
	now := s.o.Now()
	if r.next == 0 {
		if age := now.Sub(time.Unix(r.finished, 0)); s.o.ScrubEvery < 0 || age >= 0 && age < s.o.ScrubEvery {
			return false, nil
		}
		r.next, r.damaged = 1, 0
	}
	numbers, err := blob.Segments(s.o.FS, s.segmentsDir())
	if err != nil {
		return false, err
	}
	active, n := s.log.Active(), uint32(0)
	for _, x := range numbers {
		if x >= r.next && x < active {
			n = x
			break
		}
	}
	if n == 0 {
		r.next, r.finished = 0, now.Unix()
		s.o.Log.Info("the mail store was read through", "messages damaged", r.damaged)
	} else {
		spoilt, err := s.scrubSegment(ctx, n)
		if err != nil {
			return false, err
		}
		r.next, r.damaged = n+1, r.damaged+uint64(spoilt)
	}
	s.house.scrubbed.Store(r.finished)
	s.house.spoilt.Store(int64(r.damaged))
	return r.next != 0, s.commit(ctx, &commit{lazy: true}, func(b *build) error {
		b.put(key0(keyScrub), r.encode())
		return nil
	})
}

// scrubSegment reads a segment and says how many messages it found damaged.
func (s *Store) scrubSegment(ctx context.Context, n uint32) (damaged int, err error) {
	held, err := s.log.Hold(n)
	if errors.Is(err, blob.ErrGone) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	defer held.Close()
	v := blob.NewVerifier(n, s.id, paced{ctx, &pace{rate: s.o.HouseRate}})
	_, err = io.CopyBuffer(v, held.Reader(), make([]byte, 256<<10))
	if err == nil {
		err = v.Close()
	}
	if err == nil || ctx.Err() != nil || mail.KindOf(damagedFile(err)) == mail.Unavailable {
		return 0, err
	}
	s.house.found.add(n)
	s.o.Log.Error("a segment of the mail store is damaged", "segment", blob.SegmentName(n), "error", err)
	return s.nameDamaged(ctx, n)
}

// damagedFile is damaged, for an error of a segment.
func damagedFile(err error) error {
	if errors.Is(err, blob.ErrDamaged) {
		return err
	}
	return damaged(err)
}

// paced is where what is read goes.
type paced struct {
	ctx  context.Context
	pace *pace
}

func (w paced) Write(b []byte) (int, error) { return len(b), w.pace.spend(w.ctx, int64(len(b))) }

// maxNamed is how many damaged messages of a segment the log names.
const maxNamed = 100

// nameDamaged compares the checksums of what lives in a segment, and names the messages that are damaged.
func (s *Store) nameDamaged(ctx context.Context, segment uint32) (int, error) {
	bodies, p := make(map[uint64]bool), pace{rate: s.o.HouseRate}
	err := s.scan(key0(keyBody), func(k, v []byte) error {
		r, err := decodeBody(v)
		if err != nil || r.segment != segment {
			return err
		}
		id := binary.BigEndian.Uint64(k[1:])
		if err := s.verifyBody(id); err != nil && !errors.Is(err, errGone) {
			if mail.KindOf(damaged(err)) == mail.Unavailable {
				return err
			}
			bodies[id] = true
		}
		return p.spend(ctx, r.total())
	})
	if err != nil || len(bodies) == 0 {
		return 0, err
	}
	numbers := make(map[uint32]mail.AccountID)
	if err := s.scan(key0(keyAccount), func(k, v []byte) error {
		r, err := decodeAccount(v)
		numbers[r.number] = mail.AccountID(k[1:])
		return err
	}); err != nil {
		return 0, err
	}
	n := 0
	name := func(args ...any) {
		if n++; n <= maxNamed {
			s.o.Log.Error("a message is damaged: bring it back from a backup", args...)
		}
	}
	err = s.scan(key0(keyEntry), func(k, v []byte) error {
		r, err := decodeEntry(v)
		if err != nil {
			return err
		}
		if bodies[r.body] {
			key := mailboxOfKey(k)
			name("account", numbers[key.account], "mailbox", key.id(), "uid", last32(k), "id", ObjectID(r.body).String())
		}
		return p.spend(ctx, int64(len(k)+len(v)))
	})
	if err != nil {
		return 0, err
	}
	return n, s.scan(key0(keyQueue), func(k, v []byte) error {
		r, err := decodeQueue(v)
		if err == nil && bodies[r.body] {
			name("queue item", QueueID(last64(k)).String())
		}
		return err
	})
}

// scrub checks how far the scrub is said to be.
func (c *checker) scrub(k, v []byte) {
	if _, err := decodeScrub(v); err != nil || len(k) != 1 {
		c.problem("scrub %x: %v", k, err)
	}
}
