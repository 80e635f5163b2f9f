package directory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/go-ldap/ldap/v3"
)

// maxAnswer bounds what the directory may send in answer to one operation: the BER
// decoder of go-ldap believes any length.
const maxAnswer = 64 << 20

var errClosed = errors.New("the directory client is closed")

// pool holds a few connections. Searches and binds have pools of their own, for a bind
// changes who a connection is.
type pool struct {
	o       Options
	service bool          // connections are bound as the service
	slots   chan struct{} // bounds how many there are

	mu     sync.Mutex // guards what follows
	idle   []*link
	closed bool
}

// link is one connection. It belongs to the operation that took it from the pool.
type link struct {
	*ldap.Conn
	limited *limitedConn
}

func newPool(o Options, service bool) *pool {
	return &pool{o: o, service: service, slots: make(chan struct{}, o.Limits.Connections)}
}

// do runs f on a connection. If an old connection turns out to be dead f runs once more on a
// fresh one. When ctx ends f's connection is closed under it.
func (p *pool) do(ctx context.Context, f func(*ldap.Conn) error) error {
	ctx, cancel := context.WithTimeout(ctx, p.o.Limits.Timeout)
	defer cancel()
	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		l, fresh, err := p.take(ctx)
		if err != nil {
			return err
		}
		l.limited.allow(maxAnswer)
		stop := context.AfterFunc(ctx, func() { l.Close() })
		err = f(l.Conn)
		stopped := stop()
		if dead := l.IsClosing() || !answered(err); dead || !stopped {
			l.Close()
			if dead && !fresh && ctx.Err() == nil {
				continue
			}
			return err
		}
		p.give(l)
		return err
	}
}

// answered says whether err came from the directory, not from the way there.
func answered(err error) bool {
	var le *ldap.Error
	return err == nil || errors.As(err, &le) && le.ResultCode < ldap.ErrorNetwork
}

func (p *pool) take(ctx context.Context) (l *link, fresh bool, err error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, false, errClosed
	}
	if n := len(p.idle); n > 0 {
		l, p.idle = p.idle[n-1], p.idle[:n-1]
	}
	p.mu.Unlock()
	if l != nil {
		return l, false, nil
	}
	l, err = p.dial(ctx)
	return l, true, err
}

func (p *pool) give(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		l.Close()
		return
	}
	p.idle = append(p.idle, l)
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, l := range p.idle {
		l.Close()
	}
	p.idle = nil
}

func (p *pool) dial(ctx context.Context) (*link, error) {
	nc, err := p.o.Dial(ctx)
	if err != nil {
		return nil, err
	}
	lim := &limitedConn{Conn: nc}
	lim.allow(maxAnswer)
	l := &link{ldap.NewConn(lim, false), lim}
	l.SetTimeout(p.o.Limits.Timeout)
	l.Start()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	if p.o.StartTLS != nil {
		if err := l.StartTLS(p.o.StartTLS); err != nil {
			l.Close()
			return nil, beforehand("StartTLS", err)
		}
	}
	if p.service && !p.o.Trusted && p.o.BindDN != "" {
		if err := l.Bind(p.o.BindDN, p.o.BindPassword); err != nil {
			l.Close()
			return nil, beforehand("bind as "+p.o.BindDN, err)
		}
	}
	return l, nil
}

// beforehand hides the result code of what was done before the operation: to its caller
// it would look like the answer to that.
func beforehand(what string, err error) error { return fmt.Errorf("%s: %s", what, err.Error()) }

// limitedConn bounds how much may be read between two calls of allow.
type limitedConn struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (c *limitedConn) allow(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = n
}

func (c *limitedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left -= n; c.left < 0 {
		return 0, errors.New("the directory's answer is too large")
	}
	return n, err
}
