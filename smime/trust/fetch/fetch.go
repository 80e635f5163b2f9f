// Package fetch gets public revocation data and certificates over HTTP, from servers
// that the configuration names and no others. The addresses come out of certificates,
// which strangers may have made, so whatever they say the platform cannot be made to
// speak to its own network (server-side request forgery), to wait, or to read without end.
package fetch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Options of a Client.
type Options struct {
	// Hosts may be asked: "host" on the ports 80 and 443, or "host:port". None: nobody.
	Hosts []string
	// Internal are networks that may be connected to although they are not public.
	Internal []netip.Prefix
	Timeout  time.Duration // for one request with its redirects; 0: 10 seconds
}

// maxRedirects bounds how often a server sends us on; each time to an allowed host.
const maxRedirects = 3

// Client asks servers. It may be used by several goroutines at once.
type Client struct {
	hosts    map[string]bool
	internal []netip.Prefix
	http     *http.Client
}

// New makes a Client. It uses no proxy and keeps no cookies.
func New(o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	c := &Client{hosts: map[string]bool{}, internal: o.Internal}
	for _, h := range o.Hosts {
		if err := c.allow(h); err != nil {
			return nil, err
		}
	}
	dialer := &net.Dialer{Timeout: o.Timeout, Control: c.control}
	c.http = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: o.Timeout, ResponseHeaderTimeout: o.Timeout,
			MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 8, IdleConnTimeout: 30 * time.Second, DisableCompression: true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return errors.New("too many redirects")
			}
			return c.Allowed(r.URL.String())
		},
	}
	return c, nil
}

// allow takes up one entry of Hosts.
func (c *Client) allow(h string) error {
	h = strings.ToLower(h)
	if host, port, err := net.SplitHostPort(h); err == nil && host != "" {
		if _, err := strconv.ParseUint(port, 10, 16); err == nil {
			c.hosts[h] = true
			return nil
		}
	}
	if h == "" || strings.ContainsAny(h, "/:@ ") {
		return fmt.Errorf("%q is neither a host nor a host with a port", h)
	}
	c.hosts[h+":80"], c.hosts[h+":443"] = true, true
	return nil
}

// Allowed says why an address may not be asked, or nil. It does not look its host up.
func (c *Client) Allowed(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return errors.New("not an address")
	}
	port := u.Port()
	switch {
	case u.User != nil || u.Hostname() == "":
		return errors.New("not a plain address")
	case u.Scheme == "http" && port == "":
		port = "80"
	case u.Scheme == "https" && port == "":
		port = "443"
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("scheme %q is not asked", u.Scheme)
	}
	if !c.hosts[net.JoinHostPort(strings.ToLower(u.Hostname()), port)] {
		return fmt.Errorf("the host %q is not among those that may be asked", u.Host)
	}
	return nil
}

// control looks at the address that a connection is about to go to, after the name
// was looked up: what a name means may change between a check and its use.
func (c *Client) control(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := ap.Addr().Unmap()
	for _, p := range c.internal {
		if p.Contains(ip) {
			return nil
		}
	}
	if !public(ip) {
		return fmt.Errorf("%s is an internal address", ip)
	}
	return nil
}

// reserved are networks beyond those that netip knows by name (IANA's special-purpose
// registries): they lead inside, nowhere, or by translation to any IPv4 address.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
}

// global is all that is given out of IPv6 for the world: what is outside is special, and
// some of it holds an IPv4 address.
var global = netip.MustParsePrefix("2000::/3")

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.Is6() && !global.Contains(ip) {
		return false
	}
	for _, p := range reserved {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// Get reads what is at an address, at most most bytes.
func (c *Client) Get(ctx context.Context, address string, most int64) ([]byte, error) {
	return c.do(ctx, http.MethodGet, address, "", nil, most)
}

// Post sends body and reads the answer, at most most bytes.
func (c *Client) Post(ctx context.Context, address, contentType string, body []byte, most int64) ([]byte, error) {
	return c.do(ctx, http.MethodPost, address, contentType, body, most)
}

func (c *Client) do(ctx context.Context, method, address, contentType string, body []byte, most int64) ([]byte, error) {
	if err := c.Allowed(address); err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	r.Header.Set("User-Agent", "cmmpd")
	resp, err := c.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	if resp.ContentLength > most {
		return nil, fmt.Errorf("%d bytes are more than %d", resp.ContentLength, most)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > most {
		return nil, fmt.Errorf("more than %d bytes", most)
	}
	return b, nil
}
