package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1" // as a key identifier
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"cmmpd/internal/testkit"
)

// person is somebody with a key and a certificate, also on disk for a peer.
type person struct {
	cert *x509.Certificate
	key  crypto.Signer
}

var (
	peopleOnce sync.Once
	peopleAll  map[string]*person
)

// people are made once: alice and bob (RSA), carol, erin and grace (elliptic curves),
// and eve, who is nobody's recipient.
func people(t testing.TB) map[string]*person {
	t.Helper()
	peopleOnce.Do(func() {
		peopleAll = map[string]*person{}
		for i, name := range []string{"alice", "bob", "carol", "erin", "grace", "eve"} {
			var key crypto.Signer
			var err error
			switch name {
			case "carol":
				key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			case "erin":
				key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			case "grace":
				key, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
			default:
				key, err = rsa.GenerateKey(rand.Reader, 2048)
			}
			if err != nil {
				panic(err)
			}
			peopleAll[name] = &person{selfSigned(name, int64(1000+i), key), key}
		}
	})
	return peopleAll
}

func selfSigned(name string, serial int64, key crypto.Signer) *x509.Certificate {
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	id := sha1.Sum(spki)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Works"}},
		EmailAddresses: []string{name + "@works.gov.example"}, SubjectKeyId: id[:],
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement,
		BasicConstraintsValid: true,
	}, &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name, Organization: []string{"Works"}}}, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

func (p *person) opener(t testing.TB) KeyOpener {
	t.Helper()
	k, err := NewKeyOpener(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// openssl is the peer, with everybody's files in its directory.
type openssl struct {
	t    testing.TB
	path string
	dir  string
}

func newOpenssl(t testing.TB) *openssl {
	t.Helper()
	o := &openssl{t, testkit.Need(t, "openssl"), t.TempDir()}
	for name, p := range people(t) {
		o.person(name, p)
	}
	return o
}

// person writes down somebody's certificate and key.
func (o *openssl) person(name string, p *person) {
	o.t.Helper()
	o.write(name+".pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw}))
	key, err := x509.MarshalPKCS8PrivateKey(p.key)
	if err != nil {
		o.t.Fatal(err)
	}
	o.write(name+".key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
}

func (o *openssl) write(name string, b []byte) string {
	o.t.Helper()
	path := filepath.Join(o.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return path
}

// try runs openssl cms in its directory with in as standard input.
func (o *openssl) try(in []byte, args ...string) ([]byte, error) {
	cmd := exec.Command(o.path, append([]string{"cms"}, args...)...)
	cmd.Dir, cmd.Stdin = o.dir, bytes.NewReader(in)
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("openssl cms %q: %w: %s", args, err, words.Bytes())
	}
	return out.Bytes(), nil
}

func (o *openssl) run(in []byte, args ...string) []byte {
	o.t.Helper()
	out, err := o.try(in, args...)
	if err != nil {
		o.t.Fatal(err)
	}
	return out
}

// text is a content of n bytes in which no two places look alike.
func text(n int) []byte {
	b := make([]byte, 0, n+16)
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "line %d\r\n", i)
	}
	return b[:n]
}
