package policy

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/mail"
)

// Signals are what a message and its history say about its label. The texts are
// unfolded and RFC 2047 decoded.
type Signals struct {
	SIOLabel       []string     // SIO-Label fields (RFC 7444)
	SIOSecurity    Security     // the security labels in them
	SIOOther       [][]string   // of each whose label is of another kind or cannot be read, what it says in words: marking, texts
	Signed         Security     // the security labels of its signatures (RFC 2634, RFC 5035)
	Classification []string     // X-Classification fields
	Sensitivity    []string     // Sensitivity fields (RFC 2156, as Outlook writes them)
	Subject        []string     // Subject fields; a message should have one
	Lowered        mail.Label   // what its author asked it to be lowered to
	Thread         []mail.Label // of the messages that this one answers
	Submission     []mail.Label // of what was submitted with the same Message-ID
	Texts          [][]byte     // its text parts as UTF-8, for the content rules
}

// Security is what some security labels say, whoever signed them.
type Security struct {
	Labels     []SecurityLabel
	Unreadable int // how many are there that cannot be read
}

// SecurityLabel is an ESS security label (RFC 2634, section 3.2) but its categories.
type SecurityLabel struct {
	Policy         string // an object identifier, dotted; may be empty
	Classification int    // NoClassification: absent
	PrivacyMark    string
}

// Source says where a label came from.
type Source string

// The sources, in the order in which they are named when several say the same.
const (
	FromNothing        Source = ""
	FromSIOLabel       Source = "sio-label"
	FromSignature      Source = "ess-label"
	FromClassification Source = "x-classification"
	FromSensitivity    Source = "sensitivity"
	FromSubject        Source = "subject"
	FromRequest        Source = "lowering"
	FromSubmission     Source = "submission"
	FromThread         Source = "thread"
	FromContent        Source = "content"
)

// Reading is one thing that says something about a label.
type Reading struct {
	Label  mail.Label
	Source Source
	Detail string // of a security label its policy and classification, of a content rule its name
}

// Classify is the strongest label that any signal gives, and the first source that
// gives it. A message about which nothing is said has the empty label.
func (p *Policy) Classify(s Signals) (mail.Label, Source) {
	var best Reading
	p.read(s, func(r Reading) {
		if p.labels.Rank(r.Label) > p.labels.Rank(best.Label) {
			best = r
		}
	})
	texts := p.contentTexts(s.Texts)
	for _, c := range p.content {
		if p.labels.Rank(c.Label) > p.labels.Rank(best.Label) && c.matches(texts) {
			best = Reading{Label: c.Label, Source: FromContent}
		}
	}
	return best.Label, best.Source
}

// Readings is all that the signals say about the label, in the order of the sources.
func (p *Policy) Readings(s Signals) []Reading {
	var out []Reading
	p.read(s, func(r Reading) {
		if r.Label != "" {
			out = append(out, r)
		}
	})
	texts := p.contentTexts(s.Texts)
	for _, c := range p.content {
		if c.matches(texts) {
			out = append(out, Reading{c.Label, FromContent, c.Name})
		}
	}
	return out
}

// read tells see what each signal says, but the content.
func (p *Policy) read(s Signals, see func(Reading)) {
	for _, v := range s.SIOLabel {
		see(Reading{Label: p.sioLabel(v), Source: FromSIOLabel})
	}
	p.readSecurity(s.SIOSecurity, FromSIOLabel, see)
	for _, words := range s.SIOOther {
		see(p.inWords(words))
	}
	p.readSecurity(s.Signed, FromSignature, see)
	for _, v := range s.Classification {
		l, _ := p.labels.Find(v)
		see(Reading{Label: l, Source: FromClassification})
	}
	for _, v := range s.Sensitivity {
		// Comments and quotes may stand around it (RFC 2156, section 5.3.4, has a bare word).
		if strings.Contains(strings.ReplaceAll(fold(v), " ", ""), "companyconfidential") {
			see(Reading{Label: p.guarded(), Source: FromSensitivity})
		}
	}
	for _, v := range s.Subject {
		see(Reading{Label: p.subjectLabel(v), Source: FromSubject})
	}
	see(Reading{Label: s.Lowered, Source: FromRequest})
	for _, l := range s.Submission {
		see(Reading{Label: l, Source: FromSubmission})
	}
	for _, l := range s.Thread {
		see(Reading{Label: l, Source: FromThread})
	}
}

