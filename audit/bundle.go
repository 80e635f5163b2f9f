package audit

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"

	"cmmpd/internal/mail"
)

// A bundle is a POSIX tar archive (ustar) that can be written in one way only: the
// files in the order of bundleFiles, each below bundleDir, mode 0444, owner 0, time 0, then
// two blocks of zeros and nothing more. Unpacked with any tar it is a copy of the log.
const (
	bundleDir   = "audit/"
	bundleBlock = 512
)

// bundleHeader is the one header block of a file.
func bundleHeader(path string, size int64) ([]byte, error) {
	var b bytes.Buffer
	err := tar.NewWriter(&b).WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o444, Format: tar.FormatUSTAR,
	})
	return b.Bytes(), err
}

// padding is how many zeros follow a file of size bytes.
func padding(size int64) int64 { return (bundleBlock - size%bundleBlock) % bundleBlock }

// Bundle writes the whole log in dir, running or not, as one file, which Verify takes.
// The records are not checked: whoever gets the bundle does that.
func Bundle(ctx context.Context, dir string, w io.Writer) error {
	return bundleTo(ctx, dir, w, nil, func(int64, int64) {})
}

// Bundle writes the log as one file: all of it, or, if the filter leaves anything out, an extract.
func (e Export) Bundle(ctx context.Context, dir string, w io.Writer) error {
	if !e.all() || e.First > 0 || e.End > 0 {
		return e.Extract(ctx, dir, w)
	}
	progress := e.Progress
	if progress == nil {
		progress = func(int64, int64) {}
	}
	return bundleTo(ctx, dir, w, e.Names, progress)
}

func bundleTo(ctx context.Context, dir string, w io.Writer, names Names, progress func(done, total int64)) error {
	v, err := openForReading(ctx, dir)
	if err != nil {
		return err
	}
	defer v.src.close()
	for name := range bundleFiles(v.tree.N, v.src.hasCosigned()) {
		if err := ctx.Err(); err != nil {
			return mail.E(mail.Unavailable, "", err)
		}
		if t, ok := parseTileName(name); ok && t.L == entries {
			progress(t.N<<tileHeight, v.tree.N)
		}
		data, err := v.src.read(name, maxBundle)
		if err != nil {
			return err
		}
		if err := writeBundled(w, bundleDir+name, data); err != nil {
			return err
		}
	}
	if names != nil {
		if err := bundleNames(ctx, w, names); err != nil {
			return err
		}
	}
	if _, err := w.Write(make([]byte, 2*bundleBlock)); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	progress(v.tree.N, v.tree.N)
	return nil
}

func writeBundled(w io.Writer, path string, data []byte) error {
	head, err := bundleHeader(path, int64(len(data)))
	if err != nil {
		return err
	}
	pad := make([]byte, padding(int64(len(data))))
	if _, err := w.Write(bytes.Join([][]byte{head, data, pad}, nil)); err != nil {
		return fmt.Errorf("writing the bundle: %w", err)
	}
	return nil
}

// The rows of a table of names lie beside the log in the archive, so many in a file.
const (
	bundledNames = "audit-names/"
	namesPerFile = 512
)

func bundledNamesFile(n int64) string { return fmt.Sprintf("%s%09d.jsonl", bundledNames, n) }

