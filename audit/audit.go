// Package audit keeps the platform's audit log: typed events in canonical JSON
// (RFC 8785), appended to a Merkle tree (RFC 6962) in the C2SP tlog-tiles layout
// under a signed C2SP checkpoint.
//
// An act is recorded before it is done and its outcome after. Begin and End return
// only when a signed checkpoint that covers the record is on stable storage; all
// callers that wait at the same time share one commit. Nothing in this package can
// shorten a log.
package audit

import (
	"context"
	"crypto"
	"io"
	"log/slog"
	"time"

	"cmmpd/internal/mail"
)

// Options of a Log. The zero value of every field but Origin has a default.
type Options struct {
	Origin   string           // the checkpoint's origin line and key name: no spaces, no plus; required
	Now      func() time.Time // the clock; it stamps records and never orders them
	Log      *slog.Logger     // the operator's log
	Queue    int              // notes that wait in memory at most; 0: 8,192
	Interval time.Duration    // notes wait this long for company (and folding) at most; 0: 1 s
}

// Event says who did what to what, from where, under which approval. Fields that are
// too long are cut, with a mark. Events hold no secrets and no message content.
type Event struct {
	Type     string            // one of the constants of this package
	Actor    string            // who: uid, or empty for the platform itself
	Subject  string            // the thing acted on
	Client   string            // from where: address, or "socket"
	Approval string            // the approval it is done under, if any
	Outcome  string            // "ok", or the kind of failure; Begin leaves it empty
	Detail   map[string]string // names of letters, digits, ".", "_", "-"
}

// Log is an audit log open for appending. Its methods may be used from several
// goroutines.
type Log struct{}

// Create makes a new, empty log in dir, which must not exist or be empty. It is there
// whole or not at all. Kind Exists if dir holds something.
func Create(dir string, key crypto.Signer, o Options) error {
	return mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Open opens the log in dir for appending and repairs what a crash left: a group of
// records that no published checkpoint covers is completed or removed. Anything that
// a crash cannot explain refuses, with kind Corrupt and a *Fault that names the place.
// Kind NotFound if there is no log, Busy if another process has it open.
func Open(dir string, key crypto.Signer, o Options) (*Log, error) {
	return nil, mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Act is an act whose beginning is on record.
type Act struct{}

// Begin records that an act is about to be done. Only when it returns without error
// may the act start.
func (l *Log) Begin(ctx context.Context, e Event) (*Act, error) {
	return nil, mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Detail adds to what End will record, for instance counts.
func (a *Act) Detail(name, value string) {}

// End records the outcome (nil: done). Only when it returns without error may the
// outcome be reported.
func (a *Act) End(ctx context.Context, outcome error) error {
	return mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Record records one complete event durably, for instance that something was viewed.
func (l *Log) Record(ctx context.Context, e Event) error {
	return mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Note records e soon, and never waits for the disk. Repeats of a log-in outcome are
// folded into one record with a count. What cannot be kept is counted in a gap event.
func (l *Log) Note(e Event) {}

// Flush returns when everything noted before is durable.
func (l *Log) Flush(ctx context.Context) error { return nil }

// Close flushes and closes.
func (l *Log) Close() error { return nil }

// Checkpoint is the latest signed checkpoint.
func (l *Log) Checkpoint() []byte { return nil }

// PublicKey is the content of audit.pub: the note verifier key and a line end.
func (l *Log) PublicKey() []byte { return nil }

// Ready is nil while the log can be written, else why it cannot.
func (l *Log) Ready() error { return nil }

// Format of an export.
type Format string

// The formats.
const (
	JSONL Format = "jsonl" // the records as they are in the log, one a line
	CSV   Format = "csv"   // RFC 4180, with a head line, safe for spreadsheets
	CEF   Format = "cef"   // ArcSight Common Event Format, one event a line
)

// Export writes the records of the log in dir, running or not, whose time is in
// [from, to); a zero time is no limit. Every record written has been checked against
// the checkpoint. The error is a *Fault if the log is bad.
func Export(ctx context.Context, dir string, w io.Writer, f Format, from, to time.Time) error {
	return mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Bundle writes the whole log in dir as one file, which Verify takes.
func Bundle(ctx context.Context, dir string, w io.Writer) error {
	return mail.E(mail.Unsupported, "the audit log is not ready", nil)
}

// Report is what Verify found.
type Report struct {
	Origin      string
	Records     int64
	Root        string // base64, as in the checkpoint
	First, Last time.Time
	Files       int
	Bytes       int64
	Since       int64 // records that the checkpoint given covers, -1 if none was given
}

// Fault is what is wrong with a log, and where.
type Fault struct {
	File   string // within the log, "" if it is none in particular
	Record int64  // the number of the record, -1 if it is none in particular
	Reason string
}

func (f *Fault) Error() string { return f.Reason }

// Verify checks every byte of the log at path, an audit directory (running or copied)
// or a bundle, against pubkey (the content of audit.pub as it was handed over) and, if
// since is not nil, that it continues the log of that checkpoint. The error is
// ErrCannotOpen if there is nothing to open at path, else a *Fault.
func Verify(ctx context.Context, path string, pubkey, since []byte) (*Report, error) {
	return nil, mail.E(mail.Unsupported, "the audit log is not ready", nil)
}
