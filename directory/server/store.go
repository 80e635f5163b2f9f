package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"cmmpd/internal/boltfile"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// format is the version of the database; see docs/formats.md, "Directory database".
const (
	format       = "cmmpd directory 2"
	formatNoSums = "cmmpd directory 1" // values had no checksums
)

// Buckets of the database.
var (
	bucketMeta  = []byte("meta")  // "format", "base"
	bucketEntry = []byte("entry") // id (8 bytes, big endian) → record of the entry
	bucketDN    = []byte("dn")    // name.key → id
	bucketIndex = []byte("index") // type \0 prepared value \0 id → nothing
)

// indexed are the types that have an equality index.
var indexed = []string{
	"uid", "mail", "mailalternateaddress", "cn", "sn", "givenname", "displayname", "member", "roleoccupant", "entryuuid", "cmmpdrole",
	"employeenumber",
}

// named are the types whose values stand in the text table, for substring searches.
var named = []string{"uid", "mail", "mailalternateaddress", "cn", "sn", "givenname", "displayname"}

// row is the text table's line of one entry: the prepared values of its named
// attributes, separated by \x00. All rows are in memory, ascending by id.
type row struct {
	id   uint64
	text string
}

// store is the database: a bbolt file holds everything, in which a wrong bit is noticed; the rows let substring searches skip
// the entries that cannot match.
type store struct {
	db      *boltfile.DB
	schema  *schema
	base    name
	indexed map[*attrType]bool
	named   map[*attrType]bool
	rows    atomic.Pointer[[]row] // replaced, never changed; written under bbolt's write lock
}

func openStore(path, base string) (*store, error) {
	sch, err := loadSchema()
	if err != nil {
		return nil, err
	}
	st := &store{schema: sch, indexed: map[*attrType]bool{}, named: map[*attrType]bool{}}
	for _, n := range indexed {
		st.indexed[sch.attrs[n]] = true
	}
	for _, n := range named {
		st.named[sch.attrs[n]] = true
	}
	if st.base, err = sch.parseDN(base); err != nil || st.base.key == "" {
		return nil, mail.E(mail.Invalid, "the base of the directory is not a distinguished name", err)
	}
	o := boltfile.Options{Damaged: damagedText, Mmap: 64 << 20, Leaves: true}
	if st.db, err = boltfile.Open(durable.OS{}, path, o); mail.KindOf(err) == mail.Busy {
		return nil, mail.E(mail.Busy, "the directory is in use by another process", err)
	} else if err != nil {
		return nil, fmt.Errorf("directory database: %w", err)
	}
	if err = st.addSums(); err == nil {
		err = st.db.Update(st.prepareBuckets)
	}
	if err == nil {
		err = st.db.View(st.loadRows)
	}
	if err != nil {
		return nil, fmt.Errorf("directory database: %w", errors.Join(err, st.db.Close()))
	}
	return st, nil
}

const damagedText = "the directory is damaged"

// addSums brings a database of the format in which values had no checksums to ours. An older program refuses it from then on.
func (st *store) addSums() error {
	old := false
	err := st.db.View(func(tx *boltfile.Tx) error {
		old = tx.Has(bucketMeta) && string(tx.Bucket(bucketMeta).Raw([]byte("format"))) == formatNoSums
		return nil
	})
	if err != nil || !old {
		return err
	}
	return st.db.AddSums(func(tx *boltfile.Tx) error {
		return tx.Bucket(bucketMeta).Put([]byte("format"), []byte(format))
	}, bucketMeta, bucketEntry, bucketDN, bucketIndex)
}

// prepareBuckets makes a new database, or checks that an old one is ours to use.
func (st *store) prepareBuckets(tx *boltfile.Tx) error {
	if tx.Has(bucketMeta) {
		m := tx.Bucket(bucketMeta)
		if got := string(m.Get([]byte("format"))); got != format {
			return mail.E(mail.Unsupported, "the directory was written by another version", fmt.Errorf("format %q, want %q", got, format))
		}
		if string(m.Get([]byte("base"))) != st.base.key {
			return mail.E(mail.Invalid, "the directory has another base", nil)
		}
		return nil
	}
	for _, b := range [][]byte{bucketEntry, bucketDN, bucketIndex, bucketMeta} {
		if err := tx.CreateBucket(b); err != nil {
			return err
		}
	}
	m := tx.Bucket(bucketMeta)
	if err := m.Put([]byte("format"), []byte(format)); err != nil {
		return err
	}
	return m.Put([]byte("base"), []byte(st.base.key))
}

