package feed

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/demopki"
)

// newLog is an audit log of n records.
func newLog(t testing.TB, n int) *audit.Log {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "audit")
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Options{Origin: "log.example", Queue: 1 << 20}
	if err := audit.Create(dir, key, o); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(dir, key, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	add(t, l, n)
	return l
}

func add(t testing.TB, l *audit.Log, n int) {
	t.Helper()
	for i := range n {
		l.Note(audit.Event{Type: audit.MailRefused, Actor: "alice", Subject: fmt.Sprint("m", i), Outcome: `a "b" ]\` + "\nc 陳"})
	}
	if err := l.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// pki is the certificates of both sides.
type pki struct {
	ca             *demopki.CA
	server, client tls.Certificate
	serverID       *demopki.Identity
	pool           *x509.CertPool
}

func newPKI(t testing.TB) *pki {
	t.Helper()
	ca, err := demopki.NewCA("test", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	p := &pki{ca: ca, pool: x509.NewCertPool()}
	p.pool.AddCert(ca.Cert)
	for _, c := range []*tls.Certificate{&p.server, &p.client} {
		id, err := ca.Issue(demopki.Spec{
			CN: "localhost", Key: demopki.P256, Usage: x509.KeyUsageDigitalSignature, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			Adjust: func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} },
		})
		if err != nil {
			t.Fatal(err)
		}
		*c = tls.Certificate{Certificate: [][]byte{id.Cert.Raw}, PrivateKey: id.Key}
		if p.serverID == nil {
			p.serverID = id
		}
	}
	return p
}

func (p *pki) clientConfig() *tls.Config {
	return &tls.Config{RootCAs: p.pool, ServerName: "localhost", Certificates: []tls.Certificate{p.client}, MinVersion: tls.VersionTLS12}
}

// receiver takes connections and hands them to serve.
func (p *pki) receiver(t testing.TB, addr string, serve func(*tls.Conn)) net.Listener {
	t.Helper()
	ln, err := tls.Listen("tcp", addr, &tls.Config{Certificates: []tls.Certificate{p.server}, ClientCAs: p.pool, ClientAuth: tls.RequireAndVerifyClientCert})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(c.(*tls.Conn))
			}()
		}
	}()
	return ln
}

// readFrame reads one message of RFC 5425.
func readFrame(r *bufio.Reader) (string, error) {
	size, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(size, " "))
	if err != nil || n > 1<<20 {
		return "", fmt.Errorf("bad length %q", size)
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return string(b), err
}

func seqOf(t testing.TB, msg string) int {
	_, rest, ok := strings.Cut(msg, ` seq="`)
	n, err := strconv.Atoi(rest[:max(strings.IndexByte(rest, '"'), 0)])
	if !ok || err != nil {
		t.Errorf("no number in %q", msg)
	}
	return n
}

func options(t testing.TB, l *audit.Log, p *pki, addr string) Options {
	return Options{
		Source: l, Address: addr, TLS: p.clientConfig(), Cursor: filepath.Join(t.TempDir(), "cursor"), Format: audit.Syslog{Limit: 8192},
		Poll: 5 * time.Millisecond, Settle: 50 * time.Millisecond, Retry: 10 * time.Millisecond, Timeout: 5 * time.Second,
	}
}

// start runs a feed until stop.
func start(t testing.TB, o Options) (f *Feed, stop func()) {
	t.Helper()
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return f, stop
}

// until waits for something that another goroutine or process does.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// Every record comes, in order, in connections that break in the middle again and again; after a restart it goes on.
func TestEveryRecordInOrder(t *testing.T) {
	l, p := newLog(t, 1500), newPKI(t)
	got := make(chan int, 1<<20)
	connections := 0
	ln := p.receiver(t, "127.0.0.1:0", func(c *tls.Conn) {
		connections++ // one at a time
		r := bufio.NewReader(c)
		for n := 0; connections > 6 || n < 300; n++ {
			msg, err := readFrame(r)
			if err != nil {
				return
			}
			got <- seqOf(t, msg)
		}
	})
	o := options(t, l, p, ln.Addr().String())
	f, stop := start(t, o)
	next := 0
	upTo := func(n int) {
		t.Helper()
		for next < n {
			select {
			case seq := <-got:
				if seq > next {
					t.Fatalf("record %d came, %d has not", seq, next)
				}
				next = max(next, seq+1)
			case <-time.After(60 * time.Second):
				t.Fatalf("record %d does not come: %+v", next, f.State())
			}
		}
	}
	upTo(1500)
	add(t, l, 300)
	upTo(1800)
	until(t, "all is taken", func() bool { return f.State().Lag == 0 })
	stop()
	add(t, l, 10)
	for len(got) > 0 {
		<-got
	}
	f, _ = start(t, o)
	if seq := <-got; seq != 1800 {
		t.Errorf("after a restart it goes on with %d", seq)
	}
	until(t, "all is taken", func() bool { return f.State().Lag == 0 && f.State().Trouble == nil })
}

// Who stops in the middle and says good-bye sends nothing twice.
func TestStopIsClean(t *testing.T) {
	l, p := newLog(t, 600), newPKI(t)
	got := make(chan int, 1<<20)
	ln := p.receiver(t, "127.0.0.1:0", func(c *tls.Conn) {
		for r := bufio.NewReader(c); ; {
			msg, err := readFrame(r)
			if err != nil {
				return
			}
			got <- seqOf(t, msg)
		}
	})
	o := options(t, l, p, ln.Addr().String())
	o.Settle = 10 * time.Second
	f, stop := start(t, o)
	until(t, "all is sent", func() bool { return len(got) == 600 })
	stop()
	if lag := f.State().Lag; lag != 0 {
		t.Errorf("%d records will be sent again", lag)
	}
}

// A receiver that ended before we said good-bye has not read all of it.
func TestEndedBefore(t *testing.T) {
	l, p := newLog(t, 5), newPKI(t)
	ln := p.receiver(t, "127.0.0.1:0", func(c *tls.Conn) { _, _ = io.Copy(io.Discard, c) })
	f, err := New(options(t, l, p, ln.Addr().String()))
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", ln.Addr().String(), p.clientConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	k := &link{f: f, conn: c, plain: c.NetConn(), ended: make(chan error, 1), sent: 5}
	k.ended <- errEnded
	if err := k.end(); !errors.Is(err, errEnded) || f.position() != 0 {
		t.Errorf("%v, %d records count as taken", err, f.position())
	}
}

// A receiver that hangs, talks, ends at once, or is not who it should be holds up nobody, and the feed says so.
func TestHostileReceivers(t *testing.T) {
	p := newPKI(t)
	for what, c := range map[string]struct {
		serve func(*tls.Conn)
		spoil func(*Options)
		want  string
	}{
		"hangs":            {func(c *tls.Conn) { c.Handshake(); <-t.Context().Done() }, nil, ""},
		"talks":            {func(c *tls.Conn) { io.Copy(c, zeros{}) }, nil, errTalks.Error()},
		"ends":             {func(c *tls.Conn) { c.Handshake() }, nil, ""},
		"stranger":         {func(c *tls.Conn) { c.Handshake() }, func(o *Options) { o.TLS.RootCAs = x509.NewCertPool() }, "certificate"},
		"other name":       {func(c *tls.Conn) { c.Handshake() }, func(o *Options) { o.TLS.ServerName = "other.example" }, "other.example"},
		"nobody":           {nil, func(o *Options) { o.Address = "127.0.0.1:1" }, "refused"},
		"silent in TLS":    {func(*tls.Conn) { <-t.Context().Done() }, nil, ""},
		"no certificate":   {func(c *tls.Conn) { c.Handshake() }, func(o *Options) { o.TLS.Certificates = nil }, "certificate"},
		"reads one octet ": {func(c *tls.Conn) { c.Read(make([]byte, 1)); <-t.Context().Done() }, nil, ""},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			l := newLog(t, 20000)
			addr := "127.0.0.1:1"
			if c.serve != nil {
				addr = p.receiver(t, "127.0.0.1:0", c.serve).Addr().String()
			}
			o := options(t, l, p, addr)
			o.Timeout = 300 * time.Millisecond
			if c.spoil != nil {
				c.spoil(&o)
			}
			f, stop := start(t, o)
			until(t, "it is noticed", func() bool {
				s := f.State()
				return s.Trouble != nil && strings.Contains(s.Trouble.Error(), c.want)
			})
			add(t, l, 10) // the log goes on
			if s := f.State(); s.Lag == 0 {
				t.Errorf("%+v", s)
			}
			stop()
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

func TestCursor(t *testing.T) {
	l, p := newLog(t, 3), newPKI(t)
	o := options(t, l, p, "127.0.0.1:1")
	for _, bad := range []string{"", "x", "cmmpd audit syslog 1\n", "cmmpd audit syslog 1\n-1\n", "cmmpd audit syslog 1\n01\n", "cmmpd audit syslog 2\n1\n", "cmmpd audit syslog 1\n1"} {
		if err := os.WriteFile(o.Cursor, []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(o); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	// A log that is shorter than what was sent is another log.
	if err := os.WriteFile(o.Cursor, cursorOf(1000), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.connection(context.Background()); err == nil || !strings.Contains(err.Error(), "not the log") {
		t.Errorf("%v", err)
	}
	if o.Format.Facility = 99; true {
		if _, err := New(o); err == nil {
			t.Error("a bad format is taken")
		}
	}
	if errors.Is(errEnded, errTalks) {
		t.Error("one error for two things")
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursorOf(17))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n, err := parseCursor(b); err == nil && string(cursorOf(n)) != string(b) {
			t.Fatalf("%q", b)
		}
	})
}
