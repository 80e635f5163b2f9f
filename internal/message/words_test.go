package message

import (
	"bytes"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
)

func TestDecodeWords(t *testing.T) {
	for in, want := range map[string]string{
		"":                                           "",
		"plain":                                      "plain",
		"=?utf-8?Q?a_b=20c?=":                        "a b c",
		"=?UTF-8?b?5py65a+G?=":                       "机密",
		"=?utf-8*zh-hant?B?5qmf5a+G?=":               "機密",
		"=?us-ascii?Q?a?= b":                         "a b",
		"a =?us-ascii?Q?b?=":                         "a b",
		"=?us-ascii?Q?a?= =?us-ascii?Q?b?=":          "ab",
		"=?us-ascii?Q?a?=\r\n =?utf-8?Q?b?=":         "ab",
		"=?us-ascii?Q?a?==?us-ascii?Q?b?=":           "ab",
		"=?us-ascii?Q?a?= x =?utf-8?Q?b?=":           "a x b",
		"=?us-ascii?Q?a_?= =?us-ascii?Q?b?=":         "a b",
		"=?utf-8?B?5qk=?= =?UTF-8?B?n+Wvhg==?=":      "機密",     // cut within a character
		"=?utf-8?B?5qk=?= =?utf8?Q?=9F?=":            "機",      // with both encodings
		"=?utf-8?B?5qk?= =?utf-8?B?n+Wvhg?=":         "機密",     // without padding
		"=?big5?B?vvex?= =?cp950?B?Sw==?= (x)":       "機密 (x)", // with two names of one charset
		"=?big5-hkscs?B?nfid7g==?=":                  "啲㗎",     // a character of HKSCS
		"=?gb2312?B?u/rD3A==?=":                      "机密",
		"=?ISO-2022-JP?B?GyRCNSFMKRsoQg==?=":         "機密",
		"=?shift_jis?B?i0CWpw==?=":                   "機密",
		"=?utf-7?Q?+al9bxg-?=":                       "機密",
		"=?utf-8?Q?a b?=":                            "a b",
		"=?utf-8?Q?a=ZZ=?=":                          "a=ZZ=",
		"=?utf-8?X?abc?=":                            "=?X?abc?=",
		"=?utf-8?Q?abc":                              "=?utf-8?Q?abc",
		"=?utf-8?Q?a\r\nb?=":                         "=?utf-8?Q?a  b?=",
		"=?":                                         "=?",
		"=?=?us-ascii?Q?a?=":                         "=?a",
		"=??Q?a?=":                                   "=??Q?a?=",
		"=?no-such-charset?Q?caf=C3=A9?=":            "café",
		"=?utf-8?Q?a=00b=0D=0AFrom:_c=07=7F=C2=85?=": "ab  From: c",
		"=?utf-8?Q?a=E2=80=AEb=E2=81=A6?=":           "ab",
		"=?utf-8?Q?=FF=FE?=":                         "\uFFFD",
		"caf\u00e9 \xff":                             "caf\u00e9 \uFFFD",
		"\xbe\xf7\xb1K":                              "機密", // raw Big5
		"機密":                                         "機密",
		"tab\tnul\x00":                               "tab nul",
	} {
		if strings.HasPrefix(in, "=?utf-8?X") {
			want = in // not an encoding: left alone
		}
		if got := DecodeWords(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, unit := range []string{"=?", "=?a?Q?", "=?a?Q?b", "=?a?b?=?", "?=", "=?a?B?=?= ", "=?utf-8?Q?b?= "} {
		DecodeWords(strings.Repeat(unit, 1<<20/len(unit)))
	}
}

func TestEncodeWord(t *testing.T) {
	for in, want := range map[string]string{
		"plain text":    "plain text",
		"機密":            "=?utf-8?B?5qmf5a+G?=",
		"=?utf-8?Q?a?=": "=?utf-8?B?PT91dGYtOD9RP2E/PQ==?=",
		"a\r\nBcc: b@x": "=?utf-8?B?YSAgQmNjOiBiQHg=?=",
	} {
		if got := EncodeWord(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, s := range []string{strings.Repeat("機密文件 ", 50), strings.Repeat("x", 2000), strings.Repeat("aé", 100)} {
		enc := EncodeWord(s)
		for line := range strings.SplitSeq(enc, "\r\n ") {
			if len(line) > 75 || !strings.HasPrefix(line, "=?") || strings.Contains(DecodeWords(line), "\uFFFD") {
				t.Errorf("%q: line %q", s, line)
			}
		}
		if got := DecodeWords(enc); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
	}
}

func TestCharsetNames(t *testing.T) {
	const traditional, simplified = "機密文件", "机密文件"
	must := func(b []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	big5 := must(traditionalchinese.Big5.NewEncoder().Bytes([]byte(traditional)))
	gb := must(simplifiedchinese.GBK.NewEncoder().Bytes([]byte(simplified)))
	hz := must(simplifiedchinese.HZGB2312.NewEncoder().Bytes([]byte(simplified)))
	jis := must(japanese.ISO2022JP.NewEncoder().Bytes([]byte("機密文書")))
	for _, c := range []struct {
		names, want string
		in          []byte
	}{
		{"big5 Big5 BIG5 big5-hkscs Big5-HKSCS:2004 cp950 ms950 windows-950 x-big5 csbig5 cn-big5 \"big5\"", traditional, big5},
		{"gb2312 GB_2312-80 gbk cp936 windows-936 gb18030 x-gbk euc-cn chinese", simplified, gb},
		{"hz hz-gb-2312", simplified, hz},
		{"iso-2022-jp csISO2022JP cp50221", "機密文書", jis},
		{"shift_jis sjis x-sjis cp932 windows-31j", "機密", []byte("\x8b\x40\x96\xa7")},
		{"euc-jp x-euc-jp", "機密", []byte("\xb5\xa1\xcc\xa9")},
		{"euc-kr ks_c_5601-1987 cp949 uhc windows-949", "한글", []byte("\xc7\xd1\xb1\xdb")},
		{"utf-8 utf8 UTF-8 unicode-1-1-utf-8", traditional, []byte("\xef\xbb\xbf" + traditional)},
		{"utf-7 unicode-1-1-utf-7", "A機密+B", []byte("A+al9bxg-+-B")},
		{"utf-16 utf-16be", "機", []byte("\x6a\x5f")},
		{"utf-16", "機", []byte("\xff\xfe\x5f\x6a")},
		{"utf-16le", "機", []byte("\x5f\x6a")},
		{"iso-8859-1 latin1 windows-1252 cp1252 cp-1252", "é", []byte("\xe9")},
		{"iso-8859-15 iso8859-15", "€", []byte("\xa4")},
		{"koi8-r", "Я", []byte("\xf1")},
		{"cp437 ibm437", "é", []byte("\x82")},
		{"us-ascii ascii unknown-8bit", traditional, []byte(traditional)},
		{"us-ascii unknown-8bit", traditional, big5},
		{"us-ascii", "caf\uFFFD ", []byte("caf\xe9 ")},
	} {
		for name := range strings.FieldsSeq(c.names) {
			if got, err := toUTF8(c.in, name); err != nil || string(got) != c.want {
				t.Errorf("%s: got %q, %v; want %q", name, got, err, c.want)
			}
		}
	}
	for _, name := range []string{"iso-2022-kr", "euc-tw", "nonsense", "replacement"} {
		if got, err := toUTF8([]byte("abc"), name); err == nil || string(got) != "abc" {
			t.Errorf("%s: got %q, %v; want the text and an error", name, got, err)
		}
	}
}

func TestDecodeTransfer(t *testing.T) {
	for _, c := range []struct {
		encoding, in, want string
		bad                bool
	}{
		{"", "a=\r\n", "a=\r\n", false},
		{"7BIT", "a", "a", false},
		{"base64", "aGVs\r\nbG8=\r\n", "hello", false},
		{"Base64 (comment)", "aGVsbG8", "hello", false},
		{"base64", "aGVs!! bG8=", "hello", false},
		{"base64", "aGU=bGxv", "hello", false},
		{"base64", "aGVsb", "hel", true},
		{"base64", "", "", false},
		{"quoted-printable", "a=3Db=\r\nc \t\r\nd=e=ZZ=4", "a=bc\r\nd=e=ZZ=4", false},
		{"quoted-printable", "=e6=A9=9f=", "機", false},
		{"x-uuencode", "abc", "abc", true},
	} {
		got, err := DecodeTransfer([]byte(c.in), c.encoding)
		if string(got) != c.want || (err != nil) != c.bad {
			t.Errorf("%s %q: got %q, %v; want %q", c.encoding, c.in, got, err, c.want)
		}
	}
	if got, err := DecodeText([]byte("=BE=F7=B1K"), "Quoted-Printable", "Big5"); err != nil || string(got) != "機密" {
		t.Errorf("DecodeText: %q, %v", got, err)
	}
	if got, err := DecodeText([]byte("aGVsb"), "base64", "utf-8"); err == nil || string(got) != "hel" {
		t.Errorf("DecodeText of broken base64: %q, %v", got, err)
	}
}

func TestTexts(t *testing.T) {
	b := crlf(author + "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain; charset=big5\nContent-Transfer-Encoding: base64\n\nvvex\nSw==\n" +
		"--b\nContent-Type: image/png\n\nnot text\n--b\nContent-Type: message/rfc822\n\n" + author + "Content-Type: text/html\n\n<p>inner\n--b--\n")
	for limit, want := range map[int]string{0: "", 2: "|", 3: "機|", 5: "機|", 6: "機密|", 7: "機密|<|", 100: "機密|<p>inner|"} {
		got := ""
		for _, text := range Parse(b, Limits{}).Texts(b, limit) {
			got += string(text) + "|"
		}
		if limit == 5 || limit == 2 { // what is left may go to the next part
			got, _, _ = strings.Cut(got, "<")
		}
		if got != want {
			t.Errorf("limit %d: got %q, want %q", limit, got, want)
		}
	}
	for range Parse(b, Limits{}).Texts(b[:10], 100) {
		t.Error("a text beyond the end")
	}
}

func FuzzDecodeWords(f *testing.F) {
	f.Add("=?utf-8?B?5qk=?= =?UTF-8?B?n+Wvhg==?= x =?big5*zh?q?=BE=F7?=")
	f.Add("=?iso-2022-jp?B?GyRCNSFMKRsoQg==?= =?utf-7?Q?+al9bxg-?= =?hz?Q?~{;z~}?=")
	f.Fuzz(func(t *testing.T, s string) {
		got := DecodeWords(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, unicode.IsControl) {
			t.Fatalf("%q gives %q", s, got)
		}
		if len(got) > 8*len(s)+8 {
			t.Fatalf("%q gives %d bytes", s, len(got))
		}
		if back := DecodeWords(EncodeWord(got)); back != got {
			t.Fatalf("%q comes back as %q", got, back)
		}
		MessageIDs(s)
	})
}

func FuzzDecodeText(f *testing.F) {
	f.Add([]byte("=E6=A9=9F=\r\n"), "quoted-printable", "utf-8")
	f.Add([]byte("+al9bxg-"), "7bit", "utf-7")
	f.Add([]byte("GyRCNSFMKRsoQg=="), "base64", "iso-2022-jp")
	f.Fuzz(func(t *testing.T, b []byte, encoding, charset string) {
		in := bytes.Clone(b)
		text, _ := DecodeText(b, encoding, charset)
		if !utf8.Valid(text) {
			t.Fatalf("%q, %s, %s gives %q", b, encoding, charset, text)
		}
		if !bytes.Equal(in, b) {
			t.Fatal("the body was changed")
		}
	})
}
