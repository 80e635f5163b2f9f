package message

import (
	"bytes"
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"cmmpd/internal/mail"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/japanese"
	"golang.org/x/text/encoding/korean"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/encoding/unicode/utf32"
)

// The charsets that are not decoded by a table of x/text.
const (
	asciiName = "us-ascii"
	utf8Name  = "utf-8"
	utf7Name  = "utf-7"
)

// canonical is the name under which charsetOf knows a charset: the aliases that are
// found in mail but not in the registries, and those where the registries and the
// world disagree.
func canonical(name string) string {
	name = strings.ToLower(strings.Trim(name, " \t\"'<>"))
	switch name {
	case "", "ascii", "us-ascii", "ansi_x3.4-1968", "iso646-us", "us", "646", "unknown", "x-unknown", "unknown-8bit", "x-user-defined", "default", "none", "8bit", "7bit", "binary":
		return asciiName
	case "utf8", "utf-8", "x-utf-8", "utf_8", "x-utf_8j", "utf-8mb4", "utf8mb4", "unicode-1-1-utf-8", "cp65001", "65001":
		return utf8Name
	case "utf7", "utf-7", "unicode-1-1-utf-7", "x-unicode-2-0-utf-7", "csutf7", "cp65000":
		return utf7Name
	case "utf16", "unicode", "ucs-2", "iso-10646-ucs-2", "csunicode":
		return "utf-16"
	case "utf16be":
		return "utf-16be"
	case "utf16le":
		return "utf-16le"
	case "utf32", "ucs-4":
		return "utf-32"
	case "big5", "big-5", "big_5", "big5-hkscs", "big5hkscs", "big5_hkscs", "big5-hkscs:1999", "big5-hkscs:2001", "big5-hkscs:2004", "big5-hkscs:2008", "hkscs", "x-big5-hkscs",
		"big5-eten", "big5-e", "big5-2003", "big5-uao", "x-big5", "x-x-big5", "cn-big5", "csbig5", "zh_tw-big5", "cp950", "cp-950", "x-cp950", "ms950", "ms950_hkscs", "x-ms950-hkscs", "cp951",
		"windows-950", "windows950", "x-windows-950", "win-950", "950":
		return "big5"
	case "gb2312", "gb_2312-80", "gb2312-80", "gb_2312", "gb-2312", "x-gb2312", "csgb2312", "csiso58gb231280", "iso-ir-58", "chinese", "cn-gb", "euc-cn", "euccn", "x-euc-cn", "eucgb2312_cn", "zh_cn-gb",
		"gbk", "x-gbk", "csgbk", "cp936", "cp-936", "x-cp936", "ms936", "windows-936", "windows936", "x-mswin-936", "936",
		"gb18030", "gb-18030", "gb18030-2000", "gb18030-2005", "gb18030-2022", "cp54936", "windows-54936":
		return "gb18030"
	case "hz", "hz-gb-2312", "hz-gb2312", "hzgb2312", "hz-gb":
		return "hz"
	case "iso-2022-jp", "iso2022jp", "iso2022-jp", "iso-2022-jp-1", "iso-2022-jp-2", "iso-2022-jp-3", "iso-2022-jp-ms", "csiso2022jp", "csiso2022jp2", "cp50220", "cp50221", "cp50222", "jis":
		return "iso-2022-jp"
	case "shift_jis", "shift-jis", "shiftjis", "sjis", "x-sjis", "s-jis", "csshiftjis", "ms_kanji", "ms932", "cp932", "cp-932", "windows-932", "windows-31j", "cswindows31j", "932":
		return "shift_jis"
	case "euc-jp", "eucjp", "euc_jp", "x-euc-jp", "x-euc", "cp51932", "ujis":
		return "euc-jp"
	case "euc-kr", "euckr", "euc_kr", "x-euc-kr", "ks_c_5601-1987", "ks_c_5601", "ksc5601", "ks_c_5601-1989", "ksc_5601", "iso-ir-149", "korean", "cseuckr", "csksc56011987", "cp949", "cp-949", "ms949", "windows-949", "uhc", "johab-uhc", "949":
		return "euc-kr"
	}
	if number, ok := strings.CutPrefix(name, "cp-"); ok {
		return "cp" + number
	}
	return name
}

