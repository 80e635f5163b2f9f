package queue

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/idna"

	"cmmpd/internal/mail"
)

// TLS says how a connection to another server is protected.
type TLS string

// The ways of protection.
const (
	Verify        TLS = "verify"        // TLS, and the server proves its name
	Required      TLS = "required"      // TLS, to whoever answers
	Opportunistic TLS = "opportunistic" // TLS to whoever answers if it can be had, else in clear
)

// ParseTLS reads a TLS.
func ParseTLS(s string) (TLS, error) {
	switch t := TLS(s); t {
	case Verify, Required, Opportunistic:
		return t, nil
	}
	return "", mail.E(mail.Invalid, "", fmt.Errorf("%q is none of verify, required, opportunistic", s))
}

// Route is where the mail for a domain goes.
type Route struct {
	Domain string         // of the recipients; "*": all for which there is no other
	Host   string         // the server and its port
	TLS    TLS            // Verify if empty
	Name   string         // which the server proves; the host if empty
	Roots  *x509.CertPool // who may vouch for it; nil: whom the operating system trusts
}

// Check completes the route with its defaults. The error is of kind Invalid.
func (r *Route) Check() error {
	bad := func(format string, args ...any) error { return mail.E(mail.Invalid, "", fmt.Errorf(format, args...)) }
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil || host == "" {
		return bad("route to %s: %q is not a server and its port", r.Domain, r.Host)
	}
	if r.Name == "" {
		r.Name = host
	}
	if r.TLS == "" {
		r.TLS = Verify
	}
	if _, err := ParseTLS(string(r.TLS)); err != nil {
		return err
	}
	if r.Domain == "*" {
		return nil
	}
	if r.Domain, err = asciiDomain(r.Domain); err != nil {
		return bad("route: %q is not a domain", r.Domain)
	}
	return nil
}

// way is how to reach a domain.
type way struct {
	lane  string // what is reached by one connection shares this name
	route *Route // nil: by MX
}

// Way is the name of the way to a domain: recipients with the same can share a letter. The error is of kind Refused if
// there is no way.
func (q *Queue) Way(domain string) (string, error) {
	w, err := q.way(domain)
	return w.lane, err
}

func (q *Queue) way(domain string) (way, error) {
	if len(q.routes) == 0 && !q.o.MX {
		return way{}, mail.E(mail.Refused, "mail to other domains is not served yet", nil)
	}
	name, err := asciiDomain(domain)
	if err != nil {
		return way{}, mail.E(mail.Refused, "there is no way to this domain", err)
	}
	for _, key := range []string{name, "*"} {
		if r := q.routes[key]; r != nil {
			return way{lane: "route " + r.Domain, route: r}, nil
		}
	}
	if !q.o.MX {
		return way{}, mail.E(mail.Refused, "there is no way to this domain", nil)
	}
	return way{lane: "mx " + name}, nil
}

// hash hides a lane's name: the hash lies on disk in clear.
func (q *Queue) hash(lane string) uint64 {
	h := hmac.New(sha256.New, q.o.LaneKey)
	h.Write([]byte(lane))
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// asciiDomain is the domain as DNS knows it. An address literal is none.
func asciiDomain(domain string) (string, error) {
	if domain == "" || domain[0] == '[' {
		return "", errors.New("not a domain name")
	}
	if !eightBit([]byte(domain)) {
		return strings.ToLower(domain), nil
	}
	return idna.Lookup.ToASCII(domain)
}

// target is one address of a server.
type target struct {
	addr string // address and port
	name string // the server's, which it proves
}

// maxTargets is how many addresses an attempt tries.
const maxTargets = 6

// targets finds the servers for a way, the best first.
func (q *Queue) targets(ctx context.Context, w way) ([]target, *outcome) {
	if w.route != nil {
		return []target{{w.route.Host, w.route.Name}}, nil
	}
	domain := strings.TrimPrefix(w.lane, "mx ")
	hosts, bad := q.exchangers(ctx, domain)
	if bad != nil {
		return nil, bad
	}
	var list []target
	var why *outcome
	for _, host := range hosts {
		addrs, err := q.o.Resolver.LookupHost(ctx, host+".") // absolute: no search list has a say
		if err != nil {
			if o := lookupFailure(host, err); why == nil || o.state == waiting {
				why = o // one that may answer another day counts for more than one that is not there
			}
			continue
		}
		for _, a := range addrs {
			if len(list) < maxTargets && reachable(a) {
				list = append(list, target{net.JoinHostPort(a, "25"), host})
			}
		}
	}
	if len(list) == 0 {
		if why == nil {
			why = permanent("5.4.4", domain+" has no mail server that can be reached")
		}
		return nil, why
	}
	return list, nil
}

// reachable says whether the address can be another machine's. A stranger's DNS does not send us to ourselves, or to
// whoever is on the same wire. Private addresses are good: a government has them.
func reachable(address string) bool {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	a = a.Unmap()
	here := netip.MustParsePrefix("0.0.0.0/8")
	return !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast() && !here.Contains(a) &&
		a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

// exchangers are the names of the servers for a domain (RFC 5321, section 5.1).
func (q *Queue) exchangers(ctx context.Context, domain string) ([]string, *outcome) {
	list, err := q.o.Resolver.LookupMX(ctx, domain+".")
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return []string{domain}, nil // the domain itself, if it has an address
	}
	if err != nil && len(list) == 0 {
		return nil, lookupFailure(domain, err)
	}
	if len(list) == 1 && strings.Trim(list[0].Host, ".") == "" {
		return nil, permanent("5.1.10", domain+" takes no mail") // RFC 7505
	}
	rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	slices.SortStableFunc(list, func(a, b *net.MX) int { return int(a.Pref) - int(b.Pref) })
	var hosts []string
	name := func(mx *net.MX) string { return strings.ToLower(strings.TrimSuffix(mx.Host, ".")) }
	own := slices.IndexFunc(list, func(mx *net.MX) bool { return name(mx) == strings.ToLower(q.o.Hostname) })
	for _, mx := range list {
		if own >= 0 && mx.Pref >= list[own].Pref {
			break // ourselves, and those who are no better: they would bring it back to us
		}
		if host := name(mx); host != "" {
			hosts = append(hosts, host)
		}
	}
	if len(hosts) == 0 {
		return nil, permanent("5.4.6", "mail for "+domain+" would come back to this server")
	}
	return hosts, nil
}

func lookupFailure(name string, err error) *outcome {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return permanent("5.1.2", "there is no "+name)
	}
	return temporary("4.4.3", "the name service does not answer for "+name)
}
