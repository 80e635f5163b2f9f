package cms

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"math/big"
	"slices"
	"testing"

	"cmmpd/internal/mail"
)

// indefinite rewrites DER as the most playful BER that means the same: every
// constructed element with indefinite length, every OCTET STRING in pieces. What begins
// with one of keep stays as it is.
func indefinite(t testing.TB, der []byte, keep ...[]byte) []byte {
	t.Helper()
	r := newReader(der)
	var out []byte
next:
	for r.more() {
		e, err := r.next()
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keep {
			if bytes.Equal(e.raw, k) {
				out = append(out, e.raw...)
				continue next
			}
		}
		inside := []byte(nil)
		switch {
		case e.constructed:
			inside = indefinite(t, e.content, keep...)
		case e.tag == tagOctetString:
			for piece := range slices.Chunk(e.content, 7) {
				inside = append(inside, tlv(derOctetString, piece)...)
			}
		default:
			out = append(out, e.raw...)
			continue
		}
		out = append(append(append(out, e.raw[0]|0x20, 0x80), inside...), 0, 0)
	}
	return out
}

// TestBERForms reads our own messages in indefinite form.
func TestBERForms(t *testing.T) {
	all := people(t)
	plain := text(100)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		der, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}, {Cert: all["carol"].cert}}, plain)
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseEnveloped(indefinite(t, der, all["alice"].cert.RawIssuer, all["carol"].cert.RawIssuer), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, who := range []string{"alice", "carol"} {
			if got, err := e.Decrypt(all[who].opener(t)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%v %s: %v", c, who, err)
			}
		}
	}
	der, err := Sign(nil, false, []SignerSpec{{Cert: all["carol"].cert, Key: all["carol"].key}}, SignOptions{}, plain)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigned(indefinite(t, der, all["carol"].cert.RawIssuer, all["carol"].cert.Raw), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil); mail.KindOf(err) != mail.Invalid {
		t.Errorf("signed attributes that are not DER: %v", err)
	}
}

// keyAgreeOf makes by hand what openssl cannot: one KeyAgreeRecipientInfo for several
// people, with user keying material, named in both ways.
func keyAgreeOf(t testing.TB, a agreement, key []byte, curve ecdh.Curve, byIssuer, byKey *x509.Certificate) []byte {
	t.Helper()
	ephemeral, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wrapTo := func(c *x509.Certificate) []byte {
		pub, err := c.PublicKey.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		z, err := ephemeral.ECDH(pub)
		if err != nil {
			t.Fatal(err)
		}
		kek, err := a.keyEncryptionKey(z)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := wrapKey(kek, key)
		if err != nil {
			t.Fatal(err)
		}
		return tlv(derOctetString, wrapped)
	}
	point := append([]byte{0}, ephemeral.PublicKey().Bytes()...)
	date := tlv(derGenTime, []byte("20261122110000Z"))
	return tlv(derExplicit|1, small(3),
		tlv(derExplicit, tlv(derExplicit|1, algorithm{oidECPublicKey, null()}.der(), tlv(derBitString, point))),
		tlv(derExplicit|1, tlv(derOctetString, a.ukm)),
		algorithm{a.scheme, a.wrap.der()}.der(),
		tlv(derSequence,
			tlv(derSequence, issuerAndSerial(byIssuer), wrapTo(byIssuer)),
			tlv(derSequence, tlv(derExplicit, tlv(derOctetString, byKey.SubjectKeyId), date), wrapTo(byKey))))
}

