package imap

import (
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// transfer is intake's Copy or Move.
type transfer func(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error)

// cmdCopy copies messages within the account (RFC 3501, section 6.4.7), all or none.
func cmdCopy(s *session, p *wire.Parser) (string, error) {
	res, err := s.transfer(p, s.srv.o.Intake.Copy, false)
	if err != nil || len(res.To) == 0 {
		return "", err
	}
	return copyUID(res), nil
}

// cmdMove moves them, each in one act (RFC 6851). COPYUID goes ahead in a response of its
// own, because EXPUNGE follows it (section 4.3). A MOVE that fails has moved some perhaps:
// COPYUID and EXPUNGE say which, and NO that it was not all.
func cmdMove(s *session, p *wire.Parser) (string, error) {
	res, err := s.transfer(p, s.srv.o.Intake.Move, true)
	if len(res.To) == 0 {
		return "", err
	}
	s.respond("*", "OK", copyUID(res), "Moved")
	s.highest = s.has(condstore) // RFC 7162, section 3.2.9
	return "", err
}

// transfer parses and does COPY or MOVE. After an error the result is what was moved nevertheless.
func (s *session) transfer(p *wire.Parser, act transfer, write bool) (storage.CopyResult, error) {
	var none storage.CopyResult
	set := p.Set()
	p.SP()
	dest := mailboxName(p)
	if err := p.End(); err != nil {
		return none, err
	}
	if write && !s.view.restores {
		if err := s.writable(); err != nil {
			return none, err
		}
	}
	rs, uids, err := s.view.pick(set, s.uid)
	if err != nil || len(uids) == 0 {
		return none, err
	}
	if err := s.present(rs); err != nil {
		return none, err
	}
	res, err := act(s.ctx, &s.user.who, s.user.acct, s.view.mbox, uids, dest)
	return res, tryCreate(err)
}

// present is an error if a message addressed by its number is no more: a copy of the others
// alone would not be what was asked for.
func (s *session) present(rs []wire.Range) error {
	if s.uid {
		return nil
	}
	for _, r := range rs {
		for _, uid := range s.view.uids[r.First : r.Last+1] {
			if _, ok := s.view.mbox.Get(uid); !ok {
				return s.expunged()
			}
		}
	}
	return nil
}

// copyUID is the response code of RFC 4315, section 3.
func copyUID(r storage.CopyResult) string {
	b := fmt.Appendf(nil, "COPYUID %d ", r.UIDValidity)
	b = append(wire.AppendNums(b, r.From), ' ')
	return string(wire.AppendNums(b, r.To))
}
