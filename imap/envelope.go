package imap

import (
	"cmmpd/imap/wire"
	"cmmpd/internal/message"
)

// appendEnvelope appends an ENVELOPE (RFC 3501, section 7.4.2).
func appendEnvelope(b []byte, e *message.Envelope) []byte {
	if e == nil {
		e = &message.Envelope{}
	}
	b = wire.AppendNString(append(b, '('), e.Date)
	b = wire.AppendNString(append(b, ' '), e.Subject)
	for _, list := range [...][]message.Address{e.From, e.Sender, e.ReplyTo, e.To, e.Cc, e.Bcc} {
		b = appendAddresses(append(b, ' '), list)
	}
	b = wire.AppendNString(append(b, ' '), e.InReplyTo)
	b = wire.AppendNString(append(b, ' '), e.MessageID)
	return append(b, ')')
}

func appendAddresses(b []byte, list []message.Address) []byte {
	if len(list) == 0 {
		return append(b, "NIL"...)
	}
	b = append(b, '(')
	for _, a := range list {
		b = wire.AppendNString(append(b, '('), a.Name)
		b = append(b, " NIL "...) // the source route, which nobody uses
		b = wire.AppendNString(b, a.Mailbox)
		b = wire.AppendNString(append(b, ' '), a.Host)
		b = append(b, ')')
	}
	return append(b, ')')
}
