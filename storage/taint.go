package storage

import (
	"encoding/binary"
)

// An epoch is tainted when something that was sealed under its key has been removed for good: as long as the key is there, the key and an old copy of the
// record open what was removed. The eraser seals what still lives under such an epoch under fresh ones (reseal.go), and erases its key.

// epochRecord is what the index knows of an epoch. There is none for most.
type epochRecord struct {
	tainted bool // something that was sealed under it is gone
	carried bool // it holds what once was sealed under other epochs
}

func (r epochRecord) encode() []byte {
	var b byte
	if r.tainted {
		b |= 1
	}
	if r.carried {
		b |= 2
	}
	return []byte{b}
}

func decodeEpoch(v []byte) (epochRecord, error) {
	d := decoder{b: v}
	b := d.byte()
	if b == 0 || b > 3 {
		d.fail()
	}
	return epochRecord{b&1 != 0, b&2 != 0}, d.end()
}

// before is what a key stood for before this commit.
func (b *build) before(key []byte) ([]byte, error) {
	if p, ok := b.store.pending[string(key)]; ok {
		return p.value, nil
	}
	if v, ok := b.commit.fetched[string(key)]; ok {
		return v, nil
	}
	return b.store.kv.Get(key)
}

// taint notes the epochs under which this commit leaves something sealed that it removes. What it merely moves within an account is not removed.
func (b *build) taint() error {
	var gone map[[2]uint32]bool // account, epoch
	var stays map[string]bool   // sealed, in what the commit puts
	for i := range b.ops {
		op := &b.ops[i]
		if len(op.Key) < 5 || op.Key[0] != keySecret && op.Key[0] != keyMailbox && op.Key[0] != keySubscribe || op.Key[0] == keySecret && op.Value != nil {
			continue
		}
		v, err := b.before(op.Key)
		if err != nil {
			return err
		}
		if v == nil {
			continue
		}
		if stays == nil {
			if stays, err = b.sealedAfter(); err != nil {
				return err
			}
		}
		account := binary.BigEndian.Uint32(op.Key[1:])
		err = eachSealed(op.Key[0], v, func(epoch uint32, blob []byte) {
			if stays[string(blob)] {
				return
			}
			if gone == nil {
				gone = make(map[[2]uint32]bool)
			}
			gone[[2]uint32{account, epoch}] = true
		})
		if err != nil {
			return err
		}
	}
	for at := range gone {
		if err := b.markEpoch(at[0], at[1], epochRecord{tainted: true}); err != nil {
			return err
		}
	}
	return nil
}

// sealedAfter is all that the commit puts of what is sealed under epochs. A nonce is never used twice, so nothing is there that was not moved.
func (b *build) sealedAfter() (map[string]bool, error) {
	after := make(map[string]bool)
	for i := range b.ops {
		if op := &b.ops[i]; op.Value != nil {
			if err := eachSealed(op.Key[0], op.Value, func(_ uint32, blob []byte) { after[string(blob)] = true }); err != nil {
				return nil, err
			}
		}
	}
	return after, nil
}

// markEpoch adds to what is known of an epoch.
func (b *build) markEpoch(account, epoch uint32, more epochRecord) error {
	key := keyOf(keyEpoch, account, epoch)
	v, err := b.get(key)
	if err != nil {
		return err
	}
	var r epochRecord
	if v != nil {
		if r, err = decodeEpoch(v); err != nil {
			return err
		}
	}
	if all := (epochRecord{r.tainted || more.tainted, r.carried || more.carried}); v == nil || all != r {
		b.put(key, all.encode())
	}
	return nil
}

// eachSealed calls f with all that is sealed under an epoch in a record of that kind.
func eachSealed(kind byte, v []byte, f func(epoch uint32, blob []byte)) error {
	switch kind {
	case keySecret:
		r, err := decodeSecret(v)
		if err != nil {
			return err
		}
		f(r.epoch, r.blob)
	case keySubscribe:
		t, err := decodeSealedText(v)
		if err != nil {
			return err
		}
		f(t.epoch, t.blob)
	case keyMailbox:
		r, err := decodeMailbox(v)
		if err != nil {
			return err
		}
		f(r.name.epoch, r.name.blob)
		for _, w := range r.keywords {
			f(w.name.epoch, w.name.blob)
		}
	}
	return nil
}

// epochsOf is what the index knows of an account's epochs.
func (s *Store) epochsOf(account uint32) (map[uint32]epochRecord, error) {
	all := make(map[uint32]epochRecord)
	err := s.scan(keyOf(keyEpoch, account), func(k, v []byte) error {
		r, err := decodeEpoch(v)
		all[last32(k)] = r
		return err
	})
	return all, err
}

// epochs checks what the index knows of epochs.
func (c *checker) epochs(k, v []byte) {
	ids, ok := c.ids(k, 2)
	if !ok {
		return
	}
	_, err := decodeEpoch(v)
	a := c.accounts[ids[0]]
	if err != nil || a == nil || ids[1] == 0 || ids[1] > c.store.vault.LastEpoch(a.id) {
		c.problem("record of epoch %d of account %d, which exists %v: %v", ids[1], ids[0], a != nil, err)
	}
}
