package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/smime/seen"
	"cmmpd/smime/trust"
)

// openSeen opens the memory of certificates from signed mail; nil where none is kept.
func (t *trustConfig) openSeen(ctx context.Context, keystore keys.Keystore, create bool, log *slog.Logger) (*seen.Book, error) {
	if t.Seen == "" {
		return nil, nil
	}
	key, err := keystore.Derive(ctx, keys.Service, "blind", []byte("cmmpd seen certificates 1"))
	if err != nil {
		return nil, err
	}
	return seen.Open(t.Seen, key, create, log)
}

// smimeSeen is "cmmpd smime seen": certificates that came with good signatures.
func smimeSeen(args []string) error {
	fs := newFlags("smime seen", "--config FILE [--for ADDRESS]")
	path := fs.config()
	who := fs.String("for", "", "only those of this `address`, with the certificates in PEM, to be pinned")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	var only mail.Address
	if *who != "" {
		var err error
		if only, err = mail.ParseAddress(*who); err != nil {
			return usageError{fmt.Errorf("--for: %w", err)}
		}
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	keystore, err := cfg.Keystore.open()
	if err != nil {
		return err
	}
	defer keystore.Close()
	book, err := cfg.Trust.openSeen(context.Background(), keystore, false, newLog("error"))
	if err != nil || book == nil {
		return err
	}
	return (&seenLister{d: &describer{out: os.Stdout}, only: only}).list(book)
}

// seenLister lists a book by address.
type seenLister struct {
	d    *describer
	only mail.Address // zero: all
}

func (l *seenLister) list(book *seen.Book) error {
	var people []seen.Person
	if err := book.All(func(p seen.Person) error {
		if a, err := mail.ParseAddress(p.Address); l.only.IsZero() || err == nil && a.Equal(l.only) {
			people = append(people, p)
		}
		return nil
	}); err != nil {
		return err
	}
	slices.SortFunc(people, func(a, b seen.Person) int { return strings.Compare(a.Address, b.Address) })
	for _, p := range people {
		for _, s := range p.Certificates {
			l.d.line(0, "%s: sha256 %x, first %s, last %s", p.Address, sha256.Sum256(s.DER), s.First.Format(time.DateOnly), s.Last.Format(time.DateOnly))
			c, err := trust.ParseCertificate(s.DER)
			if err != nil {
				l.d.line(1, "it cannot be read: %v", err)
				continue
			}
			l.d.line(1, "%s, issued by %s", c.Subject, c.Issuer)
			if !l.only.IsZero() {
				if _, err := l.d.out.Write(demopki.CertPEM(c)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
