package cms

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestOpenWhatOpenSSLEncrypts goes through the ways in which openssl names recipients
// and carries keys, in DER and in streamed BER.
func TestOpenWhatOpenSSLEncrypts(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	recipients := []struct {
		name string
		who  []string
		args []string
		alg  []string
	}{
		{"v1.5", []string{"alice"}, []string{"-recip", "alice.pem"}, []string{"rsa-pkcs1v15"}},
		{"oaep sha1", []string{"alice"}, []string{"-recip", "alice.pem", "-keyopt", "rsa_padding_mode:oaep"}, []string{"rsa-oaep-sha1"}},
		{"oaep sha256", []string{"alice"}, []string{"-recip", "alice.pem", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}, []string{"rsa-oaep-sha256"}},
		{"oaep sha512 mgf sha384", []string{"alice"}, []string{"-recip", "alice.pem", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha512", "-keyopt", "rsa_mgf1_md:sha384"}, []string{"rsa-oaep-sha512"}},
		{"oaep label", []string{"alice"}, []string{"-recip", "alice.pem", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_label:00ff"}, []string{"rsa-oaep-sha1"}},
		{"p256", []string{"carol"}, []string{"-recip", "carol.pem"}, []string{"ecdh-sha1kdf-aes256wrap"}},
		{"p256 sha256", []string{"carol"}, []string{"-recip", "carol.pem", "-keyopt", "ecdh_kdf_md:sha256"}, []string{"ecdh-sha256kdf-aes256wrap"}},
		{"p256 cofactor", []string{"carol"}, []string{"-recip", "carol.pem", "-keyopt", "ecdh_kdf_md:sha256", "-keyopt", "ecdh_cofactor_mode:1"}, []string{"ecdh-sha256kdf-aes256wrap"}},
		{"p384 sha384", []string{"erin"}, []string{"-recip", "erin.pem", "-keyopt", "ecdh_kdf_md:sha384"}, []string{"ecdh-sha384kdf-aes256wrap"}},
		{"p384 sha512", []string{"erin"}, []string{"-recip", "erin.pem", "-keyopt", "ecdh_kdf_md:sha512"}, []string{"ecdh-sha512kdf-aes256wrap"}},
		{"p521", []string{"grace"}, []string{"-recip", "grace.pem", "-keyopt", "ecdh_kdf_md:sha224"}, []string{"ecdh-sha224kdf-aes256wrap"}},
		{"mixed", []string{"alice", "bob", "carol", "erin"}, []string{
			"-recip", "alice.pem", "-recip", "bob.pem",
			"-keyopt", "rsa_padding_mode:oaep", "-recip", "carol.pem", "-recip", "erin.pem",
		}, []string{"rsa-pkcs1v15", "rsa-oaep-sha1", "ecdh-sha1kdf-aes256wrap", "ecdh-sha1kdf-aes256wrap"}},
		{"shared key and password beside", []string{"alice"}, []string{
			"-recip", "alice.pem", "-secretkey",
			"000102030405060708090a0b0c0d0e0f", "-secretkeyid", "01", "-pwri_password", "secret",
		}, []string{"rsa-pkcs1v15", "unknown", "unknown"}},
	}
	forms := [][]string{nil, {"-keyid"}, {"-stream", "-indef"}}
	for _, r := range recipients {
		for _, f := range forms {
			t.Run(r.name+strings.Join(f, ""), func(t *testing.T) {
				plain := text(5000)
				args := append([]string{"-encrypt", "-binary", "-outform", "DER", "-aes-256-cbc"}, f...)
				ber := o.run(plain, append(args, r.args...)...)
				if id, err := ContentType(ber); id != EnvelopedData || err != nil {
					t.Fatalf("content type %s, %v", id, err)
				}
				e, err := ParseEnveloped(ber, Limits{})
				if err != nil {
					t.Fatal(err)
				}
				if e.Cipher != AES256CBC || e.ContentType != Data || len(e.Recipients) != len(r.alg) {
					t.Fatalf("cipher %v, content %v, recipients %v", e.Cipher, e.ContentType, e.Recipients)
				}
				var algs []string
				for _, ri := range e.Recipients {
					algs = append(algs, ri.Algorithm)
					if ri.Kind != Other && (ri.SKI != nil) != slices.Contains(f, "-keyid") {
						t.Errorf("named by key identifier: %v", ri.SKI != nil)
					}
				}
				if slices.Sort(algs); !slices.Equal(algs, slices.Sorted(slices.Values(r.alg))) {
					t.Errorf("algorithms %q, want %q", algs, r.alg)
				}
				for _, who := range r.who {
					got, err := e.Decrypt(all[who].opener(t))
					if err != nil || !bytes.Equal(got, plain) {
						t.Errorf("%s: %v", who, err)
					}
				}
				if _, err := e.Decrypt(all["eve"].opener(t)); !errors.Is(err, ErrDecrypt) {
					t.Errorf("eve: %v", err)
				}
			})
		}
	}
}

func TestOpenCiphersOfOpenSSL(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	for arg, c := range map[string]Cipher{
		"-aes-128-cbc": AES128CBC, "-aes-192-cbc": AES192CBC, "-aes-256-cbc": AES256CBC, "-des3": TripleDES,
		"-aes-128-gcm": AES128GCM, "-aes-192-gcm": AES192GCM, "-aes-256-gcm": AES256GCM, "-camellia128": UnknownCipher,
	} {
		for _, size := range []int{0, 1, 15, 16, 17, 4 << 20} {
			if size > 100 && c != AES256CBC && c != AES256GCM {
				continue
			}
			for _, form := range []string{"-nodetach", "-stream"} { // the first says nothing here
				if size == 0 && form == "-stream" && c.Authenticated() {
					continue // openssl cannot
				}
				plain := text(size)
				ber := o.run(plain, "-encrypt", "-binary", "-outform", "DER", form, arg, "-recip", "alice.pem", "-recip", "carol.pem")
				e, err := ParseEnveloped(ber, Limits{TripleDES: true})
				if err != nil || e.Cipher != c {
					t.Fatalf("%s %d: %v, %v", arg, size, e, err)
				}
				for _, who := range []string{"alice", "carol"} {
					if c == TripleDES && who == "carol" {
						continue // wrapped with triple DES, which we do not read
					}
					got, err := e.Decrypt(all[who].opener(t))
					switch {
					case c == UnknownCipher && !errors.Is(err, ErrDecrypt):
						t.Errorf("%s: an unknown cipher gave %v", arg, err)
					case c != UnknownCipher && (err != nil || !bytes.Equal(got, plain)):
						t.Errorf("%s %d %s %s: %v", arg, size, form, who, err)
					}
				}
				if c == TripleDES {
					e, err := ParseEnveloped(ber, Limits{})
					if err != nil {
						t.Fatal(err)
					}
					if _, err := e.Decrypt(all["alice"].opener(t)); !errors.Is(err, ErrDecrypt) {
						t.Error("triple DES was opened without leave")
					}
				}
			}
		}
	}
}

func TestOpenSSLOpensOurs(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	to := []RecipientSpec{
		{Cert: all["alice"].cert},
		{Cert: all["bob"].cert, Transport: PKCS1v15},
		{Cert: all["carol"].cert},
		{Cert: all["erin"].cert},
		{Cert: all["grace"].cert},
	}
	who := []string{"alice", "bob", "carol", "erin", "grace"}
	for _, c := range []Cipher{AES128CBC, AES192CBC, AES256CBC, AES128GCM, AES192GCM, AES256GCM} {
		for _, size := range []int{0, 1, 16, 1000, 4 << 20} {
			if size > 1000 && c != AES256CBC && c != AES256GCM {
				continue
			}
			plain := text(size)
			der, err := Encrypt(nil, c, Data, to, plain)
			if err != nil {
				t.Fatal(err)
			}
			if err := checkDER(der, maxDepth); err != nil {
				t.Errorf("not DER: %v", err)
			}
			e, err := ParseEnveloped(der, Limits{})
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range who {
				got := o.run(der, "-decrypt", "-binary", "-inform", "DER", "-recip", name+".pem", "-inkey", name+".key")
				if !bytes.Equal(got, plain) {
					t.Errorf("%v %d: openssl reads another text for %s", c, size, name)
				}
				if got, err := e.Decrypt(all[name].opener(t)); err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%v %d %s: %v", c, size, name, err)
				}
			}
			if _, err := e.Decrypt(all["eve"].opener(t)); !errors.Is(err, ErrDecrypt) {
				t.Errorf("eve: %v", err)
			}
		}
	}
}
