// Package wire is the grammar of IMAP without state: a bounded reader of commands
// that never loses count of literals, a parser over one command, and the encodings
// of responses (RFC 3501, section 9, with RFC 7888, RFC 4315, RFC 6154 and RFC 5258
// where the front end offers them).
//
// What it refuses although RFC 3501 has it, or real clients send it: a line that ends
// in a bare LF, NUL anywhere, modified UTF-7 that is not in its one canonical form.
package wire

import "fmt"

// Error says why a command cannot be taken. It is safe to show to the client: it
// never repeats what the client sent.
type Error struct {
	No    bool   // the command was well formed but is refused: NO; otherwise BAD
	Code  string // a response code without brackets, or empty
	Text  string
	Fatal bool // the stream cannot be followed any further: say BYE and close
}

func (e *Error) Error() string { return "imap: " + e.Text }

func bad(format string, args ...any) *Error { return &Error{Text: fmt.Sprintf(format, args...)} }
