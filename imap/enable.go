package imap

import (
	"fmt"
	"strings"

	"cmmpd/imap/wire"
)

// feature is a set of what a client can turn on; nothing turns it off again.
type feature uint8

const (
	condstore feature = 1 << iota // RFC 7162
	qresync                       // RFC 7162; condstore is on with it
	utf8names                     // mailbox names are in UTF-8: RFC 6855, RFC 9051
	rev2                          // RFC 9051: what is no more in it is not sent
)

// enables are the names of features in ENABLE (RFC 5161), and what is on with each.
func enables() map[string]feature {
	return map[string]feature{
		"CONDSTORE": condstore, "QRESYNC": condstore | qresync, "UTF8=ACCEPT": utf8names, "IMAP4REV2": rev2 | utf8names,
	}
}

// cmdEnable turns on what is asked for and known; the rest is passed over.
func cmdEnable(s *session, p *wire.Parser) (string, error) {
	known := enables()
	var names []string
	for more := true; more; {
		name := p.Word()
		if _, ok := known[name]; ok {
			names = append(names, name)
		}
		if more = p.Err() == nil && !p.AtEnd(); more {
			p.SP()
		}
	}
	if err := p.End(); err != nil {
		return "", err
	}
	answer := "ENABLED"
	for _, name := range names {
		if f := known[name]; s.on&f != f {
			answer += " " + strings.Replace(name, "REV", "rev", 1)
			s.enable(f)
		}
	}
	s.untagged(answer)
	return "", nil
}

// has says whether a feature is on.
func (s *session) has(f feature) bool { return s.on&f == f }

// enable turns features on. A client that turns CONDSTORE on in a mailbox, by whatever command, learns up to which
// mod-sequence it has been told everything (RFC 7162, section 3.1.2.1).
func (s *session) enable(f feature) {
	fresh := f &^ s.on
	s.on |= f
	if s.view != nil && fresh&rev2 != 0 {
		s.view.noRecent, s.view.recent = true, nil
	}
	if fresh&condstore != 0 && s.view != nil {
		s.untagged(fmt.Sprintf("OK [HIGHESTMODSEQ %d] Mod-sequences are told from now on", s.view.modseq))
	}
}
