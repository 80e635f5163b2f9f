package search

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cmmpd/internal/message"
)

func testAEAD(t testing.TB) cipher.AEAD {
	t.Helper()
	block, err := aes.NewCipher(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead
}

func source(data []byte) *Source {
	x := message.Parse(data, message.Limits{})
	return &Source{Header: data[:x.Root.BodyStart], Index: x, Read: func() ([]byte, error) { return data, nil }}
}

// built is a segment of messages, whose IDs are given.
func built(t testing.TB, ids []uint64, msgs [][]byte) []byte {
	t.Helper()
	b := NewBuilder()
	for i, m := range msgs {
		if err := b.Add(ids[i], source(m)); err != nil {
			t.Fatal(err)
		}
	}
	var file bytes.Buffer
	file.WriteString("head")
	n, err := b.Write(&file, 4, testAEAD(t), []byte("bound"))
	if err != nil || n != int64(file.Len()) {
		t.Fatalf("%d octets, told %d: %v", file.Len(), n, err)
	}
	return file.Bytes()
}

func opened(t testing.TB, file []byte) *Segment {
	t.Helper()
	s, err := Open(bytes.NewReader(file), 4, int64(len(file)), testAEAD(t), []byte("bound"))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Verify(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Pieces of texts that meet at their borders in every order: letters that fold to others or to several, marks that compose,
// scripts without spaces, half and full width, what separates, and words that are too long for a term.
var samples = []string{
	"a", "b", "ab", "B", "Zirconium", "ß", "ẞ", "ı", "İ", "I", "i", "Σ", "ς", "σ", "e", "\u0301", "é", "ﬁ", "K", "ſ",
	"中", "文", "新年快樂", "の", "カ", "ｶ", "\uff9e", "ガ", "한", "국", "\u1100", "\u1161", "ａ", "７", "7", "42", "①", "Ⅷ",
	" ", "-", ".", "@", "_", "　", "。", "“", "\u200d", "\ufe0f", "😀", "\u00ad", "(", ")", "\"", "\\", "<", ">", ",", ":", ";",
	strings.Repeat("xy", 40), "0123456789abcdefghijklmnopqrstuvw", strings.Repeat("é", 50), "Y2hhcmFjdGVycw" + strings.Repeat("Q", 60),
}

var wordsOf = rapid.Custom(func(t *rapid.T) string {
	return strings.Join(rapid.SliceOfN(rapid.SampledFrom(samples), 0, 8).Draw(t, "bits"), "")
})

// drawMessage is a message with texts in many places and encodings, and these texts.
func drawMessage(t *rapid.T, n int) (data []byte, texts []string) {
	text := func(what string) string {
		s := wordsOf.Draw(t, what)
		texts = append(texts, s)
		return s
	}
	var b bytes.Buffer
	for _, name := range rapid.SliceOfN(rapid.SampledFrom([]string{"Subject", "From", "To", "Cc", "Bcc", "X-Note", "subject", "Comments"}), 0, 4).Draw(t, "fields") {
		value := text("value")
		switch rapid.IntRange(0, 2).Draw(t, "form") {
		case 0:
			value = mime.BEncoding.Encode("utf-8", value)
		case 1:
			value = mime.QEncoding.Encode("utf-8", value)
		}
		fmt.Fprintf(&b, "%s: %s\r\n", name, value)
	}
	part := func() {
		content := text("text")
		switch rapid.IntRange(0, 4).Draw(t, "encoding") {
		case 0:
			fmt.Fprintf(&b, "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n%s\r\n", base64.StdEncoding.EncodeToString([]byte(content)))
		case 1:
			b.WriteString("Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n")
			w := quotedprintable.NewWriter(&b)
			_, _ = w.Write([]byte(content))
			_ = w.Close()
			b.WriteString("\r\n")
		case 2:
			fmt.Fprintf(&b, "Content-Type: application/pdf\r\nContent-Disposition: attachment; filename*=utf-8''%s\r\n\r\n%s\r\n", strings.ReplaceAll(mime.QEncoding.Encode("utf-8", text("name")), "?", ""), content)
		case 3:
			fmt.Fprintf(&b, "Content-Type: message/rfc822\r\n\r\nSubject: %s\r\n\r\n%s\r\n", mime.BEncoding.Encode("utf-8", text("inner")), content)
		case 4:
			fmt.Fprintf(&b, "\r\n%s\r\n", content)
		}
	}
	if rapid.Bool().Draw(t, "multipart") {
		fmt.Fprintf(&b, "Content-Type: multipart/mixed; boundary=\"=b%d=\"\r\n\r\n", n)
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			fmt.Fprintf(&b, "--=b%d=\r\n", n)
			part()
		}
		fmt.Fprintf(&b, "--=b%d=--\r\n", n)
	} else {
		part()
	}
	return b.Bytes(), texts
}

// drawNeedle is a piece of one of the texts, or something else.
func drawNeedle(t *rapid.T, texts []string) string {
	if rapid.IntRange(0, 3).Draw(t, "other") == 0 {
		return wordsOf.Draw(t, "needle")
	}
	r := []rune(rapid.SampledFrom(texts).Draw(t, "from"))
	from := rapid.IntRange(0, len(r)).Draw(t, "begin")
	return string(r[from:rapid.IntRange(from, len(r)).Draw(t, "end")])
}

// questions are the ways in which a needle can be asked for, each as the index is asked and as a message is looked into.
var questions = []struct {
	name    string
	fields  Fields
	inexact bool
	scan    func(*Source, *Folder, []byte) (bool, error)
}{
	{"TEXT", AllFields, false, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InText(f, AllFields, n) }},
	{"BODY", BodyOnly, false, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InText(f, BodyOnly, n) }},
	{"SUBJECT", Subject.Set(), false, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InField(f, "SUBJECT", n), nil }},
	{"FROM", From.Set(), false, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InField(f, "from", n), nil }},
	{"TO", To.Set(), false, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InField(f, "to", n), nil }},
	{"X-NOTE", Other.Set(), true, func(s *Source, f *Folder, n []byte) (bool, error) { return s.InField(f, "x-note", n), nil }},
}