// readSecurity tells see what security labels say: the stronger of classification and
// privacy mark. One that says nothing we know, or cannot be read, counts as confidential:
// somebody took care to put it there.
func (p *Policy) readSecurity(s Security, from Source, see func(Reading)) {
	for _, l := range s.Labels {
		r := Reading{Source: from, Detail: l.Policy}
		if l.Classification != NoClassification {
			r.Detail += ":" + strconv.Itoa(l.Classification)
		}
		label, known := p.labels.Classified(l.Policy, l.Classification)
		mark, marked := p.labels.Find(l.PrivacyMark)
		if r.Label = p.labels.Stronger(label, mark); !known && !marked {
			r.Label = p.guarded()
		}
		see(r)
	}
	if s.Unreadable > 0 {
		see(Reading{p.guarded(), from, "unreadable"})
	}
}

// inWords reads a label by what stands beside or within it. If all of that is unknown it counts as confidential,
// as in readSecurity.
func (p *Policy) inWords(words []string) Reading {
	r, known := Reading{Source: FromSIOLabel}, false
	for _, w := range words {
		if l, ok := p.labels.Find(w); ok {
			r.Label, known = p.labels.Stronger(r.Label, l), true
		}
	}
	if !known {
		r.Label, r.Detail = p.guarded(), "unreadable"
	}
	return r
}

// guarded is the weakest label that demands S/MIME: what mail programs mean that know
// only one degree of confidence, and what is not understood is taken for. If none
// demands it, it is the strongest.
func (p *Policy) guarded() mail.Label {
	for i, r := range p.rules {
		if r >= SMIME {
			return p.labels.defs[i].Label
		}
	}
	return p.labels.defs[len(p.rules)-1].Label
}

// ReadsContent says whether Classify looks at Signals.Texts, so that the caller may
// spare itself decoding them.
func (p *Policy) ReadsContent() bool { return len(p.content) > 0 }

// sioLabel reads the marking of an SIO-Label field: the display text of the label,
// which RFC 7444, section 2, says is there for those who cannot read the label itself.
// Where there is no marking, the whole field is searched.
func (p *Policy) sioLabel(v string) mail.Label {
	var marking strings.Builder
	for name, value := range params(v) {
		if name == "marking" || strings.HasPrefix(name, "marking*") {
			marking.WriteString(value)
		}
	}
	text := marking.String()
	if text == "" {
		text = v
	}
	l, _ := p.labels.Find(text)
	return l
}

// params splits "name=value; name="quoted"" as RFC 7444 writes them.
func params(s string) func(yield func(name, value string) bool) {
	return func(yield func(string, string) bool) {
		for s != "" {
			eq := strings.IndexByte(s, '=')
			if eq < 0 {
				return
			}
			name := strings.ToLower(strings.Trim(s[:eq], " \t;"))
			value, rest := paramValue(s[eq+1:])
			if !yield(name, value) {
				return
			}
			s = rest
		}
	}
}

func paramValue(s string) (value, rest string) {
	s = strings.TrimLeft(s, " \t")
	if !strings.HasPrefix(s, `"`) {
		value, rest, _ = strings.Cut(s, ";")
		return strings.TrimSpace(value), rest
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] == '"':
			return b.String(), strings.TrimLeft(s[i+1:], " \t;")
		default:
			b.WriteByte(s[i])
		}
	}
	return b.String(), ""
}

