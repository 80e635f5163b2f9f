package imap

import (
	"errors"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
)

// outcome is the table from the kind of an error to what IMAP says (RFC 5530), with
// the words for a kind whose error brings none.
func outcome(k mail.Kind) (code imap.ResponseCode, text string) {
	switch k {
	case mail.Unavailable:
		return imap.ResponseCodeUnavailable, "Not available now, try again later"
	case mail.Busy:
		return imap.ResponseCodeUnavailable, "Too busy, try again later"
	case mail.Full:
		return imap.ResponseCodeUnavailable, "No space left, try again later"
	case mail.OverQuota:
		return imap.ResponseCodeOverQuota, "The quota is used up"
	case mail.Invalid:
		return imap.ResponseCodeCannot, "Not a valid argument"
	case mail.TooLarge:
		return imap.ResponseCodeLimit, "A limit was exceeded"
	case mail.NotFound:
		return imap.ResponseCodeNonExistent, "No such mailbox"
	case mail.Exists:
		return imap.ResponseCodeAlreadyExists, "There is one already"
	case mail.Denied, mail.ReadOnly:
		return imap.ResponseCodeNoPerm, "Not allowed"
	case mail.AuthFailed:
		return imap.ResponseCodeAuthenticationFailed, "Authentication failed"
	case mail.Refused:
		return imap.ResponseCodeCannot, "Refused by policy"
	case mail.Unsupported:
		return imap.ResponseCodeCannot, "Not offered"
	case mail.Corrupt:
		return imap.ResponseCodeCorruption, "Stored data is damaged"
	}
	return imap.ResponseCodeServerBug, "Internal error"
}

// answerTo is the tagged response to a failed command.
func answerTo(err error) *wire.Error {
	var e *wire.Error
	if errors.As(err, &e) {
		return e
	}
	code, text := outcome(mail.KindOf(err))
	if public := mail.PublicOf(err); public != "" {
		text = public
	}
	return &wire.Error{No: true, Code: string(code), Text: text}
}

// Reply is err as a client hears it: NO, the response code and the text.
func Reply(err error) string {
	e := answerTo(err)
	return "NO [" + e.Code + "] " + e.Text
}

// no is a refusal with its own code and words.
func no(code imap.ResponseCode, text string) *wire.Error {
	return &wire.Error{No: true, Code: string(code), Text: text}
}

// tryCreate says of a target mailbox that is not there, that CREATE would help (RFC 3501, section 7.1).
func tryCreate(err error) error {
	if mail.KindOf(err) == mail.NotFound {
		return no(imap.ResponseCodeTryCreate, "No such mailbox")
	}
	return err
}
