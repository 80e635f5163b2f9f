package trust

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"
)

// Fetcher gets public data over HTTP, as far as it is allowed to.
type Fetcher interface {
	Allowed(address string) error
	Get(ctx context.Context, address string, most int64) ([]byte, error)
	Post(ctx context.Context, address, contentType string, body []byte, most int64) ([]byte, error)
}

// Cache keeps what was fetched and found good, over a restart. What it gives back is
// checked again, as if it came from the network.
type Cache interface {
	Load(key string) ([]byte, error) // nil, nil: there is nothing
	Save(key string, data []byte) error
}

// Bounds of fetching.
const (
	backoff     = time.Minute      // between two attempts at the same thing
	maxWait     = 20 * time.Second // for all that one check fetches
	maxRemote   = 10_000           // lists, and responses, kept in memory; beyond it all are forgotten
	maxPerCert  = 4                // addresses of one certificate that are asked
	maxNamed    = 100              // addresses of one certificate that are looked at
	maxRefresh  = 500              // responses renewed in one round
	maxStrange  = 30               // issuer certificates fetched from one host in a minute for one purpose, for certificates of which nothing is known yet
	maxCertSize = 64 << 10
)

// remote is what was fetched: lists, OCSP responses, issuers' certificates.
type remote struct {
	fetch   Fetcher
	cache   Cache
	log     *slog.Logger
	now     func() time.Time
	refresh time.Duration
	answers *answers

	mu        sync.Mutex
	lists     map[string]*remoteList     // by URL, guarded by mu
	responses map[string]*remoteResponse // by URL and certificate, guarded by mu
	issuers   map[string]*remoteIssuer   // by URL, guarded by mu
	silent    map[string]time.Time       // hosts that did not answer in time, and when; guarded by mu
	minute    time.Time                  // that strange counts, guarded by mu
	strange   map[string]int             // by host and purpose, guarded by mu
}

func newRemote(o *Options, a *answers) *remote {
	if o.Fetch == nil {
		return nil
	}
	m := &remote{
		fetch: o.Fetch, cache: o.Cache, log: o.Log, now: o.Now, refresh: o.Refresh, answers: a,
		lists: map[string]*remoteList{}, responses: map[string]*remoteResponse{}, issuers: map[string]*remoteIssuer{},
		silent: map[string]time.Time{}, strange: map[string]int{},
	}
	if m.refresh <= 0 {
		m.refresh = time.Hour
	}
	return m
}

// entry finds or makes what m keeps under key.
func remoteEntry[T any](m *remote, in map[string]*T, key string) *T {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := in[key]
	if e == nil {
		if len(in) >= maxRemote {
			clear(in)
			m.answers.changed()
		}
		e = new(T)
		in[key] = e
	}
	return e
}

// allowed are the addresses that may be asked, the first maxPerCert of them: others, LDAP's perhaps, may stand before.
func (m *remote) allowed(urls []string) []string {
	var out []string
	for _, u := range urls[:min(len(urls), maxNamed)] {
		if m.fetch.Allowed(u) == nil && len(out) < maxPerCert {
			out = append(out, u)
		}
	}
	return out
}

// get and post ask, unless the host kept somebody waiting just now: a message to many
// people must not wait for each of them.
func (m *remote) get(ctx context.Context, address string, most int64) (b []byte, err error) {
	err = m.patiently(ctx, address, func() error {
		b, err = m.fetch.Get(ctx, address, most)
		return err
	})
	return b, err
}

func (m *remote) post(ctx context.Context, address, contentType string, body []byte, most int64) (b []byte, err error) {
	err = m.patiently(ctx, address, func() error {
		b, err = m.fetch.Post(ctx, address, contentType, body, most)
		return err
	})
	return b, err
}

