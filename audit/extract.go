package audit

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// An extract is a bundle of some records of a log: a tar archive in the one form of a bundle, below extractDir:
// audit.pub and checkpoint as in the log; the filter; then chunks of records with the hashes that lead from them to the
// checkpoint's root. docs/formats.md describes it.
const (
	extractDir = "audit-extract/"
	filterFile = "filter.json"
)

// A chunk ends with the record with which it has so many records or bytes of records.
const (
	chunkRecords = 1024
	chunkBytes   = 1 << 20
)

// maxFilter, maxProofs and maxNames bound files that a reader takes whole.
const (
	maxFilter = 4 * maxPatterns * (6*maxSubject + 4)
	maxProofs = (chunkRecords + 1) * 2 * 48 * 80
	maxNames  = 64 << 20
)

func proofsFile(chunk int64) string  { return fmt.Sprintf("proofs/%09d", chunk) }
func recordsFile(chunk int64) string { return fmt.Sprintf("records/%09d.jsonl", chunk) }
func namesFile(chunk int64) string   { return fmt.Sprintf("names/%09d.jsonl", chunk) }

// Extract writes the records that the filter wants as one file, which Verify takes: each is proven to be in the log. That
// none was left out is proven only where the filter is by number alone. The format does not count.
func (e Export) Extract(ctx context.Context, dir string, w io.Writer) error {
	if err := e.Check(); err != nil {
		return err
	}
	v, err := openForReading(ctx, dir)
	if err != nil {
		return err
	}
	defer v.src.close()
	if e.First > v.tree.N || e.End > v.tree.N {
		return fmt.Errorf("the log has %d records only", v.tree.N)
	}
	x := &extractor{w: w, names: e.Names, hashes: hashReader{v, make(map[int]lastTile)}}
	filter, err := e.encode()
	if err != nil {
		return err
	}
	for _, name := range []string{keyFile, checkpointFile} {
		data, err := v.src.read(name, 4096)
		if err != nil {
			return err
		}
		x.file(name, data)
	}
	x.file(filterFile, filter)
	if err := e.walkOver(ctx, v, x.record); err != nil {
		return errors.Join(err, x.failed)
	}
	if err := x.gap(v.tree.N); err != nil {
		return err
	}
	if x.fold.root() != v.tree.Hash {
		return faultAt(checkpointFile, "the tiles are not those that it covers")
	}
	if x.chunk == 0 || x.count > 0 || x.proofs.Len() > 0 {
		x.flush()
	}
	x.write(make([]byte, 2*bundleBlock))
	if x.failed != nil {
		return fmt.Errorf("writing the extract: %w", x.failed)
	}
	return nil
}

// encode is the filter as it stands in an extract.
func (f Filter) encode() ([]byte, error) {
	f.From, f.To = f.From.UTC(), f.To.UTC()
	b, err := json.Marshal(f)
	return append(b, '\n'), err
}

// decodeFilter reads what encode wrote, and nothing else.
func decodeFilter(b []byte) (f Filter, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return Filter{}, err
	}
	if err := f.bounded(); err != nil {
		return Filter{}, err
	}
	if again, err := f.encode(); err != nil || !bytes.Equal(again, b) {
		return Filter{}, errNotCanonical
	}
	return f, nil
}

// extractor writes an extract.
type extractor struct {
	w      io.Writer
	failed error // the first of w
	names  Names
	hashes hashReader
	fold   fold // what the reader will do

	chunk   int64
	count   int // records in the chunk
	proofs  bytes.Buffer
	records bytes.Buffer
	rows    map[Digest]Name // those of the records
}

func (x *extractor) record(r, _ *Record, raw []byte) error {
	if err := x.gap(r.Seq); err != nil {
		return err
	}
	if err := x.fold.add(0, tlog.RecordHash(raw), false); err != nil {
		return err
	}
	x.count++
	if x.names != nil {
		if err := x.addRows(r); err != nil {
			return err
		}
	}
	x.records.Write(raw)
	x.records.WriteByte('\n')
	if x.count == chunkRecords || x.records.Len() >= chunkBytes {
		x.flush()
	}
	return x.failed
}

// addRows notes the rows of the values that a record hides, as far as they are there.
func (x *extractor) addRows(r *Record) error {
	for _, d := range r.digestsIn() {
		n, ok, err := x.names.Reveal(d)
		if err != nil {
			return err
		}
		if ok {
			if x.rows == nil {
				x.rows = make(map[Digest]Name)
			}
			x.rows[d] = n
		}
	}
	return nil
}

// gap covers the records before end by their hashes.
func (x *extractor) gap(end int64) error {
	for b := range blocksOf(x.fold.pos, end) {
		h, err := x.hashes.hash(b)
		if err == nil {
			err = x.fold.add(b.level, h, true)
		}
		if err != nil {
			return err
		}
		x.proofs.Write(proofLine(b, h))
	}
	return nil
}

// proofLine is a line of a file of proofs: the first record of a block, its level, its hash.
func proofLine(b block, h tlog.Hash) []byte {
	return fmt.Appendf(nil, "%d %d %s\n", b.start, b.level, h)
}

// parseProofLine reads what proofLine wrote, without its end, and nothing else.
func parseProofLine(line string) (b block, h tlog.Hash, err error) {
	f := strings.Split(line, " ")
	if len(f) != 3 {
		return b, h, errors.New("not three fields")
	}
	if b.start, err = strconv.ParseInt(f[0], 10, 64); err != nil {
		return b, h, errors.New("no number of a record")
	}
	if b.level, err = strconv.Atoi(f[1]); err != nil {
		return b, h, errors.New("no level")
	}
	if raw, err := base64.StdEncoding.Strict().DecodeString(f[2]); err != nil || len(raw) != tlog.HashSize {
		return b, h, errors.New("no hash")
	} else {
		h = tlog.Hash(raw)
	}
	if string(proofLine(b, h)) != line+"\n" {
		return b, h, errNotCanonical
	}
	return b, h, nil
}

// flush writes the chunk.
func (x *extractor) flush() {
	x.file(proofsFile(x.chunk), x.proofs.Bytes())
	x.file(recordsFile(x.chunk), x.records.Bytes())
	if len(x.rows) > 0 {
		var names []byte
		for _, d := range slices.SortedFunc(maps.Keys(x.rows), func(a, b Digest) int { return bytes.Compare(a[:], b[:]) }) {
			names = appendNameLine(names, d, x.rows[d])
		}
		x.file(namesFile(x.chunk), names)
		x.rows = nil
	}
	x.proofs.Reset()
	x.records.Reset()
	x.chunk++
	x.count = 0
}

func (x *extractor) file(name string, data []byte) {
	head, err := bundleHeader(extractDir+name, int64(len(data)))
	if err != nil && x.failed == nil {
		x.failed = err
	}
	x.write(head)
	x.write(data)
	x.write(make([]byte, padding(int64(len(data)))))
}

func (x *extractor) write(b []byte) {
	if x.failed == nil {
		_, x.failed = x.w.Write(b)
	}
}
