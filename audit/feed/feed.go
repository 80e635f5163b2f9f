// Package feed sends every record of the audit log to a syslog receiver over TLS (RFC 5425), in order and at least once.
// It reads the log from its files, so it never holds up who writes; how far it has come is in a file of its own, from
// where it goes on after a restart.
//
// Syslog knows no acknowledgement. A record counts as taken when the receiver's machine has acknowledged its octets and the
// connection has lasted for a while longer; after a connection that ends earlier it is sent again. What a receiver loses
// after that it has lost.
package feed

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/durable"
)

// Source is the log: audit.Log.
type Source interface {
	Size() int64
	Read(from int64) ([]audit.Record, error)
}

// Options of a Feed. Source, Address, TLS and Cursor must be set; the spans have defaults.
type Options struct {
	Source  Source
	Names   audit.Names // shows personal data; nil: digests
	Format  audit.Syslog
	Address string // host and port
	TLS     *tls.Config
	Cursor  string // the file that says how far it has come
	Log     *slog.Logger
	Now     func() time.Time

	Poll    time.Duration // how often the log is looked at; 0: 250 ms
	Settle  time.Duration // for how long a connection must last after what was sent; 0: 2 s
	Timeout time.Duration // without any progress, in connecting and sending; 0: 30 s
	Retry   time.Duration // before the second attempt; it doubles up to 64 times; 0: 1 s
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		at    *time.Duration
		value time.Duration
	}{{&o.Poll, 250 * time.Millisecond}, {&o.Settle, 2 * time.Second}, {&o.Timeout, 30 * time.Second}, {&o.Retry, time.Second}} {
		if *d.at <= 0 {
			*d.at = d.value
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}

// Feed is one feed.
type Feed struct {
	o Options

	mu      sync.Mutex // guards the rest
	next    int64      // the first record that is not known to be taken
	current time.Time  // when nothing was left to send last
	trouble error      // why it does not work now
}

// cursorHead begins the cursor's file; the number of the next record and a line end follow.
const cursorHead = "cmmpd audit syslog 1\n"

// New reads how far the feed has come. Without a file it begins with the first record.
func New(o Options) (*Feed, error) {
	o = o.withDefaults()
	if err := o.Format.Check(); err != nil {
		return nil, err
	}
	f := &Feed{o: o, current: o.Now()}
	b, err := durable.ReadFile(durable.OS{}, o.Cursor, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return f, nil
	}
	if err != nil {
		return nil, err
	}
	if f.next, err = parseCursor(b); err != nil {
		return nil, fmt.Errorf("%s: %w", o.Cursor, err)
	}
	return f, nil
}

func parseCursor(b []byte) (int64, error) {
	rest, ok := bytes.CutPrefix(b, []byte(cursorHead))
	n, err := strconv.ParseInt(string(bytes.TrimSuffix(rest, []byte("\n"))), 10, 64)
	if !ok || err != nil || n < 0 || !bytes.Equal(b, cursorOf(n)) {
		return 0, errors.New("does not say how far the feed has come")
	}
	return n, nil
}

func cursorOf(n int64) []byte { return fmt.Appendf([]byte(cursorHead), "%d\n", n) }

// State is how the feed is.
type State struct {
	Lag     int64     // records that are not known to be taken
	Current time.Time // when nothing was left to send last
	Trouble error     // why it does not work now; nil: it does
}

// State says how the feed is.
func (f *Feed) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return State{max(f.o.Source.Size()-f.next, 0), f.current, f.trouble}
}

// Run sends until ctx is done.
func (f *Feed) Run(ctx context.Context) {
	wait := f.o.Retry
	for ctx.Err() == nil {
		begun := f.position()
		err := f.connection(ctx)
		if ctx.Err() != nil {
			return
		}
		if f.position() > begun {
			wait = f.o.Retry
		}
		f.note(err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, 64*f.o.Retry)
	}
}

// note keeps why it does not work, and says it once.
func (f *Feed) note(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if (err == nil) != (f.trouble == nil) {
		f.o.Log.Warn("audit: the syslog feed", "receiver", f.o.Address, "err", err)
	}
	f.trouble = err
}

func (f *Feed) position() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.next
}

// take notes that all before next is taken.
func (f *Feed) take(next int64) error {
	if next == f.position() {
		return nil
	}
	if err := durable.WriteFile(durable.OS{}, f.o.Cursor, cursorOf(next), 0o600); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = next
	return nil
}

var (
	errEnded     = errors.New("the receiver closed the connection")
	errTalks     = errors.New("the receiver sends what is no part of this protocol")
	errStandsOff = errors.New("the receiver takes nothing")
)

// connection sends over one connection until it fails or ctx is done.
func (f *Feed) connection(ctx context.Context) error {
	if size := f.o.Source.Size(); f.position() > size {
		return fmt.Errorf("the log has %d records, and %d were sent: it is not the log that was sent", size, f.position())
	}
	dialing, cancel := context.WithTimeout(ctx, f.o.Timeout)
	defer cancel()
	plain, err := new(net.Dialer).DialContext(dialing, "tcp", f.o.Address)
	if err != nil {
		return err
	}
	c := tls.Client(plain, f.o.TLS)
	defer c.Close()
	if err := c.HandshakeContext(dialing); err != nil {
		return err
	}
	l := &link{f: f, conn: c, plain: plain, ended: make(chan error, 1)}
	go l.listen()
	l.sent = f.position()
	l.settling, l.since = l.sent, f.o.Now()
	return l.run(ctx)
}
