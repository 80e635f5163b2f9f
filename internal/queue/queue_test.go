package queue

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/testkit"
	"cmmpd/storage"
)

const plainText = "From: Alice <alice@works.gov.example>\r\nTo: someone@partner.example\r\nSubject: budget\r\nMessage-ID: <1@works.gov.example>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0800\r\n\r\n.dot\r\nbody\r\n"

// post is a queue with a real store, a sink at the end of every connection, and a tray for the reports.
type post struct {
	t    *testing.T
	o    storage.Options
	s    *storage.Store
	q    *Queue
	sink *sink
	opts Options

	mu       sync.Mutex
	reports  []string
	to       []mail.Address
	refuse   error
	refuseIf func(raw string) error
	events   []audit.Event
	dialed   []string
	noDial   bool
}

func (p *post) Reserve(context.Context, int64) error { return nil }
func (p *post) Release(int64)                        {}
func (p *post) Note(e audit.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

func (p *post) Accept(_ context.Context, env *mail.Envelope, raw []byte) (mail.ID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse != nil {
		return "", p.refuse
	}
	if p.refuseIf != nil {
		if err := p.refuseIf(string(raw)); err != nil {
			return "", err
		}
	}
	if !env.From.IsZero() || env.Sender != nil || env.Client.Protocol != mail.ProtocolQueue {
		p.t.Errorf("a report with the envelope %+v", env)
	}
	p.reports, p.to = append(p.reports, string(raw)), append(p.to, env.To...)
	return "r", nil
}

// newPost makes one, inside a bubble or not. The clock is that of the test.
func newPost(t *testing.T, sk *sink, change func(*Options)) *post {
	t.Helper()
	p := &post{t: t, sink: sk}
	ks, err := keys.CreateFile(filepath.Join(t.TempDir(), "keys"))
	p.must(err)
	for slot, names := range map[keys.Slot][]string{keys.Service: {"store", "blind"}, keys.Mail: {"platform"}} {
		for _, n := range names {
			p.must(ks.Generate(slot, n, keys.KindAES256))
		}
	}
	p.o = storage.Options{Dir: filepath.Join(t.TempDir(), "store"), Keys: ks, HouseEvery: -1} // years pass here, and housekeeping would be done in each of their minutes
	p.opts = Options{
		Hostname: "mail.gov.example", Audit: p, LaneKey: []byte("k"), Jitter: func() float64 { return 0 },
		Routes: []Route{{Domain: "*", Host: "sink.example:25", TLS: Opportunistic}},
		Dial:   p.dial,
	}
	if change != nil {
		change(&p.opts)
	}
	p.open()
	return p
}

func (p *post) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

func (p *post) open() {
	p.t.Helper()
	var err error
	p.s, err = storage.Open(context.Background(), p.o)
	p.must(err)
	p.opts.Store = p.s
	p.q, err = New(p.opts)
	p.must(err)
}

// close stops the queue at once and checks the store.
func (p *post) close() {
	p.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.q.Shutdown(ctx)
	r, err := p.s.Check(context.Background(), true)
	p.must(err)
	if len(r.Problems) > 0 {
		p.t.Errorf("check: %v", r.Problems)
	}
	p.must(p.s.Close())
}

func (p *post) dial(_ context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dialed = append(p.dialed, addr)
	if p.noDial {
		return nil, errors.New("connection refused")
	}
	ours, theirs := net.Pipe()
	go p.sink.serve(theirs)
	return ours, nil
}

// closeDoor has reports refused with the error.
func (p *post) closeDoor(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = err
}

func (p *post) down(v bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noDial = v
}

// letter hands a message in as intake does.
func (p *post) letter(change func(*Letter), to ...string) {
	p.t.Helper()
	l := Letter{ID: "acceptance", From: mail.MustParseAddress("alice@works.gov.example"), Body: []byte(plainText)}
	for _, a := range to {
		l.To = append(l.To, mail.MustParseAddress(a))
	}
	if change != nil {
		change(&l)
	}
	item, err := p.q.Item(l)
	p.must(err)
	_, err = p.s.Deliver(context.Background(), storage.Delivery{Bodies: []storage.Body{
		{Data: l.Body, Index: message.Parse(l.Body, message.Limits{}), Queue: []storage.QueueItem{item}},
	}})
	p.must(err)
	p.q.Wake()
}

func (p *post) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.reports...)
}

