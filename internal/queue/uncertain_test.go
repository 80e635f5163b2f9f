package queue

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
	"cmmpd/storage"
)

// TestAlwaysUncertain: servers that take every copy and never say so get two, and the sender hears the truth.
func TestAlwaysUncertain(t *testing.T) {
	for name, reply := range map[string]string{
		"drops":                   "",
		"says nothing":            "...",
		"half a reply":            "250 2.0",
		"half a multi-line reply": "250-2.0.0 so\r\n",
		"nonsense":                "hello\r\n",
		"another go-ahead":        "354 go on\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			sk := &sink{data: func(int, string) string { return reply }}
			bubble(t, sk, nil, func(p *post) {
				p.letter(nil, "someone@partner.example")
				after(4 * time.Minute)
				p.expect(1, 0, 1)
				after(5 * 24 * time.Hour)
				p.expect(2, 1, 0)
				report := p.told()[0]
				for _, want := range []string{"Action: failed\r\nStatus: 4.", "ask before you send it again", "uncertain", "not certain whether it was"} {
					if !strings.Contains(report, want) {
						t.Errorf("the report does not say %q:\n%s", want, report)
					}
				}
			})
		})
	}
}

// TestUncertainThenCertain: what a server says at last holds, and the report of a later failure does not forget the doubt.
func TestUncertainThenCertain(t *testing.T) {
	for name, c := range map[string]struct {
		replies        []string // to each copy; the last one goes on
		taken, reports int
		status         string
	}{
		"taken":                            {[]string{"", "250 2.0.0 taken\r\n"}, 2, 0, ""},
		"refused":                          {[]string{"", "554 5.7.1 no\r\n"}, 2, 1, "Status: 5.7.1"},
		"a certain no between two doubts":  {[]string{"", "451 4.3.0 later\r\n", "451 4.3.0 later\r\n", "..."}, 4, 1, "Status: 4.4.2"},
		"a doubt, and no for days after":   {[]string{"", "451 4.3.0 later\r\n"}, -1, 2, "Status: 5.4.7"},
		"no for an hour, and then a doubt": {[]string{"451 4.3.0 later\r\n", "451 4.3.0 later\r\n", "", "250 ok\r\n"}, 4, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			sk := &sink{data: func(n int, _ string) string { return c.replies[min(n, len(c.replies))-1] }}
			bubble(t, sk, nil, func(p *post) {
				p.letter(nil, "someone@partner.example")
				after(6 * 24 * time.Hour)
				if c.taken < 0 {
					c.taken = len(sk.taken())
				}
				p.expect(c.taken, c.reports, 0)
				for _, report := range p.told() {
					if !strings.Contains(report, "uncertain: may have arrived") {
						t.Errorf("the report forgets the doubt:\n%s", report)
					}
				}
				if c.reports > 0 && !strings.Contains(p.told()[c.reports-1], c.status) {
					t.Errorf("the report does not say %q:\n%s", c.status, p.told()[c.reports-1])
				}
			})
		})
	}
}

// TestDoubtIsTheirs: who was answered for is not concerned by the doubt about others of the same item.
func TestDoubtIsTheirs(t *testing.T) {
	var later atomic.Bool
	later.Store(true)
	sk := &sink{
		rcpt: func(line string) string {
			switch {
			case strings.Contains(line, "gone@"):
				return "550 5.1.1 unknown\r\n"
			case strings.Contains(line, "later@") && later.Load():
				return "450 4.2.1 later\r\n"
			}
			return "250 ok\r\n"
		},
		data: func(int, string) string { return "..." },
	}
	bubble(t, sk, nil, func(p *post) {
		p.letter(nil, "gone@partner.example", "some@partner.example", "later@partner.example")
		after(4 * time.Minute)
		p.expect(1, 1, 1)
		if r := p.told()[0]; strings.Contains(r, "uncertain") || strings.Contains(r, "some@") {
			t.Errorf("report:\n%s", r)
		}
		got := map[string]ListingRecipient{}
		for _, r := range p.listing()[0].Recipients {
			got[r.Address] = r
		}
		if a, b, c := got["gone@partner.example"], got["some@partner.example"], got["later@partner.example"]; a.State != "reported" || a.Uncertain != 0 ||
			b.State != "waiting" || b.Uncertain != 1 || c.State != "waiting" || c.Uncertain != 0 {
			t.Errorf("%+v", got)
		}
		sk.say(nil)
		later.Store(false)
		after(time.Hour)
		p.expect(2, 1, 0)
	})
}

