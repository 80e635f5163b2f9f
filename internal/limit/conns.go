package limit

import (
	"net"
	"net/netip"
	"sync"
)

// Conns bounds connections, in all and from one address. An IPv6 client is its /64
// network. It is safe for concurrent use.
type Conns struct {
	all, each int
	exempt    []netip.Prefix

	mu    sync.Mutex
	count int
	from  map[netip.Addr]int // no zero entries
}

// NewConns makes a bound of all connections and of each from one address; exempt
// networks count only towards all.
func NewConns(all, each int, exempt []netip.Prefix) *Conns {
	return &Conns{all: all, each: each, exempt: exempt, from: map[netip.Addr]int{}}
}

// Take counts one connection from remote. Where the bound is reached ok is false, else
// the caller calls release, once, when the connection has ended.
func (c *Conns) Take(remote net.Addr) (release func(), ok bool) {
	addr := AddrOf(remote)
	key := addr
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			key = p.Addr()
		}
	}
	counted := addr.IsValid() && !Contains(c.exempt, addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count >= c.all || counted && c.from[key] >= c.each {
		return nil, false
	}
	c.count++
	if counted {
		c.from[key]++
	}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.count--
		if !counted {
			return
		}
		if c.from[key]--; c.from[key] == 0 {
			delete(c.from, key)
		}
	}, true
}

// AddrOf is the address of a, without port and zone; the zero Addr if it has none.
func AddrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		addr, _ := netip.AddrFromSlice(t.IP)
		return addr.Unmap()
	}
	return netip.Addr{}
}

// Contains says whether one of the networks holds a.
func Contains(nets []netip.Prefix, a netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