// charsetOf is the table of x/text for a canonical name, nil if there is none.
func charsetOf(name string) encoding.Encoding {
	switch name {
	case "big5":
		return traditionalchinese.Big5 // with HKSCS
	case "gb18030":
		return simplifiedchinese.GB18030 // holds GB 2312 and GBK
	case "hz":
		return simplifiedchinese.HZGB2312
	case "iso-2022-jp":
		return japanese.ISO2022JP
	case "shift_jis":
		return japanese.ShiftJIS
	case "euc-jp":
		return japanese.EUCJP
	case "euc-kr":
		return korean.EUCKR
	case "utf-16":
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM)
	case "utf-16be":
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case "utf-16le":
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case "utf-32":
		return utf32.UTF32(utf32.BigEndian, utf32.UseBOM)
	}
	if e, err := htmlindex.Get(name); err == nil && e != encoding.Replacement {
		return e
	}
	if e, err := ianaindex.IANA.Encoding(name); err == nil && e != nil && e != encoding.Replacement {
		return e
	}
	return nil
}

// toUTF8 converts b. What cannot be converted becomes U+FFFD. For a charset that is not
// known the error is of kind Unsupported and the text a guess. The result may share b's
// memory.
func toUTF8(b []byte, charset string) ([]byte, error) {
	switch name := canonical(charset); name {
	case asciiName:
		return guess(b), nil
	case utf8Name:
		return validUTF8(bytes.TrimPrefix(b, []byte("\xef\xbb\xbf"))), nil
	case utf7Name:
		return decodeUTF7(b), nil
	default:
		e := charsetOf(name)
		if e == nil {
			return guess(b), mail.E(mail.Unsupported, "the character set is not known", nil)
		}
		text, err := e.NewDecoder().Bytes(b)
		if err != nil {
			return validUTF8(text), mail.E(mail.Invalid, "the text is not in its character set", err)
		}
		return text, nil
	}
}

// guess converts text that does not say its charset: UTF-8 if it is that, else Big5 if
// every byte of it can be, else what is not UTF-8 becomes U+FFFD.
func guess(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	text, err := traditionalchinese.Big5.NewDecoder().Bytes(b)
	if err == nil && !bytes.ContainsRune(text, utf8.RuneError) {
		return text
	}
	return validUTF8(b)
}

// validUTF8 is b itself if it is UTF-8.
func validUTF8(b []byte) []byte {
	if utf8.Valid(b) {
		return b
	}
	return bytes.ToValidUTF8(b, []byte("\uFFFD"))
}

// decodeUTF7 is RFC 2152. Whatever is not UTF-7 is kept as ASCII or becomes U+FFFD.
func decodeUTF7(b []byte) []byte {
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		i := bytes.IndexByte(b, '+')
		if i < 0 {
			i = len(b)
		}
		out = append(out, validUTF8(b[:i])...)
		if b = b[i:]; len(b) == 0 {
			break
		}
		b = b[1:]
		n := 0
		for n < len(b) && isBase64(b[n]) {
			n++
		}
		out = appendUTF16(out, b[:n])
		if n == 0 && len(b) > 0 && b[0] == '-' {
			out = append(out, '+')
		}
		b = b[n:]
		if len(b) > 0 && b[0] == '-' {
			b = b[1:]
		}
	}
	return out
}

// appendUTF16 appends the text of a shifted run of UTF-7.
func appendUTF16(out, run []byte) []byte {
	raw := make([]byte, base64.RawStdEncoding.DecodedLen(len(run)))
	n, err := base64.RawStdEncoding.Decode(raw, run)
	if err != nil && n == 0 && len(run) > 0 {
		return utf8.AppendRune(out, utf8.RuneError)
	}
	units := make([]uint16, 0, n/2)
	for i := 0; i+1 < n; i += 2 {
		units = append(units, uint16(raw[i])<<8|uint16(raw[i+1]))
	}
	for _, r := range utf16.Decode(units) {
		out = utf8.AppendRune(out, r)
	}
	return out
}

func isBase64(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '+' || c == '/'
}
