package ldif

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func readAll(t testing.TB, r io.Reader, lim Limits) ([]*Record, error) {
	t.Helper()
	var out []*Record
	for rd := NewReader(r, lim); ; {
		rec, err := rd.Next()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, rec)
	}
}

const sample = "version: 1\n# a comment\n  folded\n\ndn: uid=alice,dc=x\nobjectClass: person\ncn: Al\n ice\ncn;lang-zh-hant:: 6Zmz\nsn:\n\n\n" +
	"dn: uid=bob,dc=x\nchangetype: modify\nadd: mail\nmail: a@x\nmail: b@x\n-\ndelete: sn\n-\nreplace: cn\ncn: B\n\n" +
	"dn:: dWlkPWM=\r\nchangetype: delete\r\n\r\n" +
	"dn: uid=d\nchangetype: modrdn\nnewrdn: uid=e\ndeleteoldrdn: 1\nnewsuperior: dc=y\n"

func TestReader(t *testing.T) {
	want := []*Record{
		{Line: 5, DN: "uid=alice,dc=x", Values: []Value{
			{6, "objectClass", []byte("person")}, {7, "cn", []byte("Alice")}, {9, "cn;lang-zh-hant", []byte("陳")}, {10, "sn", []byte("")},
		}},
		{Line: 13, DN: "uid=bob,dc=x", Change: Modify, Mods: []Mod{
			{15, AddValues, "mail", []Value{{16, "mail", []byte("a@x")}, {17, "mail", []byte("b@x")}}},
			{19, DeleteValues, "sn", nil},
			{21, ReplaceValues, "cn", []Value{{22, "cn", []byte("B")}}},
		}},
		{Line: 24, DN: "uid=c", Change: Delete},
		{Line: 27, DN: "uid=d", Change: Rename, NewRDN: "uid=e", DeleteOldRDN: true, NewSuperior: "dc=y"},
	}
	for name, r := range map[string]io.Reader{"whole": strings.NewReader(sample), "by bytes": iotest.OneByteReader(strings.NewReader(sample))} {
		got, err := readAll(t, r, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range got {
			if fmt.Sprintf("%+v", got[i]) != fmt.Sprintf("%+v", want[i]) {
				t.Errorf("%s: record %d:\n got %+v\nwant %+v", name, i, got[i], want[i])
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d records", name, len(got))
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"version: 2\ndn: x":              "line 1: only version 1",
		"cn: x":                          "line 1: a record begins with dn",
		"dn: x":                          "line 1: the entry has no attributes",
		" x":                             "line 1: a continuation",
		"dn: x\ncn":                      "line 2: not of the form",
		"dn: x\ncn:< file:///etc/passwd": "line 2: values by URL",
		"dn: x\ncn:: $$$":                "line 2: the base64",
		"dn: x\ncn: \xff":                "line 2: the value must",
		"dn: x\nc n: y":                  "line 2: not an attribute",
		"dn: x\ncontrol: 1.2.3\nchangetype: delete":   "line 2: controls",
		"dn: x\nchangetype: destroy":                  "line 2: unknown changetype",
		"dn: x\nchangetype: delete\ncn: y":            "line 3: a delete record",
		"dn: x\nchangetype: modify":                   "line 1: the record changes nothing",
		"dn: x\nchangetype: modify\ncn: y":            "line 3: expected add",
		"dn: x\nchangetype: modify\nadd: cn\nsn: y":   "line 4: expected a value of cn",
		"dn: x\nchangetype: modify\nadd: cn\n-":       "line 3: add: needs",
		"dn: x\nchangetype: modrdn\nnewrdn: y":        "line 1: newrdn and",
		"dn: x\nchangetype: modrdn\nnewrdn: y\ncn: z": "line 4: not expected",
		"dn: x\n-":                                                "line 2: not of the form",
		"dn: x\ncn: " + strings.Repeat("y", 200):                  "line 2: the line is too long",
		"dn: x\n" + strings.Repeat("cn: yyyyyyyy\n", 60):          "too large",
		"# " + strings.Repeat("x\n# ", 2000):                      "the text is too large",
		"dn: x\ncn: y\n" + strings.Repeat(" yyyyyyyyyyyyyy\n", 9): "line 2: the line is too long",
	} {
		_, err := readAll(t, strings.NewReader(in), Limits{Line: 100, Record: 500, Total: 4000})
		var e *Error
		if !errors.As(err, &e) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", in, err, want)
		}
	}
}

func TestWriter(t *testing.T) {
	in := []Value{{Desc: "cn", Data: []byte("陳大文")}, {Desc: "description", Data: []byte(strings.Repeat("long ", 60))}, {Desc: "sn", Data: nil}, {Desc: "x", Data: []byte(" lead")}, {Desc: "y", Data: []byte("a\nb")}}
	var b bytes.Buffer
	w := NewWriter(&b)
	w.Entry("uid=alice,dc=x", in)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if len(line) > width+1 {
			t.Errorf("a line of %d", len(line))
		}
	}
	got, err := readAll(t, &b, Limits{})
	if err != nil || len(got) != 1 || len(got[0].Values) != len(in) {
		t.Fatalf("%v, %v", got, err)
	}
	for i, v := range got[0].Values {
		if v.Desc != in[i].Desc || !bytes.Equal(v.Data, in[i].Data) {
			t.Errorf("%d: %q", i, v.Data)
		}
	}
}

func FuzzLDIF(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("dn: x\nchangetype: modify\nadd: userCertificate;binary\nuserCertificate;binary:: AAAA\n-\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		recs, _ := readAll(t, bytes.NewReader(b), Limits{Line: 1000, Record: 10000, Total: 100000})
		var out bytes.Buffer
		w := NewWriter(&out)
		n := 0
		for _, r := range recs {
			if r.Change == Content {
				w.Entry(r.DN, r.Values)
				n++
			}
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		again, err := readAll(t, &out, Limits{})
		if err != nil || len(again) != n {
			// Values named like the words of a change record come back as one.
			for _, r := range recs {
				if r.Change == Content && len(r.Values) > 0 && (strings.EqualFold(r.Values[0].Desc, "changetype") || strings.EqualFold(r.Values[0].Desc, "control")) {
					return
				}
			}
			t.Fatalf("what was written is not read again: %d of %d, %v", len(again), n, err)
		}
	})
}