func TestKeyAgreeForSeveral(t *testing.T) {
	carol := people(t)["carol"]
	key2, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	henry := &person{selfSigned("henry", 77, key2), key2}
	plain := text(50)
	for scheme, wrap := range map[OID]algorithm{
		oidStdDHSHA256: {oidAES128Wrap, nil}, oidCofDHSHA512: {oidAES192Wrap, null()}, oidStdDHSHA1: {oidAES256Wrap, null()},
	} {
		a := agreement{scheme: scheme, wrap: wrap, ukm: []byte("keying material")}
		key := make([]byte, 32)
		ri := keyAgreeOf(t, a, key, ecdh.P256(), carol.cert, henry.cert)
		var der []byte
		place := func(size int) []byte { der = make([]byte, size); return der }
		if err := encryptCBC(place, nil, AES256CBC, key, Data, Pieces{plain}, pieces{small(2), tlv(derSet, ri)}); err != nil {
			t.Fatal(err)
		}
		e, err := ParseEnveloped(der, Limits{})
		if err != nil || len(e.Recipients) != 2 || e.Recipients[1].SKI == nil || e.Recipients[0].Serial == nil {
			t.Fatalf("%+v, %v", e, err)
		}
		for _, p := range []*person{carol, henry} {
			if got, err := e.Decrypt(p.opener(t)); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s: %v", p.cert.Subject, err)
			}
		}
		if _, err := ParseEnveloped(der, Limits{Recipients: 1}); mail.KindOf(err) != mail.TooLarge {
			t.Errorf("two recipients where one is allowed: %v", err)
		}
	}
}

// TestTamperedMessages flips every bit of messages and cuts them everywhere. With GCM
// no change to key or content gets through; with CBC the only error is ErrDecrypt.
func TestTamperedMessages(t *testing.T) {
	all := people(t)
	plain := []byte("Content-Type: text/plain\r\n\r\nthe quick brown fox\r\n")
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		for _, content := range []OID{Data, SignedData} {
			for _, who := range []string{"carol", "erin", "alice"} {
				der, err := Encrypt(nil, c, content, []RecipientSpec{{Cert: all[who].cert}}, plain)
				if err != nil {
					t.Fatal(err)
				}
				k := all[who].opener(t)
				try := func(b []byte, what string, at int) {
					e, err := ParseEnveloped(b, Limits{TripleDES: true})
					if err != nil {
						if kind := mail.KindOf(err); kind != mail.Invalid && kind != mail.TooLarge && kind != mail.Unsupported {
							t.Errorf("%s %d: %v", what, at, err)
						}
						return
					}
					got, err := e.Decrypt(k)
					if err != nil && err != ErrDecrypt { // the very same error is the promise
						t.Errorf("%s %d: %v", what, at, err)
					}
					if err == nil && c == AES256GCM && !bytes.Equal(got, plain) {
						t.Errorf("%s %d: GCM let a change through", what, at)
					}
				}
				step := map[string]int{"carol": 1, "erin": 11, "alice": 13}[who] // P-384 and RSA take longer
				for bit := 0; bit < 8*len(der); bit += step {
					b := bytes.Clone(der)
					b[bit/8] ^= 1 << (bit % 8)
					try(b, "bit", bit)
				}
				for n := range der {
					if _, err := ParseEnveloped(der[:n], Limits{}); err == nil {
						t.Errorf("cut at %d and read", n)
					}
				}
				if _, err := ParseEnveloped(append(bytes.Clone(der), 0), Limits{}); err == nil {
					t.Error("a byte too many and read")
				}
			}
		}
	}
}

func TestPadding(t *testing.T) {
	block := func(tail ...byte) []byte { return append(make([]byte, 16-len(tail)), tail...) }
	for _, v := range []struct {
		block []byte
		n, ok int
	}{
		{block(1), 1, 1},
		{block(2, 2), 2, 1},
		{bytes.Repeat([]byte{16}, 16), 16, 1},
		{block(0), 0, 0},
		{block(1, 2), 0, 0},
		{block(3, 2, 3), 0, 0},
		{bytes.Repeat([]byte{17}, 16), 0, 0},
		{block(255), 0, 0},
		{append([]byte{1}, bytes.Repeat([]byte{16}, 15)...), 0, 0},
	} {
		if n, ok := paddingSize(v.block); n != v.n || ok != v.ok {
			t.Errorf("%x: %d, %d", v.block, n, ok)
		}
	}
}

