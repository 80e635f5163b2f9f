package wire

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func parserOf(t testing.TB, args string) *Parser {
	t.Helper()
	r := NewReader(strings.NewReader("a X " + args + "\r\n"))
	r.Limits = Limits{Line: 10_000, Literals: 10_000, NonSync: 10_000, Swallow: 100_000, Depth: 10, Elements: 50}
	r.Continue = func() error { return nil }
	var c Command
	if err := r.ReadCommand(&c); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	p := c.Parser(r.Limits)
	p.SP()
	return p
}

// check parses every argument with f and compares the result, "error" for a failure.
func check(t *testing.T, f func(p *Parser) string, table map[string]string) {
	t.Helper()
	for in, want := range table {
		p := parserOf(t, in)
		got := f(p)
		if err := p.End(); err != nil {
			got = "error"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestStrings(t *testing.T) {
	check(t, (*Parser).AString, map[string]string{
		`abc`:                    "abc",
		`a]b`:                    "a]b",
		`"a b"`:                  "a b",
		`"a\"\\b"`:               `a"\b`,
		`""`:                     "",
		"{3}\r\na\"b":            `a"b`,
		"{0}\r\n":                "",
		`"陳大文"`:                  "陳大文",
		`"a\b"`:                  "error",
		`"a`:                     "error",
		"\"a\rb\"":               "error",
		"\"\xff\"":               "error",
		`陳`:                      "error",
		`a(b`:                    "error",
		`a b`:                    "error",
		``:                       "error",
		"~{3}\r\nabc":            "error",
		"{3}\r\nabcd":            "error",
		`a*`:                     "error",
		"\"tab\tin it\"":         "error",
		strings.Repeat("x", 300): strings.Repeat("x", 300),
	})
	nstring := func(p *Parser) string { s, ok := p.NString(); return fmt.Sprint(s, ok) }
	check(t, nstring, map[string]string{`NIL`: "false", `nil`: "false", `"NIL"`: "NILtrue", `NILL`: "error", `x`: "error", "{3}\r\nNIL": "NILtrue"})
}

func TestListsAndFlags(t *testing.T) {
	check(t, func(p *Parser) string { return strings.Join(p.Flags(), ",") }, map[string]string{
		`()`:                                  "",
		`(\seen \DELETED $Junk a)`:            `\Seen,\Deleted,$Junk,a`,
		`(\Recent)`:                           "error",
		`(\Foo)`:                              "error",
		`(\Seen`:                              "error",
		`(\Seen )`:                            "error",
		`\Seen`:                               "error",
		"(" + strings.Repeat("a ", 60) + "a)": "error",
	})
	var nest func(p *Parser) string
	nest = func(p *Parser) string {
		p.List(func() { nest(p) })
		return "ok"
	}
	check(t, nest, map[string]string{
		"((()))": "ok",
		strings.Repeat("(", 10) + strings.Repeat(")", 10): "ok",
		strings.Repeat("(", 11) + strings.Repeat(")", 11): "error",
		strings.Repeat("(", 1000):                         "error",
		strings.Repeat(")", 1000):                         "error",
	})
}

func TestNumbersAndSets(t *testing.T) {
	check(t, func(p *Parser) string { return fmt.Sprint(p.Number()) }, map[string]string{
		"0": "0", "4294967295": "4294967295", "4294967296": "error", "-1": "error", "99999999999999999999": "error", "": "error",
	})
	check(t, func(p *Parser) string { return fmt.Sprint(p.Number64()) }, map[string]string{
		"9223372036854775807": "9223372036854775807", "9223372036854775808": "error",
	})
	check(t, func(p *Parser) string { return p.Set().String() }, map[string]string{
		"1": "1", "*": "*", "1:*": "1:*", "*:4,2,9:7": "*:4,2,9:7", "0": "error", "1:0": "error", "1,": "error", "1:": "error", "1:2:3": "error",
		"4294967295": "4294967295", "$": "error", strings.Repeat("1,", 60) + "1": "error",
	})
	for in, want := range map[string]string{
		"1:4294967295": "[{1 4294967295}]", "5:*": "[{3 5}]", "*": "[{3 3}]", "9:7,1,2,3:4": "[{1 4} {7 9}]", "*:1": "[{1 3}]",
		"4294967295,4294967294:*": "[{3 4294967295}]", "2,2,2": "[{2 2}]", "1:3,2:5": "[{1 5}]", "1:9,2:3": "[{1 9}]",
	} {
		s, err := parseSet(in, testLimits)
		if got := fmt.Sprint(s.Resolve(3)); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", in, got, err, want)
		}
	}
	if got := (Set{{Start: 0, Stop: 0}, {Start: 1, Stop: 2}}).Resolve(0); fmt.Sprint(got) != "[{1 2}]" {
		t.Errorf("* of an empty mailbox: %v", got)
	}
	if got := string(AppendNums(nil, []uint32{1, 2, 3, 7, 6, 9, 10})); got != "1:3,7,6,9:10" {
		t.Errorf("AppendNums: %s", got)
	}
}

func TestDates(t *testing.T) {
	check(t, func(p *Parser) string { return fmt.Sprint(p.Day()) }, map[string]string{
		"1-Feb-1994": "19940201", `"01-feb-1994"`: "19940201", "29-Feb-2000": "20000229", "30-Feb-2000": "error", "1-Foo-1994": "error",
		"0-Feb-1994": "error", "1-Feb-94": "error", "11-Feb-19945": "error", "Feb-1-1994": "error",
	})
	check(t, func(p *Parser) string { return p.DateTime().Format(time.RFC3339) }, map[string]string{
		`" 7-Feb-1994 21:52:25 -0800"`: "1994-02-07T21:52:25-08:00", `"17-Jul-2026 02:44:25 +0545"`: "2026-07-17T02:44:25+05:45",
		`"17-Jul-2026 24:44:25 +0545"`: "error", `"17-Jul-2026 02:44:25 0545"`: "error", `"7-Feb-1994 21:52:25 -0800"`: "error",
		`"1 -Feb-1994 21:52:25 -0800"`: "error", `17-Jul-2026`: "error", `"17-Jul-2026 02:44:25 ?0545"`: "error",
	})
	in := ` 7-Feb-1994 21:52:25 -0800`
	when, ok := dateTime(in)
	if got := string(AppendDateTime(nil, when)); !ok || got != `"`+in+`"` {
		t.Errorf("got %s", got)
	}
	for _, when := range []time.Time{time.Unix(0, 0).UTC(), time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC), time.Date(1, 2, 3, 4, 5, 6, 0, time.UTC)} {
		if got, want := string(AppendDateTime(nil, when)), when.Format(`"_2-Jan-2006 15:04:05 -0700"`); got != want {
			t.Errorf("%s, not %s", got, want)
		}
	}
	if got := string(AppendDateTime(nil, time.Date(123456, 1, 1, 0, 0, 0, 0, time.UTC))); got != `" 1-Jan-1970 00:00:00 +0000"` {
		t.Errorf("got %s", got)
	}
}

func TestMailbox(t *testing.T) {
	check(t, (*Parser).Mailbox, map[string]string{
		"inbox": "INBOX", "iNbOx/a": "INBOX/a", "inboxes": "inboxes", `"R&AOk-pertoire"`: "Répertoire", "&U,BTFw-": "台北", "&-": "&", "a&-b": "a&b",
		"&2D3eAA-":      "😀",
		"&AGE-":         "error", // a letter that stands for itself
		"&AC8-":         "error", // the separator, hidden
		"&AAA":          "error",
		"&U,BTFw":       "error",
		"&U,BTF-":       "error", // half a unit
		"&2D0-":         "error", // a lone surrogate
		"&3gA-":         "error",
		"&AOk-&AOk-":    "error", // two runs where one would do
		"&AOl-":         "error", // pad bits that are not zero
		`"é"`:           "é",     // as go-imap's client writes it
		"&jhGMw==-":     "error",
		"&":             "error",
		"{4}\r\nx\r\ny": "error",
	})
}

func FuzzUTF7(f *testing.F) {
	for _, s := range []string{"&U,BTFw-", "a&-b", "&AOk-&AOk-", "&2D3eAA-", "inbox", "&AC8-"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := decodeUTF7(s)
		if err == nil && EncodeMailbox(name) != s {
			t.Fatalf("%q decodes to %q, which encodes to %q", s, name, EncodeMailbox(name))
		}
		enc := EncodeMailbox(s)
		if strings.IndexFunc(enc, func(r rune) bool { return !direct(r) }) >= 0 {
			t.Fatalf("%q encodes to %q", s, enc)
		}
		if back, err := decodeUTF7(enc); err != nil || back != strings.ToValidUTF8(s, "\uFFFD") && len([]rune(back)) != len([]rune(s)) {
			t.Fatalf("%q encodes to %q, which decodes to %q, %v", s, enc, back, err)
		}
	})
}

