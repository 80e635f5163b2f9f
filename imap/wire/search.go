package wire

import (
	"strings"
	"unicode/utf8"
)

// SearchOp is what a search key tests.
type SearchOp uint8

// The operations of SEARCH (RFC 3501, section 6.4.4). FROM, TO and their like are KeyHeader.
const (
	KeyAll         SearchOp = iota
	KeyAnd                  // all of Keys
	KeyOr                   // one of the two Keys
	KeyNot                  // not Keys[0]
	KeySeqSet               // Set, of sequence numbers
	KeyUIDSet               // Set, of UIDs
	KeyHasFlag              // Value: a flag, \Recent too
	KeyBefore               // Day: the internal date
	KeyOn                   //
	KeySince                //
	KeySentBefore           // Day: the Date field
	KeySentOn               //
	KeySentSince            //
	KeyLarger               // N octets
	KeySmaller              //
	KeyHeader               // the field Name holds Value; an empty Value: there is such a field
	KeyBody                 // Value in the text
	KeyText                 // Value in header or text
	KeyModSeq               // N: the mod-sequence is not less
	KeyEmailID              // Value
	KeyThreadID             // Value
	KeySavedBefore          // Day: the save date
	KeySavedOn              //
	KeySavedSince           //
)

// SearchKey is one key of a SEARCH, or a group.
type SearchKey struct {
	Op    SearchOp
	Name  string
	Value string
	Day   Day
	N     int64
	Set   Set
	Keys  []SearchKey
}

// Search takes the arguments of SEARCH: charset and keys. A charset that we cannot read is an error with
// the code BADCHARSET.
func (p *Parser) Search() SearchKey {
	if p.Peek()|0x20 == 'c' && p.ahead("CHARSET ") {
		p.Word()
		p.SP()
		switch cs := strings.ToUpper(p.AString()); cs {
		case "US-ASCII", "UTF-8":
		default:
			p.Fail(&Error{No: true, Code: "BADCHARSET (US-ASCII UTF-8)", Text: "The charset is not offered"})
		}
		p.SP()
	}
	return p.searchKeys(func() bool { return p.AtEnd() })
}

// ahead says whether the line goes on with s, in any case.
func (p *Parser) ahead(s string) bool {
	if p.err != nil || p.i >= len(p.c.pieces) {
		return false
	}
	rest := p.c.text[p.pos:p.c.pieces[p.i].end]
	return len(rest) >= len(s) && strings.EqualFold(string(rest[:len(s)]), s)
}

// searchKeys takes keys, separated by spaces, until end says so.
func (p *Parser) searchKeys(end func() bool) SearchKey {
	group := SearchKey{Op: KeyAnd}
	for p.element() {
		group.Keys = append(group.Keys, p.searchKey())
		if p.err != nil || end() {
			break
		}
		p.SP()
	}
	if len(group.Keys) == 1 {
		return group.Keys[0]
	}
	return group
}

func (p *Parser) searchKey() SearchKey {
	if !p.enter() || !p.element() {
		return SearchKey{}
	}
	defer p.leave()
	switch c := p.Peek(); {
	case c == '(':
		p.pos++
		k := p.searchKeys(func() bool { return p.Peek() == ')' })
		p.Want(')')
		return k
	case c == '*' || c == '$' || isDigit(c):
		return SearchKey{Op: KeySeqSet, Set: p.setOf(false)}
	}
	word := p.Word()
	if flag, ok := strings.CutPrefix(word, "UN"); ok && flag != "" && flag != "KEYWORD" {
		if k, ok := flagKey(flag); ok && flag != "RECENT" {
			return not(k)
		}
	}
	if k, ok := flagKey(word); ok {
		return k
	}
	switch word {
	case "ALL", "SAVEDATESUPPORTED": // every mailbox has save dates
		return SearchKey{Op: KeyAll}
	case "NEW":
		return SearchKey{Op: KeyAnd, Keys: []SearchKey{{Op: KeyHasFlag, Value: `\Recent`}, not(SearchKey{Op: KeyHasFlag, Value: `\Seen`})}}
	case "OLD":
		return not(SearchKey{Op: KeyHasFlag, Value: `\Recent`})
	}
	p.SP()
	switch word {
	case "NOT":
		return not(p.searchKey())
	case "OR":
		a := p.searchKey()
		p.SP()
		return SearchKey{Op: KeyOr, Keys: []SearchKey{a, p.searchKey()}}
	case "UID":
		return SearchKey{Op: KeyUIDSet, Set: p.setOf(true)}
	case "KEYWORD":
		return SearchKey{Op: KeyHasFlag, Value: p.Atom()}
	case "UNKEYWORD":
		return not(SearchKey{Op: KeyHasFlag, Value: p.Atom()})
	case "LARGER":
		return SearchKey{Op: KeyLarger, N: p.Number64()}
	case "SMALLER":
		return SearchKey{Op: KeySmaller, N: p.Number64()}
	case "FROM", "TO", "CC", "BCC", "SUBJECT":
		return SearchKey{Op: KeyHeader, Name: word, Value: p.searchString()}
	case "HEADER":
		name := p.AString()
		p.SP()
		return SearchKey{Op: KeyHeader, Name: name, Value: p.searchString()}
	case "MODSEQ":
		return p.searchModSeq()
	case "EMAILID":
		return SearchKey{Op: KeyEmailID, Value: p.AString()}
	case "THREADID":
		return SearchKey{Op: KeyThreadID, Value: p.AString()}
	case "BODY":
		return SearchKey{Op: KeyBody, Value: p.searchString()}
	case "TEXT":
		return SearchKey{Op: KeyText, Value: p.searchString()}
	}
	if op, ok := dayKey(word); ok {
		return SearchKey{Op: op, Day: p.Day()}
	}
	p.bad("Unknown search key")
	return SearchKey{}
}

func not(k SearchKey) SearchKey { return SearchKey{Op: KeyNot, Keys: []SearchKey{k}} }

func flagKey(word string) (SearchKey, bool) {
	for _, f := range [...]string{`\Seen`, `\Answered`, `\Flagged`, `\Deleted`, `\Draft`, `\Recent`} {
		if strings.EqualFold(word, f[1:]) {
			return SearchKey{Op: KeyHasFlag, Value: f}, true
		}
	}
	return SearchKey{}, false
}

func dayKey(word string) (SearchOp, bool) {
	switch word {
	case "BEFORE":
		return KeyBefore, true
	case "ON":
		return KeyOn, true
	case "SINCE":
		return KeySince, true
	case "SENTBEFORE":
		return KeySentBefore, true
	case "SENTON":
		return KeySentOn, true
	case "SENTSINCE":
		return KeySentSince, true
	case "SAVEDBEFORE":
		return KeySavedBefore, true
	case "SAVEDON":
		return KeySavedOn, true
	case "SAVEDSINCE":
		return KeySavedSince, true
	}
	return 0, false
}

// searchString takes the string to look for. Whatever charset was named, it is
// UTF-8, of which US-ASCII is a part.
func (p *Parser) searchString() string {
	s := p.AString()
	if !utf8.ValidString(s) {
		p.bad("A search string is not in the charset")
	}
	return s
}
