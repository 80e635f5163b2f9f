package audit

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/tlog"
)

func sample() Record {
	at := time.Date(2026, 11, 22, 10, 0, 0, 5, time.UTC)
	return Record{
		Seq: 9, Time: at, Phase: phaseEnd, Act: 7, Count: 2, Last: at.Add(time.Second),
		Event: Event{
			Type: DirectoryImport, Actor: "admin", Subject: "陳大文 \"<\u2028\x7f>\" \\", Client: "192.0.2.1",
			Approval: "A-1", Outcome: "ok", Detail: map[string]string{"b": "\x00\x1f\n\r\t\b\f/", "a.b-c_D9": "€😀", "Z": ""},
		},
	}
}

// The encoding, letter by letter (RFC 8785).
func TestRecordEncoding(t *testing.T) {
	r := sample()
	const want = `{"act":7,"actor":"admin","approval":"A-1","client":"192.0.2.1","count":2,` +
		`"detail":{"Z":"","a.b-c_D9":"€😀","b":"\u0000\u001f\n\r\t\b\f/"},"last":"2026-11-22T10:00:01.000000005Z",` +
		`"outcome":"ok","phase":"end","seq":9,"subject":"陳大文 \"<` + "\u2028\x7f" + `>\" \\","time":"2026-11-22T10:00:00.000000005Z",` +
		`"type":"directory.import","v":1}`
	b := appendRecord(nil, &r)
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	again, _, err := decodeRecord(b, nil)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("decoded: %+v, %v", again, err)
	}
	if !json.Valid(b) {
		t.Error("not JSON")
	}
}

func TestRecordsRefused(t *testing.T) {
	const good = `{"actor":"a","seq":1,"time":"2026-11-22T10:00:00.000000000Z","type":"x.y","v":1}`
	if _, _, err := decodeRecord([]byte(good), nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]string{
		{`{`, ` {`},
		{`:`, `: `},
		{`}`, `} `},
		{`}`, "}\n"},
		{`}`, `}}`},
		{`}`, `,}`},
		{`"a"`, `""`},
		{`"a"`, `"\u0061"`},
		{`"a"`, `"\/"`},
		{`"a"`, `"\u001F"`},
		{`"a"`, `"\u000a"`},
		{`"a"`, `"\ud83d\ude00"`},
		{`"a"`, "\"\n\""},
		{`"a"`, "\"\xff\""},
		{`"a"`, `"a`},
		{`"a"`, `a`},
		{`"a"`, `null`},
		{`"actor":"a"`, `"actor":"a","actor":"a"`},
		{`"actor":"a"`, `"act":0,"actor":"a"`},
		{`"actor":"a"`, `"count":0`},
		{`"actor":"a"`, `"detail":{}`},
		{`"actor":"a"`, `"detail":{"x y":"1"}`},
		{`"actor":"a"`, `"phase":"end"`},
		{`"actor":"a"`, `"act":1,"phase":"end"`},
		{`"actor":"a"`, `"phase":"middle"`},
		{`"actor":"a"`, `"other":"a"`},
		{`"actor":"a","seq":1`, `"seq":1,"actor":"a"`},
		{`"seq":1`, `"seq":01`},
		{`"seq":1`, `"seq":-1`},
		{`"seq":1`, `"seq":1.0`},
		{`"seq":1`, `"seq":1e0`},
		{`"seq":1`, `"seq":9007199254740992`},
		{`"seq":1`, `"seq":"1"`},
		{`"seq":1,`, ``},
		{`.000000000Z`, `Z`},
		{`.000000000Z`, `.000000000+00:00`},
		{`11-22`, `11-31`},
		{`"x.y"`, `"x y"`},
		{`"v":1`, `"v":3`},
		{`"v":1`, `"v":0`},
		{`,"v":1`, ``},
		{good, ``},
		{good, `[]`},
		{good, `{}`},
	} {
		in := strings.Replace(good, c[0], c[1], 1)
		if _, _, err := decodeRecord([]byte(in), nil); err == nil {
			t.Errorf("accepted %s", in)
		}
	}
}

