package queue

import (
	"bytes"
	_ "embed"
	"fmt"
	"mime/quotedprintable"
	"slices"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// reportKind says what a report is about.
type reportKind int

const (
	failure reportKind = iota // some recipients will not get the message
	delay                     // some have not got it yet
)

func (k reportKind) String() string { return [...]string{"failure", "delay"}[k] }

//go:embed failure.txt
var failureText string

//go:embed delay.txt
var delayText string

// said is what the words of a report are made from.
type said struct {
	Host       string // ours
	MessageID  string
	Recipients []saidRecipient
	Uncertain  bool // of one of them
	Until      string
}

type saidRecipient struct {
	Address, Server, Text string
	Uncertain             bool // the server may have the message all the same
	Full                  bool // it is the mailbox that is full
}

// report is what one says, and who says it when.
type report struct {
	kind  reportKind
	host  string // ours
	now   time.Time
	until time.Time // how long the item is tried
	it    *item
}

// Failure is what a report says that no item of the queue is behind.
type Failure struct {
	Hostname     string // ours
	Sender       mail.Address
	Time         time.Time
	Confidential bool   // only who, when and which is said of the message
	Header       []byte // the beginning of the message, with its header
	Recipients   []Failed
}

// Failed is a recipient who does not get the message, and why.
type Failed struct {
	Address mail.Address
	Status  string // RFC 3463
	Text    string // ASCII, one line
}

// Report composes the report about a failure (RFC 3464).
func Report(f Failure) ([]byte, error) {
	it := &item{Version: itemVersion, From: f.Sender.String(), Accepted: f.Time.UnixMilli(), Confidential: f.Confidential}
	for _, r := range f.Recipients {
		it.To = append(it.To, recipient{Address: r.Address.String(), State: failed, Status: r.Status, Text: clean(r.Text)})
	}
	return report{kind: failure, host: f.Hostname, now: f.Time, it: it}.compose(f.Header)
}

func (q *Queue) compose(kind reportKind, it *item, header []byte) ([]byte, error) {
	return report{kind, q.o.Hostname, q.o.Now(), it.accepted().Add(q.o.Lifetime), it}.compose(header)
}

// compose makes a report (RFC 3464, as multipart/report of RFC 6522) about the recipients whom it concerns. header is
// the beginning of the message; of confidential mail only who, when and which is taken from it.
func (r report) compose(header []byte) ([]byte, error) {
	kind, it := r.kind, r.it
	concerned := it.in(failed)
	subject := "Undelivered mail 郵件未能送達"
	switch {
	case kind == delay:
		concerned, subject = it.in(waiting), "Delayed mail 郵件延遲送達"
	case !slices.ContainsFunc(concerned, func(r *recipient) bool { return r.Uncertain == 0 }):
		subject = "Delivery not confirmed 未能確定郵件是否送達"
	}
	h := message.ParseHeader(header, message.Limits{})
	text, err := r.words(h, concerned)
	if err != nil {
		return nil, err
	}
	boundary := string(mail.NewID())
	var b bytes.Buffer
	field := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, value) }
	part := func(fields ...string) {
		b.WriteString("\r\n--" + boundary + "\r\n")
		for _, f := range fields {
			b.WriteString(f + "\r\n")
		}
		b.WriteString("\r\n")
	}
	field("Date", message.FormatDate(r.now))
	field("From", "Mail Delivery System <postmaster@"+r.host+">")
	field("To", "<"+it.From+">")
	field("Subject", message.EncodeWord(subject))
	field("Message-ID", "<"+string(mail.NewID())+"@"+r.host+">")
	field("Auto-Submitted", "auto-replied") // RFC 3834
	field("MIME-Version", "1.0")
	field("Content-Type", "multipart/report; report-type=delivery-status;\r\n boundary=\""+boundary+"\"")
	part("Content-Type: text/plain; charset=utf-8", "Content-Transfer-Encoding: quoted-printable")
	qp := quotedprintable.NewWriter(&b)
	if _, err := qp.Write([]byte(text)); err != nil {
		return nil, err
	}
	if err := qp.Close(); err != nil {
		return nil, err
	}
	part("Content-Type: message/delivery-status")
	r.status(&b, concerned)
	kept := keptHeader(h, it.Confidential)
	encoding := "7bit"
	if eightBit(kept) {
		encoding = "8bit"
	}
	part("Content-Type: text/rfc822-headers; charset=utf-8", "Content-Transfer-Encoding: "+encoding)
	b.Write(kept)
	b.WriteString("\r\n--" + boundary + "--\r\n")
	return b.Bytes(), nil
}

