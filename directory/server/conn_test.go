package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

// raw is a client that writes octets.
type raw struct {
	t testing.TB
	net.Conn
	r *bufio.Reader
}

func dialRaw(t testing.TB, addr string) *raw {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	return &raw{t, c, bufio.NewReader(c)}
}

func (r *raw) send(b []byte) {
	r.t.Helper()
	if _, err := r.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

// next reads a message: its id, operation tag and result code.
func (r *raw) next() (id int, op byte, code int, err error) {
	b, err := readMessage(r.r, 1<<20)
	if err != nil {
		return 0, 0, 0, err
	}
	m, err := parseMessage(b)
	p := parser{b: m.op.body}
	if m.op.tag != opSearchEntry {
		code = p.integer(tagEnumerated)
	}
	return m.id, m.op.tag, code, errors.Join(err, p.err)
}

func (r *raw) want(id int, op byte, code resultCode) {
	r.t.Helper()
	i, o, c, err := r.next()
	if err != nil || i != id || o != op || c != int(code) {
		r.t.Errorf("got message %d, operation %#x, result %d, %v; want %d, %#x, %d", i, o, c, err, id, op, code)
	}
}

// closed demands that the server ends the connection.
func (r *raw) closed() {
	r.t.Helper()
	for {
		if _, _, _, err := r.next(); err != nil {
			var ne net.Error
			if errors.As(err, &ne) && ne.Timeout() {
				r.t.Error("the server keeps the connection")
			}
			return
		}
	}
}

// request encodes a message.
func request(id int, op byte, body func(*encoder)) []byte {
	e := encoder{}
	m := e.open(tagSequence)
	e.integer(tagInteger, id)
	o := e.open(op)
	if body != nil {
		body(&e)
	}
	e.close(o)
	e.close(m)
	return e.b
}

func searchBody(base string, scope int, filter func(*encoder)) func(*encoder) {
	return func(e *encoder) {
		e.text(tagOctets, base)
		e.integer(tagEnumerated, scope)
		e.integer(tagEnumerated, 0)
		e.integer(tagInteger, 0)
		e.integer(tagInteger, 0)
		e.octets(tagBoolean, []byte{0})
		filter(e)
		e.close(e.open(tagSequence))
	}
}

func anyClass(e *encoder) { e.text(0x87, "objectClass") }

func startTLSRequest(id int) []byte {
	return request(id, opExtended, func(e *encoder) { e.text(0x80, oidStartTLS) })
}

func bindRequestBody(name, password string) func(*encoder) {
	return func(e *encoder) {
		e.integer(tagInteger, 3)
		e.text(tagOctets, name)
		e.text(0x80, password)
	}
}

func TestNothingFromBeforeTLSIsObeyed(t *testing.T) {
	s, _ := newTest(t, Options{})
	addr, _, conf := listen(t, s, StartTLS)
	r := dialRaw(t, addr)
	r.send(append(startTLSRequest(1), request(2, opBindRequest, bindRequestBody("alice", "alicepass"))...))
	r.closed()

	r = dialRaw(t, addr)
	r.send(startTLSRequest(1))
	r.want(1, opExtendedResp, success)
	c := tls.Client(r.Conn, conf)
	over := &raw{t, c, bufio.NewReader(c)}
	over.send(request(2, opBindRequest, bindRequestBody("alice", "alicepass")))
	over.want(2, opBindResponse, success)
	over.send(startTLSRequest(3))
	over.want(3, opExtendedResp, operationsError)
	over.send(request(4, opUnbind, nil))
	over.closed()
}

func TestProtocolErrors(t *testing.T) {
	s, _ := newTest(t, Options{})
	addr, _, _ := listen(t, s, StartTLS)
	deep := bytes.Repeat([]byte{0xa2, 0x84, 0, 0, 0, 0}, 200)
	for i := range 200 {
		n := (200 - i - 1) * 6
		deep[i*6+4], deep[i*6+5] = byte(n>>8), byte(n)
	}
	many := bytes.Repeat([]byte{0x87, 0}, maxElements)
	for name, b := range map[string][]byte{
		"not BER":           []byte("GET / HTTP/1.0\r\n\r\n"),
		"2 GiB":             {0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 1, 2, 3},
		"300 KiB":           {0x30, 0x83, 0x05, 0x00, 0x00},
		"indefinite length": {0x30, 0x80, 0x02, 0x01, 0x01, 0, 0},
		"high tag":          {0x30, 0x05, 0x02, 0x01, 0x01, 0x7f, 0x20},
		"inner too long":    {0x30, 0x03, 0x02, 0x05, 0x01},
		"deep":              request(1, opSearchRequest, func(e *encoder) { e.b = append(e.b, deep...) }),
		"many":              request(1, opSearchRequest, func(e *encoder) { e.b = append(e.b, many...) }),
		"response":          request(1, opSearchDone, nil),
		"message id 0":      request(0, opSearchRequest, searchBody("", 0, anyClass)),
		"negative id":       {0x30, 0x05, 0x02, 0x01, 0xff, 0x42, 0x00},
		"leftover":          {0x30, 0x07, 0x02, 0x01, 0x01, 0x42, 0x00, 0x05, 0x00},
	} {
		t.Run(name, func(t *testing.T) {
			r := dialRaw(t, addr)
			r.send(b)
			r.want(0, opExtendedResp, protocolError) // Notice of Disconnection
			r.closed()
		})
	}
	r := dialRaw(t, addr)
	nested := func(e *encoder) {
		var marks []int
		for range maxFilterDepth + 1 {
			marks = append(marks, e.open(0xa2))
		}
		anyClass(e)
		for i := len(marks) - 1; i >= 0; i-- {
			e.close(marks[i])
		}
	}
	r.send(request(1, opSearchRequest, searchBody("", 0, nested)))
	r.want(1, opSearchDone, protocolError)
	wide := func(e *encoder) {
		m := e.open(0xa1)
		for range maxFilterItems {
			anyClass(e)
		}
		e.close(m)
	}
	r.send(request(2, opSearchRequest, searchBody("", 0, wide)))
	r.want(2, opSearchDone, protocolError)
	r.send(request(3, opSearchRequest, searchBody("", 0, anyClass)))
	r.want(3, opSearchEntry, 0)
	r.want(3, opSearchDone, success)
	r.send(request(4, opBindRequest, func(e *encoder) { bindRequestBody("", "")(e); e.b[len(e.b)-5] = 2 }))
	r.want(4, opBindResponse, protocolError)
	r.send(request(5, opExtended, func(e *encoder) { e.text(0x80, "1.2.3") }))
	r.want(5, opExtendedResp, protocolError)
	r.send(request(6, opBindRequest, func(e *encoder) {
		e.integer(tagInteger, 3)
		e.text(tagOctets, "")
		m := e.open(0xa3)
		e.text(tagOctets, "PLAIN")
		e.close(m)
	}))
	r.want(6, opBindResponse, authMethodNotSupported)
}

// TestAbandon stops a search whose reply nobody reads: the other requests of the
// connection go on.
func TestAbandon(t *testing.T) {
	s, _ := newTest(t, Options{})
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, "dn: uid=u%d,ou=people,dc=gov,dc=example\nobjectClass: inetOrgPerson\nuid: u%d\ncn: u\nsn: u\ndescription: %s\n\n", i, i, strings.Repeat("x", 200))
	}
	mustImport(t, s, b.String())
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { s.ServeConn(context.Background(), ours, ConnOptions{Trusted: true}); close(done) }()
	r := &raw{t, theirs, bufio.NewReader(theirs)}
	r.send(request(1, opSearchRequest, searchBody(testBase, scopeSub, anyClass)))
	// The search fills its first batch and blocks: nobody reads. Abandon gets through.
	abandon := encoder{}
	m := abandon.open(tagSequence)
	abandon.integer(tagInteger, 2)
	abandon.integer(opAbandon, 1)
	abandon.close(m)
	r.send(abandon.b)
	go r.send(request(3, opCompareRequest, func(e *encoder) {
		e.text(tagOctets, bobDN)
		m := e.open(tagSequence)
		e.text(tagOctets, "uid")
		e.text(tagOctets, "bob")
		e.close(m)
	}))
	entries := 0
	for {
		id, op, code, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		if id == 3 {
			if op != opCompareResponse || code != int(compareTrue) {
				t.Errorf("compare: %#x, %d", op, code)
			}
			break
		}
		if op != opSearchEntry {
			t.Fatalf("an abandoned search was answered: %#x", op)
		}
		entries++
	}
	if entries > 1000 {
		t.Errorf("%d entries of an abandoned search", entries)
	}
	theirs.Close()
	<-done
}