func (p *post) listing() []Listing {
	p.t.Helper()
	var list []Listing
	p.must(p.q.List(context.Background(), func(l Listing) error { list = append(list, l); return nil }))
	return list
}

// expect says what is taken, reported and left in the queue by now.
func (p *post) expect(taken, reports, left int) {
	p.t.Helper()
	if got := [...]int{len(p.sink.taken()), len(p.told()), len(p.listing())}; got != [...]int{taken, reports, left} {
		p.t.Fatalf("taken, reported, left: %v, want %v; %+v", got, [...]int{taken, reports, left}, p.listing())
	}
}

// bubble runs f where time passes only when everybody waits.
func bubble(t *testing.T, sk *sink, change func(*Options), f func(p *post)) {
	t.Helper()
	testkit.Bubble(t, func(t *testing.T) {
		p := newPost(t, sk, change)
		defer p.close()
		p.q.Run(p)
		f(p)
	})
}

// after lets time pass until everybody waits for something later.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestDelivered(t *testing.T) {
	sk := &sink{offers: []string{"PIPELINING", "SIZE 1000", "8BITMIME"}}
	bubble(t, sk, nil, func(p *post) {
		p.letter(nil, "someone@partner.example", "other@partner.example")
		after(time.Second)
		p.expect(1, 0, 0)
		if sk.taken()[0] != plainText {
			t.Errorf("the message became %q", sk.taken()[0])
		}
		if sk.heard("RCPT TO:<other@partner.example>") != 1 || sk.heard(fmt.Sprintf("MAIL FROM:<alice@works.gov.example> SIZE=%d", len(plainText))) != 1 || sk.heard("EHLO mail.gov.example") != 1 {
			t.Errorf("the server heard %q", sk.lines)
		}
	})
}

// TestFaultsOfTheServer is the table of what a server may do: nothing is lost, nothing comes more often than it must, and
// the right report is given.
func TestFaultsOfTheServer(t *testing.T) {
	first := func(reply string) func(int, string) string {
		return func(n int, _ string) string {
			if n == 1 {
				return reply
			}
			return "250 2.0.0 taken\r\n"
		}
	}
	always := func(reply string) func(string) string { return func(string) string { return reply } }
	greetOnce := func(reply string) func() string {
		var n atomic.Int32
		return func() string {
			if n.Add(1) == 1 {
				return reply
			}
			return "220 sink\r\n"
		}
	}
	for name, c := range map[string]struct {
		sink           *sink
		taken, reports int // at the end; taken counts what came to the final dot
		words          string
	}{
		"drops after DATA":           {&sink{data: first("")}, 2, 0, ""},
		"says nothing after DATA":    {&sink{data: first("...")}, 2, 0, ""},
		"half a reply after DATA":    {&sink{data: first("250 2.0")}, 2, 0, ""},
		"half a multi-line reply":    {&sink{data: first("250-2.0.0 so\r\n250")}, 2, 0, ""},
		"nonsense after DATA":        {&sink{data: first("hello\r\n")}, 2, 0, ""},
		"4xx after DATA":             {&sink{data: first("451 4.3.0 later\r\n")}, 2, 0, ""},
		"421 after DATA":             {&sink{data: first("421 4.3.2 closing\r\n")}, 2, 0, ""},
		"5xx after DATA":             {&sink{data: first("554 5.7.1 no spam\r\n")}, 1, 1, "Status: 5.7.1"},
		"5xx to RCPT":                {&sink{rcpt: always("550 5.1.1 unknown\r\n")}, 0, 1, "Status: 5.1.1"},
		"5xx to RCPT, pipelined":     {&sink{offers: []string{"PIPELINING"}, rcpt: always("550 unknown\r\n")}, 0, 1, "Status: 5.1.0"},
		"5xx to MAIL":                {&sink{mail: always("550 5.7.1 not you\r\n")}, 0, 1, "Status: 5.7.1"},
		"5xx to MAIL, pipelined":     {&sink{offers: []string{"PIPELINING"}, mail: always("550 5.7.1 not you\r\n"), rcpt: always("503 5.5.1 no\r\n")}, 0, 1, "Status: 5.7.1"},
		"drops at the greeting":      {&sink{greeting: greetOnce("")}, 1, 0, ""},
		"says nothing at all":        {&sink{greeting: greetOnce("...")}, 1, 0, ""},
		"refuses at the greeting":    {&sink{greeting: greetOnce("554 5.3.2 not now\r\n")}, 1, 0, ""},
		"endless greeting":           {&sink{greeting: greetOnce(strings.Repeat("220-x\r\n", 1000) + "220 x\r\n")}, 1, 0, ""},
		"endless line":               {&sink{greeting: greetOnce("220 " + strings.Repeat("x", 1<<20) + "\r\n")}, 1, 0, ""},
		"too small":                  {&sink{offers: []string{"SIZE 10"}}, 0, 1, "Status: 5.3.4"},
		"drops at RCPT":              {&sink{rcpt: onceDropped()}, 1, 0, ""},
		"4xx to one RCPT, 250 later": {&sink{rcpt: onceLater()}, 1, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.sink, nil, func(p *post) {
				p.letter(nil, "someone@partner.example")
				after(time.Hour)
				p.expect(c.taken, c.reports, 0)
				if c.reports > 0 && !strings.Contains(p.told()[0], c.words) {
					t.Errorf("the report does not say %q:\n%s", c.words, p.told()[0])
				}
			})
		})
	}
}

