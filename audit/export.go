package audit

import (
	"bufio"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"time"

	"cmmpd/internal/mail"
)

// Format of an export.
type Format string

// The formats.
const (
	JSONL Format = "jsonl" // the records as they are in the log, one a line
	CSV   Format = "csv"   // RFC 4180, with a head line, safe to open in a spreadsheet
	CEF   Format = "cef"   // ArcSight Common Event Format, one event a line
)

// Export writes the records of the log in dir, running or not, whose time is in
// [from, to); a zero time is no limit. Every record is checked against the checkpoint
// before it is written, with the log's own key: who must not trust that, verifies. The
// error is a *Fault if the log is bad; what was written before is good.
func Export(ctx context.Context, dir string, w io.Writer, f Format, from, to time.Time) error {
	out := bufio.NewWriterSize(w, 1<<16)
	write, end := writerOf(f, out)
	if write == nil {
		return mail.E(mail.Invalid, "the formats are jsonl, csv and cef", nil)
	}
	v, err := openForReading(ctx, dir)
	if err != nil {
		return err
	}
	defer v.src.close()
	v.each = func(r *Record, raw []byte) error {
		if !from.IsZero() && r.Time.Before(from) || !to.IsZero() && !r.Time.Before(to) {
			return nil
		}
		return write(r, raw)
	}
	bad := v.check(ctx, 0)
	if err := end(); err != nil && bad == nil {
		bad = fmt.Errorf("writing the export: %w", err)
	}
	if err := out.Flush(); err != nil && bad == nil {
		bad = fmt.Errorf("writing the export: %w", err)
	}
	return bad
}

// openForReading opens the log in dir with its own key, and lets its writer go on.
func openForReading(ctx context.Context, dir string) (*verifier, error) {
	src, err := openDir(ctx, dir)
	if err != nil {
		return nil, err
	}
	v, err := readTail(src)
	if err != nil {
		src.close()
		return nil, err
	}
	src.release()
	return v, nil
}

// readTail reads everything that a running log will replace.
func readTail(src *dirSource) (*verifier, error) {
	pub, err := src.read(keyFile, 4096)
	if err != nil {
		return nil, err
	}
	key, canonical, err := parseKey(pub)
	if err != nil {
		return nil, faultAt(keyFile, "is not a verifier key: %v", err)
	}
	v := &verifier{src: src, key: key}
	for _, step := range []func() error{
		func() error { return v.checkKey(canonical) },
		v.checkpoint,
		func() error { return src.exactly(v.tree.N) },
		v.loadTail,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v, nil
}

// writerOf returns what writes one record in a format, and what ends the export.
func writerOf(f Format, w *bufio.Writer) (write func(*Record, []byte) error, end func() error) {
	none := func() error { return nil }
	switch f {
	case JSONL:
		return func(_ *Record, raw []byte) error {
			w.Write(raw) // bufio keeps the first error for Flush
			return w.WriteByte('\n')
		}, none
	case CEF:
		return func(r *Record, _ []byte) error {
			_, err := w.WriteString(cefLine(r) + "\n")
			return err
		}, none
	case CSV:
		c := csv.NewWriter(w)
		c.UseCRLF = true
		head := c.Write(csvHead())
		return func(r *Record, _ []byte) error { return c.Write(csvRow(r)) },
			func() error { c.Flush(); return errors.Join(head, c.Error()) }
	}
	return nil, nil
}
