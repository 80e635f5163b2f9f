package audit

import (
	"fmt"
	"strconv"
	"strings"
)

// The escapes of CEF: a pipe would end a header field, an equals sign a key; line ends
// are written \n and \r, and only values of the extension may have them.
func cefEscapes(header bool) *strings.Replacer {
	if header {
		return strings.NewReplacer(`\`, `\\`, `|`, `\|`, "\n", " ", "\r", " ")
	}
	return strings.NewReplacer(`\`, `\\`, `=`, `\=`, "\n", `\n`, "\r", `\r`)
}

// cefLine is r as one event of ArcSight's Common Event Format, version 0.
func cefLine(r *Record) string {
	header, value := cefEscapes(true), cefEscapes(false)
	var b strings.Builder
	name := r.Type
	if r.Phase != "" {
		name += " " + r.Phase
	}
	fmt.Fprintf(&b, "CEF:0|cmmpd|cmmpd|%d|%s|%s|%d|", recordVersion, header.Replace(r.Type), header.Replace(name), severity(r))
	sep := ""
	ext := func(key, v string) {
		if v != "" {
			b.WriteString(sep + key + "=" + value.Replace(visible(v)))
			sep = " "
		}
	}
	ext("externalId", strconv.FormatInt(r.Seq, 10))
	ext("rt", strconv.FormatInt(r.Time.UnixMilli(), 10))
	ext("suser", r.Actor)
	ext("duser", r.Subject)
	ext("shost", r.Client)
	ext("outcome", r.Outcome)
	if r.Count > 0 {
		ext("cnt", strconv.FormatInt(r.Count, 10))
		ext("end", strconv.FormatInt(r.Last.UnixMilli(), 10))
	}
	if r.Phase == phaseEnd {
		ext("cn1Label", "act")
		ext("cn1", strconv.FormatInt(r.Act, 10))
	}
	if r.Approval != "" {
		ext("cs1Label", "approval")
		ext("cs1", r.Approval)
	}
	if len(r.Detail) > 0 {
		ext("cs2Label", "detail")
		ext("cs2", string(appendDetail(nil, r.Detail)))
	}
	return b.String()
}

// severity is CEF's 0 to 10.
func severity(r *Record) int {
	switch {
	case r.Type == AuditGap:
		return 8
	case r.Outcome != "" && r.Outcome != okOutcome:
		return 6
	case ClassOf(r.Type) == Must:
		return 5
	}
	return 3
}

// visible replaces control characters, but for the line ends that are escaped.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if c < 0x20 && c != '\n' && c != '\r' || c >= 0x7f && c < 0xa0 || c == '\u2028' || c == '\u2029' {
			return ' '
		}
		return c
	}, s)
}