func onceDropped() func(string) string {
	var n atomic.Int32
	return func(string) string {
		if n.Add(1) == 1 {
			return ""
		}
		return "250 ok\r\n"
	}
}

func onceLater() func(string) string {
	var n atomic.Int32
	return func(string) string {
		if n.Add(1) == 1 {
			return "450 4.2.0 greylisted\r\n"
		}
		return "250 ok\r\n"
	}
}

func TestEachRecipientHasAnOutcome(t *testing.T) {
	sk := &sink{offers: []string{"PIPELINING"}}
	var open atomic.Bool
	sk.rcpt = func(line string) string {
		switch {
		case strings.Contains(line, "gone@"):
			return "550 5.1.1 <gone@partner.example> unknown\r\n"
		case strings.Contains(line, "later@") && !open.Load():
			return "451 4.2.1 later\r\n"
		}
		return "250 ok\r\n"
	}
	bubble(t, sk, nil, func(p *post) {
		p.letter(nil, "someone@partner.example", "gone@partner.example", "later@partner.example")
		after(time.Second)
		p.expect(1, 1, 1)
		report := p.told()[0]
		if !strings.Contains(report, "Final-Recipient: rfc822; gone@partner.example\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; sink.example\r\nDiagnostic-Code: smtp; 550 5.1.1 <gone@partner.example> unknown\r\n") ||
			strings.Contains(report, "later@") || strings.Contains(report, "someone@partner.example\r\nAction") {
			t.Errorf("report:\n%s", report)
		}
		open.Store(true)
		after(5 * time.Minute)
		p.expect(2, 1, 0)
		if sk.heard("RCPT TO:<someone@") != 1 {
			t.Error("who had it got it again")
		}
	})
}

