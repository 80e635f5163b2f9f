// Package scheduled exports the audit log by itself: every day, week or month what has been recorded since the last time,
// as files in a folder. The names of the files say which records they have; between files there is no gap. Nothing here
// removes one.
package scheduled

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

// Every is how often.
type Every string

// The spans. A week begins on Monday.
const (
	Daily   Every = "daily"
	Weekly  Every = "weekly"
	Monthly Every = "monthly"
)

// Options of a Schedule.
type Options struct {
	Log    *audit.Log
	Dir    string        // the log's folder
	Every  Every         // in UTC
	At     time.Duration // since midnight
	Dest   string        // the folder of the files
	Cursor string        // the file that says how far it has come
	Export audit.Export  // filter and names; a Format besides the bundle, or none; First and End are set here
	Logger *slog.Logger
	Now    func() time.Time
	Retry  time.Duration // after a failure; 0: 10 min
}

// Schedule is one schedule.
type Schedule struct {
	o Options

	mu      sync.Mutex // guards the rest
	at      position
	trouble error
}

// position is how far a schedule has come: the next record, and when it was last due.
type position struct {
	next int64
	due  time.Time
}

const positionHead = "cmmpd audit export 1\n"

func (p position) text() []byte {
	return fmt.Appendf([]byte(positionHead), "%d %s\n", p.next, p.due.UTC().Format(time.RFC3339))
}

func parsePosition(b []byte) (p position, err error) {
	rest, ok := bytes.CutPrefix(b, []byte(positionHead))
	number, due, _ := strings.Cut(strings.TrimSuffix(string(rest), "\n"), " ")
	p.next, err = strconv.ParseInt(number, 10, 64)
	if err == nil {
		p.due, err = time.Parse(time.RFC3339, due)
	}
	if !ok || err != nil || p.next < 0 || !bytes.Equal(p.text(), b) {
		return position{}, errors.New("does not say how far the exports have come")
	}
	return p, nil
}

// New reads how far the exports have come. Without a file they begin with the first record, at once.
func New(o Options) (*Schedule, error) {
	if o.Retry <= 0 {
		o.Retry = 10 * time.Minute
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if err := o.Export.Check(); err != nil {
		return nil, err
	}
	s := &Schedule{o: o}
	b, err := durable.ReadFile(durable.OS{}, o.Cursor, 4096)
	if err == nil {
		if s.at, err = parsePosition(b); err != nil {
			return nil, fmt.Errorf("%s: %w", o.Cursor, err)
		}
		return s, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return s, nil
}

// due is the last time before or at t at which an export is due.
func (o *Options) due(t time.Time) time.Time {
	t = t.UTC()
	day := time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC)
	back := func() { day = day.AddDate(0, 0, -1) }
	switch o.Every {
	case Weekly:
		day = day.AddDate(0, 0, -(int(day.Weekday())+6)%7)
		back = func() { day = day.AddDate(0, 0, -7) }
	case Monthly:
		day = day.AddDate(0, 0, 1-day.Day())
		back = func() { day = day.AddDate(0, -1, 0) }
	}
	for day.Add(o.At).After(t) {
		back()
	}
	return day.Add(o.At)
}

// Trouble is why the last export failed; nil if it did not.
func (s *Schedule) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

// Run exports when it is due, until ctx is done. What was missed is made up for at once, in one export.
func (s *Schedule) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := time.Minute // the clock may be set
		now := s.o.Now()
		if due, ok := s.wanted(now); ok {
			err := s.Export(ctx, due)
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				s.o.Logger.Error("audit: the scheduled export failed", "err", err)
				wait = s.o.Retry
			}
			s.mu.Lock()
			s.trouble = err
			s.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// wanted says whether an export is to be made now, and for when it was due. An export of a time to come was made while the clock was ahead: it counts
// for nothing.
func (s *Schedule) wanted(now time.Time) (due time.Time, ok bool) {
	due, last := s.o.due(now), s.position().due
	return due, last.Before(due) || last.After(now)
}

func (s *Schedule) position() position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.at
}

