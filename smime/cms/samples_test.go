package cms

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSamples reads what openssl made once (testdata/README).
func TestSamples(t *testing.T) {
	content := []byte("Content-Type: text/plain\r\n\r\nsample\r\n")
	for name, recipients := range map[string][]RecipientKind{
		"enveloped-mixed": {KeyTrans, KeyTrans, KeyAgree, Other}, "enveloped-stream": {KeyAgree}, "authenveloped": {KeyAgree},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".ber"))
		if err != nil {
			t.Fatal(err)
		}
		e, err := ParseEnveloped(b, Limits{})
		if err != nil || len(e.Recipients) != len(recipients) || e.ContentType != Data || e.Cipher.KeySize() != 32 {
			t.Fatalf("%s: %+v, %v", name, e, err)
		}
		count := map[RecipientKind]int{}
		for i, ri := range e.Recipients {
			count[ri.Kind]++
			count[recipients[i]]--
		}
		for k, n := range count {
			if n != 0 {
				t.Errorf("%s: %+d of kind %d", name, n, k)
			}
		}
	}
	for name, want := range map[string]struct {
		signers, certs int
		detached       bool
	}{
		"signed-detached": {1, 1, true}, "signed-stream": {1, 1, false}, "signed-pss": {2, 2, false}, "signed-ed25519": {1, 1, false}, "certs-only": {0, 2, true},
	} {
		b, err := os.ReadFile(filepath.Join("testdata", name+".ber"))
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseSigned(b, Limits{})
		if err != nil || len(s.Signers) != want.signers || len(s.Certificates) != want.certs || (s.Content == nil) != want.detached {
			t.Fatalf("%s: %+v, %v", name, s, err)
		}
		for i := range s.Signers {
			given := content
			if !want.detached {
				given = nil
			}
			if _, err := s.Verify(i, given); err != nil {
				t.Errorf("%s %d: %v", name, i, err)
			}
		}
	}
}
