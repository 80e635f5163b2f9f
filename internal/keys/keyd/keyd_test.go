package keyd

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// softToken is a token in memory, whose PIN is "1234".
type softToken struct {
	mu     sync.Mutex
	pin    string
	tries  int
	gone   bool          // taken out
	hang   chan struct{} // not nil: every use waits for it
	sign   ed25519.PrivateKey
	secret []byte
}

func newSoftToken() *softToken {
	seed := sha256.Sum256([]byte("seed"))
	return &softToken{sign: ed25519.NewKeyFromSeed(seed[:]), secret: seed[:]}
}

func (s *softToken) Label() string { return "soft" }

func (s *softToken) LogIn(pin []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tries++
	if s.gone {
		s.pin = string(pin)
		return mail.E(mail.Unavailable, "", errors.New("no token"))
	}
	if string(pin) != "1234" {
		return mail.E(mail.AuthFailed, "", errors.New("wrong PIN"))
	}
	s.pin = string(pin)
	return nil
}

func (s *softToken) LogOut() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pin = ""
	return nil
}

func (s *softToken) SetPIN(old, _ []byte) error {
	if string(old) != "1234" {
		return mail.E(mail.AuthFailed, "", errors.New("wrong PIN"))
	}
	return s.Ping()
}

func (s *softToken) Ping() error {
	s.mu.Lock()
	gone, open, hang := s.gone, s.pin == "1234", s.hang
	s.mu.Unlock()
	if hang != nil {
		<-hang
	}
	if gone || !open {
		return mail.E(mail.Unavailable, "", errors.New("no token"))
	}
	return nil
}

func (s *softToken) List() ([]keys.Info, error) {
	k, err := s.Public("audit")
	return []keys.Info{k, {Name: "retired x audit", Kind: keys.KindHMAC256, Retired: true}}, err
}

func (s *softToken) Public(name string) (keys.Info, error) {
	der, err := x509.MarshalPKIXPublicKey(s.sign.Public())
	return keys.Info{Name: name, Kind: keys.KindEd25519, Public: der}, errors.Join(err, s.Ping())
}
func (s *softToken) Generate(string, keys.Kind) error { return s.Ping() }
func (s *softToken) Retire(string) error              { return s.Ping() }
func (s *softToken) Unretire(string) error            { return s.Ping() }
func (s *softToken) Sign(_ string, _ Mechanism, m []byte) ([]byte, error) {
	return ed25519.Sign(s.sign, m), s.Ping()
}

func (s *softToken) Decrypt(_ string, _ Mechanism, b []byte) ([]byte, error) {
	if string(b) == "bad" {
		return nil, mail.E(mail.Corrupt, "", nil)
	}
	return b, s.Ping()
}
func (s *softToken) Agree(_ string, peer []byte) ([]byte, error) { return peer, s.Ping() }
func (s *softToken) Wrap(_ string, plain, aad []byte) ([]byte, error) {
	return append(bytes.Clone(aad), plain...), s.Ping()
}

func (s *softToken) Unwrap(_ string, wrapped, aad []byte) ([]byte, error) {
	plain, ok := bytes.CutPrefix(wrapped, aad)
	if !ok {
		return nil, mail.E(mail.Corrupt, "", nil)
	}
	return plain, s.Ping()
}

func (s *softToken) HMAC(_ string, data []byte) ([]byte, error) {
	m := hmac.New(sha256.New, s.secret)
	m.Write(data)
	return m.Sum(nil), s.Ping()
}

func (s *softToken) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// site is a keyd on soft tokens and a client.
type site struct {
	t             *testing.T
	path          string
	service, mail *softToken
	options       Options
	*Store

	ln     *net.UnixListener
	srv    *Server
	served chan error
}

func newSite(t *testing.T, change func(*Options)) *site {
	s := &site{t: t, path: filepath.Join(t.TempDir(), "keyd.sock"), service: newSoftToken(), mail: newSoftToken()}
	uid := []uint32{uint32(os.Getuid())}
	s.options = Options{Clients: uid, Operators: uid, Deadline: time.Minute, Log: slog.New(slog.DiscardHandler), Hung: func(what string) { panic(what) }}
	if change != nil {
		change(&s.options)
	}
	s.start()
	s.Store = NewStore(NewClient(s.path))
	t.Cleanup(func() {
		s.stop()
		s.must(s.Close())
	})
	return s
}

