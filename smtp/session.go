package smtp

import (
	"io"
	"slices"
	"strconv"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
)

// session is what go-smtp calls: one between two greetings, with the mail transaction
// inside. It is used by the goroutine of its connection alone.
type session struct {
	server *Server
	front  *front
	client mail.Client
	who    *mail.Principal // nil until the client has logged in

	open bool // a mail transaction is under way
	utf8 bool // the client asked for SMTPUTF8 (RFC 6531)
	env  mail.Envelope
	seen map[string]bool // recipients by key
}

func (s *Server) newSession(c *gosmtp.Conn) (gosmtp.Session, error) {
	f := c.Conn().(*front)
	return &session{server: s, front: f, client: mail.Client{
		Protocol: f.link.mode.String(), Remote: f.link.RemoteAddr().String(), Helo: c.Hostname(), TLS: f.connection(),
	}}, nil
}

// Reset ends the mail transaction.
func (s *session) Reset() {
	s.open, s.utf8, s.env, s.seen = false, false, mail.Envelope{}, nil
}

// Logout satisfies gosmtp.Session.
func (s *session) Logout() error { return nil }

// Mail begins a transaction.
func (s *session) Mail(from string, o *gosmtp.MailOptions) error {
	mx := s.front.link.mode == MX
	switch {
	case s.open:
		return reply{503, gosmtp.EnhancedCode{5, 5, 1}, "a mail transaction is under way"}.error()
	case !mx && s.front.tls == nil:
		return reply{530, gosmtp.EnhancedCode{5, 7, 0}, "issue STARTTLS first"}.error()
	case !mx && s.who == nil:
		return reply{530, gosmtp.EnhancedCode{5, 7, 0}, "authentication required"}.error()
	}
	var a mail.Address
	if from != "" {
		var err error
		if a, err = s.address(from, o.UTF8); err != nil {
			return err
		}
	}
	switch {
	case a.IsZero():
	case !mx && !s.who.MaySendAs(a):
		return smtpError(mail.E(mail.Denied, "you may not send as this address", nil))
	case mx && s.ours(a.Domain) && !limit.Contains(s.server.o.Trusted, limit.AddrOf(s.front.RemoteAddr())):
		return smtpError(mail.E(mail.Denied, "mail from this domain is taken from its users only, on the submission port", nil))
	}
	s.open, s.utf8 = true, o.UTF8
	s.env = mail.Envelope{From: a, Sender: s.who, Client: s.client, Size: o.Size}
	s.seen = map[string]bool{}
	return nil
}

// Rcpt adds a recipient.
func (s *session) Rcpt(to string, _ *gosmtp.RcptOptions) error {
	a, err := s.address(to, s.utf8)
	if err != nil {
		return err
	}
	if s.seen[a.Key()] {
		return nil
	}
	if err := s.server.o.Door.Resolve(s.server.ctx, &s.env, a); err != nil {
		s.logFailure("recipient refused", err)
		return s.refusal(err)
	}
	s.seen[a.Key()] = true
	s.env.To = append(s.env.To, a)
	return nil
}

// Data takes the message from the front and brings it to the door. r is not more than
// the final dot.
func (s *session) Data(r io.Reader) error {
	b, err := s.front.collect(s.env.Size)
	if err != nil {
		return err
	}
	defer b.release()
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	s.env.ID = mail.NewID()
	id, err := s.server.o.Door.Accept(s.server.ctx, &s.env, b.data)
	if err != nil {
		s.logFailure("message refused", err)
		return s.refusal(err)
	}
	return &gosmtp.SMTPError{Code: 250, EnhancedCode: gosmtp.EnhancedCode{2, 0, 0}, Message: string(id)}
}

// refusal is err as a reply within the transaction: to a user whose mail program reads UTF-8 in two languages.
func (s *session) refusal(err error) error {
	e := smtpError(err)
	if s.utf8 && s.who != nil {
		return bilingual(e, err)
	}
	return e
}

// logFailure notes why the client got an error, for the operator: never what the
// message says.
func (s *session) logFailure(what string, err error) {
	log := s.server.o.Log.Info
	if k := mail.KindOf(err); k == mail.Internal || k == mail.Corrupt {
		log = s.server.o.Log.Error
	}
	log("smtp: "+what, "id", string(s.env.ID), "client", s.client.Remote, "protocol", s.client.Protocol, "err", err)
}

func (s *session) ours(domain string) bool { return slices.Contains(s.server.o.Domains, domain) }

// address reads an address as go-smtp hands it over, its local part unquoted.
func (s *session) address(v string, utf8 bool) (mail.Address, error) {
	i := strings.LastIndexByte(v, '@')
	if i < 0 {
		return mail.Address{}, errAddress.error()
	}
	a, err := mail.ParseAddress(mail.Address{Local: v[:i], Domain: strings.ToLower(v[i+1:])}.String())
	if err != nil {
		return mail.Address{}, errAddress.error()
	}
	if !utf8 && !a.ASCII() {
		return mail.Address{}, reply{553, gosmtp.EnhancedCode{5, 6, 7}, "this address needs SMTPUTF8"}.error()
	}
	return a, nil
}

var errAddress = reply{553, gosmtp.EnhancedCode{5, 1, 3}, "not a valid mail address"}

// replyLine is an error as go-smtp would write it.
func replyLine(e *gosmtp.SMTPError) string {
	var b strings.Builder
	lines := strings.Split(e.Message, "\n")
	for i, l := range lines {
		b.WriteString(strconv.Itoa(e.Code))
		if i < len(lines)-1 {
			b.WriteString("-" + l + "\r\n")
			continue
		}
		for j, n := range e.EnhancedCode {
			b.WriteByte(" .."[j])
			b.WriteString(strconv.Itoa(n))
		}
		b.WriteString(" " + l + "\r\n")
	}
	return b.String()
}
