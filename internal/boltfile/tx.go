package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"
)

// Tx is a transaction. After damage it reads as empty, and View or Update returns the error. What it returns is valid until then, and must not be
// changed.
type Tx struct {
	db   *DB
	tx   *bbolt.Tx
	bad  error
	room []byte // for values with their sums, which bbolt needs until the end of the transaction
}

// Bucket is a bucket in a transaction.
type Bucket struct {
	t *Tx
	b *bbolt.Bucket // nil only after damage
}

const sumSize = 4

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func sumOf(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

// Damage has the transaction fail: the caller has found something that cannot be.
func (t *Tx) Damage(cause any) {
	if t.bad == nil {
		t.bad = t.db.o.damaged(t.db.bolt.Path(), cause)
	}
}

// try runs f unless there was damage before, and notes damage.
func (t *Tx) try(f func() error) {
	if t.bad == nil {
		t.bad = t.db.guard(f)
	}
}

// Has says whether there is a bucket of that name.
func (t *Tx) Has(name []byte) bool { return t.bucket(name) != nil }

func (t *Tx) bucket(name []byte) (b *bbolt.Bucket) {
	t.try(func() error {
		b = t.tx.Bucket(name)
		return nil
	})
	return b
}

// Bucket is the bucket of that name. That there is none is damage.
func (t *Tx) Bucket(name []byte) *Bucket {
	b := t.bucket(name)
	if b == nil {
		t.Damage(fmt.Sprintf("the bucket %s is missing", name))
	} else if t.db.o.FillPercent > 0 {
		b.FillPercent = t.db.o.FillPercent
	}
	return &Bucket{t, b}
}

// CreateBucket makes a bucket, which must not be there.
func (t *Tx) CreateBucket(name []byte) error {
	_, err := t.tx.CreateBucket(name)
	return err
}

var errSum = errors.New("a checksum is wrong")

// opened takes the sum off a value. bbolt has a nil one for a bucket, of which there is none beside values.
func opened(key, value []byte) ([]byte, error) {
	n := len(value) - sumSize
	if n < 0 || sumOf(key, value[:n]) != binary.LittleEndian.Uint32(value[n:]) {
		return nil, errSum
	}
	return value[:n:n], nil
}

func (t *Tx) opened(key, value []byte) ([]byte, error) {
	v, err := opened(key, value)
	if err != nil {
		err = t.db.o.damaged(t.db.bolt.Path(), err)
	}
	return v, err
}

// Get is the value of key, nil if there is none. A value that is present is never nil.
func (b *Bucket) Get(key []byte) (value []byte) {
	b.t.try(func() (err error) {
		k, v := b.b.Cursor().Seek(key)
		if k == nil {
			return nil
		}
		if v, err = b.t.opened(k, v); bytes.Equal(k, key) { // else a damaged key may be the one that is looked for
			value = v
		}
		return err
	})
	return value
}

// Raw is Get without a look at the sum: the value with its sum behind it, or, in a file that has none, without.
func (b *Bucket) Raw(key []byte) (value []byte) {
	b.t.try(func() error {
		value = b.b.Get(key)
		return nil
	})
	return value
}

// Scan calls f for every key that begins with prefix and is not less than from, in ascending order, until f says false. from may be
// nil. f must not change anything.
func (b *Bucket) Scan(prefix, from []byte, f func(key, value []byte) bool) {
	t := b.t
	if t.bad != nil {
		return
	}
	if bytes.Compare(prefix, from) > 0 {
		from = prefix
	}
	var c *bbolt.Cursor
	var k, v []byte
	step := func() (err error) {
		if c == nil {
			c = b.b.Cursor()
			k, v = c.Seek(from)
		} else {
			last := k
			if k, v = c.Next(); k != nil && bytes.Compare(k, last) <= 0 {
				return t.db.o.damaged(t.db.bolt.Path(), "keys are out of order")
			}
		}
		if k == nil {
			return nil
		}
		v, err = t.opened(k, v)
		return err
	}
	for t.bad == nil {
		if t.try(step); t.bad != nil || k == nil || !bytes.HasPrefix(k, prefix) || !f(k, v) {
			return
		}
	}
}

// Put keeps copies of neither key nor value: they must not be changed before Update returns.
func (b *Bucket) Put(key, value []byte) error {
	t, n := b.t, len(value)+sumSize
	if t.bad != nil {
		return t.bad
	}
	if len(t.room) < n {
		t.room = make([]byte, max(n, 64<<10))
	}
	v := append(t.room[:0:n], value...)
	v = binary.LittleEndian.AppendUint32(v, sumOf(key, value))
	t.room = t.room[n:]
	return b.b.Put(key, v)
}

// Delete removes a key, which need not be there.
func (b *Bucket) Delete(key []byte) error {
	if b.t.bad != nil {
		return b.t.bad
	}
	return b.b.Delete(key)
}

// NextSequence is a number that the bucket has never given before.
func (b *Bucket) NextSequence() (uint64, error) {
	if b.t.bad != nil {
		return 0, b.t.bad
	}
	return b.b.NextSequence()
}

// Sequence is the number given last.
func (b *Bucket) Sequence() (n uint64) {
	b.t.try(func() error {
		n = b.b.Sequence()
		return nil
	})
	return n
}

// AddSums gives every value in the buckets its sum, in a file that was written without any, and runs f in the same transaction.
func (d *DB) AddSums(f func(*Tx) error, buckets ...[]byte) error {
	return d.Update(func(t *Tx) error {
		for _, name := range buckets {
			b := t.Bucket(name)
			if t.bad != nil {
				return t.bad
			}
			var pairs [][2][]byte
			c := b.b.Cursor()
			for k, v := c.First(); k != nil; k, v = c.Next() {
				pairs = append(pairs, [2][]byte{bytes.Clone(k), bytes.Clone(v)})
			}
			for _, p := range pairs {
				if err := b.Put(p[0], p[1]); err != nil {
					return err
				}
			}
		}
		return f(t)
	})
}
