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
func steps() [formatVersion - 1]step { return [...]step{addUsage, replaceOld} }

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

// The kinds of keys that format 2 had and format 3 has not.
const (
	oldOrigin = 'W' // the name of the mailbox where a deleted message had been
	oldFlags  = 'F' // as keyFlags, but for so many UIDs:

	oldChunkBits = 8
)

// replaceOld is the way to format 3. What is left of the old keys says how far it is; done is merely not empty.
func replaceOld(ctx context.Context, b *build, _ []byte) ([]byte, error) {
	for _, old := range []struct {
		kind byte
		do   func(k, v []byte) error
	}{
		{oldOrigin, func(_, _ []byte) error { return nil }},
		{oldFlags, b.splitFlags},
	} {
		n := 0
		err := b.store.scanSome(key0(old.kind), b.store.o.migrationBatch, func(k, v []byte) error {
			n++
			b.delete(bytes.Clone(k))
			return errors.Join(old.do(k, v), ctx.Err())
		})
		if err != nil {
			return nil, err
		}
		if n > 0 {
			return []byte{old.kind}, nil
		}
	}
	return nil, nil
}

// splitFlags makes records of changed flags of an old one.
func (b *build) splitFlags(k, v []byte) error {
	key := mailboxOfKey(k)
	runs, err := decodeRuns(last32(k), oldChunkBits, v)
	if err != nil {
		return err
	}
	var w runWriter
	chunk, begun := uint32(0), false
	put := func() {
		if begun {
			b.put(keyOf(keyFlags, key.account, key.mailbox, chunk), w.end())
		}
	}
	for _, r := range runs {
		for n := range r.count {
			uid := r.uid + n
			if !begun || uid>>chunkBits != chunk {
				put()
				chunk, begun = uid>>chunkBits, true
				w = runWriter{at: chunk << chunkBits}
			}
			w.add(flagEvent{uid, r.modSeq, r.flags})
		}
	}
	put()
	return nil
}

// errEnough ends a scan.
var errEnough = errors.New("enough")
