package smtp

import (
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"
	gosmtp "github.com/emersion/go-smtp"

	"cmmpd/internal/mail"
)

// AuthMechanisms are offered on submission, under TLS.
func (s *session) AuthMechanisms() []string {
	if s.front.link.mode == MX || s.front.tls == nil || s.who != nil {
		return nil
	}
	return []string{"PLAIN", "LOGIN"}
}

// Auth starts a log-in.
func (s *session) Auth(mechanism string) (sasl.Server, error) {
	switch {
	case s.front.link.mode == MX:
		return nil, reply{502, gosmtp.EnhancedCode{5, 5, 1}, "no authentication on this port"}.error()
	case s.front.tls == nil:
		return nil, reply{523, gosmtp.EnhancedCode{5, 7, 10}, "TLS is required"}.error()
	case s.open: // RFC 4954, section 4
		return nil, reply{503, gosmtp.EnhancedCode{5, 5, 1}, "not within a mail transaction"}.error()
	}
	switch mechanism {
	case sasl.Plain:
		return plainServer{sasl.NewPlainServer(func(identity, name, password string) error {
			if identity != "" && identity != name {
				return smtpError(mail.E(mail.AuthFailed, "", nil))
			}
			return s.login(name, password)
		})}, nil
	case sasl.Login:
		return &loginServer{login: s.login}, nil
	}
	return nil, reply{504, gosmtp.EnhancedCode{5, 5, 4}, "unknown authentication mechanism"}.error()
}

func (s *session) login(name, password string) error {
	who, err := s.server.o.Auth.Login(s.server.ctx, s.client, name, password)
	if err != nil {
		s.front.failedLogins++
		return loginError(err)
	}
	s.who = &who
	s.front.known = true
	return nil
}

// errSASL answers a response that cannot be read: it will be no better when it is sent
// again (RFC 4954, section 4).
var errSASL = reply{501, gosmtp.EnhancedCode{5, 5, 2}, "malformed authentication response"}

// plainServer gives a malformed response the reply it should have.
type plainServer struct{ sasl.Server }

// Next satisfies sasl.Server.
func (p plainServer) Next(response []byte) (challenge []byte, done bool, err error) {
	challenge, done, err = p.Server.Next(response)
	var known *gosmtp.SMTPError
	if err != nil && !errors.As(err, &known) {
		err = errSASL.error()
	}
	return challenge, done, err
}

// authArgs says what is wrong with the arguments of AUTH, or "": a mechanism, and an
// initial response if the client likes (RFC 4954, section 4).
func authArgs(arg string) string {
	args := strings.Fields(arg)
	switch {
	case len(args) == 0 || len(args) > 2:
		return "501 5.5.4 a mechanism is wanted, and no more than one response"
	case len(args) == 2 && args[1] != "=" && !isBase64(args[1]):
		return badBase64
	}
	return ""
}

const badBase64 = "501 5.5.2 the response is not in base64"

func isBase64(s string) bool {
	_, err := base64.StdEncoding.DecodeString(s)
	return err == nil
}

// loginServer is the server of the LOGIN mechanism (draft-murchison-sasl-login), which
// Outlook and devices still want.
type loginServer struct {
	login func(name, password string) error
	name  string
	step  int
}

// Next satisfies sasl.Server.
func (l *loginServer) Next(response []byte) (challenge []byte, done bool, err error) {
	if l.step == 0 && response != nil {
		l.step++ // an initial response is the name
	}
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.name = string(response)
		return []byte("Password:"), false, nil
	case 3:
		return nil, true, l.login(l.name, string(response))
	}
	return nil, false, errSASL.error()
}
