package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"time"

	"cmmpd/smime/trust"
	"cmmpd/smime/trust/fetch"
)

// trustConfig is what certificates are held to beyond [smime], and what may be fetched
// to find out.
type trustConfig struct {
	FetchHosts       []string         `toml:"fetch-hosts"`
	InternalNetworks []string         `toml:"internal-networks"`
	FetchTimeout     duration         `toml:"fetch-timeout"`
	Refresh          duration         `toml:"refresh"`
	Cache            string           `toml:"cache"`
	LastKnownGood    pause            `toml:"last-known-good"`
	Seen             string           `toml:"seen"`
	Policies         []policiesConfig `toml:"policies"`

	Authorities []authorityConfig `toml:"authorities"`
	Pins        []pinConfig       `toml:"pins"`
}

// policiesConfig are the certificate policies that are accepted under an anchor, and what
// certificates of them are called in counts.
type policiesConfig struct {
	Name   string   `toml:"name"`
	Anchor string   `toml:"anchor"`
	Accept []string `toml:"accept"`
}

// pause is a time span, or 0, written "none".
type pause time.Duration

func (p *pause) UnmarshalText(b []byte) error {
	if string(b) == "none" {
		*p = 0
		return nil
	}
	return (*duration)(p).UnmarshalText(b)
}

func defaultTrust() trustConfig {
	return trustConfig{FetchTimeout: duration(10 * time.Second), Refresh: duration(time.Hour), Cache: "trust", Seen: "seen"}
}

func (t *trustConfig) check(f *tomlFile) {
	f.resolve("trust.cache", &t.Cache)
	if t.Seen != "" {
		f.resolve("trust.seen", &t.Seen)
	}
	if _, err := fetch.New(fetch.Options{Hosts: t.FetchHosts}); err != nil {
		f.bad("trust.fetch-hosts", "%v", err)
	}
	if _, err := t.internal(); err != nil {
		f.bad("trust.internal-networks", "%v", err)
	}
	if d := time.Duration(t.FetchTimeout); d < time.Second || d > time.Minute {
		f.bad("trust.fetch-timeout", "%v is not between 1s and 1m", d)
	}
	if d := time.Duration(t.Refresh); d < time.Minute || d > 7*24*time.Hour {
		f.bad("trust.refresh", "%v is not between 1m and 168h", d)
	}
	t.checkSources(f)
	for i := range t.Policies {
		p, key := &t.Policies[i], fmt.Sprintf("trust.policies[%d]", i)
		f.file(key+".anchor", &p.Anchor)
		if len(p.Accept) == 0 {
			f.bad(key+".accept", "at least one policy is needed")
		}
		for _, s := range p.Accept {
			if err := trust.CheckPolicy(s); err != nil {
				f.bad(key+".accept", "%v", err)
			}
		}
	}
}

func (t *trustConfig) internal() (list []netip.Prefix, err error) {
	for _, s := range t.InternalNetworks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%q is not a network such as \"10.1.0.0/16\"", s)
		}
		list = append(list, p)
	}
	return list, nil
}

// crlLook is for how long files of revocation lists need not be looked at again: a message with several readers asks several times.
const crlLook = 50 * time.Millisecond

// verifier judges certificates by the configured anchors and revocation lists, and what
// may be fetched. What it fetches it keeps only if keep says so: the folder is the daemon's.
func (c *config) verifier(log *slog.Logger, keep bool) (*trust.Verifier, error) {
	anchors, err := readCertificates(c.SMIME.Anchors)
	if err != nil {
		return nil, err
	}
	intermediates, err := readCertificates(c.SMIME.Intermediates)
	if err != nil {
		return nil, err
	}
	o := trust.Options{
		Anchors: anchors, Intermediates: intermediates, CRLs: c.SMIME.CRLs, CRLLook: crlLook, RequireCRL: true,
		MaxCRLAge: time.Duration(c.SMIME.MaxCRLAge), LastKnownGood: time.Duration(c.Trust.LastKnownGood),
		MinRSABits: c.SMIME.MinRSABits, Refresh: time.Duration(c.Trust.Refresh), Log: log, Policies: map[string][]string{},
	}
	for _, p := range c.Trust.Policies {
		certs, err := readCertificates([]string{p.Anchor})
		if err != nil {
			return nil, err
		}
		for _, cert := range certs {
			if !slices.ContainsFunc(anchors, cert.Equal) {
				return nil, fmt.Errorf("trust: policies: %s is not among the anchors of [smime]", filepath.Base(p.Anchor))
			}
			o.Policies[string(cert.Raw)] = append(o.Policies[string(cert.Raw)], p.Accept...)
		}
	}
	if err := c.Trust.fetching(&o, keep); err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	v, err := trust.New(o)
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	return v, nil
}

// fetching adds what is needed to fetch, if any host may be asked.
func (t *trustConfig) fetching(o *trust.Options, keep bool) error {
	if len(t.FetchHosts) == 0 {
		return nil
	}
	internal, err := t.internal()
	if err != nil {
		return err
	}
	if o.Fetch, err = fetch.New(fetch.Options{Hosts: t.FetchHosts, Internal: internal, Timeout: time.Duration(t.FetchTimeout)}); err != nil {
		return err
	}
	cache, err := openTrustCache(t.Cache, keep)
	if err != nil {
		return err
	}
	o.Cache = cache
	return nil
}

// tryTrust reads what the verifier needs: anchors, lists, pins. It asks nobody.
func (c *config) tryTrust() error {
	if _, err := c.verifier(newLog("error"), false); err != nil {
		return err
	}
	if _, err := c.Trust.pinned(); err != nil {
		return fmt.Errorf("trust: pins: %w", err)
	}
	_, closeAll, err := c.Trust.sources(newLog("error"))
	if err != nil {
		return fmt.Errorf("trust: authorities: %w", err)
	}
	return closeAll()
}

// openTrust opens the verifier and renews what it fetched until the platform closes.
func (p *platform) openTrust() (*trust.Verifier, error) {
	v, err := p.cfg.verifier(p.log, true)
	if err != nil {
		return nil, err
	}
	p.verifier = v
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Run(ctx)
	}()
	p.onClose(func() error {
		cancel()
		<-done
		return nil
	})
	return v, nil
}