func TestFetchItems(t *testing.T) {
	show := func(p *Parser) string {
		var out []string
		for _, it := range p.FetchItems() {
			s := fmt.Sprint(it.Kind)
			if it.Kind >= FetchSection {
				s = string(it.AppendSection(nil))
				if it.Section.Peek {
					s += "!"
				}
				if it.Section.Partial != nil {
					s += fmt.Sprint(it.Section.Partial.Size)
				}
			}
			out = append(out, s)
		}
		return strings.Join(out, " ")
	}
	check(t, show, map[string]string{
		"ALL":                       "1 2 3 4",
		"fast":                      "1 2 3",
		"FULL":                      "1 2 3 4 5",
		"FLAGS":                     "1",
		"(UID FLAGS FLAGS)":         "0 1",
		"(BODYSTRUCTURE BODY)":      "6 5",
		"BODY[]":                    "BODY[]",
		"body.peek[1.2.mime]<5.10>": "BODY[1.2.MIME]<5>!10",
		"BODY[HEADER.FIELDS (To \"Cc\" {7}\r\nSubject)]": "BODY[HEADER.FIELDS (To Cc Subject)]",
		"BODY[1.HEADER.FIELDS.NOT (a)]":                  "BODY[1.HEADER.FIELDS.NOT (a)]",
		"(RFC822 RFC822.HEADER RFC822.TEXT RFC822.SIZE)": "RFC822 RFC822.HEADER! RFC822.TEXT 3",
		"BODY[TEXT]":             "BODY[TEXT]",
		"BODY[MIME]":             "error",
		"BODY[0]":                "error",
		"BODY[1.]":               "error",
		"BODY[1":                 "error",
		"BODY[]<1>":              "error",
		"BODY[]<1.0>":            "error",
		"BODY[HEADER.FIELDS ()]": "error",
		"BODY[FOO]":              "error",
		"(ALL)":                  "error",
		"ALLX":                   "error",
		"()":                     "error",
		"FOO":                    "error",
		"BODY[" + strings.Repeat("1.", 20) + "1]": "error",
	})
}

