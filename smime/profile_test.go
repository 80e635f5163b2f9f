package smime

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// newProfileWorld has a person for every profile and kind of key: gina, otto and viktor with
// RSA keys (gcm, oaep, pkcs1v15), carol and erin without a profile on P-256 and P-384, and
// petra and quinn on the same curves, who read GCM.
func newProfileWorld(t testing.TB) *world {
	t.Helper()
	w := newSmallWorld(t)
	for _, p := range []struct {
		name, profile string
		key           demopki.Kind
		signer        crypto.Signer
	}{
		{"gina", "GCM", 0, rsaKey()},
		{"otto", ProfileOAEP, 0, rsaKey3072()},
		{"viktor", ProfileOld, 0, rsaKey()},
		{"unmarked", "", 0, rsaKey()},
		{"odd", "rot13", 0, rsaKey()},
		{"petra", ProfileGCM, demopki.P256, nil},
		{"quinn", ProfileGCM, demopki.P384, nil},
		{"olga", ProfileOld, demopki.P256, nil},
	} {
		w.person(p.name+"@works.gov.example", p.profile, demopki.Spec{CN: p.name, Address: p.name + "@works.gov.example", Key: p.key, Signer: p.signer})
	}
	return w
}

// sealed are messages for recipients of every profile, and how each must be encrypted.
var sealedFor = []struct {
	names      []string
	cipher     cms.Cipher
	transports []string
	recipients []string // as Inspect finds them
}{
	{[]string{"gina"}, cms.AES256GCM, []string{"rsa-oaep"}, []string{"rsa-oaep-sha256"}},
	{[]string{"petra"}, cms.AES256GCM, []string{"ecdh"}, []string{"ecdh-sha256kdf-aes256wrap"}},
	{[]string{"quinn"}, cms.AES256GCM, []string{"ecdh"}, []string{"ecdh-sha384kdf-aes256wrap"}},
	{[]string{"gina", "petra", "quinn"}, cms.AES256GCM, []string{"ecdh", "rsa-oaep"}, []string{"ecdh-sha256kdf-aes256wrap", "ecdh-sha384kdf-aes256wrap", "rsa-oaep-sha256"}},
	{[]string{"gina", "petra", "otto"}, cms.AES256CBC, []string{"ecdh", "rsa-oaep"}, []string{"ecdh-sha256kdf-aes256wrap", "rsa-oaep-sha256", "rsa-oaep-sha256"}},
	{[]string{"gina", "carol"}, cms.AES256CBC, []string{"ecdh", "rsa-oaep"}, []string{"ecdh-sha256kdf-aes256wrap", "rsa-oaep-sha256"}},
	{[]string{"gina", "viktor"}, cms.AES256CBC, []string{"rsa-oaep", "rsa-pkcs1v15"}, []string{"rsa-oaep-sha256", "rsa-pkcs1v15"}},
	{[]string{"otto"}, cms.AES256CBC, []string{"rsa-oaep"}, []string{"rsa-oaep-sha256"}},
	{[]string{"viktor"}, cms.AES256CBC, []string{"rsa-pkcs1v15"}, []string{"rsa-pkcs1v15"}},
	{[]string{"unmarked"}, cms.AES256CBC, []string{"rsa-oaep"}, []string{"rsa-oaep-sha256"}},
	{[]string{"odd"}, cms.AES256CBC, []string{"rsa-oaep"}, []string{"rsa-oaep-sha256"}},
	{[]string{"olga"}, cms.AES256CBC, []string{"ecdh"}, []string{"ecdh-sha256kdf-aes256wrap"}},
	{[]string{"carol"}, cms.AES256CBC, []string{"ecdh"}, []string{"ecdh-sha256kdf-aes256wrap"}},
	{[]string{"erin"}, cms.AES256CBC, []string{"ecdh"}, []string{"ecdh-sha384kdf-aes256wrap"}},
}

