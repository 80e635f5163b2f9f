package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

const (
	owner = mail.AccountID("11111111-1111-4111-8111-111111111111")
	times = 200
)

// mailboxTable measures one mailbox that grows.
func mailboxTable(dir string, most int) error {
	b, err := newBench(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(b.open(), b.s.EnsureAccount(context.Background(), owner, "")); err != nil {
		return err
	}
	header("One mailbox, messages of 1 KiB; median (processor time of the whole process, mean)",
		"messages in it", "deliver one", "deliver one, mailbox open", "first SELECT after start", "SELECT again", "FETCH summary and body of one", "STORE a flag of one", "open the store", "memory, mailbox open", "index")
	for size := 1000; size <= most; size *= 10 {
		if err := b.fill(size); err != nil {
			return err
		}
		if err := b.mailboxRow(size); err != nil {
			return err
		}
	}
	return b.s.Close()
}

// fill appends until the store has so many messages.
func (b *bench) fill(size int) error {
	a, err := b.s.OpenAccount(context.Background(), owner)
	if err != nil {
		return err
	}
	for b.n < size {
		var list []storage.Append
		for len(list) < 1000 && b.n < size {
			data, index := b.message()
			list = append(list, storage.Append{Data: data, Index: index})
		}
		if _, err := a.Append(context.Background(), storage.Inbox, list); err != nil {
			return err
		}
	}
	return a.Close()
}

func (b *bench) mailboxRow(size int) error {
	ctx := context.Background()
	opened, err := b.reopen()
	if err != nil {
		return err
	}
	closed, err := measure(times, func() error { return b.deliver(owner) })
	if err != nil {
		return err
	}
	first, err := measure(1, b.selectInbox)
	if err != nil {
		return err
	}
	a, err := b.s.OpenAccount(ctx, owner)
	if err != nil {
		return err
	}
	m, err := a.Open(ctx, storage.Inbox)
	if err != nil {
		return err
	}
	again, err := measure(times, b.selectInbox)
	if err != nil {
		return err
	}
	open, err := measure(times, func() error { return b.deliver(owner) })
	if err != nil {
		return err
	}
	fetch, err := measure(times, func() error { return fetchOne(m, uint32(1+b.rnd.IntN(size))) })
	if err != nil {
		return err
	}
	store, err := measure(times, func() error {
		_, _, err := m.StoreFlags(ctx, imap.UIDSetNum(imap.UID(1+b.rnd.IntN(size))), storage.AddFlags, []string{fmt.Sprint("k", b.rnd.IntN(50))}, 0)
		return err
	})
	if err != nil {
		return err
	}
	row(size, closed, open, short(first.wall), again, fetch, store, short(opened), heap(), b.indexSize())
	m.Close()
	return a.Close()
}

// selectInbox does what SELECT does.
func (b *bench) selectInbox() error { return b.selectOf(owner, nil) }

func (b *bench) selectOf(id mail.AccountID, then func(*storage.Mailbox) error) error {
	a, err := b.s.OpenAccount(context.Background(), id)
	if err != nil {
		return err
	}
	defer func() { _ = a.Close() }() // it only reads
	m, err := a.Open(context.Background(), storage.Inbox)
	if err != nil {
		return err
	}
	defer m.Close()
	m.UIDs()
	m.ClaimRecent()
	if then != nil {
		return then(m)
	}
	return nil
}

// fetchOne reads the summary and the body of a message.
func fetchOne(m *storage.Mailbox, uid uint32) error {
	if _, err := m.Summary(context.Background(), uid); err != nil {
		return err
	}
	c, err := m.Body(context.Background(), uid)
	if err != nil {
		return err
	}
	_, err = c.ReadAt(make([]byte, c.Size()), 0)
	return errors.Join(err, c.Close())
}

func accountID(i int) mail.AccountID {
	return mail.AccountID(fmt.Sprintf("%08d-0000-4000-8000-000000000000", i))
}

// accountTable measures a growing number of accounts of a few messages each.
func accountTable(dir string, most int) error {
	b, err := newBench(dir)
	if err != nil {
		return err
	}
	if err := b.open(); err != nil {
		return err
	}
	header("Accounts that are asked for at random; median (processor time of the whole process, mean)",
		"accounts", "make one, 32 at once", "deliver one", "log in, SELECT and FETCH one", "open the store", "memory after start", "index")
	made := 0
	for n := 100; n <= most; n *= 10 {
		begin := time.Now()
		if err := b.makeAccounts(made, n); err != nil {
			return err
		}
		each := time.Since(begin) / time.Duration(n-made)
		made = n
		opened, err := b.reopen()
		if err != nil {
			return err
		}
		memory := heap()
		deliver, err := measure(times, func() error { return b.deliver(accountID(b.rnd.IntN(n))) })
		if err != nil {
			return err
		}
		read, err := measure(times, func() error {
			return b.selectOf(accountID(b.rnd.IntN(n)), func(m *storage.Mailbox) error { return fetchOne(m, 1) })
		})
		if err != nil {
			return err
		}
		row(n, short(each), deliver, read, short(opened), memory, b.indexSize())
	}
	return b.s.Close()
}

// makeAccounts makes accounts from..to, each with one message.
func (b *bench) makeAccounts(from, to int) error {
	data, index := b.message()
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	next := make(chan int)
	for range cap(errs) {
		wg.Go(func() {
			var err error
			for i := range next {
				if err == nil {
					_, err = b.s.Deliver(context.Background(), storage.Delivery{Bodies: []storage.Body{{Data: data, Index: index, Entries: []storage.NewEntry{{Account: accountID(i)}}}}})
				}
			}
			errs <- err
		})
	}
	for i := from; i < to; i++ {
		next <- i
	}
	close(next)
	wg.Wait()
	close(errs)
	var all error
	for err := range errs {
		all = errors.Join(all, err)
	}
	return all
}
