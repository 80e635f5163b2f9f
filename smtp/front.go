package smtp

import (
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// front is the net.Conn that go-smtp's server talks to. Towards the client it owns TLS,
// deadlines, limits and the message; towards go-smtp it is a line that carries one
// command at a time and no message at all: after DATA go-smtp sees only the final dot,
// and the session takes the message from the front.
//
// go-smtp executes a command and writes its replies between two reads. So when a read
// comes in, the last command is done and what was written is the whole reply to it;
// the front settles it (reply.go), and sends what it has gathered only when it must
// wait for the client. All fields are owned by the goroutine that serves the
// connection.
type front struct {
	server *Server
	link   *link
	conn   net.Conn  // the line to the client: link, or tls
	tls    *tls.Conn // nil while in clear
	in     input

	verb    string // of the command that go-smtp has last been given
	pending []byte // input for go-smtp that it has not read yet
	written []byte // what go-smtp has written in answer to verb
	out     []byte // replies that wait to be sent
	mute    bool   // the next reply of go-smtp is not for the client

	transaction          // RFC 5321, section 3.3
	ready        bool    // the TLS handshake, if there is one, is done
	closing      bool    // say nothing but what is in out, then close
	drain        bool    // when closing, read for a moment what the client still sends
	handed       bool    // the connection goes on under TLS with another front
	answer       int     // code of the last reply
	errors       int     // refused commands so far
	commands     int     // since the start or the last accepted message
	known        bool    // the client has logged in
	failedLogins int     //
	chunks       *chunks // BDAT under way
}

// transaction is what the front knows of the mail transaction, from go-smtp's replies.
type transaction struct {
	sender     bool
	recipients int
}

func newFront(s *Server, l *link, t *tls.Conn) *front {
	f := &front{server: s, link: l, conn: l, tls: t}
	if t != nil {
		f.conn = t
	}
	f.in.src = f.conn
	return f
}

// Read gives go-smtp its next input.
func (f *front) Read(p []byte) (int, error) {
	if f.tls != nil && !f.ready {
		if err := f.handshake(f.tls); err != nil {
			f.closing, f.written = true, nil
			return 0, io.EOF
		}
		f.ready = true
	}
	for len(f.pending) == 0 {
		f.settle()
		if f.closing || f.handed {
			return 0, io.EOF
		}
		if err := f.next(); err != nil {
			return 0, io.EOF
		}
	}
	n := copy(p, f.pending)
	f.pending = f.pending[n:]
	return n, nil
}

// Write takes a part of a reply from go-smtp.
func (f *front) Write(p []byte) (int, error) {
	f.written = append(f.written, p...)
	return len(p), nil
}

// Close sends what is left to say and ends the connection, unless it goes on under TLS.
func (f *front) Close() error {
	if f.handed {
		return nil
	}
	f.settle()
	err := f.flush()
	f.dropChunks()
	if f.tls != nil && f.ready {
		_ = f.link.SetWriteDeadline(time.Now().Add(time.Second))
		_ = f.tls.CloseWrite()
	}
	if f.drain && err == nil {
		f.linger()
	}
	f.link.end()
	return nil
}

// LocalAddr and RemoteAddr are the client connection's.
func (f *front) LocalAddr() net.Addr  { return f.link.LocalAddr() }
func (f *front) RemoteAddr() net.Addr { return f.link.RemoteAddr() }

// Deadlines are the front's own affair.
func (f *front) SetDeadline(time.Time) error      { return nil }
func (f *front) SetReadDeadline(time.Time) error  { return nil }
func (f *front) SetWriteDeadline(time.Time) error { return nil }

// next reads one command and either answers it here or makes it pending.
func (f *front) next() error {
	line, err := f.readLine()
	if err != nil {
		return f.lost(err)
	}
	if f.answer == 334 { // a SASL response, not a command
		f.answer = 0
		if s := string(line); s != "*" && s != "=" && !isBase64(s) {
			f.say(badBase64)
			f.limitErrors()
			line, f.mute = []byte("*"), true
		}
		f.give("AUTH", line)
		return nil
	}
	most := f.server.o.Limits.Commands
	if f.link.mode != MX {
		most = f.server.o.Limits.BeforeLogin
	}
	if f.commands++; f.commands > most && !f.known {
		return f.hangUp("421 4.7.0 too many commands")
	}
	f.command(line)
	return nil
}

// lost ends the connection after a failed read; what can be said is said.
func (f *front) lost(err error) error {
	switch {
	case errors.Is(err, errLineTooLong):
		return f.hangUp("500 5.5.2 line too long")
	case errors.Is(err, errLineEnd):
		return f.hangUp("500 5.5.2 lines must end in CRLF and hold no NUL")
	case errors.Is(err, os.ErrDeadlineExceeded):
		if f.server.leaving() {
			return f.hangUp("421 4.3.2 going down, try again later")
		}
		return f.hangUp("421 4.4.2 waited too long")
	}
	f.closing = true
	return io.EOF
}

// hangUp says a last line and ends the connection.
func (f *front) hangUp(line string) error {
	f.say(line)
	f.closing, f.drain = true, true
	return io.EOF
}

// What a client may still send after our last word.
const (
	lingerBytes = 1 << 20
	lingerTime  = 2 * time.Second
)

// linger reads what the client is still sending, so that our last reply is not lost by a
// reset of the connection.
func (f *front) linger() {
	c, ok := f.link.Conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	_ = f.link.SetReadDeadline(time.Now().Add(min(lingerTime, f.server.o.Limits.Progress)))
	_, _ = io.CopyN(io.Discard, f.link.Conn, lingerBytes)
}

// say queues a reply of the front's own.
func (f *front) say(line string) {
	f.out = append(append(f.out, line...), '\r', '\n')
	if line[0] == '5' {
		f.errors++
	}
}

// give makes a line pending as the command verb.
func (f *front) give(verb string, line []byte) {
	f.verb = verb
	f.pending = append(append(f.pending[:0], line...), '\r', '\n')
}

// flush sends the replies that wait.
func (f *front) flush() error {
	if len(f.out) == 0 {
		return nil
	}
	if err := f.link.SetWriteDeadline(time.Now().Add(f.server.o.Limits.Progress)); err != nil {
		return err
	}
	_, err := f.conn.Write(f.out)
	f.out = f.out[:0]
	if err != nil {
		f.closing = true
	}
	return err
}

// readLine is the next line without its CRLF. What waits to be said is sent before we
// wait for the client, who has the idle time to begin a line and the progress time to
// end it.
func (f *front) readLine() ([]byte, error) {
	limits := f.server.o.Limits
	wait, begun, set := limits.Idle, false, false
	defer f.link.wait(false)
	for {
		line, err := f.in.line(f.lineLimit())
		if line != nil || err != nil {
			return line, err
		}
		if err := f.flush(); err != nil {
			return nil, err
		}
		if !begun && !f.in.empty() {
			wait, begun, set = limits.Progress, true, false
		}
		if !set {
			set = true
			if err := f.link.SetReadDeadline(time.Now().Add(wait)); err != nil {
				return nil, err
			}
		}
		if !f.link.wait(f.answer != 334 && !f.sender) {
			return nil, os.ErrDeadlineExceeded
		}
		if err := f.in.fill(); err != nil {
			return nil, err
		}
	}
}

// lineLimit is how long the line under way may be.
func (f *front) lineLimit() int {
	if f.answer == 334 || len(f.in.rest()) >= 5 && strings.EqualFold(string(f.in.head(5)), "AUTH ") {
		return max(maxAuthLine, f.server.o.Limits.CommandLine)
	}
	return f.server.o.Limits.CommandLine
}

// maxAuthLine is the longest line of a SASL exchange (RFC 4954, section 4), plus "AUTH"
// and the mechanism.
const maxAuthLine = 12288 + 32

// command answers a command line, or gives it to go-smtp.
func (f *front) command(line []byte) {
	verb, arg := split(string(line))
	switch verb {
	case "EHLO", "HELO":
		if !validHelo(arg) {
			f.say("501 5.5.4 a domain name or an address literal is required")
			return
		}
	case "STARTTLS":
		f.startTLS(arg)
		return
	case "BDAT":
		f.bdat(arg)
		return
	case "MAIL", "RCPT", "DATA", "AUTH":
		if f.chunks != nil {
			f.say("503 5.5.1 not within BDAT")
			return
		}
	case "RSET", "NOOP", "QUIT", "VRFY":
		if verb == "NOOP" || verb == "VRFY" {
			line = []byte(verb) // the argument means nothing here
		}
	case "HELP", "EXPN":
		f.say("502 5.5.1 command not offered")
		return
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI", "HOST:", "USER-AGENT:":
		_ = f.hangUp("421 4.7.0 this is not a web server") // a cross-protocol attack
		return
	default:
		f.say("500 5.5.1 command not recognised")
		f.limitErrors()
		return
	}
	if verb == "AUTH" {
		if wrong := authArgs(arg); wrong != "" {
			f.say(wrong)
			f.limitErrors()
			return
		}
	}
	switch verb {
	case "EHLO", "HELO", "DATA", "AUTH":
		if !f.in.empty() { // RFC 2920, section 3.1: these end a group of commands
			_ = f.hangUp("503 5.5.0 command sent ahead of the reply it depends on")
			return
		}
	}
	switch {
	case verb == "RSET" || verb == "EHLO" || verb == "HELO":
		f.dropChunks()
	case verb == "RCPT" && strings.EqualFold(arg, "TO:<postmaster>") && len(f.server.o.Domains) > 0: // RFC 5321, section 4.5.1
		line = []byte("RCPT TO:<postmaster@" + f.server.o.Domains[0] + ">")
	case verb == "MAIL":
		line = []byte(capSize(string(line)))
	}
	f.give(verb, line)
}

func (f *front) limitErrors() {
	l := f.server.o.Limits
	if f.closing || f.errors <= l.Errors && f.failedLogins < l.Logins {
		return
	}
	_ = f.hangUp("421 4.7.0 too many errors")
}

// split is the verb of a command in upper case, and its argument.
func split(line string) (verb, arg string) {
	verb, arg, _ = strings.Cut(line, " ")
	return strings.ToUpper(verb), strings.Trim(arg, " ")
}

// capSize brings a SIZE that does not fit in 32 bits, and which go-smtp could not read, to
// the largest that does: the message is then refused for its size (RFC 1870, section 6.1).
func capSize(line string) string {
	end := strings.LastIndexByte(line, '>') + 1
	if end == 0 {
		return line
	}
	params := strings.Fields(line[end:])
	for i, p := range params {
		name, digits, _ := strings.Cut(p, "=")
		if strings.EqualFold(name, "SIZE") && len(digits) >= 10 && len(digits) <= 20 && strings.Trim(digits, "0123456789") == "" {
			if n, err := strconv.ParseUint(digits, 10, 64); err != nil || n > math.MaxUint32 {
				params[i] = "SIZE=" + strconv.FormatUint(math.MaxUint32, 10)
				return line[:end] + " " + strings.Join(params, " ")
			}
		}
	}
	return line
}

// validHelo accepts what clients really send as domain or address literal, but nothing
// that could be taken for something else where it is written down (RFC 5321, section
// 4.1.1.1).
func validHelo(s string) bool {
	if s == "" || len(s) > 255 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && strings.IndexByte("-._:[]", c) < 0 {
			return false
		}
	}
	return true
}

