package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"cmmpd/audit"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// inForceFile is the name, in the store's folder, of what was in force when it was last on record.
const inForceFile = "config-in-force"

const maxInForce = 1 << 20

// inForce is what a configuration says, in digests: SHA-256 of each section with its defaults, by the section's name, and of each file that it
// names, by "file:" and the path; of the server's certificate, the certificate alone. Lists of revoked certificates are left out: they change by
// themselves. It holds nothing of any key or password.
type inForce map[string]string

// inForce reads the files. One that cannot be read is an error.
func (c *config) inForce() (inForce, error) {
	f := make(inForce)
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("toml")
		if name == "" {
			continue
		}
		b, err := json.Marshal(v.Field(i).Interface())
		if err != nil {
			return nil, fmt.Errorf("configuration, %s: %w", name, err)
		}
		f[name] = sum(b)
	}
	for _, path := range c.files() {
		if path == c.TLS.Certificate || slices.Contains(c.SMIME.CRLs, path) {
			continue
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		f["file:"+path] = sum(b)
	}
	return f, nil
}

const certificateItem = "server-certificate"

func sum(b []byte) string { return fmt.Sprintf("%x", sha256.Sum256(b)) }

// digest is one for all of it.
func (f inForce) digest() string {
	h := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(f)) {
		fmt.Fprintf(h, "%q %s\n", name, f[name])
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// changed are the names of what is different, new or gone, by name.
func (f inForce) changed(before inForce) (names []string) {
	for name := range f {
		if f[name] != before[name] {
			names = append(names, name)
		}
	}
	for name := range before {
		if _, there := f[name]; !there {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// recordConfig puts on record that the configuration in force is another than that of the last start. If it cannot, the daemon must not start with it.
func (p *platform) recordConfig(ctx context.Context) (err error) {
	if p.inForce, err = p.cfg.inForce(); err != nil {
		return err
	}
	p.inForce[certificateItem] = p.certificate.fingerprint()
	before := make(inForce)
	path := filepath.Join(p.cfg.Store.Path, inForceFile)
	b, err := durable.ReadFile(durable.OS{}, path, maxInForce)
	if err == nil {
		err = json.Unmarshal(b, &before)
	}
	detail := map[string]string{"config": p.inForce.digest(), "at": "start"}
	switch {
	case errors.Is(err, os.ErrNotExist):
		detail["changed"] = "no earlier one is known"
	case err != nil: // an administrator finds all the sections named, and may ask why
		p.log.Warn("what was in force at the last start cannot be read", "file", path, "err", err)
		detail["changed"] = "the earlier one cannot be read"
	default:
		names := p.inForce.changed(before)
		if len(names) == 0 {
			return nil
		}
		detail["before"], detail["changed"] = before.digest(), strings.Join(names, " ")
	}
	return p.recordInForce(ctx, detail)
}

// recordInForce puts a change on record, and then notes what is in force: after a crash between the two it is on record twice.
func (p *platform) recordInForce(ctx context.Context, detail map[string]string) error {
	e := audit.Event{Type: audit.ConfigChange, Actor: "uid " + strconv.Itoa(os.Geteuid()), Outcome: "ok", Detail: detail}
	if err := p.audit.Record(ctx, e); err != nil {
		return mail.E(mail.Unavailable, "the change of the configuration cannot be put on record, so it is not in force", err)
	}
	b, err := json.Marshal(p.inForce)
	if err != nil {
		return err
	}
	return durable.WriteFile(durable.OS{}, filepath.Join(p.cfg.Store.Path, inForceFile), b, 0o600)
}

// recordCertificate puts on record that another certificate of the server is about to be in force.
func (p *platform) recordCertificate(fingerprint string) error {
	before, was := p.inForce.digest(), p.inForce[certificateItem]
	if was == fingerprint {
		return nil
	}
	p.inForce[certificateItem] = fingerprint
	err := p.recordInForce(context.Background(), map[string]string{
		"config": p.inForce.digest(), "before": before, "at": "reload", "changed": certificateItem, "certificate": fingerprint,
	})
	if err != nil {
		p.inForce[certificateItem] = was
	}
	return err
}
