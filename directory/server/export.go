package server

import (
	"context"
	"io"

	"cmmpd/directory/ldif"
	"cmmpd/internal/boltfile"
	"cmmpd/internal/mail"
)

// exportBatch is how many entries are read in one transaction; none is open while
// something is written.
const exportBatch = 500

// Export writes every entry as LDIF content records, parents first, in an order that
// does not change. Password verifiers are included: the output is secret. Imports wait
// meanwhile, so that it is of one moment.
func (s *Server) Export(ctx context.Context, w io.Writer) error {
	s.importing.Lock()
	defer s.importing.Unlock()
	out := ldif.NewWriter(w)
	last, more := []byte(nil), true
	for more {
		if err := ctx.Err(); err != nil {
			return err
		}
		var batch []*entry
		err := s.st.db.View(func(tx *boltfile.Tx) (err error) {
			batch, last, err = s.st.entriesAfter(tx, last)
			return err
		})
		if err != nil {
			return mail.E(mail.Corrupt, "the directory is damaged", err)
		}
		more = len(batch) == exportBatch
		for _, e := range batch {
			out.Entry(e.dn, exported(e))
		}
		if err := out.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// entriesAfter returns copies of the next entries in the order of their keys.
func (st *store) entriesAfter(tx *boltfile.Tx, last []byte) (batch []*entry, next []byte, err error) {
	next = last
	tx.Bucket(bucketDN).Scan(nil, last, func(k, id []byte) bool {
		if last != nil && string(k) == string(last) {
			return true
		}
		v := tx.Bucket(bucketEntry).Get(id)
		var e *entry
		if e, err = st.schema.decodeEntry(append([]byte(nil), v...)); err != nil {
			return false
		}
		batch, next = append(batch, e), append([]byte(nil), k...)
		return len(batch) < exportBatch
	})
	if err != nil {
		return nil, nil, err
	}
	return batch, next, nil
}

// exported is what an import takes back. Times are left out: they are the
// importing directory's own.
func exported(e *entry) []ldif.Value {
	var out []ldif.Value
	for _, a := range e.attrs {
		if a.typ.name == "createTimestamp" || a.typ.name == "modifyTimestamp" {
			continue
		}
		for _, v := range a.values {
			out = append(out, ldif.Value{Desc: a.String(), Data: v})
		}
	}
	return out
}
