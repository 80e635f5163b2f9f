// Package message reads RFC 5322 and MIME without ever changing a byte.
//
// Parse makes an Index: where every part begins and ends, and everything IMAP's
// ENVELOPE and BODYSTRUCTURE ask for. It accepts what real mail contains; what is not
// well formed becomes a defect and, where there is nothing better, an opaque leaf. It
// never fails, takes time linear in the length of the message, and is bounded by
// Limits. An Index holds copies of what it needs and does not keep the message alive.
//
// All functions are without state and safe for concurrent use.
package message

import (
	"strings"

	"cmmpd/internal/mail"
)

// Limits bounds what Parse and ParseHeader look at. A zero or negative field takes its
// default. What lies beyond a limit is still counted in the offsets.
type Limits struct {
	HeaderBytes int // of one header block whose fields are read; default 1 MiB
	Fields      int // fields read in one header block; default 10,000
	Parts       int // parts of the whole message, embedded messages included; default and maximum 10,000
	Depth       int // levels of nesting below the root; default and maximum 100
}

// The defaults and maxima of Limits.
const (
	defaultHeaderBytes = 1 << 20
	defaultFields      = 10_000
	maxParts           = 10_000
	maxDepth           = 100
)

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	if l.HeaderBytes <= 0 {
		l.HeaderBytes = defaultHeaderBytes
	}
	if l.Fields <= 0 {
		l.Fields = defaultFields
	}
	if l.Parts <= 0 || l.Parts > maxParts {
		l.Parts = maxParts
	}
	if l.Depth <= 0 || l.Depth > maxDepth {
		l.Depth = maxDepth
	}
	return l
}

// Defect is a set of things that were not as the standards ask.
type Defect uint32

// The defects. Their values are part of the binary encoding of Index.
const (
	MboxLine         Defect = 1 << iota // an mbox "From " line stands before the header
	NoColon                             // a line of a header is no field
	OrphanFolding                       // a header begins with a continuation line
	EightBitHeader                      // a header holds bytes above 127
	ControlInHeader                     // a header holds NUL or a CR that ends no line
	BareLF                              // a line of a header or a boundary ends in LF alone
	NoBlankLine                         // a header is not ended by an empty line
	LongHeader                          // a header is longer than Limits.HeaderBytes; its rest was not read
	ManyFields                          // a header has more than Limits.Fields fields; the rest was not read
	BadContentType                      // a Content-Type field could not be read; text/plain is assumed
	NoBoundary                          // a multipart without a usable boundary parameter
	NoParts                             // a multipart whose boundary never comes
	Unclosed                            // a multipart without its closing boundary
	EncodedComposite                    // a multipart or message/rfc822 with a transfer encoding
	TooDeep                             // nesting beyond Limits.Depth; an opaque leaf stands for it
	TooManyParts                        // more than Limits.Parts parts; the last one is opaque and holds the rest
	DuplicateField                      // a field that may stand once in a header stands there more often
	SeveralFrom                         // more than one author: several From fields, or several addresses in one
	NoFrom                              // no From field, or one without an address
	Truncated                           // values too many or too long for the index were left out
	allDefects       = 1<<iota - 1
)

// Index is the byte-offset index of one message: everything IMAP needs without the
// bytes. It is immutable after Parse.
type Index struct {
	Root    *Part
	Size    int64  // of the message in bytes; Root spans [0, Size)
	Defects Defect // of all parts; SeveralFrom and NoFrom are of the root alone
}

// Part is one entity of RFC 2045. Offsets are bytes from the beginning of the message.
type Part struct {
	HeaderStart, BodyStart, BodyEnd int64 // the header includes the empty line; the body is without the line end before a boundary
	Lines                           int64 // line ends within the body

	Type, Subtype string  // lower case; text/plain, or message/rfc822 within multipart/digest, where nothing is said
	Params        []Param // of Content-Type
	ID            string  // Content-ID, with its angle brackets
	Description   string  // Content-Description, unfolded, not decoded
	Encoding      string  // Content-Transfer-Encoding, lower case; "7bit" where nothing is said
	MD5           string  // Content-MD5
	Location      string  // Content-Location

	Disposition       string // lower case; empty where nothing is said
	DispositionParams []Param
	Language          []string // Content-Language

	Children []*Part   // of a multipart: one or more; of message/rfc822 and message/global: the embedded message; of others: none
	Envelope *Envelope // of the root and of every embedded message, else nil

	// Opaque says that this leaf stands for something that was not taken apart: a
	// multipart without parts or below the depth limit (Type is then text/plain), an
	// encoded or too deep message/rfc822 (application/octet-stream), or the part that
	// holds all that is beyond Limits.Parts.
	Opaque bool
}

// Param is one parameter of a field. The name is in lower case, the value unquoted,
// with the continuations and charsets of RFC 2231 undone.
type Param struct{ Name, Value string }

// Envelope is what IMAP calls so: fields of a message header (RFC 3501, section
// 7.4.2). Values are unfolded but not decoded, without NUL. Sender and ReplyTo are those
// of From where the message does not say.
type Envelope struct {
	Date, Subject         string
	From, Sender, ReplyTo []Address
	To, Cc, Bcc           []Address
	InReplyTo, MessageID  string // as they stand, with angle brackets
}

// Address is one entry of an address list, as IMAP's ENVELOPE wants it: a mailbox, or
// the start of a group (Host is empty and Mailbox is the name), or the end of a group
// (both are empty).
type Address struct {
	Name    string // unquoted; encoded words (RFC 2047) are left as they are
	Mailbox string // the local part, unquoted
	Host    string // as written
}

// What stands in an Address where the message gives nothing, so that it is not taken
// for the mark of a group.
const (
	MissingMailbox = ".MISSING-MAILBOX."
	MissingHost    = ".MISSING-HOST-NAME."
)

// Mail is the address as an envelope would carry it. It is false for the marks of
// groups and for what is not a valid address, such as one with two @ signs.
func (a Address) Mail() (mail.Address, bool) {
	if a.Mailbox == "" || a.Host == "" || a.Mailbox == MissingMailbox || strings.IndexByte(a.Mailbox, '@') >= 0 {
		return mail.Address{}, false
	}
	m, err := mail.ParseAddress(mail.Address{Local: a.Mailbox, Domain: a.Host}.String())
	return m, err == nil
}
