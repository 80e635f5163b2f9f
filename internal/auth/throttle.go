package auth

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits say how failures slow down further attempts, and for how long a good one is
// believed; zero fields take the defaults.
type Limits struct {
	Free     int           // failures of an account without a delay; 5
	FreeFrom int           // failures from one client address without a delay; 20
	First    time.Duration // the first delay; each further failure doubles it; 1 s
	Longest  time.Duration // what the delay grows to; 1 min
	Patience time.Duration // an attempt that would wait longer is refused; 10 s
	Forget   time.Duration // without failure for so long, all is forgotten; 15 min
	Entries  int           // accounts, and addresses, that are remembered; 50,000
	Waiting  int           // attempts that wait at once; 1,000

	CredentialTime time.Duration // how long a verified credential is believed; 5 min; negative: never
	Credentials    int           // that are remembered; 20,000
}

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Free, 5}, {&l.FreeFrom, 20}, {&l.Entries, 50000}, {&l.Waiting, 1000}, {&l.Credentials, 20000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&l.First, time.Second}, {&l.Longest, time.Minute}, {&l.Patience, 10 * time.Second}, {&l.Forget, 15 * time.Minute}, {&l.CredentialTime, 5 * time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return l
}

func (l Limits) forAddresses() Limits {
	l.Free = l.FreeFrom
	return l
}

// throttle counts failures by key. Attempts under one key go one after another, each
// a delay after the one before, however many connections make them.
type throttle struct {
	lim Limits
	now func() time.Time

	mu   sync.Mutex
	keys map[string]*failures
}

type failures struct {
	count int
	last  time.Time // of the last failure
	next  time.Time // when the next attempt may be made
	tag   [32]byte  // what failed last
}

func newThrottle(lim Limits, now func() time.Time) *throttle {
	return &throttle{lim: lim, now: now, keys: map[string]*failures{}}
}

// reserve says how long an attempt must wait; ok is false if it must not be made.
func (t *throttle) reserve(key string) (d time.Duration, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, now := t.keys[key], t.now()
	if f == nil || f.count < t.lim.Free {
		return 0, true
	}
	if now.Sub(f.last) > t.lim.Forget {
		delete(t.keys, key)
		return 0, true
	}
	d = max(0, f.next.Sub(now))
	if d > t.lim.Patience {
		return 0, false
	}
	f.next = now.Add(d + t.delay(f.count))
	return d, true
}

// delay is what each attempt adds after count failures.
func (t *throttle) delay(count int) time.Duration {
	d := t.lim.First
	for n := count - t.lim.Free; n > 0 && d < t.lim.Longest; n-- {
		d *= 2
	}
	return min(d, t.lim.Longest)
}

// free says whether the key has failed less often than is free of delays.
func (t *throttle) free(key string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f := t.keys[key]
	return f == nil || f.count < t.lim.Free || t.now().Sub(f.last) > t.lim.Forget
}

// failed counts a failure of the credential behind tag; false if it is the one that failed
// last: that is no further guess.
func (t *throttle) failed(key string, tag [32]byte) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	f, now := t.keys[key], t.now()
	if f == nil {
		t.makeRoom(now)
		f = &failures{}
		t.keys[key] = f
	}
	if now.Sub(f.last) > t.lim.Forget {
		f.count = 0
	}
	if f.count > 0 && f.tag == tag {
		return false
	}
	f.count++
	f.last, f.tag = now, tag
	if f.count >= t.lim.Free {
		if next := now.Add(t.delay(f.count)); next.After(f.next) {
			f.next = next
		}
	}
	return true
}

func (t *throttle) succeeded(key string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, key)
}

// makeRoom keeps the memory bounded: old entries go first, then those with few
// failures, so that a flood of made-up names does not wash away what counts.
func (t *throttle) makeRoom(now time.Time) {
	if len(t.keys) < t.lim.Entries {
		return
	}
	for k, f := range t.keys {
		if now.Sub(f.last) > t.lim.Forget {
			delete(t.keys, k)
		}
	}
	for least := 1; len(t.keys) > t.lim.Entries*9/10; least *= 2 {
		for k, f := range t.keys {
			if len(t.keys) <= t.lim.Entries*9/10 {
				break
			}
			if f.count <= least {
				delete(t.keys, k)
			}
		}
	}
}

// addressKey is what a client address is counted under: the IPv4 address, or the /64 of
// IPv6. Empty if remote is no address: a connection in process.
func addressKey(remote string) string {
	ip, ok := parseRemote(remote)
	if !ok {
		return ""
	}
	if ip.Is4() {
		return ip.String()
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return ip.String()
	}
	return p.String()
}

func parseRemote(remote string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, false
	}
	return ip.Unmap().WithZone(""), true
}
