package queue

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// session is a connection to another server, after its greeting (RFC 5321, client side). It is used by one courier.
type session struct {
	t    Timeouts
	raw  *conn
	c    net.Conn // raw, or TLS over it
	r    *bufio.Reader
	w    *bufio.Writer
	host string // the server's name

	ext      map[string]string // what it offers, in capitals
	tls      bool
	verified bool // it has proved its name
	broken   bool // of no more use
	sent     int  // transactions
}

// errPlain says that TLS failed where it need not be.
var errPlain = errors.New("TLS failed")

// open connects to a server and makes the connection as secure as mode demands. The error is errPlain if it would be
// worth while to try without TLS, which mode allows.
func (q *Queue) open(ctx context.Context, to target, mode TLS, roots *tls.Config, plain bool) (*session, *outcome, error) {
	dial, cancel := context.WithTimeout(ctx, q.o.Timeouts.Connect)
	defer cancel()
	nc, err := q.o.Dial(dial, "tcp", to.addr)
	if err != nil {
		return nil, temporary("4.4.1", "no connection to "+to.name+": "+plainError(err)), nil
	}
	raw := &conn{Conn: nc, progress: q.o.Timeouts.Progress}
	s := &session{t: q.o.Timeouts, raw: raw, host: to.name}
	defer s.guard(ctx)()
	s.use(raw)
	if o := s.greet(q.o.Hostname); o != nil {
		s.close()
		return nil, o, nil
	}
	if plain {
		return s, nil, nil
	}
	o, err := s.secure(ctx, q.o.Hostname, mode, roots)
	if o != nil || err != nil {
		s.close()
		return nil, o, err
	}
	return s, nil, nil
}

// plainError is the heart of an error of the network: without addresses and ports of ours.
func plainError(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		err = op.Err
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		return "timed out"
	}
	if dns := (*net.DNSError)(nil); errors.As(err, &dns) {
		return dns.Err // without the name server that was asked
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return "connection closed"
	}
	return err.Error()
}

func (s *session) use(c net.Conn) {
	s.c, s.r, s.w = c, bufio.NewReaderSize(c, maxReplyLine), bufio.NewWriterSize(c, 32<<10)
}

// lost is the outcome of an I/O failure.
func (s *session) lost(during string, err error) *outcome {
	s.broken = true
	if errors.Is(err, errReply) || errors.Is(err, errTooMuch) {
		return temporary("4.5.0", s.host+": "+err.Error()+" ("+during+")")
	}
	return temporary("4.4.2", "the connection to "+s.host+" failed ("+during+"): "+plainError(err))
}

// read reads one reply.
func (s *session) read(within time.Duration) (reply, error) {
	_ = s.raw.SetDeadline(time.Now().Add(within))
	defer func() { _ = s.raw.SetDeadline(time.Time{}) }()
	r, err := readReply(s.r)
	if err != nil || r.code == 421 {
		s.broken = true
	}
	return r, err
}

// calm is an error if the server has said what nothing was asked for: then it cannot be told what its next reply is
// about.
func (s *session) calm() error {
	if s.r.Buffered() > 0 {
		s.broken = true
		return errReply
	}
	return nil
}

// command sends a line and reads the reply.
func (s *session) command(line string) (reply, error) {
	if err := s.calm(); err != nil {
		return reply{}, err
	}
	if err := s.write(line); err != nil {
		return reply{}, err
	}
	if err := s.w.Flush(); err != nil {
		return reply{}, err
	}
	return s.read(s.t.Reply)
}

var errLine = errors.New("a command with a line break")

func (s *session) write(line string) error {
	if strings.ContainsAny(line, "\r\n\x00") {
		return errLine // cannot be: every part of a command was checked
	}
	_, err := s.w.WriteString(line + "\r\n")
	return err
}

// greet reads the greeting and introduces us.
func (s *session) greet(hostname string) *outcome {
	r, err := s.read(s.t.Reply)
	if err != nil {
		return s.lost("greeting", err)
	}
	if r.code != 220 {
		return s.later(r)
	}
	return s.hello(hostname)
}

// later is the outcome of a refusal that concerns us and not the message: another day it may be otherwise.
func (s *session) later(r reply) *outcome {
	o := answered(r, s.host)
	if o.state != waiting || o.status[0] != '4' {
		o.state, o.status = waiting, "4.3.2"
	}
	return o
}

