package testkit

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// SoftHSM is a folder of SoftHSM's tokens.
type SoftHSM struct {
	Module string // the PKCS #11 library
	Conf   string // what SOFTHSM2_CONF must name
}

// NewSoftHSM makes tokens with the labels, each with the PIN "pin of <label>". The caller sets SOFTHSM2_CONF for the process that loads the library.
func NewSoftHSM(t testing.TB, labels ...string) SoftHSM {
	t.Helper()
	tool := Need(t, "softhsm2-util")
	dir := t.TempDir()
	h := SoftHSM{Conf: filepath.Join(dir, "softhsm2.conf")}
	for _, path := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so", "/usr/lib64/softhsm/libsofthsm2.so"} {
		if _, err := os.Stat(path); err == nil {
			h.Module = path
			break
		}
	}
	if h.Module == "" {
		t.Fatal("softhsm2-util is here, its library is not")
	}
	tokens := filepath.Join(dir, "tokens")
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\n", tokens)
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.Conf, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, label := range labels {
		cmd := exec.Command(tool, "--init-token", "--free", "--label", label, "--so-pin", "so pin of "+label, "--pin", SoftPIN(label))
		cmd.Env = append(os.Environ(), "SOFTHSM2_CONF="+h.Conf)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	return h
}

// SoftPIN is the PIN of a token that NewSoftHSM made.
func SoftPIN(label string) string { return "pin of " + label }
