package testkit

import (
	"crypto/fips140"
	"testing"
	"testing/synctest"
)

// Bubble is synctest.Test. In FIPS mode the test is skipped, saying so: there random numbers are seeded from the jitter of the clock, which stands still
// in a bubble.
func Bubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if fips140.Enabled() {
		t.Skip("skipped: in FIPS mode there are no random numbers where the clock stands still")
	}
	synctest.Test(t, f)
}
