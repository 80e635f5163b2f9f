package main

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/message"
	"cmmpd/smime"
	"cmmpd/smime/cms"
)

// maxInspected is the longest message that the commands read.
const maxInspected = 256 << 20

// readMessage reads a message from a file, or from standard input if its name is "-".
func readMessage(path string) ([]byte, error) {
	in := os.Stdin
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	b, err := io.ReadAll(io.LimitReader(in, maxInspected+1))
	if err == nil && len(b) > maxInspected {
		err = fmt.Errorf("%s is longer than %d octets", path, maxInspected)
	}
	return b, err
}

// smimeInspect is "cmmpd smime inspect". Nothing is verified, and nothing configured is needed.
func smimeInspect(args []string) error {
	fs := newFlags("smime inspect", "FILE")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	raw, err := readMessage(fs.Arg(0))
	if err != nil {
		return err
	}
	d := &describer{out: os.Stdout}
	d.entity(raw, message.Parse(raw, message.Limits{}).Root, 0)
	return nil
}

// describer says what a message is made of.
type describer struct{ out io.Writer }

// maxLayers bounds the layers that are described.
const maxLayers = 8

func (d *describer) line(layer int, format string, args ...any) {
	fmt.Fprintln(d.out, strings.Repeat("  ", layer)+printable(fmt.Sprintf(format, args...)))
}

// printable takes out what could move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r >= 0x7f && r < 0xa0 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069 {
			return '?'
		}
		return r
	}, s)
}

// entity describes one MIME entity and what its protection holds.
func (d *describer) entity(raw []byte, p *message.Part, layer int) {
	d.line(layer, "%s/%s, %d octets", p.Type, p.Subtype, p.BodyEnd-p.BodyStart)
	if layer >= maxLayers {
		d.line(layer, "too many layers; the rest is not looked at")
		return
	}
	if p.Type == "multipart" && p.Subtype == "signed" && len(p.Children) > 0 {
		for _, c := range p.Children[1:] {
			d.cms(raw, c, layer+1)
		}
		d.entity(raw, p.Children[0], layer+1)
		return
	}
	if strings.HasSuffix(p.Subtype, "pkcs7-mime") || strings.HasSuffix(p.Subtype, "pkcs7-signature") {
		d.cms(raw, p, layer+1)
		return
	}
	for _, c := range p.Children {
		if c.Type == "multipart" || c.Type == "message" || strings.Contains(c.Subtype, "pkcs7") {
			d.entity(raw, c, layer+1)
		}
	}
}

// cms describes the CMS structure in a part.
func (d *describer) cms(raw []byte, p *message.Part, layer int) {
	der, err := message.DecodeTransfer(raw[p.BodyStart:p.BodyEnd], p.Encoding)
	if err != nil {
		d.line(layer, "cannot be decoded: %v", err)
		return
	}
	kind, err := cms.ContentType(der)
	if err != nil {
		d.line(layer, "not a CMS structure: %v", err)
		return
	}
	switch kind {
	case cms.EnvelopedData, cms.AuthEnvelopedData:
		d.enveloped(der, kind, layer)
	case cms.SignedData:
		d.signed(der, layer)
	case cms.CompressedData:
		d.compressed(der, layer)
	default:
		d.line(layer, "CMS content of type %s", kind)
	}
}

func (d *describer) compressed(der []byte, layer int) {
	kind, content, err := cms.Decompress(der, cms.Limits{Size: maxInspected})
	if err != nil {
		d.line(layer, "compressed, but malformed: %v", err)
		return
	}
	d.line(layer, "CMS CompressedData, %d octets of content", len(content))
	if kind != cms.Data {
		d.line(layer+1, "content of type %s", kind)
		return
	}
	d.entity(content, message.Parse(content, message.Limits{}).Root, layer+1)
}

func (d *describer) enveloped(der []byte, kind cms.OID, layer int) {
	e, err := cms.ParseEnveloped(der, cms.Limits{})
	if err != nil {
		d.line(layer, "encrypted, but malformed: %v", err)
		return
	}
	name := "EnvelopedData"
	if kind == cms.AuthEnvelopedData {
		name = "AuthEnvelopedData"
	}
	d.line(layer, "CMS %s, %v, %d recipients", name, e.Cipher, len(e.Recipients))
	for i := range e.Recipients {
		r := &e.Recipients[i]
		d.line(layer+1, "recipient: %s, %s", identifier(r.Issuer, r.Serial, r.SKI), r.Algorithm)
	}
}

