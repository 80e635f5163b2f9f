package message

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

func benchParse(b *testing.B, msg []byte) {
	b.SetBytes(int64(len(msg)))
	b.ReportAllocs()
	for b.Loop() {
		Parse(msg, Limits{})
	}
}

func BenchmarkParseUsual(b *testing.B) { benchParse(b, usual()) }

func BenchmarkParseAttachment(b *testing.B) {
	line := strings.Repeat("QUJD", 19) + "\n"
	benchParse(b, crlf(author+"Content-Type: multipart/mixed; boundary=b\n\n--b\n\ntext\n--b\nContent-Type: application/pdf\nContent-Transfer-Encoding: base64\n\n"+
		strings.Repeat(line, 5<<20/len(line))+"--b--\n"))
}

// BenchmarkParseHostile shows the speed on messages made to be slow: it should not
// fall with their size.
func BenchmarkParseHostile(b *testing.B) {
	head := author + "Content-Type: multipart/mixed; boundary=b\n\n--b\n"
	var deep strings.Builder
	for i := range 100 {
		fmt.Fprintf(&deep, "Content-Type: multipart/mixed; boundary=%c%d\n\n--%c%d\n", 'a'+i%26, i, 'a'+i%26, i)
	}
	for name, unit := range map[string]string{
		"dashes": "--\n", "near": "--b-\n", "parts": "--b\n\n", "fields": "a:b\n", "folds": " x\n", "junk": "x\n", "spaces": "--b                                          x\n",
		"type": "Content-Type: multipart/mixed; boundary=b\n\n--b\n", "params": ";a*0=b", "addresses": "a@b,", "groups": "a:;", "words": "=?",
	} {
		for _, size := range []int{1 << 20, 8 << 20} {
			prefix := head
			switch name {
			case "dashes", "near":
				prefix = author + deep.String() + "\n"
			case "params":
				prefix = "Content-Type: a/b"
			case "addresses", "groups":
				prefix = "From: "
			}
			msg := crlf(prefix + strings.Repeat(unit, size/len(unit)))
			b.Run(fmt.Sprintf("%s/%dMiB", name, size>>20), func(b *testing.B) { benchParse(b, msg) })
		}
	}
}

func BenchmarkAppendBinary(b *testing.B) {
	x := Parse(usual(), Limits{})
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf, _ = x.AppendBinary(buf[:0])
	}
	b.ReportMetric(float64(len(buf)), "bytes")
}

func BenchmarkDecodeIndex(b *testing.B) {
	enc := encoded(b, usual())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeIndex(enc); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseHeader(b *testing.B) {
	msg := usual()
	b.ReportAllocs()
	for b.Loop() {
		ParseHeader(msg, Limits{})
	}
}

func BenchmarkFieldValue(b *testing.B) {
	msg := usual()
	header := msg[:ParseHeader(msg, Limits{}).Len()]
	b.ReportAllocs()
	for b.Loop() {
		FieldValue(header, "References")
	}
}

func BenchmarkAddressListHostile(b *testing.B) {
	for _, unit := range []string{"a,", "<", "(", ")", "\"", "\\\"", "a:", "a:;", "<a@b", "<@a:", "<@,", "@", "[", "a@x,", "(a)", " ", ":", "a ", "a@", "<a>", "<\""} {
		s := strings.Repeat(unit, 1<<20/len(unit))
		b.Run(unit, func(b *testing.B) {
			b.SetBytes(int64(len(s)))
			for b.Loop() {
				ParseAddressList(s)
			}
		})
	}
}

func BenchmarkDecodeText(b *testing.B) {
	body := bytes.Repeat([]byte(strings.Repeat("QUJD", 19)+"\r\n"), 1000)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := DecodeText(body, "base64", "utf-8"); err != nil {
			b.Fatal(err)
		}
	}
}