func bundleNames(ctx context.Context, w io.Writer, names Names) error {
	var lines []byte
	var rows, files int64
	flush := func() error {
		if rows == 0 {
			return nil
		}
		err := writeBundled(w, bundledNamesFile(files), lines)
		lines, rows, files = lines[:0], 0, files+1
		return err
	}
	err := names.All(func(n Name) error {
		lines = appendNameLine(lines, n.Digest(), n)
		if rows++; rows < namesPerFile {
			return ctx.Err()
		}
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// bundleSource is a log in a bundle.
type bundleSource struct {
	r     io.ReaderAt
	size  int64
	next  int64 // where the walk stands
	where map[string]span
	names int64 // rows of the table of names
	file  io.Closer
}

// span is where a file's bytes are in the bundle.
type span struct{ start, size int64 }

func openBundle(path string) (*bundleSource, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCannotOpen, err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", ErrCannotOpen, err)
	}
	b, err := newBundle(f, info.Size(), f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return b, nil
}

// newBundle walks over the first files, without which nothing more can be expected.
func newBundle(r io.ReaderAt, size int64, c io.Closer) (*bundleSource, error) {
	b := &bundleSource{r: r, size: size, where: make(map[string]span), file: c}
	for _, name := range []string{keyFile, checkpointFile} {
		if err := b.step(bundleDir, name); err != nil {
			return nil, err
		}
	}
	if head := make([]byte, len(bundleDir+cosignedFile)); size-b.next >= bundleBlock {
		if _, err := r.ReadAt(head, b.next); err == nil && string(head) == bundleDir+cosignedFile {
			return b, b.step(bundleDir, cosignedFile)
		}
	}
	return b, nil
}

// bundleFiles are the files in a bundle, in their order.
func bundleFiles(size int64, cosigned bool) iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range filesOf(size) {
			if !yield(name) || name == checkpointFile && cosigned && !yield(cosignedFile) {
				return
			}
		}
	}
}

func (b *bundleSource) hasCosigned() bool {
	_, ok := b.where[cosignedFile]
	return ok
}

// step walks over the header, the bytes and the padding of the file that must come
// next.
func (b *bundleSource) step(dir, name string) error {
	fault := func(format string, args ...any) error {
		return faultAt(name, "byte %d of the bundle: "+format, append([]any{b.next}, args...)...)
	}
	if b.size-b.next < bundleBlock {
		return fault("the bundle ends where this file should begin")
	}
	head := make([]byte, bundleBlock)
	if _, err := b.r.ReadAt(head, b.next); err != nil {
		return fault("cannot be read: %v", err)
	}
	// The size is 11 octal digits at 124 (POSIX ustar); the comparison checks all the rest.
	size, err := strconv.ParseInt(string(head[124:135]), 8, 64)
	if err != nil {
		return fault("this is not the header of this file")
	}
	want, err := bundleHeader(dir+name, size)
	if err != nil || !bytes.Equal(head, want) {
		return fault("this is not the header of this file")
	}
	pad := make([]byte, padding(size))
	if size > b.size-b.next-bundleBlock-int64(len(pad)) {
		return fault("the bundle ends within this file")
	}
	start := b.next + bundleBlock
	if _, err := b.r.ReadAt(pad, start+size); err != nil && len(pad) > 0 {
		return fault("cannot be read: %v", err)
	}
	if !allZero(pad) {
		return fault("the file is not followed by zeros")
	}
	b.where[name] = span{start, size}
	b.next = start + size + int64(len(pad))
	return nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

func (b *bundleSource) exactly(size int64) error {
	for name := range filesOf(size) {
		if _, seen := b.where[name]; seen {
			continue
		}
		if err := b.step(bundleDir, name); err != nil {
			return err
		}
	}
	if err := b.readNames(); err != nil {
		return err
	}
	end := make([]byte, 2*bundleBlock+1)
	n, err := b.r.ReadAt(end, b.next)
	if err != nil && err != io.EOF {
		return faultAt("", "byte %d of the bundle: cannot be read: %v", b.next, err)
	}
	if n != 2*bundleBlock || !allZero(end[:n]) {
		return faultAt("", "byte %d of the bundle: two blocks of zeros should end it here", b.next)
	}
	return nil
}

// readNames checks the files of names, if the bundle has any.
func (b *bundleSource) readNames() error {
	var after *Digest
	for file, full := int64(0), true; ; file++ {
		name := bundledNamesFile(file)
		head := make([]byte, len(name)+1)
		if _, err := b.r.ReadAt(head, b.next); err != nil || string(head) != name+"\x00" {
			return nil // what stands here instead is judged by the caller
		}
		if !full {
			return faultAt(bundledNamesFile(file-1), "ends too early")
		}
		if err := b.step("", name); err != nil {
			return err
		}
		data, err := b.read(name, maxNames)
		if err != nil {
			return err
		}
		rows, err := parseNames(data, after)
		if err != nil || len(rows) > namesPerFile {
			return faultAt(name, "is not a file of names: %v", err)
		}
		for d := range rows {
			if after == nil || bytes.Compare(d[:], after[:]) > 0 {
				after = &d
			}
		}
		full = len(rows) == namesPerFile
		b.names += int64(len(rows))
	}
}

func (b *bundleSource) read(name string, limit int64) ([]byte, error) {
	at, ok := b.where[name]
	if !ok {
		return nil, faultAt(name, "is missing")
	}
	if at.size > limit {
		return nil, faultAt(name, "is %d bytes long, more than the %d it can be", at.size, limit)
	}
	data := make([]byte, at.size)
	if _, err := b.r.ReadAt(data, at.start); err != nil && len(data) > 0 {
		return nil, faultOf(name, err)
	}
	return data, nil
}

func (b *bundleSource) release() {}

func (b *bundleSource) close() { b.file.Close() }

func (b *bundleSource) totals() (files int, bytes int64) { return len(b.where), b.size }