// Export exports what is new now, for when it was due. That it does is on record before, and the outcome after.
func (s *Schedule) Export(ctx context.Context, due time.Time) error {
	if err := s.adopt(ctx); err != nil {
		return err
	}
	if err := s.o.Log.Flush(ctx); err != nil {
		return err
	}
	at := s.position()
	end := s.o.Log.Size()
	if end < at.next {
		return fmt.Errorf("the log has %d records, and %d were exported: it is another log", end, at.next)
	}
	name := fileName(at.next, end-1)
	act, err := s.o.Log.Begin(ctx, audit.Event{
		Type: audit.AuditExport, Subject: filepath.Join(filepath.Base(s.o.Dest), name), Client: "schedule",
		Detail: map[string]string{"every": string(s.o.Every), "first": strconv.FormatInt(at.next, 10), "last": strconv.FormatInt(end-1, 10), "format": strings.TrimSpace("bundle " + string(s.o.Export.Format))},
	})
	if err != nil {
		return err
	}
	if end > at.next {
		err = s.write(ctx, name, at.next, end)
	}
	if err == nil {
		err = s.move(position{end, due})
	}
	if ended := act.End(context.WithoutCancel(ctx), err); ended != nil {
		err = errors.Join(err, ended)
	}
	return err
}

// write writes the files: the bundle last, for it says that all is there.
func (s *Schedule) write(ctx context.Context, name string, first, end int64) error {
	e := s.o.Export
	e.First, e.End = first, end
	if e.Format != "" {
		if err := s.file(name+"."+string(e.Format), func(w io.Writer) error { return e.Write(ctx, s.o.Dir, w) }); err != nil {
			return err
		}
	}
	return s.file(name+bundleSuffix, func(w io.Writer) error { return e.Extract(ctx, s.o.Dir, w) })
}

const bundleSuffix = ".tar"

// fileName is the name of the files that have the records from first to last.
func fileName(first, last int64) string { return fmt.Sprintf("audit-%015d-%015d", first, last) }

// file writes one file, which has its name only when it is whole and durable.
func (s *Schedule) file(name string, write func(io.Writer) error) (err error) {
	path := filepath.Join(s.o.Dest, name)
	f, err := os.OpenFile(path+durable.TempSuffix, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+durable.TempSuffix))
	}
	if err := os.Rename(path+durable.TempSuffix, path); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(s.o.Dest)
}

// adopt counts a file as exported whose writing was done when the daemon ended, before that was noted.
func (s *Schedule) adopt(ctx context.Context) error {
	at := s.position()
	prefix := fmt.Sprintf("audit-%015d-", at.next)
	names, err := filepath.Glob(filepath.Join(s.o.Dest, prefix+"*"+bundleSuffix))
	if err != nil || len(names) == 0 {
		return err
	}
	last, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(filepath.Base(names[0]), prefix), bundleSuffix), 10, 64)
	if err != nil || len(names) > 1 || last < at.next {
		return mail.E(mail.Corrupt, "", fmt.Errorf("%s has files that cannot be: %v", s.o.Dest, names))
	}
	r, err := audit.Verify(ctx, names[0], s.o.Log.PublicKey(), nil)
	if err == nil && (r.Part == nil || r.Part.Filter.First != at.next || r.Part.Filter.End != last+1) {
		err = errors.New("it has other records")
	}
	if err != nil {
		return mail.E(mail.Corrupt, "", fmt.Errorf("%s is no export of ours, take it away: %w", names[0], err))
	}
	return s.move(position{last + 1, at.due})
}

// move notes durably how far it has come.
func (s *Schedule) move(p position) error {
	if err := durable.WriteFile(durable.OS{}, s.o.Cursor, p.text(), 0o600); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.at = p
	return nil
}