func (m *remote) patiently(ctx context.Context, address string, ask func() error) error {
	if err := ctx.Err(); err != nil { // others used up the time: that says nothing about this host
		return err
	}
	host := address
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	m.mu.Lock()
	since, there := m.silent[host]
	if there && m.now().Sub(since) >= backoff {
		delete(m.silent, host)
		there = false
	}
	m.mu.Unlock()
	if there {
		return errors.New("the server did not answer a moment ago")
	}
	err := ask()
	if os.IsTimeout(err) || errors.Is(err, context.DeadlineExceeded) {
		m.mu.Lock()
		m.silent[host] = m.now()
		m.mu.Unlock()
	}
	return err
}

// attempt is when something was last fetched, and how that failed.
type attempt struct {
	at  time.Time
	err error
}

// load reads from the cache; errors count as nothing.
func (m *remote) load(key string) []byte {
	if m.cache == nil {
		return nil
	}
	b, err := m.cache.Load(key)
	if err != nil {
		m.log.Warn("what was fetched before cannot be read", "what", key, "error", err)
	}
	return b
}

func (m *remote) save(key string, data []byte) {
	if m.cache == nil {
		return
	}
	if err := m.cache.Save(key, data); err != nil {
		m.log.Error("what was fetched cannot be kept for the next start", "what", key, "error", err)
	}
}

// note logs how an attempt ended, where that changed.
func (m *remote) note(what string, before, after error) {
	m.answers.changed()
	switch {
	case after == nil && before != nil:
		m.log.Info("can be fetched again", "what", what)
	case after != nil && (before == nil || before.Error() != after.Error()):
		m.log.Warn("cannot be fetched", "what", what, "error", after)
	}
}

// remoteList is the list at one URL.
type remoteList struct {
	mu        sync.Mutex // held while it is fetched, so that others wait instead of asking too
	loaded    bool
	tried     attempt
	verified  *revocations      // signed as it must be
	signer    *x509.Certificate // of verified
	candidate *revocations      // newer, not yet looked at
}

// list returns what is at hand of the list at a URL, newest first, and fetches it if
// online and nothing at hand was found good and holds now. The error says why it could not be fetched.
func (m *remote) list(ctx context.Context, url string, online bool) ([]*revocations, error) {
	if err := m.fetch.Allowed(url); err != nil {
		return nil, err
	}
	e := remoteEntry(m, m.lists, url)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		e.loaded = true
		if b := m.load("list " + url); b != nil {
			m.adopt(e, url, b, true)
		}
	}
	now := m.now()
	holds := e.verified != nil && !e.verified.next.IsZero() && !now.After(e.verified.next)
	if online && !holds && now.Sub(e.tried.at) >= backoff {
		b, err := m.get(ctx, url, maxListBytes)
		if err == nil {
			err = m.adopt(e, url, b, false)
		}
		m.note(url, e.tried.err, err)
		e.tried = attempt{now, err}
	}
	var out []*revocations
	for _, r := range []*revocations{e.candidate, e.verified} {
		if r != nil {
			out = append(out, r)
		}
	}
	return out, e.tried.err
}

// adopt takes up a list. e.mu is held.
func (m *remote) adopt(e *remoteList, url string, der []byte, saved bool) error {
	parsed, err := parseLists(der, url)
	if err != nil {
		return err
	}
	r := parsed[0]
	switch {
	case len(parsed) > 1:
		return errors.New("more than one revocation list")
	case e.verified != nil && bytes.Equal(r.tbs, e.verified.tbs):
		return nil
	case e.verified != nil && newer(r, e.verified) > 0:
		return errors.New("an older revocation list than the one at hand")
	}
	r.remote = func(by *x509.Certificate) { m.confirm(e, r, by, url, der, saved) }
	if e.signer != nil && r.signedBy(e.signer) {
		m.promote(e, r, e.signer, url, der, saved)
	} else {
		e.candidate = r
	}
	m.answers.changed()
	return nil
}

