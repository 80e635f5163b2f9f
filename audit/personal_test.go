package audit

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// memNames is a table of names in memory, whose salts are counted.
type memNames struct {
	mu   sync.Mutex
	rows map[Digest]Name
	fail error
}

func (m *memNames) Hide(values []string, _ time.Time) ([]Digest, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	var out []Digest
next:
	for _, v := range values {
		for d, n := range m.rows {
			if n.Value == v {
				out = append(out, d)
				continue next
			}
		}
		n := Name{bytes.Repeat([]byte{byte(len(m.rows))}, 16), v}
		if m.rows == nil {
			m.rows = make(map[Digest]Name)
		}
		m.rows[n.Digest()] = n
		out = append(out, n.Digest())
	}
	return out, nil
}

func (m *memNames) Reveal(d Digest) (Name, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, ok := m.rows[d]
	return n, ok, nil
}

func (m *memNames) All(f func(Name) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, d := range slices.SortedFunc(maps.Keys(m.rows), func(a, b Digest) int { return bytes.Compare(a[:], b[:]) }) {
		if err := f(m.rows[d]); err != nil {
			return err
		}
	}
	return nil
}

func gov(domain string) bool { return strings.HasSuffix(domain, "gov.example") }

// What is hidden, shown in angle brackets.
func TestPersonal(t *testing.T) {
	p := personal{gov, func(v string) string { return "<" + v + ">" }}
	for in, want := range map[string]string{
		"":                        "",
		"alice@works.gov.example": "alice@works.gov.example",
		"bob@partner.example carol@health.gov.example":        "<bob@partner.example> carol@health.gov.example",
		"to bob@partner.example.":                             "to <bob@partner.example>.",
		"<bob+x@partner.example>, \"a b\"@p.example!":         "<<bob+x@partner.example>>, <\"a b\"@p.example>!",
		"x@[192.0.2.1] y@xn--abc.example":                     "<x@[192.0.2.1]> <y@xn--abc.example>",
		"陳@例子.example":                                        "<陳@例子.example>",
		"@ a@ @b a @ b":                                       "@ a@ @b a @ b",
		"a@b@c.example":                                       "<a@b>@c.example",
		"f | directory | Example CA | bob@p.example":          "f | directory | Example CA | <bob@p.example>",
		"hmac-sha256:AAAA x":                                  "hmac-sha256;AAAA x",
		"CONFIDENTIAL mail: bob@p.example has no certificate": "CONFIDENTIAL mail: <bob@p.example> has no certificate",
	} {
		if got := p.text(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"192.0.2.1":            "<192.0.2.1>",
		"192.0.2.1:25":         "<192.0.2.1>:25",
		"imap 192.0.2.1":       "imap <192.0.2.1>",
		"[2001:db8::1]:993":    "<2001:db8::1>:993",
		"2001:db8::1":          "<2001:db8::1>",
		"fe80::1%eth0":         "<fe80::1>",
		"127.0.0.1:55":         "127.0.0.1:55",
		"::1":                  "::1",
		"socket, uid 0":        "socket, uid 0",
		"console 192.0.2.1, 2": "console <192.0.2.1>, 2",
		"1.2.3":                "1.2.3",
	} {
		if got := p.client(in); got != want {
			t.Errorf("client %q: %q, want %q", in, got, want)
		}
	}
	e := p.event(Event{Type: LabelLower, Actor: "alice", Detail: map[string]string{"reason": "Mr Chan agreed", "from": "x@y.example"}})
	if e.Actor != "alice" || e.Detail["reason"] != "<Mr Chan agreed>" || e.Detail["from"] != "<x@y.example>" {
		t.Errorf("%+v", e)
	}
	if e := p.event(Event{Type: AuthLogin, Actor: "hunter2", Outcome: "authentication failed"}); e.Actor != "<hunter2>" {
		t.Errorf("what was typed as a name is in clear: %+v", e)
	}
	if e := p.event(Event{Type: AuthLogin, Actor: "bob", Outcome: "ok"}); e.Actor != "bob" {
		t.Errorf("an officer's log-in is hidden: %+v", e)
	}
}

// hidingLog is a log with a table of names.
func hidingLog(t *testing.T) (*Log, string, *memNames) {
	t.Helper()
	names := &memNames{}
	o := testOptions()
	o.Names, o.Local = names, gov
	l, dir := newLog(t, o)
	return l, dir, names
}

func TestHiddenNames(t *testing.T) {
	l, dir, names := hidingLog(t)
	for range 3 {
		l.Note(Event{Type: MailRefused, Actor: "alice", Client: "192.0.2.1:77", Subject: "m", Outcome: "refuse", Detail: map[string]string{
			"from": "alice@works.gov.example", "to": "bob@partner.example eve@other.example", "reason": "bob@partner.example has no certificate; hmac-sha256:x",
		}})
	}
	mustFlush(t, l)
	onDisk := ""
	for _, b := range treeOf(t, dir) {
		onDisk += string(b)
	}
	for _, clear := range []string{"partner.example", "other.example", "192.0.2.1"} {
		if strings.Contains(onDisk, clear) {
			t.Errorf("%s is in the log", clear)
		}
	}
	if len(names.rows) != 3 || !strings.Contains(onDisk, "alice@works.gov.example") || !strings.Contains(onDisk, `"v":2}`) {
		t.Errorf("%d rows", len(names.rows))
	}
	mustVerify(t, dir, nil)
	shown := exported(t, dir, Export{Format: JSONL, Names: names, Filter: Filter{Types: []string{"mail."}}})
	if strings.Count(shown, "192.0.2.1:77") != 3 || strings.Count(shown, `"to":"bob@partner.example eve@other.example"`) != 3 || !strings.Contains(shown, "certificate; hmac-sha256;x") {
		t.Errorf("%s", shown)
	}
	if raw := exported(t, dir, Export{Format: CSV}); strings.Count(raw, hiddenMark) != 3*4 || strings.Contains(raw, "partner") {
		t.Errorf("%s", raw)
	}
	for d, n := range names.rows {
		if n.Value == "bob@partner.example" {
			delete(names.rows, d)
		}
	}
	mustVerify(t, dir, nil)
	if shown := exported(t, dir, Export{Format: SyslogText, Names: names}); strings.Contains(shown, "bob@partner") || strings.Count(shown, "eve@other.example") != 3 {
		t.Errorf("%s", shown)
	}
}

// Names that come with a bundle or an extract are verified, and what was asked for by such a name matches.
func TestBundledNames(t *testing.T) {
	l, dir, names := hidingLog(t)
	for _, to := range []string{"bob@partner.example", "eve@other.example", "bob@partner.example"} {
		l.Note(Event{Type: MailUntold, Subject: to})
	}
	mustFlush(t, l)
	write := func(e Export) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "b.tar")
		var b bytes.Buffer
		if err := e.Bundle(context.Background(), dir, &b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	whole := write(Export{Names: names})
	if r := mustVerify(t, whole, nil); r.Names != 2 || r.Records != 3 {
		t.Errorf("%+v", r)
	}
	if r := mustVerify(t, write(Export{}), nil); r.Names != 0 {
		t.Errorf("%+v", r)
	}
	bobs := write(Export{Names: names, Filter: Filter{Objects: []string{"bob@partner.example"}}})
	if r := mustVerify(t, bobs, nil); r.Names != 1 || r.Part.Records != 2 {
		t.Errorf("%+v", r)
	}
	if r := mustVerify(t, write(Export{Filter: Filter{Types: []string{"mail."}}}), nil); r.Names != 0 || r.Part.Records != 3 {
		t.Errorf("%+v", r)
	}
	for _, file := range []string{whole, bobs} {
		good, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(good, []byte(`"value":"bob@partner.example"`))
		if at < 0 {
			t.Fatal("no name in the bundle")
		}
		for _, i := range []int{at + 10, at - 5, at - 80} {
			b := bytes.Clone(good)
			b[i] ^= 1
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			mustFail(t, file, nil, "names")
		}
	}
}

// Many rows are in several files, and each must be where it belongs.
func TestManyBundledNames(t *testing.T) {
	l, dir, names := hidingLog(t)
	for i := range 2*namesPerFile + 1 {
		n := Name{bytes.Repeat([]byte{1}, 16), string(rune('a'+i%26)) + strings.Repeat("x", i)}
		if names.rows == nil {
			names.rows = make(map[Digest]Name)
		}
		names.rows[n.Digest()] = n
	}
	mustRecord(t, l, 2)
	var b bytes.Buffer
	if err := (Export{Names: names}).Bundle(context.Background(), dir, &b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "b.tar")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, file, nil); r.Names != 2*namesPerFile+1 {
		t.Errorf("%+v", r)
	}
	at := bytes.Index(b.Bytes(), []byte(bundledNamesFile(1)))
	cut := append(bytes.Clone(b.Bytes()[:at]), make([]byte, 1024)...)
	if err := os.WriteFile(file, cut, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(context.Background(), file, testPub(t), nil); err != nil {
		t.Errorf("a bundle may have the names of a smaller table: %v", err)
	}
}

// Nothing is recorded whose names are not kept; then notes wait, and acts are refused.
func TestNamesThatCannotBeKept(t *testing.T) {
	l, dir, names := hidingLog(t)
	names.fail = errors.New("disk on fire")
	if err := l.Record(context.Background(), Event{Type: StoreCheck, Client: "192.0.2.1"}); mail.KindOf(err) != mail.Unavailable || l.Ready() == nil {
		t.Errorf("%v", err)
	}
	l.Note(Event{Type: MailUntold, Subject: "bob@partner.example"})
	if err := l.Flush(context.Background()); err == nil {
		t.Error("noted without its name")
	}
	names.fail = nil
	mustFlush(t, l)
	if err := l.Record(context.Background(), Event{Type: StoreCheck, Client: "192.0.2.1"}); err != nil {
		t.Error(err)
	}
	if r := mustVerify(t, dir, nil); r.Records != 2 {
		t.Errorf("%+v", r)
	}
}

// Records of the first format are as they were, and a text in them that looks like a digest is a text.
func TestOldRecords(t *testing.T) {
	l, dir := newLog(t, testOptions())
	names := &memNames{}
	d, _ := names.Hide([]string{"bob@partner.example"}, time.Time{})
	l.Note(Event{Type: MailUntold, Subject: d[0].String()})
	mustFlush(t, l)
	l.Close()
	o := testOptions()
	o.Names, o.Local = names, gov
	l = openLog(t, dir, o)
	l.Note(Event{Type: MailUntold, Subject: d[0].String() + " bob@partner.example"})
	mustFlush(t, l)
	mustVerify(t, dir, nil)
	out := strings.Split(exported(t, dir, Export{Format: JSONL, Names: names}), "\n")
	if !strings.Contains(out[0], d[0].String()) || !strings.Contains(out[0], `"v":1}`) || !strings.Contains(out[1], `"hmac-sha256;`) || !strings.Contains(out[1], ` bob@partner.example"`) {
		t.Errorf("%q", out)
	}
}

// Whatever is put in, nothing of another domain comes out, and all of it can be shown again.
func FuzzPersonal(f *testing.F) {
	f.Add("to bob@partner.example, \"x y\"@z.example", "imap 192.0.2.1:5")
	f.Add("hmac-sha256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA@@", "[2001:db8::1]:5, ::ffff:1.2.3.4")
	f.Fuzz(func(t *testing.T, text, client string) {
		names := &memNames{}
		l := &Log{opts: Options{Names: names, Local: gov, Now: time.Now}}
		r := Record{Event: Event{Type: MailRefused, Subject: text, Client: client, Detail: map[string]string{"to": text}}.bounded()}
		before := r.Event
		hidden, err := l.hide([]*Record{&r})
		if err != nil {
			t.Fatal(err)
		}
		raw := appendRecord(nil, &hidden[0])
		got, _, err := decodeRecord(raw, nil)
		if err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		shown, err := got.revealed(names)
		if err != nil {
			t.Fatal(err)
		}
		if want := defused(before.Subject); shown.Subject != want && !strings.Contains(hidden[0].Subject, "[cut, was") {
			t.Fatalf("%q is shown as %q", want, shown.Subject)
		}
		for _, n := range names.rows {
			if len(n.Value) > 12 && strings.Contains(n.Value, "@") && strings.Contains(string(raw), n.Value) && !strings.Contains(n.Value, "gov.example") {
				t.Fatalf("%q is in %q", n.Value, raw)
			}
		}
	})
}

func FuzzNameLine(f *testing.F) {
	n := Name{bytes.Repeat([]byte{7}, 16), "bob@partner.example\n"}
	f.Add(bytes.TrimSuffix(appendNameLine(nil, n.Digest(), n), []byte("\n")))
	f.Fuzz(func(t *testing.T, line []byte) {
		d, n, err := parseNameLine(line)
		if err == nil && !bytes.Equal(appendNameLine(nil, d, n), append(bytes.Clone(line), '\n')) {
			t.Fatalf("%q", line)
		}
	})
}
