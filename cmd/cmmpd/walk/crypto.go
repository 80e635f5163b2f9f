package walk

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"cmmpd/internal/demopki"
	"cmmpd/internal/message"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// sealedFor checks that raw is S/MIME with AES-256 for exactly these people.
func (w *walk) sealedFor(raw []byte, uids ...string) error {
	g, err := w.gateway()
	if err != nil {
		return err
	}
	p := g.Inspect(raw, message.Parse(raw, message.Limits{}))
	if p.Kind != smime.Encrypted {
		return fmt.Errorf("the mail is %v, not S/MIME encrypted", p.Kind)
	}
	if p.Enveloped.Cipher != cms.AES256CBC && p.Enveloped.Cipher != cms.AES256GCM {
		return errors.New("the cipher is not AES-256")
	}
	if len(p.Enveloped.Recipients) != len(uids) {
		return fmt.Errorf("it is for %d recipients, not for %d", len(p.Enveloped.Recipients), len(uids))
	}
	for _, uid := range uids {
		cert, err := w.certificate(uid)
		if err != nil {
			return err
		}
		n := 0
		for i := range p.Enveloped.Recipients {
			if p.Enveloped.Recipients[i].Matches(cert) {
				n++
			}
		}
		if n != 1 {
			return fmt.Errorf("%s is named %d times among its recipients, not once", uid, n)
		}
	}
	return nil
}

// opens opens raw with a person's key by our own code, checks the domain's signature
// inside, and looks for the marker.
func (w *walk) opens(raw []byte, uid, marker string) error {
	cert, err := w.certificate(uid)
	if err != nil {
		return err
	}
	der, err := w.pem(uid, "key.pem")
	if err != nil {
		return err
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return err
	}
	opener, err := cms.NewKeyOpener(cert, key)
	if err != nil {
		return err
	}
	g, err := w.gateway()
	if err != nil {
		return err
	}
	opened, err := g.Open(raw, message.Parse(raw, message.Limits{}), opener)
	if err != nil {
		return err
	}
	if opened.Signature.Status != smime.Pass || !opened.Signature.Domain {
		return fmt.Errorf("the signature inside is not the domain's: %s (%s)", opened.Signature.Status, opened.Signature.Reason)
	}
	if !bytes.Contains(opened.Inner, []byte(marker)) {
		return errors.New("it opens, but the text is not in it")
	}
	return nil
}

// gateway is S/MIME mechanics that trust the demonstration's authority.
func (w *walk) gateway() (*smime.Gateway, error) {
	pki := func(file string) string { return filepath.Join(w.Dir, "pki", file) }
	data, err := os.ReadFile(pki("ca.pem"))
	if err != nil {
		return nil, err
	}
	anchors, err := demopki.ParseCerts(data)
	if err != nil {
		return nil, err
	}
	verifier, err := trust.New(trust.Options{Anchors: anchors, CRLs: []string{pki("ca.crl")}, RequireCRL: true})
	if err != nil {
		return nil, err
	}
	return smime.New(smime.Options{Trust: verifier}), nil
}

// opensslOpens does the same with the openssl program, and verifies the signature
// inside. It says how it was opened; without openssl that is our own code alone. No
// plain text touches the disk: everything goes through pipes.
func (w *walk) opensslOpens(ctx context.Context, raw []byte, uid, marker string) (string, error) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		return "our code; openssl is not installed", nil
	}
	person := func(file string) string { return filepath.Join(w.Dir, "people", uid, file) }
	inner, err := pipe(ctx, raw, openssl, "cms", "-decrypt", "-inkey", person("key.pem"), "-recip", person("cert.pem"))
	if err != nil {
		return "", err
	}
	text, err := pipe(ctx, inner, openssl, "cms", "-verify", "-CAfile", filepath.Join(w.Dir, "pki", "ca.pem"))
	if err != nil {
		return "", err
	}
	if !bytes.Contains(text, []byte(marker)) {
		return "", errors.New("it opens, but the text is not in it")
	}
	return "our code and openssl", nil
}

func pipe(ctx context.Context, in []byte, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out, msg bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &msg
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", filepath.Base(program), args[1], err, bytes.TrimSpace(msg.Bytes()))
	}
	return out.Bytes(), nil
}
