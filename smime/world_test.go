package smime

import (
	"bytes"
	"compress/zlib"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/testkit"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// rsaKey and rsaKey3072 are made once: that takes long.
var (
	rsaKey     = sync.OnceValue(func() crypto.Signer { return mustKey(demopki.RSA2048) })
	rsaKey3072 = sync.OnceValue(func() crypto.Signer { return mustKey(demopki.RSA3072) })
)

func mustKey(k demopki.Kind) crypto.Signer {
	key, err := demopki.NewKey(k)
	if err != nil {
		panic(err)
	}
	return key
}

// world is the people of the demonstration with their certificates, and a gateway.
type world struct {
	t      testing.TB
	ca     *demopki.CA
	sub    *demopki.CA
	dir    string // ca.pem and the revocation lists
	people map[string]*person
	domain *demopki.Identity // of works.gov.example
	signer bool              // whether the gateway may use it
	gw     *Gateway
}

type person struct {
	*demopki.Identity
	Candidate
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := newSmallWorld(t)
	w.person("alice@works.gov.example", "oaep", demopki.Spec{CN: "Alice", Address: "alice@works.gov.example", Signer: rsaKey()})
	w.person("bob@works.gov.example", "pkcs1v15", demopki.Spec{CN: "Bob", Address: "bob@works.gov.example", Signer: rsaKey3072()})
	return w
}

// newSmallWorld leaves out those with RSA keys.
func newSmallWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), people: map[string]*person{}, signer: true}
	var err error
	w.ca, err = demopki.NewCA("Root", nil)
	w.must(err)
	w.sub, err = w.ca.NewSub("Mail", nil)
	w.must(err)
	w.domain, err = w.sub.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example"})
	w.must(err)
	w.person("carol@health.gov.example", "", demopki.Spec{CN: "Carol", Address: "carol@health.gov.example", Key: demopki.P256})
	w.person("erin@health.gov.example", "", demopki.Spec{CN: "Erin", Key: demopki.P384})
	past := time.Now().Add(-24 * time.Hour)
	w.person("frank@works.gov.example", "", demopki.Spec{CN: "Frank", Address: "frank@works.gov.example", NotBefore: past.Add(-24 * time.Hour), NotAfter: past})
	w.person("grace@works.gov.example", "", demopki.Spec{CN: "Grace", Address: "grace@works.gov.example"})
	w.sub.Revoke(w.people["grace"].Cert)
	w.people["dave"] = &person{Candidate: Candidate{Address: mail.MustParseAddress("dave@health.gov.example"), FromDirectory: true}}
	w.publish(24 * time.Hour)
	w.gw = w.gateway()
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) gateway() *Gateway {
	v, err := trust.New(trust.Options{
		Anchors: []*x509.Certificate{w.ca.Cert}, Intermediates: []*x509.Certificate{w.sub.Cert},
		CRLs: []string{filepath.Join(w.dir, "root.crl"), filepath.Join(w.dir, "sub.crl")}, RequireCRL: true,
	})
	w.must(err)
	return New(Options{Trust: v, Signers: func(domain string) (cms.SignerSpec, bool) {
		return cms.SignerSpec{Cert: w.domain.Cert, Key: w.domain.Key}, w.signer && domain == "works.gov.example"
	}})
}

func (w *world) publish(holds time.Duration) {
	for name, ca := range map[string]*demopki.CA{"root.crl": w.ca, "sub.crl": w.sub} {
		der, err := ca.CRL(holds)
		w.must(err)
		w.write(name, der)
	}
	w.write("ca.pem", demopki.CertPEM(w.ca.Cert))
}

func (w *world) write(name string, b []byte) string {
	w.t.Helper()
	path := filepath.Join(w.dir, name)
	w.must(os.WriteFile(path, b, 0o600))
	return path
}

