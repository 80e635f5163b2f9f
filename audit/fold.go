package audit

import (
	"errors"
	"fmt"
	"iter"
	"math/bits"

	"golang.org/x/mod/sumdb/tlog"
)

// block is a complete subtree of a log: the 2^level records from start on. Start is a multiple of their number.
type block struct {
	start int64
	level int
}

// blocksOf yields the fewest blocks that cover the records from start to before end, in order.
func blocksOf(start, end int64) iter.Seq[block] {
	return func(yield func(block) bool) {
		for start < end {
			level := bits.Len64(uint64(end-start)) - 1
			if start > 0 {
				level = min(level, bits.TrailingZeros64(uint64(start)))
			}
			if !yield(block{start, level}) {
				return
			}
			start += 1 << level
		}
	}
}

// fold computes the root of a log (RFC 6962, section 2.1) out of blocks that follow one another: records, and subtrees of
// which only the hash is known. All of them together are one proof that each of the records is in the log, at its place.
type fold struct {
	pos   int64 // how many records have been covered
	nodes []subtree
}

// subtree is a complete subtree to the left of pos; each is smaller than the one before.
type subtree struct {
	level int
	hash  tlog.Hash
	bare  bool // only its hash was given
}

var errBlocks = errors.New("the blocks do not follow one another")

// add adds the next block. Two bare blocks that are the halves of a third are refused: one hash says the same.
func (f *fold) add(level int, hash tlog.Hash, bare bool) error {
	if level < 0 || level > 48 || f.pos&(1<<level-1) != 0 {
		return errBlocks
	}
	f.pos += 1 << level
	n := subtree{level, hash, bare}
	for len(f.nodes) > 0 && f.nodes[len(f.nodes)-1].level == n.level {
		left := f.nodes[len(f.nodes)-1]
		if left.bare && n.bare {
			return errNotCanonical
		}
		f.nodes = f.nodes[:len(f.nodes)-1]
		n = subtree{level: n.level + 1, hash: tlog.NodeHash(left.hash, n.hash)}
	}
	f.nodes = append(f.nodes, n)
	return nil
}

// root is the root of the log of pos records.
func (f *fold) root() tlog.Hash {
	if len(f.nodes) == 0 {
		return emptyRoot()
	}
	last := len(f.nodes) - 1
	root := f.nodes[last].hash
	for i := last - 1; i >= 0; i-- {
		root = tlog.NodeHash(f.nodes[i].hash, root)
	}
	return root
}

// hashReader gives the hashes of a log's blocks. It remembers the last tile of each level.
type hashReader struct {
	v    *verifier
	last map[int]lastTile
}

type lastTile struct {
	tile tlog.Tile
	data []byte
}

func (h *hashReader) hash(b block) (tlog.Hash, error) {
	x := tlog.StoredHashIndex(b.level, b.start>>b.level)
	at := tlog.TileForIndex(tileHeight, x)
	t := fileOf(at.L, at.N, h.v.tree.N)
	if h.last[t.L].tile != t {
		data, err := h.v.hashesOf(t)
		if err != nil {
			return tlog.Hash{}, err
		}
		h.last[t.L] = lastTile{t, data}
	}
	hash, err := tlog.HashFromTile(t, h.last[t.L].data, x)
	if err != nil {
		return tlog.Hash{}, fmt.Errorf("hash of %d records from %d on: %w", int64(1)<<b.level, b.start, err)
	}
	return hash, nil
}
