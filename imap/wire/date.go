package wire

import (
	"strings"
	"time"
)

// Day is a calendar day without a zone, as SEARCH compares them: year*10000 + month*100 + day.
type Day int32

// DayOf is the day that t shows in its own zone.
func DayOf(t time.Time) Day {
	y, m, d := t.Date()
	return Day(y*10000 + int(m)*100 + d)
}

const months = "JanFebMarAprMayJunJulAugSepOctNovDec"

// Day takes a date: d-Mon-yyyy, quoted or not (RFC 3501: date).
func (p *Parser) Day() Day {
	var s string
	if p.Peek() == '"' {
		s = p.quoted()
	} else {
		s = p.Atom()
	}
	if p.err != nil {
		return 0
	}
	if len(s) == len("2-Jan-2006") {
		s = "0" + s
	}
	t, ok := day(s)
	if !ok {
		p.bad("Malformed date")
		return 0
	}
	return DayOf(t)
}

// day reads dd-Mon-yyyy; the first digit may be a space.
func day(s string) (time.Time, bool) {
	if len(s) != len("02-Jan-2006") || s[2] != '-' || s[6] != '-' {
		return time.Time{}, false
	}
	d, ok1 := digits(strings.Replace(s[:2], " ", "0", 1))
	y, ok2 := digits(s[7:])
	m := month(s[3:6])
	t := time.Date(y, time.Month(m), d, 0, 0, 0, 0, time.UTC)
	return t, ok1 && ok2 && m > 0 && s[1] != ' ' && t.Day() == d && d > 0
}

func month(s string) int {
	for i := 0; i < len(months); i += 3 {
		if strings.EqualFold(s, months[i:i+3]) {
			return i/3 + 1
		}
	}
	return 0
}

func digits(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		if !isDigit(s[i]) {
			return 0, false
		}
		n = n*10 + int(s[i]-'0')
	}
	return n, true
}

// DateTime takes a date-time: "dd-Mon-yyyy hh:mm:ss +zzzz" (RFC 3501: date-time).
func (p *Parser) DateTime() time.Time {
	s := p.quoted()
	if p.err != nil {
		return time.Time{}
	}
	t, ok := dateTime(s)
	if !ok {
		p.bad("Malformed date and time")
		return time.Time{}
	}
	return t
}

func dateTime(s string) (time.Time, bool) {
	var none time.Time
	if len(s) != len("02-Jan-2006 15:04:05 +0000") || s[11] != ' ' || s[14] != ':' || s[17] != ':' || s[20] != ' ' {
		return none, false
	}
	t, ok := day(s[:11])
	h, ok1 := digits(s[12:14])
	m, ok2 := digits(s[15:17])
	sec, ok3 := digits(s[18:20])
	zh, ok4 := digits(s[22:24])
	zm, ok5 := digits(s[24:26])
	sign := strings.IndexByte("-?+", s[21]) - 1
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || h > 23 || m > 59 || sec > 60 || zh > 23 || zm > 59 || sign != 1 && sign != -1 {
		return none, false
	}
	zone := time.FixedZone("", sign*(zh*3600+zm*60))
	return time.Date(t.Year(), t.Month(), t.Day(), h, m, sec, 0, zone), true
}

// AppendDateTime appends a date-time in quotes, as INTERNALDATE has it. A year outside 1..9999 is brought into it.
func AppendDateTime(dst []byte, t time.Time) []byte {
	if y := t.Year(); y < 1 || y > 9999 {
		t = time.Unix(0, 0).UTC()
	}
	if _, offset := t.Zone(); offset != 0 {
		return append(t.AppendFormat(append(dst, '"'), "_2-Jan-2006 15:04:05 -0700"), '"')
	}
	y, month, d := t.Date() // the usual case, five times as fast
	h, m, sec := t.Clock()
	two := func(n int) { dst = append(dst, byte('0'+n/10), byte('0'+n%10)) }
	dst = append(dst, '"')
	if d < 10 {
		dst = append(dst, ' ', byte('0'+d))
	} else {
		two(d)
	}
	dst = append(append(append(dst, '-'), month.String()[:3]...), '-')
	two(y / 100)
	two(y % 100)
	dst = append(dst, ' ')
	two(h)
	dst = append(dst, ':')
	two(m)
	dst = append(dst, ':')
	two(sec)
	return append(dst, ` +0000"`...)
}
