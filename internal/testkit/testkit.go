// Package testkit is what several packages' tests share.
package testkit

import (
	"os"
	"os/exec"
	"testing"
)

// Need returns the path of a peer's program. Where it is not installed the test fails
// in CI and under make test (CI or CMMPD_NEED_PEERS is set), and elsewhere is skipped, saying so.
func Need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} { // servers, which a user's path may lack
		if path, e := exec.LookPath(dir + "/" + program); e == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" || os.Getenv("CMMPD_NEED_PEERS") != "" {
		t.Fatalf("this test needs %s, which make test installs: %v", program, err)
	}
	t.Skipf("skipped: this test needs %s, which is not installed", program)
	return ""
}
