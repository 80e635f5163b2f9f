//go:build cgo

package token

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

// stack is a keystore on a keyd in this process, on two tokens of SoftHSM.
type stack struct {
	*keyd.Store
	lib   *Library
	slots map[keys.Slot]keyd.Token
}

func newStack(t *testing.T) *stack {
	hsm := testkit.NewSoftHSM(t, "services", "mail keys")
	t.Setenv("SOFTHSM2_CONF", hsm.Conf)
	lib, err := Load(hsm.Module)
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{lib: lib, slots: map[keys.Slot]keyd.Token{
		keys.Service: lib.Token(Options{Token: "services", Sessions: 3}), keys.Mail: lib.Token(Options{Token: "mail keys"}),
	}}
	uid := []uint32{uint32(os.Getuid())}
	srv := keyd.NewServer(keyd.Options{
		Slots: map[keys.Slot]keyd.Slot{
			keys.Service: {Token: s.slots[keys.Service], PIN: []byte(testkit.SoftPIN("services"))}, keys.Mail: {Token: s.slots[keys.Mail]},
		},
		Clients: uid, Operators: uid, Deadline: time.Minute, Log: slog.New(slog.DiscardHandler),
		Hung: func(what string) { panic(what) },
	})
	path := filepath.Join(t.TempDir(), "keyd.sock")
	ln, err := keyd.Listen(t.Context(), path, -1)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	s.Store = keyd.NewStore(keyd.NewClient(path))
	t.Cleanup(func() {
		_ = ln.Close()
		<-served
		if err := srv.Close(); err != nil {
			t.Error(err)
		}
		if err := lib.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (s *stack) private(t *testing.T, name string, kind keys.Kind) *keyd.PrivateKey {
	t.Helper()
	must(t, s.Generate(keys.Service, name, kind))
	k, err := s.Signer(t.Context(), keys.Service, name)
	must(t, err)
	return k.(*keyd.PrivateKey)
}

// TestSign makes every kind of signature, and has Go's own code verify it.
func TestSign(t *testing.T) {
	s := newStack(t)
	digest, long := sha256.Sum256([]byte("message")), sha512.Sum384([]byte("message"))
	for _, kind := range []keys.Kind{keys.KindRSA2048, keys.KindRSA3072} {
		k := s.private(t, "gateway/"+string(kind), kind)
		pub := k.Public().(*rsa.PublicKey)
		sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
		must(t, err)
		must(t, rsa.VerifyPKCS1v15(pub, crypto.SHA256, digest[:], sig))
		sig, err = k.Sign(rand.Reader, long[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA384})
		must(t, err)
		must(t, rsa.VerifyPSS(pub, crypto.SHA384, long[:], sig, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}))
		if _, err := k.Sign(rand.Reader, digest[:20], crypto.SHA1); mail.KindOf(err) != mail.Unsupported {
			t.Errorf("SHA-1: %v", err)
		}
		if _, err := k.Sign(rand.Reader, digest[:20], crypto.SHA256); mail.KindOf(err) != mail.Invalid {
			t.Errorf("a short digest: %v", err)
		}
	}
	for _, kind := range []keys.Kind{keys.KindP256, keys.KindP384} {
		k := s.private(t, string(kind), kind)
		for range 20 { // leading zeros in one of the numbers are seldom
			sig, err := k.Sign(rand.Reader, digest[:], crypto.SHA256)
			must(t, err)
			if !ecdsa.VerifyASN1(k.Public().(*ecdsa.PublicKey), digest[:], sig) {
				t.Errorf("%s: bad signature", kind)
			}
		}
	}
	k := s.private(t, "audit", keys.KindEd25519)
	sig, err := k.Sign(rand.Reader, []byte("a message, not a digest"), crypto.Hash(0))
	must(t, err)
	if !ed25519.Verify(k.Public().(ed25519.PublicKey), []byte("a message, not a digest"), sig) {
		t.Error("ed25519: bad signature")
	}
	if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("Ed25519 over a digest: %v", err)
	}
}

// TestDecrypt opens what Go's own code encrypted.
func TestDecrypt(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	k := s.private(t, "reader", keys.KindRSA2048)
	pub := k.Public().(*rsa.PublicKey)
	secret := bytes.Repeat([]byte{0, 7}, 16)

	//lint:ignore SA1019 many clients send nothing newer
	sealed, err := rsa.EncryptPKCS1v15(rand.Reader, pub, secret)
	must(t, err)
	if got, err := k.DecryptPKCS1(ctx, sealed, 32); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("v1.5: %x, %v", got, err)
	}
	for what, c := range map[string]struct {
		sealed []byte
		size   int
	}{
		"another size": {sealed, 16}, "bad padding": {append(bytes.Clone(sealed[:255]), sealed[255]^1), 32},
		"too short": {sealed[:100], 32}, "too long": {append(bytes.Clone(sealed), 1), 32}, "empty": {nil, 32}, "beyond the modulus": {bytes.Repeat([]byte{255}, 256), 32},
	} {
		got, err := k.DecryptPKCS1(ctx, c.sealed, c.size)
		if err != nil || len(got) != c.size || bytes.Equal(got, secret[:c.size]) {
			t.Errorf("%s: %x, %v; want random octets", what, got, err)
		}
	}

	sealed, err = rsa.EncryptOAEP(sha1.New(), rand.Reader, pub, secret, nil)
	must(t, err)
	if got, err := k.DecryptOAEP(ctx, crypto.SHA1, crypto.SHA1, nil, sealed); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("OAEP SHA-1: %x, %v", got, err)
	}
	sealed[3] ^= 1
	if _, err := k.DecryptOAEP(ctx, crypto.SHA1, crypto.SHA1, nil, sealed); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("OAEP, changed: %v", err)
	}
	sealed, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, pub, secret, nil)
	must(t, err)
	switch got, err := k.DecryptOAEP(ctx, crypto.SHA256, crypto.SHA256, nil, sealed); {
	case err == nil && bytes.Equal(got, secret): // a newer SoftHSM than 2.6.1
	case mail.KindOf(err) != mail.Unsupported:
		t.Errorf("OAEP SHA-256: %x, %v", got, err)
	}
	if _, err := k.Agree(ctx, mustPoint(t)); mail.KindOf(err) != mail.Invalid {
		t.Errorf("agreement with an RSA key: %v", err)
	}
}

