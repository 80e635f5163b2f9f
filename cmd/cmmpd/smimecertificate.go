package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/smime/trust"
)

// smimeCertificate is "cmmpd smime certificate": what a certificate is, and step by step
// whether it may be used; exit 0 only if it may.
func smimeCertificate(args []string) error {
	fs := newFlags("smime certificate", "--config FILE [--for ADDRESS] [--purpose encryption|signing] [--in-directory] CERTIFICATE")
	path := fs.config()
	who := fs.String("for", "", "`address` of the person; without it the first that the certificate names")
	purpose := fs.String("purpose", "encryption", "\"encryption\" or \"signing\"")
	entry := fs.Bool("in-directory", false, "the certificate stands in the person's directory entry")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	q := trust.Query{Binding: trust.Binding{Directory: *entry}}
	switch *purpose {
	case "encryption":
	case "signing":
		q.Purpose = trust.Sign
	default:
		return usageError{fmt.Errorf("--purpose: %q is neither \"encryption\" nor \"signing\"", *purpose)}
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	v, err := cfg.verifier(newLog("error"), false)
	if err != nil {
		return err
	}
	certs, err := readAnyCertificates(fs.Arg(0))
	if err != nil {
		return err
	}
	c := certs[0]
	q.Extra = certs[1:]
	if named := trust.Addresses(c); *who == "" && len(named) > 0 {
		q.Binding.Address = named[0]
	} else if *who != "" {
		if q.Binding.Address, err = mail.ParseAddress(*who); err != nil {
			return usageError{fmt.Errorf("--for: %w", err)}
		}
	}
	d := &describer{out: os.Stdout}
	d.certificate(c)
	r := v.Ask(c, q)
	d.line(0, "for %s by %s: %s", q.Purpose, orNobody(q.Binding.Address), r.Failure)
	d.trust(r)
	if !r.Usable {
		return fmt.Errorf("the certificate: %s", r.Failure)
	}
	return nil
}

func orNobody(a mail.Address) string {
	if a.IsZero() {
		return "nobody in particular"
	}
	return a.String()
}

// readAnyCertificates reads a file of one certificate in DER or several in PEM, the one
// in question first.
func readAnyCertificates(path string) ([]*x509.Certificate, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if block, _ := pem.Decode(data); block != nil {
		return readCertificates([]string{path})
	}
	c, err := trust.ParseCertificate(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return []*x509.Certificate{c}, nil
}

// certificate says what stands in a certificate, believing nothing.
func (d *describer) certificate(c *x509.Certificate) {
	d.line(0, "certificate: %s, serial %x", c.Subject, c.SerialNumber)
	d.line(1, "issuer: %s", c.Issuer)
	d.line(1, "dates: %s to %s", c.NotBefore.UTC().Format(time.RFC3339), c.NotAfter.UTC().Format(time.RFC3339))
	var names []string
	for _, a := range trust.Addresses(c) {
		names = append(names, a.String())
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	d.line(1, "addresses: %s", strings.Join(names, ", "))
	for _, p := range c.Policies {
		d.line(1, "policy: %s", p)
	}
	for _, at := range []struct {
		what string
		urls []string
	}{{"lists", c.CRLDistributionPoints}, {"responders", c.OCSPServer}, {"issuer's certificate", c.IssuingCertificateURL}} {
		if len(at.urls) > 0 {
			d.line(1, "%s: %s", at.what, strings.Join(at.urls, ", "))
		}
	}
}

// trust says every step of a judgement, the path, and what is known about revocation.
func (d *describer) trust(r trust.Result) {
	for _, s := range r.Steps {
		mark := "failed"
		if s.OK {
			mark = "ok"
		}
		d.line(1, "%s: %s: %s", s.Name, mark, s.Detail)
	}
	for i, c := range r.Path {
		what := ""
		if c == r.Anchor {
			what = ", the anchor"
		}
		d.line(1, "path %d: %s%s", i, c.Subject, what)
	}
	for _, e := range r.Evidence {
		what := ""
		if e.LastKnown {
			what = ", the last that is known"
		}
		d.line(1, "not revoked: %s: by %s %s of %s, %s old%s", e.Certificate.Subject, e.Kind, e.Source,
			e.Made.UTC().Format(time.RFC3339), time.Since(e.Made).Round(time.Minute), what)
	}
}