func (s *site) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) start() {
	o := s.options
	if o.Slots == nil {
		o.Slots = map[keys.Slot]Slot{keys.Service: {Token: s.service, PIN: []byte("1234")}, keys.Mail: {Token: s.mail}}
	}
	s.srv = NewServer(o)
	var err error
	s.ln, err = Listen(s.t.Context(), s.path, -1)
	s.must(err)
	s.served = make(chan error, 1)
	go func() { s.served <- s.srv.Serve(s.ln) }()
}

func (s *site) stop() {
	_ = s.ln.Close()
	<-s.served
	s.must(s.srv.Close())
}

func (s *site) audit() crypto.Signer {
	k, err := s.Signer(s.t.Context(), keys.Service, "audit")
	s.must(err)
	return k
}

func sign(k crypto.Signer) error {
	sig, err := k.Sign(nil, []byte("m"), crypto.Hash(0))
	if err == nil && !ed25519.Verify(k.Public().(ed25519.PublicKey), []byte("m"), sig) {
		return errors.New("bad signature")
	}
	return err
}

// TestResumes ends keyd under a daemon that goes on asking.
func TestResumes(t *testing.T) {
	s := newSite(t, nil)
	k := s.audit()
	s.must(sign(k))
	sealed, err := s.Wrap(t.Context(), keys.Service, "store", []byte("x"), nil)
	s.must(err)
	s.stop()
	if err := sign(k); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("without keyd: %v", err)
	}
	if _, err := s.Client().Status(t.Context(), keys.Service); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("status without keyd: %v", err)
	}
	if got, err := s.Unwrap(t.Context(), keys.Service, "store", sealed, nil); err != nil || string(got) != "x" {
		t.Errorf("what was derived before: %q, %v", got, err)
	}
	s.start()
	s.must(sign(k))
	s.stop()
	s.start()
	s.must(sign(k)) // the idle connection is stale
}

func TestSealed(t *testing.T) {
	s := newSite(t, nil)
	ctx := t.Context()
	c := s.Client()
	state := func(slot keys.Slot, want State) {
		t.Helper()
		if st, err := c.Status(ctx, slot); err != nil || st.State != want {
			t.Errorf("status of %s: %v, %v, want %v", slot, st, err, want)
		}
	}
	state(keys.Service, Open)
	state(keys.Mail, Sealed)
	state("other", Absent)
	_, err := s.Unwrap(ctx, keys.Mail, "platform", []byte("key"), nil)
	if !errors.Is(err, keys.ErrSealed) || mail.KindOf(err) != mail.Unavailable || mail.PublicOf(err) == "" {
		t.Errorf("unwrap: %v", err)
	}
	if err := c.Unseal(ctx, keys.Mail, []byte("1235")); mail.KindOf(err) != mail.AuthFailed {
		t.Errorf("wrong PIN: %v", err)
	}
	state(keys.Mail, Sealed)
	s.must(c.Unseal(ctx, keys.Mail, []byte("1234")))
	state(keys.Mail, Open)
	if err := c.Unseal(ctx, keys.Mail, []byte("1234")); mail.KindOf(err) != mail.Exists {
		t.Errorf("unsealed twice: %v", err)
	}
	wrapped, err := s.Wrap(ctx, keys.Mail, "platform", []byte("key"), []byte("aad"))
	s.must(err)
	if got, err := s.Unwrap(ctx, keys.Mail, "platform", wrapped, []byte("aad")); err != nil || string(got) != "key" {
		t.Errorf("unwrap: %q, %v", got, err)
	}
	s.must(c.Seal(ctx, keys.Mail))
	state(keys.Mail, Sealed)
}

