package imap

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/imap/wire"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// session is one connection's protocol state. It belongs to the goroutine that serves
// the connection. What belongs to the person logged in is in user and goes with them; what belongs to
// the selected mailbox is in view.
type session struct {
	srv *Server
	c   *conn
	rd  *wire.Reader
	cmd wire.Command
	ctx context.Context
	log *slog.Logger

	client   mail.Client
	secure   bool // under TLS
	user     *user
	view     *view // the selected mailbox, or nil
	on       feature
	uid      bool   // the command at hand is the UID form
	remark   string // added to the text of the OK of the command at hand
	highest  bool   // the OK of the command at hand says up to which mod-sequence all has been told
	over     bool   // end after this command
	upgrade  bool   // begin TLS after this command's OK
	early    int    // commands before log-in
	bad      int    // malformed commands in a row
	failed   int    // failed log-ins
	reserved int64  // octets of the intake's memory that the command at hand has
}

// user is somebody logged in, for as long as the connection lives.
type user struct {
	who  mail.Principal
	acct *storage.Account
}

// serve runs a session from greeting to end.
func serve(srv *Server, c *conn, implicitTLS bool) {
	ctx, cancel := context.WithCancel(srv.ctx)
	defer cancel()
	s := newSession(ctx, srv, c)
	defer s.end()
	c.until = time.Now().Add(srv.o.Limits.EarlyIdle)
	if implicitTLS {
		s.client.Protocol = "imaps"
		if err := c.handshake(ctx); err != nil {
			s.log.Debug("imap: TLS handshake failed", "err", err)
			return
		}
		s.secured()
	}
	s.run()
	if t, ok := c.nc.(interface{ CloseWrite() error }); ok && c.err == nil {
		_ = c.raw.SetWriteDeadline(time.Now().Add(srv.o.Limits.Progress))
		_ = t.CloseWrite()
	}
}

func newSession(ctx context.Context, srv *Server, c *conn) *session {
	s := &session{srv: srv, c: c, ctx: ctx, log: srv.o.Log.With("remote", c.remote())}
	s.client = mail.Client{Protocol: "imap", Remote: c.remote()}
	s.newReader()
	return s
}

// run greets and serves until the session is over.
func (s *session) run() {
	s.c.write("* OK [CAPABILITY " + s.capabilities() + "] IMAP service ready")
	s.c.end()
	for !s.over && s.next() {
	}
	_ = s.c.flush()
}

// secured notes that the line is under TLS now. What was read before is forgotten.
func (s *session) secured() {
	s.secure = true
	s.client.TLS = s.c.tlsState()
}

func (s *session) newReader() {
	s.rd = wire.NewReader(s.c)
	s.rd.Continue = func() error {
		s.c.write("+ Go ahead")
		s.c.end()
		return s.c.flush()
	}
	s.rd.Gate = s.gate
}

// end gives back what the session holds.
func (s *session) end() {
	s.release()
	s.unselect()
	if s.user != nil {
		_ = s.user.acct.Close()
		s.user = nil
	}
}

func (s *session) state() state {
	switch {
	case s.view != nil:
		return selected
	case s.user != nil:
		return inUser
	case s.secure:
		return inTLS
	}
	return inClear
}

func (s *session) limits() wire.Limits {
	l := s.srv.o.Limits
	w := wire.Limits{Line: l.LineBytes, Literals: l.LiteralBytes, NonSync: l.LiteralBytes, Swallow: 2 * l.MessageBytes, Depth: l.Depth, Elements: l.Elements}
	if s.user == nil {
		w.Literals, w.Line = l.EarlyLiteralBytes, min(l.LineBytes, int(2*l.EarlyLiteralBytes))
		w.NonSync = 4096
		w.Swallow = 4 * l.EarlyLiteralBytes
	}
	return w
}

