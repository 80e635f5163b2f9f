// Package queue carries mail to other domains: which way it goes, when it is tried, the couriers that take it there, and
// the reports to its sender. The items are records of storage, written in the same durable act as the local copies.
//
// What became of a recipient is durable before the next act: when a server has taken the message, that is noted before
// anything else is sent. Between the server's answer and the note there is a gap that nobody can close, and a connection
// that is lost after the message looks the same from here: then the message is sent once more, and if that ends the same
// way the sender is told that nobody knows. So a recipient gets a message once, and after a crash or a lost answer possibly
// twice, never not at all without a report.
package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math/big"
	"net"
	"sync"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// Store keeps the items: storage.Store.
type Store interface {
	QueueDue(ctx context.Context, after storage.QueueMark, n int) ([]storage.QueueMark, error)
	QueueList(ctx context.Context, after storage.QueueID, n int) ([]storage.QueueID, error)
	Queued(ctx context.Context, id storage.QueueID) (*storage.Queued, error)
	QueueBody(ctx context.Context, id storage.QueueID) (*storage.Content, error)
	Requeue(ctx context.Context, id storage.QueueID, item storage.QueueItem) error
	Unqueue(ctx context.Context, id storage.QueueID) error
}

// Door takes the reports, which are mail to our own users: intake.Intake.
type Door interface {
	Reserve(ctx context.Context, n int64) error
	Release(n int64)
	Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error)
}

// Recorder keeps the record of reports that could not be given: audit.Log.
type Recorder interface {
	Note(e audit.Event)
}

