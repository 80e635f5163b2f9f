package walk

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// mailText is a mail of the walk: its identifier and its bytes.
type mailText struct {
	id  string // Message-ID without angle brackets
	raw []byte
}

// compose writes a plain text mail.
func compose(from string, to []string, subject, text string) mailText {
	id := string(mail.NewID()) + "@demo.gov.example"
	var b bytes.Buffer
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s>\r\n", from, strings.Join(to, ", "), subject,
		message.FormatDate(time.Now()), id)
	fmt.Fprintf(&b, "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n", text)
	return mailText{id, b.Bytes()}
}

func (w *walk) tls() *tls.Config {
	return &tls.Config{RootCAs: w.roots, ServerName: "localhost", MinVersion: tls.VersionTLS12}
}

// submit sends a mail as the user over TLS (submissions).
func (w *walk) submit(uid, from string, to []string, raw []byte) error {
	pass, err := w.password(uid)
	if err != nil {
		return err
	}
	c, err := smtp.DialTLS(w.addr(465), w.tls())
	if err != nil {
		return err
	}
	defer c.Close()
	c.CommandTimeout, c.SubmissionTimeout = 30*time.Second, 30*time.Second
	if err := c.Auth(sasl.NewPlainClient("", uid, pass)); err != nil {
		return fmt.Errorf("log-in of %s: %w", uid, err)
	}
	if err := c.SendMail(from, to, bytes.NewReader(raw)); err != nil {
		return err
	}
	return c.Quit()
}

// login opens an IMAP session over TLS.
func (w *walk) login(uid string) (*imapclient.Client, error) {
	pass, err := w.password(uid)
	if err != nil {
		return nil, err
	}
	c, err := imapclient.DialTLS(w.addr(993), &imapclient.Options{TLSConfig: w.tls()})
	if err != nil {
		return nil, err
	}
	if err := c.Login(uid, pass).Wait(); err != nil {
		c.Close()
		return nil, fmt.Errorf("log-in of %s: %w", uid, err)
	}
	return c, nil
}

// find returns the messages with the Message-ID in a mailbox of the user.
func (w *walk) find(ctx context.Context, uid, mailbox, id string) ([][]byte, error) {
	c, err := w.login(uid)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	found, err := search(c, mailbox, id)
	if err != nil {
		return nil, fmt.Errorf("%s's %s: %w", uid, mailbox, err)
	}
	return found, c.Logout().Wait()
}

func search(c *imapclient.Client, mailbox, id string) ([][]byte, error) {
	if _, err := c.Select(mailbox, &imap.SelectOptions{ReadOnly: true}).Wait(); err != nil {
		return nil, err
	}
	data, err := c.UIDSearch(&imap.SearchCriteria{
		Header: []imap.SearchCriteriaHeaderField{{Key: "Message-ID", Value: id}},
	}, nil).Wait()
	if err != nil {
		return nil, err
	}
	uids := data.AllUIDs()
	if len(uids) == 0 {
		return nil, nil
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.UIDSetNum(uids...), &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return nil, err
	}
	var found [][]byte
	for _, m := range msgs {
		found = append(found, m.FindBodySection(section))
	}
	return found, nil
}

// one is find for a message that must be there exactly once.
func (w *walk) one(ctx context.Context, uid, mailbox, id string) ([]byte, error) {
	found, err := w.find(ctx, uid, mailbox, id)
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("%s's %s holds the message %d times, not once", uid, mailbox, len(found))
	}
	return found[0], nil
}

// save appends a message to a mailbox of the user.
func (w *walk) save(ctx context.Context, uid, mailbox string, raw []byte) error {
	c, err := w.login(uid)
	if err != nil {
		return err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	cmd := c.Append(mailbox, int64(len(raw)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}})
	if _, err := cmd.Write(raw); err != nil {
		return err
	}
	if err := cmd.Close(); err != nil {
		return err
	}
	if _, err := cmd.Wait(); err != nil {
		return err
	}
	return c.Logout().Wait()
}
