package auth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// verified remembers which credentials were good a short while ago, and from which
// addresses: checking a password costs milliseconds on purpose, and mail clients log in
// again and again. Passwords are not kept: only their HMAC under a key of this process,
// in memory.
type verified struct {
	ttl time.Duration
	max int
	now func() time.Time
	key [32]byte

	mu         sync.Mutex // guards what follows
	generation uint64     // counts drops: what was checked before a change is not kept
	entries    map[[32]byte]credential
}

type credential struct {
	principal mail.Principal
	until     time.Time
}

// tag stands for a credential as it was given.
func (v *verified) tag(name, password, from string) (t [32]byte) {
	h := hmac.New(sha256.New, v.key[:])
	for _, s := range []string{name, password, from} {
		var n [4]byte
		binary.BigEndian.PutUint32(n[:], uint32(len(s)))
		h.Write(n[:])
		h.Write([]byte(s))
	}
	h.Sum(t[:0])
	return t
}

func (v *verified) get(t [32]byte) (mail.Principal, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	c, ok := v.entries[t]
	return c.principal, ok && v.now().Before(c.until)
}

func (v *verified) current() uint64 {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.generation
}

func (v *verified) put(t [32]byte, p mail.Principal, generation uint64) {
	if v.ttl < 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if generation != v.generation {
		return
	}
	if len(v.entries) >= v.max {
		now := v.now()
		for k, c := range v.entries {
			if !now.Before(c.until) {
				delete(v.entries, k)
			}
		}
		if len(v.entries) > v.max/2 {
			clear(v.entries)
		}
	}
	if v.entries == nil {
		v.entries = map[[32]byte]credential{}
	}
	v.entries[t] = credential{p, v.now().Add(v.ttl)}
}

func (v *verified) drop() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.generation++
	clear(v.entries)
}
