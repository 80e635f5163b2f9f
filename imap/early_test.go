package imap

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestGreetingAndCapability(t *testing.T) {
	ts := earlyServer(t, Limits{})
	ts.dialClear().talk(`
		S: * OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED] …
		C: a capability
		S: * CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID STARTTLS LOGINDISABLED
		S: a OK CAPABILITY completed
		C: b NOOP
		S: b OK …
		C: c ID NIL
		S: * ID ("name" "cmmpd")
		S: c OK …
		C: d ID ("name" "Outlook" "version" {4+}
		C: 16.0)
		S: * ID ("name" "cmmpd")
		S: d OK …
		C: e ID ("name")
		S: e BAD …
		C: f LOGOUT
		S: * BYE …
		S: f OK …
		S: EOF`)
	ts.dial().talk(`
		S: * OK [CAPABILITY IMAP4rev1 IMAP4rev2 LITERAL- SASL-IR ID AUTH=PLAIN AUTH=LOGIN] …
		C: a STARTTLS
		S: a BAD …
		C: b LOGOUT
		S: * BYE …
		S: b OK …
		S: EOF`)
}

func TestNoLoginInClear(t *testing.T) {
	ts := earlyServer(t, Limits{})
	ts.dialClear().talk(`
		S: * OK …
		C: a LOGIN alice secret
		S: a NO [PRIVACYREQUIRED] …
		C: b AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==
		S: b NO [PRIVACYREQUIRED] …
		C: c AUTHENTICATE PLAIN
		S: c NO [PRIVACYREQUIRED] …
		C: d LOGIN {5+}
		C: alice {6+}
		C: secret
		S: d NO [PRIVACYREQUIRED] …
		C: e LOGIN {5}
		S: e NO [PRIVACYREQUIRED] …
		C: f SELECT INBOX
		S: f BAD Log in first
		C: g LOGOUT
		S: * BYE …`)
}

func TestStartTLS(t *testing.T) {
	ts := earlyServer(t, Limits{})
	c := ts.dialClear()
	c.talk(`
		S: * OK …
		C: a STARTTLS
		S: a OK …`)
	tc := tls.Client(c.nc, ts.clientTLS())
	must(t, tc.Handshake())
	if got := tc.ConnectionState().NegotiatedProtocol; got != "imap" {
		t.Errorf("ALPN %q", got)
	}
	newClient(t, tc).talk(`
		C: a CAPABILITY
		S: * CAPABILITY …AUTH=PLAIN…
		S: a OK …
		C: b STARTTLS
		S: b BAD …
		C: c LOGIN alice wrong
		S: c NO [AUTHENTICATIONFAILED] …`)

	// Commands put in before the handshake are not carried out, and the connection ends.
	c = ts.dialClear()
	c.talk(`
		S: * OK …`)
	c.send("a STARTTLS\r\nb NOOP\r\n")
	c.talk(`
		S: a OK …
		S: EOF`)
}

func TestALPN(t *testing.T) {
	ts := earlyServer(t, Limits{})
	cfg := ts.clientTLS()
	cfg.NextProtos = []string{"http/1.1"}
	if nc, err := tls.Dial("tcp", ts.imaps, cfg); err == nil {
		nc.Close()
		t.Error("a client that wants HTTP was let in")
	}
	cfg.NextProtos = nil
	nc, err := tls.Dial("tcp", ts.imaps, cfg)
	must(t, err)
	newClient(t, nc).talk("S: * OK …")
}

func TestFailedLogins(t *testing.T) {
	ts := earlyServer(t, Limits{})
	plain := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	ts.dial().talk(`
		S: * OK …
		C: a LOGIN alice wrong
		S: a NO [AUTHENTICATIONFAILED] Authentication failed
		C: b LOGIN nobody secret
		S: b NO [AUTHENTICATIONFAILED] Authentication failed
		C: c AUTHENTICATE PLAIN ` + plain("\x00alice\x00wrong") + `
		S: c NO [AUTHENTICATIONFAILED] Authentication failed
		S: * BYE …
		S: EOF`)
	ts.dial().talk(`
		S: * OK …
		C: a LOGIN busy secret
		S: a NO [UNAVAILABLE] Try again later
		C: b LOGIN denied secret
		S: b NO [AUTHORIZATIONFAILED] …
		C: c LOGIN nemo secret
		S: c NO [AUTHORIZATIONFAILED] …
		C: d AUTHENTICATE PLAIN ` + plain("bob\x00alice\x00secret") + `
		S: d NO [AUTHORIZATIONFAILED] …
		C: e AUTHENTICATE CRAM-MD5
		S: e NO …`)
	ts.dial().talk(`
		S: * OK …
		C: a AUTHENTICATE PLAIN
		S: + 
		C: *
		S: a BAD Cancelled
		C: b AUTHENTICATE PLAIN
		S: + 
		C: !!!
		S: b BAD …
		C: c AUTHENTICATE PLAIN =
		S: c BAD …
		C: d AUTHENTICATE LOGIN
		S: + VXNlcm5hbWU6
		C: ` + plain("alice") + `
		S: + UGFzc3dvcmQ6
		C: ` + plain("wrong") + `
		S: d NO [AUTHENTICATIONFAILED] …`)
}

