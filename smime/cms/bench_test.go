package cms

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// large is a content of 25 MiB.
func large() []byte { return text(25 << 20) }

// processorTime is what who (this process, or the children that it has waited for) has taken so far, on
// all processors.
func processorTime(b *testing.B, who int) time.Duration {
	var r syscall.Rusage
	if err := syscall.Getrusage(who, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// perCore runs f and reports megabytes for each second of processor time, which others on the
// machine change less than the time on the clock.
func perCore(b *testing.B, who, size int, f func()) {
	b.SetBytes(int64(size))
	b.ReportAllocs()
	runtime.GC()
	start := processorTime(b, who)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(size)*float64(b.N)/1e6/(processorTime(b, who)-start).Seconds(), "MB/cpu-s")
}

// perAct runs f and reports microseconds of processor time for each.
func perAct(b *testing.B, f func()) {
	b.ReportAllocs()
	perActOf(b, syscall.RUSAGE_SELF, f)
}

func perActOf(b *testing.B, who int, f func()) {
	start := processorTime(b, who)
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64((processorTime(b, who)-start).Microseconds())/float64(b.N), "cpu-µs/op")
}

func BenchmarkEncrypt(b *testing.B) {
	all := people(b)
	plain := large()
	for _, c := range []Cipher{AES256CBC, AES256GCM} {
		b.Run(c.String(), func(b *testing.B) {
			perCore(b, syscall.RUSAGE_SELF, len(plain), func() {
				if _, err := Encrypt(nil, c, Data, []RecipientSpec{{Cert: all["alice"].cert}}, plain); err != nil {
					b.Fatal(err)
				}
			})
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
			perCore(b, syscall.RUSAGE_SELF, len(plain), func() {
				e, err := ParseEnveloped(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Decrypt(k); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkSignLarge is signing and verifying what BenchmarkEncrypt encrypts: a digest, above all.
func BenchmarkSignLarge(b *testing.B) {
	all := people(b)
	plain := large()
	for name, who := range map[string]string{"sha256 (rsa-2048)": "alice", "sha384 (p384)": "erin"} {
		spec := []SignerSpec{{Cert: all[who].cert, Key: all[who].key}}
		der, err := Sign(nil, true, spec, SignOptions{}, plain)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name+"/sign", func(b *testing.B) {
			perCore(b, syscall.RUSAGE_SELF, len(plain), func() {
				if _, err := Sign(nil, true, spec, SignOptions{}, plain); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(name+"/verify", func(b *testing.B) {
			perCore(b, syscall.RUSAGE_SELF, len(plain), func() {
				s, err := ParseSigned(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := s.Verify(0, plain); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkOpenSSL is the program, its start included, from file to file, at what BenchmarkEncrypt,
// BenchmarkDecrypt and BenchmarkSignLarge do, and making the message as S/MIME, in base64.
func BenchmarkOpenSSL(b *testing.B) {
	o := newOpenssl(b)
	plain := large()
	o.write("plain", plain)
	der := []string{"-binary", "-outform", "DER", "-out", "out"}
	for _, c := range []string{"-aes-256-cbc", "-aes-256-gcm"} {
		encrypt := append([]string{"-encrypt", "-in", "plain", c, "-recip", "alice.pem"}, der...)
		o.run(nil, append(encrypt, "-out", "sealed"+c)...)
		for name, args := range map[string][]string{
			"encrypt":            encrypt,
			"encrypt as S/MIME":  {"-encrypt", "-in", "plain", c, "-recip", "alice.pem", "-binary", "-out", "out"},
			"encrypt, streaming": append(encrypt, "-stream"),
			"decrypt":            {"-decrypt", "-binary", "-inform", "DER", "-in", "sealed" + c, "-recip", "alice.pem", "-inkey", "alice.key", "-out", "out"},
		} {
			b.Run(name+c, func(b *testing.B) {
				perCore(b, syscall.RUSAGE_CHILDREN, len(plain), func() { o.run(nil, args...) })
			})
		}
	}
	b.Run("sign", func(b *testing.B) {
		perCore(b, syscall.RUSAGE_CHILDREN, len(plain), func() {
			o.run(nil, append([]string{"-sign", "-in", "plain", "-signer", "alice.pem", "-inkey", "alice.key"}, der...)...)
		})
	})
	o.run(nil, append([]string{"-sign", "-in", "plain", "-signer", "alice.pem", "-inkey", "alice.key"}, append(der, "-out", "signed")...)...)
	b.Run("verify", func(b *testing.B) {
		perCore(b, syscall.RUSAGE_CHILDREN, len(plain), func() {
			o.run(nil, "-verify", "-binary", "-inform", "DER", "-in", "signed", "-content", "plain", "-noverify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-out", "out")
		})
	})
}

// BenchmarkOpenSSLShort is the program at what BenchmarkRecipient and BenchmarkSignature do. Its start, which takes longer
// than that, is a benchmark, too, to be taken off.
func BenchmarkOpenSSLShort(b *testing.B) {
	o := newOpenssl(b)
	long := longer(b)
	o.person("long", long)
	o.write("plain", text(2000))
	o.run(nil, "-data_create", "-in", "plain", "-outform", "DER", "-out", "data")
	act := func(name string, args ...string) {
		b.Run(name, func(b *testing.B) {
			perActOf(b, syscall.RUSAGE_CHILDREN, func() { o.run(nil, append(args, "-binary")...) })
		})
	}
	act("start", "-data_out", "-inform", "DER", "-in", "data", "-out", "out")
	for _, k := range []struct{ name, who, opts string }{
		{"rsa-2048 pkcs1v15", "alice", ""},
		{"rsa-2048 oaep, pss", "alice", "oaep pss"},
		{"rsa-3072", "long", "oaep"},
		{"p256", "carol", ""},
		{"p384", "erin", ""},
		{"p521", "grace", ""},
	} {
		to, by := []string{"-recip", k.who + ".pem"}, []string{"-signer", k.who + ".pem", "-inkey", k.who + ".key"}
		if strings.Contains(k.opts, "oaep") {
			to = append(to, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256")
		}
		if strings.Contains(k.opts, "pss") {
			by = append(by, "-keyopt", "rsa_padding_mode:pss")
		}
		encrypt := append([]string{"-encrypt", "-aes-256-gcm", "-in", "plain", "-outform", "DER", "-out", "sealed"}, to...)
		sign := append([]string{"-sign", "-nodetach", "-in", "plain", "-outform", "DER", "-out", "signed"}, by...)
		o.run(nil, append(encrypt, "-binary")...)
		o.run(nil, append(sign, "-binary")...)
		act(k.name+"/encrypt", encrypt...)
		act(k.name+"/decrypt", "-decrypt", "-inform", "DER", "-in", "sealed", "-recip", k.who+".pem", "-inkey", k.who+".key", "-out", "out")
		act(k.name+"/sign", sign...)
		act(k.name+"/verify", "-verify", "-inform", "DER", "-in", "signed", "-noverify", "-no-CAfile", "-no-CApath", "-no-CAstore", "-out", "out")
	}
}

// longer is somebody with an RSA key of 3072 bits.
func longer(b *testing.B) *person {
	key, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		b.Fatal(err)
	}
	return &person{selfSigned("longer", 3072, key), key}
}

// BenchmarkRecipient is a short message to one recipient, by kind of key; opening it, too.
func BenchmarkRecipient(b *testing.B) {
	all := people(b)
	cert, key := xena(b)
	long := longer(b)
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
		{"rsa-3072 oaep", long.cert, OAEPSHA256, long.opener(b)},
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
			perAct(b, func() {
				if _, err := Encrypt(nil, AES256GCM, Data, []RecipientSpec{{Cert: r.cert, Transport: r.how}}, plain); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(r.name+"/decrypt", func(b *testing.B) {
			perAct(b, func() {
				e, err := ParseEnveloped(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Decrypt(r.k); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkSignature is signing a short message, by kind of key, and verifying it.
func BenchmarkSignature(b *testing.B) {
	all := people(b)
	signing := map[string]*person{"rsa-2048": all["alice"], "rsa-3072": longer(b), "p256": all["carol"], "p384": all["erin"], "p521": all["grace"], "ed25519": eddie(b)}
	plain := text(2000)
	for _, s := range []struct {
		name, who string
		pss       bool
	}{{"rsa-2048 pkcs1v15", "rsa-2048", false}, {"rsa-2048 pss", "rsa-2048", true}, {"rsa-3072 pkcs1v15", "rsa-3072", false}, {"p256", "p256", false}, {"p384", "p384", false}, {"p521", "p521", false}, {"ed25519", "ed25519", false}} {
		signers := []SignerSpec{{Cert: signing[s.who].cert, Key: signing[s.who].key, PSS: s.pss}}
		der, err := Sign(nil, false, signers, SignOptions{Time: time.Now()}, plain)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name+"/sign", func(b *testing.B) {
			perAct(b, func() {
				if _, err := Sign(nil, false, signers, SignOptions{Time: time.Now()}, plain); err != nil {
					b.Fatal(err)
				}
			})
		})
		b.Run(s.name+"/verify", func(b *testing.B) {
			perAct(b, func() {
				signed, err := ParseSigned(der, Limits{})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := signed.Verify(0, nil); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}