// TestKilledInDoubt: the program ends while the reply is awaited, and nothing of the attempt is saved after that. What was
// put down meanwhile is enough: no third copy, and a report.
func TestKilledInDoubt(t *testing.T) {
	sk := &sink{data: func(int, string) string { return "..." }}
	testkit.Bubble(t, func(t *testing.T) {
		p := newPost(t, sk, nil)
		kill := func() {
			p.q.o.Store.(*mortal).dead.Store(true)
			p.close()
			p.open()
			p.q.o.Store = &mortal{Store: p.s}
			p.q.Run(p)
		}
		p.q.o.Store = &mortal{Store: p.s}
		p.q.Run(p)
		p.letter(nil, "someone@partner.example", "other@partner.example")
		after(2 * doubtAfter)
		p.expect(1, 0, 1)
		kill()
		after(time.Minute)
		p.expect(1, 0, 1) // it waits as after any attempt
		if r := p.listing()[0].Recipients[0]; r.Uncertain != 1 || r.Status != "4.4.2" {
			t.Errorf("%+v", r)
		}
		after(4*time.Minute + 2*doubtAfter)
		p.expect(2, 0, 1)
		kill()
		after(time.Hour)
		p.expect(2, 1, 0)
		if r := p.told()[0]; strings.Count(r, "Action: failed\r\nStatus: 4.4.2\r\n") != 2 || !strings.Contains(r, "ask before you send it again") {
			t.Errorf("report:\n%s", r)
		}
		p.close()
	})
}

// TestSlowIsNotDoubtful: a doubt that was put down while the server took its time is gone when it answers.
func TestSlowIsNotDoubtful(t *testing.T) {
	sk := &sink{data: func(n int, _ string) string {
		time.Sleep(2 * doubtAfter)
		if n < 4 {
			return "451 4.3.0 later\r\n"
		}
		return "250 2.0.0 taken\r\n"
	}}
	bubble(t, sk, nil, func(p *post) {
		p.letter(nil, "someone@partner.example")
		after(3 * doubtAfter)
		if r := p.listing()[0].Recipients[0]; r.Uncertain != 0 || r.Status != "4.3.0" {
			t.Errorf("%+v", r)
		}
		after(time.Hour)
		p.expect(4, 0, 0)
	})
}

// mortal is a store that saves until the program is dead.
type mortal struct {
	Store
	dead atomic.Bool
}

var errDead = mail.E(mail.Unavailable, "", errors.New("killed"))

func (m *mortal) Requeue(ctx context.Context, id storage.QueueID, item storage.QueueItem) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.Requeue(ctx, id, item)
}

func (m *mortal) Unqueue(ctx context.Context, id storage.QueueID) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Store.Unqueue(ctx, id)
}

// TestItemOfVersion1: what an older program queued is read, and becomes of this version when it is saved.
func TestItemOfVersion1(t *testing.T) {
	const old = `{"version":1,"id":"x","from":"alice@works.gov.example","accepted":5,"label":"","confidential":false,"verified-tls":false,` +
		`"utf8":false,"eight-bit":false,"attempts":1,"warned":false,"to":[{"address":"a@b.example","state":"waiting","status":"4.4.2","text":"t","host":"","last":7}]}`
	it, err := decodeItem([]byte(old))
	if err != nil || it.Version != itemVersion || it.To[0].Uncertain != 0 || it.To[0].Last != 7 {
		t.Fatalf("%+v, %v", it, err)
	}
	b, err := it.encode()
	if err != nil || string(b) != strings.Replace(old, `"version":1`, `"version":2`, 1) {
		t.Fatalf("%s, %v", b, err)
	}
	mixed := strings.Replace(old, `"last":7`, `"last":7,"uncertain":1`, 1)
	if _, err := decodeItem([]byte(mixed)); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("version 1 with a field of version 2: %v", err)
	}
	if it, err := decodeItem([]byte(strings.Replace(mixed, `"version":1`, `"version":2`, 1))); err != nil || it.To[0].Uncertain != 1 {
		t.Errorf("%+v, %v", it, err)
	}
	if _, err := decodeItem([]byte(`{"version":3}`)); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("version 3: %v", err)
	}
}
