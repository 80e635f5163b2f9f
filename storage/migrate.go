package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"cmmpd/internal/durable"
)

// A store of an older format is brought to ours when it is opened, before anybody uses it. First the file `format` says so,
// and from then on an older program refuses the store, half-way too. Then the steps: commits like all others, each of which also notes
// in the index how far it goes; after a crash the next opening goes on there. What a step need not rewrite it
// leaves, if its records say by themselves of which version they are.

// progress says which format the index has, and how far it is on the way to the next.
type progress struct {
	format uint64
	done   []byte // the steps to format+1 are done up to here; empty: not begun
}

func (p progress) encode() []byte { return append(appendUint(nil, p.format), p.done...) }

// decodeProgress reads the record; a store that has none is of format 1.
func decodeProgress(b []byte) (progress, error) {
	if b == nil {
		return progress{format: 1}, nil
	}
	d := decoder{b: b}
	p := progress{format: d.uint()}
	p.done = d.take(len(d.b))
	if p.format == 0 || p.format > formatVersion || p.format == formatVersion && len(p.done) > 0 {
		d.fail()
	}
	return p, d.end()
}

// step is a part of a migration: it does what comes after done and returns up to where; nil: all is done.
type step func(ctx context.Context, b *build, done []byte) ([]byte, error)

// steps are the migrations, from format 1 on.
func steps() [formatVersion - 1]step { return [...]step{addUsage, dropOrigins} }

// migrate brings the index to our format. version is that of the file `format`.
func (s *Store) migrate(ctx context.Context, version int) error {
	if version < formatVersion {
		s.o.Log.Info("the mail store is brought to a newer format; programs older than this one refuse it from now on", "from", version, "to", formatVersion)
		if err := durable.WriteFile(s.o.FS, filepath.Join(s.o.Dir, formatFile), encodeFormat(formatVersion, s.id), 0o600); err != nil {
			return err
		}
	}
	if s.boot == 1 { // there is nothing in it
		return nil
	}
	v, err := s.kv.Get(key0(keyFormat))
	if err != nil {
		return err
	}
	p, err := decodeProgress(v)
	if err != nil {
		return err
	}
	for n := 1; p.format < formatVersion; n++ {
		if p, err = s.migrateSome(ctx, p); err != nil {
			return fmt.Errorf("migration to format %d: %w", p.format+1, err)
		}
		if n%64 == 0 || p.format == formatVersion {
			s.o.Log.Info("the mail store is being brought to a newer format", "format", p.format, "commits", n, "complete", p.format == formatVersion)
		}
	}
	return nil
}

// migrateSome does one commit of the way, and says how far that is.
func (s *Store) migrateSome(ctx context.Context, p progress) (progress, error) {
	next := p
	err := s.commit(ctx, &commit{}, func(b *build) error {
		done, err := steps()[p.format-1](ctx, b, p.done)
		if err != nil {
			return err
		}
		if next.done = done; done == nil {
			next.format++
		}
		b.put(key0(keyFormat), next.encode())
		return nil
	})
	if err != nil {
		return p, err
	}
	return next, nil
}

// addUsage is the way to format 2, in which every account has a record of what it holds. done is the account ID.
func addUsage(ctx context.Context, b *build, done []byte) ([]byte, error) {
	s := b.store
	var ids []string
	var numbers []uint32
	from := append(key0(keyAccount), done...)
	err := s.scanFrom(key0(keyAccount), from, func(k, v []byte) error {
		if len(ids) == s.o.migrationBatch {
			return errEnough
		}
		if string(k) == string(from) && len(done) > 0 {
			return nil
		}
		r, err := decodeAccount(v)
		ids, numbers = append(ids, string(k[1:])), append(numbers, r.number)
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	for _, n := range numbers {
		v, err := b.get(keyOf(keyUsage, n))
		if err != nil {
			return nil, err
		}
		if v != nil { // made when the account was changed
			continue
		}
		u, err := s.addUp(n)
		if err != nil {
			return nil, err
		}
		b.put(keyOf(keyUsage, n), u.encode())
	}
	if err == nil {
		return nil, ctx.Err()
	}
	return []byte(ids[len(ids)-1]), ctx.Err()
}

// oldOrigin is the kind of keys under which format 2 kept the name of the mailbox where a deleted message had been.
const oldOrigin = 'W'

// dropOrigins is the way to format 3, which keeps none of these. What is left says how far it is, done is only not empty.
func dropOrigins(ctx context.Context, b *build, _ []byte) ([]byte, error) {
	n := 0
	err := b.store.scanSome(key0(oldOrigin), b.store.o.migrationBatch, func(k, _ []byte) error {
		b.delete(bytes.Clone(k))
		n++
		return ctx.Err()
	})
	if err != nil || n < b.store.o.migrationBatch {
		return nil, err
	}
	return []byte{oldOrigin}, nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough")
