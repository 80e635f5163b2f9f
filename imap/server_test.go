package imap

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage"
)

// fakeAuth knows alice and bob, whose password is "secret", nemo, who has no mailbox,
// and a name for each kind of failure.
type fakeAuth struct{}

func (fakeAuth) Login(_ context.Context, c mail.Client, name, password string) (mail.Principal, error) {
	if c.TLS == "" {
		panic("a log-in in clear has reached the authenticator")
	}
	switch name {
	case "busy":
		return mail.Principal{}, mail.E(mail.Busy, "Try again later", nil)
	case "denied":
		return mail.Principal{}, mail.E(mail.Denied, "", nil)
	}
	p := mail.Principal{UID: name, Account: mail.AccountID("acct-" + name), Address: mail.Address{Local: name, Domain: "works.gov.example"}}
	if name == "nemo" {
		p.Account = ""
	}
	if password != "secret" || !strings.Contains(" alice bob nemo ", " "+name+" ") {
		return mail.Principal{}, mail.E(mail.AuthFailed, "", nil)
	}
	return p, nil
}

// fakeIntake is the door without policy, but for messages whose subject says REFUSED.
type fakeIntake struct{ reserved atomic.Int64 }

func (f *fakeIntake) Append(ctx context.Context, _ *mail.Principal, acct *storage.Account, mailbox string, msgs []storage.Append) ([]storage.Placed, error) {
	for i := range msgs {
		msgs[i].Index = message.Parse(msgs[i].Data, message.Limits{})
		if strings.Contains(msgs[i].Index.Root.Envelope.Subject, "REFUSED") {
			return nil, mail.E(mail.Refused, "alice@works.gov.example has no certificate\r\na OK injected", nil)
		}
	}
	return acct.Append(ctx, mailbox, msgs)
}

func (f *fakeIntake) Copy(ctx context.Context, _ *mail.Principal, _ *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	return from.Copy(ctx, uids, dest)
}

func (f *fakeIntake) Move(ctx context.Context, _ *mail.Principal, _ *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	return from.Move(ctx, uids, dest)
}

func (f *fakeIntake) Reserve(_ context.Context, n int64) error {
	f.reserved.Add(n)
	return nil
}

func (f *fakeIntake) Release(n int64) { f.reserved.Add(-n) }

// testServer is a server on the loopback with a store in a temporary folder.
type testServer struct {
	t            testing.TB
	srv          *Server
	store        *storage.Store
	intake       *fakeIntake
	clear, imaps string // addresses
	roots        *x509.CertPool
}

// newServer is a server with a store.
func newServer(t testing.TB, lim Limits) *testServer {
	t.Helper()
	return newServerIn(t, t.TempDir(), lim)
}

func newServerIn(t testing.TB, dir string, lim Limits) *testServer {
	t.Helper()
	return newServerWith(t, storage.Options{Dir: dir}, lim)
}

