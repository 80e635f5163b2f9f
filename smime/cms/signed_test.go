package cms

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

// TestVerifyWhatOpenSSLSigns goes through keys, digests, forms and ways to name the
// signer, and damages each message.
func TestVerifyWhatOpenSSLSigns(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	signers := []struct {
		name, who, alg string
		hash           crypto.Hash
		args           []string
	}{
		{"rsa", "alice", "rsa-sha256", crypto.SHA256, nil},
		{"rsa sha384", "alice", "rsa-sha384", crypto.SHA384, []string{"-md", "sha384"}},
		{"rsa sha512", "alice", "rsa-sha512", crypto.SHA512, []string{"-md", "sha512"}},
		{"pss", "bob", "rsa-pss-sha256", crypto.SHA256, []string{"-keyopt", "rsa_padding_mode:pss"}},
		{"pss salt 20", "bob", "rsa-pss-sha512", crypto.SHA512, []string{"-md", "sha512", "-keyopt", "rsa_padding_mode:pss", "-keyopt", "rsa_pss_saltlen:20"}},
		{"p256", "carol", "ecdsa-p256-sha256", crypto.SHA256, nil},
		{"p384", "erin", "ecdsa-p384-sha384", crypto.SHA384, []string{"-md", "sha384"}},
		{"p521", "grace", "ecdsa-p521-sha512", crypto.SHA512, []string{"-md", "sha512"}},
	}
	for _, s := range signers {
		for _, form := range []string{"", "-keyid", "-cades", "-noattr", "-stream -indef"} {
			for _, detached := range []bool{true, false} {
				if form == "-stream -indef" && (detached || strings.HasPrefix(s.name, "pss")) {
					continue // openssl cannot
				}
				t.Run(fmt.Sprintf("%s %s detached %v", s.name, form, detached), func(t *testing.T) {
					o.t = t
					content := text(9000)
					args := []string{"-sign", "-binary", "-outform", "DER", "-signer", s.who + ".pem", "-inkey", s.who + ".key"}
					args = append(append(args, s.args...), strings.Fields(form)...)
					if !detached {
						args = append(args, "-nodetach")
					}
					ber := o.run(content, args...)
					signed, err := ParseSigned(ber, Limits{})
					if err != nil {
						t.Fatal(err)
					}
					if len(signed.Signers) != 1 || signed.ContentType != Data || (signed.Content == nil) != detached {
						t.Fatalf("%d signers, content type %s, content %v", len(signed.Signers), signed.ContentType, signed.Content != nil)
					}
					given := content
					if !detached {
						given = nil
						if !bytes.Equal(signed.Content, content) {
							t.Fatal("another content")
						}
					}
					got, err := signed.Verify(0, given)
					if err != nil {
						t.Fatal(err)
					}
					if !got.Cert.Equal(all[s.who].cert) || got.Algorithm != s.alg || got.Digest != s.hash {
						t.Errorf("signed by %v with %s, %v", got.Cert.Subject, got.Algorithm, got.Digest)
					}
					if (form == "-noattr") == got.SignedAttributes || got.SignedAttributes && time.Since(got.SigningTime).Abs() > time.Minute {
						t.Errorf("signed attributes %v, at %v", got.SignedAttributes, got.SigningTime)
					}
					if got.SigningCertificate != (form == "-cades") {
						t.Errorf("signing certificate named: %v", got.SigningCertificate)
					}
					if got.SignedAttributes && len(got.Capabilities) == 0 {
						t.Error("no capabilities")
					}
					wrongContent(t, signed, detached, content)
				})
			}
		}
	}
}

// wrongContent checks that no other content passes, and none where there is one.
func wrongContent(t *testing.T, s *Signed, detached bool, content []byte) {
	t.Helper()
	for i, other := range [][]byte{nil, {}, content[:len(content)-1], append(bytes.Clone(content), 0)} {
		if i == 0 && !detached {
			continue
		}
		if _, err := s.Verify(0, other); err == nil {
			t.Errorf("content %d passed", i)
		}
	}
	if _, err := s.Verify(1, content); mail.KindOf(err) != mail.NotFound {
		t.Errorf("a signature that is not there: %v", err)
	}
}

