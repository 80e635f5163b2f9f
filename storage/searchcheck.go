package storage

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"

	"cmmpd/internal/durable"
)

// searchFiles looks at the files of the search index. That one is missing is no problem: it is made again when it is needed.
// With deep all blocks are opened.
func (c *checker) searchFiles(ctx context.Context, deep bool) error {
	s := c.store
	names, err := s.o.FS.List(filepath.Join(s.o.Dir, searchDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, name := range names {
		number, err := strconv.ParseUint(name, 16, 32)
		a := c.accounts[uint32(number)]
		if err != nil || a == nil || s.searchPath(uint32(number)) != filepath.Join(s.o.Dir, searchDir, name) {
			c.problem("the search index has %s, which is of no account", name)
			continue
		}
		if err := c.searchOf(ctx, uint32(number), a, deep); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) searchOf(ctx context.Context, number uint32, of *checkedAccount, deep bool) error {
	s := c.store
	names, err := s.o.FS.List(s.searchPath(number))
	if err != nil {
		return err
	}
	var list []*searchFile
	for _, name := range names {
		n, ok := searchNumber(strings.TrimSuffix(name, durable.TempSuffix))
		if !ok || n == 0 {
			c.problem("the search index of account %s has %s, which is not known", of.id, name)
			continue
		}
		if strings.HasSuffix(name, durable.TempSuffix) {
			continue // somebody writes it, or it goes when the index is used next
		}
		f, err := s.readSearchFile(number, name)
		switch {
		case errors.Is(err, fs.ErrNotExist): // merged meanwhile
		case err != nil:
			c.problem("the search index of account %s, %s: %v; it will be made again", of.id, name, err)
		case !s.vault.HasEpoch(of.id, f.epoch):
			c.problem("the search index of account %s, %s: the key vault has no epoch %d; it will be made again", of.id, name, f.epoch)
		default:
			list = append(list, f)
		}
	}
	if !deep || len(list) == 0 {
		return nil
	}
	return c.opened(ctx, of.id, func(a *account) error {
		for _, f := range list {
			o, err := a.openSearchFile(f)
			if err == nil {
				err = o.Verify()
				closeSearch([]*openedSearch{o})
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				c.problem("the search index of account %s, file %d: %v; it will be made again", of.id, f.number, err)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}
