package main

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"cmmpd/internal/keys/escrow/cases"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
	"cmmpd/storage"
)

// What is given out of an account that officers have opened is a tar file: each message is an entry of its own, encrypted by CMS to the
// requester's certificate, and the last entry, encrypted too, is the manifest. docs/formats.md describes it.

// exportedManifest says what an export has.
type exportedManifest struct {
	Version  int               `json:"version"`
	Request  string            `json:"request"`
	Case     string            `json:"case"`
	Account  string            `json:"account"`
	Time     time.Time         `json:"time"`
	Counts   map[string]int    `json:"counts"` // messages by mailbox
	Total    int               `json:"total"`
	Messages []exportedMessage `json:"messages"`
}

// exportedMessage is one entry.
type exportedMessage struct {
	Entry   string    `json:"entry"`
	Mailbox string    `json:"mailbox"`
	UID     uint32    `json:"uid"`
	Flags   []string  `json:"flags"`
	Date    time.Time `json:"date"` // when it came
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
}

const (
	exportVersion  = 1
	exportManifest = "manifest.p7m"
)

// escrowExport writes the mail of the account of a request, which officers have opened.
func (p *platform) escrowExport(ctx context.Context, uid, id string, out io.Writer, note func(name, value string)) error {
	v, err := p.desk.Get(id)
	if err != nil {
		return err
	}
	if err := p.desk.Begin(id, uid, cases.Export); err != nil {
		return err
	}
	note("approved", strings.Join(v.Approved, ", "))
	defer p.tellOwners()
	cert, err := trust.ParseCertificate(v.Certificate)
	if err != nil {
		return err
	}
	a, err := p.openEscrowed(ctx, id, v.AccountID)
	if err != nil {
		return err
	}
	defer a.Close()
	x := &exporter{
		platform: p, tar: tar.NewWriter(out), cert: cert, desk: p.desk, id: id,
		manifest: exportedManifest{Version: exportVersion, Request: id, Case: v.Case, Account: v.Account, Time: time.Now().UTC(), Counts: make(map[string]int), Messages: []exportedMessage{}},
	}
	err = x.run(ctx, a)
	note("messages", strconv.Itoa(x.manifest.Total))
	if err == nil {
		note("manifest", hex.EncodeToString(x.sum[:]))
	}
	return err
}

// openEscrowed opens an account with what officers have brought.
func (p *platform) openEscrowed(ctx context.Context, id string, account mail.AccountID) (*storage.Account, error) {
	secret, err := p.desk.Secret(id, account)
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	return p.store.OpenAccountSecret(ctx, account, secret)
}

// exporter writes one export.
type exporter struct {
	*platform
	tar      *tar.Writer
	cert     *x509.Certificate
	desk     *cases.Desk
	id       string
	manifest exportedManifest
	sum      [sha256.Size]byte // of the manifest
}

func (x *exporter) run(ctx context.Context, a *storage.Account) error {
	list, err := a.List(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		if !info.Exists {
			continue
		}
		m, err := a.Open(ctx, info.Name)
		if err != nil {
			return err
		}
		err = x.mailbox(ctx, m)
		m.Close()
		if err != nil {
			return fmt.Errorf("mailbox %s: %w", info.Name, err)
		}
	}
	b, err := json.Marshal(x.manifest)
	if err != nil {
		return err
	}
	x.sum = sha256.Sum256(b)
	if err := x.entry(exportManifest, b); err != nil {
		return err
	}
	return x.tar.Close()
}

// mailbox writes the messages of a mailbox. It changes no flag.
func (x *exporter) mailbox(ctx context.Context, m *storage.Mailbox) error {
	x.manifest.Counts[m.Name()] = 0
	msgs, _ := m.Snapshot()
	for _, msg := range msgs {
		v, err := x.desk.Get(x.id)
		if err == nil && v.State != cases.Open {
			err = mail.E(mail.Refused, "the request is "+v.State, nil)
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
		err = x.message(ctx, m, msg)
		if mail.KindOf(err) == mail.NotFound && err != nil { // expunged meanwhile
			continue
		}
		if err != nil {
			return fmt.Errorf("UID %d: %w", msg.UID, err)
		}
	}
	return nil
}

func (x *exporter) message(ctx context.Context, m *storage.Mailbox, msg storage.Msg) error {
	need := 3 * msg.Size // the text, its encryption
	if err := x.intake.Reserve(ctx, need); err != nil {
		return err
	}
	defer x.intake.Release(need)
	c, err := m.Body(ctx, msg.UID)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	e := exportedMessage{
		Entry: fmt.Sprintf("%08d.p7m", x.manifest.Total+1), Mailbox: m.Name(), UID: msg.UID, Flags: msg.Flags.List(), Date: msg.InternalDate.UTC(),
		Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]),
	}
	if err := x.entry(e.Entry, data); err != nil {
		return err
	}
	x.manifest.Total++
	x.manifest.Counts[e.Mailbox]++
	x.manifest.Messages = append(x.manifest.Messages, e)
	return nil
}

// entry writes one entry, encrypted.
func (x *exporter) entry(name string, plain []byte) error {
	der, err := cms.Encrypt(rand.Reader, cms.AES256GCM, cms.Data, []cms.RecipientSpec{{Cert: x.cert}}, plain)
	clear(plain)
	if err != nil {
		return err
	}
	if err := x.tar.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(der)), ModTime: x.manifest.Time.Truncate(time.Second)}); err != nil {
		return err
	}
	_, err = io.Copy(x.tar, bytes.NewReader(der))
	return err
}