func show(k SearchKey) string {
	s := fmt.Sprint(k.Op)
	if k.Name != "" || k.Value != "" {
		s += fmt.Sprintf("[%s=%s]", k.Name, k.Value)
	}
	if k.Day != 0 || k.N != 0 {
		s += fmt.Sprintf("[%d]", int64(k.Day)+k.N)
	}
	if k.Set != nil {
		s += "[" + k.Set.String() + "]"
	}
	for i, c := range k.Keys {
		s += [2]string{"(", " "}[min(i, 1)] + show(c)
	}
	if k.Keys != nil {
		s += ")"
	}
	return s
}

func TestSearch(t *testing.T) {
	check(t, func(p *Parser) string { return show(p.Search()) }, map[string]string{
		"ALL":                         "0",
		"1:3":                         "4[1:3]",
		"uid *":                       "5[*]",
		"UNSEEN":                      `3(6[=\Seen])`,
		"seen deleted":                `1(6[=\Seen] 6[=\Deleted])`,
		"(SEEN) NOT (DRAFT NEW)":      `1(6[=\Seen] 3(1(6[=\Draft] 1(6[=\Recent] 3(6[=\Seen])))))`,
		"OR OLD RECENT":               `2(3(6[=\Recent]) 6[=\Recent])`,
		"KEYWORD a UNKEYWORD b":       "1(6[=a] 3(6[=b]))",
		"SINCE 1-Feb-1994":            "9[19940201]",
		"SENTON 1-Feb-1994":           "11[19940201]",
		"LARGER 10 SMALLER 0":         "1(13[10] 14)",
		`FROM "a" HEADER X-Y ""`:      "1(15[FROM=a] 15[X-Y=])",
		"CHARSET UTF-8 TEXT {3}\r\n陳": "17[=陳]",
		"charset us-ascii BODY x":     "16[=x]",
		"CHARSET ISO-8859-1 ALL":      "error",
		"CHARSET UTF-8":               "error",
		"UNRECENT":                    "error",
		"UNALL":                       "error",
		"NOT":                         "error",
		"OR SEEN":                     "error",
		"()":                          "error",
		"(SEEN":                       "error",
		"SEEN)":                       "error",
		"FOO":                         "error",
		"":                            "error",
		"TEXT {1}\r\n\xff":            "error",
		strings.Repeat("(", 9) + "ALL" + strings.Repeat(")", 9):   "0",
		strings.Repeat("(", 10) + "ALL" + strings.Repeat(")", 10): "error",
		strings.Repeat("NOT ", 10) + "ALL":                        "error",
		strings.Repeat("OR SEEN ", 10) + "ALL":                    "error",
		strings.Repeat("(", 1000):                                 "error",
		strings.Repeat("ALL ", 100) + "ALL":                       "error",
	})
	p := parserOf(t, "CHARSET BIG5 ALL")
	p.Search()
	if e, ok := p.Err().(*Error); !ok || !e.No || !strings.HasPrefix(e.Code, "BADCHARSET") {
		t.Errorf("a charset that is not offered: %#v", p.Err())
	}
}

