package audit

import (
	"bufio"
	"context"
	"fmt"
	"io"

	"cmmpd/internal/mail"
)

// Format of an export.
type Format string

// The formats.
const (
	JSONL      Format = "jsonl"  // JSON, one record a line; without Names the records as they are in the log
	CSV        Format = "csv"    // RFC 4180, with a head line, safe to open in a spreadsheet
	CEF        Format = "cef"    // ArcSight Common Event Format, one event a line
	SyslogText Format = "syslog" // RFC 5424, one message a line
)

// Formats are all of them.
func Formats() []Format { return []Format{JSONL, CSV, CEF, SyslogText} }

// Export says what is to be exported, and how.
type Export struct {
	Filter
	Format   Format
	Syslog   Syslog                  // for SyslogText
	Names    Names                   // shows the values that it has instead of their digests, to the filter, too; nil: digests
	Progress func(done, total int64) // called now and then with how many records have been looked at; may be nil
}

// progressEvery is how many records are looked at between two calls of Progress.
const progressEvery = 1 << 14

// Write writes the records of the log in dir, running or not, that the filter wants. Every record is checked against the
// checkpoint before it is written, with the log's own key: who must not trust that, verifies. Memory does not grow with
// the log. The error is a *Fault if the log is bad; what was written before is good.
func (e Export) Write(ctx context.Context, dir string, w io.Writer) error {
	encode, err := e.encoder()
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(w, 1<<16)
	if e.Format == CSV {
		_, _ = out.WriteString(csvHead) // bufio keeps the first error for Flush
	}
	var line []byte
	err = e.walk(ctx, dir, func(_, shown *Record, raw []byte) error {
		line = encode(line[:0], shown, raw)
		_, err := out.Write(line)
		return err
	})
	if flushed := out.Flush(); flushed != nil && err == nil {
		err = flushed
	}
	return err
}

// visit is given a record, the record as it is shown, and the former's text.
type visit func(r, shown *Record, raw []byte) error

// walk calls f for every record that is wanted.
func (e *Export) walk(ctx context.Context, dir string, f visit) error {
	v, err := openForReading(ctx, dir)
	if err != nil {
		return err
	}
	defer v.src.close()
	return e.walkOver(ctx, v, f)
}

func (e *Export) walkOver(ctx context.Context, v *verifier, f visit) error {
	progress := e.Progress
	if progress == nil {
		progress = func(int64, int64) {}
	}
	v.each = func(r *Record, raw []byte) error {
		if r.Seq%progressEvery == 0 {
			progress(r.Seq, v.tree.N)
		}
		shown, err := r.revealed(e.Names)
		if err != nil {
			return fmt.Errorf("the table of names: %w", err)
		}
		if !e.matches(&shown) {
			return nil
		}
		if err := f(r, &shown, raw); err != nil {
			return fmt.Errorf("writing the export: %w", err)
		}
		return nil
	}
	if err := v.check(ctx, min(e.First, v.tree.N)); err != nil {
		return err
	}
	progress(v.tree.N, v.tree.N)
	return nil
}

// encoder returns what appends one record in the format, end of line included.
func (e *Export) encoder() (func(b []byte, r *Record, raw []byte) []byte, error) {
	if err := e.Check(); err != nil {
		return nil, err
	}
	switch e.Format {
	case JSONL:
		return func(b []byte, shown *Record, raw []byte) []byte {
			if e.Names != nil && shown.Version >= hidingVersion {
				return append(appendRecord(b, shown), '\n')
			}
			return append(append(b, raw...), '\n')
		}, nil
	case CSV:
		return func(b []byte, r *Record, _ []byte) []byte { return appendCSV(b, r) }, nil
	case CEF:
		return func(b []byte, r *Record, _ []byte) []byte { return appendCEF(b, r) }, nil
	case SyslogText:
		s := e.Syslog
		return func(b []byte, r *Record, _ []byte) []byte { return append(s.Append(b, r), '\n') }, s.Check()
	}
	return nil, mail.E(mail.Invalid, "the formats are jsonl, csv, cef and syslog", nil)
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
		func() error { _, err := v.readCosigned(); return err },
		func() error { return src.exactly(v.tree.N) },
		v.loadTail,
	} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	return v, nil
}