func TestLimits(t *testing.T) {
	s, _ := newTest(t, Options{Limits: Limits{Entries: 3, PagedEntries: 5, SearchRate: 12, PerAddress: 100, Connections: 2}})
	addr, _, conf := listen(t, s, Implicit)
	dial := func() *ldap.Conn {
		c, err := ldap.DialURL("ldaps://"+addr, ldap.DialWithTLSConfig(conf))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	c := dial()
	if err := c.Bind("alice", "alicepass"); err != nil {
		t.Fatal(err)
	}
	search := func(limit int, ctl ...ldap.Control) (*ldap.SearchResult, error) {
		return c.Search(ldap.NewSearchRequest(testBase, 2, 0, limit, 0, false, "(objectClass=*)", []string{"1.1"}, ctl))
	}
	if res, err := search(0); !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || len(res.Entries) != 3 {
		t.Errorf("server's limit: %v", err)
	}
	if res, err := search(2); !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || len(res.Entries) != 2 {
		t.Errorf("client's limit: %v", err)
	}
	total := 0
	paging := ldap.NewControlPaging(2)
	var err error
	for range 10 {
		var res *ldap.SearchResult
		res, err = search(0, paging)
		total += len(res.Entries)
		if err != nil {
			break
		}
		got := ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging)
		paging.SetCookie(got.Cookie)
	}
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) || total != 5 {
		t.Errorf("limit over all pages: %d entries, %v", total, err)
	}
	paging.SetCookie(bytes.Repeat([]byte{1}, cookieLen))
	if _, err := search(0, paging); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("a made-up cookie: %v", err)
	}
	if _, err := search(0, ldap.NewControlString("1.2.3.4", true, "")); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnavailableCriticalExtension) {
		t.Errorf("critical control: %v", err)
	}
	if _, err := search(2, ldap.NewControlString("1.2.3.4", false, "")); !ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		t.Errorf("control: %v", err)
	}
	for range 12 {
		_, err = search(1)
	}
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultBusy) {
		t.Errorf("search rate: %v", err)
	}
	dial()
	third, err := tls.Dial("tcp", addr, conf)
	if err == nil {
		_, err = third.Read(make([]byte, 1))
		third.Close()
	}
	if err == nil {
		t.Error("a third connection was served")
	}
}

