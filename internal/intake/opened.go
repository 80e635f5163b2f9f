package intake

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"mime/quotedprintable"
	"strings"
	"text/template"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

//go:embed opened.txt
var openedText string

// Opened is an opening of an account by security officers, of which its owner is told.
type Opened struct {
	Account   mail.AccountID
	MessageID string // of the notice, without angle brackets: the same for the same opening
	At        time.Time
	Case      string
	Requester string
	Export    bool         // the mail was given out; otherwise the key was wrapped anew
	Contact   mail.Address // whom to ask
}

// TellOpened tells an account's owner that it was opened, in their INBOX, for which there is always room. It goes to the account, not to the address
// that the directory gives the owner now: that could be somebody else's, or another domain's.
func (in *Intake) TellOpened(ctx context.Context, o Opened) error {
	e, err := in.o.Directory.ByAccount(ctx, o.Account)
	if err != nil {
		return err
	}
	t, err := template.New("opened").Parse(openedText)
	if err != nil {
		return err
	}
	var words strings.Builder
	err = t.Execute(&words, struct {
		Opened
		Host, At string
	}{o, in.o.Hostname, o.At.UTC().Format("2006-01-02 15:04 UTC")})
	if err != nil {
		return err
	}
	text, err := in.ownText(e.Address, "Your mailbox was opened under a case 您的郵箱曾因個案被開啟", o.MessageID, words.String())
	if err != nil {
		return err
	}
	env := &mail.Envelope{ID: mail.NewID(), To: []mail.Address{e.Address}, Client: mail.Client{Protocol: mail.ProtocolQueue}}
	b := storage.Body{Data: append(in.received(env), text...)}
	b.Index = message.Parse(b.Data, in.o.Message)
	prefix := "Return-Path: <>\r\nDelivered-To: " + e.Address.String() + "\r\n"
	b.Entries = []storage.NewEntry{{Account: o.Account, Prefix: []byte(prefix), Department: e.Address.Domain}}
	_, err = in.o.Store.Deliver(ctx, storage.Delivery{Bodies: []storage.Body{b}, Must: true})
	return err
}

// ownText is a message of the platform itself.
func (in *Intake) ownText(to mail.Address, subject, messageID, words string) ([]byte, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "Date: %s\r\nFrom: Mail System <postmaster@%s>\r\nTo: <%s>\r\nSubject: %s\r\nMessage-ID: <%s>\r\n"+
		"Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
		message.FormatDate(in.o.Now()), in.o.Hostname, to, message.EncodeWord(subject), messageID)
	qp := quotedprintable.NewWriter(&b)
	if _, err := qp.Write([]byte(strings.ReplaceAll(words, "\n", "\r\n"))); err != nil {
		return nil, err
	}
	if err := qp.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
