package mail

import (
	"context"
	"errors"
	"strings"
)

// Kind says what went wrong, for machines. Whether an error is temporary is part of
// its kind. Each front end has one table from kind to its own codes.
type Kind uint8

// The kinds. An error that carries none is Internal.
const (
	Internal    Kind = iota // a fault of ours; generic words go out, the cause to the log. Temporary
	Unavailable             // a part we need cannot answer now, or its data is too old. Temporary
	Busy                    // a limit on rate or concurrency was reached. Temporary
	Full                    // no space on disk. Temporary
	OverQuota               // the mailbox owner's quota is used up. Temporary
	Invalid                 // the request is malformed
	TooLarge                // a size or count limit was exceeded
	NotFound                // the thing named does not exist, or they may not know that it does
	Exists                  // the thing to be made is there already
	Denied                  // not allowed to this principal
	AuthFailed              // the proof of identity was not good
	Refused                 // a release rule says no (policy)
	Unsupported             // understood, but not offered
	ReadOnly                // opened for reading only
	Corrupt                 // stored data is damaged
)

var kindNames = [...]string{
	"internal", "unavailable", "busy", "full", "over quota", "invalid", "too large", "not found", "exists",
	"denied", "authentication failed", "refused", "unsupported", "read-only", "corrupt",
}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "internal"
}

// Temporary says whether the same request may succeed later.
func (k Kind) Temporary() bool { return k <= OverQuota }

// Error is the one error type of the domain: a kind for machines, a sentence for the
// stranger, a cause for the log. Public tells nothing about our configuration, holds
// no line breaks, and may be empty: then a front end uses generic words for the kind.
type Error struct {
	Kind   Kind
	Public string
	Err    error
}

// E makes an Error. err may be nil.
func E(kind Kind, public string, err error) *Error { return &Error{kind, public, err} }

func (e *Error) Error() string {
	s := e.Kind.String()
	if e.Public != "" && e.Public != s {
		s += ": " + e.Public
	}
	if e.Err == nil {
		return s
	}
	cause := e.Err.Error()
	if strings.HasPrefix(cause, s) { // wrapped more than once: said once
		return cause
	}
	return s + ": " + cause
}

func (e *Error) Unwrap() error { return e.Err }

// KindOf is the kind of the outermost Error in err's chain. A cancelled or overdue
// context is Unavailable, anything else Internal.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return Unavailable
	}
	return Internal
}

// PublicOf is the sentence for the stranger, or "" where only generic words may go
// out.
func PublicOf(err error) string {
	var e *Error
	if errors.As(err, &e) && e.Kind != Internal {
		return e.Public
	}
	return ""
}