// confirm notes that r is signed as it must be.
func (m *remote) confirm(e *remoteList, r *revocations, by *x509.Certificate, url string, der []byte, saved bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.candidate == r {
		m.promote(e, r, by, url, der, saved)
	}
}

func (m *remote) promote(e *remoteList, r *revocations, by *x509.Certificate, url string, der []byte, saved bool) {
	e.verified, e.signer, e.candidate = r, by, nil
	m.answers.changed()
	if !saved {
		m.save("list "+url, der)
	}
}

// remoteResponse is an OCSP response about one certificate.
type remoteResponse struct {
	mu       sync.Mutex // held while it is fetched
	loaded   bool
	tried    attempt
	verified *ocspResponse
	made     time.Time           // of verified
	path     []*x509.Certificate // of the certificate, for the renewal
	used     bool                // since the last renewal
}

func responseKey(url string, c, issuer *x509.Certificate) string {
	h := sha256.New()
	h.Write(c.Raw)
	h.Write(issuer.Raw)
	return "ocsp " + url + " " + hex.EncodeToString(h.Sum(nil))
}

// atHand returns the response at hand.
func (m *remote) atHand(url string, path []*x509.Certificate) (*remoteResponse, *ocspResponse) {
	key := responseKey(url, path[0], path[1])
	e := remoteEntry(m, m.responses, key)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.path, e.used = path, true
	if !e.loaded {
		e.loaded = true
		if b := m.load(key); b != nil {
			if r, err := parseResponse(b); err == nil {
				e.verified = r
			}
		}
	}
	return e, e.verified
}

// ask fetches a response, unless that was tried just now.
func (m *remote) ask(ctx context.Context, e *remoteResponse, url string, path []*x509.Certificate, nonce []byte) (*ocspResponse, []byte, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := m.now()
	if now.Sub(e.tried.at) < backoff {
		return nil, nil, e.tried.err
	}
	r, der, err := m.askNow(ctx, url, path, nonce)
	m.note(url, e.tried.err, err)
	e.tried = attempt{now, err}
	return r, der, err
}

func (m *remote) askNow(ctx context.Context, url string, path []*x509.Certificate, nonce []byte) (*ocspResponse, []byte, error) {
	request, err := ocspRequest(path[0], path[1], nonce)
	if err != nil {
		return nil, nil, err
	}
	der, err := m.post(ctx, url, "application/ocsp-request", request, maxResponseBytes)
	if err != nil {
		return nil, nil, err
	}
	r, err := parseResponse(der)
	if err == nil && r.nonce != nil && !bytes.Equal(r.nonce, nonce) {
		err = errors.New("an OCSP response to another request")
	}
	return r, der, err
}

// keep takes up a response that was found good.
func (m *remote) keep(e *remoteResponse, url string, r *ocspResponse, der []byte, made time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.verified != nil && made.Before(e.made) {
		return
	}
	e.verified, e.made = r, made
	m.answers.changed()
	m.save(responseKey(url, e.path[0], e.path[1]), der)
}

// remoteIssuer is what was found at a caIssuers address.
type remoteIssuer struct {
	mu     sync.Mutex
	loaded bool
	tried  attempt
	der    []byte
	certs  []*x509.Certificate
	proven bool // certificates from there were once part of a path that holds
}

// issuer returns the certificates of a caIssuers address (RFC 5280, section 4.2.2.1). They are
// fetched if none are at hand, or if again says that those do not help.
func (m *remote) issuer(ctx context.Context, url string, again bool, p Purpose) ([]*x509.Certificate, error) {
	if err := m.fetch.Allowed(url); err != nil {
		return nil, err
	}
	e := remoteEntry(m, m.issuers, url)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.loaded {
		e.loaded = true
		if certs, err := parseIssuers(m.load("issuer " + url)); err == nil {
			e.certs, e.proven = certs, true
		}
	}
	now := m.now()
	if (again || e.certs == nil) && now.Sub(e.tried.at) >= backoff {
		if !e.proven && !m.admit(now, url, p) {
			return e.certs, errors.New("too many unknown issuers to ask for")
		}
		der, err := m.get(ctx, url, maxCertSize)
		var certs []*x509.Certificate
		if err == nil {
			certs, err = parseIssuers(der)
		}
		if err == nil {
			e.certs, e.der = certs, der
		}
		m.note(url, e.tried.err, err)
		e.tried = attempt{now, err}
	}
	return e.certs, e.tried.err
}

