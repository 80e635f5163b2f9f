package imap

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// tape is a connection that plays what a client sends, some octets at a time, and records
// the answers.
type tape struct {
	in   []byte
	step int
	out  bytes.Buffer
}

func (p *tape) Read(b []byte) (int, error) {
	if len(p.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.step)], p.in)
	p.in = p.in[n:]
	return n, nil
}

func (p *tape) Write(b []byte) (int, error)      { return p.out.Write(b) }
func (p *tape) Close() error                     { return nil }
func (p *tape) LocalAddr() net.Addr              { return nil }
func (p *tape) RemoteAddr() net.Addr             { return nil }
func (p *tape) SetDeadline(time.Time) error      { return nil }
func (p *tape) SetReadDeadline(time.Time) error  { return nil }
func (p *tape) SetWriteDeadline(time.Time) error { return nil }

// accounts numbers the fuzzed sessions: each has an account of its own.
var accounts atomic.Int64

// play runs a session in a state over what a client sends: 0 in clear, 1 under TLS, 2 logged in, 3 with INBOX selected.
func play(t *testing.T, ts *testServer, state int, in []byte, step int) string {
	p := &tape{in: in, step: step}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	s := newSession(ctx, ts.srv, newConn(ts.srv, p))
	defer s.end()
	s.secure = state > 0
	if s.secure {
		s.client.TLS = "test"
	}
	if state >= 2 {
		id := mail.AccountID(fmt.Sprintf("acct-%d", accounts.Add(1)))
		must(t, ts.store.EnsureAccount(ctx, id, ""))
		acct, err := ts.store.OpenAccount(ctx, id)
		must(t, err)
		s.user = &user{who: mail.Principal{UID: "fuzz", Account: id}, acct: acct}
		if state == 3 {
			pre := "0 APPEND INBOX (x) {14+}\r\nSubject: a\r\n\r\n\r\n0 SELECT INBOX\r\n"
			p.in = append([]byte(pre), in...)
		}
	}
	s.run()
	return varying.ReplaceAllString(p.out.String(), "$1 N")
}

// playOn runs a session, logged in, over a connection.
func playOn(t *testing.T, ts *testServer, nc net.Conn) {
	t.Helper()
	s := newSession(t.Context(), ts.srv, newConn(ts.srv, nc))
	defer s.end()
	s.secure, s.client.TLS = true, "test"
	code, err := s.login("alice", "secret")
	if err != nil {
		t.Fatal(code, err)
	}
	s.run()
}

// varying is what differs between two runs of the same dialogue.
var varying = regexp.MustCompile(`(UIDVALIDITY|MAILBOXID|EMAILID|THREADID|SAVEDATE|APPENDUID|COPYUID|INTERNALDATE) ("[^"]*"|\([^)]*\)|\d+)`)

func FuzzSession(f *testing.F) {
	ts := newServer(f, Limits{MessageBytes: 10_000, LineBytes: 1000})
	for state, in := range map[int]string{
		0:  "a CAPABILITY\r\nb LOGIN x y\r\nc ID NIL\r\nd LOGOUT\r\n",
		1:  "a LOGIN {5+}\r\nalice wrong\r\nb AUTHENTICATE PLAIN\r\nAGEAYg==\r\nGET / HTTP/1.1\r\n",
		2:  "a LIST \"\" (% *) RETURN (STATUS (MESSAGES))\r\nb CREATE x/y\r\nc RENAME x z\r\nd APPEND z/y {3+}\r\na:b\r\ne STATUS z/y (UIDNEXT)\r\n",
		3:  "a FETCH 1:* (FLAGS BODY[]<1.3> BODYSTRUCTURE)\r\nb STORE 1 +FLAGS (\\Deleted)\r\nc SEARCH OR SEEN TEXT a\r\nd UID MOVE 1 Trash\r\ne EXPUNGE\r\nf IDLE\r\nDONE\r\n",
		7:  "a ENABLE QRESYNC\r\nb SELECT INBOX (QRESYNC (1 1 1:9 (1 1)))\r\nc STORE 1 (UNCHANGEDSINCE 9) +FLAGS.SILENT (\\Deleted)\r\nd UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1 VANISHED)\r\ne EXPUNGE\r\nf SEARCH MODSEQ 1\r\n",
		11: "a SEARCH RETURN (SAVE MIN COUNT) ALL\r\nb FETCH $ (EMAILID THREADID SAVEDATE)\r\nc LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (*) RETURN (STATUS (SIZE MAILBOXID))\r\nd UID COPY $ Trash\r\n",
		15: "a APPEND INBOX {3+}\r\na:b () ~{5+}\r\nc:\x00d\n {4+}\r\nd:e\n\r\nb FETCH 1 (BINARY.PEEK[1]<0.9> BINARY.SIZE[1] BINARY[])\r\n",
		19: "a ENABLE IMAP4rev2\r\nb CREATE \"\u6a5f/a&b\"\r\nc SELECT \"\u6a5f/a&b\"\r\nd SEARCH ALL\r\ne LIST \"\" \"\u6a5f*\"\r\nf APPEND INBOX UTF8 (~{3+}\r\na:b)\r\n",
	} {
		f.Add(state, []byte(in))
	}
	f.Fuzz(func(t *testing.T, state int, in []byte) {
		state &= 3
		whole := play(t, ts, state, in, 1<<20)
		if strings.Contains(strings.ToUpper(string(in)), "STARTTLS") {
			return // what follows it in one packet ends the session, else it is a handshake
		}
		if bytewise := play(t, ts, state, in, 1); bytewise != whole {
			t.Fatalf("state %d, %q: at once\n%s\nbyte by byte\n%s", state, in, whole, bytewise)
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(whole, "\r\n"), "\r\n") {
			if strings.ContainsAny(line, "\x00\n") && state < 2 {
				t.Fatalf("a response line %q", line)
			}
		}
	})
}