func TestBounded(t *testing.T) {
	long := strings.Repeat("é", 40000)
	e := Event{Type: StoreCheck, Actor: long, Subject: long, Client: long, Approval: long, Outcome: long, Detail: map[string]string{}}
	for i := range 100 {
		e.Detail[fmt.Sprintf("%03d bad name", i)] = strings.Repeat("\x01", 5000)
	}
	e.Detail[strings.Repeat("n", 100)] = "\xff"
	e.Detail[""] = "no name"
	r := Record{Event: e.bounded(), Seq: 1<<53 - 1, Time: stamp(time.Unix(1<<60, 0)), Count: 1 << 50}
	b := appendRecord(nil, &r)
	if len(b) > maxRecord {
		t.Errorf("%d bytes", len(b))
	}
	if _, _, err := decodeRecord(b, nil); err != nil {
		t.Error(err)
	}
	if !strings.HasSuffix(r.Actor, "[cut, was 80000 bytes]") || r.Detail["-cut"] == "" || r.Detail["_"] != "no name" {
		t.Errorf("%.2000s", b)
	}
	small := Event{Actor: "a\xffb", Detail: map[string]string{"ok": "x"}}.bounded()
	if small.Actor != "a?b" || small.Detail["ok"] != "x" || len(small.Detail) != 1 {
		t.Errorf("%+v", small)
	}
}

func FuzzEvent(f *testing.F) {
	r := sample()
	f.Add(appendRecord(nil, &r))
	f.Add([]byte(`{"seq":0,"time":"2026-11-22T10:00:00.000000000Z","type":"server.start","v":1}`))
	f.Add([]byte(`{"detail":{"a":"\u0000"},"seq":0}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := decodeRecord(b, nil)
		if err != nil {
			return
		}
		if again := appendRecord(nil, &r); !bytes.Equal(again, b) {
			t.Fatalf("%q is written as %q", b, again)
		}
		var m map[string]any
		if err := json.Unmarshal(b, &m); err != nil || !utf8.Valid(b) {
			t.Fatalf("%q is not JSON: %v", b, err)
		}
		checkLines(t, &r)
	})
}

// Whatever is put into an event, it comes back as it was bounded.
func FuzzEventFields(f *testing.F) {
	f.Add("actor", "name", "value\x00\n\"")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		r := Record{Event: Event{Type: StoreCheck, Actor: a, Subject: b, Outcome: c, Detail: map[string]string{a: b, b: c}}.bounded()}
		raw := appendRecord(nil, &r)
		got, _, err := decodeRecord(raw, nil)
		if err != nil || got.Actor != r.Actor || !reflect.DeepEqual(got.Detail, r.Detail) {
			t.Fatalf("%q: %v", raw, err)
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	k, err := newNoteKey(testOrigin, testKey())
	if err != nil {
		f.Fatal(err)
	}
	end, _ := (&tail{}).grow(testRecords(0, 3))
	root, err := end.root()
	if err != nil {
		f.Fatal(err)
	}
	c := checkpoint{testOrigin, tlog.Tree{N: 3, Hash: root}}
	signed, err := k.sign(c.tree)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(signed)
	f.Add(append(bytes.Clone(signed), "— other AAAAAAAA\n"...))
	f.Add([]byte(c.text() + "extension\n\n— x y\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := parseCheckpoint(b, k)
		if err != nil {
			return
		}
		if again, err := k.sign(got.tree); err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%q is accepted, but would be written %q (%v)", b, again, err)
		}
	})
}

func FuzzBundle(f *testing.F) {
	good := bundleOf(f, closedLog(f, 3))
	f.Add(good)
	empty := bundleOf(f, closedLog(f, 0))
	f.Add(empty)
	f.Add(good[:1024])
	verify := bundleVerifier(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if verify(b) == nil && !bytes.Equal(b, good) && !bytes.Equal(b, empty) {
			t.Fatalf("accepted %q", b)
		}
	})
}

// checkLines demands of each format that a record is one line without anything that steers a reader, and that CSV and
// structured data can be read back.
func checkLines(t *testing.T, r *Record) {
	t.Helper()
	for _, f := range []string{
		strings.TrimSuffix(string(appendCSV(nil, r)), "\r\n"), strings.TrimSuffix(string(appendCEF(nil, r)), "\n"), string(new(Syslog).Append(nil, r)),
	} {
		if i := strings.IndexFunc(f, func(c rune) bool { return c < 0x20 || c == 0x7f || c >= 0x80 && c != utf8.RuneError && hidden(c) }); i >= 0 || !utf8.ValidString(f) {
			t.Fatalf("%q has %q", f, f[i:])
		}
	}
	row, err := csv.NewReader(bytes.NewReader(appendCSV(nil, r))).Read()
	if err != nil || len(row) != 13 {
		t.Fatalf("%q: %v", row, err)
	}
	for _, cell := range row {
		if startsFormula(cell) {
			t.Fatalf("a formula: %q", cell)
		}
	}
	params, ok := structuredData(string(new(Syslog).Append(nil, r)))
	if plain := string(appendVisible(nil, r.Subject, func(b []byte, _ rune) ([]byte, bool) { return b, false })); !ok || params["subject"] != plain {
		t.Fatalf("%q, want %q", params["subject"], plain)
	}
}

// structuredData reads the parameters of a message, by RFC 5424, section 6.
func structuredData(msg string) (params map[string]string, ok bool) {
	f := strings.SplitN(msg, " ", 7)
	if len(f) != 7 || !strings.HasPrefix(f[6], "[") {
		return nil, false
	}
	params, rest := map[string]string{}, f[6]
	for strings.HasPrefix(rest, "[") {
		id := strings.IndexAny(rest, " ]")
		if id < 2 || id > 33 {
			return nil, false
		}
		for rest = rest[id:]; strings.HasPrefix(rest, " "); {
			name, after, found := strings.Cut(rest[1:], `="`)
			if !found || len(name) > 32 || strings.ContainsAny(name, "= ]\"") {
				return nil, false
			}
			value, i := "", 0
			for ; i < len(after) && after[i] != '"'; i++ {
				if after[i] == '\\' {
					i++
				} else if after[i] == ']' {
					return nil, false
				}
				if i < len(after) {
					value += after[i : i+1]
				}
			}
			if i >= len(after) {
				return nil, false
			}
			if _, twice := params[name]; !twice {
				params[name] = value
			}
			rest = after[i+1:]
		}
		if !strings.HasPrefix(rest, "]") {
			return nil, false
		}
		rest = rest[1:]
	}
	return params, strings.HasPrefix(rest, " ")
}

