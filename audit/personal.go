package audit

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A log can never be shortened, so what may have to be erased is not in it. Of personal data of outsiders, of addresses
// of clients and of reasons in somebody's own words the record has a digest: HMAC-SHA-256 over the value, under a random
// salt that belongs to this value alone. Salt and value are in a table beside the log. Without its row, a digest says
// nothing: who guesses the value cannot try it.

// Digest stands for a value in a record.
type Digest [sha256.Size]byte

// MinSalt is how many octets a salt has at least.
const MinSalt = 16

// Name is a row of the table: a value and its salt.
type Name struct {
	Salt  []byte
	Value string
}

// Digest is what stands for the value.
func (n Name) Digest() Digest {
	h := hmac.New(sha256.New, n.Salt)
	h.Write([]byte(n.Value))
	return Digest(h.Sum(nil))
}

// Names is the table. Its methods may be called by several goroutines at once.
type Names interface {
	// Hide returns the digest of each value. All rows are durable when it returns; there is one row for a value, which
	// remembers when it was last asked for.
	Hide(values []string, at time.Time) ([]Digest, error)
	// Reveal returns the row of a digest, if there is one.
	Reveal(d Digest) (n Name, ok bool, err error)
	// All calls f for every row, by ascending digest.
	All(f func(Name) error) error
}

// hiddenMark begins what stands for a value in a text; the digest follows in base64url without padding. In records of
// format 2 nothing else has these characters.
const hiddenMark = "hmac-sha256:"

const hiddenLen = len(hiddenMark) + 43

func (d Digest) String() string { return hiddenMark + base64.RawURLEncoding.EncodeToString(d[:]) }

// digestAt reads the digest that s begins with.
func digestAt(s string) (d Digest, ok bool) {
	if len(s) < hiddenLen || !strings.HasPrefix(s, hiddenMark) {
		return d, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s[len(hiddenMark):hiddenLen])
	if err != nil {
		return d, false
	}
	return Digest(b), true
}

// personal rewrites what of an event may have to be erased. local says of which domains the addresses are not.
type personal struct {
	local   func(domain string) bool
	replace func(value string) string
}

func (p *personal) event(e Event) Event {
	failedLogin := e.Type == AuthLogin && e.Outcome != okOutcome
	if failedLogin && e.Actor != "" {
		e.Actor = p.replace(e.Actor) // whatever was typed: perhaps a password
	} else {
		e.Actor = p.text(e.Actor)
	}
	e.Subject = p.text(e.Subject)
	e.Client = p.client(e.Client)
	e.Approval = p.text(e.Approval)
	e.Outcome = p.text(e.Outcome)
	if len(e.Detail) == 0 {
		return e
	}
	detail := make(map[string]string, len(e.Detail))
	for name, v := range e.Detail {
		switch {
		case name == "reason" && ClassOf(e.Type) == Must && v != "":
			detail[name] = p.replace(v) // in somebody's own words
		case name == "client" || name == "remote":
			detail[name] = p.client(v)
		default:
			detail[name] = p.text(v)
		}
	}
	e.Detail = detail
	return e
}

// client replaces the IP addresses of s, but for this machine's own. Ports stay.
func (p *personal) client(s string) string {
	words := strings.Split(defused(s), " ")
	for i, w := range words {
		w = strings.TrimRight(w, ",;")
		at, port := w, ""
		if a, err := netip.ParseAddrPort(w); err == nil {
			at = a.Addr().String()
			port = ":" + w[strings.LastIndexByte(w, ':')+1:]
		}
		if a, err := netip.ParseAddr(strings.Trim(at, "[]")); err == nil && !a.Unmap().IsLoopback() {
			words[i] = p.replace(a.WithZone("").String()) + port + words[i][len(w):]
		}
	}
	return strings.Join(words, " ")
}

// text replaces the mail addresses in s that are of other domains than ours.
func (p *personal) text(s string) string {
	s = defused(s)
	from := strings.IndexByte(s, '@')
	if from < 0 {
		return s
	}
	var b strings.Builder
	done := 0
	for at := from; at >= 0; {
		start, end := addressAround(s, done, at)
		if start < at && end > at+1 && !p.local(strings.TrimRight(s[at+1:end], ".")) {
			b.WriteString(s[done:start])
			b.WriteString(p.replace(s[start:end]))
			done = end
		}
		next := strings.IndexByte(s[at+1:], '@')
		if next < 0 {
			break
		}
		at += 1 + next
	}
	b.WriteString(s[done:])
	return b.String()
}