// next reads one command and answers it. It is false when the session is over.
func (s *session) next() bool {
	s.c.waiting = true
	s.c.quiet = s.srv.o.Limits.Idle
	if s.user == nil {
		s.c.quiet = s.srv.o.Limits.EarlyIdle
	}
	s.rd.Limits = s.limits()
	err := s.rd.ReadCommand(&s.cmd)
	if err == nil {
		if s.alien() {
			s.bye("", "This is not IMAP")
			return false
		}
		s.dispatch()
		s.release()
		return !s.over
	}
	s.release()
	var e *wire.Error
	switch {
	case errors.As(err, &e) && e.Fatal:
		s.bye("", e.Text)
		return false
	case errors.As(err, &e):
		if s.alien() {
			s.bye("", "This is not IMAP")
			return false
		}
		s.tagged(e)
		return !s.over
	}
	s.gone(err)
	return false
}

// gone ends a session whose client is silent or away, or that the server wants to end.
func (s *session) gone(err error) {
	switch {
	case errors.Is(err, errClosing):
		s.bye(imap.ResponseCodeUnavailable, "The server is shutting down")
	case errors.Is(err, errIdle):
		s.bye("", "Too long without a command")
	case !errors.Is(err, net.ErrClosed):
		s.log.Debug("imap: connection ended", "err", err)
	}
	s.over = true
}

// errAnswered ends a command after which nothing more is to be said.
var errAnswered = errors.New("imap: the session is over")

// lost ends the session when reading fails within a command.
func (s *session) lost(err error) error {
	var e *wire.Error
	if errors.As(err, &e) {
		s.bye("", e.Text)
	} else {
		s.gone(err)
	}
	return errAnswered
}

func (s *session) bye(code imap.ResponseCode, text string) {
	s.over = true
	s.respond("*", "BYE", string(code), text)
}

// alien recognises a client of another protocol, above all a browser that was led here
// (ALPACA, USENIX Security 2021). Nothing of what it sent is repeated.
func (s *session) alien() bool {
	if _, known := s.srv.commands[s.cmd.Name]; known || s.user != nil {
		return false
	}
	line := s.cmd.FirstLine()
	verb, _, _ := strings.Cut(line, " ")
	switch strings.ToUpper(verb) {
	case "GET", "POST", "PUT", "HEAD", "OPTIONS", "CONNECT", "DELETE", "PATCH", "TRACE", "PRI", "EHLO", "HELO":
		return true
	}
	return strings.Contains(line, " HTTP/")
}

// lookup finds the command at hand in the table, if it is allowed now.
func (s *session) lookup(name string) (command, *wire.Error) {
	cmd, ok := s.srv.commands[name]
	switch {
	case name == "":
		return cmd, &wire.Error{Text: "A command is missing"}
	case !ok:
		return cmd, &wire.Error{Text: "Unknown command"}
	case cmd.in&s.state() != 0:
		return cmd, nil
	case s.user == nil && cmd.in&loggedIn != 0:
		return cmd, &wire.Error{Text: "Log in first"}
	case cmd.in == selected:
		return cmd, &wire.Error{Text: "No mailbox is selected"}
	}
	return cmd, &wire.Error{Text: "Not allowed now"}
}

// appendTotal is how much one APPEND may bring, in messages of the longest kind.
const appendTotal = 2

// gate decides on a literal of the command that is being read, before a byte of it is read.
func (s *session) gate(c *wire.Command, size int64) (int64, *wire.Error) {
	if _, e := s.lookup(c.Name); e != nil {
		return 0, e
	}
	if !s.secure && (c.Name == "LOGIN" || c.Name == "AUTHENTICATE") {
		return 0, errPrivacy()
	}
	if c.Name != "APPEND" || !c.ArgumentsBefore() {
		return 0, nil
	}
	limit := s.srv.o.Limits.MessageBytes
	if size > limit {
		return limit, nil
	}
	patience := s.srv.o.Limits.Progress
	if s.reserved > 0 { // of many that hold some memory and wait for more, none might go on
		patience = min(patience, time.Second)
	}
	if s.reserved+size > appendTotal*limit {
		return 0, &wire.Error{No: true, Code: "TOOBIG", Text: "Too much in one APPEND"}
	}
	ctx, cancel := context.WithTimeout(s.ctx, patience)
	defer cancel()
	if err := s.srv.o.Intake.Reserve(ctx, size); err != nil {
		return 0, answerTo(err)
	}
	s.reserved += size
	return limit, nil
}

