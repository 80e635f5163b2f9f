package audit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/internal/mail"
)

// Part is what an extract holds of a log.
type Part struct {
	Filter      Filter // what was asked for; every record in the extract matches it
	Records     int64
	First, Last int64 // Seq of the first and the last; 0 if there is none
	// Whole says that the filter is by number alone and that every record that it wants is there. Else it is not proven
	// that none was left out.
	Whole bool
}

// openExtract opens the extract at path; nil if that is none.
func openExtract(path string) *extractSource {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	x := &extractSource{r: f, size: info.Size(), file: f}
	if name, _ := x.peek(); name != extractDir+keyFile {
		f.Close()
		return nil
	}
	return x
}

// extractSource reads an extract from its beginning to its end. As a source it gives key and checkpoint.
type extractSource struct {
	r      io.ReaderAt
	size   int64
	next   int64 // where the walk stands
	files  int
	file   io.Closer
	signed map[string][]byte
}

// peek is the name of the file that comes next, and its size; "" if none comes.
func (x *extractSource) peek() (name string, size int64) {
	head := make([]byte, bundleBlock)
	if _, err := x.r.ReadAt(head, x.next); err != nil {
		return "", 0
	}
	size, err := strconv.ParseInt(string(head[124:135]), 8, 64)
	if err != nil {
		return "", 0
	}
	name, _, _ = strings.Cut(string(head[:100]), "\x00")
	if want, err := bundleHeader(name, size); err != nil || !bytes.Equal(head, want) {
		return "", 0
	}
	return name, size
}

// take returns the file that must come next.
func (x *extractSource) take(name string, limit int64) ([]byte, error) {
	fault := func(reason string) error {
		return faultAt(name, "byte %d of the bundle: %s", x.next, reason)
	}
	next, size := x.peek()
	switch {
	case next != extractDir+name:
		return nil, fault("this file should begin here")
	case size > limit:
		return nil, faultAt(name, "is %d bytes long, more than the %d it can be", size, limit)
	case size+padding(size) > x.size-x.next-bundleBlock:
		return nil, fault("the bundle ends within this file")
	}
	data := make([]byte, size+padding(size))
	if _, err := x.r.ReadAt(data, x.next+bundleBlock); err != nil && len(data) > 0 {
		return nil, fault("cannot be read: " + err.Error())
	}
	if !allZero(data[size:]) {
		return nil, fault("the file is not followed by zeros")
	}
	x.next += bundleBlock + int64(len(data))
	x.files++
	return data[:size], nil
}

// end checks that nothing more comes.
func (x *extractSource) end() error {
	rest := make([]byte, 2*bundleBlock+1)
	n, err := x.r.ReadAt(rest, x.next)
	if err != nil && err != io.EOF {
		return faultAt("", "byte %d of the bundle: cannot be read: %v", x.next, err)
	}
	if n != 2*bundleBlock || !allZero(rest[:n]) {
		return faultAt("", "byte %d of the bundle: two blocks of zeros should end it here", x.next)
	}
	return nil
}

func (x *extractSource) read(name string, limit int64) ([]byte, error) {
	if b, ok := x.signed[name]; ok {
		return b, nil
	}
	b, err := x.take(name, limit)
	if err == nil {
		if x.signed == nil {
			x.signed = make(map[string][]byte)
		}
		x.signed[name] = b
	}
	return b, err
}

func (x *extractSource) hasCosigned() bool                { return false }
func (x *extractSource) exactly(int64) error              { return nil }
func (x *extractSource) release()                         {}
func (x *extractSource) close()                           { x.file.Close() }
func (x *extractSource) totals() (files int, bytes int64) { return x.files, x.size }

// verifyExtract is Verify of an extract.
func verifyExtract(ctx context.Context, x *extractSource, key note.Verifier, pubkey []byte, d Demand) (*Report, error) {
	v := &verifier{src: x, key: key}
	if err := v.checkKey(pubkey); err != nil {
		return nil, err
	}
	if err := v.checkpoint(); err != nil {
		return nil, err
	}
	if d.Need > 0 {
		return nil, &Fault{Record: -1, Reason: "an extract does not carry what witnesses have cosigned; take the log, or a bundle of all of it"}
	}
	if d.Since != nil {
		return nil, &Fault{Record: -1, Reason: "some records of a log cannot show that it continues an earlier checkpoint; take the log, or a bundle of all of it"}
	}
	b, err := x.take(filterFile, maxFilter)
	if err != nil {
		return nil, err
	}
	p := &partVerifier{x: x, n: v.tree.N, part: Part{First: -1}}
	if p.part.Filter, err = decodeFilter(b); err != nil {
		return nil, faultAt(filterFile, "%v", err)
	}
	r := &Report{Origin: key.Name(), Records: v.tree.N, Root: v.tree.Hash.String(), Since: -1, Part: &p.part, Cosigned: -1, FirstStep: -1}
	if err := p.chunks(ctx, r); err != nil {
		return nil, err
	}
	if root := p.fold.root(); p.fold.pos != v.tree.N || root != v.tree.Hash {
		return nil, faultAt(checkpointFile, "the records and hashes are not those that it covers")
	}
	if err := p.complete(); err != nil {
		return nil, err
	}
	r.Files, r.Bytes = x.totals()
	return r, nil
}

