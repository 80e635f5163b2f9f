package audit

import (
	"strconv"
	"strings"
	"unicode"
)

const csvHead = "seq,time,type,phase,act,actor,subject,client,approval,outcome,count,last,detail\r\n"

// appendCSV appends r as one line of CSV (RFC 4180), end of line included. No cell has an end of line in it.
func appendCSV(b []byte, r *Record) []byte {
	b = strconv.AppendInt(b, r.Seq, 10)
	b = append(b, ',')
	b = r.Time.AppendFormat(b, timeLayout)
	b = append(b, ',')
	b = append(append(b, r.Type...), ',')
	b = append(append(b, r.Phase...), ',')
	if r.Phase == phaseEnd {
		b = strconv.AppendInt(b, r.Act, 10)
	}
	for _, cell := range [...]string{r.Actor, r.Subject, r.Client, r.Approval, r.Outcome} {
		b = append(b, ',')
		b = appendCell(b, cell)
	}
	b = append(b, ',')
	if r.Count > 0 {
		b = strconv.AppendInt(b, r.Count, 10)
		b = append(b, ',')
		b = r.Last.AppendFormat(b, timeLayout)
	} else {
		b = append(b, ',')
	}
	b = append(b, ',')
	if len(r.Detail) > 0 {
		b = appendCell(b, string(appendDetail(nil, r.Detail)))
	}
	return append(b, "\r\n"...)
}

// appendCell appends a cell that no spreadsheet takes for a formula: what begins like one gets an apostrophe in front,
// the spreadsheets' own mark for text.
func appendCell(b []byte, s string) []byte {
	formula := startsFormula(s)
	quoted := strings.ContainsAny(s, ",\" ")
	if quoted {
		b = append(b, '"')
	}
	if formula {
		b = append(b, '\'')
	}
	b = appendVisible(b, s, func(b []byte, c rune) ([]byte, bool) {
		if c == '"' {
			return append(b, `""`...), true
		}
		return b, false
	})
	if quoted {
		b = append(b, '"')
	}
	return b
}

func startsFormula(s string) bool {
	s = strings.TrimLeftFunc(s, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) })
	for _, start := range [...]string{"=", "+", "-", "@", "＝", "＋", "－", "＠"} {
		if strings.HasPrefix(s, start) {
			return true
		}
	}
	return false
}
