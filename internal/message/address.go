package message

import "strings"

const (
	maxAddresses = 10_000 // of one list, marks of groups included
	maxWords     = 1_000  // of one entry; the rest is passed over
)

// ParseAddressList reads the addresses of a field (RFC 5322, section 3.4, with the
// obsolete forms of section 4.4). It takes what it can find, in time linear in len(s), and
// no more than 10,000 entries. A comment after a bare address becomes its name. What
// lacks a part of its address gets MissingMailbox or MissingHost.
func ParseAddressList(s string) []Address {
	var few [8]word // where words usually lie
	l := addressList{s: s, words: few[:0]}
	for l.pos < len(l.s) && len(l.out) < maxAddresses-4 { // a step and the end add two each at most
		l.step()
	}
	l.endAddress()
	l.endGroup()
	return l.out
}

// addressList is the state of one run of ParseAddressList.
type addressList struct {
	s       string
	pos     int
	out     []Address
	inGroup bool

	// of the entry being read
	words   []word
	comment string // the last one
	done    bool   // an address in angle brackets has been taken
}

// word is an atom (with its dots), a quoted string, a domain literal or an @.
type word struct {
	text  string
	space bool // white space or a comment stood before it
	atom  bool
}

// step reads one token.
func (l *addressList) step() {
	space := l.skip()
	if l.pos >= len(l.s) {
		return
	}
	switch l.s[l.pos] {
	case ',':
		l.pos++
		l.endAddress()
	case ';':
		l.pos++
		l.endAddress()
		l.endGroup()
	case ':':
		l.pos++
		l.startGroup()
	case '<':
		l.angle()
	default:
		l.word(space)
	}
}

// skip passes over white space and comments, and says whether there were any.
func (l *addressList) skip() (skipped bool) {
	for l.pos < len(l.s) {
		switch l.s[l.pos] {
		case '(':
			text, rest := comment(l.s[l.pos:])
			l.comment, l.pos = text, len(l.s)-len(rest)
		case ' ', '\t', '\r', '\n':
			l.pos++
		default:
			return skipped
		}
		skipped = true
	}
	return skipped
}

// word reads a quoted string or an atom.
func (l *addressList) word(space bool) {
	w := word{space: space, atom: l.s[l.pos] != '"'}
	if w.atom {
		w.text = l.atom()
	} else {
		text, rest := quoted(l.s[l.pos:])
		w.text, l.pos = text, len(l.s)-len(rest)
	}
	if len(l.words) < maxWords {
		l.words = append(l.words, w)
	}
}

// atom reads an atom with its dots, an @, a domain literal, or a character that has no
// business here.
func (l *addressList) atom() string {
	start := l.pos
	l.pos++
	switch l.s[start] {
	case '@':
		return "@"
	case '[':
		if i := strings.IndexAny(l.s[l.pos:], "[],<\""); i >= 0 && l.s[l.pos+i] == ']' {
			l.pos += i + 1
			return l.s[start:l.pos]
		}
	case '>', ')', ']':
		return l.s[start:l.pos]
	}
	for l.pos < len(l.s) && strings.IndexByte(" \t\r\n(),:;<>@[]\"", l.s[l.pos]) < 0 {
		l.pos++
	}
	return l.s[start:l.pos]
}

// angle reads an address in angle brackets; the words before it are its name.
func (l *addressList) angle() {
	if l.done {
		l.endAddress() // a comma was forgotten
	}
	name := phrase(l.words)
	l.words = l.words[:0]
	l.pos++
loop:
	for {
		space := l.skip()
		if l.pos >= len(l.s) {
			break
		}
		switch c := l.s[l.pos]; {
		case c == '>':
			l.pos++
			break loop
		case c == ',' && l.route():
			l.pos++
		case c == ',', c == ';', c == '<': // not closed
			break loop
		case c == ':':
			l.pos++
			if l.route() {
				l.words = l.words[:0]
			}
		default:
			l.word(space)
		}
	}
	l.add(name)
}

// route says whether what was read since the angle bracket is the obsolete source
// route, which begins with an @ (RFC 5322, section 4.4).
func (l *addressList) route() bool {
	return len(l.words) > 0 && l.words[0].atom && l.words[0].text == "@"
}

// add ends an address in angle brackets.
func (l *addressList) add(name string) {
	mailbox, host, ok := addrSpec(l.words)
	l.words = l.words[:0]
	if ok || name != "" {
		l.append(name, mailbox, host)
	}
	l.done, l.comment = true, ""
}

// endAddress ends the entry being read.
func (l *addressList) endAddress() {
	if len(l.words) > 0 {
		mailbox, host, ok := addrSpec(l.words)
		switch {
		case l.done && (host == "" || mailbox == ""): // words after an address in angle brackets
		case ok:
			l.append(strings.TrimSpace(l.comment), mailbox, host)
		}
	}
	l.words, l.comment, l.done = l.words[:0], "", false
}

func (l *addressList) append(name, mailbox, host string) {
	if mailbox == "" {
		mailbox = MissingMailbox
	}
	if host == "" {
		host = MissingHost
	}
	if l.out == nil {
		l.out = make([]Address, 0, min(1+strings.Count(l.s, ","), maxAddresses))
	}
	l.out = append(l.out, Address{name, mailbox, host})
}

// startGroup makes the words read so far the name of a group.
func (l *addressList) startGroup() {
	name := phrase(l.words)
	l.words, l.comment, l.done = l.words[:0], "", false
	l.endGroup()
	if name != "" {
		l.out, l.inGroup = append(l.out, Address{Mailbox: name}), true
	}
}

func (l *addressList) endGroup() {
	if l.inGroup {
		l.out, l.inGroup = append(l.out, Address{}), false
	}
}

// phrase joins words as a display name.
func phrase(words []word) string {
	if len(words) == 1 {
		return strings.TrimSpace(words[0].text)
	}
	var b strings.Builder
	for _, w := range words {
		if w.space && b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(w.text)
	}
	return strings.TrimSpace(b.String())
}

// addrSpec splits words at their last @. Without one all is the mailbox. It is not ok
// if there is nothing.
func addrSpec(words []word) (mailbox, host string, ok bool) {
	at := len(words)
	for i := len(words) - 1; i >= 0; i-- {
		if words[i].atom && words[i].text == "@" {
			at = i
			break
		}
	}
	if at == len(words) {
		mailbox = phrase(words)
		return mailbox, "", mailbox != ""
	}
	mailbox, host = compact(words[:at]), compact(words[at+1:])
	return mailbox, host, mailbox != "" || host != ""
}

// compact joins words as one side of an address.
func compact(words []word) string {
	if len(words) == 1 {
		return words[0].text
	}
	var b strings.Builder
	for _, w := range words {
		b.WriteString(w.text)
	}
	return b.String()
}