func mustPoint(t *testing.T) *ecdh.PublicKey {
	k, err := ecdh.P256().GenerateKey(rand.Reader)
	must(t, err)
	return k.PublicKey()
}

func TestAgree(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	for kind, curve := range map[keys.Kind]ecdh.Curve{keys.KindP256: ecdh.P256(), keys.KindP384: ecdh.P384()} {
		k := s.private(t, string(kind), kind)
		own, err := k.Public().(*ecdsa.PublicKey).ECDH()
		must(t, err)
		for range 3 {
			peer, err := curve.GenerateKey(rand.Reader)
			must(t, err)
			want, err := peer.ECDH(own)
			must(t, err)
			if got, err := k.Agree(ctx, peer.PublicKey()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %x, %v; want %x", kind, got, err, want)
			}
		}
		other := ecdh.P256()
		if curve == other {
			other = ecdh.P384()
		}
		peer, err := other.GenerateKey(rand.Reader)
		must(t, err)
		if _, err := k.Agree(ctx, peer.PublicKey()); err == nil {
			t.Errorf("%s: agrees with a key on another curve", kind)
		}
	}
}

// TestSecrets uses secrets: in the service slot to derive, in the mail slot, once it is open, to wrap.
func TestSecrets(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	must(t, s.Generate(keys.Service, "store", keys.KindHMAC256))
	sealed, err := s.Wrap(ctx, keys.Service, "store", []byte("item"), []byte("aad"))
	must(t, err)
	again := keyd.NewStore(s.Client())
	if got, err := again.Unwrap(ctx, keys.Service, "store", sealed, []byte("aad")); err != nil || string(got) != "item" {
		t.Errorf("unwrap: %q, %v", got, err)
	}
	a, err := s.Derive(ctx, keys.Service, "store", []byte("a"))
	must(t, err)
	if b, err := again.Derive(ctx, keys.Service, "store", []byte("a")); err != nil || !bytes.Equal(a, b) {
		t.Errorf("derive again: %v", err)
	}

	if _, err := s.Wrap(ctx, keys.Mail, "platform", []byte("key"), nil); mail.KindOf(err) != mail.Unavailable || mail.PublicOf(err) == "" {
		t.Errorf("wrap while sealed: %v", err)
	}
	if err := s.Client().Unseal(ctx, keys.Mail, []byte("wrong")); mail.KindOf(err) != mail.AuthFailed {
		t.Errorf("a wrong PIN: %v", err)
	}
	if st, err := s.Client().Status(ctx, keys.Mail); err != nil || st.State == keyd.Open {
		t.Errorf("after a wrong PIN: %v, %v", st, err)
	}
	must(t, s.Client().Unseal(ctx, keys.Mail, []byte(testkit.SoftPIN("mail keys"))))
	must(t, s.Generate(keys.Mail, "platform", keys.KindAES256))
	if err := s.Generate(keys.Mail, "platform", keys.KindAES256); mail.KindOf(err) != mail.Exists {
		t.Errorf("made twice: %v", err)
	}
	k, err := keys.NewAccountKey(ctx, s, keys.PlatformKey, "id-1", func([]byte) error { return nil })
	must(t, err)
	if bytes.Contains(k.Wrapped, []byte("key")) || len(k.Wrapped) != 12+32+16 {
		t.Errorf("wrapped: %x", k.Wrapped)
	}
	if _, err := k.Open(ctx, s, "id-1"); err != nil {
		t.Error(err)
	}
	if _, err := k.Open(ctx, s, "id-2"); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("as another's: %v", err)
	}
	for i := range k.Wrapped {
		bad := k
		bad.Wrapped = bytes.Clone(k.Wrapped)
		bad.Wrapped[i] ^= 1
		if _, err := bad.Open(ctx, s, "id-1"); mail.KindOf(err) != mail.Corrupt {
			t.Fatalf("octet %d changed: %v", i, err)
		}
	}
	if _, err := s.Unwrap(ctx, keys.Mail, "platform", []byte("short"), nil); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("short: %v", err)
	}
	must(t, s.Client().Seal(ctx, keys.Mail))
	if _, err := k.Open(ctx, s, "id-1"); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("after sealing: %v", err)
	}
}