// TestSealInEveryProfile: the strongest form that all readers have in common, which we and
// OpenSSL open.
func TestSealInEveryProfile(t *testing.T) {
	w := newProfileWorld(t)
	for _, c := range sealedFor {
		us := w.usable(c.names...)
		if got := CipherFor(us); got != c.cipher {
			t.Errorf("%v: cipher %v, want %v", c.names, got, c.cipher)
		}
		if got := Transports(us); !slices.Equal(got, c.transports) {
			t.Errorf("%v: transports %v, want %v", c.names, got, c.transports)
		}
		sealed := w.seal(plain, SealOptions{Recipients: us})
		p := w.gw.Inspect(sealed, parse(sealed))
		if p.Kind != Encrypted || p.Enveloped.Cipher != c.cipher {
			t.Fatalf("%v: %v", c.names, p)
		}
		var ways []string
		for _, r := range p.Enveloped.Recipients {
			ways = append(ways, r.Algorithm)
		}
		if slices.Sort(ways); !slices.Equal(ways, c.recipients) {
			t.Errorf("%v: recipients %v, want %v", c.names, ways, c.recipients)
		}
		want := "smime-type=enveloped-data;"
		if c.cipher == cms.AES256GCM {
			want = "smime-type=authEnveloped-data;"
		}
		if !bytes.Contains(sealed, []byte("Content-Type: application/pkcs7-mime; "+want+"\r\n")) {
			t.Errorf("%v: not %s", c.names, want)
		}
		if _, err := w.gw.Covers(p, w.candidates(c.names...), nil); err != nil {
			t.Errorf("%v: as a client's own message: %v", c.names, err)
		}
		w.write("msg.eml", sealed)
		for _, name := range c.names {
			if o := w.open(sealed, name); o.Signature.Status != Pass || !bytes.Contains(o.Inner, []byte("Marker-4711")) {
				t.Errorf("%v: %s reads %q, %+v", c.names, name, o.Inner, o.Signature)
			}
			cert, key := w.files(name)
			entity, err := w.openssl("cms", "-decrypt", "-in", "msg.eml", "-recip", cert, "-inkey", key)
			if err != nil {
				t.Errorf("%v: %s with openssl: %v", c.names, name, err)
				continue
			}
			w.write("inner.eml", entity)
			if text, err := w.openssl("cms", "-verify", "-in", "inner.eml", "-CAfile", "ca.pem", "-purpose", "smimesign"); err != nil || !bytes.Contains(text, []byte("Marker-4711")) {
				t.Errorf("%v: %s's signature with openssl: %v\n%s", c.names, name, err, text)
			}
		}
	}
}

// TestSharedCertificate: a post and its holder may have one certificate and two clients.
func TestSharedCertificate(t *testing.T) {
	w := newProfileWorld(t)
	us := w.usable("gina", "gina")
	us[1].GCM, us[1].Transport = false, cms.PKCS1v15
	sealed := w.seal(plain, SealOptions{Recipients: us})
	e := w.gw.Inspect(sealed, parse(sealed)).Enveloped
	if e == nil || e.Cipher != cms.AES256CBC || len(e.Recipients) != 1 || e.Recipients[0].Algorithm != "rsa-pkcs1v15" {
		t.Errorf("%+v", e)
	}
}

// statement is a userSMIMECertificate that id signs.
func (w *world) statement(id *demopki.Identity, content []byte, caps []cms.Capability, more ...*x509.Certificate) []byte {
	w.t.Helper()
	der, err := cms.Sign(nil, content == nil, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{Capabilities: caps, Certificates: more}, content)
	w.must(err)
	return der
}