func TestSchedule(t *testing.T) {
	sk := &sink{}
	var at []time.Duration
	start := time.Time{}
	sk.rcpt = func(string) string {
		at = append(at, time.Since(start))
		return "450 4.2.0 not now\r\n"
	}
	bubble(t, sk, func(o *Options) { o.Lifetime = 6 * time.Hour }, func(p *post) {
		start = time.Now()
		p.letter(nil, "someone@partner.example")
		after(3 * time.Hour)
		p.expect(0, 0, 1)
		after(2*time.Hour + 30*time.Minute)
		p.expect(0, 1, 1)
		if r := p.told()[0]; !strings.Contains(r, "Action: delayed\r\nStatus: 4.2.0\r\n") || !strings.Contains(r, "Will-Retry-Until: ") {
			t.Errorf("warning:\n%s", r)
		}
		after(time.Hour)
		p.expect(0, 2, 0)
		if r := p.told()[1]; !strings.Contains(r, "Action: failed\r\nStatus: 5.4.7\r\n") || !strings.Contains(r, "450 4.2.0 not now") {
			t.Errorf("end:\n%s", r)
		}
	})
	want := []time.Duration{0, 5, 15, 35, 75, 155, 315, 360}
	for i := range want {
		if len(at) != len(want) || at[i].Round(time.Second) != want[i]*time.Minute {
			t.Fatalf("attempts at %v, want minutes %v", at, want)
		}
	}
}

func TestNobodyAnswers(t *testing.T) {
	sk := &sink{}
	bubble(t, sk, func(o *Options) { o.PerLane = 1 }, func(p *post) {
		p.down(true)
		for range 20 {
			p.letter(nil, "someone@partner.example")
		}
		after(time.Minute)
		p.expect(0, 0, 20)
		if len(p.dialed) > 2 {
			t.Errorf("%d connections to a server that is down", len(p.dialed))
		}
		p.down(false)
		after(10 * time.Minute)
		p.expect(20, 0, 0)
		if sk.conns > 5 {
			t.Errorf("%d connections for 20 messages one after the other", sk.conns)
		}
	})
}

// TestRestart stops queue and store amid everything and goes on with what is on the disk.
func TestRestart(t *testing.T) {
	sk := &sink{}
	testkit.Bubble(t, func(t *testing.T) {
		p := newPost(t, sk, func(o *Options) { o.PerLane = 1 })
		p.q.Run(p)
		sk.say(func(n int, _ string) string {
			if n == 3 {
				return "..." // and here it is stopped
			}
			return "250 ok\r\n"
		})
		for i := range 6 {
			p.letter(nil, fmt.Sprintf("someone%d@partner.example", i))
		}
		after(time.Second)
		p.expect(3, 0, 4)
		p.close()
		p.open()
		p.q.Run(p)
		after(time.Minute)
		p.expect(6, 0, 1)
		after(5 * time.Minute)
		p.expect(7, 0, 0) // the one whose answer was lost comes twice
		for i := range 6 {
			if n := sk.heard(fmt.Sprintf("RCPT TO:<someone%d@", i)); n < 1 || n > 2 {
				t.Errorf("recipient %d came %d times", i, n)
			}
		}
		p.close()
	})
}

func TestReportThatIsNotTaken(t *testing.T) {
	sk := &sink{rcpt: func(string) string { return "550 5.1.1 unknown\r\n" }}
	bubble(t, sk, nil, func(p *post) {
		p.closeDoor(mail.E(mail.Unavailable, "", nil))
		p.letter(nil, "someone@partner.example")
		after(time.Minute)
		p.expect(0, 0, 1)
		p.closeDoor(nil)
		after(10 * time.Minute)
		p.expect(0, 1, 0)
		if sk.heard("RCPT") != 1 {
			t.Error("the server was asked again")
		}
		p.closeDoor(mail.E(mail.NotFound, "", nil))
		p.letter(nil, "someone@partner.example")
		p.letter(func(l *Letter) { l.From = mail.Address{} }, "someone@partner.example")
		after(time.Minute)
		p.expect(0, 1, 0)
		if len(p.events) != 2 || p.events[0].Type != audit.MailUntold {
			t.Errorf("events %+v", p.events)
		}
	})
}

func TestConfidentialReportSaysLittle(t *testing.T) {
	sk := &sink{rcpt: func(string) string { return "550 5.1.1 unknown\r\n" }}
	bubble(t, sk, nil, func(p *post) {
		p.letter(func(l *Letter) { l.Confidential = true }, "someone@partner.example")
		after(time.Minute)
		p.letter(nil, "someone@partner.example")
		after(time.Minute)
		p.expect(0, 2, 0)
		secret, open := p.told()[0], p.told()[1]
		if strings.Contains(secret, "budget") || strings.Contains(secret, "body") || !strings.Contains(secret, "Message-ID: <1@works.gov.example>") {
			t.Errorf("confidential:\n%s", secret)
		}
		if !strings.Contains(open, "Subject: budget") || strings.Contains(open, "body") {
			t.Errorf("ordinary:\n%s", open)
		}
	})
}

