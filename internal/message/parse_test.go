package message

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// crlf turns the line feeds of a test message into CRLF.
func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

// outline is the tree of parts with their bodies, in one line.
func outline(p *Part, b []byte) string {
	s := p.Type + "/" + p.Subtype
	if p.Opaque {
		s += "!"
	}
	if len(p.Children) == 0 {
		return s + fmt.Sprintf("%q", b[p.BodyStart:p.BodyEnd])
	}
	var in []string
	for _, c := range p.Children {
		in = append(in, outline(c, b))
	}
	return s + "(" + strings.Join(in, " ") + ")"
}

const author = "From: alice@works.gov.example\n"

func TestParseStructure(t *testing.T) {
	for _, c := range []struct {
		name, in, want string
		defects        Defect
	}{
		{"plain", author + "Subject: x\n\nhello\n", `text/plain"hello\r\n"`, 0},
		{"empty", "", `text/plain""`, NoBlankLine | NoFrom},
		{"blank line first", "\nSubject: x\n\nhello\n", `text/plain"Subject: x\r\n\r\nhello\r\n"`, NoFrom},
		{"header only", author, `text/plain""`, NoBlankLine},
		{"no header at all", "hello\nworld\n", `text/plain"hello\r\nworld\r\n"`, NoBlankLine | NoFrom},
		{"no blank line", author + "hello there\nworld\n", `text/plain"hello there\r\nworld\r\n"`, NoBlankLine},
		{"no header but a blank line", "hello\n\nworld\n", `text/plain"hello\r\n\r\nworld\r\n"`, NoBlankLine | NoFrom},
		{"blank line too late", author + "hello there\n you\nworld\n\nbye", `text/plain"hello there\r\n you\r\nworld\r\n\r\nbye"`, NoBlankLine},
		{"text before and after a field", author + "broken\nX: y\nbroken again\n\nbye", `text/plain"bye"`, NoColon},
		{"author without address", "From: MAILER-DAEMON <>\n\nx", `text/plain"x"`, NoFrom},
		{
			"preamble without blank line", author + "Content-Type: multipart/mixed; boundary=a\nThis is a message in several parts.\n--a\n\none\n--a--\n",
			`multipart/mixed(text/plain"one")`, NoBlankLine,
		},
		{
			"missing blank lines", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\nhello\n\n--a\nContent-Type: text/css\nbye\n--a--\n",
			`multipart/mixed(text/html"hello\r\n" text/css"bye")`, NoBlankLine,
		},
		{"mbox line", "From alice@x Mon Jan  1 10:00:00 2024\n" + author + "\nhello", `text/plain"hello"`, MboxLine},
		{"quoted mbox line", ">From alice@x Mon\n" + author + "\nhello", `text/plain"hello"`, MboxLine},
		{"continuation first", " folded: x\n" + author + "\nhello", `text/plain"hello"`, OrphanFolding},
		{"line without colon", author + "no field here\nContent-Type: text/html\n\nhello", `text/html"hello"`, NoColon},
		{"space before colon", author + "Content-Type : text/html\n\nhello", `text/html"hello"`, 0},
		{"no value for type", author + "Content-Type: text\n\nhello", `text/plain"hello"`, BadContentType},
		{
			"multipart", author + "Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\nContent-Type: text/html\n\ntwo\n\n--b--\nepilogue\n",
			`multipart/mixed(text/plain"one" text/html"two\r\n")`, 0,
		},
		{
			"white space after the boundary", author + "Content-Type: multipart/mixed; boundary=\"b \"\n\n--b \t\n\none\n--b-- \n",
			`multipart/mixed(text/plain"one")`, 0,
		},
		{
			"boundary is a prefix of the inner", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\none\n--ab\n\ntwo\n--ab--\n--a\n\nthree\n--a--\n",
			`multipart/mixed(multipart/mixed(text/plain"one" text/plain"two") text/plain"three")`, 0,
		},
		{
			"boundary is a prefix of the outer", author + "Content-Type: multipart/mixed; boundary=ab\n\n--ab\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a--\n--ab\n\nthree\n--ab--\n",
			`multipart/mixed(multipart/mixed(text/plain"one") text/plain"three")`, 0,
		},
		{
			"boundary is the closing line of the outer", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=a--\n\n--a--\n\none\n--a----\n--a--\n",
			`multipart/mixed(multipart/mixed(text/plain"one"))`, 0,
		},
		{
			"same boundary twice", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/alternative; boundary=a\n\n--a\n\none\n--a--\n--a\n\ntwo\n--a--\n",
			`multipart/mixed(multipart/alternative(text/plain"one") text/plain"two")`, 0,
		},
		{
			"inner never closed", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--a\n\ntwo\n--a--\n",
			`multipart/mixed(multipart/mixed(text/plain"one") text/plain"two")`, Unclosed,
		},
		{"never closed", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n", `multipart/mixed(text/plain"one\r\n")`, Unclosed},
		{"closed at once", author + "Content-Type: multipart/mixed; boundary=a\n\n--a--\n", `text/plain!"--a--\r\n"`, NoParts},
		{"boundary never comes", author + "Content-Type: multipart/mixed; boundary=a\n\n--b\n\none\n", `text/plain!"--b\r\n\r\none\r\n"`, NoParts},
		{"no boundary parameter", author + "Content-Type: multipart/mixed\n\n--b\n\none\n", `text/plain!"--b\r\n\r\none\r\n"`, NoBoundary},
		{
			"header runs into the boundary", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n--a\n\ntwo\n--a--\n",
			`multipart/mixed(text/html"" text/plain"two")`, NoBlankLine,
		},
		{
			"text runs into the boundary", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\nhello you\n--a--\n",
			`multipart/mixed(text/html"hello you")`, NoBlankLine,
		},
		{"empty body before the boundary", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: text/html\n\n--a--", `multipart/mixed(text/html"")`, 0},
		{"boundary at the end", author + "Content-Type: multipart/mixed; boundary=a\n\n--a", `multipart/mixed(text/plain"")`, Unclosed | NoBlankLine},
		{
			"encoded multipart", author + "Content-Transfer-Encoding: base64\nContent-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a--\n",
			`multipart/mixed(text/plain"one")`, EncodedComposite,
		},
		{
			"message", author + "Content-Type: message/rfc822\n\n" + author + "Content-Type: text/html\n\nhello\n",
			`message/rfc822(text/html"hello\r\n")`, 0,
		},
		{
			"message of UTF-8", author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: message/global\n\n" + author + "\nhello\n--a--\n",
			`multipart/mixed(message/global(text/plain"hello"))`, 0,
		},
		{
			"encoded message", author + "Content-Type: message/rfc822\nContent-Transfer-Encoding: base64\n\nRnJvbTogYQ0KDQo=\n",
			`application/octet-stream!"RnJvbTogYQ0KDQo=\r\n"`, EncodedComposite,
		},
		{
			"digest", author + "Content-Type: multipart/digest; boundary=a\n\n--a\n\n" + author + "\none\n--a\nContent-Type: text/plain\n\ntwo\n--a--\n",
			`multipart/digest(message/rfc822(text/plain"one") text/plain"two")`, 0,
		},
		{
			"8-bit header", author + "Subject: \xa4\xa4\xa4\xe5\n\nhello", `text/plain"hello"`, EightBitHeader,
		},
		{"NUL", author + "Subject: a\x00b\n\nhel\x00lo", `text/plain"hel\x00lo"`, ControlInHeader},
		{"two types", author + "Content-Type: text/html\nContent-Type: text/css\n\nx", `text/html"x"`, DuplicateField},
		{"two authors", "From: a@x, b@x\n\nx", `text/plain"x"`, SeveralFrom},
		{"two From fields", "From: a@x\nFrom: b@x\n\nx", `text/plain"x"`, SeveralFrom | DuplicateField},
		{"empty group as author", "From: nobody:;\n\nx", `text/plain"x"`, NoFrom},
	} {
		b := crlf(c.in)
		x := Parse(b, Limits{})
		if got := outline(x.Root, b); got != c.want || x.Defects != c.defects {
			t.Errorf("%s:\n got %s, defects %b\nwant %s, defects %b", c.name, got, x.Defects, c.want, c.defects)
		}
		checkIndex(t, b, x)

		b = []byte(c.in) // with LF alone all is the same
		x = Parse(b, Limits{})
		got, want := outline(x.Root, b), strings.ReplaceAll(c.want, `\r\n`, `\n`)
		defects := c.defects
		if strings.Contains(c.in, "\n") {
			defects |= BareLF
		}
		if got != want || x.Defects|BareLF != defects|BareLF {
			t.Errorf("%s with LF:\n got %s, defects %b\nwant %s, defects %b", c.name, got, x.Defects, want, defects)
		}
		checkIndex(t, b, x)
	}
}

// checkIndex tests every invariant of an index.
func checkIndex(t *testing.T, b []byte, x *Index) {
	t.Helper()
	if x.Size != int64(len(b)) || x.Root.HeaderStart != 0 || x.Root.BodyEnd != x.Size {
		t.Fatalf("the root of %d bytes spans [%d, %d)", len(b), x.Root.HeaderStart, x.Root.BodyEnd)
	}
	var check func(p, parent *Part, from int64)
	check = func(p, parent *Part, from int64) {
		if !p.consistent(parent, from) {
			t.Fatalf("part %+v within %+v is not consistent", p, parent)
		}
		if want := int64(bytes.Count(b[p.BodyStart:p.BodyEnd], []byte{'\n'})); p.Lines != want {
			t.Fatalf("part %+v has %d lines", p, want)
		}
		header := b[p.HeaderStart:p.BodyStart]
		if h := ParseHeader(header, Limits{}); h.Len() != len(header) {
			t.Fatalf("header %q ends at %d", header, h.Len())
		}
		from = p.BodyStart
		for _, child := range p.Children {
			check(child, p, from)
			from = child.BodyEnd
		}
	}
	check(x.Root, nil, 0)
	packed := PackEnvelope(nil, x.Root.Envelope)
	if got, ok := UnpackEnvelope(nil, packed); !ok || string(got) != string(AppendEnvelope(nil, x.Root.Envelope)) {
		t.Errorf("the envelope is kept as %s", got)
	}
	if e, err := DecodeEnvelope(packed); err != nil || !reflect.DeepEqual(e, x.Root.Envelope) {
		t.Errorf("the envelope\n%+v is read as\n%+v, %v", x.Root.Envelope, e, err)
	}
	enc, err := x.AppendBinary([]byte("before"))
	if err != nil || !bytes.HasPrefix(enc, []byte("before")) {
		t.Fatalf("AppendBinary: %v", err)
	}
	y, err := DecodeIndex(enc[len("before"):])
	if err != nil {
		t.Fatalf("DecodeIndex: %v", err)
	}
	if !reflect.DeepEqual(x, y) {
		t.Fatalf("encoding loses something:\n%+v\n%+v", x.Root, y.Root)
	}
}

func TestParseLimits(t *testing.T) {
	deep := func(n int) []byte {
		var s strings.Builder
		s.WriteString(author)
		for i := range n {
			fmt.Fprintf(&s, "Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n", i, i)
		}
		s.WriteString("\ninnermost\n")
		return crlf(s.String())
	}
	depth := func(p *Part) (n int) {
		for ; len(p.Children) > 0; p = p.Children[0] {
			n++
		}
		return n
	}
	x := Parse(deep(100), Limits{})
	if depth(x.Root) != 100 || x.Defects&TooDeep != 0 {
		t.Errorf("100 levels: got %d, defects %b", depth(x.Root), x.Defects)
	}
	for n, b := range map[int][]byte{101: deep(101), 20000: deep(20000)} {
		x = Parse(b, Limits{})
		if depth(x.Root) != 100 || x.Defects&TooDeep == 0 {
			t.Errorf("%d levels: got %d, defects %b", n, depth(x.Root), x.Defects)
		}
		leaf := x.Root
		for len(leaf.Children) > 0 {
			leaf = leaf.Children[0]
		}
		if !leaf.Opaque || !bytes.Contains(b[leaf.BodyStart:leaf.BodyEnd], []byte("innermost")) {
			t.Errorf("%d levels: the leaf is %+v", n, leaf)
		}
		checkIndex(t, b, x)
	}
	nested := crlf(strings.Repeat("Content-Type: message/rfc822\n\n", 500) + author + "\nhello")
	x = Parse(nested, Limits{Depth: 7})
	if depth(x.Root) != 7 || x.Defects&TooDeep == 0 {
		t.Errorf("messages within messages: %d levels, defects %b", depth(x.Root), x.Defects)
	}
	checkIndex(t, nested, x)

	many := crlf(author + "Content-Type: multipart/mixed; boundary=b\n\n" + strings.Repeat("--b\n\nx\n", 100_000) + "--b--\n")
	for _, limit := range []int{0, 1, 2, 50} {
		x = Parse(many, Limits{Parts: limit})
		n := len(slices.Collect(x.Parts()))
		if want := cmpOr(limit, maxParts); n != want || x.Defects&TooManyParts == 0 {
			t.Errorf("parts: got %d, want %d, defects %b", n, want, x.Defects)
		}
		if last := slices.Collect(x.Parts())[n-1]; !last.Opaque || last.BodyEnd != x.Size {
			t.Errorf("the last part does not hold the rest: %+v", last)
		}
		checkIndex(t, many, x)
	}

	long := crlf(author + strings.Repeat("X-Filler: "+strings.Repeat("x", 90)+"\n", 100_000) + "Subject: late\n\nhello")
	x = Parse(long, Limits{})
	if x.Defects&LongHeader == 0 || x.Root.Envelope.Subject != "" || string(long[x.Root.BodyStart:]) != "hello" {
		t.Errorf("long header: defects %b, subject %q", x.Defects, x.Root.Envelope.Subject)
	}
	h := ParseHeader(long, Limits{})
	if int64(h.Len()) != x.Root.BodyStart || len(h.Fields()) == 0 || h.Get("Subject") != "" {
		t.Errorf("long header: %d bytes, %d fields", h.Len(), len(h.Fields()))
	}
	x = Parse(long, Limits{Fields: 5, HeaderBytes: 1 << 30})
	if x.Defects&ManyFields == 0 || len(ParseHeader(long, Limits{Fields: 5}).Fields()) != 5 {
		t.Errorf("many fields: defects %b", x.Defects)
	}
	checkIndex(t, long, x)
}

func cmpOr(a, b int) int {
	if a > 0 {
		return a
	}
	return b
}

func FuzzParse(f *testing.F) {
	f.Add(crlf(author + "Content-Type: multipart/mixed; boundary=a\n\n--a\nContent-Type: multipart/mixed; boundary=ab\n\n--ab\n\none\n--ab--\n--a--\n"))
	f.Add(crlf(author + "Content-Type: multipart/digest; boundary=a\n\n--a\n\n" + author + "\none\n--a\nContent-Type: text/plain\n\ntwo\n--a--\n"))
	f.Add([]byte("From x\n y\nTo: a, b;\nContent-Type: message/rfc822\n\n\n"))
	f.Add(crlf("From: g: a@x, \"b\" <c@d>;, <@r:e@f> (c)\nSender: z\nContent-Disposition: attachment; filename*0*=big5''%A4; filename*1*=%A4\nContent-Language: zh-hant, en\nContent-ID: <a>\nContent-MD5: x\n" +
		"Content-Type: multipart/mixed; boundary=\"\n--\n\n----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		checkIndex(t, b, Parse(b, Limits{}))
		x := Parse(b, Limits{HeaderBytes: 60, Fields: 3, Parts: 3, Depth: 1})
		if enc, err := x.AppendBinary(nil); err != nil {
			t.Fatal(err)
		} else if _, err := DecodeIndex(enc); err != nil {
			t.Fatal(err)
		}
		for part, text := range x.Texts(b, 100) {
			if part.Type != "text" || len(text) > 100 {
				t.Fatal("Texts")
			}
			part.Filename()
		}
		h := ParseHeader(b, Limits{})
		if int64(h.Len()) != Parse(b, Limits{}).Root.BodyStart {
			t.Fatal("ParseHeader and Parse do not agree")
		}
		last := 0
		for _, field := range h.Fields() {
			if field.Start < last || field.End <= field.Start || field.End > h.Len() || strings.ContainsAny(h.Value(field), "\r\n\x00") {
				t.Fatalf("field %+v", field)
			}
			last = field.End
			if FieldValue(b[:h.Len()], field.Name) != h.Get(field.Name) {
				t.Fatalf("FieldValue and Get do not agree about %s", field.Name)
			}
		}
	})
}
