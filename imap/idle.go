package imap

import (
	"errors"
	"strings"

	"cmmpd/imap/wire"
)

// cmdIdle sends what is new in the mailbox as it happens, until the client says DONE
// (RFC 2177). The session's goroutine waits for the client, and is interrupted when
// the mailbox changes.
func cmdIdle(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.c.write("+ Idling")
	s.c.end()
	s.c.setIdling(true)
	defer s.c.setIdling(false)
	for {
		if s.view != nil {
			s.tell(true)
			if s.over {
				return "", errAnswered
			}
		}
		line, err := s.rd.ReadLine(100)
		switch {
		case errors.Is(err, errWoken):
			continue
		case err != nil:
			return "", s.lost(err)
		case !strings.EqualFold(string(line), "DONE"):
			return "", &wire.Error{Text: "DONE is expected"}
		}
		return "", nil
	}
}
