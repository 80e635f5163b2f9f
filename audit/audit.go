// Package audit keeps the platform's audit log: typed events in canonical JSON
// (RFC 8785), appended to a Merkle tree (RFC 6962) in the C2SP tlog-tiles layout under a
// signed C2SP checkpoint.
//
// An act is recorded before it is done and its outcome after. Begin and End return only
// when a signed checkpoint that covers the record is on stable storage; all callers that
// wait at the same time share one commit. Nothing in this package can shorten a log.
//
// The files are described in docs/formats.md. Any C2SP tlog-tiles client can read them.
package audit

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"cmmpd/internal/mail"
)

// Options of a Log. The zero value of every field but Origin has a default.
type Options struct {
	Origin   string           // the checkpoint's origin line and key name: no spaces, no plus; required
	Now      func() time.Time // the clock; it stamps records and never orders them
	Log      *slog.Logger     // the operator's log
	Queue    int              // how many notes wait in memory at most; 0: 8,192
	Interval time.Duration    // how long a note waits for company and folding at most; 0: 1 s

	// Names keeps what of personal data may have to be erased; nil: it is in the records.
	Names Names
	// Local says of a domain, as it stands in an address, whether it is ours: its addresses stay in the records. Nil: none is.
	Local func(domain string) bool

	disk func(disk) disk // tests put faults here
}

func (o Options) withDefaults() Options {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Queue <= 0 {
		o.Queue = 8192
	}
	if o.Interval <= 0 {
		o.Interval = time.Second
	}
	if o.Local == nil {
		o.Local = func(string) bool { return false }
	}
	return o
}

// Log is an audit log open for appending. Its methods may be used from several
// goroutines.
type Log struct {
	opts  Options
	store *store  // of the writer's goroutine; after Close, nobody's
	clock clock   // of the writer's goroutine, as is back
	back  *Record // that the clock was set back, if that is not in the log yet
	pub   []byte
	wake  chan struct{} // something waits; holds one
	done  chan struct{} // the writer's goroutine has ended

	mu      sync.Mutex // guards the rest
	acts    []*waiter  // to be written, in order
	notes   notes
	flushes []flush
	closing bool
	failed  error  // why nothing can be written any more, until the log is opened anew
	trouble error  // why the last commit failed; nil again when one succeeds
	last    []byte // the published checkpoint
	size    int64  // what it covers
	tail    *tail  // the growing end that goes with it

	cosigned *cosigned     // what witnesses have cosigned and is not on disk yet
	grown    chan struct{} // something was committed; holds one; nil: nobody waits for it
	refuse   func() error  // why acts are refused although they could be recorded; nil: never
}

// waiter is a record whose caller waits until it is durable.
type waiter struct {
	rec  Record
	done chan error // holds one
}

// flush waits until the first upTo notes are settled.
type flush struct {
	upTo int64
	done chan error // holds one
}

// errClosed says that the log is closed.
var errClosed = errors.New("the audit log is closed")

// Open opens the log in dir for appending and repairs what a crash left: a group of
// records that no published checkpoint covers is completed or removed. Only the growing
// end of the log is read; Verify checks all of it. Anything that a crash cannot explain
// refuses, with kind Corrupt and, in the chain, a *Fault that names the place. Kind
// NotFound if there is no log, Busy if somebody has it open.
func Open(dir string, key crypto.Signer, o Options) (*Log, error) {
	o = o.withDefaults()
	s, err := openStore(dir, key, o.Origin, o.disk)
	if err != nil {
		return nil, err
	}
	l := &Log{
		opts: o, store: s, pub: s.key.pub, last: s.last, size: s.tail.size, tail: s.tail,
		clock: clock{wall: s.lastTime},
		wake:  make(chan struct{}, 1), done: make(chan struct{}),
		notes: notes{limit: o.Queue, byKey: make(map[string]*noted)},
	}
	go l.run()
	return l, nil
}

// Checkpoint is the latest signed checkpoint.
func (l *Log) Checkpoint() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]byte(nil), l.last...)
}

// Size is the number of records that the latest checkpoint covers.
func (l *Log) Size() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.size
}

// PublicKey is the content of audit.pub: the verifier key of the log, and a line end.
func (l *Log) PublicKey() []byte { return append([]byte(nil), l.pub...) }

// Ready is nil as long as the log can be written, as far as is known; else the reason.
func (l *Log) Ready() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed != nil {
		return l.failed
	}
	return l.trouble
}

// Note records e soon, and never waits for the disk. Repeats of a log-in outcome become
// one record with a count (of their Client only the host is kept). What cannot be kept is
// counted in a gap event, which follows.
func (l *Log) Note(e Event) {
	if ClassOf(e.Type) != Count {
		l.opts.Log.Error("audit: an event that must be recorded was only noted", "type", e.Type)
	}
	if !validName(e.Type) {
		return
	}
	rec := Record{Event: e.bounded(), Time: stamp(l.opts.Now())}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closing || l.failed != nil {
		return
	}
	if n := l.notes.add(rec); n == 1 || n >= maxGroup/2 {
		l.signal() // the first starts the clock, many do not wait for it
	}
}

// Flush returns when everything noted before is durable, or the error of the attempt.
func (l *Log) Flush(ctx context.Context) error {
	l.mu.Lock()
	if err := l.refusal(); err != nil {
		l.mu.Unlock()
		return err
	}
	f := flush{l.notes.in, make(chan error, 1)}
	l.flushes = append(l.flushes, f)
	l.signal()
	l.mu.Unlock()
	select {
	case err := <-f.done:
		return err
	case <-ctx.Done():
		return notRecorded(ctx.Err())
	}
}

// Close writes what waits, and closes the log. Its error says that notes were lost.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closing {
		l.mu.Unlock()
		<-l.done
		return nil
	}
	l.closing = true
	l.signal()
	l.mu.Unlock()
	<-l.done
	l.store.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.notes.waiting(); n > 0 {
		return mail.E(mail.Unavailable, "", fmt.Errorf("%d audit notes could not be written", n))
	}
	return nil
}

// signal wakes the writer. l.mu is held.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// refusal says why a record cannot be taken now. l.mu is held.
func (l *Log) refusal() error {
	switch {
	case l.failed != nil:
		return l.failed
	case l.closing:
		return notRecorded(errClosed)
	}
	return nil
}

const publicRefusal = "this cannot be recorded in the audit log now"

// notRecorded is the error of a caller whose record is not in the log for sure.
func notRecorded(err error) error {
	kind := mail.Unavailable
	if noSpace(err) {
		kind = mail.Full
	}
	return mail.E(kind, publicRefusal, err)
}