// The index says yes only where a look into the message says yes, and no only where that says no.
func TestIndexAgreesWithScan(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var msgs [][]byte
		var texts []string
		var ids []uint64
		for i := range rapid.IntRange(1, 12).Draw(rt, "messages") {
			m, s := drawMessage(rt, i)
			msgs, texts, ids = append(msgs, m), append(texts, s...), append(ids, uint64(3*i+1))
		}
		var segment *Segment
		if rapid.Bool().Draw(rt, "merged") {
			half := len(msgs) / 2
			low, high := opened(t, built(t, ids[:half], msgs[:half])), opened(t, built(t, ids[half:], msgs[half:]))
			segment = opened(t, merged(t, []*Segment{high, low}, func(uint64) bool { return true }))
		} else {
			slices.Reverse(ids)
			slices.Reverse(msgs)
			segment = opened(t, built(t, ids, msgs))
			slices.Reverse(msgs)
		}
		folder := NewFolder()
		for range 8 {
			raw := drawNeedle(rt, texts)
			needle := folder.FoldString(raw)
			for _, q := range questions {
				query, ok := NewQuery(q.fields, needle)
				if !ok {
					continue
				}
				sets, err := segment.Find([]Query{query})
				if err != nil {
					rt.Fatal(err)
				}
				for i, m := range msgs {
					want, err := q.scan(source(m), folder, needle)
					if err != nil {
						rt.Fatal(err)
					}
					got := sets[0].Has(i)
					if want && !got || got && query.Exact && !q.inexact && !want {
						rt.Fatalf("%s %q: the index says %v (exact %v), the message says %v\n%q", q.name, raw, got, query.Exact, want, m)
					}
				}
			}
		}
	})
}

// FROM and its like find what the envelope shows, however the field is written, and what the field says.
func TestAddresses(t *testing.T) {
	const group = "Friends: \"J\\oe (Q) Public\" <\"joe\"@(here) example (there) .org>, bare @ example.net;"
	data := []byte("From: <user-from (comment)@ (comment) domain.org>\r\nTo: " + group + "\r\nCc: alone\r\nBcc: <@example.org>\r\nX-Note: a (b) @c\r\n\r\n\r\n")
	src, segment, folder := source(data), opened(t, built(t, []uint64{1}, [][]byte{data})), NewFolder()
	for _, c := range []struct {
		field  string
		needle string
		want   bool
	}{
		{"From", "user-from@domain.org", true},
		{"From", "USER-FROM@Domain.ORG", true},
		{"From", "user-from (comment)", true},
		{"From", "joe", false},
		{"To", "Joe (Q) Public <joe@example.org>", true},
		{"To", "bare@example.net", true},
		{"To", "friends", true},
		{"To", group, true},
		{"To", "oe (q) public\" <\"joe\"@(here)", true},
		{"Cc", "alone", true},
		{"Cc", "missing", false},
		{"Bcc", "@example.org", true},
		{"Bcc", "missing", false},
		{"X-Note", "a@c", false},
	} {
		needle := folder.FoldString(c.needle)
		if got := src.InField(folder, c.field, needle); got != c.want {
			t.Errorf("a look into the message for %s %q: %v", c.field, c.needle, got)
		}
		if got, err := src.InText(folder, AllFields, needle); err != nil || c.want && !got {
			t.Errorf("a look into the message for TEXT %q: %v, %v", c.needle, got, err)
		}
		q, ok := NewQuery(FieldOf(c.field).Set(), needle)
		if !ok {
			t.Fatalf("%q has no terms", c.needle)
		}
		sets, err := segment.Find([]Query{q})
		if err != nil {
			t.Fatal(err)
		}
		if got := sets[0].Has(0); c.want && !got || q.Exact && got != c.want {
			t.Errorf("the index for %s %q: %v, exact %v", c.field, c.needle, got, q.Exact)
		}
	}
}