// hello says EHLO, or HELO to a server of old, and learns what is offered.
func (s *session) hello(hostname string) *outcome {
	s.ext = make(map[string]string)
	r, err := s.command("EHLO " + hostname)
	if err != nil {
		return s.lost("EHLO", err)
	}
	if r.code/100 == 5 {
		if r, err = s.command("HELO " + hostname); err != nil {
			return s.lost("HELO", err)
		}
		r.lines = r.lines[:min(len(r.lines), 1)]
	}
	if r.code != 250 {
		return s.later(r)
	}
	for _, line := range r.lines[min(len(r.lines), 1):] {
		word, param, _ := strings.Cut(line, " ")
		s.ext[strings.ToUpper(word)] = strings.TrimSpace(param)
	}
	return nil
}

func (s *session) offers(ext string) bool {
	_, ok := s.ext[ext]
	return ok
}

// secure starts TLS (RFC 3207).
func (s *session) secure(ctx context.Context, hostname string, mode TLS, base *tls.Config) (*outcome, error) {
	if !s.offers("STARTTLS") {
		if mode == Opportunistic {
			return nil, nil
		}
		return temporary("4.7.4", s.host+" does not offer the TLS that this mail needs"), nil
	}
	r, err := s.command("STARTTLS")
	if err != nil {
		return s.lost("STARTTLS", err), nil
	}
	if r.code != 220 {
		if mode == Opportunistic && !s.broken {
			return nil, nil
		}
		return s.later(r), nil
	}
	if s.r.Buffered() > 0 {
		return s.lost("STARTTLS", errReply), nil // words in clear that would pass for protected ones
	}
	c := tls.Client(s.raw, base)
	shake, cancel := context.WithTimeout(ctx, s.t.Reply)
	defer cancel()
	if err := c.HandshakeContext(shake); err != nil {
		if mode == Opportunistic {
			return nil, errPlain
		}
		return temporary("4.7.5", "no trustworthy TLS connection to "+s.host+": "+plainError(err)), nil
	}
	s.tls, s.verified = true, mode == Verify
	s.use(c)
	return s.hello(hostname), nil
}

// parcel is what goes in one transaction.
type parcel struct {
	from           string
	to             []string
	size           int64
	utf8, eightBit bool
	body           io.Reader
	doubt          func(known []*outcome) // called when the whole message is out and no reply has come for a while
}

// send does one transaction and returns an outcome for each recipient. early says that the connection was gone before
// the server could have taken anything.
func (s *session) send(p *parcel) (list []*outcome, early bool) {
	list = make([]*outcome, len(p.to))
	all := func(o *outcome) []*outcome {
		for i := range list {
			if list[i] == nil {
				list[i] = o
			}
		}
		return list
	}
	s.sent++
	if o := s.lacks(p); o != nil {
		return all(o), false
	}
	taken, o := s.envelope(p, list)
	if o != nil {
		early = s.broken && o.host == ""
		s.reset()
		return all(o), early
	}
	if taken == 0 {
		s.reset()
		return list, false
	}
	return all(s.data(p.body, func() { p.doubt(list) })), false
}

// lacks says what the server cannot do that the message needs.
func (s *session) lacks(p *parcel) *outcome {
	switch limit, err := strconv.ParseInt(s.ext["SIZE"], 10, 64); {
	case p.utf8 && !s.offers("SMTPUTF8"):
		return permanent("5.6.7", s.host+" does not take internationalised addresses or headers (SMTPUTF8)")
	case p.eightBit && !s.offers("8BITMIME"):
		return permanent("5.6.3", s.host+" does not take mail with 8-bit text (8BITMIME)")
	case err == nil && limit > 0 && p.size > limit:
		return permanent("5.3.4", fmt.Sprintf("the message has %d octets, %s takes no more than %d", p.size, s.host, limit))
	}
	return nil
}