// partVerifier walks over the chunks of an extract.
type partVerifier struct {
	x       *extractSource
	n       int64 // records of the log
	fold    fold
	part    Part
	rows    *rowsOf // of the chunk
	scratch []byte
}

// names reads the names of a chunk, if it has any.
func (p *partVerifier) names(chunk int64) (*rowsOf, error) {
	name := namesFile(chunk)
	if next, _ := p.x.peek(); next != extractDir+name {
		return &rowsOf{}, nil
	}
	b, err := p.x.take(name, maxNames)
	if err != nil {
		return nil, err
	}
	rows, err := parseNames(b, nil)
	if err != nil {
		return nil, faultAt(name, "%v", err)
	}
	return &rowsOf{rows: rows, used: make(map[Digest]bool)}, nil
}

func (p *partVerifier) chunks(ctx context.Context, r *Report) error {
	for chunk := int64(0); ; chunk++ {
		if err := ctx.Err(); err != nil {
			return mail.E(mail.Unavailable, "", err)
		}
		proofs, err := p.x.take(proofsFile(chunk), maxProofs)
		if err != nil {
			return err
		}
		records, err := p.x.take(recordsFile(chunk), chunkBytes+maxRecord+1)
		if err != nil {
			return err
		}
		if p.rows, err = p.names(chunk); err != nil {
			return err
		}
		full, err := p.chunkOf(chunk, proofs, records, r)
		if err != nil {
			return err
		}
		if len(p.rows.used) != len(p.rows.rows) {
			return faultAt(namesFile(chunk), "has names that no record here refers to")
		}
		r.Names += int64(len(p.rows.rows))
		if name, _ := p.x.peek(); name != extractDir+proofsFile(chunk+1) {
			return p.x.end()
		}
		if !full {
			return faultAt(recordsFile(chunk), "ends too early")
		}
	}
}

// chunkOf checks one chunk, and says whether another may follow.
func (p *partVerifier) chunkOf(chunk int64, proofs, records []byte, r *Report) (full bool, err error) {
	if len(proofs) == 0 && len(records) == 0 && (chunk > 0 || p.n > 0) {
		return false, faultAt(proofsFile(chunk), "a chunk of nothing")
	}
	count, from := 0, len(records)
	for len(proofs) > 0 || len(records) > 0 {
		at := p.fold.pos
		if full {
			return false, &Fault{recordsFile(chunk), at, "the chunk goes on behind its end"}
		}
		if line, rest, ok := bytes.Cut(proofs, []byte("\n")); ok && bytes.HasPrefix(line, strconv.AppendInt(nil, at, 10)) && len(line) > 0 {
			if b, h, err := parseProofLine(string(line)); err != nil {
				return false, &Fault{proofsFile(chunk), at, err.Error()}
			} else if b.start == at {
				if err := p.hash(b, h); err != nil {
					return false, &Fault{proofsFile(chunk), at, err.Error()}
				}
				proofs = rest
				continue
			}
		}
		line, rest, ok := bytes.Cut(records, []byte("\n"))
		if !ok {
			return false, &Fault{recordsFile(chunk), at, "neither this record nor a hash in its place is there"}
		}
		if err := p.record(line, r); err != nil {
			return false, &Fault{recordsFile(chunk), at, err.Error()}
		}
		records = rest
		count++
		full = count == chunkRecords || from-len(records) >= chunkBytes
	}
	return full, nil
}

func (p *partVerifier) hash(b block, h tlog.Hash) error {
	if b.level < 0 || b.level > 48 || b.start+1<<b.level > p.n {
		return errBlocks
	}
	return p.fold.add(b.level, h, true)
}

func (p *partVerifier) record(raw []byte, r *Report) error {
	rec, scratch, err := decodeRecord(raw, p.scratch)
	p.scratch = scratch
	var shown Record
	if err == nil {
		shown, err = rec.revealed(p.rows)
	}
	switch {
	case err != nil:
		return err
	case rec.Seq != p.fold.pos:
		return fmt.Errorf("carries the number %d", rec.Seq)
	case rec.Seq >= p.n:
		return errBlocks
	case !p.part.Filter.matches(&shown):
		return fmt.Errorf("is not one that was asked for")
	}
	if p.part.Records == 0 {
		p.part.First, r.First = rec.Seq, rec.Time
	}
	p.part.Records++
	p.part.Last, r.Last = rec.Seq, rec.Time
	return p.fold.add(0, tlog.RecordHash(raw), false)
}

// complete says of an extract by number whether all is there.
func (p *partVerifier) complete() error {
	f := &p.part.Filter
	p.part.First = max(p.part.First, 0)
	end := f.End
	if end == 0 {
		end = p.n
	}
	if !f.all() {
		return nil
	}
	if want := max(end-f.First, 0); p.part.Records != want {
		return faultAt(filterFile, "asks for all %d records from %d on, and %d are here", want, f.First, p.part.Records)
	}
	p.part.Whole = true
	return nil
}
