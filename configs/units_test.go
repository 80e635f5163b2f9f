package configs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// TestUnits: systemd understands every line of the units, and finds little that a service which serves the network could still be denied.
func TestUnits(t *testing.T) {
	analyze := testkit.Need(t, "systemd-analyze")
	for name, exposure := range map[string]string{"cmmpd.service": "16", "cmmpd-keyd.service": "8", "cmmpd-witness.service": "14"} { // tenths
		unit, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		program := filepath.Join(dir, "program")
		if err := os.WriteFile(program, nil, 0o700); err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer("/usr/local/bin/cmmpd-keyd", program, "/usr/local/bin/cmmpd", program).Replace(string(unit))
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(analyze, "verify", path).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, name) {
				t.Errorf("%s (%v)", line, err)
			}
		}
		if out, err := exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+exposure, path).CombinedOutput(); err != nil {
			t.Errorf("%s is more exposed than it was: %v\n%s", name, err, out)
		}
		broken := strings.Replace(text, "NoNewPrivileges=yes", "NoNewPrivilege=yes", 1)
		if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, _ := exec.Command(analyze, "verify", path).CombinedOutput(); !strings.Contains(string(out), "NoNewPrivilege") {
			t.Errorf("%s: an unknown key is not noticed: %s", name, out)
		}
	}
}
