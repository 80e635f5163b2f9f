package imap

import (
	"encoding/base64"
	"strings"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdAuthenticate does SASL PLAIN (RFC 4616) and LOGIN, with an initial response if the client likes (RFC 4959).
func cmdAuthenticate(s *session, p *wire.Parser) (string, error) {
	if !s.secure {
		return "", errPrivacy()
	}
	mech := p.Word()
	var initial *string
	if p.Err() == nil && !p.AtEnd() {
		p.SP()
		ir := p.Base64()
		initial = &ir
	}
	if err := p.End(); err != nil {
		return "", err
	}
	switch mech {
	case "PLAIN":
		return s.saslPlain(initial)
	case "LOGIN":
		return s.saslLogin(initial)
	}
	return "", no(imap.ResponseCodeCannot, "The mechanism is not offered")
}

func (s *session) saslPlain(initial *string) (string, error) {
	msg, err := s.answer("", initial)
	if err != nil {
		return "", err
	}
	parts := strings.Split(msg, "\x00")
	if len(parts) != 3 || parts[1] == "" {
		return "", &wire.Error{Text: "Malformed response"}
	}
	if parts[0] != "" && parts[0] != parts[1] {
		return "", no(imap.ResponseCodeAuthorizationFailed, "Acting for somebody else is not offered")
	}
	return s.login(parts[1], parts[2])
}

func (s *session) saslLogin(initial *string) (string, error) {
	name, err := s.answer("VXNlcm5hbWU6", initial)
	if err != nil {
		return "", err
	}
	password, err := s.answer("UGFzc3dvcmQ6", nil)
	if err != nil {
		return "", err
	}
	return s.login(name, password)
}

// answer asks for one response, unless it is there already, and decodes it.
func (s *session) answer(challenge string, given *string) (string, error) {
	var line string
	if given != nil {
		line = *given
		if line == "=" {
			line = ""
		}
	} else {
		s.c.write("+ " + challenge)
		s.c.end()
		b, err := s.rd.ReadLine(int(2 * s.srv.o.Limits.EarlyLiteralBytes))
		if err != nil {
			return "", s.lost(err)
		}
		line = string(b)
	}
	if line == "*" {
		return "", &wire.Error{Text: "Cancelled"}
	}
	b, err := base64.StdEncoding.Strict().DecodeString(line)
	if err != nil {
		return "", &wire.Error{Text: "Malformed response"}
	}
	return string(b), nil
}
