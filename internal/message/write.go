package message

import (
	"encoding/base64"
	"strings"
	"time"
	"unicode/utf8"
)

// FormatDate is t as RFC 5322, section 3.3, writes it.
func FormatDate(t time.Time) string { return t.Format("Mon, 2 Jan 2006 15:04:05 -0700") }

// maxPlainValue is the longest text that EncodeWord leaves on one line.
const maxPlainValue = 900

// EncodeWord is the text s as the value of an unstructured field, or a display name,
// may carry it: as it is if it is printable ASCII, else as encoded words of UTF-8
// (RFC 2047), which are folded if there are several. Controls in s are lost.
// A display name of plain ASCII may still have to be quoted by the caller.
func EncodeWord(s string) string {
	if isPlain(s) && !strings.Contains(s, "=?") && len(s) <= maxPlainValue {
		return s
	}
	s = clean(strings.ToValidUTF8(s, "\uFFFD"))
	// 75 less =?utf-8?B? and ?= are 63 characters of base64, that is, 45 bytes.
	const most = 45
	var b strings.Builder
	for s != "" {
		end := min(most, len(s))
		for end < len(s) && !utf8.RuneStart(s[end]) {
			end--
		}
		if b.Len() > 0 {
			b.WriteString("\r\n ")
		}
		b.WriteString("=?utf-8?B?" + base64.StdEncoding.EncodeToString([]byte(s[:end])) + "?=")
		s = s[end:]
	}
	return b.String()
}
