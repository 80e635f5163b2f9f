package server

import (
	"bytes"
	"maps"
	"slices"

	"cmmpd/internal/boltfile"
)

// changes is what one write transaction does to the database. Names and index entries
// are gathered and written in the order of their keys: bbolt splits its nodes only at the
// commit, so that keys put in any other order cost time by the square of their number.
type changes struct {
	st    *store
	tx    *boltfile.Tx
	dn    map[string]uint64 // name.key → id, 0: removed; not yet written
	index []indexChange     // likewise; the last one for a key counts
}

type indexChange struct {
	key    []byte
	remove bool
}

// find is store.find with what is not yet written.
func (c *changes) find(key string) uint64 {
	if id, ok := c.dn[key]; ok {
		return id
	}
	return c.st.find(c.tx, key)
}

func (c *changes) name(key string, id uint64) {
	if c.dn == nil {
		c.dn = map[string]uint64{}
	}
	c.dn[key] = id
}

// put stores e under id, in place of old if that is not nil.
func (c *changes) put(id uint64, old, e *entry) error {
	if old != nil {
		if old.key != e.key {
			c.name(old.key, 0)
		}
		for _, k := range c.st.indexKeys(old, id) {
			c.index = append(c.index, indexChange{k, true})
		}
	}
	for _, k := range c.st.indexKeys(e, id) {
		c.index = append(c.index, indexChange{k, false})
	}
	if old == nil || old.key != e.key {
		c.name(e.key, id)
	}
	return c.tx.Bucket(bucketEntry).Put(idKey(id), e.appendBinary(nil))
}

// remove deletes the entry.
func (c *changes) remove(id uint64, e *entry) error {
	for _, k := range c.st.indexKeys(e, id) {
		c.index = append(c.index, indexChange{k, true})
	}
	c.name(e.key, 0)
	return c.tx.Bucket(bucketEntry).Delete(idKey(id))
}

// flush writes what was gathered. Searches by index and by scope need it first.
func (c *changes) flush() error {
	names := c.tx.Bucket(bucketDN)
	for _, key := range slices.Sorted(maps.Keys(c.dn)) {
		var err error
		if id := c.dn[key]; id == 0 {
			err = names.Delete([]byte(key))
		} else {
			err = names.Put([]byte(key), idKey(id))
		}
		if err != nil {
			return err
		}
	}
	slices.SortStableFunc(c.index, func(a, b indexChange) int { return bytes.Compare(a.key, b.key) })
	index := c.tx.Bucket(bucketIndex)
	for i, k := range c.index {
		if i+1 < len(c.index) && bytes.Equal(k.key, c.index[i+1].key) {
			continue
		}
		var err error
		if k.remove {
			err = index.Delete(k.key)
		} else {
			err = index.Put(k.key, nil)
		}
		if err != nil {
			return err
		}
	}
	c.dn, c.index = nil, nil
	return nil
}
