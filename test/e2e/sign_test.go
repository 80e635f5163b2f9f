package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// TestSigningByRule imports alice's key, has her mail signed by it and that of others by their departments, and reads
// what bob gets with OpenSSL.
func TestSigningByRule(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	s := newSite(t)
	config := s.path("cmmpd.toml")
	cert, key := s.path("people", "alice", "cert.pem"), s.path("people", "alice", "key.pem")
	imports := []string{"smime", "key", "import", "--config", config, "--for", alice, "--certificate", cert, "--key", key}
	lines := s.must("", program, imports...)
	if !strings.HasPrefix(lines, "[[smime.keys]]\naddress = \"alice@works.gov.example\"\n") {
		t.Fatalf("it says %q", lines)
	}
	for _, wrong := range [][2]string{
		{"--for", bob}, {"--for", "works.gov.example"}, {"--key", s.path("people", "bob", "key.pem")}, {"--certificate", s.path("people", "grace", "cert.pem")},
	} {
		args := append([]string(nil), imports...)
		for i := range args {
			if args[i] == wrong[0] {
				args[i+1] = wrong[1]
			}
		}
		if code, out := s.code(args...); code != 1 {
			t.Errorf("%v: exit %d: %s", wrong, code, out)
		}
	}
	if code, out := s.code(imports...); code != 1 || !strings.Contains(out, "exists") {
		t.Errorf("imported twice: %d %s", code, out)
	}
	const imported = `"type":"key.import"`
	record := s.must("", program, "audit", "export", "--config", config)
	if strings.Count(record, imported) != 4 || !strings.Contains(record, `"for":"alice@works.gov.example"`) || !strings.Contains(record, `"outcome":"exists"`) {
		t.Errorf("on record: %s", record)
	}
	s.stop(syscall.SIGTERM)
	second := append([]string(nil), imports...)
	second[len(imports)-5], second[len(imports)-3], second[len(imports)-1] = bob, s.path("people", "bob", "cert.pem"), s.path("people", "bob", "key.pem")
	s.must("", program, second...) // without the daemon, too
	if record := s.must("", program, "audit", "export", "--config", config); strings.Count(record, imported) != 6 || !strings.Contains(record, `"for":"`+bob+`"`) {
		t.Errorf("on record: %s", record)
	}
	rules := "\n[[smime.sign]]\nfrom = [\"" + alice + "\"]\nby = \"author\"\n\n[[smime.sign]]\nlabels = [\"none\"]\nby = \"department\"\n"
	if err := os.WriteFile(config, []byte(s.read("cmmpd.toml")+"\n"+lines+rules), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	if out := s.must("", program, "smime", "signers", "--config", config); !strings.Contains(out, "alice@works.gov.example: ") || strings.Count(out, "until 20") != 4 || strings.Contains(out, "NOT USABLE") ||
		!strings.Contains(out, "rule: mail of everybody, labels: none, is signed by the department") {
		t.Errorf("signers: %s", out)
	}
	for _, c := range []struct{ from, subject, verdict string }{
		{"alice", "x", "signature: pass: signed by the author"},
		{"carol", "x", "signature: pass: signed by the domain health.gov.example, not by the author"},
		{"carol", "[RESTRICTED] x", "not signed"},
		{"alice", "[RESTRICTED] x", "signature: pass: signed by the author"},
	} {
		address := alice
		if c.from == "carol" {
			address = carol
		}
		text := strings.Replace(mailOf(address, bob, c.subject, "預算是機密的"), "\n\n", "\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n", 1)
		if out, err := s.send(c.from, address, []string{bob}, text); err != nil {
			t.Fatal(err, out)
		}
		raw := s.last("bob", "INBOX")
		file := filepath.Join(t.TempDir(), "m.eml")
		if err := os.WriteFile(file, []byte(raw), 0o600); err != nil {
			t.Fatal(err)
		}
		_, out := s.code("smime", "verify", "--config", config, file)
		if !strings.Contains(out, c.verdict) {
			t.Errorf("%v: %s", c, out)
		}
		if strings.Contains(c.verdict, "pass") {
			if got := s.must(raw, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem")); !strings.Contains(got, "=E9=A0=90=E7=AE=97") {
				t.Errorf("%v: OpenSSL reads %q", c, got)
			}
		}
	}
	for _, line := range strings.Split(s.read("people", "alice", "key.pem"), "\n") {
		if len(line) > 40 && !strings.HasPrefix(line, "-") && strings.Contains(s.log.String(), line) {
			t.Error("the log holds the key")
		}
	}
}
