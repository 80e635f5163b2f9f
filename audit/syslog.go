package audit

import (
	"maps"
	"slices"
	"strconv"

	"cmmpd/internal/mail"
)

// Syslog is how records are written as RFC 5424 messages. The zero value is complete.
type Syslog struct {
	Host       string // HOSTNAME, printable ASCII; empty: "-"
	App        string // APP-NAME; empty: cmmpd
	Facility   int    // 0 to 23; 0: 13, the log audit
	Enterprise string // the private enterprise number in the names of structured data; empty: 32473, that of examples (RFC 5612)
	Limit      int    // octets of a message at most, 1,024 or more; longer values are cut; 0: no limit
}

// Check says what cannot stand in a message, with kind Invalid.
func (s *Syslog) Check() error {
	switch {
	case !syslogName(s.Host, 255):
		return mail.E(mail.Invalid, "the host name of syslog messages is not of printable ASCII, 255 characters at most", nil)
	case !syslogName(s.App, 48):
		return mail.E(mail.Invalid, "the application name of syslog messages is not of printable ASCII, 48 characters at most", nil)
	case s.Facility < 0 || s.Facility > 23:
		return mail.E(mail.Invalid, "the facility of syslog messages is not between 0 and 23", nil)
	case !enterpriseNumber(s.Enterprise):
		return mail.E(mail.Invalid, "the enterprise number is not a number, or several with dots between, of 24 characters at most", nil)
	case s.Limit != 0 && s.Limit < 1024:
		return mail.E(mail.Invalid, "the limit of syslog messages is below 1,024 octets", nil)
	}
	return nil
}

func syslogName(s string, most int) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return len(s) <= most
}

// enterpriseNumber is what stands behind the @ of an SD-ID (RFC 5424, section 7.2.2). With our names before it, 24
// characters make 32 at most.
func enterpriseNumber(s string) bool {
	digit := false
	for i := range len(s) {
		if s[i] == '.' && !digit || s[i] != '.' && (s[i] < '0' || s[i] > '9') {
			return false
		}
		digit = s[i] != '.'
	}
	return len(s) <= 24 && (s == "" || digit)
}

// Append appends r as one SYSLOG-MSG (RFC 5424, section 6) without framing. It has no line end in it: it is a line of a
// file, too. The text behind the structured data is for people, and says nothing that is not in them.
func (s *Syslog) Append(b []byte, r *Record) []byte {
	start := len(b)
	// Escaping and pictures make longer what is cut, so it is tried.
	for _, most := range [...]int{maxRecord, 1024, 256, 64, 16} {
		if b = s.append(b[:start], r, most, maxDetails+1); s.Limit == 0 || len(b)-start <= s.Limit {
			return b
		}
	}
	return s.append(b[:start], r, 16, 0)
}

// append cuts values to most octets, and leaves out all details but the first few.
func (s *Syslog) append(b []byte, r *Record, most, details int) []byte {
	facility, app := s.Facility, s.App
	if facility == 0 {
		facility = 13
	}
	if app == "" {
		app = "cmmpd"
	}
	b = append(b, '<')
	b = strconv.AppendInt(b, int64(facility*8+syslogSeverity(r)), 10)
	b = append(b, ">1 "...)
	b = r.Time.AppendFormat(b, "2006-01-02T15:04:05.000000Z") // six decimals at most
	b = append(b, ' ')
	if s.Host == "" {
		b = append(b, '-')
	}
	b = append(append(b, s.Host...), ' ')
	b = append(append(b, app...), " - "...)
	b = append(append(b, r.Type[:min(len(r.Type), 32)]...), ' ')
	b = s.data(b, r, most, details)
	b = append(append(b, ' '), r.Type...)
	if r.Phase != "" {
		b = append(append(b, ' '), r.Phase...)
	}
	return b
}

// data appends the structured data: audit@, with the members of the record under their names, and detail@.
func (s *Syslog) data(b []byte, r *Record, most, details int) []byte {
	enterprise := s.Enterprise
	if enterprise == "" {
		enterprise = "32473"
	}
	shortened := len(r.Detail) > details
	param := func(name, value string) {
		if value == "" {
			return
		}
		if len(value) > most {
			value, shortened = cut(value, most), true
		}
		b = append(append(append(b, ' '), name[:min(len(name), 32)]...), `="`...)
		b = append(appendVisible(b, value, escapeParam), '"')
	}
	number := func(name string, n int64) {
		b = append(append(append(b, ' '), name...), `="`...)
		b = append(strconv.AppendInt(b, n, 10), '"')
	}
	b = append(append(b, "[audit@"...), enterprise...)
	number("seq", r.Seq)
	b = append(append(r.Time.AppendFormat(append(b, ` time="`...), timeLayout), `" type="`...), r.Type...)
	b = append(b, '"')
	param("phase", r.Phase)
	if r.Phase == phaseEnd {
		number("act", r.Act)
	}
	param("actor", r.Actor)
	param("subject", r.Subject)
	param("client", r.Client)
	param("approval", r.Approval)
	param("outcome", r.Outcome)
	if r.Count > 0 {
		number("count", r.Count)
		b = append(r.Last.AppendFormat(append(b, ` last="`...), timeLayout), '"')
	}
	if len(r.Detail) > 0 && details > 0 {
		b = append(append(b, "][detail@"...), enterprise...)
		for _, name := range slices.Sorted(maps.Keys(r.Detail)) {
			param(name, r.Detail[name])
		}
	}
	if shortened {
		b = append(append(append(b, "][cut@"...), enterprise...), ` values="true"`...)
	}
	return append(b, ']')
}

// escapeParam is what RFC 5424, section 6.3.3, demands.
func escapeParam(b []byte, c rune) ([]byte, bool) {
	if c == '"' || c == '\\' || c == ']' {
		return append(b, '\\', byte(c)), true
	}
	return b, false
}

// syslogSeverity is one of RFC 5424, section 6.2.1.
func syslogSeverity(r *Record) int {
	switch weightOf(r) {
	case lossWeight:
		return 2 // critical
	case failureWeight:
		return 4 // warning
	case mustWeight:
		return 5 // notice
	}
	return 6 // informational
}