func TestOperator(t *testing.T) {
	sk := &sink{}
	bubble(t, sk, nil, func(p *post) {
		ctx := context.Background()
		p.down(true)
		p.letter(nil, "someone@partner.example")
		after(time.Second)
		l := p.listing()[0]
		id, err := storage.ParseQueueID(l.Item)
		p.must(err)
		if l.State != "waiting" || l.Attempts != 1 || l.From != "alice@works.gov.example" || l.Recipients[0].Status != "4.4.1" {
			t.Errorf("listing %+v", l)
		}
		p.down(false)
		p.must(p.q.Hold(ctx, id))
		after(10 * time.Hour)
		if l := p.listing()[0]; l.State != "held" {
			t.Errorf("listing %+v", l)
		}
		p.expect(0, 0, 1)
		p.must(p.q.Release(ctx, id))
		after(time.Second)
		p.expect(1, 0, 0)
		if err := p.q.Retry(ctx, id); mail.KindOf(err) != mail.NotFound {
			t.Errorf("retry of what is gone: %v", err)
		}
		p.down(true)
		p.letter(nil, "someone@partner.example")
		p.letter(nil, "other@partner.example")
		after(time.Second)
		p.down(false)
		list := p.listing()
		first, _ := storage.ParseQueueID(list[0].Item)
		second, _ := storage.ParseQueueID(list[1].Item)
		p.must(p.q.Retry(ctx, first))
		p.must(p.q.Remove(ctx, second))
		after(time.Second)
		p.expect(2, 0, 0)

		// while the server keeps a courier waiting
		sk.say(func(int, string) string { return "..." })
		p.letter(nil, "someone@partner.example")
		after(time.Second)
		if l := p.listing()[0]; l.State != "active" {
			t.Errorf("listing %+v", l)
		}
		id, _ = storage.ParseQueueID(p.listing()[0].Item)
		p.must(p.q.Hold(ctx, id))
		after(time.Hour)
		p.expect(3, 0, 1)
		p.must(p.q.Remove(ctx, id))
		p.expect(3, 0, 0)
	})
}

func TestTLS(t *testing.T) {
	roots, conf := x509.NewCertPool(), &tls.Config{}
	testkit.Bubble(t, func(t *testing.T) { // bubbles begin in the year 2000, and so does the certificate
		ca, err := demopki.NewCA("Root", nil)
		if err != nil {
			t.Fatal(err)
		}
		server, err := ca.Server("sink.example")
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(ca.Cert)
		conf.Certificates = []tls.Certificate{{Certificate: [][]byte{server.Cert.Raw}, PrivateKey: server.Key}}
	})
	for name, c := range map[string]struct {
		server, restricted bool
		mode               TLS
		roots              *x509.CertPool
		name               string
		taken, secure      int
		status             string
	}{
		"verified":                     {true, false, Verify, roots, "", 1, 1, ""},
		"verified, restricted":         {true, true, Verify, roots, "", 1, 1, ""},
		"another name":                 {true, false, Verify, roots, "mx.partner.example", 0, 0, "4.7.5"},
		"unknown authority":            {true, false, Verify, x509.NewCertPool(), "", 0, 0, "4.7.5"},
		"no TLS to verify":             {false, false, Verify, roots, "", 0, 0, "4.7.4"},
		"required":                     {true, false, Required, x509.NewCertPool(), "", 1, 1, ""},
		"required, none":               {false, false, Required, roots, "", 0, 0, "4.7.4"},
		"required, restricted":         {true, true, Required, x509.NewCertPool(), "", 0, 0, "4.7.5"},
		"opportunistic":                {true, false, Opportunistic, nil, "", 1, 1, ""},
		"opportunistic, none":          {false, false, Opportunistic, nil, "", 1, 0, ""},
		"opportunistic, restricted":    {false, true, Opportunistic, nil, "", 0, 0, "4.7.4"},
		"opportunistic, restricted ok": {true, true, Opportunistic, roots, "", 1, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sk := &sink{}
			if c.server {
				sk.tls = conf
			}
			bubble(t, sk, func(o *Options) {
				o.Routes = []Route{{Domain: "*", Host: "sink.example:25", TLS: c.mode, Roots: c.roots, Name: c.name}}
			}, func(p *post) {
				p.letter(func(l *Letter) { l.VerifiedTLS = c.restricted }, "someone@partner.example")
				after(time.Second)
				p.expect(c.taken, 0, 1-c.taken)
				if sk.secure != c.secure {
					t.Errorf("%d secure connections, want %d", sk.secure, c.secure)
				}
				if c.status != "" && p.listing()[0].Recipients[0].Status != c.status {
					t.Errorf("listing %+v", p.listing())
				}
			})
		})
	}
}