// words is the part for people, in English and Traditional Chinese.
func (r report) words(h message.Header, concerned []*recipient) (string, error) {
	source := failureText
	if r.kind == delay {
		source = delayText
	}
	t, err := template.New(r.kind.String()).Parse(source)
	if err != nil {
		return "", err
	}
	s := said{Host: r.host, Until: r.until.Format("2006-01-02 15:04 -0700")}
	if ids := message.MessageIDs(h.Get("Message-ID")); len(ids) > 0 {
		s.MessageID = clean(ids[0])
	}
	for _, c := range concerned {
		s.Recipients = append(s.Recipients, saidRecipient{c.Address, c.Host, c.Text, c.Uncertain > 0, strings.HasSuffix(c.Status, ".2.2")})
		s.Uncertain = s.Uncertain || c.Uncertain > 0
	}
	var b strings.Builder
	if err := t.Execute(&b, s); err != nil {
		return "", err
	}
	return strings.ReplaceAll(b.String(), "\n", "\r\n"), nil
}

// status is the part for machines (RFC 3464, section 2).
func (r report) status(b *bytes.Buffer, concerned []*recipient) {
	fmt.Fprintf(b, "Reporting-MTA: dns; %s\r\nArrival-Date: %s\r\n", r.host, message.FormatDate(r.it.accepted()))
	for _, c := range concerned {
		action := "failed"
		if r.kind == delay {
			action = "delayed"
		}
		fmt.Fprintf(b, "\r\nFinal-Recipient: %s\r\nAction: %s\r\nStatus: %s\r\n", typedAddress(c.Address), action, c.Status)
		if c.Host != "" {
			fmt.Fprintf(b, "Remote-MTA: dns; %s\r\nDiagnostic-Code: smtp; %s\r\n", c.Host, fold(c.Text))
		} else if c.Text != "" {
			fmt.Fprintf(b, "Diagnostic-Code: x-cmmpd; %s\r\n", fold(c.Text))
		}
		if c.Last != 0 {
			fmt.Fprintf(b, "Last-Attempt-Date: %s\r\n", message.FormatDate(time.UnixMilli(c.Last)))
		}
		if r.kind == delay {
			fmt.Fprintf(b, "Will-Retry-Until: %s\r\n", message.FormatDate(r.until))
		}
	}
}

// typedAddress is an address as RFC 3464 or, where it is not ASCII, RFC 6533 (utf-8-addr-xtext) writes it.
func typedAddress(address string) string {
	if !eightBit([]byte(address)) {
		return "rfc822; " + address
	}
	var b strings.Builder
	for _, r := range address {
		if r < utf8.RuneSelf && r != '\\' && r != '+' && r != '=' {
			b.WriteRune(r)
		} else {
			fmt.Fprintf(&b, `\x{%X}`, r)
		}
	}
	return "utf-8; " + b.String()
}

// fold breaks a long text into lines that a header may have.
func fold(s string) string {
	const width = 70
	var b strings.Builder
	line := 0
	for i, word := range strings.Fields(s) {
		if i > 0 {
			if line+len(word) > width {
				b.WriteString("\r\n ")
				line = 0
			} else {
				b.WriteByte(' ')
			}
		}
		b.WriteString(word)
		line += len(word) + 1
	}
	return b.String()
}

// maxKept bounds the header that is given back.
const maxKept = 32 << 10

// keptHeader is the header of the message as the report shows it. Of confidential mail it is only what also the envelope
// and the trace of servers show; a field that hides something has no line here.
func keptHeader(h message.Header, confidential bool) []byte {
	var out []byte
	for _, f := range h.Fields() {
		switch strings.ToLower(f.Name) {
		case "message-id", "date", "from", "to":
		case "bcc", "resent-bcc":
			continue
		default:
			if confidential {
				continue
			}
		}
		raw := h.Raw(f)
		if len(out)+len(raw) > maxKept {
			continue
		}
		out = append(out, raw...)
		if !bytes.HasSuffix(raw, []byte("\n")) {
			out = append(out, "\r\n"...)
		}
	}
	return out
}
