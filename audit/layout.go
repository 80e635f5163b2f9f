package audit

import (
	"iter"
	"path"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// The files of a log, named by slash-separated paths below its directory.
const (
	keyFile        = "audit.pub"
	checkpointFile = "checkpoint"
	newCheckpoint  = "checkpoint.new"          // only between two checkpoints, under the exclusive lock
	cosignedFile   = "checkpoint.cosigned"     // there if witnesses have cosigned
	newCosigned    = "checkpoint.cosigned.new" // as newCheckpoint
	tileDir        = "tile"
)

// C2SP tlog-tiles: tiles are 256 hashes wide.
const (
	tileHeight = 8
	tileWidth  = 1 << tileHeight
	entries    = -1 // the level of the entry bundles, as in tlog
)

// maxGroup is how many records one checkpoint may add at most. Recovery relies on it:
// files that reach further beyond the checkpoint are no trace of a crash.
const maxGroup = 512

// maxBundle is the size of the largest possible entry bundle.
const maxBundle = tileWidth * (2 + maxRecord)

// tileName is the path of a tile: tlog writes the height into it, tlog-tiles does not,
// and calls the bundles "entries" instead of "data".
func tileName(t tlog.Tile) string {
	p := strings.TrimPrefix(t.Path(), "tile/8/")
	if t.L == entries {
		p = "entries" + strings.TrimPrefix(p, "data")
	}
	return tileDir + "/" + p
}

// parseTileName is the inverse of tileName.
func parseTileName(name string) (tlog.Tile, bool) {
	rest, ok := strings.CutPrefix(name, tileDir+"/")
	if !ok {
		return tlog.Tile{}, false
	}
	if r, ok := strings.CutPrefix(rest, "entries/"); ok {
		rest = "data/" + r
	}
	t, err := tlog.ParseTilePath("tile/8/" + rest)
	return t, err == nil && tileName(t) == name
}

// levelShift is the binary logarithm of how many records one item of a level stands for.
func levelShift(level int) uint {
	return uint(max(level, 0)) * tileHeight
}

// edgeTile is the partial tile of a level in a log of size records; W is 0 if there is
// none.
func edgeTile(level int, size int64) tlog.Tile {
	items := size >> levelShift(level)
	return tlog.Tile{H: tileHeight, L: level, N: items >> tileHeight, W: int(items & (tileWidth - 1))}
}

// fileOf is the file that holds the first t.W items of tile t in a log of size records.
func fileOf(level int, n, size int64) tlog.Tile {
	if e := edgeTile(level, size); e.N == n {
		return e
	}
	return tlog.Tile{H: tileHeight, L: level, N: n, W: tileWidth}
}

// levels is how many levels of tiles a log of size records has.
func levels(size int64) int {
	n := 0
	for ; size > 0; size >>= tileHeight {
		n++
	}
	return n
}

// tilesOf yields the tiles of a log of size records: the bundles, then level by level.
func tilesOf(size int64) iter.Seq[tlog.Tile] {
	return func(yield func(tlog.Tile) bool) {
		for level := entries; level < levels(size); level++ {
			edge := edgeTile(level, size)
			for n := range edge.N {
				if !yield(tlog.Tile{H: tileHeight, L: level, N: n, W: tileWidth}) {
					return
				}
			}
			if edge.W > 0 && !yield(edge) {
				return
			}
		}
	}
}

// filesOf yields the names of all files of a log of size records, in the order in which
// a bundle holds them.
func filesOf(size int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		if !yield(keyFile) || !yield(checkpointFile) {
			return
		}
		for t := range tilesOf(size) {
			if !yield(tileName(t)) {
				return
			}
		}
	}
}

// inLog says whether tile t is a file of a log of size records.
func inLog(t tlog.Tile, size int64) bool {
	if t.L >= levels(size) {
		return false
	}
	edge := edgeTile(t.L, size)
	if t.W == tileWidth {
		return t.N < edge.N
	}
	return t == edge
}

// reach is the least number of records of a log that has t's items.
func reach(t tlog.Tile) int64 {
	return (t.N<<tileHeight + int64(t.W)) << levelShift(t.L)
}

// parents yields the folders above name, innermost first, without the log's own.
func parents(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if !yield(dir) {
				return
			}
		}
	}
}
