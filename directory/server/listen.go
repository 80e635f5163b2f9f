package server

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// Mode says how TLS begins on a listener.
type Mode uint8

// The modes.
const (
	StartTLS Mode = iota // clear until the StartTLS operation (RFC 4511, section 4.14)
	Implicit             // TLS from the first byte (LDAPS)
)

// Serve accepts connections until ctx ends or Shutdown is called; then it returns nil.
// It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener, conf *tls.Config, mode Mode) error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return ln.Close()
	}
	s.listeners[ln] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.listeners, ln)
		s.mu.Unlock()
		ln.Close()
	}()
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	for {
		c, err := ln.Accept()
		switch {
		case err == nil:
		case errors.Is(err, net.ErrClosed):
			return nil
		default:
			s.o.Log.Warn("accept failed", "err", err) // out of descriptors, as a rule
			select {
			case <-time.After(100 * time.Millisecond):
				continue
			case <-ctx.Done():
				return nil
			}
		}
		o := ConnOptions{TLS: conf}
		if mode == Implicit {
			c, o = tls.Server(c, conf), ConnOptions{}
		}
		go s.ServeConn(ctx, c, o)
	}
}
