package admin

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

const pathAuditExport = "/v1/audit/export"

// RoleAuditor may look after the audit log.
const RoleAuditor = "auditor"

// Export says what of the audit log is wanted, and how.
type Export struct {
	Filter audit.Filter `json:"filter"`
	Format audit.Format `json:"format"`
	Bundle bool         `json:"bundle"` // verifiable: the log itself, or what the filter wants of it; Format does not count
	// NoNames leaves the digests of personal data; otherwise it is shown, as far as it is still there.
	NoNames bool `json:"no-names"`
}

// ExportAudit writes what is wanted of the audit log, and calls progress now and then with how many records it has looked
// at. Whoever may use the socket may ask; who logs in must have the role auditor or admin, and is on record by name. That it was
// exported, and what, is on record before the first byte; the record itself is in the export.
func (s *Service) ExportAudit(ctx context.Context, who Caller, e Export, w io.Writer, progress func(done, total int64)) error {
	actor := ""
	if who.Name != "" {
		var err error
		if actor, err = s.authorize(ctx, who, RoleAuditor, RoleAdmin); err != nil {
			return err
		}
	}
	x := audit.Export{Filter: e.Filter, Format: e.Format, Syslog: s.o.Syslog, Progress: progress}
	if !e.NoNames {
		x.Names = s.o.Names
	}
	if err := x.Check(); err != nil {
		return err
	}
	if !e.Bundle && !slices.Contains(audit.Formats(), e.Format) {
		return mail.E(mail.Invalid, "the formats are jsonl, csv, cef and syslog", nil)
	}
	act, err := s.beginWith(ctx, audit.AuditExport, actor, "", who, e.detail())
	if err != nil {
		return err
	}
	if err := s.o.Audit.Flush(ctx); err != nil {
		return s.end(ctx, act, err)
	}
	if e.Bundle {
		err = x.Bundle(ctx, s.o.AuditDir, w)
	} else {
		err = x.Write(ctx, s.o.AuditDir, w)
	}
	return s.end(ctx, act, err)
}

// detail is what the record of an export says of it.
func (e *Export) detail() map[string]string {
	d := map[string]string{"format": string(e.Format)}
	if e.Bundle {
		d["format"] = "bundle"
	}
	if e.NoNames {
		d["names"] = "no"
	}
	for name, list := range map[string][]string{"actors": e.Filter.Actors, "types": e.Filter.Types, "objects": e.Filter.Objects, "outcomes": e.Filter.Outcomes} {
		d[name] = strings.Join(list, ", ")
	}
	if !e.Filter.From.IsZero() {
		d["from-time"] = e.Filter.From.UTC().String()
	}
	if !e.Filter.To.IsZero() {
		d["to-time"] = e.Filter.To.UTC().String()
	}
	maps.DeleteFunc(d, func(_, v string) bool { return v == "" })
	return d
}

// An export travels in frames, so that its progress can go along: an octet that says what it is, a big-endian uint32 of
// its length, its content.
const (
	frameData     = 'd'
	frameProgress = 'p' // two big-endian uint64: records done, and of how many
	frameFailure  = 'e' // the last: a failure in JSON
	maxFrame      = 1 << 20
)

// frames writes them.
type frames struct{ w io.Writer }

func (f frames) frame(kind byte, b []byte) error {
	head := binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(b)))
	_, err := f.w.Write(append(head, b...))
	return err
}

// Write writes data.
func (f frames) Write(b []byte) (n int, err error) {
	for chunk := range slices.Chunk(b, maxFrame) {
		if err := f.frame(frameData, chunk); err != nil {
			return n, err
		}
		n += len(chunk)
	}
	return n, nil
}

func (f frames) progress(done, total int64) {
	_ = f.frame(frameProgress, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(done)), uint64(total))) // data meets the same error
}

// readFrames takes apart what frames wrote.
func readFrames(r io.Reader, w io.Writer, progress func(done, total int64)) error {
	in := bufio.NewReaderSize(r, 64<<10)
	var head [5]byte
	var content []byte
	for {
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head[1:]))
		if n > maxFrame {
			return errFrame
		}
		content = slices.Grow(content[:0], n)[:n]
		if _, err := io.ReadFull(in, content); err != nil {
			return errors.Join(errFrame, err)
		}
		switch {
		case head[0] == frameData:
			if _, err := w.Write(content); err != nil {
				return err
			}
		case head[0] == frameProgress && n == 16:
			if progress != nil {
				progress(int64(binary.BigEndian.Uint64(content)), int64(binary.BigEndian.Uint64(content[8:])))
			}
		case head[0] == frameFailure:
			var f failure
			if err := json.Unmarshal(content, &f); err != nil {
				return errors.Join(errFrame, err)
			}
			return mail.E(f.Kind, f.Error, nil)
		default:
			return errFrame
		}
	}
}

var errFrame = errors.New("the daemon's answer is cut off or not understood")

func (s *Server) auditExport(w http.ResponseWriter, r *http.Request, who Caller) error {
	var e Export
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 4<<20))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return mail.E(mail.Invalid, "the request for an export is not understood", err)
	}
	f, flush := frames{w}, http.NewResponseController(w).Flush
	err := s.service.ExportAudit(r.Context(), who, e, f, func(done, total int64) {
		f.progress(done, total)
		_ = flush() // data meets the same error
	})
	if a, ok := w.(*answer); err == nil || !ok || !a.begun {
		return err
	}
	b, err := json.Marshal(failure{Kind: mail.KindOf(err), Error: text(err)})
	if err != nil {
		return err
	}
	return f.frame(frameFailure, b)
}

// ExportAudit is Service.ExportAudit.
func (c *Client) ExportAudit(ctx context.Context, e Export, w io.Writer, progress func(done, total int64)) error {
	b, err := json.Marshal(e)
	if err != nil {
		return err
	}
	return c.do(ctx, pathAuditExport, nil, strings.NewReader(string(b)), func(r io.Reader) error { return readFrames(r, w, progress) })
}