func TestOpenSSLVerifiesOurs(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	var everybody []byte
	for _, p := range all {
		everybody = append(everybody, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})...)
	}
	ca := o.write("ca.pem", everybody)
	now := time.Date(2026, 11, 22, 11, 0, 0, 0, time.UTC)
	for _, names := range [][]string{{"alice"}, {"carol"}, {"erin"}, {"grace"}, {"alice", "carol", "erin"}} {
		for _, detached := range []bool{true, false} {
			for _, size := range []int{0, 10, 4 << 20} {
				var signers []SignerSpec
				for _, n := range names {
					signers = append(signers, SignerSpec{Cert: all[n].cert, Key: all[n].key})
				}
				content := text(size)
				der, err := Sign(nil, detached, signers, SignOptions{
					Time: now, Capabilities: someCapabilities(), Certificates: []*x509.Certificate{all["eve"].cert, all["alice"].cert},
				}, content)
				if err != nil {
					t.Fatal(err)
				}
				if err := checkDER(der, maxDepth); err != nil {
					t.Errorf("not DER: %v", err)
				}
				args := []string{"-verify", "-binary", "-inform", "DER", "-CAfile", ca, "-purpose", "any", "-cades"}
				given := []byte(nil)
				if detached {
					args = append(args, "-content", o.write("content", content))
					given = content
				}
				if got := o.run(der, args...); !bytes.Equal(got, content) {
					t.Errorf("%v: openssl reads another content", names)
				}
				signed, err := ParseSigned(der, Limits{})
				if err != nil || len(signed.Signers) != len(names) {
					t.Fatalf("%v, %v", signed, err)
				}
				for i := range signed.Signers {
					got, err := signed.Verify(i, given)
					if err != nil {
						t.Fatal(err)
					}
					if !got.SigningTime.Equal(now) || !got.SigningCertificate || !got.SignedAttributes ||
						len(got.Capabilities) != len(someCapabilities()) || got.Capabilities[0].ID != oidAES256GCM {
						t.Errorf("%+v", got)
					}
				}
			}
		}
	}
}

// TestTamperedSignatures flips every bit of small signed messages of openssl and of
// ours: nothing may panic, and what still verifies must say the same.
func TestTamperedSignatures(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	content := []byte("Content-Type: text/plain\r\n\r\npay 10 dollars\r\n")
	ours, err := Sign(nil, false, []SignerSpec{{Cert: all["carol"].cert, Key: all["carol"].key}}, SignOptions{Time: time.Now()}, content)
	if err != nil {
		t.Fatal(err)
	}
	theirs := func(who string, args ...string) []byte {
		return o.run(content, append([]string{
			"-sign", "-binary", "-outform", "DER", "-nodetach", "-nocerts",
			"-signer", who + ".pem", "-inkey", who + ".key",
		}, args...)...)
	}
	for name, der := range map[string][]byte{
		"ours": ours, "rsa": theirs("alice"), "pss": theirs("alice", "-keyopt", "rsa_padding_mode:pss"),
		"ecdsa": theirs("carol"), "bare": theirs("carol", "-noattr"), "stream": theirs("carol", "-stream", "-indef"),
	} {
		t.Run(name, func(t *testing.T) {
			known := []*x509.Certificate{all["alice"].cert, all["carol"].cert}
			passed := 0
			for bit := range 8 * len(der) {
				b := bytes.Clone(der)
				b[bit/8] ^= 1 << (bit % 8)
				s, err := ParseSigned(b, Limits{})
				if err != nil {
					continue
				}
				for i := range s.Signers {
					got, err := s.Verify(i, nil, known...)
					if err != nil {
						continue
					}
					passed++
					if !bytes.Equal(s.Content, content) || got.Cert == nil || s.ContentType != Data {
						t.Errorf("bit %d: a changed message passed", bit)
					}
				}
			}
			t.Logf("%d of %d changes left the signature good", passed, 8*len(der))
		})
	}
}

func TestSignedLimitsAndKinds(t *testing.T) {
	o := newOpenssl(t)
	all := people(t)
	certs := o.run(nil, "-data_create", "-outform", "DER") // not signed at all
	if _, err := ParseSigned(certs, Limits{}); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("plain data: %v", err)
	}
	content := []byte("x")
	sha1 := o.run(content, "-sign", "-binary", "-outform", "DER", "-nodetach", "-md", "sha1", "-signer", "alice.pem", "-inkey", "alice.key")
	for _, allowed := range []bool{false, true} {
		s, err := ParseSigned(sha1, Limits{SHA1: allowed})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Verify(0, nil); (err == nil) != allowed || err != nil && mail.KindOf(err) != mail.Unsupported {
			t.Errorf("SHA-1 with leave %v: %v", allowed, err)
		}
	}
	two := o.run(content, "-sign", "-binary", "-outform", "DER", "-nodetach",
		"-signer", "alice.pem", "-inkey", "alice.key", "-signer", "carol.pem", "-inkey", "carol.key")
	for _, lim := range []Limits{{Signers: 1}, {Certificates: 1}, {Size: 100}, {Depth: 3}, {Elements: 5}} {
		if _, err := ParseSigned(two, lim); mail.KindOf(err) != mail.TooLarge {
			t.Errorf("%+v: %v", lim, err)
		}
	}
	none := o.run(content, "-sign", "-binary", "-outform", "DER", "-nodetach", "-nocerts", "-signer", "alice.pem", "-inkey", "alice.key")
	s, err := ParseSigned(none, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Verify(0, nil, all["eve"].cert); mail.KindOf(err) != mail.NotFound {
		t.Errorf("without the certificate: %v", err)
	}
	if _, err := s.Verify(0, nil, all["alice"].cert); err != nil {
		t.Errorf("with the certificate at hand: %v", err)
	}
}

