package smime

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"testing"
)

// TestParsed: a certificate is read once, and is its own.
func TestParsed(t *testing.T) {
	w := newSmallWorld(t)
	der := append([]byte(nil), w.people["carol"].Cert.Raw...)
	var p parsed
	first, err := p.certificate(der)
	if err != nil || !first.Equal(w.people["carol"].Cert) {
		t.Fatal("not the certificate", err)
	}
	if again, _ := p.certificate(der); again != first {
		t.Error("read anew")
	}
	der[len(der)-1] ^= 1 // another certificate, in the same place
	other, err := p.certificate(der)
	if err != nil || other.Equal(first) || !first.Equal(w.people["carol"].Cert) {
		t.Error("certificates are confused", err)
	}
	for _, c := range []*x509.Certificate{first, other, w.people["erin"].Cert} { // remembered or not
		if sum := sha256.Sum256(c.Raw); p.fingerprint(c) != hex.EncodeToString(sum[:]) {
			t.Errorf("the fingerprint of %s is %s", c.Subject, p.fingerprint(c))
		}
	}
	if _, err := p.certificate([]byte("x")); err == nil {
		t.Error("what is no certificate was read")
	}
	for len(p.known) > 0 { // whatever there is beyond the bound, all is forgotten then
		p.known[string(rune(len(p.known)))+string(der)] = read{cert: other}
		if len(p.known) >= maxParsed {
			break
		}
	}
	if _, err := p.certificate(w.people["erin"].Cert.Raw); err != nil || len(p.known) != 1 {
		t.Errorf("%d are remembered, %v", len(p.known), err)
	}
}
