package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// witnessProcess is a "cmmpd audit witness".
type witnessProcess struct {
	dir, pub string
	cmd      *exec.Cmd
}

func (w *witnessProcess) start(t *testing.T) {
	t.Helper()
	w.cmd = exec.Command(program, "audit", "witness", "--config", filepath.Join(w.dir, "witness.toml"))
	w.cmd.Stdout, w.cmd.Stderr = io.Discard, os.Stderr
	if err := w.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

func (w *witnessProcess) stop(sig syscall.Signal) {
	if w.cmd != nil {
		_ = w.cmd.Process.Signal(sig)
		_ = w.cmd.Wait()
		w.cmd = nil
	}
}

// newWitness makes a witness of the site's audit log, and names it in the site's configuration.
func (s *site) newWitness(n int) *witnessProcess {
	t := s.t.(*testing.T)
	w := &witnessProcess{dir: t.TempDir(), pub: filepath.Join(t.TempDir(), "witness.pub")}
	key := filepath.Join(w.dir, "witness.key")
	pub := s.must("", program, "audit", "witness", "key", "--name", fmt.Sprintf("auditor.example/w%d", n), key)
	if err := os.WriteFile(w.pub, []byte(pub), 0o600); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("listen = \"127.0.0.1:%d\"\nname = \"auditor.example/w%d\"\nkey = \"witness.key\"\ndir = \"state\"\n"+
		"[tls]\ncertificate = %q\nkey = %q\n[[logs]]\nkey = %q\n",
		s.base+n, n, s.path("pki", "server.pem"), s.path("keys", "server.key"), s.path("audit", "audit.pub"))
	if err := os.WriteFile(filepath.Join(w.dir, "witness.toml"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	ask := fmt.Sprintf("[[audit.witnesses]]\nurl = \"https://localhost:%d/\"\nkey = %q\nca = \"pki/ca.pem\"\n\n[smime]\n", s.base+n, w.pub)
	s.edit("\n[smime]\n", "\n"+ask)
	t.Cleanup(func() { w.stop(syscall.SIGTERM) })
	return w
}

// edit changes the configuration.
func (s *site) edit(old, with string) {
	s.t.Helper()
	text := s.read("cmmpd.toml")
	if !strings.Contains(text, old) {
		s.t.Fatalf("%q is not in the configuration", old)
	}
	if err := os.WriteFile(s.path("cmmpd.toml"), []byte(strings.Replace(text, old, with, 1)), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// TestWitnesses has two processes witness a daemon's audit log: through kill -9, when one is silent under the strict
// policy, and when an old copy of the log is put back.
func TestWitnesses(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	s.stop(syscall.SIGTERM)
	w1, w2 := s.newWitness(901), s.newWitness(902)
	s.edit("require = 0 ", "require = 2 ")
	s.edit(`within = "10s"`, `within = "2s" `)
	s.edit(`policy = "warn" `, `policy = "stop-administration" `)
	w1.start(t)
	w2.start(t)
	s.command = []string{"serve", "--config", s.path("cmmpd.toml")}
	s.start()
	cosigned := func() bool {
		m := s.metrics()
		at := func(name string) string {
			_, rest, _ := strings.Cut(m, "\n"+name+" ")
			line, _, _ := strings.Cut(rest, "\n")
			return line
		}
		return at("cmmpd_audit_records_total") == at("cmmpd_audit_cosigned_records")
	}
	s.eventually("cosigned", cosigned)
	check := func() (int, string) { return s.code("check", "--config", s.path("cmmpd.toml")) }
	if code, out := check(); code != 0 {
		t.Fatal(out)
	}
	s.eventually("cosigned", cosigned)
	verify := []string{"audit", "verify", "--key", s.path("audit", "audit.pub"), "--witness-key", w1.pub, "--witness-key", w2.pub, "--uncosigned", "0", s.path("audit")}
	if code, out := s.code(verify...); code != 0 || !strings.Contains(out, "by auditor.example/w901, auditor.example/w902") {
		t.Errorf("verify: %d %s", code, out)
	}
	if code, out := s.code("audit", "verify", "--key", s.path("audit", "audit.pub"), "--witness-key", w1.pub, "--witnesses", "2", s.path("audit")); code != 2 {
		t.Errorf("two of one: %d %s", code, out)
	}
	old := t.TempDir()
	s.must("", "cp", "-a", s.path("audit"), old)

	w2.stop(syscall.SIGKILL)
	if code, out := check(); code != 0 { // within the time
		t.Error(out)
	}
	s.eventually("administration stops", func() bool {
		code, out := check()
		return code == 1 && strings.Contains(out, "witnesses of the audit log do not answer")
	})
	if !strings.Contains(s.must("", "curl", "-sS", fmt.Sprintf("http://127.0.0.1:%d/readyz", s.base+90)), "administrative acts are refused") {
		t.Error("health does not say it")
	}
	w2.start(t)
	s.eventually("administration goes on", func() bool { code, _ := check(); return code == 0 })
	s.eventually("cosigned", cosigned)
	if code, out := s.code(verify...); code != 0 {
		t.Errorf("verify: %d %s", code, out)
	}

	// An old copy is put back.
	s.stop(syscall.SIGTERM)
	if err := os.RemoveAll(s.path("audit")); err != nil {
		t.Fatal(err)
	}
	s.must("", "cp", "-a", filepath.Join(old, "audit"), s.path("audit"))
	if code, out := s.code("serve", "--config", s.path("cmmpd.toml")); code != 1 || !strings.Contains(out, "an old copy was put back") && !strings.Contains(out, "are others than the first") {
		t.Errorf("with an old copy: %d %s", code, out)
	}
}
