package cms

import (
	"crypto/x509"
	"testing"
	"time"
)

// large is a content of 25 MiB.
func large() []byte { return text(25 << 20) }

func BenchmarkEncrypt(b *testing.B) {
	all := people(b)
	plain := large()
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}}, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecrypt(b *testing.B) {
	all := people(b)
	plain := large()
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		der, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}}, plain)
		if err != nil {
			b.Fatal(err)
		}
		k := all["alice"].opener(b)
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				e, err := ParseEnveloped(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Decrypt(k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpenSSL is the program, its start included, at what BenchmarkEncrypt and
// BenchmarkDecrypt do.
func BenchmarkOpenSSL(b *testing.B) {
	o := newOpenssl(b)
	plain := large()
	for _, c := range []string{"-aes-256-cbc", "-aes-256-gcm"} {
		sealed := o.run(plain, "-encrypt", "-binary", "-outform", "DER", c, "-recip", "alice.pem")
		for name, args := range map[string][]string{
			"encrypt": {"-encrypt", "-binary", "-outform", "DER", c, "-recip", "alice.pem"},
			"decrypt": {"-decrypt", "-binary", "-inform", "DER", "-recip", "alice.pem", "-inkey", "alice.key"},
		} {
			in := plain
			if name == "decrypt" {
				in = sealed
			}
			b.Run(name+c, func(b *testing.B) {
				b.SetBytes(int64(len(plain)))
				for b.Loop() {
					o.run(in, args...)
				}
			})
		}
	}
}

// BenchmarkRecipient is a short message to one recipient, by kind of key; opening it, too.
func BenchmarkRecipient(b *testing.B) {
	all := people(b)
	cert, key := xena(b)
	opener, err := NewKeyOpener(cert, key)
	if err != nil {
		b.Fatal(err)
	}
	plain := text(2000)
	for _, r := range []struct {
		name string
		cert *x509.Certificate
		how  KeyTransport
		k    KeyOpener
	}{
		{"rsa-2048 pkcs1v15", all["alice"].cert, PKCS1v15, all["alice"].opener(b)},
		{"rsa-2048 oaep", all["alice"].cert, OAEPSHA256, all["alice"].opener(b)},
		{"p256", all["carol"].cert, 0, all["carol"].opener(b)},
		{"p384", all["erin"].cert, 0, all["erin"].opener(b)},
		{"p521", all["grace"].cert, 0, all["grace"].opener(b)},
		{"x25519", cert, 0, opener},
	} {
		der, err := Encrypt(nil, AES256GCM, Data, []RecipientSpec{{Cert: r.cert, Transport: r.how}}, plain)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(r.name+"/encrypt", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Encrypt(nil, AES256GCM, Data, []RecipientSpec{{Cert: r.cert, Transport: r.how}}, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(r.name+"/decrypt", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e, err := ParseEnveloped(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Decrypt(r.k); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkSignature is signing a short message, by kind of key, and verifying it.
func BenchmarkSignature(b *testing.B) {
	all := people(b)
	signing := map[string]*person{"rsa-2048": all["alice"], "p256": all["carol"], "p384": all["erin"], "p521": all["grace"], "ed25519": eddie(b)}
	plain := text(2000)
	for _, s := range []struct {
		name, who string
		pss       bool
	}{{"rsa-2048 pkcs1v15", "rsa-2048", false}, {"rsa-2048 pss", "rsa-2048", true}, {"p256", "p256", false}, {"p384", "p384", false}, {"p521", "p521", false}, {"ed25519", "ed25519", false}} {
		signers := []SignerSpec{{Cert: signing[s.who].cert, Key: signing[s.who].key, PSS: s.pss}}
		der, err := Sign(nil, false, signers, SignOptions{Time: time.Now()}, plain)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name+"/sign", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Sign(nil, false, signers, SignOptions{Time: time.Now()}, plain); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/verify", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				signed, err := ParseSigned(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := signed.Verify(0, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