func TestEncode(t *testing.T) {
	for in, want := range map[string]string{
		"":                   `""`,
		"a b":                `"a b"`,
		`a"b\`:               `"a\"b\\"`,
		"a\r\nb OK injected": "{16}\r\na\r\nb OK injected",
		"é":                  "{2}\r\né",
		"a\x00b":             "{2}\r\nab",
		"\x7f":               "{1}\r\n\x7f",
	} {
		if got := string(AppendString(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{"INBOX": "INBOX", "a b": `"a b"`, "台北": "&U,BTFw-", "nil": `"nil"`, "": `""`, "a*": `"a*"`, "a\x01b": "a&AAE-b"} {
		if got := string(AppendMailbox(nil, in)); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if got := string(AppendFlags(nil, []string{`\Seen`, "a b", "", "x\r\n", "ok"})); got != `(\Seen ok)` {
		t.Errorf("flags: %s", got)
	}
	for in, want := range map[string]string{"a\r\nb": "a  b", "": "Done", "[ALERT] x": "ALERT] x", "é": "?"} {
		if got := Text(in); got != want {
			t.Errorf("Text(%q) = %q", in, got)
		}
	}
}

func FuzzWire(f *testing.F) {
	for _, s := range []string{
		"a SEARCH CHARSET UTF-8 OR (SEEN) NOT HEADER X \"y\" 1:*,7\r\n", "a FETCH 1:* (UID BODY.PEEK[1.2.HEADER.FIELDS (To {2}\r\nCc)]<0.10>)\r\n",
		"a APPEND &U,BTFw- (\\Seen a) \" 7-Feb-1994 21:52:25 -0800\" {3+}\r\nabc\r\n", "a LIST \"\" (%/* {3}\r\na*b)\r\n", "a STORE 1 +FLAGS (\\Deleted)\r\n",
		"a FETCH 1 ALL (CHANGEDSINCE 7 VANISHED)\r\n", "a STORE 1 (UNCHANGEDSINCE 0) FLAGS ()\r\n", "a SELECT x (CONDSTORE QRESYNC (7 9 1:4,7 (1,2 3,4)))\r\n",
		"a FETCH 1 (BINARY.PEEK[1.2]<0.9> BINARY.SIZE[])\r\n", "a APPEND x {1+}\r\na ~{1+}\r\nb\r\n", "a SEARCH RETURN (MIN SAVE) $ EMAILID a SAVEDON 1-Jan-2020\r\n", "a SEARCH MODSEQ \"/flags/\\\\draft\" all 9\r\n",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, in string) {
		r := NewReader(strings.NewReader(in))
		r.Limits = testLimits
		r.Continue = func() error { return nil }
		var c Command
		if err := r.ReadCommand(&c); err != nil {
			return
		}
		parsers := []func(p *Parser){
			func(p *Parser) { p.Search() },
			func(p *Parser) { p.Set().Resolve(7); p.SP(); p.FetchItems() },
			func(p *Parser) {
				p.Mailbox()
				p.SP()
				p.Flags()
				p.SP()
				p.DateTime()
				p.SP()
				p.Literal()
			},
			func(p *Parser) { NewPattern(p.ListMailbox()).Match("a/b/c"); p.SP(); p.NString() },
			func(p *Parser) { p.Day(); p.SP(); p.Base64() },
			func(p *Parser) { p.Set(); p.SP(); p.FetchItems(); p.SP(); p.FetchModifiers() },
			func(p *Parser) { p.Set(); p.SP(); p.UnchangedSince() },
			func(p *Parser) { p.UTF8 = true; AppendMailboxUTF8(nil, p.Mailbox()) },
			func(p *Parser) { p.Mailbox(); p.SP(); p.Literal8(); p.SP(); p.Literal8() },
			func(p *Parser) {
				p.Saved = func(bool) Set { return nil }
				p.SearchReturn()
				p.Search()
			},
			func(p *Parser) { p.Mailbox(); p.SP(); p.SelectParams() },
		}
		for _, parse := range parsers {
			p := c.Parser(testLimits)
			p.SP()
			parse(p)
			if p.End() == nil && !p.AtEnd() {
				t.Fatal("the parser did not take everything, and said nothing")
			}
		}
		p := c.Parser(testLimits)
		p.SP()
		if it := p.FetchItems(); p.End() == nil {
			for _, item := range it {
				if item.Kind < FetchSection {
					continue
				}
				name := string(item.AppendSection(nil))
				if strings.ContainsAny(name, "\x00\n") && !strings.Contains(name, "}\r\n") {
					t.Fatalf("a section prints as %q", name)
				}
			}
		}
	})
}

// parseSet reads a sequence-set that stands alone, as if it were a command's arguments.
func parseSet(s string, lim Limits) (Set, error) {
	c := &Command{text: []byte(s), pieces: []piece{{end: len(s)}}}
	p := c.Parser(lim)
	set := p.Set()
	return set, p.End()
}
