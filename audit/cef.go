package audit

import (
	"strconv"
)

// appendCEF appends r as one event of ArcSight's Common Event Format, version 0, and a line end. A pipe would end a field
// of the header, an equals sign a key; line ends are written \n and \r. Types and phases have none of these.
func appendCEF(b []byte, r *Record) []byte {
	b = append(b, "CEF:0|cmmpd|cmmpd|"...)
	b = strconv.AppendInt(b, r.version(), 10)
	b = append(b, '|')
	b = append(append(b, r.Type...), '|')
	b = append(b, r.Type...)
	if r.Phase != "" {
		b = append(append(b, ' '), r.Phase...)
	}
	b = append(b, '|')
	b = strconv.AppendInt(b, int64(cefSeverity(r)), 10)
	b = append(b, "|externalId="...)
	b = strconv.AppendInt(b, r.Seq, 10)
	b = append(b, " rt="...)
	b = strconv.AppendInt(b, r.Time.UnixMilli(), 10)
	for _, f := range [...]struct{ key, value string }{
		{" suser=", r.Actor}, {" duser=", r.Subject}, {" shost=", r.Client}, {" outcome=", r.Outcome},
	} {
		if f.value != "" {
			b = appendCEFValue(append(b, f.key...), f.value)
		}
	}
	if r.Count > 0 {
		b = strconv.AppendInt(append(b, " cnt="...), r.Count, 10)
		b = strconv.AppendInt(append(b, " end="...), r.Last.UnixMilli(), 10)
	}
	if r.Phase == phaseEnd {
		b = strconv.AppendInt(append(b, " cn1Label=act cn1="...), r.Act, 10)
	}
	if r.Approval != "" {
		b = appendCEFValue(append(b, " cs1Label=approval cs1="...), r.Approval)
	}
	if len(r.Detail) > 0 {
		b = appendCEFValue(append(b, " cs2Label=detail cs2="...), string(appendDetail(nil, r.Detail)))
	}
	return append(b, '\n')
}

func appendCEFValue(b []byte, s string) []byte {
	return appendVisible(b, s, func(b []byte, c rune) ([]byte, bool) {
		switch c {
		case '\\', '=':
			return append(b, '\\', byte(c)), true
		case '\n':
			return append(b, `\n`...), true
		case '\r':
			return append(b, `\r`...), true
		}
		return b, false
	})
}

// cefSeverity is CEF's 0 to 10.
func cefSeverity(r *Record) int {
	switch weightOf(r) {
	case lossWeight:
		return 8
	case failureWeight:
		return 6
	case mustWeight:
		return 5
	}
	return 3
}

// weight is how much a record should be noticed.
type weight int

const (
	plainWeight weight = iota
	mustWeight         // an act of the class Must
	failureWeight
	lossWeight // records are missing
)

func weightOf(r *Record) weight {
	switch {
	case r.Type == AuditGap:
		return lossWeight
	case r.Outcome != "" && r.Outcome != okOutcome && r.Type != MailSealed && r.Type != MailPassed && r.Type != KeystoreState:
		return failureWeight
	case ClassOf(r.Type) == Must:
		return mustWeight
	}
	return plainWeight
}