// What is in a literal is never a command, even if the command it belongs to is refused.
func TestRefusedLiteralIsNotExecuted(t *testing.T) {
	ts := earlyServer(t, Limits{})
	for _, cmd := range []string{"APPEND INBOX", "SEARCH TEXT", "FROB", "SELECT", "LOGIN alice", "ID"} {
		c := ts.dial()
		c.talk("S: * OK …")
		bomb := strings.Repeat("x LOGOUT\r\n", 600)
		c.send("a " + cmd + " {" + itoa(len(bomb)) + "+}\r\n" + bomb + "\r\nb NOOP\r\n")
		c.talk(`
			S: a BAD …
			S: b OK NOOP completed`)
	}
	// Larger than what is swallowed: the connection ends.
	c := ts.dial()
	c.talk("S: * OK …")
	c.send("a APPEND INBOX {200000000+}\r\nx NOOP\r\n")
	c.talk(`
		S: * BYE …
		S: EOF`)
	// Before log-in a synchronizing literal of more than a few KiB is not asked for.
	ts.dial().talk(`
		S: * OK …
		C: a LOGIN {100000}
		S: a BAD [TOOBIG] …
		C: b NOOP
		S: b OK …`)
}

func TestEarlyLimits(t *testing.T) {
	ts := earlyServer(t, Limits{EarlyCommands: 3, EarlyBad: 2})
	ts.dial().talk(`
		S: * OK …
		C: a NOOP
		S: a OK …
		C: b NOOP
		S: b OK …
		C: c NOOP
		S: c OK …
		C: d NOOP
		S: * BYE …
		S: EOF`)
	ts.dial().talk(`
		S: * OK …
		C: 
		S: * BAD …
		C: x FROB
		S: x BAD …
		S: * BYE …
		S: EOF`)
	for _, alien := range []string{"GET / HTTP/1.1", "POST /x HTTP/1.1", "OPTIONS * HTTP/1.0", "EHLO mail.example", "x y HTTP/1.1"} {
		ts.dial().talk(`
			S: * OK …
			C: ` + alien + `
			S: * BYE This is not IMAP
			S: EOF`)
	}
}

func TestSilenceBeforeLogin(t *testing.T) {
	ts := earlyServer(t, Limits{EarlyIdle: time.Millisecond})
	ts.dialClear().talk(`
		S: * OK …
		S: * BYE Too long without a command
		S: EOF`)
}

func TestConnectionLimits(t *testing.T) {
	ts := earlyServer(t, Limits{ConnectionsPerAddr: 2})
	a, b := ts.dialClear(), ts.dialClear()
	a.talk("S: * OK …")
	b.talk("S: * OK …")
	ts.dialClear().talk("S: EOF")
	a.talk(`
		C: a LOGOUT
		S: * BYE …
		S: a OK …
		S: EOF`)
	for { // the place is free when the server has seen the end
		nc, err := net.Dial("tcp", ts.clear)
		must(t, err)
		c := newClient(t, nc)
		if c.line() != "EOF" {
			return
		}
	}
}

func TestExemptNetwork(t *testing.T) {
	ts := earlyServer(t, Limits{ConnectionsPerAddr: 1, Connections: 2}, netip.MustParsePrefix("127.0.0.0/8"))
	ts.dialClear().talk("S: * OK …")
	ts.dialClear().talk("S: * OK …")
	ts.dialClear().talk("S: EOF")
}

func TestShutdown(t *testing.T) {
	ts := earlyServer(t, Limits{})
	c := ts.dial()
	c.talk("S: * OK …")
	must(t, ts.srv.Shutdown(context.Background()))
	c.talk(`
		S: * BYE [UNAVAILABLE] …
		S: EOF`)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	if err := ts.srv.Serve(t.Context(), ln, false); err != ErrServerClosed {
		t.Errorf("Serve after Shutdown: %v", err)
	}
}
