package queue

import (
	"errors"
	"net"
	"sync"
	"time"
)

// maxUnasked is how many bytes a server may send without our saying anything: the chain of a TLS handshake, the longest
// reply.
const maxUnasked = 512 << 10

var errTooMuch = errors.New("the server sends without end")

// conn is a connection on which bytes must move: each read and write has at most the time for progress, within a deadline
// that may be set for all of them. It lies below TLS.
type conn struct {
	net.Conn
	progress time.Duration

	mu       sync.Mutex
	deadline time.Time
	unasked  int
}

// SetDeadline bounds what follows as a whole.
func (c *conn) SetDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.deadline = t
	return nil
}

// until is when an operation that begins now must have moved a byte.
func (c *conn) until() time.Time {
	t := time.Now().Add(c.progress)
	if !c.deadline.IsZero() && c.deadline.Before(t) {
		return c.deadline
	}
	return t
}

func (c *conn) Read(b []byte) (int, error) {
	c.mu.Lock()
	if c.unasked > maxUnasked {
		c.mu.Unlock()
		return 0, errTooMuch
	}
	err := c.SetReadDeadline(c.until())
	c.mu.Unlock()
	if err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	c.mu.Lock()
	c.unasked += n
	c.mu.Unlock()
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	const step = 64 << 10
	done := 0
	for done < len(b) {
		c.mu.Lock()
		c.unasked = 0
		err := c.SetWriteDeadline(c.until())
		c.mu.Unlock()
		if err != nil {
			return done, err
		}
		n, err := c.Conn.Write(b[done:min(len(b), done+step)])
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}