func TestPaging(t *testing.T) {
	s, _ := newTest(t, Options{})
	a, b := trusted(t, s), trusted(t, s)
	for size := range 9 {
		res, err := a.SearchWithPaging(ldap.NewSearchRequest(testBase, 2, 0, 0, 0, false, "(objectClass=*)", []string{"1.1"}, nil), uint32(size+1))
		if err != nil || len(res.Entries) != 8 || names(res) != "dc=gov ou=people ou=posts ou=groups uid=alice uid=bob cn=ds1 cn=team" {
			t.Errorf("pages of %d: %q, %v", size+1, names(res), err)
		}
	}
	search := func(c *ldap.Conn, filter string, ctl *ldap.ControlPaging) (*ldap.SearchResult, error) {
		return c.Search(ldap.NewSearchRequest(testBase, 2, 0, 0, 0, false, filter, []string{"1.1"}, []ldap.Control{ctl}))
	}
	ctl := ldap.NewControlPaging(2)
	res, err := search(a, "(objectClass=*)", ctl)
	if err != nil {
		t.Fatal(err)
	}
	ctl.SetCookie(ldap.FindControl(res.Controls, ldap.ControlTypePaging).(*ldap.ControlPaging).Cookie)
	if _, err := search(b, "(objectClass=*)", ctl); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("a cookie on another connection: %v", err)
	}
	if _, err := search(a, "(uid=*)", ctl); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("a cookie with another search: %v", err)
	}
	ctl.PagingSize = 0
	if res, err := search(a, "(objectClass=*)", ctl); err != nil || len(res.Entries) != 0 {
		t.Errorf("giving up: %v, %v", res, err)
	}
	ctl.PagingSize = 100
	if res, err := search(a, "(objectClass=*)", ctl); err != nil || len(res.Entries) != 6 {
		t.Errorf("the rest: %v, %v", res, err)
	}
	if err := a.Bind("alice", "alicepass"); err != nil {
		t.Fatal(err)
	}
	if _, err := search(a, "(objectClass=*)", ctl); !ldap.IsErrorWithCode(err, ldap.LDAPResultUnwillingToPerform) {
		t.Errorf("a cookie after another bind: %v", err)
	}
}

