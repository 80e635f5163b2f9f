package queue

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
	"cmmpd/storage"
)

// TestUnaskedReplies: once a server says what nothing was asked for, none of its replies can be believed.
func TestUnaskedReplies(t *testing.T) {
	for name, c := range map[string]struct {
		sink    *sink
		to      []string
		reports int
	}{
		"the message's reply before the message": {&sink{rcpt: func(string) string { return "250 ok\r\n354 go\r\n250 2.0.0 taken\r\n" }}, []string{"a@partner.example"}, 0},
		"a refusal too many":                     {&sink{mail: func(string) string { return "250 ok\r\n550 5.1.1 unknown\r\n" }}, []string{"a@partner.example"}, 0},
		"354 to RCPT":                            {&sink{rcpt: func(string) string { return "354 go\r\n" }}, []string{"a@partner.example"}, 0},
		"before the greeting ends":               {&sink{greeting: func() string { return "220 x\r\n250 2.0.0 taken\r\n" }}, []string{"a@partner.example"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, c.sink, nil, func(p *post) {
				p.letter(nil, c.to...)
				after(time.Minute)
				p.expect(0, c.reports, 1)
				if got := p.listing()[0].Recipients[0]; got.Status != "4.5.0" {
					t.Errorf("%+v", got)
				}
			})
		})
	}
}

// TestWrongClock: what was queued while the clock was a year ahead leaves when it is right again, and its lifetime ends.
func TestWrongClock(t *testing.T) {
	var ahead atomic.Int64
	ahead.Store(int64(365 * 24 * time.Hour))
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	sk := &sink{rcpt: func(line string) string {
		if strings.Contains(line, "never@") {
			return "451 4.2.0 later\r\n"
		}
		return "250 ok\r\n"
	}}
	bubble(t, sk, func(o *Options) { o.Now, o.WarnAfter = now, -1 }, func(p *post) {
		p.down(true)
		p.letter(nil, "a@partner.example")
		p.letter(nil, "never@partner.example")
		after(time.Second)
		p.expect(0, 0, 2)
		p.close()
		ahead.Store(0)
		p.down(false)
		p.open()
		p.q.Run(p)
		after(time.Second)
		p.expect(1, 0, 1)
		after(6 * 24 * time.Hour)
		p.expect(1, 1, 0)
	})
}

// TestReportWithoutTheirWords: if policy refuses a report, it is for what others wrote into it.
func TestReportWithoutTheirWords(t *testing.T) {
	sk := &sink{rcpt: func(string) string { return "550 5.1.1 the holder of A123456(3) has left\r\n" }}
	bubble(t, sk, nil, func(p *post) {
		p.refuseIf = func(raw string) error {
			if strings.Contains(raw, "A123456(3)") || strings.Contains(raw, "budget") {
				return mail.E(mail.Refused, "no", nil)
			}
			return nil
		}
		p.letter(nil, "a@partner.example")
		after(time.Second)
		p.expect(0, 1, 0)
		if r := p.told()[0]; !strings.Contains(r, "Final-Recipient: rfc822; a@partner.example\r\nAction: failed\r\nStatus: 5.1.1\r\n") || len(p.events) > 0 {
			t.Errorf("events %v, report:\n%s", p.events, r)
		}
	})
}

func TestPlainError(t *testing.T) {
	err := &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "relay.internal", Server: "10.0.0.53:53"}}
	if got := plainError(err); got != "no such host" {
		t.Error(got)
	}
	if got := plainError(&net.OpError{Op: "dial", Err: errors.New("connection refused")}); got != "connection refused" {
		t.Error(got)
	}
}

// TestLongWords: the lines of a report stay within 998 octets, whatever a server says.
func TestLongWords(t *testing.T) {
	sk := &sink{rcpt: func(string) string { return "550-5.1.1 \x00\x1b[31m" + strings.Repeat("y", 1900) + "\r\n550 z\r\n" }}
	bubble(t, sk, nil, func(p *post) {
		p.letter(nil, "a@partner.example")
		after(time.Second)
		p.expect(0, 1, 0)
		for _, line := range strings.Split(p.told()[0], "\r\n") {
			if len(line) > 998 || strings.ContainsAny(line, "\r\n\x00\x1b") {
				t.Errorf("%d octets: %q", len(line), line)
			}
		}
	})
}

// damaged is a store of which no item can be opened.
type damaged struct{ Store }

func (damaged) Queued(context.Context, storage.QueueID) (*storage.Queued, error) {
	return nil, mail.E(mail.Corrupt, "", nil)
}

// TestRemoveDamaged: an item that cannot be opened, and that a courier waits for, can be taken out at once.
func TestRemoveDamaged(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		p := newPost(t, &sink{}, nil)
		defer p.close()
		p.letter(nil, "a@partner.example")
		p.q.o.Store = damaged{p.s}
		p.q.Run(p)
		after(time.Second)
		begun := time.Now()
		l := p.listing()
		if len(l) != 1 || l[0].State != "damaged" {
			t.Fatalf("%+v", l)
		}
		id, err := storage.ParseQueueID(l[0].Item)
		p.must(err)
		p.must(p.q.Remove(context.Background(), id))
		if time.Since(begun) > time.Second {
			t.Errorf("it took %v", time.Since(begun))
		}
		p.expect(0, 0, 0)
	})
}

// TestReleaseAtOnce: what an operator lets go is tried although nobody answered lately.
func TestReleaseAtOnce(t *testing.T) {
	bubble(t, &sink{}, nil, func(p *post) {
		p.down(true)
		p.letter(nil, "a@partner.example")
		after(time.Second)
		id, err := storage.ParseQueueID(p.listing()[0].Item)
		p.must(err)
		p.must(p.q.Hold(context.Background(), id))
		p.down(false)
		p.must(p.q.Release(context.Background(), id))
		after(time.Second)
		p.expect(1, 0, 0)
	})
}
