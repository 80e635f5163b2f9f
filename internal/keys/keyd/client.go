package keyd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// Client asks keyd. It connects when it is first asked, and again when keyd has been started anew. All methods may be
// called concurrently. An error is of kind mail.Unavailable when keyd does not answer, mail.Denied when it does not serve our user.
type Client struct {
	path    string
	timeout time.Duration
	slots   chan struct{} // one for each request under way

	mu     sync.Mutex // guards what follows
	idle   []net.Conn
	closed bool
}

const (
	// answerTimeout is longer than keyd gives its token: an operation that hangs ends keyd first.
	answerTimeout = 15 * time.Second
	// generateTimeout is for keys that are slow to make.
	generateTimeout = 3 * time.Minute
	maxConns        = 32
)

// NewClient asks the keyd that listens at path.
func NewClient(path string) *Client {
	return &Client{path: path, timeout: answerTimeout, slots: make(chan struct{}, maxConns)}
}

// Close closes the connections; requests fail from then on.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	var err error
	for _, conn := range c.idle {
		err = errors.Join(err, conn.Close())
	}
	c.idle = nil
	return err
}

// take is a connection, used before or not.
func (c *Client) take(ctx context.Context, fresh bool) (conn net.Conn, used bool, err error) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, false, mail.E(mail.Unavailable, "", errors.New("the keystore is closed"))
	}
	if n := len(c.idle); n > 0 && !fresh {
		conn, c.idle = c.idle[n-1], c.idle[:n-1]
		c.mu.Unlock()
		return conn, true, nil
	}
	c.mu.Unlock()
	var d net.Dialer
	conn, err = d.DialContext(ctx, "unix", c.path)
	if err != nil {
		return nil, false, mail.E(mail.Unavailable, "", fmt.Errorf("keyd does not answer: %w", err))
	}
	return conn, false, nil
}

// give keeps a connection that is good for another request.
func (c *Client) give(conn net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || len(c.idle) >= maxConns {
		_ = conn.Close() // nothing is under way on it
		return
	}
	c.idle = append(c.idle, conn)
}

// call asks once, and once more on a new connection if the one at hand was no longer good and asking twice does no harm.
func (c *Client) call(ctx context.Context, r request) ([]byte, error) {
	frame, err := r.encode()
	if err != nil {
		return nil, err
	}
	timeout := c.timeout
	if r.op.ofOperator() {
		timeout = generateTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case c.slots <- struct{}{}:
		defer func() { <-c.slots }()
	case <-ctx.Done():
		return nil, mail.E(mail.Busy, "", fmt.Errorf("keyd: too many requests at once: %w", ctx.Err()))
	}
	answer, stale, err := c.try(ctx, frame, false)
	if stale && !r.op.ofOperator() {
		answer, _, err = c.try(ctx, frame, true)
	}
	clear(frame)
	if err != nil {
		return nil, fmt.Errorf("%s of %s/%s: %w", r.op, r.slot, r.name, err)
	}
	data, err := decodeAnswer(answer)
	if err != nil {
		return nil, fmt.Errorf("%s of %s/%s: %w", r.op, r.slot, r.name, err)
	}
	return data, nil
}

// try asks once. If the connection was used before and was closed meanwhile, stale is true.
func (c *Client) try(ctx context.Context, frame []byte, fresh bool) (answer []byte, stale bool, err error) {
	conn, used, err := c.take(ctx, fresh)
	if err != nil {
		return nil, false, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a closed connection needs none
	_, err = conn.Write(frame)
	if err == nil {
		answer, err = readFrame(conn, nil)
	}
	if !stop() || err != nil {
		_ = conn.Close() // it may be in the middle of an answer
		if err == nil {
			return answer, false, nil
		}
		return nil, used && ctx.Err() == nil, mail.E(mail.Unavailable, "", fmt.Errorf("keyd does not answer: %w", errors.Join(err, ctx.Err())))
	}
	c.give(conn)
	return answer, false, nil
}

// Status says whether a slot can be used.
func (c *Client) Status(ctx context.Context, slot keys.Slot) (SlotStatus, error) {
	data, err := c.call(ctx, request{op: opStatus, slot: slot})
	if err != nil {
		return SlotStatus{}, err
	}
	return decodeStatus(data)
}

// Unseal opens a slot with its token's PIN. The error is of kind mail.AuthFailed if the token refuses it, and of kind mail.Exists if the slot is
// open. pin is not kept.
func (c *Client) Unseal(ctx context.Context, slot keys.Slot, pin []byte) error {
	_, err := c.call(ctx, request{op: opUnseal, slot: slot, data: pin})
	return err
}

// Seal closes a slot: from then on its keys cannot be used. What the daemon has in memory stays there until it lets go of it.
func (c *Client) Seal(ctx context.Context, slot keys.Slot) error {
	_, err := c.call(ctx, request{op: opSeal, slot: slot})
	return err
}

// Share brings an officer's share. have and need are how many different ones keyd has and opens the slot with; when it has them all, it does.
func (c *Client) Share(ctx context.Context, slot keys.Slot, share string) (have, need int, err error) {
	data, err := c.call(ctx, request{op: opShare, slot: slot, data: []byte(share)})
	if err == nil && len(data) != 2 {
		err = errAnswer
	}
	if err != nil {
		return 0, 0, err
	}
	return int(data[0]), int(data[1]), nil
}

// Acts is what was done to keys after a mark, some of it, and the mark after that; none if there is no more. The error has keys.ErrJournal in its chain
// if keyd's journal does not go on from there.
func (c *Client) Acts(ctx context.Context, from keys.Mark) ([]keys.Act, keys.Mark, error) {
	data, err := c.call(ctx, request{op: opActs, data: binary.BigEndian.AppendUint64(nil, from.Seq)})
	if mail.KindOf(err) == mail.Corrupt && err != nil {
		err = errors.Join(keys.ErrJournal, err)
	}
	if err != nil {
		return nil, from, err
	}
	return keys.ParseActs(data, from)
}

// SetPIN changes the PIN of a slot's token, which must be open. Without the old one, officers must have brought enough shares of it.
func (c *Client) SetPIN(ctx context.Context, slot keys.Slot, old, fresh []byte) error {
	_, err := c.call(ctx, request{op: opSetPIN, slot: slot, data: old, extra: fresh})
	return err
}