func FuzzSyslog(f *testing.F) {
	f.Add("a\"b]c\\d\n\u202e", "n=]\" ", 1024)
	f.Fuzz(func(t *testing.T, value, name string, limit int) {
		r := Record{Event: Event{Type: MailRefused, Actor: value, Subject: value, Outcome: value, Detail: map[string]string{name: value}}.bounded()}
		checkLines(t, &r)
		if limit < 1024 {
			return
		}
		s := Syslog{Limit: limit}
		msg := s.Append(nil, &r)
		if _, ok := structuredData(string(msg)); !ok || len(msg) > limit {
			t.Fatalf("%d octets: %q", len(msg), msg)
		}
	})
}

// The way in which times are written and read is that of the time package.
func TestStamps(t *testing.T) {
	for _, s := range []string{
		"2026-11-22T10:00:00.123456789Z", "0000-01-01T00:00:00.000000000Z", "9999-12-31T23:59:59.999999999Z", "2024-02-29T12:34:56.000000001Z", "1969-12-31T23:59:59.100000000Z",
	} {
		want, err := time.Parse(timeLayout, s)
		if err != nil {
			t.Fatal(err)
		}
		got, ok := parseStamp(s)
		if !ok || !got.Equal(want) || string(appendStamp(nil, got)) != s || got.Format(timeLayout) != s {
			t.Errorf("%s: %v, %v, %s", s, got, ok, appendStamp(nil, got))
		}
	}
	for _, s := range []string{
		"", "2026-11-22T10:00:00Z", "2026-11-22T10:00:00.12345678xZ", "2026-11-22t10:00:00.123456789Z", "2026-11-22T10:00:00.123456789+", "2023-02-29T12:34:56.000000001Z",
		"2026-13-01T10:00:00.123456789Z", "2026-11-22T24:00:00.123456789Z", "2026-11-22T10:00:60.123456789Z", "-026-11-22T10:00:00.123456789Z",
	} {
		if got, ok := parseStamp(s); ok && string(appendStamp(nil, got)) == s {
			t.Errorf("%s is taken for %v", s, got)
		}
	}
}
