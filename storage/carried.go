package storage

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"cmmpd/internal/mail"
	"cmmpd/storage/blob"
)

// What is sealed again under fresh epochs (reseal.go) is in a mail backup from before only as it was sealed then, under keys that are gone. So that such a
// backup can be used with a later key vault, for all but what was disposed of, what was sealed again goes with the vault's backup: sealed, as it is in
// the index. A restore puts it in place of what cannot be opened.

// CarriedFile is its path in the store, where a restore puts it.
const CarriedFile = "carried"

const (
	carriedMagic   = "CMMPDCRY"
	carriedVersion = 1
	carriedHead    = 8 + 4 + 16
	maxCarried     = 1 << 20 // octets of one record

	carriedEnd     = 0 // uint: how many records were before
	carriedAccount = 1 // what follows is this account's
	carriedSecret  = 2 // uint body, uint epoch, the sealed message key
	carriedText    = 3 // hash, uint epoch, the sealed name or keyword
)

// BackupCarried writes what was sealed again. Together with BackupVault it opens every backup of the store that was made before, but for what was
// disposed of. No keys are erased until done is called, which must follow the vault's backup.
func (s *Store) BackupCarried(ctx context.Context, w io.Writer) (done func(), err error) {
	s.pin()
	err = s.house.alone(ctx, func(ctx context.Context) error { // nothing is being erased
		out := &carriedWriter{w: bufio.NewWriterSize(cancellable{ctx, w}, 64<<10)}
		head := binary.LittleEndian.AppendUint32([]byte(carriedMagic), carriedVersion)
		_, err := out.w.Write(append(head, s.id[:]...))
		if err != nil {
			return err
		}
		err = s.scan(key0(keyAccount), func(k, v []byte) error {
			r, err := decodeAccount(v)
			if err == nil {
				err = s.carriedOf(ctx, out, mail.AccountID(k[1:]), r.number)
			}
			return errors.Join(err, ctx.Err())
		})
		if err != nil {
			return err
		}
		if err := out.put(appendUint([]byte{carriedEnd}, out.n)); err != nil {
			return err
		}
		return out.w.Flush()
	})
	if err != nil {
		s.unpin()
		return nil, err
	}
	return s.unpin, nil
}

// carriedWriter writes records, each with its length and sum.
type carriedWriter struct {
	w *bufio.Writer
	n uint64
}

func (c *carriedWriter) put(b []byte) error {
	c.n++
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(b)))
	head = binary.LittleEndian.AppendUint32(head, blob.Checksum(b))
	_, err := c.w.Write(head)
	if err == nil {
		_, err = c.w.Write(b)
	}
	return err
}

// carriedOf writes an account's.
func (s *Store) carriedOf(ctx context.Context, out *carriedWriter, id mail.AccountID, number uint32) error {
	known, err := s.epochsOf(number)
	if err != nil {
		return err
	}
	maps.DeleteFunc(known, func(_ uint32, r epochRecord) bool { return !r.carried })
	if len(known) == 0 {
		return nil
	}
	a, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer s.release(a)
	records, err := a.carried(known)
	if err != nil || len(records) == 0 {
		return err
	}
	if err := out.put(append([]byte{carriedAccount}, id...)); err != nil {
		return err
	}
	for _, r := range records {
		if err := out.put(r); err != nil {
			return err
		}
	}
	return nil
}

