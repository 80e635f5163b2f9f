package walk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"time"

	_ "github.com/emersion/go-message/charset" // for encoded words in other character sets
	"github.com/emersion/go-message/mail"
	"github.com/emersion/go-smtp"
)

const (
	alice = "alice@works.gov.example"
	bob   = "bob@works.gov.example"
	carol = "carol@health.gov.example"
	dave  = "dave@health.gov.example"
)

// ordinary is step 1.
func (w *walk) ordinary(ctx context.Context, r *report) error {
	m := compose(alice, []string{bob}, "Lunch 午飯", "Shall we have lunch? 一起吃午飯好嗎?\r\n"+w.marker())
	start := time.Now()
	if err := w.submit("alice", alice, []string{bob}, m.raw); err != nil {
		return fmt.Errorf("submission: %w", err)
	}
	accepted := time.Since(start)
	r.did("alice logged in to %s over TLS and submitted a mail to %s", w.addr(465), bob)
	got, err := w.one(ctx, "bob", "INBOX", m.id)
	if err != nil {
		return err
	}
	_, text, _ := bytes.Cut(m.raw, []byte("\r\n\r\n"))
	if subject, body, err := read(got); err != nil || subject != "Lunch 午飯" || !bytes.Equal(body, text) {
		return fmt.Errorf("what bob reads is not what alice wrote: subject %q, %d octets of text (%v)", subject, len(body), err)
	}
	r.saw("250 after %s: from then on it is in bob's INBOX; he had read it over IMAPS after %s", ms(accepted), ms(time.Since(start)))
	r.again("curl --cacert $D/pki/ca.pem -u \"alice:$(cat $D/people/alice/password)\" --mail-from %s --mail-rcpt %s --crlf -T mail.eml smtps://localhost:%d", alice, bob, w.BasePort+465)
	r.again("curl --cacert $D/pki/ca.pem -u \"bob:$(cat $D/people/bob/password)\" 'imaps://localhost:%d/INBOX;MAILINDEX=*'", w.BasePort+993)
	return nil
}

// read reads a plain text mail as a mail client does.
func read(raw []byte) (subject string, text []byte, err error) {
	r, err := mail.CreateReader(bytes.NewReader(raw))
	if err != nil {
		return "", nil, err
	}
	if subject, err = r.Header.Subject(); err != nil {
		return "", nil, err
	}
	part, err := r.NextPart()
	if err != nil {
		return subject, nil, err
	}
	text, err = io.ReadAll(part.Body)
	return subject, text, err
}

