package trust

import "time"

// Health is how the revocation data at hand stands, for who watches the platform.
type Health struct {
	// Next is the earliest nextUpdate of the lists in use, of each issuer and scope the
	// newest; zero where there are none.
	Next time.Time
	// Failing is how many lists, responders and issuers' addresses could not be fetched
	// when that was tried last, within twice Options.Refresh: what is in use is tried that
	// often, and what one stranger's certificate named is forgotten.
	Failing int
	// Unread is how many configured files, and things in configured folders, cannot be read or are no files.
	Unread int
}

// Health looks at what is at hand. It asks nobody.
func (v *Verifier) Health() Health {
	var h Health
	if v == nil {
		return h
	}
	v.lists.refresh()
	newest := map[string]*revocations{}
	consider := func(r *revocations) {
		if old := newest[r.kind()]; !r.delta && (old == nil || newer(r, old) < 0) {
			newest[r.kind()] = r
		}
	}
	v.lists.each(consider)
	h.Unread = v.lists.unread()
	if v.remote != nil {
		h.Failing = v.remote.each(consider)
	}
	for _, r := range newest {
		if !r.next.IsZero() && (h.Next.IsZero() || r.next.Before(h.Next)) {
			h.Next = r.next
		}
	}
	return h
}

func (l *lists) each(f func(*revocations)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, rs := range l.index {
		for _, r := range rs {
			f(r)
		}
	}
}

// each calls f for the lists found good, and counts what fails.
func (m *remote) each(f func(*revocations)) (failing int) {
	m.mu.Lock()
	var lists []*remoteList
	var responses []*remoteResponse
	var issuers []*remoteIssuer
	for _, e := range m.lists {
		lists = append(lists, e)
	}
	for _, e := range m.responses {
		responses = append(responses, e)
	}
	for _, e := range m.issuers {
		issuers = append(issuers, e)
	}
	m.mu.Unlock()
	now := m.now()
	count := func(a attempt) {
		if a.err != nil && now.Sub(a.at) <= 2*m.refresh {
			failing++
		}
	}
	for _, e := range lists {
		if !e.mu.TryLock() { // it is being fetched just now
			continue
		}
		if e.verified != nil {
			f(e.verified)
		}
		count(e.tried)
		e.mu.Unlock()
	}
	for _, e := range responses {
		if e.mu.TryLock() {
			count(e.tried)
			e.mu.Unlock()
		}
	}
	for _, e := range issuers {
		if e.mu.TryLock() {
			count(e.tried)
			e.mu.Unlock()
		}
	}
	return failing
}