// carried is the records of what is sealed under these epochs.
func (a *account) carried(epochs map[uint32]epochRecord) (records [][]byte, err error) {
	a.mu.RLock() // nothing moves
	defer a.mu.RUnlock()
	s := a.store
	seen := make(map[uint64]bool)
	err = s.scan(keyOf(keySecret, a.no()), func(k, v []byte) error {
		r, err := decodeSecret(v)
		if err != nil || !epochs[r.epoch].carried {
			return err
		}
		k[0] = keyEntry
		e, err := s.kv.Get(k)
		if err != nil || e == nil {
			return err
		}
		entry, err := decodeEntry(e)
		if err == nil && !seen[entry.body] { // copies have the same secret
			seen[entry.body] = true
			records = append(records, append(appendUint(appendUint([]byte{carriedSecret}, entry.body), uint64(r.epoch)), r.blob...))
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	text := func(h hash, t sealedText) {
		if epochs[t.epoch].carried {
			records = append(records, append(appendUint(append([]byte{carriedText}, h[:]...), uint64(t.epoch)), t.blob...))
		}
	}
	err = s.eachText(a.no(), func(_ []byte, r *mailboxRecord) error {
		text(r.nameHash, r.name)
		for _, w := range r.keywords {
			text(w.hash, w.name)
		}
		return nil
	}, func(k []byte, t sealedText) error {
		text(hash(k[5:]), t)
		return nil
	})
	return records, err
}

// eachText calls box with an account's mailboxes, subscribed with its subscriptions.
func (s *Store) eachText(number uint32, box func(k []byte, r *mailboxRecord) error, subscribed func(k []byte, t sealedText) error) error {
	err := s.scan(keyOf(keyMailbox, number), func(k, v []byte) error {
		r, err := decodeMailbox(v)
		if err == nil {
			err = box(k, &r)
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.scan(keyOf(keySubscribe, number), func(k, v []byte) error {
		t, err := decodeSealedText(v)
		if len(k) != 5+len(hash{}) {
			err = errRecord
		}
		if err == nil {
			err = subscribed(k, t)
		}
		return err
	})
}

// carriedThings is what was sealed again in an account.
type carriedThings struct {
	id      mail.AccountID
	secrets map[uint64]secretRecord
	texts   map[hash]sealedText
}

// takeCarried puts what was sealed again since the mail was backed up in the place of what cannot be opened any more, if a restore has brought that. It
// can be repeated.
func (s *Store) takeCarried(ctx context.Context) error {
	path := filepath.Join(s.o.Dir, CarriedFile)
	f, err := s.o.FS.Open(path, os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	size, err := f.Size()
	if err == nil {
		err = readCarried(io.NewSectionReader(f, 0, size), s.id, func(c *carriedThings) error { return s.putCarried(ctx, c) })
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return s.o.FS.Remove(path)
}

// readCarried reads such a file and calls f with what it has of each account. The error is of kind mail.Corrupt, or f's.
func readCarried(r io.Reader, store blob.StoreID, f func(*carriedThings) error) error {
	bad := func(err error) error {
		return mail.E(mail.Corrupt, "", fmt.Errorf("what was sealed again cannot be read: %w", err))
	}
	in := bufio.NewReaderSize(r, 64<<10)
	head := make([]byte, carriedHead)
	if _, err := io.ReadFull(in, head); err != nil {
		return bad(err)
	}
	if v := binary.LittleEndian.Uint32(head[8:]); string(head[:8]) == carriedMagic && v > carriedVersion {
		return mail.E(mail.Unsupported, "", fmt.Errorf("what was sealed again has version %d", v))
	} else if string(head[:8]) != carriedMagic || v != carriedVersion || blob.StoreID(head[12:]) != store {
		return bad(errors.New("not of this store"))
	}
	var now *carriedThings
	flush := func() error {
		if now == nil {
			return nil
		}
		return f(now)
	}
	for n := uint64(0); ; n++ {
		b, err := readCarriedRecord(in)
		if err != nil {
			return bad(err)
		}
		d := decoder{b: b}
		switch kind := d.byte(); {
		case kind == carriedEnd:
			if count := d.uint(); d.end() != nil || count != n {
				return bad(fmt.Errorf("%d records of %d", n, count))
			}
			return flush()
		case kind == carriedAccount && len(d.b) > 0 && len(d.b) <= 100:
			if err := flush(); err != nil {
				return err
			}
			now = &carriedThings{mail.AccountID(d.b), make(map[uint64]secretRecord), make(map[hash]sealedText)}
		case kind == carriedSecret && now != nil:
			body, epoch := d.uint(), d.uint32()
			now.secrets[body] = secretRecord{epoch, d.b}
		case kind == carriedText && now != nil:
			h, epoch := d.hash(), d.uint32()
			now.texts[h] = sealedText{epoch, d.b}
		default:
			d.fail()
		}
		if d.bad {
			return bad(errRecord)
		}
	}
}

func readCarriedRecord(r io.Reader) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n == 0 || n > maxCarried {
		return nil, errRecord
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, err
	}
	if blob.Checksum(b) != binary.LittleEndian.Uint32(head[4:]) {
		return nil, errRecord
	}
	return b, nil
}

// putCarried puts it into the index.
func (s *Store) putCarried(ctx context.Context, c *carriedThings) error {
	a, err := s.acquire(ctx, c.id)
	if err != nil {
		return err
	}
	defer s.release(a)
	if a.no() == 0 { // it came after the backup
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := &carriedPuts{account: a, things: c, values: make(map[string][]byte), epochs: make(map[uint32]bool)}
	if err := p.collect(); err != nil {
		return err
	}
	for some := range slices.Chunk(slices.Sorted(maps.Keys(p.values)), resealAct) {
		if err := s.commit(ctx, &commit{}, func(b *build) error {
			for _, k := range some {
				b.put([]byte(k), p.values[k])
			}
			for e := range p.epochs {
				if err := b.markEpoch(a.no(), e, epochRecord{carried: true}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// carriedPuts is what changes in an account's part of the index.
type carriedPuts struct {
	account *account
	things  *carriedThings
	values  map[string][]byte
	epochs  map[uint32]bool
}

// opens says whether the vault has a key for what was sealed again, where it has none for what is there.
func (p *carriedPuts) opens(is, again uint32) bool {
	v := p.account.store.vault
	if v.HasEpoch(p.account.id, is) || !v.HasEpoch(p.account.id, again) {
		return false
	}
	p.epochs[again] = true
	return true
}

func (p *carriedPuts) text(h hash, t *sealedText) bool {
	again, ok := p.things.texts[h]
	if ok = ok && p.opens(t.epoch, again.epoch); ok {
		*t = again
	}
	return ok
}

func (p *carriedPuts) collect() error {
	a := p.account
	s := a.store
	err := s.scan(keyOf(keySecret, a.no()), func(k, v []byte) error {
		r, err := decodeSecret(v)
		if err != nil || s.vault.HasEpoch(a.id, r.epoch) {
			return err
		}
		of := bytes.Clone(k)
		of[0] = keyEntry
		e, err := s.kv.Get(of)
		if err != nil || e == nil {
			return err
		}
		entry, err := decodeEntry(e)
		if again, ok := p.things.secrets[entry.body]; ok && p.opens(r.epoch, again.epoch) {
			p.values[string(k)] = again.encode()
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.eachText(a.no(), func(k []byte, r *mailboxRecord) error {
		changed := p.text(r.nameHash, &r.name)
		for i := range r.keywords {
			changed = p.text(r.keywords[i].hash, &r.keywords[i].name) || changed
		}
		if changed {
			p.values[string(k)] = r.encode()
		}
		return nil
	}, func(k []byte, t sealedText) error {
		if p.text(hash(k[5:]), &t) {
			p.values[string(k)] = t.append(nil)
		}
		return nil
	})
}
