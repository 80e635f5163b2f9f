// Package cases is the desk at which accounts are opened by security officers: somebody asks under a case number, for a window of time; officers
// bring their parts; within the window, and with enough of them, the desk gives out the account's private key. What was asked, by whom, and
// what was opened is durable. The parts that officers bring are in memory only, for a bounded time: after a restart they are brought again.
package cases

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys/escrow"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// Options are what a desk works with. All must be set.
type Options struct {
	FS   durable.FS
	Path string // of its file
	// Seal and Open keep the file from other eyes.
	Seal, Open func([]byte) ([]byte, error)
	// Envelope is what is kept of an account.
	Envelope func(mail.AccountID) (*escrow.Envelope, error)
	Hold     time.Duration // how long parts stay in memory, at most
	Now      func() time.Time
}

// Request is what somebody asks for.
type Request struct {
	ID            string         `json:"id"`
	Case          string         `json:"case"`
	Reason        string         `json:"reason"`
	Requester     string         `json:"requester"`         // uid
	Account       string         `json:"account,omitempty"` // uid; empty: all accounts, which can be recovered, not exported
	AccountID     mail.AccountID `json:"account-id,omitempty"`
	Certificate   []byte         `json:"certificate,omitempty"` // DER: what is exported is encrypted to it
	From          time.Time      `json:"from"`
	To            time.Time      `json:"to"`
	NoNoticeUntil time.Time      `json:"no-notice-until,omitzero"`
	Made          time.Time      `json:"made"`
	Ended         string         `json:"ended,omitempty"` // "refused by …" or "closed by …"; empty: it is open, as far as the clock allows
	Openings      []Opening      `json:"openings,omitempty"`
}

// Opening is one use of what the officers brought. It is on record here before anything is opened.
type Opening struct {
	At   time.Time `json:"at"`
	What string    `json:"what"` // Export or Recover
	Due  time.Time `json:"due"`  // when the owner is to be told
	Told time.Time `json:"told,omitzero"`
}

// What can be opened for.
const (
	Export  = "export"
	Recover = "recover"
)

// All says whether the request is for every account.
func (r *Request) All() bool { return r.AccountID == "" }

// Limits of a request.
const (
	maxCase     = 100
	maxReason   = 1000
	maxWindow   = 92 * 24 * time.Hour
	maxSilence  = 5 * 366 * 24 * time.Hour
	maxRequests = 10_000
	keepFor     = 2 * 366 * 24 * time.Hour // after its window, if the owner was told
	maxFile     = 256 << 20
)

func (r *Request) check(now time.Time) error {
	bad := func(text string) error { return mail.E(mail.Invalid, text, nil) }
	switch {
	case !words(r.Case, maxCase):
		return bad("a case number is needed, of 100 octets at most on one line")
	case !words(r.Reason, maxReason):
		return bad("a reason is needed, of 1,000 octets at most on one line")
	case !r.From.Before(r.To) || r.To.Sub(r.From) > maxWindow:
		return bad("the window must end after its beginning, 92 days later at most")
	case !now.Before(r.To):
		return bad("the window is over already")
	case !r.NoNoticeUntil.IsZero() && (!r.NoNoticeUntil.After(now) || r.NoNoticeUntil.Sub(now) > maxSilence):
		return bad("the owner is told later at a date to come, within five years")
	case r.All() && !r.NoNoticeUntil.IsZero():
		return bad("when all accounts are recovered their owners are told at once")
	}
	return nil
}

// words says whether s is a line of text that is not empty.
func words(s string, most int) bool {
	return strings.TrimSpace(s) != "" && len(s) <= most && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

// View is a request as it is shown.
type View struct {
	Request
	State     string    `json:"state"`
	Threshold int       `json:"threshold,omitempty"` // 0: nothing is kept
	Officers  []string  `json:"officers,omitempty"`  // who have parts
	Approved  []string  `json:"approved,omitempty"`  // who have brought theirs
	Until     time.Time `json:"until,omitzero"`      // so long the parts stay in memory
}

// The states of a request.
const (
	Waiting = "waiting" // its window has not begun
	Open    = "open"
	Over    = "over" // its window has ended
)

// Desk holds requests. All methods may be called concurrently.
type Desk struct {
	o Options

	mu       sync.Mutex // guards what follows; held while the file is written
	requests []*Request
	brought  map[string]map[string]*parts // by request and officer
}

// parts are what an officer has brought for a request.
type parts struct {
	at     time.Time
	shares map[[16]byte]shares.Share // by the set that each belongs to
	needs  map[[16]byte]int          // how many of that set are needed
}

// file is what the file has.
type file struct {
	Version  int        `json:"version"`
	Requests []*Request `json:"requests"`
}

const fileVersion = 1

// New is the desk of the file, which need not be there.
func New(o Options) (*Desk, error) {
	d := &Desk{o: o, brought: make(map[string]map[string]*parts)}
	sealed, err := durable.ReadFile(o.FS, o.Path, maxFile)
	if errors.Is(err, fs.ErrNotExist) {
		return d, nil
	} else if err != nil {
		return nil, err
	}
	b, err := o.Open(sealed)
	if err == nil {
		d.requests, err = parse(b)
	}
	if err != nil {
		return nil, fmt.Errorf("escrow requests %s: %w", o.Path, err)
	}
	return d, nil
}

func parse(b []byte) ([]*Request, error) {
	var f file
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, mail.E(mail.Corrupt, "", err)
	}
	if f.Version != fileVersion {
		return nil, mail.E(mail.Unsupported, "", fmt.Errorf("version %d is unknown", f.Version))
	}
	seen := make(map[string]bool)
	for _, r := range f.Requests {
		if r == nil || r.ID == "" || seen[r.ID] {
			return nil, mail.E(mail.Corrupt, "", errors.New("requests without a name of their own"))
		}
		seen[r.ID] = true
	}
	return f.Requests, nil
}

