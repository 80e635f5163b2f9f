package wire

import (
	"strings"

	"github.com/emersion/go-imap/v2"
)

// FetchKind is a data item of FETCH (RFC 3501, section 6.4.5).
type FetchKind uint8

// The data items. A macro (ALL, FAST, FULL) is what it stands for.
const (
	FetchUID FetchKind = iota
	FetchFlags
	FetchInternalDate
	FetchSize
	FetchEnvelope
	FetchBody          // BODY, the structure without extension data
	FetchBodyStructure // BODYSTRUCTURE
	FetchSection       // BODY[…] and BODY.PEEK[…]
	FetchRFC822
	FetchRFC822Header
	FetchRFC822Text
	FetchModSeq
	FetchEmailID
	FetchThreadID
	FetchSaveDate
	FetchBinary     // BINARY[…] and BINARY.PEEK[…] (RFC 3516)
	FetchBinarySize // BINARY.SIZE[…]
)

// FetchItem is one data item that a client asks for.
type FetchItem struct {
	Kind    FetchKind
	Section imap.FetchItemBodySection // of FetchSection, the RFC822 and the BINARY kinds; Peek is set where \Seen stays as it is
}

// FetchItems takes a macro, an item, or a list of items. Items asked for twice are there once.
func (p *Parser) FetchItems() []FetchItem {
	var items []FetchItem
	add := func(more ...FetchItem) {
		for _, it := range more {
			if it.Kind == FetchSection || it.Kind >= FetchBinary || !hasKind(items, it.Kind) {
				items = append(items, it)
			}
		}
	}
	if p.Peek() == '(' {
		p.List(func() { add(p.fetchItem()) })
		if p.err == nil && len(items) == 0 {
			p.bad("No data item is named")
		}
		return items
	}
	fast := []FetchItem{{Kind: FetchFlags}, {Kind: FetchInternalDate}, {Kind: FetchSize}}
	switch {
	case p.ahead("ALL"):
		p.macro("ALL")
		add(fast...)
		add(FetchItem{Kind: FetchEnvelope})
	case p.ahead("FAST"):
		p.macro("FAST")
		add(fast...)
	case p.ahead("FULL"):
		p.macro("FULL")
		add(fast...)
		add(FetchItem{Kind: FetchEnvelope}, FetchItem{Kind: FetchBody})
	default:
		add(p.fetchItem())
	}
	return items
}

func (p *Parser) macro(name string) {
	if p.Word() != name {
		p.bad("Unknown data item")
	}
}

func hasKind(items []FetchItem, k FetchKind) bool {
	for _, it := range items {
		if it.Kind == k {
			return true
		}
	}
	return false
}

func (p *Parser) fetchItem() FetchItem {
	word := strings.ToUpper(p.take(func(c byte) bool { return isAtom(c) && c != '[' }))
	switch word {
	case "UID":
		return FetchItem{Kind: FetchUID}
	case "FLAGS":
		return FetchItem{Kind: FetchFlags}
	case "INTERNALDATE":
		return FetchItem{Kind: FetchInternalDate}
	case "RFC822.SIZE":
		return FetchItem{Kind: FetchSize}
	case "EMAILID":
		return FetchItem{Kind: FetchEmailID}
	case "THREADID":
		return FetchItem{Kind: FetchThreadID}
	case "SAVEDATE":
		return FetchItem{Kind: FetchSaveDate}
	case "MODSEQ":
		return FetchItem{Kind: FetchModSeq}
	case "ENVELOPE":
		return FetchItem{Kind: FetchEnvelope}
	case "BODYSTRUCTURE":
		return FetchItem{Kind: FetchBodyStructure}
	case "RFC822":
		return FetchItem{Kind: FetchRFC822}
	case "RFC822.HEADER":
		return FetchItem{Kind: FetchRFC822Header, Section: imap.FetchItemBodySection{Specifier: imap.PartSpecifierHeader, Peek: true}}
	case "RFC822.TEXT":
		return FetchItem{Kind: FetchRFC822Text, Section: imap.FetchItemBodySection{Specifier: imap.PartSpecifierText}}
	case "BODY":
		if p.Peek() != '[' {
			return FetchItem{Kind: FetchBody}
		}
		return FetchItem{Kind: FetchSection, Section: p.section(false)}
	case "BODY.PEEK":
		return FetchItem{Kind: FetchSection, Section: p.section(true)}
	case "BINARY", "BINARY.PEEK", "BINARY.SIZE":
		it := FetchItem{Kind: FetchBinary, Section: p.section(word != "BINARY")}
		if word == "BINARY.SIZE" {
			it.Kind = FetchBinarySize
		}
		if s := &it.Section; s.Specifier != imap.PartSpecifierNone || s.Partial != nil && it.Kind == FetchBinarySize {
			p.bad("Malformed section")
		}
		return it
	}
	p.bad("Unknown data item")
	return FetchItem{}
}

