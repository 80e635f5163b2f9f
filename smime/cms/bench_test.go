package cms

import (
	"testing"
	"time"
)

func BenchmarkEncrypt(b *testing.B) {
	all := people(b)
	plain := text(25 << 20)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
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
	plain := text(25 << 20)
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		der, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}}, plain)
		if err != nil {
			b.Fatal(err)
		}
		k := all["alice"].opener(b)
		b.Run(c.String(), func(b *testing.B) {
			b.SetBytes(int64(len(plain)))
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

// BenchmarkSeal is what the gateway does to a short message for two recipients: an
// elliptic-curve signature, then encryption.
func BenchmarkSeal(b *testing.B) {
	all := people(b)
	plain := text(2000)
	for name, to := range map[string][]string{"rsa": {"alice", "bob"}, "p256": {"carol", "carol"}, "p384": {"erin", "erin"}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				signed, err := Sign(nil, false, []SignerSpec{{Cert: all["carol"].cert, Key: all["carol"].key}}, SignOptions{Time: time.Now()}, plain)
				if err != nil {
					b.Fatal(err)
				}
				specs := []RecipientSpec{{Cert: all[to[0]].cert}, {Cert: all[to[1]].cert}}
				if _, err := Encrypt(nil, AES256CBC, SignedData, specs, signed); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