// release gives back the memory that gate took.
func (s *session) release() {
	if s.reserved > 0 {
		s.srv.o.Intake.Release(s.reserved)
		s.reserved = 0
	}
}

// dispatch carries out the command that was read: it is the one place that sends
// tagged responses.
func (s *session) dispatch() {
	if s.cmd.Tag == "" {
		s.respondBad(&wire.Error{Text: "A tag is missing"})
		return
	}
	if s.user == nil {
		if s.early++; s.early > s.srv.o.Limits.EarlyCommands {
			s.bye("", "Too many commands before log-in")
			return
		}
	}
	name := s.cmd.Name
	s.uid, s.highest, s.remark = false, false, ""
	cmd, e := s.lookup(name)
	p := s.cmd.Parser(s.rd.Limits)
	if e == nil && name == "UID" {
		p.SP()
		name = p.Word()
		cmd = s.srv.commands[name]
		if s.uid = cmd.uid; !cmd.uid {
			e = &wire.Error{Text: "Unknown command"}
		}
		cmd.updates = allUpdates
	}
	if e != nil {
		if _, known := s.srv.commands[s.cmd.Name]; known && s.cmd.Name != "UID" {
			// A good command at a bad time: not what other protocols send, so it is not counted.
			s.respond(s.cmd.Tag, "BAD", e.Code, e.Text)
			return
		}
		s.tagged(e)
		return
	}
	if !p.AtEnd() {
		p.SP()
	}
	p.UID, p.UTF8 = s.uid, s.has(utf8names)
	if s.view != nil {
		p.Saved = s.view.savedAs
	}
	code, err := cmd.run(s, p)
	if s.c.err != nil || errors.Is(err, errAnswered) {
		s.over = true
		return
	}
	if s.view != nil && cmd.updates != noUpdates {
		s.tell(cmd.updates == allUpdates)
	}
	if s.over && name != "LOGOUT" {
		return // the mailbox is gone, and BYE has been said
	}
	if err != nil {
		s.failure(name, err)
		return
	}
	s.bad = 0
	if s.highest && code == "" && s.view != nil {
		code = fmt.Sprintf("HIGHESTMODSEQ %d", s.view.modseq)
	}
	if s.uid {
		name = "UID " + name
	}
	s.respond(s.cmd.Tag, "OK", code, name+" completed"+s.remark)
	if s.upgrade {
		s.startTLS()
	}
}

// failure answers a command that failed, and logs what is our fault.
func (s *session) failure(name string, err error) {
	var e *wire.Error
	if !errors.As(err, &e) {
		switch k := mail.KindOf(err); k {
		case mail.Internal, mail.Corrupt, mail.Full:
			s.log.Error("imap: command failed", "command", name, "err", err)
		case mail.Unavailable:
			s.log.Warn("imap: command failed", "command", name, "err", err)
		}
		s.bad = 0
	}
	s.tagged(answerTo(err))
}

// tagged sends NO or BAD.
func (s *session) tagged(e *wire.Error) {
	if !e.No {
		s.respondBad(e)
		return
	}
	s.bad = 0
	s.respond(s.cmd.Tag, "NO", e.Code, e.Text)
}

// respondBad sends BAD, and ends the session when that happens too often.
func (s *session) respondBad(e *wire.Error) {
	s.respond(s.cmd.Tag, "BAD", e.Code, e.Text)
	limit := s.srv.o.Limits.BadCommands
	if s.user == nil {
		limit = s.srv.o.Limits.EarlyBad
	}
	if s.bad++; s.bad >= limit {
		s.bye("", "Too many malformed commands")
	}
}

// respond writes a status response (RFC 3501, section 7.1). An empty tag is "*".
func (s *session) respond(tag, status, code, text string) {
	if tag == "" {
		tag = "*"
	}
	s.c.write(tag)
	s.c.write(" ")
	s.c.write(status)
	if code != "" {
		s.c.write(" [" + code + "]")
	}
	s.c.write(" ")
	s.c.write(wire.Text(text))
	s.c.end()
}

// untagged writes one untagged response.
func (s *session) untagged(line string) {
	s.c.write("* ")
	s.c.write(line)
	s.c.end()
}
