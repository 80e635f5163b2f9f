package trust

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"cmmpd/internal/mail"
)

// Bounds of answers.
const (
	answerHolds = 10 * time.Second // at most
	maxAnswers  = 1000             // beyond it everything is forgotten
)

// answers remembers for a moment that certificates may be used: many messages go to the same people, and the signing
// authority of a domain is asked about for each. An answer counts as long as nothing that it rests on has changed: the lists
// and responses at hand (state), and every date by which it would be another one (until). That a certificate may not be
// used is always found out anew.
type answers struct {
	state atomic.Uint64 // counts changes of what is at hand

	mu    sync.Mutex
	known map[string]answer // by question, guarded by mu
}

type answer struct {
	result     Result
	state      uint64
	from, till time.Time // both included
}

// changed is called after each change of what is at hand. A nil answers remembers nothing.
func (a *answers) changed() {
	if a != nil {
		a.state.Add(1)
	}
}

func (a *answers) get(question []byte, now time.Time) (Result, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	k, ok := a.known[string(question)]
	if !ok || k.state != a.state.Load() || now.Before(k.from) || now.After(k.till) {
		return Result{}, false
	}
	return k.result, true
}

func (a *answers) put(question []byte, k answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.known == nil || len(a.known) >= maxAnswers {
		a.known = map[string]answer{}
	}
	a.known[string(question)] = k
}

// question appends k's, in one form, to b. It is nil if the answer depends on more than certificates and lists at hand.
func (k *check) question(b []byte) []byte {
	if len(k.q.Extra) > 0 || k.q.Soft || len(k.c.Raw) > maxCertSize {
		return nil
	}
	directory := byte(0)
	if k.q.Binding.Directory {
		directory = 1
	}
	b = append(b, byte(k.q.Purpose), directory)
	b = appendAddress(b, k.q.Binding.Address)
	b = binary.AppendUvarint(b, uint64(len(k.q.Binding.Aliases)))
	for _, a := range k.q.Binding.Aliases {
		b = appendAddress(b, a)
	}
	return append(b, k.c.Raw...)
}

func appendAddress(b []byte, a mail.Address) []byte {
	b = append(binary.AppendUvarint(b, uint64(len(a.Local))), a.Local...)
	return append(binary.AppendUvarint(b, uint64(len(a.Domain))), a.Domain...)
}

// questionRoom is what most questions take, in bytes.
const questionRoom = 2048

// remember notes an answer that rests on lists alone, all of which hold.
func (k *check) remember(question []byte, state uint64) {
	if question == nil || k.fleeting || len(k.r.Evidence) != len(k.r.Path)-1 {
		return
	}
	k.until(k.now.Add(answerHolds))
	for _, c := range k.r.Path {
		k.until(c.NotAfter)
	}
	for _, e := range k.r.Evidence {
		if e.LastKnown {
			return
		}
	}
	k.v.answers.put(question, answer{k.r, state, k.now, k.till})
}

// until says that the answer may be another one after t.
func (k *check) until(t time.Time) {
	if !t.Before(k.now) && (k.till.IsZero() || t.Before(k.till)) {
		k.till = t
	}
}

// untilAge notes the times at which Options.age may say something else.
func (k *check) untilAge(made, next time.Time) {
	o := &k.v.o
	k.until(made.Add(-clockSkew - 1)) // from then on it is not of the future any more
	k.until(next)
	k.until(next.Add(o.LastKnownGood))
	if o.MaxCRLAge > 0 {
		k.until(made.Add(o.MaxCRLAge))
	}
}