// admit counts what is fetched for strangers: by host, so that who names many addresses of one keeps nobody from the
// others, and by purpose, so that signed mail from anywhere keeps nobody from encrypting.
func (m *remote) admit(now time.Time, address string, p Purpose) bool {
	host := address
	if u, err := url.Parse(address); err == nil {
		host = u.Host
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.minute) >= time.Minute {
		m.minute = now
		clear(m.strange)
	}
	key := p.String() + " " + host
	m.strange[key]++
	return m.strange[key] <= maxStrange
}

// keepIssuers saves what was fetched from the addresses, since one of them is in a path that holds.
func (m *remote) keepIssuers(urls []string) {
	for _, url := range urls {
		e := remoteEntry(m, m.issuers, url)
		e.mu.Lock()
		der := e.der
		e.der, e.proven = nil, true
		e.mu.Unlock()
		if der != nil {
			m.save("issuer "+url, der)
		}
	}
}

// Refresh fetches anew what is in use and grows old. Run calls it by itself.
func (v *Verifier) Refresh(ctx context.Context) {
	m := v.remote
	if m == nil {
		return
	}
	m.mu.Lock()
	urls, keys := make([]string, 0, len(m.lists)), make([]string, 0, len(m.responses))
	for url := range m.lists {
		urls = append(urls, url)
	}
	for key := range m.responses {
		keys = append(keys, key)
	}
	m.mu.Unlock()
	slices.Sort(urls)
	for _, url := range urls {
		if ctx.Err() == nil {
			m.refreshList(ctx, url)
		}
	}
	done := 0
	for _, key := range keys {
		if ctx.Err() == nil && done < maxRefresh && v.refreshResponse(ctx, key) {
			done++
		}
	}
}

// refreshList does not hold the list's lock while it fetches: those who look things up
// have what is at hand.
func (m *remote) refreshList(ctx context.Context, url string) {
	e := remoteEntry(m, m.lists, url)
	now := m.now()
	e.mu.Lock()
	due := now.Sub(e.tried.at) >= m.refresh
	e.mu.Unlock()
	if !due {
		return
	}
	b, err := m.get(ctx, url, maxListBytes)
	e.mu.Lock()
	defer e.mu.Unlock()
	if err == nil {
		err = m.adopt(e, url, b, false)
	}
	m.note(url, e.tried.err, err)
	e.tried = attempt{now, err}
}

// refreshResponse says whether it asked.
func (v *Verifier) refreshResponse(ctx context.Context, key string) bool {
	m := v.remote
	e := remoteEntry(m, m.responses, key)
	now := m.now()
	e.mu.Lock()
	due := e.used && e.verified != nil && now.Sub(e.tried.at) >= m.refresh
	path := e.path
	if due {
		e.used = false
	}
	e.mu.Unlock()
	if !due {
		return false
	}
	k := &check{v: v, c: path[0], now: now, ctx: ctx}
	for _, url := range path[0].OCSPServer {
		if responseKey(url, path[0], path[1]) == key {
			k.asked(e, url, path, 0)
		}
	}
	return true
}

// Run refreshes until ctx ends. Without a Fetcher it only waits.
func (v *Verifier) Run(ctx context.Context) {
	if v == nil || v.remote == nil {
		<-ctx.Done()
		return
	}
	t := time.NewTicker(max(v.remote.refresh/4, time.Second))
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			v.Refresh(ctx)
		}
	}
}
