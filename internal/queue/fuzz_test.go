package queue

import (
	"bufio"
	"bytes"
	"strings"
	"testing"
)

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-a\r\n250 b\r\n"))
	f.Add([]byte("550 5.1.1 no\r\n"))
	f.Add([]byte("250"))
	f.Add([]byte("250-2.0.0 x\r\n251 y\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := readReply(bufio.NewReaderSize(bytes.NewReader(b), maxReplyLine))
		if err != nil {
			return
		}
		if r.code < 200 || r.code > 599 || len(r.lines) == 0 || len(r.lines) > maxReplyLines {
			t.Fatalf("%q is read as %+v", b, r)
		}
		if s := r.String(); strings.ContainsAny(s, "\r\n") || len(s) > maxText+10 || r.status()[0] != byte('0'+r.code/100) {
			t.Fatalf("%q, %q", s, r.status())
		}
	})
}

func FuzzDecodeItem(f *testing.F) {
	it := &item{Version: itemVersion, ID: "x", From: "alice@works.gov.example", To: []recipient{{Address: "a@b.example", State: waiting}}}
	b, err := it.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(bytes.Replace(b, []byte(`"version":2`), []byte(`"version":1`), 1))
	f.Add([]byte(`{"version":3}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		it, err := decodeItem(b)
		if err != nil {
			return
		}
		again, err := it.encode()
		if err != nil || !bytes.Equal(again, b) && !bytes.Equal(again, bytes.Replace(b, []byte(`"version":1`), []byte(`"version":2`), 1)) {
			t.Fatalf("%q encodes as %q", b, again)
		}
	})
}

// FuzzDotWriter holds what goes out after DATA to what any server may rely on.
func FuzzDotWriter(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\nb", "a\n.\nb", "a\r.\rb", ".", "\r", "..\r\n", "x\r\r\n.\n"} {
		f.Add([]byte(s), 1)
	}
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		var out bytes.Buffer
		w := bufio.NewWriter(&out)
		d := &dotWriter{w: w}
		step = max(1, step&15)
		for i := 0; i < len(b); i += step {
			if _, err := d.Write(b[i:min(len(b), i+step)]); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		got := out.String()
		rest := strings.ReplaceAll(got, "\r\n", "")
		if strings.ContainsAny(rest, "\r\n") {
			t.Fatalf("%q leaves as %q, with a bare line end", b, got)
		}
		text, ok := readData(bufio.NewReader(strings.NewReader(got)))
		if !ok || len(got)-3 != len(got[:strings.LastIndex(got, ".\r\n")]) {
			t.Fatalf("%q leaves as %q, which does not end", b, got)
		}
		want := strings.NewReplacer("\r\n", "\r\n", "\r", "\r\n", "\n", "\r\n").Replace(string(b))
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n"
		}
		if text != want {
			t.Fatalf("%q arrives as %q", b, text)
		}
		if i := strings.Index("\r\n"+got, "\r\n.\r\n"); i != len(got)-3 {
			t.Fatalf("%q leaves as %q, with an end before the end", b, got)
		}
	})
}