// startTLS changes to TLS (RFC 3207). A new front goes on, with a new session: nothing
// that was said in clear is remembered. Whatever came with the command is an attempt to
// smuggle it in.
func (f *front) startTLS(arg string) {
	switch {
	case arg != "":
		f.say("501 5.5.4 STARTTLS takes no argument")
		return
	case f.tls != nil:
		f.say("503 5.5.1 TLS is active")
		return
	case !f.in.empty():
		_ = f.hangUp("503 5.5.0 command sent ahead of the reply it depends on")
		return
	}
	f.say("220 2.0.0 ready to start TLS")
	if f.flush() != nil {
		return
	}
	t := tls.Server(f.link, f.server.o.TLS)
	if err := f.handshake(t); err != nil {
		f.closing = true
		return
	}
	under := newFront(f.server, f.link, t)
	under.mute, under.ready = true, true // no second greeting
	f.handed = true
	f.server.secure.serve(under)
}

func (f *front) handshake(t *tls.Conn) error {
	if err := f.link.SetDeadline(time.Now().Add(f.server.o.Limits.Progress)); err != nil {
		return err
	}
	err := t.HandshakeContext(f.server.ctx)
	if err != nil {
		f.server.o.Log.Debug("smtp: TLS handshake failed", "client", f.link.RemoteAddr().String(), "err", err)
	}
	return err
}

// connection describes the TLS connection for trace fields and audit.
func (f *front) connection() string {
	if f.tls == nil {
		return ""
	}
	st := f.tls.ConnectionState()
	return tls.VersionName(st.Version) + " " + tls.CipherSuiteName(st.CipherSuite)
}

// bdatArgs reads the size and LAST of BDAT (RFC 3030, section 2).
func bdatArgs(arg string) (size int64, last, ok bool) {
	digits, rest, more := strings.Cut(arg, " ")
	n, err := strconv.ParseUint(digits, 10, 40)
	last = strings.EqualFold(strings.TrimSpace(rest), "LAST")
	return int64(n), last, err == nil && digits[0] != '+' && (!more || last)
}
