package imap

import (
	"strconv"
	"strings"

	"cmmpd/imap/wire"
)

// capabilities is what the server offers in the state that the session is in.
func (s *session) capabilities() string {
	caps := []string{"IMAP4rev1", "IMAP4rev2", "LITERAL-", "SASL-IR", "ID"}
	switch {
	case s.user != nil:
		caps[2] = "LITERAL+" // before log-in a literal that does not wait must be small
		caps = append(caps, "ENABLE", "IDLE", "UIDPLUS", "MOVE", "SPECIAL-USE", "CREATE-SPECIAL-USE", "NAMESPACE", "UNSELECT", "CHILDREN",
			"CONDSTORE", "QRESYNC", "ESEARCH", "SEARCHRES", "LIST-EXTENDED", "LIST-STATUS", "STATUS=SIZE",
			"APPENDLIMIT="+strconv.FormatInt(s.srv.o.Limits.MessageBytes, 10), "OBJECTID", "SAVEDATE", "MULTIAPPEND", "BINARY", "UTF8=ACCEPT", "QUOTA", "QUOTA=RES-STORAGE", "QUOTA=RES-MESSAGE")
	case s.secure:
		caps = append(caps, "AUTH=PLAIN", "AUTH=LOGIN")
	default:
		caps = append(caps, "STARTTLS", "LOGINDISABLED")
	}
	return strings.Join(caps, " ")
}

func cmdCapability(s *session, p *wire.Parser) (string, error) {
	if err := p.End(); err != nil {
		return "", err
	}
	s.c.write("* CAPABILITY " + s.capabilities())
	s.c.end()
	return "", nil
}
