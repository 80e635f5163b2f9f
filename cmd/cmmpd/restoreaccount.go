package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"cmmpd/internal/admin"
	"cmmpd/internal/backup"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// restoreAccount has messages of one account brought back, beside the daemon or without it.
func restoreAccount(ctx context.Context, op *operator, q admin.RestoreRequest, mailFile, vaultFile string) error {
	m, err := os.Open(mailFile)
	if err != nil {
		return err
	}
	defer m.Close()
	v, err := os.Open(vaultFile)
	if err != nil {
		return err
	}
	defer v.Close()
	st, err := m.Stat()
	if err != nil {
		return err
	}
	res, err := op.restoreAccount(ctx, q, m, st.Size(), v)
	if err != nil {
		return err
	}
	fmt.Printf("restored %d, still there %d, erased since %d\n", res.Restored, res.Present, res.Unreadable)
	if res.Restored+res.Present+res.Unreadable == 0 {
		return errors.New("the backup has no such message")
	}
	return nil
}

// restoreAccount unpacks the store of a backup beside ours, sealed as it is, opens the account in it, and appends what
// the account no longer has.
func (p *platform) restoreAccount(ctx context.Context, q admin.RestoreRequest, mailBackup, vault io.Reader) (res admin.RestoreResult, err error) {
	who, err := p.dir.ByUID(ctx, q.Account)
	if err != nil {
		return res, err
	}
	dir, err := os.MkdirTemp(filepath.Dir(p.cfg.Store.Path), "restore-")
	if err != nil {
		return res, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := p.unpackStore(ctx, backup.Mail, mailBackup, dir); err != nil {
		return res, err
	}
	if err := p.unpackStore(ctx, backup.Vault, vault, dir); err != nil {
		return res, err
	}
	old, err := storage.Open(ctx, storage.Options{Dir: dir, Keys: p.keystore, Log: p.log, HouseEvery: -1})
	if err != nil {
		return res, fmt.Errorf("the store of the backup: %w", err)
	}
	defer func() { err = errors.Join(err, old.Close()) }()
	if _, err := old.DropDisposed(ctx, who.Account); err != nil {
		return res, err
	}
	ctx = keys.For(ctx, "restore of messages")
	from, err := old.OpenAccount(ctx, who.Account)
	if err != nil {
		return res, err
	}
	defer from.Close()
	if err := p.store.EnsureAccount(ctx, who.Account, who.Address.Domain); err != nil {
		return res, err
	}
	to, err := p.store.OpenAccount(ctx, who.Account)
	if err != nil {
		return res, err
	}
	defer to.Close()
	b := &bringBack{platform: p, old: old, from: from, to: to, q: q, twins: make(map[string]map[twin]bool)}
	err = b.run(ctx)
	return b.res, err
}

// unpackStore writes the store's files of a backup below dir.
func (p *platform) unpackStore(ctx context.Context, kind backup.Kind, r io.Reader, dir string) error {
	b, err := backup.NewReader(ctx, r, p.keystore)
	if err != nil {
		return err
	}
	if b.Manifest.Kind != kind || b.Manifest.Store != p.store.ID() {
		return mail.E(mail.Invalid, "this is not a backup of the "+string(kind)+" of this platform", nil)
	}
	for {
		name, body, err := b.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if path, ok := strings.CutPrefix(name, entryStore); ok {
			if err := writeBelow(dir, path, body); err != nil {
				return err
			}
		}
	}
}

// bringBack copies messages from an account in a backup to the same account today.
type bringBack struct {
	*platform
	old      *storage.Store
	from, to *storage.Account
	q        admin.RestoreRequest
	res      admin.RestoreResult
	twins    map[string]map[twin]bool // of each mailbox of to that was looked at
}

// twin tells a message that was brought back before: it has a new EMAILID, but is the same.
type twin struct {
	messageID string
	size      int64
}

// there says whether the account has, in the mailbox of that name, a message of the same identifier and size.
func (b *bringBack) there(ctx context.Context, mailbox string, t twin) (bool, error) {
	if t.messageID == "" {
		return false, nil
	}
	if _, ok := b.twins[mailbox]; !ok {
		found := make(map[twin]bool)
		err := eachMailbox(ctx, b.to, mailbox, func(m *storage.Mailbox) error {
			msgs, _ := m.Snapshot()
			for _, msg := range msgs {
				sum, err := m.Summary(ctx, msg.UID)
				if err != nil {
					return err
				}
				found[twin{first(messageIDs(sum)), msg.Size}] = true
			}
			return ctx.Err()
		})
		if err != nil {
			return false, err
		}
		b.twins[mailbox] = found
	}
	return b.twins[mailbox][t], nil
}

func messageIDs(s *storage.Summary) []string {
	return message.MessageIDs(message.ParseHeader(s.Header, message.Limits{}).Get("Message-ID"))
}

func first(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

func (b *bringBack) run(ctx context.Context) error {
	have := make(map[storage.ObjectID]bool)
	err := eachMailbox(ctx, b.to, "", func(m *storage.Mailbox) error {
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			have[msg.EmailID] = true
		}
		return nil
	})
	if err != nil {
		return err
	}
	return eachMailbox(ctx, b.from, b.q.Mailbox, func(m *storage.Mailbox) error {
		msgs, _ := m.Snapshot()
		for _, msg := range msgs {
			if err := errors.Join(ctx.Err(), b.message(ctx, m, msg, have)); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachMailbox runs f on every mailbox of the account, or on the one of that name.
func eachMailbox(ctx context.Context, a *storage.Account, name string, f func(*storage.Mailbox) error) error {
	list, err := a.List(ctx)
	if err != nil {
		return err
	}
	for _, info := range list {
		if !info.Exists || info.Recoverable || name != "" && info.Name != name {
			continue
		}
		m, err := a.Open(ctx, info.Name)
		if err != nil {
			return err
		}
		err = f(m)
		m.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// message brings back one message if it is wanted and gone.
func (b *bringBack) message(ctx context.Context, m *storage.Mailbox, msg storage.Msg, have map[storage.ObjectID]bool) error {
	sum, err := m.Summary(ctx, msg.UID)
	if mail.KindOf(err) == mail.NotFound { // its epoch key was erased
		if b.q.MessageID == "" {
			b.res.Unreadable++
		}
		return nil
	}
	if err != nil {
		return err
	}
	ids := messageIDs(sum)
	if b.q.MessageID != "" && !slices.Contains(ids, b.q.MessageID) {
		return nil
	}
	there := have[msg.EmailID]
	if !there {
		if there, err = b.there(ctx, m.Name(), twin{first(ids), msg.Size}); err != nil {
			return err
		}
	}
	if there {
		b.res.Present++
		return nil
	}
	if b.intake != nil {
		if err := b.intake.Reserve(ctx, msg.Size); err != nil {
			return err
		}
		defer b.intake.Release(msg.Size)
	}
	c, err := m.Body(ctx, msg.UID)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size()))
	if err = errors.Join(err, c.Close()); err != nil {
		return err
	}
	one := storage.Append{Data: data, Index: message.Parse(data, message.Limits{}), Flags: msg.Flags.List(), InternalDate: msg.InternalDate}
	labels, err := b.old.LabelOf(ctx, b.from.ID(), ids)
	if err != nil {
		return err
	}
	if len(labels) > 0 {
		one.Label = labels[0]
	}
	one.Flags = slices.DeleteFunc(one.Flags, func(f string) bool { return f == `\Deleted` || f == `\Recent` })
	_, err = b.to.Append(ctx, m.Name(), []storage.Append{one})
	if mail.KindOf(err) == mail.NotFound { // the mailbox is gone too
		if err = b.to.Create(ctx, m.Name(), m.SpecialUse()); err == nil || mail.KindOf(err) == mail.Exists {
			_, err = b.to.Append(ctx, m.Name(), []storage.Append{one})
		}
	}
	if err == nil {
		b.res.Restored++
	}
	return err
}