// TestDerivation compares with RFC 5869's HKDF-Expand, which the token does one block of.
func TestDerivation(t *testing.T) {
	s := newStack(t)
	master := make([]byte, 32)
	for i := range master {
		master[i] = byte(i)
	}
	importSecret(t, s.slots[keys.Service].(*token), "known", master)
	got, err := s.Derive(t.Context(), keys.Service, "known", []byte("purpose"))
	must(t, err)
	use, err := hkdf.Expand(sha256.New, master, "cmmpd keystore 1 derive", 32)
	must(t, err)
	if want, err := hkdf.Key(sha256.New, use, nil, "purpose", 32); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, want %x, %v", got, want, err)
	}
}

// importSecret puts a known secret into the token.
func importSecret(t *testing.T, tok *token, name string, value []byte) {
	must(t, tok.do("import", func(s *session) error {
		_, err := tok.ctx.CreateObject(s.handle, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
			pkcs11.NewAttribute(pkcs11.CKA_VALUE, value),
		})
		return err
	}))
}

func TestListAndRetire(t *testing.T) {
	s := newStack(t)
	ctx := t.Context()
	must(t, s.Generate(keys.Service, "blind", keys.KindHMAC256))
	must(t, s.Generate(keys.Service, "wrapping", keys.KindAES256))
	for _, k := range []keys.Kind{keys.KindEd25519, keys.KindP256, keys.KindP384, keys.KindRSA2048} {
		must(t, s.Generate(keys.Service, "k/"+string(k), k))
	}
	list, err := s.List(keys.Service)
	must(t, err)
	var got []string
	for _, k := range list {
		got = append(got, k.Name+" "+string(k.Kind))
		if secret := k.Kind == keys.KindHMAC256 || k.Kind == keys.KindAES256; secret != (len(k.Public) == 0) {
			t.Errorf("%s: public half of %d octets", k.Name, len(k.Public))
		}
	}
	if want := []string{"blind hmac-256", "k/ec-p256 ec-p256", "k/ec-p384 ec-p384", "k/ed25519 ed25519", "k/rsa-2048 rsa-2048", "wrapping aes-256"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	k, err := s.Signer(ctx, keys.Service, "k/ec-p256")
	must(t, err)
	digest := sha256.Sum256(nil)
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); err != nil {
		t.Error(err)
	}
	must(t, s.Retire(keys.Service, "k/ec-p256"))
	if _, err := k.Sign(nil, digest[:], crypto.SHA256); mail.KindOf(err) != mail.NotFound {
		t.Errorf("a retired key signs: %v", err)
	}
	if err := s.Retire(keys.Service, "k/ec-p256"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("retired twice: %v", err)
	}
	must(t, s.Generate(keys.Service, "k/ec-p256", keys.KindP256))
	list, err = s.List(keys.Service)
	must(t, err)
	if len(list) != 7 || !slices.ContainsFunc(list, func(k keys.Info) bool { return k.Retired && k.Kind == keys.KindP256 }) {
		t.Errorf("after retiring: %v", list)
	}
	retired := list[slices.IndexFunc(list, func(k keys.Info) bool { return k.Retired })].Name
	if err := s.Unretire(keys.Service, retired); mail.KindOf(err) != mail.Exists {
		t.Errorf("in the place of another: %v", err)
	}
	must(t, s.Retire(keys.Service, "wrapping"))
	list, err = s.List(keys.Service)
	must(t, err)
	wrapping := list[slices.IndexFunc(list, func(k keys.Info) bool { return k.Retired && k.Kind == keys.KindAES256 })].Name
	must(t, s.Unretire(keys.Service, wrapping))
	if err := s.Unretire(keys.Service, wrapping); mail.KindOf(err) != mail.NotFound {
		t.Errorf("brought back twice: %v", err)
	}
	if err := s.Unretire(keys.Service, "blind"); mail.KindOf(err) != mail.Invalid {
		t.Errorf("a key that is not retired: %v", err)
	}
	list, err = s.List(keys.Service)
	must(t, err)
	if !slices.ContainsFunc(list, func(k keys.Info) bool { return k.Name == "wrapping" && !k.Retired }) {
		t.Errorf("after bringing back: %v", list)
	}
	for _, name := range []string{"", "../x", "a b", "retired 1 x", "-x"} {
		if err := s.Generate(keys.Service, name, keys.KindP256); mail.KindOf(err) != mail.Invalid {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if err := s.Generate(keys.Service, "x", "des"); mail.KindOf(err) != mail.Invalid {
		t.Errorf("kind: %v", err)
	}
}

// TestLogsInAgain takes sessions and log-in away in the middle of work.
func TestLogsInAgain(t *testing.T) {
	s := newStack(t)
	k := s.private(t, "audit", keys.KindEd25519)
	tok := s.slots[keys.Service].(*token)
	sign := func() error {
		_, err := k.Sign(nil, []byte("x"), crypto.Hash(0))
		return err
	}
	must(t, sign())
	other, err := s.lib.ctx.OpenSession(tok.slot, pkcs11.CKF_SERIAL_SESSION)
	must(t, err)
	must(t, s.lib.ctx.Logout(other)) // CKR_USER_NOT_LOGGED_IN or a key that is no longer there
	if err := sign(); err != nil {
		t.Errorf("after a log-out: %v", err)
	}
	must(t, s.lib.ctx.CloseAllSessions(tok.slot)) // CKR_SESSION_HANDLE_INVALID
	if err := sign(); err != nil {
		t.Errorf("after the sessions were closed: %v", err)
	}
	var wg sync.WaitGroup
	for i := range 12 { // with 3 sessions
		wg.Go(func() {
			for range 20 {
				if err := sign(); err != nil {
					t.Error(err)
				}
				if i == 0 {
					tok.mu.Lock()
					tok.loggedIn = false
					tok.mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	must(t, sign())
}

func TestSetPIN(t *testing.T) {
	s := newStack(t)
	ctx, c := t.Context(), s.Client()
	old, fresh := []byte(testkit.SoftPIN("mail keys")), []byte("another PIN")
	must(t, c.Unseal(ctx, keys.Mail, old))
	if err := c.SetPIN(ctx, keys.Mail, []byte("wrong"), fresh); mail.KindOf(err) != mail.AuthFailed {
		t.Errorf("with a wrong PIN: %v", err)
	}
	must(t, c.SetPIN(ctx, keys.Mail, old, fresh))
	tok := s.slots[keys.Mail].(*token)
	tok.mu.Lock()
	tok.loggedIn = false // the next operation logs in again
	tok.mu.Unlock()
	_, err := s.List(keys.Mail)
	must(t, err)
	must(t, c.Seal(ctx, keys.Mail))
	if err := c.Unseal(ctx, keys.Mail, old); mail.KindOf(err) != mail.AuthFailed {
		t.Errorf("the old PIN: %v", err)
	}
	must(t, c.Unseal(ctx, keys.Mail, fresh))
}

func TestNoToken(t *testing.T) {
	s := newStack(t)
	tok := s.lib.Token(Options{Token: "none"})
	if err := tok.LogIn([]byte("x")); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := tok.List(); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("%v", err)
	}
	if _, err := Load(filepath.Join(t.TempDir(), "no.so")); err == nil {
		t.Error("a library that is not there was loaded")
	}
}

func BenchmarkToken(b *testing.B) {
	hsm := testkit.NewSoftHSM(b, "bench")
	b.Setenv("SOFTHSM2_CONF", hsm.Conf)
	lib, err := Load(hsm.Module)
	if err != nil {
		b.Fatal(err)
	}
	tok := lib.Token(Options{Token: "bench"})
	if err := tok.LogIn([]byte(testkit.SoftPIN("bench"))); err != nil {
		b.Fatal(err)
	}
	uid := []uint32{uint32(os.Getuid())}
	for name, kind := range map[string]keys.Kind{"platform": keys.KindAES256, "audit": keys.KindEd25519, "rsa": keys.KindRSA2048} {
		if err := tok.Generate(name, kind); err != nil {
			b.Fatal(err)
		}
	}
	srv := keyd.NewServer(keyd.Options{
		Slots:   map[keys.Slot]keyd.Slot{keys.Mail: {Token: tok, PIN: []byte(testkit.SoftPIN("bench"))}},
		Clients: uid, Operators: uid, Deadline: time.Minute, Log: slog.New(slog.DiscardHandler), Hung: func(what string) { panic(what) },
	})
	path := filepath.Join(b.TempDir(), "keyd.sock")
	ln, err := keyd.Listen(context.Background(), path, -1)
	if err != nil {
		b.Fatal(err)
	}
	go func() { _ = srv.Serve(ln) }()
	ks := keyd.NewStore(keyd.NewClient(path))
	ctx := context.Background()
	k, err := keys.NewAccountKey(ctx, ks, keys.PlatformKey, "x", func([]byte) error { return nil })
	if err != nil {
		b.Fatal(err)
	}
	b.Run("unwrap", func(b *testing.B) {
		for b.Loop() {
			if _, err := ks.Unwrap(ctx, keys.Mail, keys.PlatformKey, k.Wrapped, []byte("cmmpd account key 1 x")); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, name := range []string{"audit", "rsa"} {
		s, err := ks.Signer(ctx, keys.Mail, name)
		if err != nil {
			b.Fatal(err)
		}
		digest, hash := sha256.Sum256(nil), crypto.SHA256
		if name == "audit" {
			hash = 0
		}
		b.Run(fmt.Sprintf("sign-%s", name), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Sign(nil, digest[:], hash); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	b.StopTimer()
	if err := errors.Join(ln.Close(), srv.Close(), lib.Close()); err != nil {
		b.Fatal(err)
	}
}
