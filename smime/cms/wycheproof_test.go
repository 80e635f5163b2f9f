package cms

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/smime/certkey"
)

// octets are bytes that stand in hexadecimal.
type octets []byte

func (o *octets) UnmarshalText(b []byte) (err error) {
	*o, err = hex.DecodeString(string(b))
	return err
}

// wycheproofGroup is a group of vectors of Project Wycheproof: what they have in common.
type wycheproofGroup struct {
	IVSize, TagSize int // bits
	SHA, MGFSHA     string
	Curve           string
	PKCS8           octets `json:"privateKeyPkcs8"`
	SPKI            octets `json:"publicKeyDer"`
	SaltLen         int    `json:"sLen"`
	Tests           []wycheproofTest
}

// wycheproofTest is one vector; each algorithm has some of the fields.
type wycheproofTest struct {
	ID                                     int `json:"tcId"`
	Comment                                string
	Result                                 string // "valid", "invalid", or "acceptable": either
	Key, IV, AAD, Msg, CT, Tag, Label, Sig octets
	Public, Private, Shared                string // hexadecimal, of odd length perhaps
}

// must says whether what the vector gives has to pass, and whether it may.
func (v wycheproofTest) must() (must, may bool) { return v.Result == "valid", v.Result != "invalid" }

// TestWycheproof runs the vectors of Project Wycheproof (Apache License 2.0) that are kept in testdata, for what
// protects contents and their keys; or those in $CMMPD_WYCHEPROOF, its folder testvectors_v1, and then those of
// signatures, too. Nothing invalid passes, and everything valid does that is of a form we read.
func TestWycheproof(t *testing.T) {
	dir, whole := os.LookupEnv("CMMPD_WYCHEPROOF")
	if !whole {
		dir = filepath.Join("testdata", "wycheproof")
	}
	for _, k := range []struct {
		files string
		check func(t *testing.T, g wycheproofGroup, v wycheproofTest) (got bool, known bool)
		kept  bool // in testdata
	}{
		{"aes_gcm_test.json", checkGCM, true},
		{"aes_wrap_test.json", checkWrap, true},
		{"rsa_oaep_[234]*_test.json", checkOAEP, true},
		{"rsa_pkcs1_????_test.json", checkPKCS1, true},
		{"ecdh_secp256r1_ecpoint_test.json", checkECDH, true},
		{"ecdh_secp[35]??r1_ecpoint_test.json", checkECDH, true},
		{"x25519_test.json", checkECDH, true},
		{"ed25519_test.json", checkSignature, false},
		{"ecdsa_secp256r1_sha256_test.json", checkSignature, false},
		{"ecdsa_secp384r1_sha384_test.json", checkSignature, false},
		{"ecdsa_secp521r1_sha512_test.json", checkSignature, false},
		{"rsa_signature_[234]*_sha256_test.json", checkSignature, false},
		{"rsa_pss_2048_sha256_mgf1_32_test.json", checkSignature, false},
		{"rsa_pss_2048_sha256_mgf1_32_params_test.json", checkSignature, false},
		{"rsa_pss_4096_sha512_mgf1_64_params_test.json", checkSignature, false},
	} {
		if !whole && !k.kept {
			continue
		}
		names, err := filepath.Glob(filepath.Join(dir, k.files))
		if err != nil || len(names) == 0 {
			t.Errorf("no files %s", k.files)
		}
		run := 0
		for _, name := range names {
			var file struct {
				Algorithm  string
				TestGroups []wycheproofGroup
			}
			b, err := os.ReadFile(name)
			if err == nil {
				err = json.Unmarshal(b, &file)
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			passed, refused, skipped := 0, 0, 0
			for _, g := range file.TestGroups {
				for _, v := range g.Tests {
					got, known := k.check(t, g, v)
					must, may := v.must()
					switch {
					case !known:
						skipped++
					case got && !may, !got && must:
						t.Errorf("%s %d (%s): %s, and it passes: %v", filepath.Base(name), v.ID, v.Comment, v.Result, got)
					case got:
						passed++
					default:
						refused++
					}
				}
			}
			t.Logf("%s: %d pass, %d are refused, %d are of other forms", filepath.Base(name), passed, refused, skipped)
			run += passed + refused
		}
		if run == 0 {
			t.Errorf("%s: nothing was run", k.files)
		}
	}
}

func checkGCM(_ *testing.T, g wycheproofGroup, v wycheproofTest) (got, known bool) {
	c := contentCipher{iv: v.IV, tagSize: g.TagSize / 8}
	if len(v.IV) != gcmNonce || c.tagSize < 12 {
		return false, false // parseCipher lets them not come so far
	}
	plain, ok := c.openGCM(v.Key, v.CT, v.Tag, v.AAD)
	return ok && bytes.Equal(plain, v.Msg), true
}

func checkWrap(_ *testing.T, _ wycheproofGroup, v wycheproofTest) (got, known bool) {
	key, err := unwrapKey(v.Key, v.CT)
	return err == nil && bytes.Equal(key, v.Msg), len(v.CT) <= 8+64
}

var wycheproofHashes = map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}

