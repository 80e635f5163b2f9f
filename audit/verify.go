package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"runtime"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/mail"
)

// Report is what Verify found in a good log.
type Report struct {
	Origin      string
	Records     int64
	Root        string    // base64, as in the checkpoint
	First, Last time.Time // of the first and the last record; zero if there is none
	Files       int
	Bytes       int64
	Since       int64 // how many records the checkpoint given covers; -1 if none was given
	Names       int64 // rows of the table of names that came along, each good
	Part        *Part // of an extract; First and Last are then those of the records in it

	Cosigned     int64     // how many records the checkpoint covers that witnesses have cosigned; -1 if there is none
	Cosigners    []string  // those of the witnesses given that have cosigned it
	CosignedFrom time.Time // when the first of them did

	StepsBack    int   // how often a record's time lies more than BackTolerance before that of the record before it
	FirstStep    int64 // the first such record; -1 if there is none
	ClockRecords int   // how often the log itself noticed that the clock was set back
}

// Demand is what Verify asks of a log beyond that it is whole.
type Demand struct {
	Since     []byte        // a checkpoint that the log must continue, cosigned or not; nil: none
	Witnesses []*WitnessKey // whose cosignatures count
	Need      int           // so many of them must have cosigned a checkpoint that the log continues
	Behind    int64         // at most so many records may have come after that; below 0: any number
}

// Verify checks every byte of the log at path, which is an audit directory (of a running
// platform, or a copy), a bundle or an extract: that its files are exactly those that its checkpoint
// implies, that the checkpoint is signed by pubkey (the content of audit.pub as it was
// handed over), that tiles and records have the root hash signed there, that each record
// is in canonical form and in its place, and, if since is not nil, that the log continues
// that earlier checkpoint. It does not check that what the records say is true; where
// times step back is in the report.
//
// A running platform is held still only while the listing and the growing end are read.
// The error wraps ErrCannotOpen if there is nothing to open at path; it is a *Fault, which
// names the place, if the log is bad.
func Verify(ctx context.Context, path string, pubkey, since []byte) (*Report, error) {
	return VerifyDemand(ctx, path, pubkey, Demand{Since: since, Behind: -1})
}

// VerifyDemand is Verify with what else is asked of the log.
func VerifyDemand(ctx context.Context, path string, pubkey []byte, d Demand) (*Report, error) {
	key, canonical, err := parseKey(pubkey)
	if err != nil {
		return nil, &Fault{Record: -1, Reason: fmt.Sprintf("the key given is not a verifier key: %v", err)}
	}
	if x := openExtract(path); x != nil {
		defer x.close()
		return verifyExtract(ctx, x, key, canonical, d)
	}
	src, err := openSource(ctx, path)
	if err != nil {
		return nil, err
	}
	defer src.close()
	return verifySource(ctx, src, key, canonical, d)
}

func verifySource(ctx context.Context, src source, key note.Verifier, pubkey []byte, d Demand) (*Report, error) {
	v := &verifier{src: src, key: key}
	if err := v.checkKey(pubkey); err != nil {
		return nil, err
	}
	if err := v.checkpoint(); err != nil {
		return nil, err
	}
	old, err := v.earlier(d.Since)
	if err != nil {
		return nil, err
	}
	witnessed, err := v.readCosigned()
	if err != nil {
		return nil, err
	}
	if err := src.exactly(v.tree.N); err != nil {
		return nil, err
	}
	if err := v.loadTail(); err != nil {
		return nil, err
	}
	src.release()
	v.freed = true
	r := &Report{Origin: key.Name(), Records: v.tree.N, Root: v.tree.Hash.String(), Since: -1, Cosigned: -1, FirstStep: -1}
	known := d.Witnesses
	v.each = func(rec *Record, _ []byte) error {
		r.count(rec)
		if rec.Type == AuditWitness {
			if k, err := ParseWitnessKey([]byte(rec.Detail[detailKey])); err == nil {
				known = append(known, k)
			}
		}
		return nil
	}
	if err := v.check(ctx, 0); err != nil {
		return nil, err
	}
	if old != nil {
		if err := v.continues(*old); err != nil {
			return nil, err
		}
		r.Since = old.N
	}
	if witnessed != nil {
		if err := v.checkCosigned(witnessed, known); err != nil {
			return nil, err
		}
	}
	if err := d.met(witnessed, r); err != nil {
		return nil, err
	}
	r.Files, r.Bytes = src.totals()
	if b, ok := src.(*bundleSource); ok {
		r.Names = b.names
	}
	return r, nil
}

// count takes one record into the report.
func (r *Report) count(rec *Record) {
	if rec.Seq == 0 {
		r.First = rec.Time
	} else if r.Last.Sub(rec.Time) > BackTolerance {
		if r.StepsBack++; r.FirstStep < 0 {
			r.FirstStep = rec.Seq
		}
	}
	r.Last = rec.Time
	if rec.Type == ClockBack {
		r.ClockRecords++
	}
}

