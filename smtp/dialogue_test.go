package smtp

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
)

// desk is a Door and an Authenticator that says what the dialogues need: the ways in
// which the real ones fail.
type desk struct {
	memory *limit.Budget

	mu   sync.Mutex
	got  []string // messages accepted
	envs []mail.Envelope
}

func newDesk() *desk { return &desk{memory: limit.NewBudget(1 << 20)} }

func (d *desk) TryReserve(n int64) bool { return d.memory.TryAcquire(n) }

func (d *desk) Reserve(ctx context.Context, n int64) error { return d.memory.Acquire(ctx, n) }
func (d *desk) Release(n int64)                            { d.memory.Release(n) }

func (d *desk) Resolve(_ context.Context, _ *mail.Envelope, rcpt mail.Address) error {
	switch rcpt.Local {
	case "nobody":
		return mail.E(mail.NotFound, "", nil)
	case "later":
		return mail.E(mail.Unavailable, "", nil)
	case "broken":
		return io.ErrUnexpectedEOF
	}
	if rcpt.Domain == "elsewhere.example" {
		return mail.E(mail.Refused, "mail to other domains is not served yet", nil)
	}
	return nil
}

func (d *desk) Accept(_ context.Context, env *mail.Envelope, raw []byte) (mail.ID, error) {
	if strings.Contains(string(raw), "Subject: refuse") {
		return "", mail.E(mail.Refused, strings.Repeat("dave@health.gov.example has no certificate; ", 20), nil)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.got = append(d.got, string(raw))
	d.envs = append(d.envs, *env)
	return "theid", nil
}

func (d *desk) Login(_ context.Context, _ mail.Client, name, password string) (mail.Principal, error) {
	switch {
	case name == "alice" && password == "secret":
		return mail.Principal{UID: "alice", Address: mail.MustParseAddress("alice@works.gov.example")}, nil
	case name == "later":
		return mail.Principal{}, mail.E(mail.Unavailable, "", nil)
	}
	return mail.Principal{}, mail.E(mail.AuthFailed, "", nil)
}

func testTLS(t testing.TB) *tls.Config {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
}

// start serves mode on a port of its own.
func start(t testing.TB, d *desk, m Mode, change func(*Options)) (*Server, string) {
	t.Helper()
	o := Options{Hostname: "mail.gov.example", Domains: []string{"works.gov.example", "health.gov.example"}, TLS: testTLS(t), Auth: d, Door: d}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background(), ln, m) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = s.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s, ln.Addr().String()
}

// client speaks one dialogue.
type client struct {
	t    testing.TB
	name string
	conn net.Conn
	r    *bufio.Reader
}

func dial(t testing.TB, addr string, m Mode) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	cl := &client{t: t, name: "dialogue", conn: c, r: bufio.NewReader(c)}
	if m == Submissions {
		cl.startTLS()
	}
	return cl
}

func (c *client) startTLS() {
	c.t.Helper()
	t := tls.Client(c.conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"smtp"}}) // the certificate is not what is tested
	if err := t.Handshake(); err != nil {
		c.t.Fatalf("%s: TLS: %v", c.name, err)
	}
	c.conn, c.r = t, bufio.NewReader(t)
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.t.Fatalf("%s: sending %.40q: %v", c.name, s, err)
	}
}

// expect reads one line, which must match the pattern: text, in which /.../ is a regular
// expression.
func (c *client) expect(pattern string) {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%s: waiting for %q: got %q, %v", c.name, pattern, line, err)
	}
	parts := strings.Split(pattern, "/")
	for i := 0; i < len(parts); i += 2 {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	if !regexp.MustCompile("^" + strings.Join(parts, "") + "\r\n$").MatchString(line) {
		c.t.Fatalf("%s: got %q, want %q", c.name, line, pattern)
	}
}

func (c *client) expectEnd() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if line, err := c.r.ReadString('\n'); err == nil || line != "" {
		c.t.Fatalf("%s: got %q, want the end of the connection", c.name, line)
	} else if os.IsTimeout(err) {
		c.t.Fatalf("%s: the connection stays open", c.name)
	}
}

var escapes = strings.NewReplacer(`\r`, "\r", `\n`, "\n", `\0`, "\x00", `\\`, `\`)

// run speaks the lines of a dialogue: "> " is sent with CRLF, ">> " without, both with
// \r \n \0 \\ as escapes; "< " is expected; "TLS" shakes hands; "END" expects the end of
// the connection; "NEW" begins another one; "LARGE n" sends a line of n octets.
func (c *client) run(addr string, m Mode, script string) {
	c.t.Helper()
	for i, line := range strings.Split(script, "\n") {
		c.name = line
		switch {
		case line == "" || line[0] == '#':
		case line == "TLS":
			c.startTLS()
		case line == "END":
			c.expectEnd()
		case line == "NEW":
			c.conn.Close()
			*c = *dial(c.t, addr, m)
		case strings.HasPrefix(line, "LARGE "):
			n, err := strconv.Atoi(line[6:])
			if err != nil {
				c.t.Fatal(err)
			}
			c.send(strings.Repeat("x", n-2) + "\r\n")
		case line == ">":
			c.send("\r\n")
		case strings.HasPrefix(line, "> "):
			c.send(escapes.Replace(line[2:]) + "\r\n")
		case strings.HasPrefix(line, ">> "):
			c.send(escapes.Replace(line[3:]))
		case strings.HasPrefix(line, "< "):
			c.expect(line[2:])
		default:
			c.t.Fatalf("line %d: %q", i+1, line)
		}
	}
}

// TestDialogues speaks every dialogue of testdata. The first word of a file's name is
// the mode.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.dialogue")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	modes := map[string]Mode{"mx": MX, "submission": Submission, "submissions": Submissions}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".dialogue"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, _, _ := strings.Cut(filepath.Base(file), "-")
			m, ok := modes[name]
			if !ok {
				t.Fatalf("no mode %q", name)
			}
			d := newDesk()
			_, addr := start(t, d, m, func(o *Options) {
				o.Limits = Limits{MessageSize: 4000, Recipients: 3, Errors: 8, Logins: 3}
			})
			dial(t, addr, m).run(addr, m, string(script))
			d.mu.Lock()
			defer d.mu.Unlock()
			for _, m := range d.got {
				if !strings.HasPrefix(m, "Subject: good") {
					t.Errorf("accepted %q", m)
				}
			}
		})
	}
}
