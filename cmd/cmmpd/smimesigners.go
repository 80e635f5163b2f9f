package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"cmmpd/internal/demopki"
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

// smimeKeyImport is "cmmpd smime key import": it puts a private key into the keystore, after a look at
// whether it is that of the certificate, and says which lines the configuration needs.
func smimeKeyImport(args []string) error {
	fs := newFlags("smime key import", "--config FILE --for ADDRESS|DOMAIN --certificate FILE --key FILE")
	path := fs.config()
	whom := fs.String("for", "", "whose mail it signs: an `address`, or a domain for its department")
	certFile := fs.String("certificate", "", "`file` (PEM) of the certificate; the configuration will name it")
	keyFile := fs.String("key", "", "`file` (PEM, PKCS #8) of its private key; remove it afterwards")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	if *whom == "" || *certFile == "" || *keyFile == "" {
		return usageError{errors.New("--for, --certificate and --key are needed")}
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	service, err := cfg.Keystore.of(keys.Service).open()
	if err != nil {
		return err
	}
	defer service.Close()
	store, ok := service.(*keys.FileStore)
	if !ok {
		return errors.New("the service keys are in a token, where keys are made and not imported: cmmpd keys generate, and keys request for the certificate")
	}
	a, domain := mail.Address{Local: "domain-signing-authority", Domain: strings.ToLower(*whom)}, true
	if strings.Contains(*whom, "@") {
		domain = false
		if a, err = mail.ParseAddress(*whom); err != nil {
			return usageError{fmt.Errorf("--for: %w", err)}
		}
	}
	certs, err := readCertificates([]string{*certFile})
	if err != nil {
		return err
	}
	data, err := os.ReadFile(*keyFile)
	if err != nil {
		return err
	}
	key, err := demopki.ParseKey(data)
	if err != nil {
		return fmt.Errorf("%s: %w", *keyFile, err)
	}
	if !belongs(certs[0].PublicKey, key) {
		return fmt.Errorf("%s is not the key of %s", *keyFile, *certFile)
	}
	v, err := cfg.verifier(newLog("error"), false)
	if err != nil {
		return err
	}
	if r := v.Ask(certs[0], trust.Query{Purpose: trust.Sign, Binding: trust.Binding{Address: a}, Extra: certs[1:]}); !r.Usable {
		d := &describer{out: os.Stdout}
		d.trust(r)
		return fmt.Errorf("the certificate cannot sign for %s: %s", a, r.Failure)
	}
	name := fmt.Sprintf("signer/%s-%x", *whom, certs[0].SerialNumber)
	if err := store.Import(keys.Service, name, key); err != nil {
		return err
	}
	block, field := "smime.keys", "address"
	if domain {
		block, field = "smime.signers", "domain"
	}
	fmt.Printf("[[%s]]\n%s = %q\ncertificate = %q\nkey = %q\n", block, field, strings.TrimPrefix(a.String(), "domain-signing-authority@"), *certFile, name)
	return nil
}