func merged(t testing.TB, from []*Segment, keep func(uint64) bool) []byte {
	t.Helper()
	var file bytes.Buffer
	file.WriteString("head")
	n, _, err := Merge(&file, 4, testAEAD(t), []byte("bound"), from, keep, func() error { return nil })
	if err != nil || n != int64(file.Len()) {
		t.Fatalf("%d octets, told %d: %v", file.Len(), n, err)
	}
	return file.Bytes()
}

// Single words are answered without a look into the message.
func TestExact(t *testing.T) {
	for needle, want := range map[string]bool{
		"zirconium": true, "irco": true, "7": true, "中": true, "中文": true, "中文字": false, "a b": false, "a.": false, "a中": false,
		strings.Repeat("x", fragment): true, strings.Repeat("x", fragment+1): false,
	} {
		if q, ok := NewQuery(AllFields, []byte(needle)); !ok || q.Exact != want {
			t.Errorf("%q: exact %v, %v", needle, q.Exact, ok)
		}
	}
	for _, needle := range []string{"", " ", "...", "\xff"} {
		if _, ok := NewQuery(AllFields, []byte(needle)); ok {
			t.Errorf("%q: the index cannot know", needle)
		}
	}
}

// What is not kept is gone from a merged segment, with its words.
func TestMergeDrops(t *testing.T) {
	var msgs [][]byte
	var ids []uint64
	for i := range 300 {
		msgs = append(msgs, fmt.Appendf(nil, "Subject: common\r\n\r\nword%d every%d\r\n", i, i%7))
		ids = append(ids, uint64(i+1))
	}
	a, b := opened(t, built(t, ids[:200], msgs[:200])), opened(t, built(t, ids[100:], msgs[100:]))
	s := opened(t, merged(t, []*Segment{a, b}, func(id uint64) bool { return id%3 != 0 }))
	if len(s.Docs()) != 200 {
		t.Fatalf("%d messages", len(s.Docs()))
	}
	for needle, want := range map[string]int{"word29": 0, "word2": 0, "word3": 1, "common": 200, "every0": 29} {
		sets, err := s.Find([]Query{{Fields: AllFields, terms: []pattern{exactly([]byte(needle))}}})
		if err != nil {
			t.Fatal(err)
		}
		if n := sets[0].Len(); n != want {
			t.Errorf("%s: %d, want %d", needle, n, want)
		}
	}
}

// A segment in which an octet is changed says so, wherever it is, and gives no answer from there.
func TestDamage(t *testing.T) {
	file := built(t, []uint64{1, 2}, [][]byte{[]byte("Subject: one\r\n\r\nalpha beta\r\n"), []byte("Subject: two\r\n\r\nalpha gamma\r\n")})
	for at := 4; at < len(file); at++ {
		bad := bytes.Clone(file)
		bad[at] ^= 1
		s, err := Open(bytes.NewReader(bad), 4, int64(len(bad)), testAEAD(t), []byte("bound"))
		if err == nil {
			err = s.Verify()
		}
		if err == nil {
			t.Fatalf("octet %d was changed, and nobody noticed", at)
		}
	}
	if _, err := Open(bytes.NewReader(file), 4, int64(len(file)), testAEAD(t), []byte("other")); err == nil {
		t.Fatal("a segment was opened as another")
	}
}

// A message beyond the limits is a candidate for everything.
func TestPartial(t *testing.T) {
	var text bytes.Buffer
	text.WriteString("Subject: many\r\n\r\n")
	for i := range maxDocTerms + 10 {
		fmt.Fprintf(&text, "w%d\r\n", i)
	}
	text.WriteString("\r\nlast\r\n")
	docs := opened(t, built(t, []uint64{9, 10}, [][]byte{text.Bytes(), []byte("Content-Type: application/pkcs7-mime; smime-type=authEnveloped-data\r\n\r\nx")})).Docs()
	if !slices.Equal(docs, []Doc{{ID: 9, Partial: true}, {ID: 10, Encrypted: true}}) {
		t.Fatalf("%+v", docs)
	}
}
