package audit

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Event says who did what to what, from where, under which approval. Fields that are
// too long are cut, with a mark. Events hold no secrets and no message content.
type Event struct {
	Type     string            // one of the constants of this package
	Actor    string            // who: a uid; empty for the platform itself
	Subject  string            // the thing acted on
	Client   string            // from where: an address, or "socket"
	Approval string            // the approval it is done under, if any
	Outcome  string            // "ok", or what went wrong; Begin leaves it empty
	Detail   map[string]string // more; names are of letters, digits, ".", "_" and "-"
}

// Limits, in bytes before escaping. Escaping makes a byte six at most; together with
// maxDetail they keep a record below the 65,535 bytes of a C2SP entry.
const (
	maxActor    = 512
	maxSubject  = 1024
	maxClient   = 256
	maxApproval = 256
	maxOutcome  = 1024
	maxName     = 64    // of a detail
	maxValue    = 4096  // of a detail
	maxDetails  = 64    // how many
	maxDetail   = 32768 // all of them together, escaped
)

// bounded is e made valid: UTF-8, within the limits, and owning its Detail.
func (e Event) bounded() Event {
	e.Actor = cut(e.Actor, maxActor)
	e.Subject = cut(e.Subject, maxSubject)
	e.Client = cut(e.Client, maxClient)
	e.Approval = cut(e.Approval, maxApproval)
	e.Outcome = cut(e.Outcome, maxOutcome)
	if len(e.Detail) == 0 {
		e.Detail = nil
		return e
	}
	names := make([]string, 0, len(e.Detail))
	for name := range e.Detail {
		names = append(names, name)
	}
	slices.Sort(names)
	out := make(map[string]string, len(names))
	size, dropped := 0, 0
	for _, name := range names {
		clean, value := cleanName(name), cut(e.Detail[name], maxValue)
		n := len(appendString(nil, clean)) + len(appendString(nil, value)) + 2
		if _, twice := out[clean]; twice || len(out) >= maxDetails || size+n > maxDetail {
			dropped++
			continue
		}
		size += n
		out[clean] = value
	}
	if dropped > 0 {
		out["-cut"] = fmt.Sprintf("%d more", dropped)
	}
	e.Detail = out
	return e
}

// cut makes s valid UTF-8 of n bytes at most, plus a mark that says how long it was.
func cut(s string, n int) string {
	if len(s) > n {
		end := n
		if i := strings.LastIndex(s[:end], hiddenMark); i >= 0 && end-i < hiddenLen {
			end = i // half a digest is of no use
		}
		for end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
			end--
		}
		s = fmt.Sprintf("%s[cut, was %d bytes]", strings.ToValidUTF8(s[:end], "?"), len(s))
	}
	return strings.ToValidUTF8(s, "?")
}

// cleanName makes a detail's name one that validName accepts.
func cleanName(name string) string {
	b := []byte(name)
	if len(b) > maxName {
		b = b[:maxName]
	}
	for i, c := range b {
		if !nameByte(c) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		return "_"
	}
	return string(b)
}

// validName is the grammar of type names and of detail names. They are ASCII, so that
// sorting by bytes is sorting by UTF-16 code units (RFC 8785, section 3.2.3).
func validName(s string) bool {
	if s == "" || len(s) > maxName {
		return false
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return false
		}
	}
	return true
}

func nameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
}

// host is the address without the port, so that repeats from one machine can be folded.
func host(client string) string {
	if h, _, err := net.SplitHostPort(client); err == nil {
		return h
	}
	return client
}

// timeLayout is RFC 3339 in UTC with nanoseconds, always 30 bytes.
const timeLayout = "2006-01-02T15:04:05.000000000Z"

// stamp brings t into what timeLayout can write, whatever the clock says.
func stamp(t time.Time) time.Time {
	t = t.Round(0).UTC()
	if y := t.Year(); y < 0 || y > 9999 {
		return time.Unix(0, 0).UTC()
	}
	return t
}
