package intake

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
)

// parse reads the header, refuses what must not enter, and makes the text that will be
// kept: the bytes as they came, with trace fields on top. Fields of ours, or that would
// betray somebody, are cut out of the top-level header; nothing else is touched, so
// that signatures stay good.
func (in *Intake) parse(p *passage, raw []byte) error {
	h := message.ParseHeader(raw, in.o.Message)
	if hops := len(h.All("Received")); hops > in.o.MaxHops {
		return mail.E(mail.Refused, fmt.Sprintf("the message has passed %d servers: a loop", hops), nil)
	}
	if h.Len() > 0 && (raw[0] == ' ' || raw[0] == '\t') {
		// It would become part of the field that we put before it: of a From field, say.
		return mail.E(mail.Invalid, "the header of the message begins with a continuation line", nil)
	}
	var own []byte // fields that we add for the author
	if p.path == policy.Submission {
		if err := checkAuthor(p.env.Sender, h); err != nil {
			return err
		}
		if err := in.request(p, h); err != nil {
			return err
		}
		own = in.missing(p, h)
	}
	p.text = in.splice(p, h, raw, own)
	p.header = message.ParseHeader(p.text, in.o.Message)
	p.index = message.Parse(p.text, in.o.Message)
	if p.index.Defects&(message.LongHeader|message.ManyFields) != 0 {
		return mail.E(mail.TooLarge, "the header of the message is too large", nil)
	}
	return nil
}

// checkAuthor refuses a submission that does not name its author, once and truly
// (RFC 6409, section 6.1).
func checkAuthor(who *mail.Principal, h message.Header) error {
	froms := h.All("From")
	if len(froms) > 1 {
		return mail.E(mail.Refused, "the message has more than one From field", nil)
	}
	for name, values := range map[string][]string{"From": froms, "Sender": h.All("Sender")} {
		for _, v := range values {
			for _, a := range message.ParseAddressList(v) {
				own, ok := a.Mail()
				if a.Host == "" {
					continue // the marks of a group, RFC 6854
				}
				if !ok || !who.MaySendAs(own) {
					return mail.E(mail.Refused, "the "+name+" field names somebody whom you may not send as", nil)
				}
			}
		}
	}
	return nil
}

// missing are the fields that a submission must have and lacks (RFC 6409, section 8).
func (in *Intake) missing(p *passage, h message.Header) []byte {
	var b []byte
	if h.Get("Date") == "" {
		b = append(b, "Date: "+message.FormatDate(in.o.Now())+"\r\n"...)
	}
	if _, ok := messageID(h); !ok {
		b = append(b, "Message-ID: <"+string(mail.NewID())+"@"+in.o.Hostname+">\r\n"...)
	}
	if !names(h.Get("From")) {
		from := p.env.From
		if from.IsZero() {
			from = p.env.Sender.Address
		}
		b = append(b, "From: <"+from.String()+">\r\n"...)
	}
	return b
}

// names says whether an address list holds an address.
func names(list string) bool {
	for _, a := range message.ParseAddressList(list) {
		if _, ok := a.Mail(); ok {
			return true
		}
	}
	return false
}

// splice makes the text.
func (in *Intake) splice(p *passage, h message.Header, raw, own []byte) []byte {
	top := append(in.received(p.env), own...)
	end := h.Len()
	blank := end > 0 && raw[end-1] == '\n' && (end == 1 || raw[end-2] == '\n' || end == 2 || raw[end-3] == '\n')
	text := make([]byte, 0, len(top)+len(raw)+2)
	text = append(text, top...)
	at := 0
	for _, f := range h.Fields() {
		var instead []byte
		if !in.drops(p.path, h, f) {
			ok := false
			if p.asked != nil {
				instead, ok = in.withoutRequest(h, f)
			}
			if !ok {
				continue
			}
		}
		text = append(append(text, raw[at:f.Start]...), instead...)
		at = f.End
	}
	text = append(text, raw[at:end]...)
	if !blank { // or our fields and the body would run together
		if end > 0 && raw[end-1] != '\n' {
			text = append(text, "\r\n"...)
		}
		text = append(text, "\r\n"...)
	}
	return append(text, raw[end:]...)
}

// drops says whether the field f does not enter: who else got a copy (RFC 5322, section
// 3.6.3), a Return-Path, which final delivery alone writes (RFC 5321, section 4.4),
// results of an authentication that claim to be ours, or do not say whose they are (RFC
// 8601, section 5), and requests to lower the label: those of strangers ask in vain, and
// must not wait to be sent again by somebody who may.
func (in *Intake) drops(path policy.Path, h message.Header, f message.Field) bool {
	switch strings.ToLower(f.Name) {
	case "bcc", "resent-bcc":
		return path == policy.Submission
	case "return-path", strings.ToLower(policy.LowerField):
		return true
	case "authentication-results":
		id := authserv(h.Value(f))
		return id == "" || strings.EqualFold(id, in.o.Hostname)
	}
	return false
}

// authserv is the authserv-id of an Authentication-Results value (RFC 8601, section 2.2) as a
// lenient reader may understand it: comments are left out wherever they stand, and so are quotes,
// backslashes, a version and a final dot.
func authserv(v string) string {
	var b strings.Builder
	depth, quotes := 0, false
	for i := 0; i < len(v); i++ {
		c := v[i]
		switch {
		case c == '\\' && (quotes || depth > 0):
			if i++; depth == 0 && i < len(v) {
				b.WriteByte(v[i])
			}
		case c == '"' && depth == 0:
			quotes = !quotes
		case c == ';' && depth == 0:
			return clearID(b.String())
		case quotes:
			b.WriteByte(c)
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case depth > 0:
		case c == '/', (c == ' ' || c == '\t') && b.Len() > 0:
			return clearID(b.String())
		case c == ' ', c == '\t':
		default:
			b.WriteByte(c)
		}
	}
	return clearID(b.String())
}

// clearID takes out what a person or a reader may not see.
func clearID(id string) string {
	id = strings.Map(func(r rune) rune {
		if r <= ' ' || r == 0x7f || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, norm.NFKC.String(message.DecodeWords(id)))
	return strings.TrimRight(id, ".")
}

// received is our trace field (RFC 5321, section 4.4). Of our own users it says nothing
// but that they had logged in: neither which machine they sit at nor what it calls
// itself is anybody's business. It names no recipient, as that could be a blind one.
func (in *Intake) received(env *mail.Envelope) []byte {
	var b bytes.Buffer
	b.WriteString("Received: ")
	if env.Client.Protocol == mail.ProtocolQueue {
		fmt.Fprintf(&b, "by %s (delivery report)\r\n id %s; %s\r\n", in.o.Hostname, env.ID, message.FormatDate(in.o.Now()))
		return b.Bytes()
	}
	if env.Sender == nil {
		host, _, err := net.SplitHostPort(env.Client.Remote)
		if err != nil {
			host = env.Client.Remote
		}
		if strings.Contains(host, ":") {
			host = "IPv6:" + host
		}
		fmt.Fprintf(&b, "from %s ([%s])\r\n ", env.Client.Helo, host)
	}
	with := "ESMTP"
	if env.Client.TLS != "" {
		with += "S"
	}
	if env.Sender != nil {
		with += "A"
	}
	fmt.Fprintf(&b, "by %s with %s", in.o.Hostname, with)
	if env.Client.TLS != "" {
		fmt.Fprintf(&b, " (%s)", env.Client.TLS)
	}
	fmt.Fprintf(&b, "\r\n id %s; %s\r\n", env.ID, message.FormatDate(in.o.Now()))
	return b.Bytes()
}

var errNoRecipients = errors.New("no recipients")