// loadRows reads all of the database, so that what is damaged is found when it is opened.
func (st *store) loadRows(tx *boltfile.Tx) error {
	rows := []row{}
	var bad error
	entries := tx.Bucket(bucketEntry)
	entries.Scan(nil, nil, func(k, v []byte) bool {
		e, err := st.schema.decodeEntry(v)
		if err != nil || len(k) != 8 {
			bad = mail.E(mail.Corrupt, damagedText, err)
			return false
		}
		rows = append(rows, row{binary.BigEndian.Uint64(k), st.rowText(e)})
		return true
	})
	st.rows.Store(&rows)
	if n := len(rows); n > 0 && rows[n-1].id > entries.Sequence() {
		tx.Damage("numbers of entries would be given twice")
	}
	names := 0
	for _, name := range [][]byte{bucketDN, bucketIndex, bucketMeta} {
		tx.Bucket(name).Scan(nil, nil, func(_, _ []byte) bool {
			if bytes.Equal(name, bucketDN) {
				names++
			}
			return true
		})
	}
	if bad == nil && names != len(rows) {
		tx.Damage(fmt.Sprintf("%d names of %d entries", names, len(rows)))
	}
	return bad
}

func (st *store) rowText(e *entry) string {
	var b strings.Builder
	for _, a := range e.attrs {
		if st.named[a.typ] {
			for _, v := range a.values {
				b.WriteByte(0)
				if p, ok := st.schema.prepare(a.typ.rule, v); ok {
					b.Write(p)
				}
			}
		}
	}
	return b.String()
}

func idKey(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

// get returns the entry of an id; nil if there is none. Its values alias the
// transaction's memory.
func (st *store) get(tx *boltfile.Tx, id uint64) (*entry, error) {
	v := tx.Bucket(bucketEntry).Get(idKey(id))
	if v == nil {
		return nil, nil
	}
	return st.schema.decodeEntry(v)
}

// find returns the id of the entry with the key; 0 if there is none.
func (st *store) find(tx *boltfile.Tx, key string) uint64 {
	if v := tx.Bucket(bucketDN).Get([]byte(key)); len(v) == 8 {
		return binary.BigEndian.Uint64(v)
	}
	return 0
}

// children says whether an entry stands below key.
func (st *store) children(tx *boltfile.Tx, key string) bool {
	found := false
	tx.Bucket(bucketDN).Scan([]byte(key), nil, func(k, _ []byte) bool {
		found = string(k) != key
		return !found
	})
	return found
}

// indexKey is the index entry without the id.
func indexKey(t *attrType, prepared []byte) []byte {
	b := append([]byte(strings.ToLower(t.name)), 0)
	if len(prepared) > 200 {
		sum := sha256.Sum256(prepared)
		prepared = append(prepared[:160:160], sum[:]...)
	}
	return append(append(b, prepared...), 0)
}

// lookup returns the ids, ascending, of entries that may hold the prepared value.
func (st *store) lookup(tx *boltfile.Tx, t *attrType, prepared []byte) []uint64 {
	key := indexKey(t, prepared)
	var ids []uint64
	tx.Bucket(bucketIndex).Scan(key, nil, func(k, _ []byte) bool {
		if len(k) == len(key)+8 {
			ids = append(ids, binary.BigEndian.Uint64(k[len(key):]))
		}
		return true
	})
	return ids
}

// indexKeys lists the index entries of e.
func (st *store) indexKeys(e *entry, id uint64) [][]byte {
	var keys [][]byte
	for _, a := range e.attrs {
		if !st.indexed[a.typ] {
			continue
		}
		for _, v := range a.values {
			if p, ok := st.schema.prepare(a.typ.rule, v); ok {
				keys = append(keys, append(indexKey(a.typ, p), idKey(id)...))
			}
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return slices.CompactFunc(keys, bytes.Equal)
}

// updateRows replaces the text of the changed ids; an id without text is removed. It is
// called after the commit, by the only writer.
func (st *store) updateRows(changed map[uint64]*string) {
	old := *st.rows.Load()
	rows := make([]row, 0, len(old)+len(changed))
	for _, r := range old {
		if text, ok := changed[r.id]; ok {
			delete(changed, r.id)
			if text == nil {
				continue
			}
			r.text = *text
		}
		rows = append(rows, r)
	}
	for id, text := range changed {
		if text != nil {
			rows = append(rows, row{id, *text})
		}
	}
	slices.SortFunc(rows, func(a, b row) int {
		if a.id < b.id {
			return -1
		}
		return 1
	})
	st.rows.Store(&rows)
}
