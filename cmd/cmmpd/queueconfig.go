package main

import (
	"crypto/x509"
	"fmt"
	"reflect"
	"slices"
	"time"

	"cmmpd/internal/queue"
)

// queueConfig says where mail to other domains goes, and how patiently.
type queueConfig struct {
	MX                        bool          `toml:"mx"`
	MXTLS                     string        `toml:"mx-tls"`
	Retry                     []duration    `toml:"retry"`
	Lifetime                  duration      `toml:"lifetime" bounds:"1s,720h"`
	WarnAfter                 duration      `toml:"warn-after" bounds:"1s,720h"`
	Connections               int           `toml:"connections" bounds:"1,10000"`
	ConnectionsPerDestination int           `toml:"connections-per-destination" bounds:"1,1000"`
	ConnectTimeout            duration      `toml:"connect-timeout" bounds:"100ms,10m"`
	ReplyTimeout              duration      `toml:"reply-timeout" bounds:"100ms,1h"`
	FinalTimeout              duration      `toml:"final-timeout" bounds:"100ms,1h"`
	AttemptTime               duration      `toml:"attempt-time" bounds:"1s,24h"`
	Routes                    []routeConfig `toml:"routes"`
}

// routeConfig names the server for a domain.
type routeConfig struct {
	Domain string `toml:"domain"`
	Host   string `toml:"host"`
	TLS    string `toml:"tls"`
	Name   string `toml:"name"`
	CA     string `toml:"ca"`
}

func defaultQueue() queueConfig {
	c := queueConfig{
		MXTLS: string(queue.Verify), Lifetime: duration(120 * time.Hour), WarnAfter: duration(4 * time.Hour),
		Connections: 50, ConnectionsPerDestination: 5, ConnectTimeout: duration(30 * time.Second), ReplyTimeout: duration(5 * time.Minute),
		FinalTimeout: duration(10 * time.Minute), AttemptTime: duration(2 * time.Hour),
	}
	for _, m := range []time.Duration{5, 10, 20, 40, 80, 160, 240} {
		c.Retry = append(c.Retry, duration(m*time.Minute))
	}
	return c
}

func (c *queueConfig) check(f *tomlFile, local []string) {
	checkBounds(f, "queue", reflect.ValueOf(c).Elem())
	if _, err := queue.ParseTLS(c.MXTLS); err != nil {
		f.bad("queue.mx-tls", "%q is none of \"verify\", \"required\", \"opportunistic\"", c.MXTLS)
	}
	if len(c.Retry) == 0 || len(c.Retry) > 100 {
		f.bad("queue.retry", "1 to 100 pauses are needed")
	}
	for _, d := range c.Retry {
		if d > duration(24*time.Hour) {
			f.bad("queue.retry", "%v is longer than a day", d)
		}
	}
	seen := map[string]bool{}
	for i := range c.Routes {
		r := &c.Routes[i]
		key := fmt.Sprintf("queue.routes[%d]", i)
		if r.CA != "" {
			f.file(key+".ca", &r.CA)
		}
		if r.TLS == "" {
			r.TLS = string(queue.Verify)
		}
		route := queue.Route{Domain: r.Domain, Host: r.Host, TLS: queue.TLS(r.TLS), Name: r.Name}
		if err := route.Check(); err != nil {
			f.bad(key, "%v", err)
			continue
		}
		switch {
		case seen[route.Domain]:
			f.bad(key, "there is a route to %s already", r.Domain)
		case slices.Contains(local, route.Domain):
			f.bad(key, "%s is delivered here", r.Domain)
		}
		seen[route.Domain] = true
	}
}

// options are what the queue makes of it; its parts are not in it.
func (c *queueConfig) options() (queue.Options, error) {
	o := queue.Options{
		MX: c.MX, MXTLS: queue.TLS(c.MXTLS), Lifetime: time.Duration(c.Lifetime), WarnAfter: time.Duration(c.WarnAfter),
		Couriers: c.Connections, PerLane: c.ConnectionsPerDestination,
		Timeouts: queue.Timeouts{
			Connect: time.Duration(c.ConnectTimeout), Reply: time.Duration(c.ReplyTimeout), Final: time.Duration(c.FinalTimeout), Attempt: time.Duration(c.AttemptTime),
		},
	}
	for _, d := range c.Retry {
		o.Retry = append(o.Retry, time.Duration(d))
	}
	for _, r := range c.Routes {
		route := queue.Route{Domain: r.Domain, Host: r.Host, TLS: queue.TLS(r.TLS), Name: r.Name}
		if r.CA != "" {
			certs, err := readCertificates([]string{r.CA})
			if err != nil {
				return o, err
			}
			route.Roots = x509.NewCertPool()
			for _, cert := range certs {
				route.Roots.AddCert(cert)
			}
		}
		o.Routes = append(o.Routes, route)
	}
	return o, nil
}