func (d *describer) signed(der []byte, layer int) {
	s, err := cms.ParseSigned(der, cms.Limits{})
	if err != nil {
		d.line(layer, "signed, but malformed: %v", err)
		return
	}
	where := "detached"
	if s.Content != nil {
		where = fmt.Sprintf("with %d octets of content", len(s.Content))
	}
	d.line(layer, "CMS SignedData, %s, %d signers, %d certificates", where, len(s.Signers), len(s.Certificates)+s.Skipped)
	for i := range s.Signers {
		si := &s.Signers[i]
		d.line(layer+1, "signer: %s, %v", identifier(si.Issuer, si.Serial, si.SKI), si.Digest)
	}
	for _, c := range s.Certificates {
		d.line(layer+1, "certificate: %s, serial %x, %s to %s", c.Subject, c.SerialNumber, c.NotBefore.Format(time.DateOnly), c.NotAfter.Format(time.DateOnly))
	}
	if s.Content != nil {
		d.entity(s.Content, message.Parse(s.Content, message.Limits{}).Root, layer+1)
	}
}

// identifier names a certificate as CMS does.
func identifier(issuer []byte, serial *big.Int, ski []byte) string {
	if serial == nil && ski == nil {
		return "of another kind"
	}
	if serial == nil {
		return fmt.Sprintf("key identifier %x", ski)
	}
	var name pkix.RDNSequence
	if rest, err := asn1.Unmarshal(issuer, &name); err != nil || len(rest) > 0 {
		return fmt.Sprintf("issuer that cannot be read, serial %x", serial)
	}
	return fmt.Sprintf("issuer %s, serial %x", name, serial)
}

// smimeVerify is "cmmpd smime verify": exit 0 only if the signature passes.
func smimeVerify(args []string) error {
	fs := newFlags("smime verify", "--config FILE [--certificate FILE --key FILE] MESSAGE")
	path := fs.config()
	certFile := fs.String("certificate", "", "`file` (PEM) of a recipient's certificate, to open an encrypted message with")
	keyFile := fs.String("key", "", "`file` (PEM, PKCS #8) of its private key")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	if (*certFile == "") != (*keyFile == "") {
		return usageError{errors.New("--certificate and --key belong together")}
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	log := newLog("error")
	verifier, err := cfg.verifier(log, false)
	if err != nil {
		return err
	}
	raw, err := readMessage(fs.Arg(0))
	if err != nil {
		return err
	}
	o := smime.Options{Trust: verifier, Log: log, SHA1: slices.Contains(cfg.SMIME.ReadOld, oldSHA1), TripleDES: slices.Contains(cfg.SMIME.ReadOld, oldTripleDES)}
	g, x, d := smime.New(o), message.Parse(raw, message.Limits{}), &describer{out: os.Stdout}
	if *certFile == "" {
		return d.verdict("signature", g.Verify(raw, x))
	}
	k, err := readOpener(*certFile, *keyFile)
	if err != nil {
		return err
	}
	opened, err := g.Open(raw, x, k)
	if err != nil {
		return err
	}
	d.line(0, "decrypted: %d octets, %v; header protected: %v", len(opened.Entity), g.Inspect(raw, x).Enveloped.Cipher, opened.Protected)
	if len(opened.Differs) > 0 {
		d.line(0, "fields outside that differ from what was sent: %s", strings.Join(opened.Differs, ", "))
	}
	if opened.Author.Status != smime.None {
		_ = d.verdict("the author's own signature", opened.Author) // what counts is the outer one
	}
	return d.verdict("signature inside", opened.Signature)
}

func readOpener(certFile, keyFile string) (cms.KeyOpener, error) {
	certs, err := readCertificates([]string{certFile})
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	key, err := demopki.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", keyFile, err)
	}
	return cms.NewKeyOpener(certs[0], key)
}

// verdict says what a signature is worth and every step on the way. It is an error if the signature does not pass.
func (d *describer) verdict(what string, r smime.SignatureResult) error {
	d.line(0, "%s: %s: %s", what, r.Status, r.Reason)
	if r.Cert != nil {
		d.line(1, "signer's certificate: %s, serial %x", r.Cert.Subject, r.Cert.SerialNumber)
	}
	if !r.Signer.IsZero() {
		d.line(1, "it names %s", r.Signer)
	}
	if !r.Time.IsZero() {
		d.line(1, "signed, as the signer says, at %s", r.Time.UTC().Format(time.RFC3339))
	}
	d.trust(r.Trust)
	if r.Status != smime.Pass {
		return fmt.Errorf("%s: %s", what, r.Status)
	}
	return nil
}
