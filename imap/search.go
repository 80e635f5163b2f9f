package imap

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
)

// cmdSearch looks for messages (RFC 3501, section 6.4.4). Text is compared decoded, without regard
// to case. A message that is damaged and would have to be read is not found, and a warning says so.
func cmdSearch(s *session, p *wire.Parser) (string, error) {
	key := p.Search()
	if err := p.End(); err != nil {
		return "", err
	}
	modseq := key.Uses(wire.KeyModSeq)
	if modseq {
		s.enable(condstore)
	}
	ctx, cancel := context.WithTimeout(s.ctx, s.srv.o.Limits.Search)
	defer cancel()
	q := newQuery(ctx, s.view, &key)
	var found []uint32
	var highest uint64
	var failed error
	for i, uid := range s.view.uids {
		hit, err := q.match(i, uid)
		if ctx.Err() != nil {
			return "", no(imap.ResponseCodeLimit, "The search took too long")
		}
		switch {
		case err != nil:
			failed = err
			s.log.Warn("imap: a message cannot be searched", "uid", uid, "err", err)
		case hit && s.uid:
			found = append(found, uid)
			highest = max(highest, q.m.ModSeq)
		case hit:
			found = append(found, uint32(i+1))
			highest = max(highest, q.m.ModSeq)
		}
	}
	if modseq {
		if err := s.view.mbox.Settle(); err != nil {
			return "", err
		}
	}
	s.c.write("* SEARCH")
	for _, n := range found {
		s.c.out = wire.AppendNumber(append(s.c.out, ' '), n)
	}
	if modseq && len(found) > 0 { // RFC 7162, section 3.1.5
		s.c.write(" (MODSEQ ")
		s.c.out = append(wire.AppendNumber(s.c.out, highest), ')')
	}
	s.c.end()
	if failed != nil {
		s.respond("*", "NO", answerTo(failed).Code, "Some messages could not be searched")
	}
	return "", nil
}
