package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// smimeSigners is "cmmpd smime signers": who signs for whom, and whether they can; exit 0 only if
// all can.
func smimeSigners(args []string) error {
	fs := newFlags("smime signers", "--config FILE")
	path := fs.config()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	v, err := cfg.verifier(newLog("error"), false)
	if err != nil {
		return err
	}
	store, err := cfg.Keystore.of(keys.Service).open()
	if err != nil {
		return err
	}
	defer store.Close()
	d, bad := &describer{out: os.Stdout}, 0
	show := func(whom string, a mail.Address, certificate, key string) {
		d.line(0, "%s: %s with the key %s", whom, certificate, key)
		spec, err := signer(context.Background(), store, certificate, key)
		if err != nil {
			bad++
			d.line(1, "NOT USABLE: %v", err)
			return
		}
		d.line(1, "%s, until %s", spec.Cert.Subject, spec.Cert.NotAfter.UTC().Format("2006-01-02"))
		r := v.Ask(spec.Cert, trust.Query{Purpose: trust.Sign, Binding: trust.Binding{Address: a}})
		if !r.Usable {
			bad++
			d.line(1, "NOT USABLE: %v", r.Failure)
			d.trust(r)
		}
	}
	for _, s := range cfg.SMIME.Signers {
		show("the domain "+s.Domain, mail.Address{Local: "domain-signing-authority", Domain: s.Domain}, s.Certificate, s.Key)
	}
	for _, k := range cfg.SMIME.Keys {
		a, err := mail.ParseAddress(k.Address)
		if err != nil {
			return err
		}
		show(a.String(), a, k.Certificate, k.Key)
	}
	for _, r := range cfg.SMIME.Sign {
		who, labels := strings.Join(r.From, ", "), make([]string, len(r.Labels))
		for i, l := range r.Labels {
			labels[i] = string(l)
		}
		if who == "" {
			who = "everybody"
		}
		if len(labels) == 0 {
			labels = []string{"any"}
		}
		d.line(0, "rule: mail of %s, labels: %s, is signed by the %s", who, strings.Join(labels, ", "), r.By)
	}
	if bad > 0 {
		return fmt.Errorf("%d of them cannot sign", bad)
	}
	return nil
}