// subjectLabel is the strongest label in the brackets at the head of a subject, after
// and between the marks of replies and forwards.
func (p *Policy) subjectLabel(subject string) mail.Label {
	if len(subject) > maxFold {
		subject = subject[:maxFold]
	}
	subject = norm.NFKC.String(subject) // wide, small and vertical brackets and letters become the ordinary ones
	var best mail.Label
	for {
		subject = strings.TrimLeftFunc(subject, insignificant)
		if rest, ok := cutReplyMark(subject); ok {
			subject = rest
			continue
		}
		tag, rest, ok := cutBrackets(subject)
		if !ok {
			return best
		}
		if asked, _, ok := p.cutLowering(tag); ok { // its reason may name labels
			tag = asked
		}
		if l, ok := p.labels.Find(tag); ok {
			best = p.labels.Stronger(best, l)
		}
		subject = rest
	}
}

// insignificant says whether c may stand before a tag without hiding it: blanks, what
// cannot be seen, and decoration such as an asterisk, a quotation mark or a padlock.
func insignificant(c rune) bool {
	if opens(c) {
		return false
	}
	return unicode.IsSpace(c) || unicode.IsPunct(c) || unicode.IsSymbol(c) || unicode.In(c, unicode.Cc, unicode.Cf, unicode.Mn) || c == utf8.RuneError
}

// opens and closes say whether c is a bracket of any script; any closing one ends a tag.
func opens(c rune) bool  { return c == '<' || unicode.Is(unicode.Ps, c) }
func closes(c rune) bool { return c == '>' || unicode.Is(unicode.Pe, c) }

func cutBrackets(s string) (tag, rest string, ok bool) {
	c, n := utf8.DecodeRuneInString(s)
	if n == 0 || !opens(c) {
		return "", "", false
	}
	i := strings.IndexFunc(s[n:], closes)
	if i < 0 {
		return "", "", false
	}
	_, m := utf8.DecodeRuneInString(s[n+i:])
	return s[n : n+i], s[n+i+m:], true
}

// replyMarks are what mail programs put before the subject of a reply or a forwarded
// message, folded.
var replyMarks = map[string]bool{
	"re": true, "fw": true, "fwd": true, "aw": true, "wg": true, "sv": true, "vs": true, "tr": true, "rv": true, "antw": true, "res": true, "enc": true,
	"r": true, "i": true, "rif": true, "ref": true, "vb": true, "ynt": true, "ilt": true, "odp": true, "pd": true, "fs": true, "vl": true, "doorst": true,
	"回覆": true, "回复": true, "回復": true, "答覆": true, "答复": true, "轉寄": true, "转寄": true, "轉發": true, "转发": true, "自動回覆": true, "自动回复": true,
	"回應": true, "回应": true, "轉送": true, "转送": true, "返信": true, "転送": true, "已讀": true, "已读": true, "未讀": true, "未读": true, "已接受": true, "已拒絕": true, "已拒绝": true, "已取消": true,
	"automatic reply": true, "auto reply": true, "auto": true, "out of office": true, "read": true, "not read": true, "delivered": true, "undeliverable": true, "undelivered": true,
	"accepted": true, "declined": true, "tentative": true, "canceled": true, "cancelled": true, "updated": true, "invitation": true, "recall": true, "fyi": true,
}

// maxReplyMark bounds a reply mark with its counter, in bytes.
const maxReplyMark = 40

// cutReplyMark removes one "Re:", "RE[2]:", "回覆：" and the like.
func cutReplyMark(s string) (rest string, ok bool) {
	i := strings.IndexAny(s[:min(len(s), maxReplyMark)], ":：")
	if i <= 0 {
		return "", false
	}
	mark := s[:i]
	if j := strings.IndexAny(mark, "[(^"); j > 0 {
		if strings.Trim(mark[j:], "[]()^0123456789 ") != "" {
			return "", false
		}
		mark = mark[:j]
	}
	if !replyMarks[fold(mark)] {
		return "", false
	}
	_, n := utf8.DecodeRuneInString(s[i:])
	return s[i+n:], true
}
