package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// deep opens everything that is sealed. Commits run meanwhile, so what has gone since is passed over.
func (c *checker) deep(ctx context.Context) error {
	verified := make(map[uint64]bool, len(c.bodies))
	at := 0 // entries are sorted by account, as their keys are
	for at < len(c.entries) {
		number := c.entries[at].key.account
		end := at
		for end < len(c.entries) && c.entries[end].key.account == number {
			end++
		}
		if a := c.accounts[number]; a != nil {
			if err := c.deepAccount(ctx, a.id, c.entries[at:end], verified); err != nil {
				return err
			}
		}
		at = end
	}
	for _, a := range c.accounts {
		if err := c.deepNames(ctx, a); err != nil {
			return err
		}
		if _, err := c.store.Escrow(a.id); err != nil && mail.KindOf(err) != mail.NotFound {
			c.problem("%v", err)
		}
	}
	if err := c.deepQueue(ctx, verified); err != nil {
		return err
	}
	if err := c.deepLog(ctx); err != nil {
		return err
	}
	for id, b := range c.bodies {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !verified[id] { // no entry opens it: at least its checksum can be compared
			if err := c.store.verifyBody(id); err != nil && !errors.Is(err, errGone) {
				c.problem("body %d: %v", id, err)
			}
			if err := c.pace.spend(ctx, b.total()); err != nil {
				return err
			}
		}
	}
	return nil
}

// deepLog reads every record: what changes the index must be readable, too, for the index to be made again from it.
func (c *checker) deepLog(ctx context.Context) error {
	s := c.store
	end, err := s.settled()
	if err != nil {
		return err
	}
	numbers, err := blob.Segments(s.o.FS, filepath.Join(s.o.Dir, segmentsDir))
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > end.Segment {
			break
		}
		err := s.copySegment(n, end, cancellable{ctx, io.Discard})
		if errors.Is(err, blob.ErrDamaged) {
			c.problem("%v", err)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// verifyBody compares the checksum of a body, wherever it is. The error is errGone if there is no such body any more.
func (s *Store) verifyBody(id uint64) error {
	return whereverItIs(func() error {
		v, err := s.kv.Get(keyOf64(keyBody, id))
		if err != nil {
			return err
		}
		if v == nil {
			return errGone
		}
		b, err := decodeBody(v)
		if err != nil {
			return err
		}
		return s.log.Verify(b.segment, b.offset, b.total(), b.sum)
	})
}

// opened runs f with the account's private key in memory.
func (c *checker) opened(ctx context.Context, id mail.AccountID, f func(*account) error) error {
	a, err := c.store.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer c.store.release(a)
	if err := a.unlock(keys.For(ctx, "check of the store")); err != nil {
		if mail.KindOf(err).Temporary() {
			return err
		}
		c.problem("account %s cannot be opened: %v", id, err)
		return nil
	}
	defer a.lock()
	return f(a)
}

func (c *checker) deepAccount(ctx context.Context, id mail.AccountID, entries []checkedEntry, verified map[uint64]bool) error {
	return c.opened(ctx, id, func(a *account) error {
		for _, e := range entries {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := whereverItIs(func() error { return c.openEntry(a, e, !verified[e.body]) })
			if err != nil && !errors.Is(err, errGone) {
				c.problem("UID %d in %v: %v", e.uid, e.key, err)
			}
			if !verified[e.body] {
				if err := c.pace.spend(ctx, e.size); err != nil {
					return err
				}
			}
			verified[e.body] = verified[e.body] || err == nil
		}
		return nil
	})
}

// openEntry opens the summary of a message and, with full, compares the checksum and opens the body.
func (c *checker) openEntry(a *account, e checkedEntry, full bool) error {
	s := c.store
	v, err := s.kv.Get(keyOf(keySecret, e.key.account, e.key.mailbox, e.uid))
	if err != nil {
		return err
	}
	where, err := s.kv.Get(keyOf64(keyBody, e.body))
	if err != nil {
		return err
	}
	if v == nil || where == nil {
		return errGone
	}
	secret, err := decodeSecret(v)
	if err != nil {
		return err
	}
	o, err := a.openEntry(secret, e.body, where)
	if err != nil {
		return err
	}
	if int64(len(o.prefix))+o.body.plain != e.size {
		return fmt.Errorf("the size is %d, not %d", int64(len(o.prefix))+o.body.plain, e.size)
	}
	summary, err := s.readSummary(o)
	if err != nil {
		return err
	}
	if summary.Index.Size != o.body.plain {
		return errors.New("the summary is that of another body")
	}
	if !full {
		return nil
	}
	if err := s.log.Verify(o.body.segment, o.body.offset, o.body.total(), o.body.sum); err != nil {
		return err
	}
	content, err := s.content(o)
	if err != nil {
		return err
	}
	return readThrough(content, summary.Header)
}

// readThrough reads a message to its end and compares its beginning.
func readThrough(content *Content, begin []byte) error {
	defer func() { _ = content.Close() }()
	buf := make([]byte, frameSize)
	for at := int64(0); at < content.Size(); {
		b := buf[:min(int64(len(buf)), content.Size()-at)]
		if _, err := content.ReadAt(b, at); err != nil {
			return err
		}
		n := min(len(begin), len(b))
		if !bytes.Equal(b[:n], begin[:n]) {
			return errors.New("the header in the summary is not that of the body")
		}
		begin = begin[n:]
		at += int64(len(b))
	}
	return nil
}

func (c *checker) deepNames(ctx context.Context, of *checkedAccount) error {
	return c.opened(ctx, of.id, func(a *account) error {
		for _, key := range of.mailboxes {
			if err := whereverItIs(func() error { return c.openNames(a, key) }); err != nil {
				c.problem("%v: %v", key, err)
			}
		}
		_, err := a.subscriptions()
		if err != nil {
			c.problem("account %s: a subscription does not open: %v", of.id, err)
		}
		return nil
	})
}

// openNames opens the name and the keywords of a mailbox as they are now.
func (c *checker) openNames(a *account, key mailboxKey) error {
	v, err := c.store.kv.Get(keyOf(keyMailbox, key.account, key.mailbox))
	if err != nil || v == nil { // deleted meanwhile
		return err
	}
	r, err := decodeMailbox(v)
	if err != nil {
		return err
	}
	name, err := a.openText(r.name)
	if err != nil || a.hash(hashName, name) != r.nameHash {
		return errors.Join(errors.New("its name does not open"), err)
	}
	for _, w := range r.keywords {
		if word, err := a.openText(w.name); err != nil || a.keywordHash(word) != w.hash {
			return errors.Join(errors.New("a keyword does not open"), err)
		}
	}
	return nil
}
