package audit

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// tail is the growing end of a log: what the next records are hashed and written
// together with. Its slices are never changed in place once it is published.
type tail struct {
	size   int64
	edge   [][]byte // by level: the hashes of the partial tile
	bundle []byte   // the partial entry bundle
}

// file is one file to be written.
type file struct {
	name string
	data []byte
}

// grow adds records. It returns the new end, and the files that must be written to get
// there from t; none of them is a file of t.
func (t *tail) grow(records [][]byte) (*tail, []file) {
	next := &tail{size: t.size, bundle: slices.Clone(t.bundle)}
	for _, hashes := range t.edge {
		next.edge = append(next.edge, slices.Clone(hashes))
	}
	var files []file
	for _, r := range records {
		next.bundle = binary.BigEndian.AppendUint16(next.bundle, uint16(len(r)))
		next.bundle = append(next.bundle, r...)
		n := next.size >> tileHeight
		next.size++
		if next.size&(tileWidth-1) == 0 {
			files = append(files, file{tileName(tlog.Tile{H: tileHeight, L: entries, N: n, W: tileWidth}), next.bundle})
			next.bundle = nil
		}
		files = next.addHash(0, tlog.RecordHash(r), files)
	}
	for t2 := range t.changed(next) {
		data := next.bundle
		if t2.L != entries {
			data = next.edge[t2.L]
		}
		files = append(files, file{tileName(t2), data})
	}
	return next, files
}

// addHash adds one hash to a level; a tile that it completes becomes a file and a hash
// of the level above.
func (t *tail) addHash(level int, h tlog.Hash, files []file) []file {
	if level == len(t.edge) {
		t.edge = append(t.edge, nil)
	}
	t.edge[level] = append(t.edge[level], h[:]...)
	if len(t.edge[level]) < tileWidth*tlog.HashSize {
		return files
	}
	full := t.edge[level]
	t.edge[level] = nil
	n := (t.size - 1) >> levelShift(level+1)
	files = append(files, file{tileName(tlog.Tile{H: tileHeight, L: level, N: n, W: tileWidth}), full})
	return t.addHash(level+1, tileHash(full), files)
}

// changed yields the partial tiles of next that t has not.
func (t *tail) changed(next *tail) func(yield func(tlog.Tile) bool) {
	return func(yield func(tlog.Tile) bool) {
		for level := entries; level < len(next.edge); level++ {
			e := edgeTile(level, next.size)
			if e.W > 0 && !inLog(e, t.size) && !yield(e) {
				return
			}
		}
	}
}

// root is the root hash (RFC 6962, section 2.1).
func (t *tail) root() (tlog.Hash, error) {
	return tlog.TreeHash(t.size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			at := tlog.TileForIndex(tileHeight, x)
			e := edgeTile(at.L, t.size)
			if at.L >= len(t.edge) || at.N != e.N {
				return nil, fmt.Errorf("hash %d is not at the edge", x)
			}
			h, err := tlog.HashFromTile(e, t.edge[at.L], x)
			if err != nil {
				return nil, err
			}
			out[i] = h
		}
		return out, nil
	}))
}

// tileHash is the hash of a full tile: the root of the subtree above its hashes.
func tileHash(full []byte) tlog.Hash {
	var level [tileWidth]tlog.Hash
	for i := range level {
		copy(level[i][:], full[i*tlog.HashSize:])
	}
	for n := tileWidth / 2; n > 0; n /= 2 {
		for i := range n {
			level[i] = tlog.NodeHash(level[2*i], level[2*i+1])
		}
	}
	return level[0]
}