// verifier walks over one log, from the root down: every tile is compared with a hash
// that has been checked already, so that the first mismatch is the place.
type verifier struct {
	src  source
	key  note.Verifier
	tree tlog.Tree
	tail tail
	each func(r *Record, raw []byte) error // called for every good record, in order; raw is not kept

	scratch  []byte
	leafText []byte
	freed    bool // src was released: it may be read by several at once
	// Of store.openTail:
	last  time.Time // of the last record
	group int64     // how many records one commit adds at most
}

// checkKey compares the key file, byte for byte, with the key given.
func (v *verifier) checkKey(pubkey []byte) error {
	b, err := v.src.read(keyFile, 4096)
	if err != nil {
		return err
	}
	if !bytes.Equal(b, pubkey) {
		return faultAt(keyFile, "is not the key given")
	}
	return nil
}

// checkpoint reads the checkpoint.
func (v *verifier) checkpoint() error {
	b, err := v.src.read(checkpointFile, 4096)
	if err != nil {
		return err
	}
	c, err := parseCheckpoint(b, v.key)
	if err != nil {
		return faultAt(checkpointFile, "%v", err)
	}
	v.tree = c.tree
	return nil
}

// earlier reads the checkpoint that somebody kept, and refuses a log that has fewer
// records than it covers.
func (v *verifier) earlier(since []byte) (*tlog.Tree, error) {
	if since == nil {
		return nil, nil
	}
	c, err := parseCosigned(since, v.key, false)
	if err != nil {
		return nil, &Fault{Record: -1, Reason: fmt.Sprintf("the checkpoint given: %v", err)}
	}
	if c.tree.N > v.tree.N {
		return nil, &Fault{File: checkpointFile, Record: v.tree.N, Reason: fmt.Sprintf(
			"the tail is cut off, or an old copy was put back: the log has %d records, the checkpoint given covers %d", v.tree.N, c.tree.N)}
	}
	return &c.tree, nil
}

// loadTail reads the files that a running log will replace.
func (v *verifier) loadTail() error {
	v.tail = tail{size: v.tree.N, edge: make([][]byte, levels(v.tree.N))}
	for level := entries; level < len(v.tail.edge); level++ {
		t := edgeTile(level, v.tree.N)
		if t.W == 0 {
			continue
		}
		data, err := v.readTile(t)
		if err != nil {
			return err
		}
		if level == entries {
			v.tail.bundle = data
		} else {
			v.tail.edge[level] = data
		}
	}
	return nil
}

// readTile reads a tile, which for hashes has one possible size.
func (v *verifier) readTile(t tlog.Tile) ([]byte, error) {
	if t.L == entries {
		return v.src.read(tileName(t), maxBundle)
	}
	want := t.W * tlog.HashSize
	data, err := v.src.read(tileName(t), int64(want))
	if err == nil && len(data) != want {
		err = faultAt(tileName(t), "is %d bytes long, not %d", len(data), want)
	}
	return data, err
}

// check checks the tail, and all full tiles and bundles that reach beyond record from.
func (v *verifier) check(ctx context.Context, from int64) error {
	root, err := v.tail.root()
	if err != nil {
		return err
	}
	if root != v.tree.Hash {
		return v.diagnose()
	}
	for level := len(v.tail.edge) - 1; level > 0; level-- {
		first := edgeTile(level, v.tree.N).N << tileHeight
		if err := v.checkBelow(ctx, level, first, v.tail.edge[level], from); err != nil {
			return err
		}
	}
	edge := edgeTile(0, v.tree.N)
	if edge.W == 0 {
		return nil
	}
	return v.checkBundle(edge.N, v.tail.bundle, v.tail.edge[0], tileName(edge))
}

