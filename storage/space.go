package storage

import (
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// A part of the disk is kept free of mail: expunging, flags, the index and compaction, which must write before it can make room, go on when mail is
// refused.

// space knows how much room there is.
type space struct {
	mu   sync.Mutex // guards what follows
	at   time.Time  // when the file system was asked
	free int64      // what it said, less what mail took since
	low  bool       // less than the reserve is left
}

// spaceAge is how long an answer of the file system counts. Before mail is refused it is asked again.
const spaceAge = time.Second

// room takes n octets for mail, or its search index, out of the space that there is. The error is of kind mail.Full.
func (s *Store) room(n int64) error {
	if s.o.Reserve < 0 || n == 0 {
		return nil
	}
	x := &s.space
	x.mu.Lock()
	defer x.mu.Unlock()
	if now := time.Now(); now.Sub(x.at) >= spaceAge || x.free < n {
		free, size, err := s.o.FS.Free(s.o.Dir)
		if err != nil {
			return nil // it will be found out by writing
		}
		x.at, x.free = now, free-min(s.o.Reserve, size/20)
		if low := x.free < 0; low != x.low {
			x.low = low
			s.o.Log.Warn("space on the disk of the mail store", "low", low, "free", free)
		}
	}
	if x.free < n {
		x.low = true
		s.house.poke()
		return mail.E(mail.Full, "no space left for mail", nil)
	}
	x.free -= n
	return nil
}

// isLow says whether mail is refused for want of space.
func (s *Store) isLow() bool {
	s.space.mu.Lock()
	defer s.space.mu.Unlock()
	return s.space.low
}

// fits says whether n octets can be written and some room is left. The error is of kind mail.Full.
func (s *Store) fits(n int64) error {
	const rest = 4 << 20 // for the index
	free, _, err := s.o.FS.Free(s.o.Dir)
	if err == nil && free < n+rest {
		err = mail.E(mail.Full, "no space left for mail", nil)
	}
	return err
}
