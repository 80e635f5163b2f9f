package auth

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// fakeDirectory knows alice with the password "good".
type fakeDirectory struct {
	mu    sync.Mutex
	binds int
	err   error // what Bind answers in place of a decision
}

func (f *fakeDirectory) Bind(_ context.Context, name, password string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.binds++
	if f.err != nil {
		return f.err
	}
	if strings.EqualFold(name, "alice") && password == "good" {
		return nil
	}
	return mail.E(mail.AuthFailed, "something else", nil)
}

func (f *fakeDirectory) Principal(context.Context, string) (mail.Principal, error) {
	return mail.Principal{UID: "alice"}, nil
}

// fixture has a clock that moves only when a log-in waits or the test says so.
type fixture struct {
	*Authenticator
	dir      *fakeDirectory
	now      time.Time
	waited   time.Duration
	outcomes []Outcome
}

func newFixture(o Options) *fixture {
	f := &fixture{dir: &fakeDirectory{}, now: time.Unix(1e9, 0)}
	o.Directory = f.dir
	o.Now = func() time.Time { return f.now }
	o.Wait = func(_ context.Context, d time.Duration) error {
		f.waited += d
		f.now = f.now.Add(d)
		return nil
	}
	o.Outcome = func(x Outcome) { f.outcomes = append(f.outcomes, x) }
	f.Authenticator = New(o)
	return f
}

func (f *fixture) login(from, name, password string) error {
	_, err := f.Login(context.Background(), mail.Client{Remote: from, Protocol: "imap"}, name, password)
	return err
}

const there = "192.0.2.1:4000"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestLogin(t *testing.T) {
	f := newFixture(Options{})
	p, err := f.Login(context.Background(), mail.Client{Remote: there}, "alice", "good")
	if err != nil || p.UID != "alice" {
		t.Fatal(p, err)
	}
	var texts []string
	for _, c := range [][2]string{{"alice", "bad"}, {"nobody", "bad"}, {"", "x"}, {"alice", ""}, {"a*", "x"}, {"a\nb", "x"}, {"%d", "x"}, {"a)(uid=*", "x"}, {strings.Repeat("a", 600), "x"}, {"alice", "\xff"}} {
		err := f.login(there, c[0], c[1])
		if mail.KindOf(err) != mail.AuthFailed {
			t.Errorf("%q: %v", c, err)
		}
		texts = append(texts, mail.PublicOf(err))
	}
	for _, s := range texts {
		if s != texts[0] || s == "" {
			t.Errorf("different texts: %q", texts)
		}
	}
	if f.dir.binds != 3 {
		t.Errorf("malformed names reached the directory: %d binds", f.dir.binds)
	}
	if len(f.outcomes) != 11 || f.outcomes[0].Principal.UID != "alice" || f.outcomes[2].Name != "nobody" || f.outcomes[5].Name != "" {
		t.Errorf("outcomes: %+v", f.outcomes)
	}
	f.dir.err = errors.New("down")
	if err := f.login(there, "bob", "x"); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("directory down: %v", err)
	}
}

func TestVerifiedCredentials(t *testing.T) {
	f := newFixture(Options{})
	for range 3 {
		if err := f.login(there, "alice", "good"); err != nil {
			t.Fatal(err)
		}
	}
	if f.dir.binds != 1 {
		t.Errorf("%d binds for three log-ins", f.dir.binds)
	}
	if f.login(there, "alice", "bad") == nil || f.dir.binds != 2 {
		t.Error("another password was believed")
	}
	if f.login("198.51.100.9:1", "alice", "good"); f.dir.binds != 3 {
		t.Error("a credential was believed from another address")
	}
	if f.login(there, "uid=alice,dc=evil", "good") == nil {
		t.Error("a credential was believed under another name")
	}
	binds := f.dir.binds
	f.Changed()
	if f.login(there, "alice", "good"); f.dir.binds != binds+1 {
		t.Error("a change of the directory did not end what was remembered")
	}
	f.now = f.now.Add(6 * time.Minute)
	if f.login(there, "alice", "good"); f.dir.binds != binds+2 {
		t.Error("remembered for too long")
	}
}

func TestAccountThrottle(t *testing.T) {
	f := newFixture(Options{})
	for i := range 5 {
		f.login(fmt.Sprintf("192.0.2.%d:1", i), "alice", fmt.Sprint(i))
	}
	if f.waited != 0 {
		t.Errorf("the free failures waited %v", f.waited)
	}
	f.login("192.0.2.9:1", "alice", "5")
	if f.waited != time.Second {
		t.Errorf("waited %v, want 1s", f.waited)
	}
	for i := range 20 {
		f.login(fmt.Sprintf("192.0.3.%d:1", i), "ALICE", fmt.Sprint(100+i))
	}
	err := f.login("198.51.100.1:1", "alice", "good")
	if mail.KindOf(err) != mail.Busy {
		t.Errorf("after many failures: %v", err)
	}
	f.now = f.now.Add(time.Hour)
	if err := f.login("198.51.100.1:1", "alice", "good"); err != nil {
		t.Errorf("after an hour: %v", err)
	}
}