// checkBelow checks the full tiles that hashes, the items of a level from first on,
// stand for.
func (v *verifier) checkBelow(ctx context.Context, level int, first int64, hashes []byte, from int64) error {
	if level == 1 && from == 0 && v.freed {
		return v.checkLeaves(ctx, first, hashes)
	}
	for i := range len(hashes) / tlog.HashSize {
		if err := ctx.Err(); err != nil {
			return mail.E(mail.Unavailable, "", err)
		}
		n := first + int64(i)
		t := tlog.Tile{H: tileHeight, L: level - 1, N: n, W: tileWidth}
		if reach(t) <= from {
			continue
		}
		data, err := v.readTile(t)
		if err != nil {
			return err
		}
		if h := tileHash(data); !bytes.Equal(h[:], hashes[i*tlog.HashSize:][:tlog.HashSize]) {
			return faultAt(tileName(t), "is not what the checkpoint covers")
		}
		if level > 1 {
			err = v.checkBelow(ctx, level-1, n<<tileHeight, data, from)
		} else {
			err = v.checkFullBundle(n, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) checkFullBundle(n int64, hashes []byte) error {
	bundle, err := v.readTile(tlog.Tile{H: tileHeight, L: entries, N: n, W: tileWidth})
	if err != nil {
		return err
	}
	return v.checkBundle(n, bundle, hashes, tileName(tlog.Tile{H: tileHeight, L: 0, N: n, W: tileWidth}))
}

// leaf is what checking one full tile of level 0 and its bundle gave: its good records, and
// then perhaps an error.
type leaf struct {
	records []Record
	raw     [][]byte
	err     error
}

// checkLeaves checks the full tiles of level 0 that hashes stand for, and their bundles, side
// by side, and hands the records on in their order.
func (v *verifier) checkLeaves(ctx context.Context, first int64, hashes []byte) error {
	var working sync.WaitGroup
	defer working.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ahead := make(chan chan leaf, 2*runtime.GOMAXPROCS(0))
	working.Go(func() {
		defer close(ahead)
		for i := range len(hashes) / tlog.HashSize {
			c := make(chan leaf, 1)
			select {
			case ahead <- c:
			case <-ctx.Done():
				return
			}
			working.Go(func() { c <- v.leaf(first+int64(i), hashes[i*tlog.HashSize:][:tlog.HashSize]) })
		}
	})
	for c := range ahead {
		l := <-c
		for i := range l.records {
			if err := v.each(&l.records[i], l.raw[i]); err != nil {
				return err
			}
		}
		if l.err != nil {
			return l.err
		}
	}
	if err := ctx.Err(); err != nil {
		return mail.E(mail.Unavailable, "", err)
	}
	return nil
}

// leaf checks one full tile of level 0 and its bundle.
func (v *verifier) leaf(n int64, hash []byte) (l leaf) {
	t := tlog.Tile{H: tileHeight, L: 0, N: n, W: tileWidth}
	data, err := v.readTile(t)
	if err != nil {
		return leaf{err: err}
	}
	if h := tileHash(data); !bytes.Equal(h[:], hash) {
		return leaf{err: faultAt(tileName(t), "is not what the checkpoint covers")}
	}
	one := &verifier{src: v.src, each: func(r *Record, raw []byte) error {
		l.records, l.raw = append(l.records, *r), append(l.raw, raw)
		return nil
	}}
	l.records, l.raw = make([]Record, 0, tileWidth), make([][]byte, 0, tileWidth)
	l.err = one.checkFullBundle(n, data)
	return l
}

// checkBundle checks the records of bundle n against their hashes.
func (v *verifier) checkBundle(n int64, bundle, hashes []byte, hashFile string) error {
	width := len(hashes) / tlog.HashSize
	name := tileName(tlog.Tile{H: tileHeight, L: entries, N: n, W: width})
	rest := bundle
	for i := range width {
		seq := n<<tileHeight + int64(i)
		raw, more, ok := cutEntry(rest)
		if !ok {
			return &Fault{name, seq, "the file ends within this record"}
		}
		rest = more
		v.leafText = append(append(v.leafText[:0], 0), raw...) // RFC 6962, section 2.1
		if h := sha256.Sum256(v.leafText); !bytes.Equal(h[:], hashes[i*tlog.HashSize:][:tlog.HashSize]) {
			return &Fault{name, seq, "is not the record whose hash " + hashFile + " holds"}
		}
		rec, scratch, err := decodeRecord(raw, v.scratch)
		v.scratch = scratch
		if err != nil {
			return &Fault{name, seq, err.Error()}
		}
		if rec.Seq != seq {
			return &Fault{name, seq, fmt.Sprintf("carries the number %d", rec.Seq)}
		}
		if v.each != nil {
			if err := v.each(&rec, raw); err != nil {
				return err
			}
		}
	}
	if len(rest) > 0 {
		return faultAt(name, "%d bytes after the last record", len(rest))
	}
	return nil
}

// cutEntry takes the first record off an entry bundle.
func cutEntry(b []byte) (record, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b)-2 < n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

// continues says whether the log, checked by now, begins with the tree old.
func (v *verifier) continues(old tlog.Tree) error {
	root, err := tlog.TreeHash(old.N, tlog.HashReaderFunc(v.readHashes))
	if err != nil {
		return err
	}
	if root != old.Hash {
		return &Fault{Record: -1, Reason: fmt.Sprintf(
			"the first %d records are not those of the checkpoint given: its root is %v, theirs is %v: there are two logs", old.N, old.Hash, root)}
	}
	return nil
}

// readHashes gives hashes of the tree out of its tiles.
func (v *verifier) readHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		at := tlog.TileForIndex(tileHeight, x)
		t := fileOf(at.L, at.N, v.tree.N)
		data, err := v.hashesOf(t)
		if err != nil {
			return nil, err
		}
		if out[i], err = tlog.HashFromTile(t, data, x); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// hashesOf reads a tile, from the tail if it is there.
func (v *verifier) hashesOf(t tlog.Tile) ([]byte, error) {
	if t.W < tileWidth {
		return v.tail.edge[t.L], nil
	}
	return v.readTile(t)
}