// softwareOf is a KeyOpener of a group's RSA key.
func softwareOf(t *testing.T, g wycheproofGroup) KeyOpener {
	t.Helper()
	key, err := x509.ParsePKCS8PrivateKey(g.PKCS8)
	if err != nil {
		t.Fatal(err)
	}
	return &softwareKey{rsa: key.(*rsa.PrivateKey)}
}

func checkOAEP(t *testing.T, g wycheproofGroup, v wycheproofTest) (got, known bool) {
	h, mgf := wycheproofHashes[g.SHA], wycheproofHashes[g.MGFSHA]
	if h == 0 || mgf == 0 {
		return false, false
	}
	key, err := softwareOf(t, g).DecryptKey(RSATransport{OAEP: true, Hash: h, MGFHash: mgf, Label: v.Label}, v.CT, len(v.Msg))
	return err == nil && bytes.Equal(key, v.Msg), true
}

// checkPKCS1: with implicit rejection there is always a key, but another each time.
func checkPKCS1(t *testing.T, g wycheproofGroup, v wycheproofTest) (got, known bool) {
	const size = 32
	if len(v.Msg) > 0 {
		key, err := softwareOf(t, g).DecryptKey(RSATransport{}, v.CT, len(v.Msg))
		if err != nil {
			t.Errorf("%d: %v", v.ID, err)
		}
		if len(v.Msg) >= 8 || v.Result == "valid" { // a short one may come by chance
			return bytes.Equal(key, v.Msg), true
		}
	}
	one, err1 := softwareOf(t, g).DecryptKey(RSATransport{}, v.CT, size)
	two, err2 := softwareOf(t, g).DecryptKey(RSATransport{}, v.CT, size)
	if err1 != nil || err2 != nil || len(v.Msg) != size && bytes.Equal(one, two) {
		t.Errorf("%d: no implicit rejection: %v, %v", v.ID, err1, err2)
	}
	return false, v.Result == "invalid"
}

func checkECDH(t *testing.T, g wycheproofGroup, v wycheproofTest) (got, known bool) {
	unhex := func(s string) []byte {
		if len(s)%2 == 1 {
			s = "0" + s
		}
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	public, private, shared := unhex(v.Public), unhex(v.Private), unhex(v.Shared)
	a := agreement{kind: oidECPublicKey, originator: public}
	var curve ecdh.Curve
	switch g.Curve {
	case "curve25519":
		curve, a.kind = ecdh.X25519(), oidX25519
	case "secp256r1":
		curve = ecdh.P256()
		private = new(big.Int).SetBytes(private).FillBytes(make([]byte, 32))
	case "secp384r1":
		curve = ecdh.P384()
		private = new(big.Int).SetBytes(private).FillBytes(make([]byte, 48))
	case "secp521r1":
		curve = ecdh.P521()
		private = new(big.Int).SetBytes(private).FillBytes(make([]byte, 66))
	default:
		t.Fatalf("curve %q", g.Curve)
	}
	peer, err := a.peer(curve)
	if err != nil {
		compressed := len(public) > 0 && (public[0] == 2 || public[0] == 3)
		return false, !compressed // which we do not read
	}
	own, err := curve.NewPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	z, err := (&softwareKey{ecdh: own}).Agree(peer)
	return err == nil && bytes.Equal(z, shared), true
}

func checkSignature(t *testing.T, g wycheproofGroup, v wycheproofTest) (got, known bool) {
	if g.SPKI == nil {
		return false, false
	}
	key := certkey.Of(&x509.Certificate{RawSubjectPublicKeyInfo: g.SPKI})
	if key == nil {
		return false, false // a key for RSASSA-PSS with digests that we do not read
	}
	s := scheme{hash: wycheproofHashes[g.SHA], pss: g.SaltLen > 0, salt: g.SaltLen}
	if _, ok := key.(ed25519.PublicKey); ok {
		s.hash = crypto.SHA512
	}
	if s.hash == 0 || strings.Contains(v.Comment, "weak") {
		return false, false
	}
	return s.verify(key, v.Msg, sum(s.hash, v.Msg), v.Sig) == nil, true
}
