package audit

import (
	"strconv"
	"strings"
)

func csvHead() []string {
	return []string{"seq", "time", "type", "phase", "act", "actor", "subject", "client", "approval", "outcome", "count", "last", "detail"}
}

func csvRow(r *Record) []string {
	row := []string{
		strconv.FormatInt(r.Seq, 10), r.Time.Format(timeLayout), r.Type, r.Phase, "",
		r.Actor, r.Subject, r.Client, r.Approval, r.Outcome, "", "", "",
	}
	if r.Phase == phaseEnd {
		row[4] = strconv.FormatInt(r.Act, 10)
	}
	if r.Count > 0 {
		row[10], row[11] = strconv.FormatInt(r.Count, 10), r.Last.Format(timeLayout)
	}
	if len(r.Detail) > 0 {
		row[12] = string(appendDetail(nil, r.Detail))
	}
	for i, cell := range row {
		row[i] = safeCell(cell)
	}
	return row
}

// safeCell keeps a spreadsheet from taking a cell for a formula: what begins like one
// gets an apostrophe in front, the spreadsheets' own mark for text. NUL becomes U+FFFD.
func safeCell(s string) string {
	s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	for _, start := range [...]string{"=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"} {
		if strings.HasPrefix(strings.TrimLeft(s, " "), start) {
			return "'" + s
		}
	}
	return s
}
