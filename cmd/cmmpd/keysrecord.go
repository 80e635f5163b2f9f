package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"cmmpd/internal/admin"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// act does an act on a key. keyd puts it into its journal; of a key in files it goes on record through the daemon, or in the audit log of the
// configuration. Where there is no log yet, or only a folder was given, it leaves no record.
func (k *keystoreOf) act(a admin.KeyAct) ([]byte, error) {
	where, err := k.where()
	if err != nil {
		return nil, err
	}
	ctx, stop := interruptible()
	defer stop()
	if *k.config != "" && where.of(keys.Slot(a.Slot)).Kind == fileKeystore {
		if cfg, err := loadConfig(*k.config); err == nil && exists(cfg.Audit.Path) {
			op, err := newOperator(ctx, cfg, "", "")
			if err != nil {
				return nil, err
			}
			result, err := op.keyAct(ctx, a)
			return result, errors.Join(err, op.close())
		}
		fmt.Fprintln(os.Stderr, "this is not put on record: there is no whole installation with an audit log yet (未有審計記錄)")
	}
	store, err := where.open()
	if err != nil {
		return nil, err
	}
	result, err := doKeyAct(ctx, store, a)
	return result, errors.Join(err, store.Close())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// keyAct is admin.Options.KeyAct.
func (p *platform) keyAct(ctx context.Context, a admin.KeyAct) ([]byte, error) {
	if slot := keys.Slot(a.Slot); slot != keys.Service && slot != keys.Mail || p.cfg.Keystore.of(slot).Kind != fileKeystore {
		return nil, mail.E(mail.Unsupported, "that slot is not in files: ask keyd", nil)
	}
	return doKeyAct(ctx, p.keystore.Slots, a)
}

func doKeyAct(ctx context.Context, store keys.Slots, a admin.KeyAct) ([]byte, error) {
	switch a.Op {
	case admin.KeyGenerate:
		return nil, store.Generate(keys.Slot(a.Slot), a.Name, keys.Kind(a.Kind))
	case admin.KeyRetire:
		return nil, store.Retire(keys.Slot(a.Slot), a.Name)
	case admin.KeyUnretire:
		return nil, store.Unretire(keys.Slot(a.Slot), a.Name)
	case admin.KeyRequest:
		return certificateRequest(ctx, store, a)
	}
	return nil, mail.E(mail.Invalid, "there is no such act", nil)
}

// certificateRequest is PKCS #10, signed by the key, in PEM.
func certificateRequest(ctx context.Context, store keys.Slots, a admin.KeyAct) ([]byte, error) {
	t := &x509.CertificateRequest{Subject: pkix.Name{CommonName: a.CommonName}}
	if a.Address != "" {
		t.EmailAddresses = []string{a.Address}
	}
	if a.Host != "" {
		t.DNSNames = []string{a.Host}
	}
	key, err := store.Signer(ctx, keys.Slot(a.Slot), a.Name)
	if err != nil {
		return nil, err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, t, key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}), nil
}
