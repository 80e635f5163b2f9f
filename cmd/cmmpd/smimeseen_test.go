package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/seen"
)

func TestSeenCertificatesAreListed(t *testing.T) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ca.Issue(demopki.Spec{CN: "Bob\x1b[31m", Address: "bob@partner.example"})
	if err != nil {
		t.Fatal(err)
	}
	book, err := seen.Open(t.TempDir(), bytes.Repeat([]byte{1}, 32), true, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	bob := mail.MustParseAddress("bob@partner.example")
	book.Note(bob, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC), id.Cert)
	book.Note(mail.MustParseAddress("al@partner.example"), time.Now(), ca.Cert)
	for _, only := range []mail.Address{{}, bob} {
		var out strings.Builder
		if err := (&seenLister{d: &describer{out: &out}, only: only}).list(book); err != nil {
			t.Fatal(err)
		}
		s := out.String()
		if !strings.Contains(s, "bob@partner.example: sha256 ") || !strings.Contains(s, "first 2026-03-01") || strings.Contains(s, "\x1b") {
			t.Errorf("%q", s)
		}
		if all := only.IsZero(); strings.Contains(s, "al@partner") != all || strings.Contains(s, "BEGIN CERTIFICATE") == all || all && strings.Index(s, "al@") > strings.Index(s, "bob@") {
			t.Errorf("only %v: %q", only, s)
		}
	}
}