// section takes "[" section "]" and the partial after it.
func (p *Parser) section(peek bool) imap.FetchItemBodySection {
	s := imap.FetchItemBodySection{Peek: peek}
	p.Want('[')
	for isDigit(p.Peek()) && p.element() {
		n := p.NonZero()
		if n > 1<<30 || len(s.Part) > p.lim.Depth { // one more, for the leaf in the deepest message
			p.bad("A part number is too large")
			return s
		}
		s.Part = append(s.Part, int(n))
		if !p.Take('.') {
			break
		}
		if !isDigit(p.Peek()) {
			p.specifier(&s)
			return p.partial(s)
		}
	}
	if len(s.Part) == 0 && p.Peek() != ']' {
		p.specifier(&s)
	}
	return p.partial(s)
}

func (p *Parser) specifier(s *imap.FetchItemBodySection) {
	switch p.letters() {
	case "HEADER":
		s.Specifier = imap.PartSpecifierHeader
	case "HEADER.FIELDS":
		s.Specifier = imap.PartSpecifierHeader
		s.HeaderFields = p.fieldNames()
	case "HEADER.FIELDS.NOT":
		s.Specifier = imap.PartSpecifierHeader
		s.HeaderFieldsNot = p.fieldNames()
	case "TEXT":
		s.Specifier = imap.PartSpecifierText
	case "MIME":
		if len(s.Part) == 0 {
			p.bad("Malformed section")
		}
		s.Specifier = imap.PartSpecifierMIME
	default:
		p.bad("Malformed section")
	}
}

// letters takes letters and dots, in upper case.
func (p *Parser) letters() string {
	return strings.ToUpper(p.take(func(c byte) bool { return c == '.' || c|0x20 >= 'a' && c|0x20 <= 'z' }))
}

func (p *Parser) fieldNames() []string {
	var names []string
	p.SP()
	p.List(func() { names = append(names, p.AString()) })
	if p.err == nil && len(names) == 0 {
		p.bad("No field is named")
	}
	return names
}

// partial takes "]" and an optional "<" offset "." count ">".
func (p *Parser) partial(s imap.FetchItemBodySection) imap.FetchItemBodySection {
	p.Want(']')
	if !p.Take('<') {
		return s
	}
	s.Partial = &imap.SectionPartial{Offset: int64(p.Number())}
	p.Want('.')
	s.Partial.Size = int64(p.NonZero())
	p.Want('>')
	return s
}

// AppendSection appends the name under which an item's octets are returned, with the
// offset of a partial.
func (it *FetchItem) AppendSection(dst []byte) []byte {
	switch it.Kind {
	case FetchRFC822:
		return append(dst, "RFC822"...)
	case FetchRFC822Header:
		return append(dst, "RFC822.HEADER"...)
	case FetchRFC822Text:
		return append(dst, "RFC822.TEXT"...)
	}
	s := &it.Section
	switch it.Kind {
	case FetchBinary:
		dst = append(dst, "BINARY["...)
	case FetchBinarySize:
		dst = append(dst, "BINARY.SIZE["...)
	default:
		dst = append(dst, "BODY["...)
	}
	for i, n := range s.Part {
		if i > 0 {
			dst = append(dst, '.')
		}
		dst = AppendNumber(dst, n)
	}
	if s.Specifier != imap.PartSpecifierNone {
		if len(s.Part) > 0 {
			dst = append(dst, '.')
		}
		dst = append(dst, s.Specifier...)
	}
	names := s.HeaderFields
	if len(names) > 0 {
		dst = append(dst, ".FIELDS"...)
	} else if names = s.HeaderFieldsNot; len(names) > 0 {
		dst = append(dst, ".FIELDS.NOT"...)
	}
	for i, name := range names {
		if i == 0 {
			dst = append(dst, " ("...)
		} else {
			dst = append(dst, ' ')
		}
		dst = appendAString(dst, name)
	}
	if len(names) > 0 {
		dst = append(dst, ')')
	}
	dst = append(dst, ']')
	if s.Partial != nil {
		dst = append(AppendNumber(append(dst, '<'), s.Partial.Offset), '>')
	}
	return dst
}
