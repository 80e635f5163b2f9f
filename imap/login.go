package imap

import (
	"errors"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

func errPrivacy() *wire.Error {
	return no(imap.ResponseCodePrivacyRequired, "TLS is required")
}

func cmdLogin(s *session, p *wire.Parser) (string, error) {
	if !s.secure {
		return "", errPrivacy()
	}
	name := p.AString()
	p.SP()
	password := p.AString()
	if err := p.End(); err != nil {
		return "", err
	}
	return s.login(name, password)
}

// login proves who the client is and opens their account.
func (s *session) login(name, password string) (code string, err error) {
	who, err := s.srv.o.Auth.Login(s.ctx, s.client, name, password)
	if err != nil {
		if mail.KindOf(err) == mail.Denied {
			err = no(imap.ResponseCodeAuthorizationFailed, "Not allowed")
		}
		if s.failed++; s.failed >= s.srv.o.Limits.LoginAttempts {
			s.failure("LOGIN", err)
			s.bye("", "Too many failed log-ins")
			return "", errAnswered
		}
		return "", err
	}
	if who.Account == "" {
		return "", no(imap.ResponseCodeAuthorizationFailed, "There is no mailbox for this name")
	}
	acct, err := s.srv.o.Store.OpenAccount(s.ctx, who.Account)
	if mail.KindOf(err) == mail.NotFound && err != nil {
		if err = s.srv.o.Store.EnsureAccount(s.ctx, who.Account, who.Address.Domain); err == nil {
			acct, err = s.srv.o.Store.OpenAccount(s.ctx, who.Account)
		}
	}
	if err != nil {
		words := ""
		if errors.Is(err, keys.ErrSealed) { // it is no secret, and may last
			words = mail.PublicOf(err)
		}
		return "", mail.E(mail.KindOf(err), words, err)
	}
	s.user = &user{who: who, acct: acct}
	s.log = s.log.With("user", who.UID)
	s.c.until = time.Time{}
	return "CAPABILITY " + s.capabilities(), nil
}