// envelope sends sender and recipients, in one go if the server can take that (RFC 2920), and notes in list what became
// of each recipient who was not accepted. An outcome concerns all of them.
func (s *session) envelope(p *parcel, list []*outcome) (taken int, o *outcome) {
	first := "MAIL FROM:<" + p.from + ">"
	if p.eightBit {
		first += " BODY=8BITMIME"
	}
	if s.offers("SIZE") {
		first += " SIZE=" + strconv.FormatInt(p.size, 10)
	}
	if p.utf8 {
		first += " SMTPUTF8"
	}
	lines := []string{first}
	for _, to := range p.to {
		lines = append(lines, "RCPT TO:<"+to+">")
	}
	pipelining := s.offers("PIPELINING")
	if pipelining {
		if err := s.calm(); err != nil {
			return 0, s.lost("MAIL", err)
		}
		for _, line := range lines {
			if err := s.write(line); err != nil {
				return 0, s.lost("MAIL", err)
			}
		}
		if err := s.w.Flush(); err != nil {
			return 0, s.lost("MAIL", err)
		}
	}
	for i, line := range lines {
		var r reply
		var err error
		if pipelining {
			r, err = s.read(s.t.Reply)
		} else {
			r, err = s.command(line)
		}
		switch {
		case err != nil && o == nil:
			return 0, s.lost(line[:4], err)
		case err != nil || s.broken && o != nil:
			return 0, o
		case i == 0 && r.code/100 != 2:
			o = answered(r, s.host)
			if !pipelining || s.broken {
				return 0, o
			}
		case i == 0 || o != nil:
		case r.code/100 != 2:
			list[i-1] = answered(r, s.host)
			if s.broken {
				return 0, list[i-1]
			}
		default:
			taken++
		}
	}
	return taken, o
}

// unread is an error of the message's source, not of the connection.
type unread struct {
	r   io.Reader
	err error
}

func (u *unread) Read(b []byte) (int, error) {
	n, err := u.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		u.err = err
	}
	return n, err
}

// data sends the message. From the final dot on it may have been taken, even if no reply says so.
func (s *session) data(body io.Reader, doubt func()) *outcome {
	r, err := s.command("DATA")
	if err != nil {
		return s.lost("DATA", err)
	}
	if r.code != 354 {
		o := answered(r, s.host)
		if o.state == delivered {
			o = s.lost("DATA", errReply)
		}
		s.reset()
		return o
	}
	d := &dotWriter{w: s.w}
	source := &unread{r: body}
	if _, err := io.Copy(d, source); err != nil {
		o := s.lost("message", err)
		if source.err != nil {
			return temporary("4.3.0", "the message could not be read from the queue")
		}
		return o
	}
	if err := s.calm(); err != nil { // a reply to what is not sent yet
		return s.lost("message", err)
	}
	if err := d.Close(); err != nil { // its last octets are those that did not go
		return s.lost("message", err)
	}
	return s.final(doubt)
}

// doubtAfter is how long the reply to a message may take before it is put down that the server may have the message.
// Servers that look into mail before they answer are quicker than that as a rule, so it costs nothing.
const doubtAfter = 5 * time.Second

// final reads the reply to the message. Without one that can be understood the outcome is uncertain.
func (s *session) final(doubt func()) *outcome {
	told := make(chan struct{})
	timer := time.AfterFunc(doubtAfter, func() {
		defer close(told)
		doubt()
	})
	r, err := s.read(s.t.Final)
	if !timer.Stop() {
		<-told
	}
	if err != nil {
		return s.lost("after the message", err).inDoubt()
	}
	o := answered(r, s.host)
	if r.code/100 == 3 {
		return o.inDoubt()
	}
	return o
}

// reset makes the session ready for another transaction.
func (s *session) reset() {
	if s.broken {
		return
	}
	if r, err := s.command("RSET"); err != nil || r.code != 250 {
		s.broken = true
	}
}

// quit ends the session politely, without waiting long.
func (s *session) quit() {
	defer s.close()
	if s.broken || s.write("QUIT") != nil || s.w.Flush() != nil {
		return
	}
	_, _ = s.read(min(s.t.Reply, 5*time.Second))
}

// guard breaks the connection off when ctx is done, until release is called.
func (s *session) guard(ctx context.Context) (release func()) {
	stop := context.AfterFunc(ctx, func() { _ = s.raw.Close() })
	return func() { stop() }
}

func (s *session) close() {
	s.broken = true
	_ = s.raw.Close()
}
