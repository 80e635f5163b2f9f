package smtp

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
)

func TestTimeLimits(t *testing.T) {
	const tick = 20 * time.Millisecond
	open := "< 220 /.*/\n> HELO a.example\n< 250 /.*/\n> MAIL FROM:<s@example.org>\n< 250 /.*/\n> RCPT TO:<bob@works.gov.example>\n< 250 /.*/\n> DATA\n< 354 /.*/\n"
	for name, c := range map[string]struct {
		limits Limits
		mode   Mode
		script string
	}{
		"idle":              {Limits{Idle: tick}, MX, "< 220 /.*/\n< 421 4.4.2 waited too long\nEND"},
		"half a command":    {Limits{Progress: tick}, MX, "< 220 /.*/\n>> MAIL\n< 421 4.4.2 waited too long\nEND"},
		"message, progress": {Limits{Progress: tick}, MX, open + ">> Subject: bad\n< 421 4.4.2 the message did not arrive in time\nEND"},
		"message, total":    {Limits{Total: tick}, MX, open + ">> Subject: bad\n< 421 4.4.2 the message did not arrive in time\nEND"},
		"chunk":             {Limits{Progress: tick}, MX, strings.Replace(open, "> DATA\n< 354 /.*/\n", "> BDAT 100\n>> x\n< 421 4.4.2 /.*/\nEND", 1)},
		"handshake":         {Limits{Progress: tick}, Submission, "< 220 /.*/\n> STARTTLS\n< 220 /.*/\nEND"},
	} {
		t.Run(name, func(t *testing.T) {
			_, addr := start(t, newDesk(), c.mode, func(o *Options) { o.Limits = c.limits })
			dial(t, addr, c.mode).run(addr, c.mode, c.script)
		})
	}
}

func TestHandshakeWithoutTLS(t *testing.T) {
	_, addr := start(t, newDesk(), Submissions, func(o *Options) { o.Limits.Progress = 20 * time.Millisecond })
	c := dial(t, addr, MX) // says nothing: an implicit TLS port must not wait for ever
	c.expectEnd()
	c = dial(t, addr, MX)
	c.send("EHLO client\r\n")
	if b, err := io.ReadAll(c.conn); strings.Contains(string(b), "220") {
		t.Errorf("in clear on the port for TLS: %q, %v", b, err)
	}
}

func TestOtherProtocol(t *testing.T) {
	_, addr := start(t, newDesk(), Submissions, nil)
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}); err == nil {
		c.Close()
		t.Error("a client of another protocol got through (ALPN)")
	}
	if c, err := tls.Dial("tcp", addr, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 was accepted")
	}
}

func TestConnectionLimits(t *testing.T) {
	s, addr := start(t, newDesk(), MX, func(o *Options) { o.Limits = Limits{PerAddress: 2} })
	for range 2 {
		dial(t, addr, MX).expect("220 /.*/")
	}
	over := dial(t, addr, MX)
	over.expect("421 4.7.0 too many connections, try again later")
	over.expectEnd()
	s.mu.Lock()
	if n := len(s.links); n != 2 {
		t.Errorf("%d connections are counted, want 2", n)
	}
	s.mu.Unlock()

	_, addr = start(t, newDesk(), MX, func(o *Options) {
		o.Limits = Limits{PerAddress: 1, Connections: 2}
		o.Exempt = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	})
	for range 2 {
		dial(t, addr, MX).expect("220 /.*/")
	}
	dial(t, addr, MX).expect("421 /.*/")
}

func TestCommandLimits(t *testing.T) {
	_, addr := start(t, newDesk(), MX, func(o *Options) { o.Limits = Limits{Commands: 3, CommandLine: 100} })
	c := dial(t, addr, MX)
	c.run(addr, MX, "< 220 /.*/\n> NOOP\n< 250 /.*/\n> NOOP\n< 250 /.*/\n> NOOP\n< 250 /.*/\n> NOOP\n< 421 4.7.0 too many commands\nEND")
	_, addr2 := start(t, newDesk(), Submissions, func(o *Options) { o.Limits = Limits{BeforeLogin: 2} })
	c = dial(t, addr2, Submissions)
	c.run(addr2, Submissions, "< 220 /.*/\n> NOOP\n< 250 /.*/\n> NOOP\n< 250 /.*/\n> NOOP\n< 421 4.7.0 too many commands\nEND")
	c = dial(t, addr2, Submissions)
	c.run(addr2, Submissions, "< 220 /.*/\n> HELO a\n< 250 /.*/\n> AUTH PLAIN AGFsaWNlAHNlY3JldA==\n< 235 /.*/\n> NOOP\n< 250 /.*/")
	c = dial(t, addr, MX)
	c.run(addr, MX, "< 220 /.*/\nLARGE 100\n< 500 5.5.1 /.*/\nLARGE 101\n< 500 5.5.2 line too long\nEND")
}

