package audit

import (
	"crypto/ed25519"
	"crypto/rand"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// TestParseKey takes enough keys that some have a plus sign within their base64.
func TestParseKey(t *testing.T) {
	for range 200 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text, err := note.NewEd25519VerifierKey("a.example/audit", pub)
		if err != nil {
			t.Fatal(err)
		}
		if _, b, err := parseKey([]byte(text + "\n")); err != nil || string(b) != text+"\n" {
			t.Errorf("%s: %q %v", text, b, err)
		}
	}
}
