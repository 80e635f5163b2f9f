package cms

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vector is what stands in one paragraph of a file of NIST's: names and values, FAIL among
// the names, and what the last headings in brackets said.
type vector map[string]string

func (v vector) bytes(t *testing.T, name string) []byte {
	t.Helper()
	b, err := hex.DecodeString(v[name])
	if err != nil {
		t.Fatalf("%s = %s: %v", name, v[name], err)
	}
	return b
}

// vectors reads testdata/vectors (see its README).
func vectors(t *testing.T, name string) []vector {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	heading, headings := "", map[string]string{}
	var all []vector
	for _, paragraph := range strings.Split(string(b), "\n\n") {
		v := vector{}
		for line := range strings.Lines(paragraph) {
			line = strings.TrimSpace(line)
			left, right, equals := strings.Cut(strings.Trim(line, "[]"), "=")
			left, right = strings.TrimSpace(left), strings.TrimSpace(right)
			switch {
			case line == "" || line[0] == '#':
			case line[0] == '[' && equals:
				headings[left] = right
			case line[0] == '[':
				heading = left
			default:
				v[left] = right
			}
		}
		if len(v) == 0 {
			continue
		}
		for name, value := range headings {
			v[name] = value
		}
		v["heading"] = heading
		all = append(all, v)
	}
	if len(all) < 50 {
		t.Fatalf("%s: only %d vectors", name, len(all))
	}
	return all
}

func (v vector) fails() bool { _, ok := v["FAIL"]; return ok }

func TestKeyWrapVectors(t *testing.T) {
	for _, name := range []string{"KW_AD_128.txt", "KW_AD_256.txt"} {
		for _, v := range vectors(t, name) {
			key, err := unwrapKey(v.bytes(t, "K"), v.bytes(t, "C"))
			if v.fails() != (err != nil) || err == nil && !bytes.Equal(key, v.bytes(t, "P")) {
				t.Errorf("%s %s: %x, %v", name, v["COUNT"], key, err)
			}
		}
	}
}

func TestX963Vectors(t *testing.T) {
	hashes := map[string]crypto.Hash{"SHA-1": crypto.SHA1, "SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}
	for _, v := range vectors(t, "ansx963_2001.txt") {
		want := v.bytes(t, "key_data")
		if got := x963KDF(hashes[v["heading"]], v.bytes(t, "Z"), v.bytes(t, "SharedInfo"), len(want)); !bytes.Equal(got, want) {
			t.Errorf("%s %s: %x", v["heading"], v["COUNT"], got)
		}
	}
}

func TestGCMVectors(t *testing.T) {
	for _, v := range vectors(t, "gcmDecrypt256.txt") {
		c := contentCipher{iv: v.bytes(t, "IV"), tagSize: len(v["Tag"]) / 2}
		plain, ok := c.openGCM(v.bytes(t, "Key"), v.bytes(t, "CT"), v.bytes(t, "Tag"), v.bytes(t, "AAD"))
		if ok == v.fails() || ok && !bytes.Equal(plain, v.bytes(t, "PT")) || !ok && plain != nil {
			t.Errorf("tag of %s, %s: %x, %v", v["Taglen"], v["Count"], plain, ok)
		}
	}
}

func TestOAEPVectors(t *testing.T) {
	b, err := os.ReadFile("testdata/vectors/oaep-sha256-sha256.txt")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, example := range strings.Split(string(b), "# Example\n")[1:] {
		text, vectors, ok := strings.Cut(example, "# OAEP Example")
		if !ok {
			t.Fatal(example)
		}
		_, private, _ := strings.Cut(text, "# Private key\n")
		number := func(title string) *big.Int {
			_, rest, _ := strings.Cut(private, "# "+title+":\n")
			line, _, _ := strings.Cut(rest, "\n")
			v, ok := new(big.Int).SetString(line, 16)
			if !ok {
				t.Fatalf("%s: %q", title, line)
			}
			return v
		}
		key := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: number("Modulus"), E: int(number("Public exponent").Int64())}, D: number("Exponent"), Primes: []*big.Int{number("Prime 1"), number("Prime 2")}}
		key.Precompute()
		if err := key.Validate(); err != nil {
			continue // too short a key for crypto/rsa
		}
		o := &softwareKey{rsa: key}
		for _, v := range strings.Split(vectors, "# OAEP Example") {
			lines := strings.Split(strings.TrimSpace(v), "\n") // number, "# Message:", value, "# Encryption:", value
			message, err1 := hex.DecodeString(lines[2])
			encrypted, err2 := hex.DecodeString(lines[4])
			if err1 != nil || err2 != nil {
				t.Fatal(lines)
			}
			got, err := o.DecryptKey(RSATransport{OAEP: true, Hash: crypto.SHA256, MGFHash: crypto.SHA256}, encrypted, len(message))
			if err != nil || !bytes.Equal(got, message) {
				t.Errorf("%s: %x, %v", lines[0], got, err)
			}
			n++
		}
	}
	if n < 30 {
		t.Errorf("only %d vectors", n)
	}
}
