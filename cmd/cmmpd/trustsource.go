package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/smime"
)

// authorityConfig is the public directory of an authority, asked for the certificates of
// those of whom our own directory has none.
type authorityConfig struct {
	Name        string `toml:"name"`
	URL         string `toml:"url"`
	CA          string `toml:"ca"`
	Base        string `toml:"base"`
	Mail        string `toml:"mail"`
	Certificate string `toml:"certificate"`
}

// pinConfig lays down the certificates of one address.
type pinConfig struct {
	Address     string `toml:"address"`
	Certificate string `toml:"certificate"`
}

func (t *trustConfig) checkSources(f *tomlFile) {
	var names []string
	for i := range t.Authorities {
		a, key := &t.Authorities[i], fmt.Sprintf("trust.authorities[%d]", i)
		if a.CA != "" {
			f.file(key+".ca", &a.CA)
		}
		if a.Name == "" || a.Name == smime.FromDirectory || a.Name == smime.FromPin || slices.Contains(names, a.Name) {
			f.bad(key+".name", "%q is empty or taken", a.Name)
		}
		names = append(names, a.Name)
		for _, attribute := range []struct{ key, name string }{{"mail", a.Mail}, {"certificate", a.Certificate}} {
			if attribute.name != "" && !attributeName.MatchString(attribute.name) {
				f.bad(key+"."+attribute.key, "%q is not the name of an attribute", attribute.name)
			}
		}
		if err := new(directory.Options).ReachPublic(a.URL, nil); err != nil {
			f.bad(key+".url", "%q: %s", a.URL, mail.PublicOf(err))
		} else if _, err := directory.New(directory.Options{BaseDN: a.Base}); err != nil {
			f.bad(key+".base", "%q: %s", a.Base, mail.PublicOf(err))
		}
	}
	for i := range t.Pins {
		p, key := &t.Pins[i], fmt.Sprintf("trust.pins[%d]", i)
		f.file(key+".certificate", &p.Certificate)
		if _, err := mail.ParseAddress(p.Address); err != nil {
			f.bad(key+".address", "%q is not an address", p.Address)
		}
	}
}

// pinned reads the pinned certificates.
func (t *trustConfig) pinned() (func(mail.Address) []*x509.Certificate, error) {
	pins := map[string][]*x509.Certificate{}
	for _, p := range t.Pins {
		a, err := mail.ParseAddress(p.Address)
		if err != nil {
			return nil, err
		}
		certs, err := readCertificates([]string{p.Certificate})
		if err != nil {
			return nil, err
		}
		pins[a.Key()] = append(pins[a.Key()], certs...)
	}
	return func(a mail.Address) []*x509.Certificate { return pins[a.Key()] }, nil
}

// sources opens the authorities' directories. close ends them.
func (t *trustConfig) sources(log *slog.Logger) (list []smime.Source, closeAll func() error, err error) {
	var open []*directory.Directory
	closeAll = func() error {
		var errs []error
		for _, d := range open {
			errs = append(errs, d.Close())
		}
		return errors.Join(errs...)
	}
	for _, a := range t.Authorities {
		var roots *x509.CertPool
		if a.CA != "" {
			certs, err := readCertificates([]string{a.CA})
			if err != nil {
				return nil, closeAll, err
			}
			roots = x509.NewCertPool()
			for _, c := range certs {
				roots.AddCert(c)
			}
		}
		o := directory.Options{
			BaseDN: a.Base, Names: directory.Names{Mail: a.Mail, Certificate: a.Certificate}, Log: log,
			Limits: directory.Limits{Connections: 2, Timeout: authorityTimeout, CacheTTL: authorityCache},
		}
		if err := o.ReachPublic(a.URL, roots); err != nil {
			return nil, closeAll, fmt.Errorf("%s: %w", a.URL, err)
		}
		d, err := directory.New(o)
		if err != nil {
			return nil, closeAll, fmt.Errorf("%s: %w", a.URL, err)
		}
		open = append(open, d)
		list = append(list, &authority{name: a.Name, dir: d, now: time.Now})
	}
	return list, closeAll, nil
}

const (
	authorityTimeout = 5 * time.Second
	authorityCache   = 10 * time.Minute
	// authorityPause is how long a directory that did not answer is not asked again.
	authorityPause = time.Minute
)

// authority is the public directory of an authority as a smime.Source.
type authority struct {
	name string
	dir  *directory.Directory
	now  func() time.Time

	mu     sync.Mutex
	failed error     // guarded by mu
	since  time.Time // of failed, guarded by mu
}

// Name satisfies smime.Source.
func (a *authority) Name() string { return a.name }

// Certificates satisfies smime.Source.
func (a *authority) Certificates(who mail.Address) ([][]byte, error) {
	a.mu.Lock()
	failed := a.failed
	if failed != nil && a.now().Sub(a.since) >= authorityPause {
		a.failed, failed = nil, nil
	}
	a.mu.Unlock()
	if failed != nil {
		return nil, failed
	}
	ctx, cancel := context.WithTimeout(context.Background(), authorityTimeout)
	defer cancel()
	ders, err := a.dir.Published(ctx, who)
	if err != nil {
		a.mu.Lock()
		a.failed, a.since = err, a.now()
		a.mu.Unlock()
	}
	return ders, err
}
