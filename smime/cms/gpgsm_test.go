package cms

import (
	"bytes"
	"crypto"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"cmmpd/internal/testkit"
)

// gpgsm is a peer with alice's key and certificate in a home of its own.
type gpgsm struct {
	t    testing.TB
	path string
	home string
}

func newGpgsm(t testing.TB) *gpgsm {
	t.Helper()
	g := &gpgsm{t: t, path: testkit.Need(t, "gpgsm")}
	var err error
	if g.home, err = os.MkdirTemp("/tmp", "g"); err != nil { // the agent's socket wants a short path
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop := exec.Command("gpgconf", "--kill", "gpg-agent")
		stop.Env = append(os.Environ(), "GNUPGHOME="+g.home)
		_ = stop.Run()
		_ = os.RemoveAll(g.home)
	})
	alice := people(t)["alice"]
	for name, b := range map[string][]byte{
		"gpgsm.conf": []byte("disable-crl-checks\n"), "gpg-agent.conf": []byte("allow-loopback-pinentry\n"),
		"trustlist.txt": []byte(hex.EncodeToString(sum(crypto.SHA1, alice.cert.Raw)) + " S relax\n"),
	} {
		if err := os.WriteFile(filepath.Join(g.home, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for tries := 1; ; tries++ {
		p12, err := pkcs12.LegacyDES.Encode(alice.key, alice.cert, nil, "secret")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(g.home, "alice.p12"), p12, 0o600); err != nil {
			t.Fatal(err)
		}
		// gpgsm 2.2 stumbles over one file in a hundred, which OpenSSL reads.
		if _, err = g.try(nil, "--import", filepath.Join(g.home, "alice.p12")); err == nil {
			return g
		}
		if tries == 3 {
			t.Fatal(err)
		}
	}
}

func (g *gpgsm) run(in []byte, args ...string) []byte {
	g.t.Helper()
	out, err := g.try(in, args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// try runs gpgsm with in as the message, and the passphrase at hand.
func (g *gpgsm) try(in []byte, args ...string) ([]byte, error) {
	g.t.Helper()
	file := filepath.Join(g.home, "in")
	if err := os.WriteFile(file, in, 0o600); err != nil {
		g.t.Fatal(err)
	}
	if in != nil {
		args = append(args, file)
	}
	cmd := exec.Command(g.path, append([]string{"--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0"}, args...)...)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+g.home)
	cmd.Stdin = strings.NewReader("secret\n")
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("gpgsm %s: %w\n%s", strings.Join(args, " "), err, words.Bytes())
	}
	return out.Bytes(), nil
}

// TestGpgsm goes both ways with gpgsm, in the profile that it knows: AES-CBC and RSA
// PKCS #1 v1.5.
func TestGpgsm(t *testing.T) {
	g := newGpgsm(t)
	all := people(t)
	plain := text(20000)

	e, err := ParseEnveloped(g.run(plain, "--encrypt", "-r", "alice@works.gov.example"), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := e.Decrypt(all["alice"].opener(t)); err != nil || !bytes.Equal(got, plain) {
		t.Errorf("what gpgsm encrypted: %v", err)
	}
	der, err := Encrypt(nil, AES256CBC, Data, []RecipientSpec{
		{Cert: all["carol"].cert}, {Cert: all["alice"].cert, Transport: PKCS1v15}, {Cert: all["bob"].cert},
	}, plain)
	if err != nil {
		t.Fatal(err)
	}
	if got := g.run(der, "--decrypt"); !bytes.Equal(got, plain) {
		t.Error("gpgsm reads another text")
	}

	for _, detached := range []bool{true, false} {
		how, content := "--sign", []byte(nil)
		if detached {
			how, content = "--detach-sign", plain
		}
		s, err := ParseSigned(g.run(plain, how), Limits{})
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Verify(0, content, all["alice"].cert)
		if err != nil || !got.Cert.Equal(all["alice"].cert) || !got.SignedAttributes {
			t.Errorf("what gpgsm signed, detached %v: %v", detached, err)
		}
		der, err := Sign(nil, detached, []SignerSpec{{Cert: all["alice"].cert, Key: all["alice"].key}}, SignOptions{Time: time.Now()}, plain)
		if err != nil {
			t.Fatal(err)
		}
		if detached {
			sig := filepath.Join(g.home, "sig")
			if err := os.WriteFile(sig, der, 0o600); err != nil {
				t.Fatal(err)
			}
			g.run(plain, "--verify", sig)
		} else {
			g.run(der, "--verify")
		}
	}
}