func TestTrustedNetwork(t *testing.T) {
	d := newDesk()
	_, addr := start(t, d, MX, func(o *Options) { o.Trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")} })
	dial(t, addr, MX).run(addr, MX, "< 220 /.*/\n> HELO a\n< 250 /.*/\n> MAIL FROM:<bob@works.gov.example>\n< 250 /.*/")
}

// TestBilingual: a user hears why in Chinese, too, if their program has said that it reads UTF-8, and in ASCII alone otherwise.
func TestBilingual(t *testing.T) {
	_, addr := start(t, newDesk(), Submissions, nil)
	const login = "< 220 /.*/\n> HELO client.example\n< 250 /.*/\n> AUTH PLAIN AGFsaWNlAHNlY3JldA==\n< 235 /.*/\n> MAIL FROM:<alice@works.gov.example>"
	dial(t, addr, Submissions).run(addr, Submissions, login+" SMTPUTF8\n< 250 /.*/\n> RCPT TO:<nobody@works.gov.example>\n"+
		"< 550-5.1.1 no such recipient here\n< 550 5.1.1 本系統沒有此收件人\n> RCPT TO:<broken@works.gov.example>\n< 451-4.3.0 /.*/\n< 451 4.3.0 本機故障，請稍後再試\n"+
		"> RCPT TO:<bob@works.gov.example>\n< 250 /.*/\n> DATA\n< 354 /.*/\n> Subject: refuse\n> .\n"+
		"< 550-5.7.1 /dave@.*/\n< 550-5.7.1 /.*/\n< 550 5.7.1 郵件不符合保安或發送規則，未獲接納，亦沒有保存或寄出\n"+
		"> MAIL FROM:<alice@works.gov.example>\n< 250 /.*/\n> RCPT TO:<nobody@works.gov.example>\n< 550 5.1.1 no such recipient here")
	if len(chinese) != len(replies) {
		t.Errorf("%d kinds of errors have a Chinese sentence, %d an English one", len(chinese), len(replies))
	}
	for kind := range replies {
		if replies[kind].text != "" && chinese[kind] == "" {
			t.Errorf("no Chinese sentence for the kind %d", kind)
		}
	}
	_, addr = start(t, newDesk(), MX, nil)
	dial(t, addr, MX).run(addr, MX, "< 220 /.*/\n> HELO client.example\n< 250 /.*/\n> MAIL FROM:<x@example.org> SMTPUTF8\n< 250 /.*/\n> RCPT TO:<nobody@works.gov.example>\n< 550 5.1.1 no such recipient here")
}

// TestEnvelope looks at what comes out at the door.
func TestEnvelope(t *testing.T) {
	d := newDesk()
	_, addr := start(t, d, Submissions, nil)
	c := dial(t, addr, Submissions)
	c.run(addr, Submissions, "< 220 /.*/\n> HELO client.example\n< 250 /.*/\n> AUTH PLAIN AGFsaWNlAHNlY3JldA==\n< 235 /.*/\n"+
		"> MAIL FROM:<Alice@WORKS.gov.example> SMTPUTF8\n< 250 /.*/\n> RCPT TO:<\"a b\"@health.gov.example>\n< 250 /.*/\n> RCPT TO:<陳@health.gov.example>\n< 250 /.*/\n"+
		"> DATA\n< 354 /.*/\n> Subject: good\n>\n> ..\n> ...x\n> .\n< 250 2.0.0 theid")
	if len(d.envs) != 1 {
		t.Fatal("not accepted")
	}
	env := d.envs[0]
	if env.From.String() != "Alice@works.gov.example" || len(env.To) != 2 || env.To[0].String() != `"a b"@health.gov.example` || env.To[1].Local != "陳" ||
		env.Sender == nil || env.Sender.UID != "alice" || len(env.ID) != 26 {
		t.Errorf("envelope %+v", env)
	}
	if cl := env.Client; cl.Protocol != "submissions" || cl.Helo != "client.example" || !strings.HasPrefix(cl.TLS, "TLS 1.3 TLS_") || !strings.HasPrefix(cl.Remote, "127.0.0.1:") {
		t.Errorf("client %+v", cl)
	}
	if d.got[0] != "Subject: good\r\n\r\n.\r\n..x\r\n" {
		t.Errorf("message %q", d.got[0])
	}
}

// TestByteByByte sends a whole dialogue one octet at a time.
func TestByteByByte(t *testing.T) {
	d := newDesk()
	_, addr := start(t, d, MX, nil)
	c := dial(t, addr, MX)
	slow := func(s string) {
		for i := range len(s) {
			c.send(s[i : i+1])
		}
	}
	c.expect("220 /.*/")
	for _, s := range []string{"HELO a\r\n", "MAIL FROM:<s@example.org>\r\n", "RCPT TO:<bob@works.gov.example>\r\n"} {
		slow(s)
		c.expect("250 /.*/")
	}
	slow("DATA\r\n")
	c.expect("354 /.*/")
	slow("Subject: good\r\n\r\n..\r\n.x\r\n\r\n.\r\n")
	c.expect("250 2.0.0 theid")
	if d.got[0] != "Subject: good\r\n\r\n.\r\nx\r\n\r\n" {
		t.Errorf("message %q", d.got[0])
	}
}

func TestMemoryBudget(t *testing.T) {
	d := newDesk()
	d.memory = limit.NewBudget(100_000)
	if err := d.memory.Acquire(t.Context(), 95_000); err != nil {
		t.Fatal(err)
	}
	_, addr := start(t, d, MX, func(o *Options) { o.Limits.Progress = 500 * time.Millisecond })
	open := "> MAIL FROM:<s@example.org>\n< 250 /.*/\n> RCPT TO:<bob@works.gov.example>\n< 250 /.*/\n"
	c := dial(t, addr, MX)
	c.run(addr, MX, "< 220 /.*/\n> HELO a\n< 250 /.*/\n"+open+"> DATA\n< 354 /.*/\n>> Subject: bad\\r\\n.\\r\\n\n< 451 4.3.2 /.*/\n"+
		open+">> BDAT 5 LAST\\r\\nbad\\r\\n\n< 451 4.3.2 /.*/")
	d.memory.Release(95_000)
	c.run(addr, MX, open+"> DATA\n< 354 /.*/\n>> Subject: good\\r\\n.\\r\\n\n< 250 /.*/\n> QUIT\n< 221 /.*/\nEND")
	if err := d.memory.Acquire(t.Context(), 100_000); err != nil {
		t.Errorf("memory was not given back: %v", err)
	}
}

func TestShutdown(t *testing.T) {
	d := newDesk()
	s, addr := start(t, d, MX, nil)
	idle, busy := dial(t, addr, MX), dial(t, addr, MX)
	idle.expect("220 /.*/")
	busy.run(addr, MX, "< 220 /.*/\n> HELO a\n< 250 /.*/\n> MAIL FROM:<s@example.org>\n< 250 /.*/")
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	idle.expect("421 4.3.2 going down, try again later")
	idle.expectEnd()
	busy.run(addr, MX, "> RCPT TO:<bob@works.gov.example>\n< 250 /.*/\n> DATA\n< 354 /.*/\n> Subject: good\n> .\n< 250 2.0.0 theid\n< 421 4.3.2 /.*/\nEND")
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownGivesUp(t *testing.T) {
	s, addr := start(t, newDesk(), MX, nil)
	busy := dial(t, addr, MX)
	busy.run(addr, MX, "< 220 /.*/\n> HELO a\n< 250 /.*/\n> MAIL FROM:<s@example.org>\n< 250 /.*/")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err != context.Canceled {
		t.Errorf("Shutdown: %v", err)
	}
	busy.expectEnd()
}

func TestOptions(t *testing.T) {
	if _, err := New(Options{}); mail.KindOf(err) != mail.Invalid {
		t.Errorf("New without options: %v", err)
	}
}

// TestRoomUsedAgain: the room of a message serves for others, on other connections, and nothing of it shows.
func TestRoomUsedAgain(t *testing.T) {
	d := newDesk()
	_, addr := start(t, d, MX, nil)
	var want []string
	for i, c := range []*client{dial(t, addr, MX), dial(t, addr, MX)} {
		c.run(addr, MX, "< 220 /.*/\n> HELO a\n< 250 /.*/")
		for j, lines := range []int{500, 1, 200, 2, 3000} { // some need more room than is kept
			text := "Subject: good\r\n\r\n" + strings.Repeat(fmt.Sprintf("connection %d, message %d\r\n", i, j), lines)
			want = append(want, text)
			c.run(addr, MX, "> MAIL FROM:<s@example.org>\n< 250 /.*/\n> RCPT TO:<bob@works.gov.example>\n< 250 /.*/")
			if j%2 == 0 {
				c.run(addr, MX, "> DATA\n< 354 /.*/")
				c.send(text + ".\r\n")
			} else {
				c.send(fmt.Sprintf("BDAT %d\r\n%sBDAT %d LAST\r\n%s", 20, text[:20], len(text)-20, text[20:]))
				c.expect("250 /.*/")
			}
			c.expect("250 2.0.0 theid")
		}
	}
	if !slices.Equal(d.got, want) {
		t.Errorf("%d messages came that are not those that were sent", len(d.got))
	}
	if err := d.memory.Acquire(t.Context(), 1<<20); err != nil {
		t.Errorf("memory was not given back: %v", err)
	}
}