// Resolver finds mail servers: net.Resolver.
type Resolver interface {
	LookupMX(ctx context.Context, name string) ([]*net.MX, error)
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Options say where mail goes and how patiently. Hostname and Store must be set.
type Options struct {
	Hostname string // our name in EHLO and in reports
	Store    Store
	Audit    Recorder // must be set for Run

	Routes []Route
	MX     bool // what no route names goes by the MX records of its domain
	MXTLS  TLS  // how, then

	Retry     []time.Duration // the pauses between attempts, the last one repeated; 5, 10, 20, 40, 80, 160, 240 minutes
	Lifetime  time.Duration   // from acceptance until it is given up; 5 days (RFC 5321, section 4.5.4.1)
	WarnAfter time.Duration   // from acceptance until the sender is told of the delay; 4 hours; negative: never

	Couriers int    // connections in all; 50
	PerLane  int    // connections to one destination; 5
	LaneKey  []byte // makes the hashes of destinations that lie on disk

	Timeouts Timeouts

	Dial     func(ctx context.Context, network, addr string) (net.Conn, error)
	Resolver Resolver
	Log      *slog.Logger
	Now      func() time.Time // the clock. By default it runs on from the start whatever happens to the wall clock
	Jitter   func() float64   // from 0 to 1, how far a pause is drawn out; random
	Outcome  func(string)     // is told what an attempt came to for each recipient: delivered, deferred or bounced
}

// Timeouts are how long a courier waits. The zero value of each is its default, from RFC 5321, section 4.5.3.2.
type Timeouts struct {
	Connect  time.Duration // for a connection; 30 seconds
	Reply    time.Duration // for a reply to a command; 5 minutes
	Final    time.Duration // for the reply to the message; 10 minutes
	Progress time.Duration // for any bytes to move; 3 minutes
	Attempt  time.Duration // for one attempt on one message in all; 2 hours
}

func (o *Options) setDefaults() {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if len(o.Retry) == 0 {
		for _, m := range []time.Duration{5, 10, 20, 40, 80, 160, 240} {
			o.Retry = append(o.Retry, m*time.Minute)
		}
	}
	set(&o.Lifetime, 5*24*time.Hour)
	set(&o.WarnAfter, 4*time.Hour)
	set(&o.Timeouts.Connect, 30*time.Second)
	set(&o.Timeouts.Reply, 5*time.Minute)
	set(&o.Timeouts.Final, 10*time.Minute)
	set(&o.Timeouts.Progress, 3*time.Minute)
	set(&o.Timeouts.Attempt, 2*time.Hour)
	if o.Couriers <= 0 {
		o.Couriers = 50
	}
	if o.PerLane <= 0 {
		o.PerLane = 5
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Resolver == nil {
		o.Resolver = net.DefaultResolver
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		start := time.Now()
		o.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
	if o.Outcome == nil {
		o.Outcome = func(string) {}
	}
	if o.Jitter == nil {
		o.Jitter = jitter
	}
}

// jitter is a random number from 0 to 1.
func jitter() float64 {
	const steps = 1 << 20
	n, err := rand.Int(rand.Reader, big.NewInt(steps))
	if err != nil {
		return 0
	}
	return float64(n.Int64()) / steps
}

// Queue is the schedule and its couriers. All methods may be called concurrently.
type Queue struct {
	o      Options
	door   Door // set by Run
	routes map[string]*Route

	wake    chan struct{} // to the scheduler: something has changed
	stop    chan struct{} // closed by Shutdown
	ctx     context.Context
	cancel  context.CancelFunc // ends the attempts under way
	running sync.WaitGroup     // the scheduler and the couriers

	mu       sync.Mutex // guards what follows; no I/O under it
	stopping bool
	look     bool             // something may have become due
	next     time.Time        // when something will be due that is not in a lane; zero: nothing is known of
	lanes    map[uint64]*lane // those with something to do, or that are down
	claims   map[storage.QueueID]*claim
	ready    int  // items that wait in lanes
	active   int  // couriers
	passed   bool // items were passed over because their lane was full
}

// New makes a queue; Run sets it going.
func New(o Options) (*Queue, error) {
	o.setDefaults()
	if o.Store == nil || o.Hostname == "" {
		return nil, mail.E(mail.Invalid, "", errors.New("a queue needs a store and a host name"))
	}
	q := &Queue{
		o: o, routes: make(map[string]*Route), wake: make(chan struct{}, 1), stop: make(chan struct{}), look: true,
		lanes: make(map[uint64]*lane), claims: make(map[storage.QueueID]*claim),
	}
	q.ctx, q.cancel = context.WithCancel(context.Background())
	for i := range o.Routes {
		r := o.Routes[i]
		if err := r.Check(); err != nil {
			return nil, err
		}
		if q.routes[r.Domain] != nil {
			return nil, mail.E(mail.Invalid, "", errors.New("two routes to "+r.Domain))
		}
		q.routes[r.Domain] = &r
	}
	return q, nil
}

// Overdue is how long ago the first of the items that wait was due; not above zero if none is late.
func (q *Queue) Overdue(ctx context.Context) (time.Duration, error) {
	first, err := q.o.Store.QueueDue(ctx, storage.QueueMark{}, 1)
	if err != nil || len(first) == 0 {
		return 0, err
	}
	return q.o.Now().Sub(first[0].Due), nil
}

// Wake has the queue look for items that are due: intake calls it when it has added some.
func (q *Queue) Wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.look = true
	q.poke()
}

// poke has the scheduler go round once more.
func (q *Queue) poke() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// Run starts the scheduler, which works until Shutdown. Reports go in by the door.
func (q *Queue) Run(door Door) {
	q.door = door
	q.running.Add(1)
	go func() {
		defer q.running.Done()
		q.schedule()
	}()
}

// Shutdown begins nothing new and waits for what is under way; when ctx is done that is broken off, and will be tried
// again after the next start.
func (q *Queue) Shutdown(ctx context.Context) error {
	q.mu.Lock()
	if !q.stopping {
		q.stopping = true
		close(q.stop)
	}
	q.poke()
	q.mu.Unlock()
	done := make(chan struct{})
	go func() {
		q.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		q.cancel()
		return nil
	case <-ctx.Done():
		q.cancel()
		<-done
		return ctx.Err()
	}
}
