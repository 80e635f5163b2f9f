package queue

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"sync"
)

// sink is a server that does what a test tells it: it keeps what it took, and what it was about to take when it broke off.
type sink struct {
	offers []string // EHLO words
	tls    *tls.Config
	// Replies; nil functions say 250. An empty reply closes the connection; "..." says nothing more, for ever; one that
	// does not end in CRLF is sent as it is, and then the connection is closed.
	greeting func() string
	mail     func(line string) string
	rcpt     func(line string) string
	data     func(n int, text string) string // n counts from 1

	mu       sync.Mutex
	conns    int
	secure   int // of those, with TLS
	lines    []string
	messages []string // all that came to their final dot
}

// serve speaks SMTP on a connection until it ends.
func (s *sink) serve(c net.Conn) {
	defer func() { c.Close() }()
	s.mu.Lock()
	s.conns++
	s.mu.Unlock()
	r := bufio.NewReader(c)
	say := func(reply string) bool {
		switch {
		case reply == "":
			return false
		case reply == "...":
			_, _ = io.Copy(io.Discard, r)
			return false
		}
		_, err := io.WriteString(c, reply)
		return err == nil && strings.HasSuffix(reply, "\r\n")
	}
	ask := func(f func(string) string, line string) string {
		if f == nil {
			return "250 2.0.0 ok\r\n"
		}
		return f(line)
	}
	greeting := "220 sink\r\n"
	if s.greeting != nil {
		greeting = s.greeting()
	}
	if !say(greeting) {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		s.mu.Lock()
		s.lines = append(s.lines, line)
		s.mu.Unlock()
		reply := "250 ok\r\n"
		switch verb, _, _ := strings.Cut(line, " "); strings.ToUpper(verb) {
		case "EHLO":
			words := s.offers
			if _, secured := c.(*tls.Conn); s.tls != nil && !secured {
				words = append([]string{"STARTTLS"}, words...)
			}
			reply = "250-sink\r\n"
			for _, w := range words {
				reply += "250-" + w + "\r\n"
			}
			reply += "250 ENHANCEDSTATUSCODES\r\n"
		case "STARTTLS":
			if !say("220 go\r\n") {
				return
			}
			tc := tls.Server(c, s.tls)
			if tc.Handshake() != nil {
				return
			}
			s.mu.Lock()
			s.secure++
			s.mu.Unlock()
			c, r = tc, bufio.NewReader(tc)
			continue
		case "MAIL":
			reply = ask(s.mail, line)
		case "RCPT":
			reply = ask(s.rcpt, line)
		case "DATA":
			if !say("354 go\r\n") {
				return
			}
			text, ok := readData(r)
			if !ok {
				return
			}
			s.mu.Lock()
			s.messages = append(s.messages, text)
			n, data := len(s.messages), s.data
			s.mu.Unlock()
			reply = "250 2.0.0 taken\r\n"
			if data != nil {
				reply = data(n, text)
			}
		case "QUIT":
			say("221 bye\r\n")
			return
		}
		if !say(reply) {
			return
		}
	}
}

// readData reads up to the final dot, strictly.
func readData(r *bufio.Reader) (string, bool) {
	var b strings.Builder
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", false
		}
		if line == ".\r\n" {
			return b.String(), true
		}
		b.WriteString(strings.TrimPrefix(line, "."))
	}
}

// say changes what is said to messages.
func (s *sink) say(f func(n int, text string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data = f
}

func (s *sink) taken() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.messages...)
}

func (s *sink) heard(prefix string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.lines {
		if strings.HasPrefix(l, prefix) {
			n++
		}
	}
	return n
}