// TestAttributesAsContent: the signed attributes of one message, passed off as the
// content of another that has none, carry a good signature, and must not pass.
func TestAttributesAsContent(t *testing.T) {
	carol := people(t)["carol"]
	der, err := Sign(nil, true, []SignerSpec{{Cert: carol.cert, Key: carol.key}}, SignOptions{}, []byte("real"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigned(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	attrs := s.Signers[0].attrs
	s.Signers[0].attrs = nil
	if _, err := s.Verify(0, attrs); mail.KindOf(err) != mail.Invalid {
		t.Errorf("attributes passed as content: %v", err)
	}
	for _, content := range []string{"", "\x04\x02ab", "A\x0200", "\x31\x00", "\x31\x80\x00\x00", "\x11\x02ab", "1 January"} {
		if err := checkBare(Data, []byte(content)); err != nil {
			t.Errorf("%q: %v", content, err)
		}
	}
	if err := checkBare(SignedData, nil); err == nil {
		t.Error("no signed attributes over another type than data")
	}
}

// TestSignedAttributeRules builds sets of attributes and says which may stand.
func TestSignedAttributeRules(t *testing.T) {
	carol, erin := people(t)["carol"].cert, people(t)["erin"].cert
	digest := sum(crypto.SHA256, []byte("x"))
	contentType := attribute(oidAttrContentType, Data.der())
	messageDigest := attribute(oidAttrMessageDigest, tlv(derOctetString, digest))
	at := func(s string, id byte) []byte { return attribute(oidAttrSigningTime, tlv(id, []byte(s))) }
	unknown := attribute("1.2.3", small(1))
	twice := func(id OID, a, b []byte) []byte { return tlv(derSequence, id.der(), setOf(derSet, [][]byte{a, b})) }
	certID := func(c *x509.Certificate) []byte {
		return attribute(oidAttrSigningCertV2, appendSigningCertificateV2(nil, c))
	}
	sha384ID := attribute(oidAttrSigningCertV2, tlv(derSequence, tlv(derSequence, tlv(derSequence,
		hashAlgorithm(crypto.SHA384, nil).der(), tlv(derOctetString, sum(crypto.SHA384, carol.Raw))))))
	v1ID := attribute(oidAttrSigningCert, tlv(derSequence, tlv(derSequence, tlv(derSequence,
		tlv(derOctetString, sum(crypto.SHA1, carol.Raw))))))
	for name, v := range map[string]struct {
		attrs [][]byte
		good  bool
	}{
		"least":                    {[][]byte{contentType, messageDigest}, true},
		"all":                      {[][]byte{contentType, messageDigest, at("261122110000Z", derUTCTime), certID(carol), unknown}, true},
		"generalized time":         {[][]byte{contentType, messageDigest, at("20501122110000Z", derGenTime)}, true},
		"unknown twice":            {[][]byte{contentType, messageDigest, unknown, unknown}, true},
		"SHA-384 certificate id":   {[][]byte{contentType, messageDigest, sha384ID}, true},
		"version 1 certificate id": {[][]byte{contentType, messageDigest, v1ID, certID(carol)}, true},
		"no content type":          {[][]byte{messageDigest}, false},
		"no digest":                {[][]byte{contentType}, false},
		"none":                     {nil, false},
		"content type twice":       {[][]byte{contentType, contentType, messageDigest}, false},
		"digest twice":             {[][]byte{contentType, messageDigest, messageDigest}, false},
		"two digests":              {[][]byte{contentType, twice(oidAttrMessageDigest, tlv(derOctetString, digest), tlv(derOctetString))}, false},
		"another content type":     {[][]byte{attribute(oidAttrContentType, SignedData.der()), messageDigest}, false},
		"another digest":           {[][]byte{contentType, attribute(oidAttrMessageDigest, tlv(derOctetString, digest[1:]))}, false},
		"time twice":               {[][]byte{contentType, messageDigest, at("261122110000Z", derUTCTime), at("261122110001Z", derUTCTime)}, false},
		"bad time":                 {[][]byte{contentType, messageDigest, at("2611221100Z0", derUTCTime)}, false},
		"another certificate":      {[][]byte{contentType, messageDigest, certID(erin)}, false},
		"two certificate ids":      {[][]byte{contentType, messageDigest, certID(carol), certID(erin)}, false},
		"empty certificate id":     {[][]byte{contentType, messageDigest, attribute(oidAttrSigningCertV2, tlv(derSequence))}, false},
		"no value":                 {[][]byte{contentType, messageDigest, tlv(derSequence, OID("1.2.3").der(), tlv(derSet))}, false},
		"bad capabilities":         {[][]byte{contentType, messageDigest, attribute(oidAttrCapabilities, small(1))}, false},
		"capabilities twice": {[][]byte{
			contentType, messageDigest,
			twice(oidAttrCapabilities, encodeCapabilities(nil), encodeCapabilities(someCapabilities())),
		}, false},
	} {
		res := SignerResult{Cert: carol}
		if err := res.readAttributes(setOf(derSet, v.attrs), Data, digest); (err == nil) != v.good {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, set := range map[string][]byte{
		"out of order":       tlv(derSet, messageDigest, contentType),
		"indefinite":         append(append([]byte{derSet, 0x80}, append(contentType, messageDigest...)...), 0, 0),
		"not a set":          setOf(derSequence, [][]byte{contentType, messageDigest}),
		"too many":           setOf(derSet, append(slices.Repeat([][]byte{unknown}, maxAttributes), contentType, messageDigest)),
		"not attributes":     tlv(derSet, small(1)),
		"values in disorder": setOf(derSet, [][]byte{contentType, messageDigest, tlv(derSequence, OID("1.2.3").der(), tlv(derSet, small(2), small(1)))}),
	} {
		res := SignerResult{Cert: carol}
		if err := res.readAttributes(set, Data, digest); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestBareSignature: without signed attributes a signature is over the content itself.
func TestBareSignature(t *testing.T) {
	carol := people(t)["carol"]
	s, err := ParseSigned(bare(t, carol, []byte("content")), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Verify(0, nil, carol.cert); err != nil || got.SignedAttributes || got.Algorithm != "ecdsa-p256-sha256" {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Verify(0, nil, people(t)["erin"].cert); mail.KindOf(err) != mail.NotFound {
		t.Errorf("no certificate: %v", err)
	}
}

// TestPanicsAreErrors: what a key or a library does must not stop the platform.
func TestPanicsAreErrors(t *testing.T) {
	f := func() (err error) {
		defer guard(&err)
		panic("boo")
	}
	if err := f(); mail.KindOf(err) != mail.Internal || mail.PublicOf(err) != "" {
		t.Error(err)
	}
	alice := people(t)["alice"]
	e := &Enveloped{Cipher: AES256CBC, mayOpen: true, Recipients: []RecipientInfo{{
		Kind: KeyTrans, Issuer: alice.cert.RawIssuer, Serial: alice.cert.SerialNumber, transport: &RSATransport{},
	}}}
	if _, err := e.Decrypt(panics{alice.opener(t)}); !errors.Is(err, ErrDecrypt) {
		t.Error(err)
	}
}

type panics struct{ KeyOpener }

func (panics) DecryptKey(RSATransport, []byte, int) ([]byte, error) { panic("boo") }

// TestCertificatesOfOneName: a certificate that bears the signer's name but has another
// key must not stand in the way of the right one.
func TestCertificatesOfOneName(t *testing.T) {
	carol, eve := people(t)["carol"], people(t)["eve"]
	twin := selfSigned("carol", carol.cert.SerialNumber.Int64(), eve.key)
	der, err := Sign(nil, false, []SignerSpec{{Cert: carol.cert, Key: carol.key}}, SignOptions{}, []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSigned(der, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s.Certificates = []*x509.Certificate{twin}
	if _, err := s.Verify(0, nil); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("only the twin: %v", err)
	}
	if got, err := s.Verify(0, nil, carol.cert); err != nil || !got.Cert.Equal(carol.cert) {
		t.Errorf("the twin and the right one: %v", err)
	}
}

// someCapabilities are the ciphers that this package opens, best first.
func someCapabilities() []Capability {
	var all []Capability
	for _, c := range []Cipher{AES256GCM, AES128GCM, AES256CBC, AES192CBC, AES128CBC} {
		all = append(all, Capability{ID: c.oid()})
	}
	return all
}