// newServerWith is a server on a store with options.
func newServerWith(t testing.TB, o storage.Options, lim Limits) *testServer {
	t.Helper()
	dir := o.Dir
	ks, err := keys.CreateFile(filepath.Join(dir, "keys"))
	must(t, err)
	generate(t, ks)
	o.Dir, o.Keys = filepath.Join(dir, "store"), ks
	store, err := storage.Open(t.Context(), o)
	must(t, err)
	t.Cleanup(func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return serverOn(t, store, lim)
}

// earlyServer is a server without a store, for what comes before log-in.
func earlyServer(t testing.TB, lim Limits, exempt ...netip.Prefix) *testServer {
	return serverOn(t, &storage.Store{}, lim, exempt...)
}

func serverOn(t testing.TB, store *storage.Store, lim Limits, exempt ...netip.Prefix) *testServer {
	t.Helper()
	cert, roots := certificate(t)
	in := &fakeIntake{}
	srv, err := New(Options{Auth: fakeAuth{}, Store: store, Intake: in, TLS: &tls.Config{Certificates: []tls.Certificate{cert}}, Limits: lim, Exempt: exempt})
	must(t, err)
	ts := &testServer{t: t, srv: srv, store: store, intake: in, roots: roots}
	listen := func(implicit bool) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		must(t, err)
		go func() { _ = srv.Serve(context.Background(), ln, implicit) }()
		return ln.Addr().String()
	}
	ts.clear, ts.imaps = listen(false), listen(true)
	t.Cleanup(func() {
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return ts
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	must(t, err)
	c, err := x509.ParseCertificate(der)
	must(t, err)
	pool := x509.NewCertPool()
	pool.AddCert(c)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func (ts *testServer) clientTLS() *tls.Config {
	return &tls.Config{RootCAs: ts.roots, ServerName: "localhost", NextProtos: []string{"imap"}}
}

// client is one end of a dialogue.
type client struct {
	t    testing.TB
	nc   net.Conn
	r    *bufio.Reader
	last string
}

func (ts *testServer) dialClear() *client {
	ts.t.Helper()
	nc, err := net.Dial("tcp", ts.clear)
	must(ts.t, err)
	return newClient(ts.t, nc)
}

func (ts *testServer) dial() *client {
	ts.t.Helper()
	nc, err := tls.Dial("tcp", ts.imaps, ts.clientTLS())
	must(ts.t, err)
	return newClient(ts.t, nc)
}

func newClient(t testing.TB, nc net.Conn) *client {
	t.Cleanup(func() { nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &client{t: t, nc: nc, r: bufio.NewReader(nc)}
}

// login is a client that has logged in.
func (ts *testServer) login(name string) *client {
	ts.t.Helper()
	c := ts.dial()
	c.talk(`
		S: * OK …
		C: 0 LOGIN ` + name + ` secret
		S: 0 OK [CAPABILITY …] LOGIN completed`)
	return c
}

// talk holds a dialogue. "C: " lines are sent with CRLF, "C! " lines without, "S: "
// lines are expected; … stands for anything. "S: EOF" is the end of the
// connection, "S? " skips lines until one fits.
func (c *client) talk(dialogue string) {
	c.t.Helper()
	for line := range strings.SplitSeq(dialogue, "\n") {
		line = strings.TrimLeft(line, " \t")
		switch {
		case strings.TrimSpace(line) == "":
		case strings.HasPrefix(line, "C: "):
			c.send(line[3:] + "\r\n")
		case strings.HasPrefix(line, "C! "):
			c.send(line[3:])
		case strings.HasPrefix(line, "S: "):
			c.expect(line[3:])
		case strings.HasPrefix(line, "S? "):
			for !fits(line[3:], c.line()) {
				if c.last == "EOF" {
					c.t.Fatalf("%q never came", line[3:])
				}
			}
		default:
			c.t.Fatalf("a line of a dialogue: %q", line)
		}
	}
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := c.nc.Write([]byte(s)); err != nil {
		c.t.Fatalf("sending %.40q: %v", s, err)
	}
}

func (c *client) line() string {
	c.t.Helper()
	s, err := c.r.ReadString('\n')
	if err != nil {
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.t.Fatalf("nothing came after %q", c.last)
		}
		s = "EOF"
	}
	c.last = strings.TrimRight(s, "\r\n")
	return c.last
}

func (c *client) expect(want string) {
	c.t.Helper()
	if got := c.line(); !fits(want, got) {
		c.t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func fits(pattern, s string) bool {
	re := strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", ".*")
	return regexp.MustCompile("^(?s:" + re + ")$").MatchString(s)
}

// append saves a message.
func (c *client) append(mailbox, flags, msg string) {
	c.t.Helper()
	msg = strings.ReplaceAll(msg, "\n", "\r\n")
	c.send("app APPEND " + mailbox + " " + flags + "{" + itoa(len(msg)) + "}\r\n")
	c.talk("S: + …")
	c.send(msg + "\r\n")
	c.talk("S? app OK …")
}

func itoa(n int) string { return big.NewInt(int64(n)).String() }

func generate(t testing.TB, ks *keys.FileStore) {
	t.Helper()
	must(t, ks.Generate(keys.Service, "store", keys.KindAES256))
	must(t, ks.Generate(keys.Service, "blind", keys.KindAES256))
	must(t, ks.Generate(keys.Mail, "platform", keys.KindAES256))
}