// TestShares opens the slot with officers' shares.
func TestShares(t *testing.T) {
	first, list, err := shares.Split([]byte("1234"), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	var set atomic.Pointer[shares.Set]
	set.Store(first)
	var now atomic.Int64
	now.Store(1e18)
	mailToken := newSoftToken()
	s := newSite(t, func(o *Options) {
		o.Now = func() time.Time { return time.Unix(0, now.Load()) }
		o.Slots = map[keys.Slot]Slot{
			keys.Service: {Token: newSoftToken(), PIN: []byte("1234")},
			keys.Mail:    {Token: mailToken, Shares: func() (*shares.Set, error) { return shares.ParseSet(set.Load().Encode()) }},
		}
	})
	ctx, c := t.Context(), s.Client()
	bring := func(n, want int) {
		t.Helper()
		have, need, err := c.Share(ctx, keys.Mail, list[n].String())
		if err != nil || have != want || need != 2 {
			t.Errorf("share %d: %d of %d, %v", n+1, have, need, err)
		}
	}
	state := func(want State) {
		t.Helper()
		if st, err := c.Status(ctx, keys.Mail); err != nil || st.State != want {
			t.Errorf("%v, %v, want %v", st, err, want)
		}
	}
	if _, _, err := c.Share(ctx, keys.Service, list[0].String()); mail.KindOf(err) != mail.NotFound {
		t.Errorf("a slot without shares: %v", err)
	}
	if _, _, err := c.Share(ctx, keys.Mail, "cmmpd-share-1:AAAA"); mail.KindOf(err) != mail.Invalid {
		t.Errorf("no share: %v", err)
	}
	bring(0, 1)
	bring(0, 1) // the same again
	state(Sealed)
	now.Add(int64(shareWindow + time.Second))
	bring(1, 1) // the first was too long ago
	state(Sealed)
	bring(2, 2)
	state(Open)
	if err := c.SetPIN(ctx, keys.Mail, nil, []byte("new")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a new PIN without the old one: %v", err)
	}
	bring(0, 1)
	if err := c.SetPIN(ctx, keys.Mail, nil, []byte("new")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a new PIN with one share: %v", err)
	}
	bring(0, 1)
	bring(1, 2)
	s.must(c.SetPIN(ctx, keys.Mail, nil, []byte("new")))
	bring(0, 1) // they count once
	bring(1, 2)
	now.Add(int64(shareWindow + time.Second))
	if err := c.SetPIN(ctx, keys.Mail, nil, []byte("new")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a new PIN with shares of long ago: %v", err)
	}
	s.must(c.Seal(ctx, keys.Mail))
	state(Sealed)
	old := list
	second, list, err := shares.Split([]byte("1234"), 2, 3)
	if err != nil {
		t.Fatal(err)
	}
	bring = func(n, want int) {
		t.Helper()
		if have, _, err := c.Share(ctx, keys.Mail, list[n].String()); err != nil || have != want {
			t.Errorf("share %d: %d, %v", n+1, have, err)
		}
	}
	set.Store(second)
	if _, _, err := c.Share(ctx, keys.Mail, old[1].String()); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a share of an old set: %v", err)
	}
	bring(2, 1) // what was brought of the old set does not count
	bring(1, 2)
	state(Open)
}

// TestPINIsTriedOnce has keyd begin with a wrong PIN: every further try would bring the token nearer to locking itself.
func TestPINIsTriedOnce(t *testing.T) {
	bad := newSoftToken()
	s := newSite(t, func(o *Options) { o.Slots = map[keys.Slot]Slot{keys.Service: {Token: bad, PIN: []byte("0000")}} })
	for range 3 {
		if _, err := s.Signer(t.Context(), keys.Service, "audit"); mail.KindOf(err) != mail.Unavailable || errors.Is(err, keys.ErrSealed) {
			t.Errorf("%v", err)
		}
	}
	bad.set(func() {
		if bad.tries != 1 {
			t.Errorf("the PIN was tried %d times", bad.tries)
		}
	})
	s.must(s.Client().Unseal(t.Context(), keys.Service, []byte("1234")))
	s.must(sign(s.audit()))
}