// save makes the requests durable. mu is held.
func (d *Desk) save(list []*Request) error {
	b, err := json.Marshal(file{fileVersion, list})
	if err == nil {
		b, err = d.o.Seal(b)
	}
	if err == nil {
		err = durable.WriteFile(d.o.FS, d.o.Path, b, 0o600)
	}
	if err != nil {
		return mail.E(mail.Unavailable, "the request cannot be saved", err)
	}
	d.requests = list
	return nil
}

// change makes a change to a request durable, or does not make it. mu is held.
func (d *Desk) change(id string, f func(r *Request) error) error {
	list := slices.Clone(d.requests)
	i := slices.IndexFunc(list, func(r *Request) bool { return r.ID == id })
	if i < 0 {
		return errNone
	}
	r := *list[i]
	r.Openings = slices.Clone(r.Openings)
	list[i] = &r
	if err := f(&r); err != nil {
		return err
	}
	return d.save(list)
}

var errNone = mail.E(mail.NotFound, "there is no such request", nil)

// Ask takes a request and names it.
func (d *Desk) Ask(r Request) (View, error) {
	now := d.o.Now()
	if err := r.check(now); err != nil {
		return View{}, err
	}
	if !r.All() {
		if _, err := d.o.Envelope(r.AccountID); err != nil {
			return View{}, err
		}
	}
	id := make([]byte, 6)
	if _, err := rand.Read(id); err != nil {
		return View{}, err
	}
	r.ID, r.Made, r.Ended, r.Openings = hex.EncodeToString(id), now.UTC(), "", nil
	d.mu.Lock()
	defer d.mu.Unlock()
	list := slices.DeleteFunc(slices.Clone(d.requests), func(r *Request) bool { return now.Sub(r.To) > keepFor && !r.untold() })
	if len(list) >= maxRequests {
		return View{}, mail.E(mail.Full, "there are too many requests", nil)
	}
	if err := d.save(append(list, &r)); err != nil {
		return View{}, err
	}
	return d.view(&r), nil
}

// untold says whether the owner has still to be told.
func (r *Request) untold() bool {
	return slices.ContainsFunc(r.Openings, func(o Opening) bool { return o.Told.IsZero() })
}

// find is a request. mu is held.
func (d *Desk) find(id string) (*Request, error) {
	for _, r := range d.requests {
		if r.ID == id {
			return r, nil
		}
	}
	return nil, errNone
}

// Get shows a request.
func (d *Desk) Get(id string) (View, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, err := d.find(id)
	if err != nil {
		return View{}, err
	}
	return d.view(r), nil
}

// List shows all, the newest last.
func (d *Desk) List() []View {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wipe()
	list := make([]View, len(d.requests))
	for i, r := range d.requests {
		list[i] = d.view(r)
	}
	return list
}

func (r *Request) state(now time.Time) string {
	switch {
	case r.Ended != "":
		return r.Ended
	case now.Before(r.From):
		return Waiting
	case now.Before(r.To):
		return Open
	}
	return Over
}

// view shows a request. mu is held.
func (d *Desk) view(r *Request) View {
	v := View{Request: *r, State: r.state(d.o.Now())}
	v.Openings = slices.Clone(r.Openings)
	if !r.All() {
		if e, err := d.o.Envelope(r.AccountID); err == nil {
			v.Threshold = e.Threshold()
			for _, o := range e.Group.Officers {
				v.Officers = append(v.Officers, o.UID)
			}
		}
	}
	for uid, p := range d.brought[r.ID] {
		v.Approved = append(v.Approved, uid)
		if until := p.at.Add(d.o.Hold); v.Until.IsZero() || until.Before(v.Until) {
			v.Until = until
		}
	}
	slices.Sort(v.Approved)
	return v
}

// pending is a request that is neither over nor ended: its window may be to come. mu is held.
func (d *Desk) pending(id string) (*Request, error) {
	d.wipe()
	r, err := d.find(id)
	if err != nil {
		return nil, err
	}
	if s := r.state(d.o.Now()); s != Waiting && s != Open {
		return nil, mail.E(mail.Refused, "the request is "+s, nil)
	}
	return r, nil
}

// End refuses or closes a request for good, and wipes what was brought for it. how says which.
func (d *Desk) End(id, how string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.pending(id); err != nil {
		return err
	}
	err := d.change(id, func(r *Request) error {
		r.Ended = how
		return nil
	})
	if err == nil {
		d.drop(id)
	}
	return err
}

// drop wipes what was brought for a request. mu is held.
func (d *Desk) drop(id string) {
	for _, p := range d.brought[id] {
		p.wipe()
	}
	delete(d.brought, id)
}

func (p *parts) wipe() {
	for _, s := range p.shares {
		s.Wipe()
	}
	clear(p.shares)
	clear(p.needs)
}

// wipe wipes what was brought too long ago, and for requests that are over. mu is held.
func (d *Desk) wipe() {
	now := d.o.Now()
	for id, by := range d.brought {
		r, err := d.find(id)
		if err != nil || !now.Before(r.To) || r.Ended != "" {
			d.drop(id)
			continue
		}
		for uid, p := range by {
			if now.Sub(p.at) >= d.o.Hold || now.Before(p.at) {
				p.wipe()
				delete(by, uid)
			}
		}
	}
}

// Wipe wipes what was brought too long ago, and for requests that are over; others do it on their way.
func (d *Desk) Wipe() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wipe()
}

// Close wipes everything that was brought.
func (d *Desk) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id := range d.brought {
		d.drop(id)
	}
	return nil
}