// logBuffer is a log for several goroutines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestPanicEndsOneConnection(t *testing.T) {
	var log logBuffer
	s, _ := newTest(t, Options{Log: slog.New(slog.NewTextHandler(&log, nil)), Login: func(context.Context, mail.Client, string, string) (mail.Principal, error) {
		panic("in the reader")
	}})
	addr, _, conf := listen(t, s, Implicit)
	other := trusted(t, s)
	c, err := ldap.DialURL("ldaps://"+addr, ldap.DialWithTLSConfig(conf))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Bind("alice", "alicepass"); err == nil {
		t.Error("the bind was answered")
	}
	// The same in the goroutine of a search.
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { s.ServeConn(context.Background(), ours, ConnOptions{Trusted: true}); close(done) }()
	r := &raw{t, theirs, bufio.NewReader(theirs)}
	r.send(request(1, opCompareRequest, nil))
	r.want(1, opCompareResponse, protocolError)
	s.mu.Lock()
	for k := range s.conns {
		if k.nc == ours {
			k.start(context.Background(), 7, func(context.Context) { panic("in a search") })
		}
	}
	s.mu.Unlock()
	<-done
	if got := names(find(t, other, "(uid=bob)")); got != "uid=bob" {
		t.Error(got)
	}
	for _, want := range []string{"in the reader", "in a search"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("not logged: %s", want)
		}
	}
}

func TestShutdown(t *testing.T) {
	s, _ := newTest(t, Options{})
	addr, _, _ := listen(t, s, StartTLS)
	r := dialRaw(t, addr)
	r.send(request(1, opSearchRequest, searchBody("", 0, anyClass)))
	r.want(1, opSearchEntry, 0)
	r.want(1, opSearchDone, success)
	inProcess := trusted(t, s)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	r.closed()
	if _, err := inProcess.WhoAmI(nil); err == nil {
		t.Error("an in-process connection is still served")
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		if _, err := io.ReadAll(c); err != nil {
			t.Log(err)
		}
		c.Close()
	}
	if _, err := s.Dial(context.Background()); err == nil {
		t.Error("Dial works after Shutdown")
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	s, _ := newTest(t, Options{Limits: Limits{Idle: 50 * time.Millisecond, Progress: 5 * time.Millisecond}})
	addr, _, _ := listen(t, s, StartTLS)
	r := dialRaw(t, addr)
	r.closed()
	r = dialRaw(t, addr)
	r.send([]byte{0x30})
	r.closed()
}

func TestTimeLimit(t *testing.T) {
	s, _ := newTest(t, Options{Limits: Limits{Operation: time.Nanosecond}})
	_, err := trusted(t, s).Search(ldap.NewSearchRequest(testBase, 2, 0, 0, 0, false, "(uid=bob)", nil, nil))
	if !ldap.IsErrorWithCode(err, ldap.LDAPResultTimeLimitExceeded) {
		t.Error(err)
	}
}

// farConn is a connection from somewhere else.
type farConn struct {
	net.Conn
	from net.Addr
}

func (c farConn) RemoteAddr() net.Addr { return c.from }

func TestConnectionsOfOneAddress(t *testing.T) {
	s, _ := newTest(t, Options{Limits: Limits{PerAddress: 2}, Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}})
	served := func(ip string) bool {
		ours, theirs := net.Pipe()
		go s.ServeConn(context.Background(), farConn{ours, &net.TCPAddr{IP: net.ParseIP(ip), Port: 1}}, ConnOptions{})
		t.Cleanup(func() { theirs.Close() })
		theirs.SetDeadline(time.Now().Add(10 * time.Second))
		r := &raw{t, theirs, bufio.NewReader(theirs)}
		if _, err := theirs.Write(request(1, opCompareRequest, nil)); err != nil {
			return false
		}
		_, _, _, err := r.next()
		return err == nil
	}
	for i, want := range []bool{true, true, false} {
		if got := served("192.0.2.1"); got != want {
			t.Errorf("connection %d: served %v", i+1, got)
		}
	}
	for _, ip := range []string{"192.0.2.2", "127.0.0.1", "127.0.0.1", "198.51.100.1", "198.51.100.1", "198.51.100.1"} {
		if !served(ip) {
			t.Errorf("%s suffers", ip)
		}
	}
	if served("127.0.0.1") {
		t.Error("this machine is exempt though nobody said so")
	}
}

func TestRequestSize(t *testing.T) {
	s, _ := newTest(t, Options{Limits: Limits{Message: 1000}})
	addr, _, _ := listen(t, s, StartTLS)
	r := dialRaw(t, addr)
	r.send(request(1, opCompareRequest, func(e *encoder) { e.text(tagOctets, strings.Repeat("x", 900)) }))
	if _, op, _, err := r.next(); err != nil || op == opExtendedResp {
		t.Errorf("within the limit: %x, %v", op, err)
	}
	r = dialRaw(t, addr)
	r.send(request(1, opCompareRequest, func(e *encoder) { e.text(tagOctets, strings.Repeat("x", 1100)) }))
	if id, op, code, err := r.next(); err != nil || id != 0 || op != opExtendedResp || code != int(protocolError) {
		t.Errorf("beyond: %d %x %d %v", id, op, code, err)
	}
	r.closed()
}
