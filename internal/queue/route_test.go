package queue

import (
	"context"
	"net"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// zone is a name service.
type zone struct {
	mx    map[string][]*net.MX
	hosts map[string][]string
	fails map[string]bool
}

func (z *zone) failure(name string) error {
	return &net.DNSError{Name: name, IsNotFound: !z.fails[name], IsTemporary: z.fails[name]}
}

func (z *zone) LookupMX(_ context.Context, name string) ([]*net.MX, error) {
	if list := z.mx[name]; list != nil {
		return list, nil
	}
	return nil, z.failure(name)
}

func (z *zone) LookupHost(_ context.Context, name string) ([]string, error) {
	if list := z.hosts[name]; list != nil {
		return list, nil
	}
	return nil, z.failure(name)
}

func TestWays(t *testing.T) {
	ctx := context.Background()
	q, err := New(Options{
		Hostname: "mail.gov.example", Store: &noStore{}, MX: true, MXTLS: Verify,
		Routes: []Route{{Domain: "Partner.example", Host: "127.0.0.1:2525"}, {Domain: "例子.example", Host: "[::1]:25"}},
		Resolver: &zone{
			mx: map[string][]*net.MX{
				"two.example.":  {{Host: "b.two.example.", Pref: 20}, {Host: "a.two.example.", Pref: 10}},
				"null.example.": {{Host: ".", Pref: 0}},
				"loop.example.": {{Host: "Mail.gov.example.", Pref: 10}, {Host: "b.two.example.", Pref: 20}},
				"half.example.": {{Host: "c.half.example.", Pref: 10}, {Host: "gone.half.example.", Pref: 20}},
				"same.example.": {{Host: "b.two.example.", Pref: 10}, {Host: "mail.gov.example.", Pref: 10}, {Host: "a.two.example.", Pref: 10}},
				"back.example.": {{Host: "a.two.example.", Pref: 5}, {Host: "mail.gov.example.", Pref: 10}, {Host: "b.two.example.", Pref: 20}},
			},
			hosts: map[string][]string{
				"a.two.example.": {"192.0.2.1", "2001:db8::1"}, "b.two.example.": {"192.0.2.2"}, "bare.example.": {"192.0.2.3"},
				"local.example.": {"127.0.0.1", "::1", "0.0.0.0", "0.1.2.3", "::", "::ffff:127.0.0.1", "169.254.169.254", "fe80::1%eth0", "224.0.0.1", "255.255.255.255"},
				"some.example.":  {"127.0.0.1", "10.0.0.1"},
			},
			fails: map[string]bool{"slow.example.": true, "c.half.example.": true},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]string{
		"partner.example":     "127.0.0.1:2525",
		"PARTNER.example":     "127.0.0.1:2525",
		"xn--fsqu00a.example": "[::1]:25",
		"例子.example":          "[::1]:25",
		"two.example":         "192.0.2.1:25 [2001:db8::1]:25 192.0.2.2:25",
		"back.example":        "192.0.2.1:25 [2001:db8::1]:25",
		"bare.example":        "192.0.2.3:25",
		"null.example":        "5.1.10",
		"loop.example":        "5.4.6",
		"none.example":        "5.1.2",
		"slow.example":        "4.4.3",
		"half.example":        "4.4.3",       // one of its servers is not there, but the other may be another day
		"same.example":        "5.4.6",       // those as good as ourselves would bring it back, too
		"local.example":       "5.4.4",       // nobody's DNS sends us to ourselves
		"some.example":        "10.0.0.1:25", // a private address is good
	} {
		w, err := q.way(domain)
		if err != nil {
			t.Errorf("%s: %v", domain, err)
			continue
		}
		list, o := q.targets(ctx, w)
		got := ""
		for i, x := range list {
			if i > 0 {
				got += " "
			}
			got += x.addr
		}
		if o != nil {
			got = o.status
		}
		if got != want {
			t.Errorf("%s goes to %q, want %q", domain, got, want)
		}
	}
	if _, err := q.way("[192.0.2.1]"); mail.KindOf(err) != mail.Refused {
		t.Errorf("an address literal: %v", err)
	}
}

func TestNoWay(t *testing.T) {
	none, err := New(Options{Hostname: "h", Store: &noStore{}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := none.Way("partner.example"); mail.PublicOf(err) != "mail to other domains is not served yet" {
		t.Error(err)
	}
	some, err := New(Options{Hostname: "h", Store: &noStore{}, Routes: []Route{{Domain: "partner.example", Host: "x:25"}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := some.Way("elsewhere.example"); mail.KindOf(err) != mail.Refused {
		t.Error(err)
	}
	for _, bad := range [][]Route{{{Domain: "x.example", Host: "nowhere"}}, {{Domain: "", Host: "x:25"}}, {{Domain: "*", Host: "x:25", TLS: "maybe"}}, {{Domain: "*", Host: "x:25"}, {Domain: "*", Host: "y:25"}}} {
		if _, err := New(Options{Hostname: "h", Store: &noStore{}, Routes: bad}); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

type noStore struct{ Store }

func TestPause(t *testing.T) {
	q, err := New(Options{Hostname: "h", Store: &noStore{}, Jitter: func() float64 { return 1 }})
	if err != nil {
		t.Fatal(err)
	}
	for attempt, want := range map[int]time.Duration{0: 5, 1: 5, 2: 10, 3: 20, 7: 240, 100: 240} {
		if got := q.pause(attempt); got != want*time.Minute*5/4 {
			t.Errorf("after attempt %d: %v", attempt, got)
		}
	}
}