// TestImplicitRejection: what is not good PKCS #1 v1.5 gives a key all the same, a
// random one.
func TestImplicitRejection(t *testing.T) {
	alice := people(t)["alice"]
	k := alice.opener(t)
	pub := alice.cert.PublicKey.(*rsa.PublicKey)
	key := bytes.Repeat([]byte{7}, 32)
	//lint:ignore SA1019 this is what is tested
	good, err := rsa.EncryptPKCS1v15(rand.Reader, pub, key)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := k.DecryptKey(RSATransport{}, good, 32); err != nil || !bytes.Equal(got, key) {
		t.Fatalf("%x, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"padding": bytes.Repeat([]byte{1}, 256), "short": {1}, "empty": nil, "long": bytes.Repeat([]byte{255}, 256), "longer": make([]byte, 300),
	} {
		one, err1 := k.DecryptKey(RSATransport{}, bad, 32)
		two, err2 := k.DecryptKey(RSATransport{}, bad, 32)
		if err1 != nil || err2 != nil || len(one) != 32 || len(two) != 32 || bytes.Equal(one, two) {
			t.Errorf("%s: %x, %x, %v, %v", name, one, two, err1, err2)
		}
	}
	if got, err := k.DecryptKey(RSATransport{}, good, 16); err != nil || len(got) != 16 {
		t.Errorf("a key of another size: %x, %v", got, err)
	}
}

// away is a KeyOpener whose key cannot be reached.
type away struct {
	KeyOpener
	err error
}

func (a away) DecryptKey(RSATransport, []byte, int) ([]byte, error) { return nil, a.err }

func TestOpenerThatCannotAnswer(t *testing.T) {
	alice := people(t)["alice"]
	der, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{{Cert: alice.cert}}, text(10))
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnveloped(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Decrypt(away{alice.opener(t), mail.E(mail.Unavailable, "", nil)}); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("token gone: %v", err)
	}
	if _, err := e.Decrypt(away{alice.opener(t), errors.New("CKR_ENCRYPTED_DATA_INVALID")}); !errors.Is(err, ErrDecrypt) || err.Error() != ErrDecrypt.Error() {
		t.Errorf("token says why: %v", err)
	}
}

// TestKeysThatMayNotBeUsed checks sizes and kinds before anything is computed.
func TestKeysThatMayNotBeUsed(t *testing.T) {
	all := people(t)
	small1024, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	huge := *all["alice"].cert
	huge.PublicKey = &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 9000), E: 65537}
	weak := selfSigned("weak", 1, small1024)
	odd := selfSigned("odd", 2, p224)
	for name, c := range map[string]*x509.Certificate{"1024": weak, "9001": &huge, "P-224": odd, "none": nil} {
		if _, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{{Cert: c}}, nil); mail.KindOf(err) != mail.Invalid {
			t.Errorf("encrypt to %s: %v", name, err)
		}
		if _, err := Sign(nil, true, []SignerSpec{{Cert: c, Key: small1024}}, SignOptions{}, nil); mail.KindOf(err) != mail.Invalid {
			t.Errorf("sign with %s: %v", name, err)
		}
		if _, err := NewKeyOpener(c, small1024); mail.KindOf(err) != mail.Invalid {
			t.Errorf("open with %s: %v", name, err)
		}
	}
	if _, err := NewKeyOpener(all["alice"].cert, all["bob"].key); mail.KindOf(err) != mail.Invalid {
		t.Errorf("somebody else's key: %v", err)
	}
	if _, err := Sign(nil, true, []SignerSpec{{Cert: all["carol"].cert, Key: all["erin"].key}}, SignOptions{}, nil); mail.KindOf(err) != mail.Invalid {
		t.Errorf("sign with somebody else's key: %v", err)
	}
	if _, err := Encrypt(nil, AES256CBC, Data, nil, nil); mail.KindOf(err) != mail.Invalid {
		t.Errorf("to nobody: %v", err)
	}
	if _, err := Encrypt(nil, TripleDES, Data, []RecipientSpec{{Cert: all["alice"].cert}}, nil); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("with triple DES: %v", err)
	}
	ec, err := all["carol"].key.(*ecdsa.PrivateKey).ECDH()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewKeyOpener(all["carol"].cert, ec); err != nil {
		t.Errorf("an ecdh key: %v", err)
	}
}
