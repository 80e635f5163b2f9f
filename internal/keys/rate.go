package keys

import (
	"errors"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// ErrTooMany is the error of an unwrapping that a Rate does not let pass.
var ErrTooMany = mail.E(mail.Busy, "too many mailboxes are being opened at the moment", errors.New("too many account keys are being opened"))

// Rate bounds how many account keys are unwrapped in a second. Its methods may be called concurrently.
type Rate struct {
	rate, most float64

	mu   sync.Mutex // guards what follows
	left float64
	at   time.Time
}

// NewRate lets n pass in a second, with bursts of ten seconds' worth; 0: any.
func NewRate(n int, now time.Time) *Rate {
	return &Rate{rate: float64(n), most: 10 * float64(n), left: 10 * float64(n), at: now}
}

// Take says whether one more may pass now.
func (b *Rate) Take(now time.Time) bool {
	if b.rate == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := now.Sub(b.at); d > 0 {
		b.left = min(b.most, b.left+d.Seconds()*b.rate)
	}
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}