// TestTokenTakenOut begins without the token, which comes later, goes, and comes again.
func TestTokenTakenOut(t *testing.T) {
	tok := newSoftToken()
	tok.gone = true
	s := newSite(t, func(o *Options) { o.Slots = map[keys.Slot]Slot{keys.Service: {Token: tok, PIN: []byte("1234")}} })
	for _, gone := range []bool{true, false, true, false} {
		tok.set(func() { tok.gone = gone })
		want := Open
		if gone {
			want = Failed
		}
		if st, err := s.Client().Status(t.Context(), keys.Service); err != nil || st.State != want {
			t.Errorf("gone %v: %v, %v", gone, st, err)
		}
		if _, err := s.List(keys.Service); (mail.KindOf(err) == mail.Unavailable && err != nil) != gone {
			t.Errorf("gone %v: %v", gone, err)
		}
	}
}

// TestHangs has a library hang: keyd ends, and the daemon's request fails.
func TestHangs(t *testing.T) {
	hung := make(chan string, 1)
	s := newSite(t, func(o *Options) {
		o.Deadline = time.Millisecond
		o.Hung = func(what string) {
			if what == "status" { // a slow machine may take a millisecond for another
				hung <- what
			}
		}
	})
	k := s.audit()
	release := make(chan struct{})
	s.service.set(func() { s.service.hang = release })
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error, 1)
	go func() {
		_, err := s.Client().Status(ctx, keys.Service)
		failed <- err
	}()
	if what := <-hung; what != "status" {
		t.Errorf("%q hung", what)
	}
	cancel()
	if err := <-failed; mail.KindOf(err) != mail.Unavailable {
		t.Errorf("%v", err)
	}
	s.service.set(func() { s.service.hang = nil })
	close(release)
	s.must(sign(k))
}

func TestWhoMayDoWhat(t *testing.T) {
	nobody := []uint32{uint32(os.Getuid()) + 1}
	s := newSite(t, func(o *Options) { o.Operators = nobody })
	s.must(sign(s.audit()))
	c := s.Client()
	for what, err := range map[string]error{
		"generate": s.Generate(keys.Service, "x", keys.KindP256), "retire": s.Retire(keys.Service, "audit"),
		"unretire": s.Unretire(keys.Service, "retired x audit"),
		"unseal":   c.Unseal(t.Context(), keys.Mail, []byte("1234")), "seal": c.Seal(t.Context(), keys.Service),
	} {
		if mail.KindOf(err) != mail.Denied {
			t.Errorf("%s by a client: %v", what, err)
		}
	}
	stranger := newSite(t, func(o *Options) { o.Operators, o.Clients = nobody, nobody })
	if _, err := stranger.Client().Status(t.Context(), keys.Service); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("a stranger: %v", err)
	}
	// What a slot is not for.
	for _, r := range []request{
		{op: opWrap, slot: keys.Service, name: "store"}, {op: opUnwrap, slot: keys.Service, name: "store"}, {op: opDerive, slot: keys.Mail, name: "platform"},
	} {
		s := newSite(t, nil)
		s.must(s.Client().Unseal(t.Context(), keys.Mail, []byte("1234")))
		if _, err := s.Client().call(t.Context(), r); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%s in %s: %v", r.op, r.slot, err)
		}
	}
}

func TestUnwrapsAreBounded(t *testing.T) {
	var now atomic.Int64
	now.Store(1e18)
	s := newSite(t, func(o *Options) { o.Unwraps, o.Now = 2, func() time.Time { return time.Unix(0, now.Load()) } })
	s.must(s.Client().Unseal(t.Context(), keys.Mail, []byte("1234")))
	unwrap := func() error {
		_, err := s.Unwrap(t.Context(), keys.Mail, "platform", []byte("x"), nil)
		return err
	}
	for range 20 {
		s.must(unwrap())
	}
	if err := unwrap(); mail.KindOf(err) != mail.Busy {
		t.Errorf("%v", err)
	}
	now.Add(int64(500 * time.Millisecond))
	s.must(unwrap())
	if err := unwrap(); mail.KindOf(err) != mail.Busy {
		t.Errorf("%v", err)
	}
}

