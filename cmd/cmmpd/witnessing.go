package main

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"cmmpd/audit"
)

// witnessOfLogs is a witness that the daemon asks.
type witnessOfLogs struct {
	URL         string `toml:"url"`
	Key         string `toml:"key"`
	CA          string `toml:"ca"`
	Certificate string `toml:"certificate"`
	PrivateKey  string `toml:"private-key"`
	Copy        bool   `toml:"copy"`
}

// What audit.policy can name.
const (
	policyWarn = "warn"
	policyStop = "stop-administration"
)

func (c *auditConfig) checkWitnesses(f *tomlFile) {
	if c.Policy != policyWarn && c.Policy != policyStop {
		f.bad("audit.policy", "%q is neither %q nor %q", c.Policy, policyWarn, policyStop)
	}
	if c.Require < 0 || c.Require > len(c.Witnesses) {
		f.bad("audit.require", "%d of %d witnesses cannot be required", c.Require, len(c.Witnesses))
	}
	if c.Policy == policyStop && c.Require == 0 {
		f.bad("audit.policy", "%q needs at least one witness that is required", policyStop)
	}
	if d := time.Duration(c.Within); d < time.Second || d > 24*time.Hour {
		f.bad("audit.within", "%v is not between 1s and 24h", d)
	}
	if len(c.Witnesses) > audit.MaxWitnesses {
		f.bad("audit.witnesses", "%d are too many, %d can be", len(c.Witnesses), audit.MaxWitnesses)
	}
	var seen []*audit.WitnessKey
	for i := range c.Witnesses {
		w, key := &c.Witnesses[i], fmt.Sprintf("audit.witnesses[%d]", i)
		if u, err := url.Parse(w.URL); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			f.bad(key+".url", "%q is not an address such as https://witness.example:10443/", w.URL)
		}
		f.file(key+".key", &w.Key)
		if w.CA != "" {
			f.file(key+".ca", &w.CA)
		}
		if (w.Certificate == "") != (w.PrivateKey == "") {
			f.bad(key, "certificate and private-key belong together")
		} else if w.Certificate != "" {
			f.file(key+".certificate", &w.Certificate)
			f.file(key+".private-key", &w.PrivateKey)
		}
		if w.Copy && w.Certificate == "" {
			f.bad(key+".copy", "a witness takes the log's records only from a client with a certificate")
		}
		if k, err := readWitnessKey(w.Key); err != nil {
			f.bad(key+".key", "%v", err)
		} else if slices.ContainsFunc(seen, k.Same) {
			f.bad(key+".key", "another witness has the same key or name")
		} else {
			seen = append(seen, k)
		}
	}
}

// peer reads what a witness is asked with.
func (w *witnessOfLogs) peer() (audit.WitnessPeer, error) {
	key, err := readWitnessKey(w.Key)
	if err != nil {
		return audit.WitnessPeer{}, err
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return audit.WitnessPeer{}, err
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if w.CA != "" {
		if conf.RootCAs, err = readPool(w.CA); err != nil {
			return audit.WitnessPeer{}, err
		}
	}
	if w.Certificate != "" {
		cert, err := tls.LoadX509KeyPair(w.Certificate, w.PrivateKey)
		if err != nil {
			return audit.WitnessPeer{}, err
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	client := &http.Client{
		Timeout:       witnessTimeout,
		Transport:     &http.Transport{TLSClientConfig: conf, MaxConnsPerHost: 1, IdleConnTimeout: 2 * time.Minute, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return audit.WitnessPeer{URL: u, Key: key, Client: client, Copy: w.Copy}, nil
}

// openWitnesses begins to have the audit log witnessed.
func (p *platform) openWitnesses() error {
	c := &p.cfg.Audit
	if len(c.Witnesses) == 0 {
		return nil
	}
	o := audit.Witnessing{Require: c.Require, Within: time.Duration(c.Within), Stop: c.Policy == policyStop, Fatal: p.fail}
	for i := range c.Witnesses {
		peer, err := c.Witnesses[i].peer()
		if err != nil {
			return fmt.Errorf("audit witness %s: %w", c.Witnesses[i].URL, err)
		}
		o.Peers = append(o.Peers, peer)
	}
	p.witnesses = p.audit.Witness(o)
	p.onClose(func() error {
		p.witnesses.Close()
		return nil
	})
	return nil
}

// witnessHealth is what /readyz says of the witnesses. They are no reason not to be ready: mail goes on.
func (p *platform) witnessHealth() (lines []string) {
	if p.witnesses == nil {
		return nil
	}
	all := p.witnesses.State()
	if all.Late {
		line := fmt.Sprintf("audit: too few witnesses have cosigned what came since %s", all.Since.UTC().Format(time.RFC3339))
		if p.cfg.Audit.Policy == policyStop {
			line += "; administrative acts are refused"
		}
		lines = append(lines, line)
	}
	for _, s := range p.witnesses.States() {
		if s.Err != nil {
			lines = append(lines, fmt.Sprintf("audit: the witness %s does not cosign", s.Name))
		}
	}
	return lines
}

// observeWitnesses adds what is known of the witnesses.
func (m *meter) observeWitnesses(d *daemon) {
	state := func(f func(audit.WitnessState) float64) func() float64 {
		return func() float64 {
			if d.witnesses == nil {
				return 0
			}
			return f(d.witnesses.State())
		}
	}
	m.set.Gauge("cmmpd_audit_cosigned_records", "Records of the audit log that enough witnesses have cosigned since the start; 0: none, or there are no witnesses.",
		state(func(s audit.WitnessState) float64 { return float64(max(s.Cosigned, 0)) }))
	m.set.Gauge("cmmpd_audit_witness_late", "1 while too few witnesses have cosigned in time.", state(func(s audit.WitnessState) float64 {
		if s.Late {
			return 1
		}
		return 0
	}))
	m.set.Gauge("cmmpd_audit_witnesses_failing", "Witnesses that did not cosign when they were asked last.", func() float64 {
		n := 0.0
		if d.witnesses != nil {
			for _, s := range d.witnesses.States() {
				if s.Err != nil {
					n++
				}
			}
		}
		return n
	})
}