// TestWaysDoNotHinderEachOther fills one way with mail that moves slowly, and sends by another.
func TestWaysDoNotHinderEachOther(t *testing.T) {
	slow := &sink{data: func(int, string) string { time.Sleep(time.Minute); return "250 ok\r\n" }}
	fast := &sink{}
	bubble(t, slow, func(o *Options) {
		o.Couriers, o.PerLane = 4, 2
		o.Routes = append(o.Routes, Route{Domain: "fast.example", Host: "fast.example:25", TLS: Opportunistic})
		dial := o.Dial
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "fast.example:25" {
				return dial(ctx, network, addr)
			}
			ours, theirs := net.Pipe()
			go fast.serve(theirs)
			return ours, nil
		}
	}, func(p *post) {
		const many = 2*maxLaneReady + 100
		for range many {
			p.letter(nil, "someone@partner.example")
		}
		p.letter(nil, "someone@fast.example")
		after(10 * time.Second)
		if len(fast.taken()) != 1 {
			t.Error("what goes by the fast way waits for the slow one")
		}
		p.q.mu.Lock()
		if p.q.ready > maxLaneReady || p.q.active != 2 {
			t.Errorf("%d items in memory, %d couriers", p.q.ready, p.q.active)
		}
		p.q.mu.Unlock()
		after(many * time.Minute)
		p.expect(many, 0, 0)
		if slow.conns > 10 {
			t.Errorf("%d connections for %d messages", slow.conns, many)
		}
	})
}

func TestByMX(t *testing.T) {
	sk := &sink{}
	bubble(t, sk, func(o *Options) {
		o.Routes, o.MX, o.MXTLS = nil, true, Opportunistic
		o.Resolver = &zone{
			mx:    map[string][]*net.MX{"partner.example.": {{Host: "a.partner.example.", Pref: 1}, {Host: "b.partner.example.", Pref: 2}}},
			hosts: map[string][]string{"a.partner.example.": {"192.0.2.1"}, "b.partner.example.": {"192.0.2.2"}},
		}
		dial := o.Dial
		o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr == "192.0.2.1:25" {
				return nil, errors.New("connection refused")
			}
			return dial(ctx, network, addr)
		}
	}, func(p *post) {
		p.letter(nil, "someone@Partner.example", "someone@nowhere.example")
		after(time.Second)
		p.expect(1, 1, 0)
		if r := p.told()[0]; !strings.Contains(r, "Final-Recipient: rfc822; someone@nowhere.example\r\nAction: failed\r\nStatus: 5.1.2\r\nDiagnostic-Code: x-cmmpd; there is no nowhere.example\r\n") {
			t.Errorf("report:\n%s", r)
		}
	})
}