func TestImplicitRejection(t *testing.T) {
	s := newSite(t, nil)
	k := s.audit().(*PrivateKey)
	for in, size := range map[string]int{"bad": 32, "sixteen octets..": 24} {
		got, err := k.DecryptPKCS1(t.Context(), []byte(in), size)
		if err != nil || len(got) != size || bytes.Contains(got, []byte(in)) {
			t.Errorf("%q: %x, %v", in, got, err)
		}
	}
	if got, err := k.DecryptPKCS1(t.Context(), []byte("sixteen octets.."), 16); err != nil || string(got) != "sixteen octets.." {
		t.Errorf("%x, %v", got, err)
	}
}

// TestFrames sends what no client of ours sends.
func TestFrames(t *testing.T) {
	s := newSite(t, nil)
	good, err := (&request{op: opStatus, slot: keys.Service}).encode()
	s.must(err)
	future := bytes.Clone(good)
	future[4]++
	for what, c := range map[string]struct {
		send []byte
		want mail.Kind
		cut  bool
	}{
		"too long":        {send: []byte{0, 1, 0, 1}, cut: true},
		"huge":            {send: []byte{255, 255, 255, 255}, cut: true},
		"empty":           {send: []byte{0, 0, 0, 0}, want: mail.Invalid},
		"another version": {send: future, want: mail.Unsupported},
		"no operation":    {send: append([]byte{0, 0, 0, 2}, protocolVersion, 99), want: mail.Invalid},
	} {
		conn, err := net.Dial("unix", s.path)
		s.must(err)
		_, err = conn.Write(c.send)
		s.must(err)
		answer, err := readFrame(conn, nil)
		if c.cut {
			if !errors.Is(err, io.EOF) {
				t.Errorf("%s: %x, %v", what, answer, err)
			}
		} else if _, err := decodeAnswer(answer); mail.KindOf(err) != c.want {
			t.Errorf("%s: %v", what, err)
		}
		_ = conn.Close()
	}
	if _, err := s.Wrap(t.Context(), keys.Mail, "platform", make([]byte, maxFrame), nil); mail.KindOf(err) != mail.TooLarge {
		t.Errorf("too much: %v", err)
	}
	if _, err := s.Wrap(t.Context(), keys.Mail, strings.Repeat("n", 300), nil, nil); err == nil {
		t.Error("a name of 300 octets")
	}
}

func FuzzRequest(f *testing.F) {
	for _, r := range []request{
		{op: opStatus, slot: keys.Service},
		{op: opSign, scheme: PSS, hash: 5, slot: keys.Service, name: "gateway/works.gov.example", data: make([]byte, 32)},
		{op: opDecrypt, scheme: OAEP, hash: 5, mgf: 5, size: 32, slot: keys.Mail, name: "x", data: make([]byte, 256), extra: []byte("label")},
	} {
		b, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[4:], b) || binary.BigEndian.Uint32(again) != uint32(len(b)) {
			t.Errorf("%x becomes %x", b, again)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	add := func(data []byte, err error) {
		b, err := encodeAnswer(data, err)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[4:])
	}
	infos, err := encodeInfos([]keys.Info{{Name: "audit", Kind: keys.KindEd25519, Public: []byte{1}}, {Name: "x", Retired: true}})
	if err != nil {
		f.Fatal(err)
	}
	status, err := encodeStatus(SlotStatus{Failed, "token", "reason"})
	if err != nil {
		f.Fatal(err)
	}
	add(infos, nil)
	add(status, nil)
	add(nil, keys.ErrSealed)
	add(nil, mail.E(mail.Busy, "", errors.New("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		data, err := decodeAnswer(b)
		if err != nil {
			if data != nil || mail.KindOf(err) > mail.Corrupt {
				t.Errorf("%x, %v", data, err)
			}
			return
		}
		if list, err := decodeInfos(keys.Mail, data); err == nil {
			if again, err := encodeInfos(list); err != nil || len(again) > len(data) {
				t.Errorf("%x becomes %x, %v", data, again, err)
			}
		}
		if s, err := decodeStatus(data); err == nil && s.State > Failed {
			t.Errorf("%v", s)
		}
	})
}
