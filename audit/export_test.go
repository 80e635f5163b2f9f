package audit

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

func exported(t *testing.T, dir string, f Format, from, to time.Time) string {
	t.Helper()
	var b bytes.Buffer
	if err := Export(context.Background(), dir, &b, f, from, to); err != nil {
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
	out := exported(t, exportLog(t), CSV, time.Time{}, time.Time{})
	if !strings.HasPrefix(out, "seq,time,type,phase,act,actor,") || !strings.HasSuffix(out, "\r\n") {
		t.Errorf("%q", out)
	}
	rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil || len(rows) != 4 {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	if rows[1][5] != "'=cmd|'/c calc'!A1" || rows[3][5] != "'+alice" || rows[2][4] != "0" || rows[2][9] != "refused: no" ||
		rows[1][12] != `{"k":"v=1|2"}` || rows[3][10] != "2" || rows[3][7] != "192.0.2.1" {
		t.Errorf("%q", rows)
	}
	for _, row := range rows {
		for _, cell := range row {
			if cell != "" && strings.ContainsRune("=+-@\t\r\n", rune(cell[0])) {
				t.Errorf("a cell begins like a formula: %q", cell)
			}
		}
	}
}

func TestExportCEF(t *testing.T) {
	out := exported(t, exportLog(t), CEF, time.Time{}, time.Time{})
	const want = `CEF:0|cmmpd|cmmpd|1|directory.import|directory.import begin|5|externalId=0 rt=1795341601123 ` +
		`suser=\=cmd|'/c calc'!A1 duser=a|b\=c\\d\r\ne  f shost=socket cs1Label=approval cs1=A-1 cs2Label=detail cs2={"k":"v\=1|2"}` + "\n"
	if !strings.HasPrefix(out, want) || strings.Count(out, "\n") != 3 {
		t.Errorf("got  %s\nwant %s", out, want)
	}
	if !strings.Contains(out, "|6|") || !strings.Contains(out, "cnt=2 ") || !strings.Contains(out, "cn1Label=act cn1=0") {
		t.Errorf("%s", out)
	}
}

func TestExportFilter(t *testing.T) {
	l, dir := newLog(t, testOptions())
	mustRecord(t, l, 5)
	all := records(t, dir)
	out := exported(t, dir, JSONL, all[1].Time, all[3].Time)
	lines := strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"seq":1,`) || !strings.Contains(lines[1], `"seq":2,`) {
		t.Errorf("%q", lines)
	}
}

func TestExportErrors(t *testing.T) {
	ctx := context.Background()
	var b bytes.Buffer
	if err := Export(ctx, t.TempDir(), &b, "xml", time.Time{}, time.Time{}); mail.KindOf(err) != mail.Invalid {
		t.Errorf("format: %v", err)
	}
	if err := Export(ctx, t.TempDir()+"/x", &b, CSV, time.Time{}, time.Time{}); !errors.Is(err, ErrCannotOpen) {
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
	if err := Export(ctx, dir, &b, JSONL, time.Time{}, time.Time{}); !errors.As(err, &f) || f.File != "tile/entries/000" || f.Record < 1 {
		t.Errorf("a bad record was exported: %v", err)
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
