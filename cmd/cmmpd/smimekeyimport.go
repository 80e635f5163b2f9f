package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"strings"

	"cmmpd/internal/admin"
	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// signerPrefix begins the names of the keys that are imported.
const signerPrefix = "signer/"

// smimeKeyImport is "cmmpd smime key import": it puts a private key into the keystore, after a look at
// whether it is that of the certificate, and says which lines the configuration needs. The act is on record.
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
	if cfg.Keystore.of(keys.Service).Kind == tokenKeystore {
		return errNoImport
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
	defer clear(data)
	key, err := demopki.ParseKey(data)
	if err != nil {
		return fmt.Errorf("%s: %w", *keyFile, err)
	}
	if !belongs(certs[0].PublicKey, key) {
		return fmt.Errorf("%s is not the key of %s", *keyFile, *certFile)
	}
	if err := cfg.canSign(certs, a); err != nil {
		return err
	}
	q := admin.KeyImport{
		Name: fmt.Sprintf("%s%s-%x", signerPrefix, *whom, certs[0].SerialNumber), For: strings.TrimPrefix(a.String(), "domain-signing-authority@"),
		Certificate: fmt.Sprintf("%x", sha256.Sum256(certs[0].Raw)),
	}
	ctx, stop := interruptible()
	defer stop()
	op, err := newOperator(ctx, cfg, "", "")
	if err != nil {
		return err
	}
	if err := errors.Join(op.importKey(ctx, q, bytes.NewReader(data)), op.close()); err != nil {
		return err
	}
	block, field := "smime.keys", "address"
	if domain {
		block, field = "smime.signers", "domain"
	}
	fmt.Printf("[[%s]]\n%s = %q\ncertificate = %q\nkey = %q\n", block, field, q.For, *certFile, q.Name)
	return nil
}

// errNoImport: a key that was outside of a token once is no key of a token, whose worth is that nobody ever had a copy.
var errNoImport = errors.New("the service keys are in a token, where keys are made and never imported: " +
	"make one with \"cmmpd keys generate --kind KIND NAME\", ask for its certificate with \"cmmpd keys request\", and name both in the configuration")

// canSign says why a certificate cannot sign for the address, and shows what was looked at.
func (c *config) canSign(certs []*x509.Certificate, a mail.Address) error {
	v, err := c.verifier(newLog("error"), false)
	if err != nil {
		return err
	}
	r := v.Ask(certs[0], trust.Query{Purpose: trust.Sign, Binding: trust.Binding{Address: a}, Extra: certs[1:]})
	if r.Usable {
		return nil
	}
	d := &describer{out: os.Stdout}
	d.trust(r)
	return fmt.Errorf("the certificate cannot sign for %s: %s", a, r.Failure)
}

// importKey puts a key into the keystore that is in use.
func (p *platform) importKey(_ context.Context, name string, text []byte) error {
	if p.cfg.Keystore.of(keys.Service).Kind == tokenKeystore {
		return mail.E(mail.Unsupported, errNoImport.Error(), nil)
	}
	if !strings.HasPrefix(name, signerPrefix) {
		return mail.E(mail.Invalid, "the names of imported keys begin with "+signerPrefix, nil)
	}
	key, err := demopki.ParseKey(text)
	if err != nil {
		return mail.E(mail.Invalid, "it is no private key of PKCS #8 in PEM", nil)
	}
	store, err := keys.OpenFile(p.cfg.Keystore.of(keys.Service).Path)
	if err != nil {
		return err
	}
	defer store.Close()
	return store.Import(keys.Service, name, key)
}