// addressAround finds the mail address of which s[at] is the sign, beginning at from or later. In doubt it takes more.
func addressAround(s string, from, at int) (start, end int) {
	start = at
	if start > from && s[start-1] == '"' { // a local part in quotes
		for i := start - 2; i >= from; i-- {
			if s[i] == '"' && (i == from || s[i-1] != '\\') {
				start = i
				break
			}
		}
	} else {
		for start > from {
			c, n := utf8.DecodeLastRuneInString(s[from:start])
			if !addressRune(c) {
				break
			}
			start -= n
		}
	}
	end = at + 1
	if strings.HasPrefix(s[end:], "[") { // an address in brackets
		if i := strings.IndexByte(s[end:], ']'); i > 0 {
			return start, end + i + 1
		}
	}
	for end < len(s) {
		c, n := utf8.DecodeRuneInString(s[end:])
		if c != '.' && c != '-' && c < 0x80 && !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			break
		}
		end += n
	}
	return start, len(strings.TrimRight(s[:end], ".-"))
}

// addressRune is what stands in an atom, RFC 5322, section 3.2.3, and RFC 6531, section 3.3; but what also stands between
// addresses ends one.
func addressRune(c rune) bool {
	return c >= 0x80 || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("!#$%&'*+-./=?^_`{|}~", c)
}

// defused is s without anything that looks like a digest.
func defused(s string) string {
	if !strings.Contains(s, hiddenMark) {
		return s
	}
	return strings.ReplaceAll(s, hiddenMark, "hmac-sha256;")
}

// hide makes the records ready to be written: values that are not for the log are replaced by digests, whose rows are
// durable when it returns.
func (l *Log) hide(records []*Record) ([]Record, error) {
	out := make([]Record, len(records))
	for i, r := range records {
		out[i] = *r
	}
	if l.opts.Names == nil {
		return out, nil
	}
	var values []string
	seen := make(map[string]int)
	gather := personal{l.opts.Local, func(v string) string {
		if _, ok := seen[v]; !ok {
			seen[v] = len(values)
			values = append(values, v)
		}
		return v
	}}
	for i := range out {
		gather.event(out[i].Event)
	}
	var digests []Digest
	if len(values) > 0 {
		var err error
		if digests, err = l.opts.Names.Hide(values, l.opts.Now()); err != nil {
			return nil, err
		}
	}
	put := personal{l.opts.Local, func(v string) string { return digests[seen[v]].String() }}
	for i := range out {
		out[i].Version = hidingVersion
		out[i].Event = put.event(out[i].Event).bounded()
	}
	return out, nil
}

// revealed is r with the values that the table still has.
func (r *Record) revealed(names Names) (Record, error) {
	if names == nil || r.Version < hidingVersion {
		return *r, nil
	}
	out := *r
	var failed error
	show := func(s string) string {
		v, err := reveal(s, names)
		if err != nil {
			failed = err
		}
		return v
	}
	for _, field := range []*string{&out.Actor, &out.Subject, &out.Client, &out.Approval, &out.Outcome} {
		*field = show(*field)
	}
	if len(r.Detail) > 0 {
		out.Detail = make(map[string]string, len(r.Detail))
		for name, v := range r.Detail {
			out.Detail[name] = show(v)
		}
	}
	return out, failed
}

// reveal replaces the digests in s by their values.
func reveal(s string, names Names) (string, error) {
	if !strings.Contains(s, hiddenMark) {
		return s, nil
	}
	var b strings.Builder
	for {
		i := strings.Index(s, hiddenMark)
		if i < 0 {
			b.WriteString(s)
			return b.String(), nil
		}
		b.WriteString(s[:i])
		s = s[i:]
		n := len(hiddenMark)
		if d, ok := digestAt(s); ok {
			row, there, err := names.Reveal(d)
			if err != nil {
				return "", err
			}
			n = hiddenLen
			if there {
				b.WriteString(row.Value)
				s = s[n:]
				continue
			}
		}
		b.WriteString(s[:n])
		s = s[n:]
	}
}

// digestsIn are the digests that stand in a record, each once.
func (r *Record) digestsIn() []Digest {
	if r.Version < hidingVersion {
		return nil
	}
	var out []Digest
	look := func(s string) {
		for i := strings.Index(s, hiddenMark); i >= 0; i = strings.Index(s, hiddenMark) {
			s = s[i:]
			if d, ok := digestAt(s); ok && !slices.Contains(out, d) {
				out = append(out, d)
			}
			s = s[len(hiddenMark):]
		}
	}
	for _, s := range []string{r.Actor, r.Subject, r.Client, r.Approval, r.Outcome} {
		look(s)
	}
	for _, s := range r.Detail {
		look(s)
	}
	return out
}
