package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

func exported(t *testing.T, dir string, e Export) string {
	t.Helper()
	var b bytes.Buffer
	if err := e.Write(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// exportLog has a begun and ended act, a fold, and texts that mean harm.
func exportLog(t *testing.T) string {
	t.Helper()
	l, dir := newLog(t, testOptions())
	a, err := l.Begin(context.Background(), Event{
		Type: DirectoryImport, Actor: "=cmd|'/c calc'!A1", Subject: "a|b=c\\d\r\ne\x00\u2028f",
		Client: "socket", Approval: "A-1", Detail: map[string]string{"k": "v=1|2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.End(context.Background(), mail.E(mail.Refused, "no", nil)); err != nil {
		t.Fatal(err)
	}
	l.Note(Event{Type: AuthLogin, Actor: "+alice", Client: "192.0.2.1:5", Outcome: "ok"})
	l.Note(Event{Type: AuthLogin, Actor: "+alice", Client: "192.0.2.1:6", Outcome: "ok"})
	mustFlush(t, l)
	return dir
}

func TestExportCSV(t *testing.T) {
	out := exported(t, exportLog(t), Export{Format: CSV})
	if !strings.HasPrefix(out, "seq,time,type,phase,act,actor,") || strings.Count(out, "\r\n") != 4 || strings.Count(out, "\n") != 4 {
		t.Errorf("%q", out)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if rows[1][5] != "'=cmd|'/c calc'!A1" || rows[3][5] != "'+alice" || rows[2][4] != "0" || rows[2][9] != "refused: no" ||
		rows[1][12] != `{"k":"v=1|2"}` || rows[3][10] != "2" || rows[3][7] != "192.0.2.1" || rows[1][6] != "a|b=c\\d␍␊e␀\ufffdf" {
		t.Errorf("%q", rows)
	}
}

func TestExportCEF(t *testing.T) {
	out := exported(t, exportLog(t), Export{Format: CEF})
	const want = `CEF:0|cmmpd|cmmpd|1|directory.import|directory.import begin|5|externalId=0 rt=1795341601123 ` +
		`suser=\=cmd|'/c calc'!A1 duser=a|b\=c\\d\r\ne␀` + "\ufffd" + `f shost=socket cs1Label=approval cs1=A-1 cs2Label=detail cs2={"k":"v\=1|2"}` + "\n"
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if !strings.Contains(out, "|6|") || !strings.Contains(out, "cnt=2 ") || !strings.Contains(out, "cn1Label=act cn1=0") {
		t.Errorf("%s", out)
	}
}

func TestExportSyslog(t *testing.T) {
	out := exported(t, exportLog(t), Export{Format: SyslogText, Syslog: Syslog{Host: "mail.gov.example", Facility: 10, Enterprise: "32473.1"}})
	const want = `<85>1 2026-11-22T10:00:01.123456Z mail.gov.example cmmpd - directory.import ` +
		`[audit@32473.1 seq="0" time="2026-11-22T10:00:01.123456789Z" type="directory.import" phase="begin" actor="=cmd|'/c calc'!A1" ` +
		`subject="a|b=c\\d␍␊e␀` + "\ufffd" + `f" client="socket" approval="A-1"][detail@32473.1 k="v=1|2"] directory.import begin` + "\n"
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if !strings.Contains(out, `\n<84>1 `) && !strings.Contains(out, "\n<84>1 ") || !strings.Contains(out, ` count="2" last="`) || !strings.Contains(out, ` phase="end" act="0"`) {
		t.Errorf("%s", out)
	}
	for _, bad := range []Syslog{{Host: "a b"}, {Host: "é"}, {App: strings.Repeat("x", 49)}, {Facility: 24}, {Enterprise: "1..2"}, {Enterprise: "x"}, {Enterprise: "1."}, {Limit: 100}} {
		if err := bad.Check(); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%+v is taken: %v", bad, err)
		}
	}
}

// A message is never longer than a receiver takes, and what is essential stays.
func TestSyslogLimit(t *testing.T) {
	r := sample()
	r.Detail = map[string]string{}
	for i := range maxDetails {
		r.Detail[fmt.Sprintf("%s%03d", strings.Repeat("n", 61), i)] = strings.Repeat("\x01]", 250)
	}
	r.Subject = strings.Repeat("\x02", 1000)
	for _, limit := range []int{1024, 2048, 8192, 65536} {
		s := Syslog{Limit: limit, Host: strings.Repeat("h", 255), App: strings.Repeat("a", 48), Enterprise: "123456789012345678901234"}
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		got := string(s.Append(nil, &r))
		if len(got) > limit || !utf8.ValidString(got) || !strings.Contains(got, ` seq="9" `) || !strings.Contains(got, `[cut@`) {
			t.Errorf("%d: %d octets: %s", limit, len(got), got)
		}
	}
}

func TestExportFilter(t *testing.T) {
	ctx := context.Background()
	l, dir := newLog(t, testOptions())
	mustRecord(t, l, 5)
	a, err := l.Begin(ctx, Event{Type: QueueHold, Actor: "bob", Subject: "q1"})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.End(ctx, mail.E(mail.Refused, "no", nil)); err != nil {
		t.Fatal(err)
	}
	if err := l.Record(ctx, Event{Type: QueueRemove, Actor: "bobby", Subject: "q1*", Outcome: "ok"}); err != nil {
		t.Fatal(err)
	}
	all := records(t, dir)
	for _, c := range []struct {
		f    Filter
		want string
	}{
		{Filter{}, "01234567"},
		{Filter{From: all[1].Time, To: all[3].Time}, "12"},
		{Filter{First: 3, End: 5}, "34"},
		{Filter{First: 6}, "67"},
		{Filter{Actors: []string{"bob"}}, "56"},
		{Filter{Actors: []string{"bob*"}}, "567"},
		{Filter{Actors: []string{"bob", "admin"}, Types: []string{"queue."}}, "56"},
		{Filter{Types: []string{"queue.*"}}, "567"},
		{Filter{Types: []string{"queue.hold", "queue.remove"}}, "567"},
		{Filter{Types: []string{"store.ch*"}}, "01234"},
		{Filter{Objects: []string{"q1"}}, "56"},
		{Filter{Objects: []string{"check 2", "q1**"}}, "27"},
		{Filter{Outcomes: []string{"refused"}}, "6"},
		{Filter{Outcomes: []string{"refused: no", "ok"}}, "67"},
		{Filter{Outcomes: []string{"ref"}}, ""},
		{Filter{Objects: []string{"check 2"}, Actors: []string{"bob"}}, ""},
	} {
		got := ""
		for line := range strings.Lines(exported(t, dir, Export{Filter: c.f, Format: JSONL})) {
			got += string(line[strings.Index(line, `"seq":`)+6])
		}
		if got != c.want {
			t.Errorf("%+v gives %s, want %s", c.f, got, c.want)
		}
	}
	for _, f := range []Filter{
		{Types: []string{"no.such"}},
		{Types: []string{""}},
		{Actors: []string{strings.Repeat("x", 2000)}},
		{First: 3, End: 3},
		{First: -1},
		{From: all[3].Time, To: all[1].Time},
		{Objects: make([]string, 101)},
	} {
		if err := (Export{Filter: f, Format: JSONL}).Write(ctx, dir, io.Discard); mail.KindOf(err) != mail.Invalid || mail.PublicOf(err) == "" {
			t.Errorf("%+v: %v", f, err)
		}
	}
}

func TestExportErrors(t *testing.T) {
	ctx := context.Background()
	var b bytes.Buffer
	if err := (Export{Format: "xml"}).Write(ctx, t.TempDir(), &b); mail.KindOf(err) != mail.Invalid {
		t.Errorf("format: %v", err)
	}
	if err := (Export{Format: CSV}).Write(ctx, t.TempDir()+"/x", &b); !errors.Is(err, ErrCannotOpen) {
		t.Errorf("no log: %v", err)
	}
	dir := closedLog(t, 300)
	path := filepath.Join(dir, "tile/entries/000")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[10000] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var f *Fault
	if err := (Export{Format: JSONL}).Write(ctx, dir, &b); !errors.As(err, &f) || f.File != "tile/entries/000" || f.Record < 1 {
		t.Errorf("a bad record was exported: %v", err)
	}
	if err := (Export{Filter: Filter{Actors: []string{"alice"}}}).Extract(ctx, dir, &b); !errors.As(err, &f) {
		t.Errorf("a bad record was extracted: %v", err)
	}
}

// Progress ends with all records; an export that is interrupted says so.
func TestExportProgress(t *testing.T) {
	dir := closedLog(t, progressEvery+300)
	for _, write := range []func(Export, context.Context) error{
		func(e Export, ctx context.Context) error { return e.Write(ctx, dir, io.Discard) },
		func(e Export, ctx context.Context) error { return e.Bundle(ctx, dir, io.Discard) },
	} {
		var last, calls int64
		e := Export{Format: CSV, Progress: func(done, total int64) {
			if done < last || total != progressEvery+300 {
				t.Errorf("%d of %d after %d", done, total, last)
			}
			last = done
			calls++
		}}
		if err := write(e, context.Background()); err != nil || last != progressEvery+300 || calls < 3 {
			t.Errorf("%d calls, %d at last, %v", calls, last, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		e.Progress = func(done, _ int64) { cancel() }
		if err := write(e, ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("interrupted: %v", err)
		}
	}
}

// A bundle is a tar archive: unpacked by tar it is a copy of the log.
func TestBundleIsTar(t *testing.T) {
	tar := testkit.Need(t, "tar")
	dir := closedLog(t, 300)
	file := filepath.Join(t.TempDir(), "bundle.tar")
	if err := os.WriteFile(file, bundleOf(t, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if out, err := exec.Command(tar, "-xf", file, "-C", to).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if r := mustVerify(t, filepath.Join(to, "audit"), nil); r.Records != 300 {
		t.Errorf("%+v", r)
	}
}
