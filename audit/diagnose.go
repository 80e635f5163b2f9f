package audit

import (
	"bytes"
	"slices"

	"golang.org/x/mod/sumdb/tlog"
)

// diagnose finds out which file of the tail is wrong, once its root is not the signed
// one. What stands below each edge tile gives that tile anew; where the two differ, the
// one that does not lead to the signed root is the wrong one.
func (v *verifier) diagnose() error {
	below := make([][]byte, len(v.tail.edge))
	for level := range below {
		below[level] = v.edgeFromBelow(level)
		if bytes.Equal(below[level], v.tail.edge[level]) {
			continue
		}
		edge := slices.Clone(v.tail.edge)
		edge[level] = below[level]
		repaired := tail{size: v.tail.size, edge: edge}
		if root, err := repaired.root(); err == nil && root == v.tree.Hash {
			return faultAt(tileName(edgeTile(level, v.tree.N)), "is not what the checkpoint covers")
		}
	}
	for level := range below {
		if !bytes.Equal(below[level], v.tail.edge[level]) {
			return faultAt(tileName(edgeTile(level, v.tree.N)), "does not fit what stands below it")
		}
	}
	return faultAt(checkpointFile, "the records and tiles are not those that it covers")
}

// edgeFromBelow computes an edge tile from the records or from the full tiles below.
// What cannot be read is left out, so that the result differs.
func (v *verifier) edgeFromBelow(level int) []byte {
	t := edgeTile(level, v.tree.N)
	var out []byte
	rest := v.tail.bundle
	for i := range t.W {
		var h tlog.Hash
		if level == 0 {
			raw, more, ok := cutEntry(rest)
			if !ok {
				return out
			}
			h, rest = tlog.RecordHash(raw), more
		} else {
			data, err := v.readTile(tlog.Tile{H: tileHeight, L: level - 1, N: t.N<<tileHeight + int64(i), W: tileWidth})
			if err != nil {
				return out
			}
			h = tileHash(data)
		}
		out = append(out, h[:]...)
	}
	return out
}
