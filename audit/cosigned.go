package audit

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"syscall"

	"golang.org/x/mod/sumdb/tlog"
)

// The file checkpoint.cosigned holds the last checkpoint that enough witnesses have
// cosigned: the checkpoint as the log signed it, and their lines below. It is seldom the
// newest one. Its every bit is checked, for the keys of the witnesses are on record.

// detailKey is the detail of AuditWitness with the verifier key.
const detailKey = "key"

// readCosigned reads checkpoint.cosigned, if it is there.
func (v *verifier) readCosigned() (*cosigned, error) {
	if !v.src.hasCosigned() {
		return nil, nil
	}
	b, err := v.src.read(cosignedFile, maxCheckpoint)
	if err != nil {
		return nil, err
	}
	c, err := parseCosigned(b, v.key, true)
	switch {
	case err != nil:
		return nil, faultAt(cosignedFile, "%v", err)
	case len(c.lines) == 0:
		return nil, faultAt(cosignedFile, "nobody has cosigned it")
	case c.tree.N > v.tree.N:
		return nil, &Fault{File: checkpointFile, Record: v.tree.N, Reason: fmt.Sprintf(
			"the tail is cut off, or an old copy was put back: the log has %d records, witnesses have cosigned %d (%s)", v.tree.N, c.tree.N, cosignedFile)}
	}
	return c, nil
}

// checkCosigned checks that the log, which is checked by now, continues c, and each line
// with the key of its witness, which must be one of known.
func (v *verifier) checkCosigned(c *cosigned, known []*WitnessKey) error {
	if err := v.continuesCosigned(c); err != nil {
		return err
	}
	text := c.text()
	for _, l := range c.lines {
		i := slices.IndexFunc(known, func(k *WitnessKey) bool { return l.by(k) })
		if i < 0 {
			return faultAt(cosignedFile, "the witness %s is neither given nor on record with this key", l.name)
		}
		if _, ok := known[i].check(text, l); !ok {
			return faultAt(cosignedFile, "the cosignature of the witness %s is not good", l.name)
		}
	}
	return nil
}

func (v *verifier) continuesCosigned(c *cosigned) error {
	root, err := tlog.TreeHash(c.tree.N, tlog.HashReaderFunc(v.readHashes))
	if err != nil {
		return err
	}
	if root != c.tree.Hash {
		return faultAt(cosignedFile, "the first %d records are not those that witnesses have cosigned: the root is %v, theirs is %v: there are two logs", c.tree.N, root, c.tree.Hash)
	}
	return nil
}

// met says whether enough of the witnesses have cosigned, and notes in the report who has.
func (d *Demand) met(c *cosigned, r *Report) error {
	if c != nil {
		r.Cosigned = c.tree.N
		text := c.text()
		var counted []*WitnessKey
		for _, k := range d.Witnesses {
			for _, l := range c.lines {
				if at, ok := k.check(text, l); ok && !slices.ContainsFunc(counted, k.Same) {
					counted, r.Cosigners = append(counted, k), append(r.Cosigners, k.name)
					if r.CosignedFrom.IsZero() || at.Before(r.CosignedFrom) {
						r.CosignedFrom = at
					}
				}
			}
		}
	}
	switch {
	case len(r.Cosigners) < d.Need:
		return faultAt(cosignedFile, "%d of the witnesses given have cosigned, %d are needed", len(r.Cosigners), d.Need)
	case d.Need > 0 && d.Behind >= 0 && r.Records-r.Cosigned > d.Behind:
		return &Fault{cosignedFile, r.Cosigned, fmt.Sprintf("%d records from here on are not cosigned, %d may be", r.Records-r.Cosigned, d.Behind)}
	}
	return nil
}

// openCosigned reads checkpoint.cosigned at the opening of a log whose end v has checked.
func openCosigned(v *verifier) (*cosigned, error) {
	c, err := v.readCosigned()
	if err != nil || c == nil {
		return nil, err
	}
	return c, v.continuesCosigned(c)
}

// putCosigned makes c the log's checkpoint.cosigned. Whatever becomes of the attempt, the
// file is the old one or the new one, or c if it was there before.
func (s *store) putCosigned(c *cosigned) error {
	if s.cosigned != nil && bytes.Equal(s.cosigned.encode(), c.encode()) {
		return nil
	}
	if err := flock(s.dir, syscall.LOCK_EX); err != nil {
		return err
	}
	defer unlock(s.dir)
	err := writeFiles(s.disk, []file{{newCosigned, c.encode()}}, nil)
	if err == nil {
		err = s.disk.rename(newCosigned, cosignedFile)
	}
	if err != nil {
		_ = s.disk.remove(newCosigned) // the next attempt empties it, the next opening removes it
		return err
	}
	s.cosigned = c
	return s.disk.syncDir(".")
}

// proof is the consistency proof (RFC 6962, section 2.1.2) from the tree of old records to
// that of t, whose full tiles read gives.
func (t *tail) proof(ctx context.Context, old int64, read func(tlog.Tile) ([]byte, error)) (tlog.TreeProof, error) {
	if old == 0 || old == t.size {
		return nil, nil
	}
	return tlog.ProveTree(t.size, old, t.hashes(func(at tlog.Tile) ([]byte, error) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return read(at)
	}))
}

// hashes gives the hashes of a log that ends with t and whose full tiles read gives.
func (t *tail) hashes(read func(tlog.Tile) ([]byte, error)) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			at := tlog.TileForIndex(tileHeight, x)
			at = fileOf(at.L, at.N, t.size)
			var data []byte
			var err error
			if at.W < tileWidth {
				data = t.edge[at.L]
			} else if data, err = read(at); err != nil {
				return nil, err
			}
			if out[i], err = tlog.HashFromTile(at, data, x); err != nil {
				return nil, err
			}
		}
		return out, nil
	})
}
