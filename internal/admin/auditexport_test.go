package admin

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

// What goes over the socket comes out as it went in, with its progress, and what is cut off is an error.
func TestFrames(t *testing.T) {
	var wire bytes.Buffer
	f := frames{&wire}
	long := bytes.Repeat([]byte("x"), maxFrame+5)
	f.progress(1, 10)
	if n, err := f.Write(long); n != len(long) || err != nil {
		t.Fatal(n, err)
	}
	f.progress(10, 10)
	var out bytes.Buffer
	var seen []int64
	if err := readFrames(bytes.NewReader(wire.Bytes()), &out, func(done, total int64) { seen = append(seen, done, total) }); err != nil || !bytes.Equal(out.Bytes(), long) {
		t.Errorf("%d octets, %v", out.Len(), err)
	}
	if len(seen) != 4 || seen[0] != 1 || seen[2] != 10 {
		t.Errorf("progress %v", seen)
	}
	if err := readFrames(bytes.NewReader(wire.Bytes()[:100]), io.Discard, nil); !errors.Is(err, errFrame) {
		t.Errorf("cut off: %v", err)
	}
	wire.Reset()
	f.frame(frameFailure, []byte(`{"kind":0,"error":"the log is bad"}`))
	if err := readFrames(&wire, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "the log is bad") {
		t.Errorf("a failure: %v", err)
	}
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte("d\x00\x00\x00\x02ab"))
	f.Add([]byte("e\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var out bytes.Buffer
		if readFrames(bytes.NewReader(b), &out, func(int64, int64) {}); out.Len() > len(b) {
			t.Fatal("more came out than went in")
		}
	})
}

// What was asked for is on record; who gives a name must be an auditor.
func TestExportIsOnRecord(t *testing.T) {
	f := newFixture(t, false)
	e := Export{Format: audit.CSV, Filter: audit.Filter{Types: []string{"directory."}, Actors: []string{"alice", "bob*"}}}
	if err := f.ExportAudit(t.Context(), Caller{System: "uid 0"}, e, io.Discard, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.ExportAudit(t.Context(), Caller{System: "uid 0", Name: "records", Password: "good"}, e, io.Discard, nil); mail.KindOf(err) != mail.Denied {
		t.Errorf("who is no auditor: %v", err)
	}
	var out bytes.Buffer
	if err := f.ExportAudit(t.Context(), Caller{System: "uid 0"}, Export{Format: audit.JSONL}, &out, nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), `"detail":{"actors":"alice, bob*","format":"csv","types":"directory."}`) {
		t.Errorf("%s", out.String())
	}
	for _, bad := range []Export{{Format: "xml"}, {}, {Format: audit.CSV, Filter: audit.Filter{Types: []string{"nonsense"}}}} {
		if err := f.ExportAudit(t.Context(), Caller{System: "uid 0"}, bad, io.Discard, nil); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// Personal data is erased by an auditor or records manager, with a reason, on record.
func TestForgetNames(t *testing.T) {
	f := newFixture(t, false)
	auditor := Caller{System: "uid 0", Name: "auditor", Password: "good"}
	byValue := ForgetRequest{Value: "bob@partner.example", Reason: "he asked for it"}
	if _, err := f.ForgetNames(t.Context(), auditor, byValue); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("without a table: %v", err)
	}
	var asked []ForgetRequest
	f.o.Forget = func(q ForgetRequest) (int, error) { asked = append(asked, q); return 3, nil }
	for _, bad := range []ForgetRequest{{}, {Value: "x"}, {Value: "x", Reason: " "}, {Value: "x", Before: time.Now(), Reason: "r"}, {Reason: "r"}} {
		if _, err := f.ForgetNames(t.Context(), auditor, bad); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for _, who := range []Caller{{System: "uid 0"}, {System: "uid 0", Name: "admin", Password: "good"}} {
		if _, err := f.ForgetNames(t.Context(), who, byValue); mail.KindOf(err) != mail.Denied && mail.KindOf(err) != mail.AuthFailed {
			t.Errorf("%+v: %v", who, err)
		}
	}
	if len(asked) > 0 {
		t.Error("something was erased")
	}
	if n, err := f.ForgetNames(t.Context(), auditor, byValue); n != 3 || err != nil || len(asked) != 1 {
		t.Errorf("%d, %v", n, err)
	}
	if refused := f.records(t, audit.AdminRefused); len(refused) != 1 || !strings.Contains(refused[0], `"actor":"admin"`) || !strings.Contains(refused[0], `"outcome":"denied"`) {
		t.Errorf("who was refused: %q", refused)
	}
	lines := f.records(t, audit.AuditForget)
	if len(lines) != 2 || !strings.Contains(lines[0], `"actor":"auditor"`) || !strings.Contains(lines[1], `"erased":"3"`) || strings.Contains(strings.Join(lines, ""), "bob") {
		t.Errorf("%q", lines)
	}
}