func (w *world) person(addr, profile string, s demopki.Spec) *person {
	w.t.Helper()
	id, err := w.sub.Issue(s)
	w.must(err)
	a := mail.MustParseAddress(addr)
	p := &person{id, Candidate{Address: a, Name: s.CN, Certificates: [][]byte{id.Cert.Raw}, Profile: profile, FromDirectory: true}}
	w.people[a.Local] = p
	return p
}

func (w *world) candidates(names ...string) []Candidate {
	var out []Candidate
	for _, n := range names {
		out = append(out, w.people[n].Candidate)
	}
	return out
}

func (w *world) usable(names ...string) []Usable {
	w.t.Helper()
	var out []Usable
	for _, c := range w.candidates(names...) {
		u, err := w.gw.Choose(c)
		w.must(err)
		out = append(out, u)
	}
	return out
}

func (w *world) opener(name string) cms.KeyOpener {
	w.t.Helper()
	k, err := cms.NewKeyOpener(w.people[name].Cert, w.people[name].Key)
	w.must(err)
	return k
}

func parse(raw []byte) *message.Index { return message.Parse(raw, message.Limits{}) }

func (w *world) seal(raw string, o SealOptions) []byte {
	w.t.Helper()
	if o.Sender.IsZero() {
		o.Sender = mail.MustParseAddress("alice@works.gov.example")
	}
	sealed, err := w.gw.Seal([]byte(raw), parse([]byte(raw)), o)
	w.must(err)
	return sealed
}

func (w *world) open(sealed []byte, name string) *Opened {
	w.t.Helper()
	o, err := w.gw.Open(sealed, parse(sealed), w.opener(name))
	if err != nil {
		w.t.Fatalf("%s cannot open the message: %v", name, err)
	}
	return o
}

// openssl runs the program in the world's folder and returns its standard output.
func (w *world) openssl(args ...string) ([]byte, error) {
	w.t.Helper()
	cmd := exec.Command(testkit.Need(w.t, "openssl"), args...)
	cmd.Dir = w.dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		w.t.Logf("openssl %s: %v\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.Bytes(), err
}

// files writes cert and key of a person for openssl.
func (w *world) files(name string) (cert, key string) {
	w.t.Helper()
	b, err := demopki.KeyPEM(w.people[name].Key)
	w.must(err)
	return w.write(name+".pem", demopki.CertPEM(w.people[name].Cert)), w.write(name+".key", b)
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// pemOf is the certificate of the authority that issued everyone's.
func pemOf(w *world) []byte { return demopki.CertPEM(w.sub.Cert) }

// assembled is a message of the given DER.
func assembled(trace []byte, outer []field, cipher cms.Cipher, der []byte) []byte {
	raw, err := (&Gateway{lines: newEncoder()}).assemble(trace, outer, cipher, func(place func(int) []byte) error {
		copy(place(len(der)), der)
		return nil
	})
	if err != nil {
		panic(err)
	}
	return raw
}

func appendBase64(out, b []byte) []byte {
	e, at, size := newEncoder(), len(out), base64Len(len(b))
	out = slices.Grow(out, size)[:at+size]
	copy(out[at+size-len(b):], b)
	e.inPlace(out[at:], len(b))
	return out
}

// compress is an entity as compressed data (RFC 8551, section 3.6).
func (w *world) compress(entity string) string {
	w.t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write([]byte(entity)); err != nil {
		w.t.Fatal(err)
	}
	w.must(z.Close())
	der, err := asn1.Marshal(struct {
		Type    asn1.ObjectIdentifier
		Content any `asn1:"explicit,tag:0"`
	}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 9}, struct {
		Version   int
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Encap     struct {
			Type    asn1.ObjectIdentifier
			Content []byte `asn1:"explicit,tag:0"`
		}
	}{
		0,
		struct{ ID asn1.ObjectIdentifier }{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 3, 8}},
		struct {
			Type    asn1.ObjectIdentifier
			Content []byte `asn1:"explicit,tag:0"`
		}{asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}, b.Bytes()},
	}})
	w.must(err)
	return "Content-Type: application/pkcs7-mime; smime-type=compressed-data; name=smime.p7z\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, der))
}
