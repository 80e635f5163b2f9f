package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/hex"
	"errors"
	"testing"
)

// TestDerivedKeyVectors are the examples of RFC 9709, appendix A.
func TestDerivedKeyVectors(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, v := range map[string]struct{ key, identifier, want string }{
		"AES-128-GCM": {"c702e7d0a9e064b09ba55245fb733cf3", "301b0609608648016503040106300e040c5c79058ba2f43447639d29e2", "2124ffb29fac4e0fbbc7d5d87492bff3"},
		"AES-128-CBC": {"c702e7d0a9e064b09ba55245fb733cf3", "301d06096086480165030401020410651f722ffd512c52fe072e507d72b377", "9cd102c52f1e19ece8729b35bfeceb50"},
	} {
		got, err := contentCipher{derive: unhex(v.identifier)}.contentKey(unhex(v.key))
		if err != nil || hex.EncodeToString(got) != v.want {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}
}

// derived is an AuthEnvelopedData or EnvelopedData by RFC 9709, made by hand.
func derived(t testing.TB, c Cipher, plain []byte, to *person) []byte {
	t.Helper()
	key := bytes.Repeat([]byte{3}, c.KeySize())
	ri, _, err := RecipientSpec{Cert: to.cert}.encryptKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cc := contentCipher{Cipher: c, iv: make([]byte, aes.BlockSize)}
	if c.Authenticated() {
		cc.iv, cc.tagSize = cc.iv[:gcmNonce], gcmTag
	}
	cc.derive = cc.algorithm().der()
	own, err := cc.contentKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := aes.NewCipher(own)
	if err != nil {
		t.Fatal(err)
	}
	alg := algorithm{oidCEKHKDFSHA256, cc.derive}.der()
	if !c.Authenticated() {
		buf := append(bytes.Clone(plain), padding(len(plain))...)
		cipher.NewCBCEncrypter(b, cc.iv).CryptBlocks(buf, buf)
		return contentInfo(EnvelopedData, pieces{tlv(derSequence, small(2), tlv(derSet, ri), tlv(derSequence, Data.der(), alg, tlv(derContext, buf)))}).join()
	}
	g, err := cipher.NewGCM(b)
	if err != nil {
		t.Fatal(err)
	}
	sealed := g.Seal(nil, cc.iv, plain, nil)
	body, mac := sealed[:len(plain)], sealed[len(plain):]
	return contentInfo(AuthEnvelopedData, pieces{tlv(derSequence, small(0), tlv(derSet, ri), tlv(derSequence, Data.der(), alg, tlv(derContext, body)), tlv(derOctetString, mac))}).join()
}

// TestDerivedKey opens messages by RFC 9709, whose key opens nothing under another cipher.
func TestDerivedKey(t *testing.T) {
	carol := people(t)["carol"]
	plain := text(200)
	for _, c := range []Cipher{AES256GCM, AES128GCM, AES256CBC} {
		der := derived(t, c, plain, carol)
		e, err := ParseEnveloped(der, Limits{})
		if err != nil || e.Cipher != c {
			t.Fatalf("%v, %v", e, err)
		}
		if got, err := e.Decrypt(carol.opener(t)); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v: %v", c, err)
		}
		// Without the derivation, or for another cipher, it is another key.
		e.content.derive = nil
		if got, err := e.Decrypt(carol.opener(t)); err == nil && bytes.Contains(got, plain[:32]) || c.Authenticated() && !errors.Is(err, ErrDecrypt) {
			t.Errorf("%v: the key itself opens it: %v", c, err)
		}
	}
	nested := algorithm{oidCEKHKDFSHA256, algorithm{oidCEKHKDFSHA256, algorithm{oidAES128CBC, tlv(derOctetString, make([]byte, 16))}.der()}.der()}
	for name, a := range map[string]algorithm{
		"in itself": nested, "no parameters": {oidCEKHKDFSHA256, nil}, "not a cipher": {oidCEKHKDFSHA256, algorithm{oidRSA, null()}.der()}, "no algorithm": {oidCEKHKDFSHA256, null()},
		"GCM where CBC belongs": {oidCEKHKDFSHA256, contentCipher{Cipher: AES256GCM, iv: make([]byte, 12), tagSize: 16}.algorithm().der()},
	} {
		if c := parseCipher(a, false); c.Cipher != UnknownCipher {
			t.Errorf("%s: %v", name, c.Cipher)
		}
	}
}
