package queue

import (
	"strings"
	"time"
)

// outcome is what an attempt came to for a recipient, or for all of them.
type outcome struct {
	state  state  // delivered, failed, or still waiting
	status string // RFC 3463
	text   string
	host   string // whose words text is; "": our own

	uncertain bool // the whole message went out; the server may have taken it
}

func permanent(status, text string) *outcome {
	return &outcome{state: failed, status: status, text: clean(text)}
}

func temporary(status, text string) *outcome {
	return &outcome{state: waiting, status: status, text: clean(text)}
}

// answered is the outcome that a reply means. A reply that is neither 2, 4 nor 5 makes no sense and is temporary.
func answered(r reply, host string) *outcome {
	o := &outcome{state: waiting, status: r.status(), text: r.String(), host: host}
	switch r.code / 100 {
	case 2:
		o.state = delivered
	case 5:
		o.state = failed
	case 3: // no class of a status
		o.status = "4.5.0"
	}
	return o
}

// inDoubt is the outcome with the doubt whether the server has the message.
func (o *outcome) inDoubt() *outcome {
	o.uncertain = true
	return o
}

// apply notes the outcome of an attempt. After the second one that is uncertain it is given up, for the server may be one
// that takes every copy and never says so.
func (r *recipient) apply(o *outcome, now time.Time) {
	r.State, r.Status, r.Text, r.Host, r.Last = o.state, o.status, o.text, o.host, now.UnixMilli()
	if !o.uncertain {
		return
	}
	if r.Uncertain++; r.Uncertain >= maxUncertain {
		r.State = failed
	}
}

// maxText bounds the words that are kept of an outcome: as one word they still fit a line of a report (998 octets).
const maxText = 900

// clean makes text fit for one line of a report: printable ASCII, bounded.
func clean(s string) string {
	var b strings.Builder
	for i := 0; i < len(s) && b.Len() < maxText; i++ {
		switch c := s[i]; {
		case c >= 0x20 && c < 0x7f:
			b.WriteByte(c)
		case c == '\t' || c == '\r' || c == '\n':
			b.WriteByte(' ')
		default:
			b.WriteByte('?')
		}
	}
	return strings.TrimSpace(b.String())
}
