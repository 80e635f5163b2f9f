package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cmmpd/audit"
	"cmmpd/internal/admin"
)

// auditExport is "cmmpd audit export".
func auditExport(args []string) error {
	fs := newFlags("audit export", "--config FILE [--format jsonl|csv|cef|syslog] [--bundle] [--from T] [--to T] [--actor A] [--type T] [--object O] [--outcome O] [--no-names] [--user UID --password-file FILE] > FILE")
	var e admin.Export
	format := fs.String("format", "jsonl", "`format` of the records: jsonl, csv, cef or syslog (RFC 5424, one message a line)")
	fs.BoolVar(&e.Bundle, "bundle", false, "write one file that \"audit verify\" takes: the whole log, or the records asked for with their proofs")
	from := fs.String("from", "", "only records of this `time` (RFC 3339) or later")
	to := fs.String("to", "", "only records before this `time`")
	fs.patterns("actor", &e.Filter.Actors, "only records of this `actor`; may be given several times; an asterisk at the end takes all that begin so")
	fs.patterns("type", &e.Filter.Types, "only records of this `type`; key. takes all that begin so")
	fs.patterns("object", &e.Filter.Objects, "only records about this `object`: their subject")
	fs.patterns("outcome", &e.Filter.Outcomes, "only records with this `outcome`, such as ok, or a kind of failure such as refused")
	fs.BoolVar(&e.NoNames, "no-names", false, "leave personal data as digests, even where it has not been erased")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		e.Format = audit.Format(*format)
		if !slices.Contains(audit.Formats(), e.Format) {
			return usageError{fmt.Errorf("--format %s is none of jsonl, csv, cef, syslog", *format)}
		}
		if e.Bundle && fs.given("format") {
			return usageError{errors.New("a bundle has a form of its own: --format does not go with --bundle")}
		}
		var err error
		if e.Filter.From, err = timeFlag("--from", *from); err != nil {
			return err
		}
		if e.Filter.To, err = timeFlag("--to", *to); err != nil {
			return err
		}
		if err := e.Filter.Check(); err != nil {
			return usageError{err}
		}
		p := newProgress(os.Stderr)
		err = op.exportAudit(ctx, e, os.Stdout, p.show)
		p.end()
		if ctx.Err() != nil {
			return errors.New("interrupted; what was written is not complete")
		}
		return err
	})
}

// patterns is a flag that may be given several times.
func (f flags) patterns(name string, to *[]string, usage string) {
	f.Func(name, usage, func(s string) error {
		if s == "" {
			return errors.New("must not be empty")
		}
		*to = append(*to, s)
		return nil
	})
}

// given says whether a flag was given.
func (f flags) given(name string) (yes bool) {
	f.Visit(func(g *flag.Flag) { yes = yes || g.Name == name })
	return yes
}

// timeFlag reads a time or a date.
func timeFlag(name, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, usageError{fmt.Errorf("%s %q is neither a time such as 2026-11-22T08:00:00Z nor a date", name, s)}
}

// progress shows on a terminal how far an export is; elsewhere nothing.
type progress struct {
	w           io.Writer // nil: nowhere
	begin, last time.Time
	now         func() time.Time
}

func newProgress(f *os.File) *progress {
	p := &progress{now: time.Now}
	if _, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS); err == nil {
		p.w = f
	}
	return p
}

// show is for admin.Service.ExportAudit. It writes four times a second at most.
func (p *progress) show(done, total int64) {
	if p.w == nil {
		return
	}
	now := p.now()
	if p.begin.IsZero() {
		p.begin = now
	}
	if now.Sub(p.last) < 250*time.Millisecond && done < total {
		return
	}
	p.last = now
	rate := int64(0)
	if took := now.Sub(p.begin).Seconds(); took > 0 {
		rate = int64(float64(done) / took)
	}
	fmt.Fprintf(p.w, "\r%d of %d records, %d/s \x1b[K", done, total, rate)
}

// end leaves the line.
func (p *progress) end() {
	if p.w != nil && !p.last.IsZero() {
		fmt.Fprintln(p.w)
	}
}

// partText says what was found of an extract, and what not.
func partText(r *audit.Report) string {
	p := r.Part
	names := ""
	if r.Names > 0 {
		names = fmt.Sprintf("; %d names came along, each that of its digest", r.Names)
	}
	text := fmt.Sprintf("good: %s, %d records of %d, each proven to be in the log, root %s", r.Origin, p.Records, r.Records, r.Root)
	if p.Records > 0 {
		text += fmt.Sprintf(", numbers %d to %d, from %s to %s", p.First, p.Last, r.First.Format(time.RFC3339), r.Last.Format(time.RFC3339))
	}
	if p.Whole {
		return text + "; none between these numbers was left out" + names
	}
	return text + "; asked for were " + filterText(p.Filter) + "; that none of these was left out is not proven" + names
}

// filterText says in words what a filter wants.
func filterText(f audit.Filter) string {
	var parts []string
	list := func(what string, patterns []string) {
		if len(patterns) > 0 {
			parts = append(parts, fmt.Sprintf("%s %q", what, patterns))
		}
	}
	list("actor", f.Actors)
	list("type", f.Types)
	list("object", f.Objects)
	list("outcome", f.Outcomes)
	if !f.From.IsZero() {
		parts = append(parts, "from "+f.From.Format(time.RFC3339))
	}
	if !f.To.IsZero() {
		parts = append(parts, "before "+f.To.Format(time.RFC3339))
	}
	if f.First > 0 {
		parts = append(parts, fmt.Sprintf("number %d on", f.First))
	}
	if f.End > 0 {
		parts = append(parts, fmt.Sprintf("before number %d", f.End))
	}
	return "records of " + strings.Join(parts, ", ")
}
