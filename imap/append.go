package imap

import (
	"bytes"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/storage"
)

// cmdAppend saves messages (RFC 3501, section 6.3.11; RFC 3502: several in one act). They go through the one door
// like any other: what is confidential is sealed there, or refused.
func cmdAppend(s *session, p *wire.Parser) (string, error) {
	name := mailboxName(p)
	var msgs []storage.Append
	empty, binary := false, false
	for more := true; more && p.Err() == nil; more = !p.AtEnd() {
		p.SP()
		m := takeMessage(p)
		empty = empty || len(m.Data) == 0
		binary = binary || bytes.IndexByte(m.Data, 0) >= 0
		msgs = append(msgs, m)
	}
	if err := p.End(); err != nil {
		return "", err
	}
	switch {
	case empty: // RFC 3502, section 3: the client has changed its mind
		return "", &wire.Error{No: true, Text: "A message is empty"}
	case binary: // RFC 3516, section 4.4
		return "", no(unknownCTE, "A message with NUL in it cannot be stored")
	}
	placed, err := s.srv.o.Intake.Append(s.ctx, &s.user.who, s.user.acct, name, msgs)
	if err != nil {
		return "", tryCreate(err)
	}
	uids := make([]uint32, len(placed))
	for i := range placed {
		uids[i] = placed[i].UID
	}
	return string(wire.AppendNums(fmt.Appendf(nil, "APPENDUID %d ", placed[0].UIDValidity), uids)), nil
}

// takeMessage takes one message with the flags and the date before it.
func takeMessage(p *wire.Parser) (m storage.Append) {
	if p.Peek() == '(' {
		m.Flags = p.Flags()
		p.SP()
	}
	if p.Peek() == '"' {
		m.InternalDate = p.DateTime()
		p.SP()
	}
	if c := p.Peek(); c != 'U' && c != 'u' {
		m.Data = p.Literal8()
		return m
	}
	if p.Word() != "UTF8" { // RFC 6855, section 4
		p.Fail(&wire.Error{Text: "Missing or malformed argument"})
	}
	p.SP()
	p.Want('(')
	m.Data = p.Literal8()
	p.Want(')')
	return m
}

// unknownCTE says that a content transfer encoding cannot be done or undone (RFC 3516).
const unknownCTE imap.ResponseCode = "UNKNOWN-CTE"