func TestOwnerIsNotLockedOut(t *testing.T) {
	f := newFixture(Options{})
	if err := f.login(there, "alice", "good"); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		f.login(fmt.Sprintf("198.51.100.%d:1", i), "alice", fmt.Sprint(i))
	}
	waited := f.waited
	if err := f.login(there, "alice", "good"); err != nil || f.waited != waited {
		t.Errorf("the owner waits for strangers: %v", err)
	}
	// Somebody at the same address guesses: now nothing remembered helps to find out.
	for i := range 10 {
		f.login(there, "alice", fmt.Sprint("x", i))
	}
	if err := f.login(there, "alice", "good"); mail.KindOf(err) != mail.Busy {
		t.Errorf("a guess was answered at once: %v", err)
	}
}

func TestSamePasswordAgainCountsOnce(t *testing.T) {
	f := newFixture(Options{})
	for range 100 {
		f.login(there, "alice", "old")
	}
	if f.waited != 0 {
		t.Errorf("waited %v", f.waited)
	}
	if err := f.login(there, "alice", "good"); err != nil {
		t.Error(err)
	}
}

func TestAddressThrottle(t *testing.T) {
	for _, c := range []struct {
		remote func(i int) string
		exempt []netip.Prefix
		slow   bool
	}{
		{func(int) string { return there }, nil, true},
		{func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i+1) }, nil, true}, // one /64
		{func(i int) string { return fmt.Sprintf("[2001:db8:0:%x::1]:1", i+1) }, nil, false},
		{func(int) string { return "127.0.0.1:9" }, nil, true},
		{func(int) string { return "127.0.0.1:9" }, loopback, false},
		{func(int) string { return "[::ffff:127.0.0.1]:9" }, loopback, false},
		{func(int) string { return "pipe" }, nil, false},
	} {
		f := newFixture(Options{Exempt: c.exempt})
		for i := range 40 {
			f.login(c.remote(i), fmt.Sprintf("user%d", i), "x")
		}
		if slow := f.waited > 0; slow != c.slow {
			t.Errorf("%s: waited %v", c.remote(0), f.waited)
		}
	}
}

func TestThrottleMemory(t *testing.T) {
	f := newFixture(Options{Exempt: loopback, Limits: Limits{Entries: 100, Credentials: 10}})
	for i := range 8 {
		f.login("127.0.0.1:1", "alice", fmt.Sprint(i))
	}
	for i := range 1000 {
		f.login("127.0.0.1:1", fmt.Sprintf("user%d", i), "x")
	}
	if n := len(f.byAccount.keys); n > 100 {
		t.Errorf("%d accounts remembered", n)
	}
	if f.byAccount.keys["alice"] == nil {
		t.Error("made-up names washed away the one under attack")
	}
	for i := range 100 {
		f.verified.put([32]byte{byte(i)}, mail.Principal{}, 0)
	}
	if n := len(f.verified.entries); n > 10 {
		t.Errorf("%d credentials remembered", n)
	}
}

func TestWaitingIsBounded(t *testing.T) {
	f := newFixture(Options{Exempt: loopback, Limits: Limits{Waiting: 1}})
	for i := range 5 {
		f.login("127.0.0.1:1", "alice", fmt.Sprint(i))
	}
	f.waiting <- struct{}{} // somebody waits already
	if err := f.login("127.0.0.1:1", "alice", "good"); mail.KindOf(err) != mail.Busy {
		t.Error(err)
	}
	<-f.waiting
	if err := f.login("127.0.0.1:1", "alice", "good"); err != nil {
		t.Error(err)
	}
}

func TestWaitEndsWithTheClient(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := wait(ctx, time.Hour); err == nil {
		t.Error("waited an hour")
	}
}

// TestThrottleLimits gives each limit another value than its default.
func TestThrottleLimits(t *testing.T) {
	f := newFixture(Options{Limits: Limits{Free: 1, FreeFrom: 1000, First: 3 * time.Second, Longest: 5 * time.Second, Patience: 6 * time.Second, Forget: time.Minute}})
	f.login(there, "alice", "0")
	for i, want := range []time.Duration{3, 5, 5} {
		before := f.waited
		f.login(there, "alice", fmt.Sprint(i+1))
		if d := f.waited - before; d != want*time.Second {
			t.Errorf("attempt %d waited %v, want %ds", i+2, d, want)
		}
	}
	f.byAccount.keys["alice"].next = f.now.Add(7 * time.Second)
	if err := f.login(there, "alice", "x"); mail.KindOf(err) != mail.Busy {
		t.Errorf("beyond patience: %v", err)
	}
	f.now = f.now.Add(61 * time.Second)
	if before := f.waited; f.login(there, "alice", "good") != nil || f.waited != before {
		t.Error("not forgotten after a minute")
	}

	f = newFixture(Options{Limits: Limits{FreeFrom: 2}})
	for i := range 3 {
		f.login(there, fmt.Sprint("user", i), "x")
	}
	if f.waited != time.Second {
		t.Errorf("the third failure from one address waited %v", f.waited)
	}

	f = newFixture(Options{Limits: Limits{CredentialTime: time.Second}})
	f.login(there, "alice", "good")
	f.now = f.now.Add(2 * time.Second)
	if f.login(there, "alice", "good"); f.dir.binds != 2 {
		t.Errorf("%d binds: believed for too long", f.dir.binds)
	}
}
