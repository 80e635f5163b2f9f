package limit

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"cmmpd/internal/mail"
)

func TestConns(t *testing.T) {
	at := func(s string) net.Addr { return net.TCPAddrFromAddrPort(netip.MustParseAddrPort(s)) }
	c := NewConns(6, 2, []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")})
	var release []func()
	for _, s := range []struct {
		from string
		want bool
	}{
		{"192.0.2.1:1", true},
		{"192.0.2.1:2", true},
		{"192.0.2.1:3", false},
		{"[2001:db8::1]:1", true},
		{"[2001:db8::2]:1", true},
		{"[2001:db8::3]:1", false},
		{"[2001:db8:0:1::3]:1", true},
		{"127.0.0.1:1", true},
		{"192.0.2.9:1", false}, // six in all
	} {
		r, ok := c.Take(at(s.from))
		if ok != s.want {
			t.Errorf("%s: %v, want %v", s.from, ok, s.want)
		}
		if ok {
			release = append(release, r)
		}
	}
	for _, r := range release {
		r()
	}
	if c.count != 0 || len(c.from) != 0 {
		t.Errorf("after the end: %d connections, %v", c.count, c.from)
	}
	for range 6 {
		if _, ok := c.Take(at("127.0.0.1:1")); !ok {
			t.Error("an exempt address is counted for itself")
		}
	}
	if _, ok := NewConns(1, 1, nil).Take(&net.UnixAddr{}); !ok {
		t.Error("an address that is none is refused")
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(100)
	if err := b.Acquire(t.Context(), 101); mail.KindOf(err) != mail.TooLarge {
		t.Errorf("more than all: %v", err)
	}
	if err := b.Acquire(t.Context(), 60); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Acquire(ctx, 60); mail.KindOf(err) != mail.Busy {
		t.Errorf("more than is left: %v", err)
	}
	b.Release(60)
	if err := b.Acquire(t.Context(), 100); err != nil {
		t.Error(err)
	}
}