func TestCapabilities(t *testing.T) {
	w := newWorld(t)
	alice, bob := w.people["alice"], w.people["bob"]
	const (
		gcm  = cms.OID("2.16.840.1.101.3.4.1.46")
		cbc  = cms.OID("2.16.840.1.101.3.4.1.42")
		oaep = cms.OID("1.2.840.113549.1.1.7")
	)
	cap := func(ids ...cms.OID) (out []cms.Capability) {
		for _, id := range ids {
			out = append(out, cms.Capability{ID: id})
		}
		return out
	}
	ca := w.sub.Cert
	good := w.statement(alice.Identity, nil, cap(gcm, cbc, oaep), ca)
	old := w.statement(alice.Identity, nil, cap(cbc), ca)
	signing, err := w.sub.Issue(demopki.Spec{CN: "Alice", Address: "alice@works.gov.example", Key: demopki.P256, Usage: x509.KeyUsageDigitalSignature})
	w.must(err)
	twin, err := demopki.NewCA("Mail", nil)
	w.must(err)
	forger, err := twin.Issue(demopki.Spec{CN: "Alice", Address: "alice@works.gov.example", Key: demopki.P256})
	w.must(err)
	broken := bytes.Clone(good)
	broken[len(broken)-1] ^= 1 // the signature
	for name, c := range map[string]struct {
		profile   string
		smime     [][]byte
		gcm       bool
		transport cms.KeyTransport
		log       string // what the log says
	}{
		"nothing said":                {"", nil, false, cms.OAEPSHA256, ""},
		"GCM and OAEP":                {"", [][]byte{good}, true, cms.OAEPSHA256, ""},
		"our own capabilities":        {"", [][]byte{w.statement(alice.Identity, nil, cms.Capabilities())}, true, cms.OAEPSHA256, ""},
		"with content":                {"", [][]byte{w.statement(alice.Identity, []byte("x"), cap(gcm, oaep))}, true, cms.OAEPSHA256, ""},
		"GCM alone":                   {"", [][]byte{w.statement(alice.Identity, nil, cap(gcm))}, true, cms.PKCS1v15, ""},
		"CBC alone":                   {"", [][]byte{old}, false, cms.PKCS1v15, ""},
		"CBC and OAEP":                {"", [][]byte{w.statement(alice.Identity, nil, cap(cbc, oaep))}, false, cms.OAEPSHA256, ""},
		"a new client and an old one": {"", [][]byte{good, old}, false, cms.PKCS1v15, ""},
		"signed with another key":     {"", [][]byte{w.statement(signing, nil, cap(gcm, oaep), alice.Cert, ca)}, true, cms.OAEPSHA256, ""},
		"of another certificate":      {"", [][]byte{w.statement(signing, nil, cap(cbc), ca)}, false, cms.OAEPSHA256, ""},
		"signature not good":          {"", [][]byte{broken}, false, cms.OAEPSHA256, "does not count"},
		"somebody else's":             {"", [][]byte{w.statement(bob.Identity, nil, cap(gcm), alice.Cert)}, false, cms.OAEPSHA256, "does not count"},
		"a forger's":                  {"", [][]byte{w.statement(forger, nil, cap(gcm), alice.Cert)}, false, cms.OAEPSHA256, "does not count"},
		"without capabilities":        {"", [][]byte{w.statement(alice.Identity, nil, nil)}, false, cms.OAEPSHA256, "does not count"},
		"rubbish":                     {"", [][]byte{[]byte("rubbish")}, false, cms.OAEPSHA256, "cannot be read"},
		"the directory says oaep":     {ProfileOAEP, [][]byte{good}, false, cms.OAEPSHA256, ""},
		"the directory says old":      {ProfileOld, [][]byte{good}, false, cms.PKCS1v15, ""},
		"the directory says gcm":      {ProfileGCM, [][]byte{old}, true, cms.OAEPSHA256, ""},
		"the directory says rot13":    {"rot13", [][]byte{good}, true, cms.OAEPSHA256, "does not exist"},
	} {
		var log bytes.Buffer
		w.gw.o.Log = slog.New(slog.NewTextHandler(&log, nil))
		candidate := alice.Candidate
		candidate.Profile, candidate.SMIME = c.profile, c.smime
		u, err := w.gw.Choose(candidate)
		if err != nil || u.GCM != c.gcm || u.Transport != c.transport || !u.Cert.Equal(alice.Cert) {
			t.Errorf("%s: GCM %v, transport %v, %v", name, u.GCM, u.Transport, err)
		}
		if (c.log == "") != (log.Len() == 0) || !strings.Contains(log.String(), c.log) {
			t.Errorf("%s: the log says %q", name, log.String())
		}
	}
}

// TestCertificateFromStatement: a userSMIMECertificate alone is a certificate to encrypt to;
// those above it are nobody's.
func TestCertificateFromStatement(t *testing.T) {
	w := newWorld(t)
	alice := w.people["alice"]
	c := alice.Candidate
	c.Certificates, c.Profile = nil, ""
	c.SMIME = [][]byte{w.statement(alice.Identity, nil, cms.Capabilities(), w.sub.Cert, w.ca.Cert)}
	u, err := w.gw.Choose(c)
	if err != nil || !u.Cert.Equal(alice.Cert) || !u.GCM {
		t.Fatalf("%+v, %v", u, err)
	}
	if n := len(w.gw.certificates(c)); n != 1 {
		t.Errorf("%d certificates", n)
	}
	p := encryptedTo(w, cms.AES256GCM, alice.Cert)
	if _, err := w.gw.Covers(p, []Candidate{c}, nil); err != nil {
		t.Errorf("covers: %v", err)
	}
	if got := w.gw.Readers(p, []Candidate{c}); len(got) != 1 || got[0] != c.Address {
		t.Errorf("readers: %v", got)
	}
	c.SMIME[0][len(c.SMIME[0])-1] ^= 1 // the signature: the certificate is judged by itself
	if u, err := w.gw.Choose(c); err != nil || !u.Cert.Equal(alice.Cert) || u.GCM {
		t.Errorf("%+v, %v", u, err)
	}
	c.SMIME = [][]byte{w.statement(w.people["grace"].Identity, nil, cms.Capabilities())}
	c.Address = w.people["grace"].Address
	if _, err := w.gw.Choose(c); mail.KindOf(err) != mail.Refused || !strings.Contains(mail.PublicOf(err), "revoked") {
		t.Errorf("a revoked one: %v", err)
	}
	if r := w.gw.o.Trust.Check(alice.Cert, trust.Encrypt, c.binding()); r.Usable {
		t.Error("alice's is grace's too")
	}
}