// TestWhatTheServerCannot bounces what would have to be changed on its way.
func TestWhatTheServerCannot(t *testing.T) {
	eight := func(l *Letter) { l.Body = append([]byte(plainText), "\xe4\xbd\xa0\r\n"...) }
	header := func(l *Letter) { l.Body = append([]byte("Subject: \xe4\xbd\xa0\r\n"), plainText...) }
	for name, c := range map[string]struct {
		offers []string
		change func(*Letter)
		to     string
		status string // "": it is taken
		heard  string
	}{
		"8-bit text":             {nil, eight, "a@partner.example", "5.6.3", ""},
		"8-bit text taken":       {[]string{"8bitmime"}, eight, "a@partner.example", "", "BODY=8BITMIME"},
		"UTF-8 header":           {[]string{"8BITMIME"}, header, "a@partner.example", "5.6.7", ""},
		"UTF-8 header taken":     {[]string{"8BITMIME", "SMTPUTF8"}, header, "a@partner.example", "", "SMTPUTF8"},
		"UTF-8 recipient":        {nil, nil, "陳@partner.example", "5.6.7", ""},
		"UTF-8 recipient taken":  {[]string{"SMTPUTF8"}, nil, "陳@partner.example", "", "SMTPUTF8"},
		"domain in UTF-8, taken": {nil, nil, "a@例子.example", "", "MAIL FROM:<alice@works.gov.example>"},
	} {
		t.Run(name, func(t *testing.T) {
			sk := &sink{offers: c.offers}
			bubble(t, sk, nil, func(p *post) {
				p.letter(c.change, c.to)
				after(time.Second)
				if c.status != "" {
					p.expect(0, 1, 0)
					if !strings.Contains(p.told()[0], "Status: "+c.status+"\r\n") {
						t.Errorf("report:\n%s", p.told()[0])
					}
					return
				}
				p.expect(1, 0, 0)
				if !strings.Contains(strings.Join(sk.lines, "\n"), c.heard) {
					t.Errorf("heard %q", sk.lines)
				}
			})
		})
	}
}

// TestOutcomeThatCannotBeSaved: an item whose fate is known in memory alone is not touched again.
func TestOutcomeThatCannotBeSaved(t *testing.T) {
	sk := &sink{}
	testkit.Bubble(t, func(t *testing.T) {
		p := newPost(t, sk, nil)
		p.q.o.Store = &failing{Store: p.s, err: mail.E(mail.Full, "", nil)}
		p.q.Run(p)
		p.letter(nil, "someone@partner.example")
		after(time.Hour) // the disk is full, and then broken
		p.expect(1, 0, 1)
		p.q.o.Store.(*failing).set(mail.E(mail.Unavailable, "", nil))
		after(time.Hour)
		p.expect(1, 0, 1)
		id, err := storage.ParseQueueID(p.listing()[0].Item)
		p.must(err)
		if err := p.q.Retry(context.Background(), id); mail.KindOf(err) != mail.Busy {
			t.Errorf("retry: %v", err)
		}
		p.close()
		p.open()
		p.q.Run(p)
		after(time.Minute)
		p.expect(2, 0, 0)
		p.letter(nil, "someone@partner.example")
		p.close()
	})
}

// failing is a store that saves nothing.
type failing struct {
	Store
	mu  sync.Mutex
	err error
}

func (f *failing) set(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failing) Requeue(context.Context, storage.QueueID, storage.QueueItem) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failing) Unqueue(context.Context, storage.QueueID) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// TestWordsBeforeTLS: what a server, or somebody on the line, says after the go-ahead for TLS and before it.
func TestWordsBeforeTLS(t *testing.T) {
	sk := &sink{tls: &tls.Config{}}
	bubble(t, sk, func(o *Options) {
		o.Dial = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer theirs.Close()
				r := bufio.NewReader(theirs)
				for _, say := range []string{"220 hello\r\n", "250-x\r\n250 STARTTLS\r\n", "220 go\r\n250 and this for later\r\n"} {
					if _, err := io.WriteString(theirs, say); err != nil {
						return
					}
					if _, err := r.ReadString('\n'); err != nil {
						return
					}
				}
			}()
			return ours, nil
		}
	}, func(p *post) {
		p.letter(nil, "someone@partner.example")
		after(time.Second)
		p.expect(0, 0, 1)
		if r := p.listing()[0].Recipients[0]; r.Status != "4.5.0" {
			t.Errorf("%+v", r)
		}
	})
}
