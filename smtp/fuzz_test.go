package smtp

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tape is a connection whose client has said everything in advance.
type tape struct {
	in   *bytes.Reader
	step int // octets a read gives at most
	out  bytes.Buffer
}

func (c *tape) Read(p []byte) (int, error)       { return c.in.Read(p[:min(len(p), c.step)]) }
func (c *tape) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *tape) Close() error                     { return nil }
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// alarm is a log handler that fails the test at an error: go-smtp reports panics there.
type alarm struct {
	slog.Handler
	t *testing.T
}

func (alarm) Enabled(context.Context, slog.Level) bool { return true }
func (a alarm) Handle(_ context.Context, r slog.Record) error {
	if r.Level >= slog.LevelError && strings.Contains(r.Message, "panic") {
		a.t.Error(r.Message)
	}
	return nil
}

var replyGrammar = regexp.MustCompile(`^([2-5][0-9][0-9][ -][ -~]{0,508}\r\n)*$`)

func FuzzSMTP(f *testing.F) {
	const begin = "EHLO a.example\r\n"
	const open = "HELO a\r\nMAIL FROM:<s@example.org>\r\nRCPT TO:<bob@works.gov.example>\r\n"
	for _, s := range []string{
		"HELO a\r\n", begin, open + "DATA\r\n", open + "BDAT 16\r\nSubject: good\r\n\r\nBDAT 2 LAST\r\n\r\nQUIT\r\n", open + "BDAT 5000 LAST\r\n",
		"STARTTLS\r\n", "AUTH PLAIN =\r\n", "AUTH LOGIN\r\n", "RSET\r\nNOOP x\r\nVRFY y\r\nHELP\r\nQUIT\r\n", "GET / HTTP/1.0\r\n\r\n",
		"MAIL FROM:<\"a\\\"b\"@x.example> SIZE=1 BODY=8BITMIME SMTPUTF8\r\n", "MAIL FROM:<@a,@b:c@d>\r\n", "RCPT TO:<>\r\n", "\r\n\r\n\n", "MAIL\r\n", "MAILX\r\n",
		open + "BDAT 3\r\nabcRSET\r\nMAIL FROM:<>\r\n", open + open,
	} {
		f.Add([]byte(s), uint8(255))
		f.Add([]byte(s), uint8(1))
	}
	f.Add([]byte("Subject: x\r\n\r\n..\r\n.\r\nNOOP\r\n"), uint8(3))
	base := testTLS(f)
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		for _, head := range []string{"", open, open + "DATA\r\n"} {
			d := newDesk()
			s, err := New(Options{TLS: base, Auth: d, Door: d, Log: slog.New(alarm{t: t}), Limits: Limits{MessageSize: 2000, Recipients: 3}})
			if err != nil {
				t.Fatal(err)
			}
			s.plain.start()
			s.secure.start()
			c := &tape{in: bytes.NewReader(append([]byte(head), b...)), step: int(step) + 1}
			if strings.HasSuffix(head, "DATA\r\n") {
				c.step = 1 // or the message would come ahead of its 354
			}
			s.take(c, MX)
			s.wg.Wait()
			if err := s.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if out := c.out.String(); !replyGrammar.MatchString(strings.TrimSuffix(out, "\x00")) && !strings.Contains(out, "ready to start TLS") {
				t.Fatalf("replies %q", out)
			}
			for _, m := range d.got {
				if !wellFormed([]byte(m)) || len(m) > 2002 {
					t.Fatalf("accepted %q", m)
				}
			}
			if err := d.memory.Acquire(t.Context(), 1<<20); err != nil {
				t.Fatalf("memory was not given back: %v", err)
			}
		}
	})
}

// FuzzDots compares the reader of DATA with a plain model of it.
func FuzzDots(f *testing.F) {
	f.Add([]byte("a\r\n..\r\n.b\r\n.\r\nrest"), uint8(1))
	f.Add([]byte(".\r\n"), uint8(2))
	f.Add([]byte("\r\n.\r"), uint8(3))
	d := newDesk()
	s, err := New(Options{TLS: testTLS(f), Auth: d, Door: d})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		in := input{src: &tape{in: bytes.NewReader(b), step: int(step) + 1}}
		r := dots{body: body{f: &front{server: s}}}
		defer r.release()
		done, err := false, error(nil)
		for !done && err == nil {
			if fillErr := in.fill(); fillErr != nil {
				break
			}
			done, err = r.take(&in)
		}
		// The model: the end is where CRLF.CRLF first is, and what is before it must be well formed.
		all := "\r\n" + string(b)
		end := strings.Index(all, "\r\n.\r\n")
		if done != (end >= 0 && wellFormed([]byte(all[:end+2]))) {
			t.Fatalf("%q: done is %v", b, done)
		}
		if !done {
			return
		}
		want := strings.ReplaceAll(all[:end+2], "\r\n.", "\r\n")[2:]
		if string(r.data) != want {
			t.Fatalf("%q: got %q, want %q", b, r.data, want)
		}
		rest, _ := io.ReadAll(in.src)
		if got := string(in.rest()) + string(rest); got != all[end+5:] {
			t.Fatalf("%q: left %q", b, got)
		}
	})
}