func ms(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

// confidential is step 2.
func (w *walk) confidential(ctx context.Context, r *report) error {
	marker := w.marker()
	m := compose(alice, []string{bob, carol}, "[CONFIDENTIAL] Tender "+marker, "The tender opens on Monday. 標書將於星期一開啟。\r\n"+marker)
	if err := w.submit("alice", alice, []string{bob, carol}, m.raw); err != nil {
		return fmt.Errorf("submission: %w", err)
	}
	w.secret, w.secretMarker = m, marker
	r.did("alice submitted a plain mail, Subject \"[CONFIDENTIAL] …\", to bob and carol")
	openers := []string{}
	for _, uid := range []string{"bob", "carol"} {
		served, err := w.one(ctx, uid, "INBOX", m.id)
		if err != nil {
			return err
		}
		if bytes.Contains(served, []byte(marker)) {
			return fmt.Errorf("what IMAP serves to %s holds the plain text", uid)
		}
		if err := w.sealedFor(served, "alice", "bob", "carol"); err != nil {
			return fmt.Errorf("what IMAP serves to %s: %w", uid, err)
		}
		for _, reader := range []string{"alice", "bob", "carol"} {
			if err := w.opens(served, reader, marker); err != nil {
				return fmt.Errorf("%s's copy, opened with %s's key: %w", uid, reader, err)
			}
		}
		if err := w.opens(served, "erin", marker); err == nil {
			return fmt.Errorf("erin's key opens %s's copy", uid)
		}
		by, err := w.opensslOpens(ctx, served, uid, marker)
		if err != nil {
			return fmt.Errorf("openssl with %s's key: %w", uid, err)
		}
		openers = append(openers, uid+" "+by)
	}
	r.saw("IMAP serves S/MIME, AES-256, for exactly alice, bob and carol; each key opens it, the signature inside is the domain's; erin's key does not")
	r.saw("opened with our own code and, where it says so, with openssl too: %s", strings.Join(openers, ", "))
	r.again("curl -s --cacert $D/pki/ca.pem -u \"bob:$(cat $D/people/bob/password)\" 'imaps://localhost:%d/INBOX;MAILINDEX=*' | openssl cms -decrypt -inkey $D/people/bob/key.pem -recip $D/people/bob/cert.pem | openssl cms -verify -CAfile $D/pki/ca.pem", w.BasePort+993)
	return nil
}

// refused is step 3.
func (w *walk) refused(ctx context.Context, r *report) error {
	before, err := w.Counts(ctx)
	if err != nil {
		return err
	}
	m := compose(alice, []string{bob, dave}, "[CONFIDENTIAL] Tender, second part", "Nobody may read this. 任何人不得閱讀。\r\n"+w.marker())
	err = w.submit("alice", alice, []string{bob, dave}, m.raw)
	r.did("alice submitted a confidential mail to bob and dave; dave has no certificate")
	var refusal *smtp.SMTPError
	switch {
	case err == nil:
		return errors.New("the mail was accepted")
	case !errors.As(err, &refusal):
		return fmt.Errorf("no refusal but a failure: %w", err)
	case refusal.Code < 500 || !strings.Contains(refusal.Message, dave) || !strings.Contains(refusal.Message, "certificate"):
		return fmt.Errorf("the refusal does not say that %s has no certificate: %w", dave, err)
	}
	r.saw("refused in the dialogue: %d %d.%d.%d %s", refusal.Code, refusal.EnhancedCode[0], refusal.EnhancedCode[1], refusal.EnhancedCode[2], refusal.Message)
	after, err := w.Counts(ctx)
	if err != nil {
		return err
	}
	if !reflect.DeepEqual(before, after) {
		return fmt.Errorf("the store's counts were %+v and are %+v", before, after)
	}
	for _, uid := range []string{"bob", "dave"} {
		for _, mailbox := range []string{"INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"} {
			found, err := w.find(ctx, uid, mailbox, m.id)
			if err != nil {
				return err
			}
			if len(found) > 0 {
				return fmt.Errorf("%s's %s holds the refused mail", uid, mailbox)
			}
		}
	}
	r.saw("%d entries and %d bodies in the store, before and after; no mailbox of bob or dave holds it", after.Entries, after.Bodies)
	r.again("%s check --config %s --json", w.Program, w.Config)
	return nil
}

// sentCopy is step 4.
func (w *walk) sentCopy(ctx context.Context, r *report) error {
	if w.secret.raw == nil {
		return errors.New("step 2 left no mail to save")
	}
	if err := w.save(ctx, "alice", "Sent", w.secret.raw); err != nil {
		return fmt.Errorf("APPEND: %w", err)
	}
	r.did("alice's client saved its plain copy of the mail of step 2 to Sent, by IMAP APPEND")
	served, err := w.one(ctx, "alice", "Sent", w.secret.id)
	if err != nil {
		return err
	}
	marker := w.secretMarker
	if bytes.Contains(served, []byte(marker)) {
		return errors.New("what IMAP serves holds the plain text")
	}
	if err := w.sealedFor(served, "alice"); err != nil {
		return err
	}
	if err := w.opens(served, "alice", marker); err != nil {
		return err
	}
	by, err := w.opensslOpens(ctx, served, "alice", marker)
	if err != nil {
		return fmt.Errorf("openssl: %w", err)
	}
	r.saw("IMAP serves it sealed, for alice alone; alice's key opens it (%s)", by)
	// Not --crlf: curl then announces the length from before the conversion (7.88.1).
	r.again("sed 's/$/\\r/' mail.eml > sent.eml; curl --cacert $D/pki/ca.pem -u \"alice:$(cat $D/people/alice/password)\" -T sent.eml imaps://localhost:%d/Sent", w.BasePort+993)
	return nil
}
