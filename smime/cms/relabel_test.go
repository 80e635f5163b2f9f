package cms

import (
	"bytes"
	"errors"
	"testing"
)

// relabelled is a message as another cipher's: the same recipients, and so the same key, with
// other content. It is the downgrade that RFC 9709 is about.
func relabelled(t testing.TB, der []byte, as contentCipher, content, mac []byte) *Enveloped {
	t.Helper()
	r, err := (&reader{&budget{elements: 10000, depth: maxDepth}, der, 0}).enter(tagSequence)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.readOID(); err != nil {
		t.Fatal(err)
	}
	if r, err = r.enter(context(0)); err == nil {
		r, err = r.enter(tagSequence)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.readInteger(); err != nil {
		t.Fatal(err)
	}
	recipients, err := r.read(tagSet)
	if err != nil {
		t.Fatal(err)
	}
	kind, tail := EnvelopedData, pieces(nil)
	if as.Authenticated() {
		kind, tail = AuthEnvelopedData, pieces{tlv(derOctetString, mac)}
	}
	info := wrap(derSequence, pieces{Data.der(), as.algorithm().der(), tlv(derContext, content)})
	e, err := ParseEnveloped(contentInfo(kind, wrap(derSequence, pieces{small(2), recipients.raw}, info, tail)).join(), Limits{TripleDES: true})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestRelabelled: a GCM message passed off as CBC, and the other way, shows nothing of its
// text; but for good padding by chance, there is one error.
func TestRelabelled(t *testing.T) {
	all := people(t)
	plain := bytes.Repeat([]byte("sixteen bytes..."), 8)
	shows := func(got []byte) bool {
		for i := 0; i+8 <= len(got); i++ {
			if bytes.Contains(plain, got[i:i+8]) {
				return true
			}
		}
		return false
	}
	for _, who := range []string{"alice", "bob", "carol"} {
		k := all[who].opener(t)
		spec := RecipientSpec{Cert: all[who].cert}
		if who == "bob" {
			spec.Transport = PKCS1v15
		}
		gcm, err := Encrypt(nil, AES256GCM, Data, []RecipientSpec{spec}, plain)
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := ParseEnveloped(gcm, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		// The nonce and a counter, as the key stream is made of, for an IV; whole blocks; blocks of our choice.
		iv := append(bytes.Clone(sealed.content.iv), 0, 0, 0, 2)
		for i := range 64 {
			content := bytes.Clone(sealed.encrypted)
			if i > 0 {
				content[len(content)-17] ^= byte(i) // the padding that comes out changes
				content = append(content, iv...)
			}
			for _, c := range []Cipher{AES256CBC, AES128CBC, TripleDES} {
				as := contentCipher{Cipher: c, iv: iv}
				if c == TripleDES {
					as.iv = iv[:8]
				}
				got, err := relabelled(t, gcm, as, content, nil).Decrypt(k)
				if err != nil && !errors.Is(err, ErrDecrypt) || err != nil && err.Error() != ErrDecrypt.Error() || shows(got) {
					t.Errorf("%s, GCM as %v: %q, %v", who, c, got, err)
				}
			}
		}
		cbc, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{spec}, plain)
		if err != nil {
			t.Fatal(err)
		}
		open, err := ParseEnveloped(cbc, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		for _, size := range []int{12, 16} {
			as := contentCipher{Cipher: AES256GCM, iv: open.content.iv[:gcmNonce], tagSize: size}
			if got, err := relabelled(t, cbc, as, open.encrypted, make([]byte, size)).Decrypt(k); !errors.Is(err, ErrDecrypt) || got != nil {
				t.Errorf("%s, CBC as GCM: %q, %v", who, got, err)
			}
		}
	}
}

// BenchmarkFailures is for comparing by eye: which way a message does not open must not show in
// the time.
func BenchmarkFailures(b *testing.B) {
	all := people(b)
	plain := text(4096)
	for _, who := range []string{"alice", "bob", "carol"} {
		spec := RecipientSpec{Cert: all[who].cert}
		if who == "bob" {
			spec.Transport = PKCS1v15
		}
		der, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{spec}, plain)
		if err != nil {
			b.Fatal(err)
		}
		good, err := ParseEnveloped(der, Limits{})
		if err != nil {
			b.Fatal(err)
		}
		change := func(of []byte, at int) []byte {
			of = bytes.Clone(of)
			of[at] ^= 1
			return of
		}
		padding, key := *good, *good
		padding.encrypted = change(good.encrypted, len(good.encrypted)-17)
		key.Recipients = []RecipientInfo{good.Recipients[0]}
		key.Recipients[0].key = change(good.Recipients[0].key, 20)
		k := all[who].opener(b)
		for _, c := range []struct {
			name string
			e    *Enveloped
		}{{"opens", good}, {"bad padding", &padding}, {"bad key", &key}} {
			b.Run(who+"/"+c.name, func(b *testing.B) {
				perAct(b, func() { _, _ = c.e.Decrypt(k) })
			})
		}
	}
}
