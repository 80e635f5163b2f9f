package certkey

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"os/exec"
	"path/filepath"
	"testing"

	"cmmpd/internal/testkit"
)

// made is a certificate by openssl, self-signed with these options, for a key that it makes with those.
func made(t testing.TB, signing []string, options ...string) *x509.Certificate {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key.pem")
	run(t, append([]string{"genpkey", "-out", key}, options...)...)
	block, _ := pem.Decode(run(t, append([]string{"req", "-x509", "-new", "-key", key, "-subj", "/CN=x", "-days", "2"}, signing...)...))
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func run(t testing.TB, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(testkit.Need(t, "openssl"), args...)
	var words bytes.Buffer
	cmd.Stderr = &words
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("openssl %q: %v: %s", args, err, words.Bytes())
	}
	return out
}

// TestOfOpenSSL reads the keys that openssl certifies, and checks the signatures that they
// made over their own certificates.
func TestOfOpenSSL(t *testing.T) {
	restricted := func(md, mgf, salt string) []string {
		return []string{"-pkeyopt", "rsa_pss_keygen_md:" + md, "-pkeyopt", "rsa_pss_keygen_mgf1_md:" + mgf, "-pkeyopt", "rsa_pss_keygen_saltlen:" + salt}
	}
	for name, c := range map[string]struct {
		options []string
		hash    crypto.Hash
		salt    int
		read    bool
	}{
		"any":             {nil, 0, 0, true},
		"sha256":          {restricted("sha256", "sha256", "32"), crypto.SHA256, 32, true},
		"sha384, salt 20": {restricted("sha384", "sha384", "20"), crypto.SHA384, 20, true},
		"two digests":     {restricted("sha256", "sha384", "32"), 0, 0, false},
		"sha1":            {restricted("sha1", "sha1", "20"), 0, 0, false},
		"mask by default": {restricted("sha256", "sha256", "32")[:2], 0, 0, false}, // MGF1 with SHA-1
	} {
		digest := []string{"-sha256", "-sigopt", "rsa_pss_saltlen:digest"}
		if c.hash == crypto.SHA384 {
			digest[0] = "-sha384"
		} else if !c.read {
			digest = nil
		}
		cert := made(t, digest, append([]string{"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}, c.options...)...)
		k, ok := Of(cert).(*PSS)
		if ok != c.read || ok && (k.Hash != c.hash || k.Salt != c.salt || k.N.BitLen() != 2048) {
			t.Errorf("%s: %+v", name, Of(cert))
			continue
		}
		if err := CheckSignature(cert, cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); (err == nil) != c.read {
			t.Errorf("%s, by %v: its own signature: %v", name, cert.SignatureAlgorithm, err)
		}
		tbs := bytes.Clone(cert.RawTBSCertificate)
		tbs[len(tbs)-1] ^= 1
		if CheckSignature(cert, cert.SignatureAlgorithm, tbs, cert.Signature) == nil {
			t.Errorf("%s: the signature is good over other bytes", name)
		}
	}
	rsaCert := made(t, nil, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048")
	if _, ok := Of(rsaCert).(*rsa.PublicKey); !ok || CheckSignature(rsaCert, rsaCert.SignatureAlgorithm, rsaCert.RawTBSCertificate, rsaCert.Signature) != nil {
		t.Error("a plain RSA key")
	}
}

// TestPSSKeySignsNothingElse: a key restricted to RSASSA-PSS with SHA-256 is held to it, whatever
// signature it made.
func TestPSSKeySignsNothingElse(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	any := &x509.Certificate{RawSubjectPublicKeyInfo: spki(t, key, nil)}
	sha256 := &x509.Certificate{RawSubjectPublicKeyInfo: spki(t, key, params(t, 32, 1))}
	message := []byte("to be signed")
	for how, h := range map[x509.SignatureAlgorithm]crypto.Hash{
		x509.SHA256WithRSA: crypto.SHA256, x509.SHA256WithRSAPSS: crypto.SHA256, x509.SHA384WithRSAPSS: crypto.SHA384, x509.SHA512WithRSAPSS: crypto.SHA512,
	} {
		d := h.New()
		d.Write(message)
		var opts crypto.SignerOpts = h
		if how != x509.SHA256WithRSA {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: h}
		}
		signature, err := key.Sign(rand.Reader, d.Sum(nil), opts)
		if err != nil {
			t.Fatal(err)
		}
		if good := CheckSignature(any, how, message, signature) == nil; good != (how != x509.SHA256WithRSA) {
			t.Errorf("%v, any: %v", how, good)
		}
		if good := CheckSignature(sha256, how, message, signature) == nil; good != (how == x509.SHA256WithRSAPSS) {
			t.Errorf("%v, SHA-256 only: %v", how, good)
		}
	}
	for name, p := range map[string][]byte{
		"a negative salt": params(t, -1, 1), "another trailer": params(t, 32, 2), "none of them": {0x30, 0}, "NULL": {5, 0},
		"something behind": append(params(t, 32, 1), 5, 0),
	} {
		if k := Of(&x509.Certificate{RawSubjectPublicKeyInfo: spki(t, key, p)}); k != nil {
			t.Errorf("%s: %+v", name, k)
		}
	}
}

func spki(t testing.TB, key *rsa.PrivateKey, params []byte) []byte {
	t.Helper()
	bits := x509.MarshalPKCS1PublicKey(&key.PublicKey)
	id := must(asn1.Marshal(oidPSS))
	algorithm := must(asn1.Marshal(asn1.RawValue{Class: 0, Tag: 16, IsCompound: true, Bytes: append(id, params...)}))
	return must(asn1.Marshal(struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}{asn1.RawValue{FullBytes: algorithm}, asn1.BitString{Bytes: bits, BitLength: 8 * len(bits)}}))
}

// params are those of SHA-256.
func params(t testing.TB, salt, trailer int) []byte {
	t.Helper()
	type identifier struct {
		ID     asn1.ObjectIdentifier
		Params asn1.RawValue `asn1:"optional"`
	}
	sha256 := identifier{ID: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}, Params: asn1.NullRawValue}
	return must(asn1.Marshal(struct {
		Hash    identifier `asn1:"explicit,tag:0"`
		Mask    identifier `asn1:"explicit,tag:1"`
		Salt    int        `asn1:"explicit,tag:2"`
		Trailer int        `asn1:"explicit,tag:3"`
	}{sha256, identifier{ID: oidMGF1, Params: asn1.RawValue{FullBytes: must(asn1.Marshal(sha256))}}, salt, trailer}))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// FuzzOf: whatever stands for a key is read or not.
func FuzzOf(f *testing.F) {
	key, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(must(x509.MarshalPKIXPublicKey(key.PublicKey())))
	if own, err := rsa.GenerateKey(rand.Reader, 2048); err == nil {
		f.Add(spki(f, own, nil))
		f.Add(spki(f, own, params(f, 32, 1)))
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		if k, ok := Of(&x509.Certificate{RawSubjectPublicKeyInfo: der}).(*PSS); ok && (k.PublicKey == nil || k.Salt < 0) {
			t.Errorf("%+v", k)
		}
	})
}
