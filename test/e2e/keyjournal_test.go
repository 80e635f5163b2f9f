package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestKeyJournalFull has no room left for keyd's journal: what operators ask for is refused and not done, keys are used as ever, and when there is
// room again keyd, started anew, goes on with the same journal.
func TestKeyJournalFull(t *testing.T) {
	k := newKeyd(t)
	s := &site{t: t}
	keys := func(args ...string) (int, string) {
		t.Helper()
		return s.code(append([]string{"keys", args[0], "--keyd", k.socket}, args[1:]...)...)
	}
	unseal := func() (int, string) {
		return s.code("unseal", "--keyd", k.socket, "--pin-file", filepath.Join(k.dir, "mail keys.pin"))
	}
	path := filepath.Join(k.dir, "keyd.journal")
	journal := func() string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	if code, out := keys("generate", "--kind", "ec-p256", "tls"); code != 0 {
		t.Fatal(out)
	}
	_, list := keys("list") // which says that the slot mail is sealed
	if !strings.Contains(list, "service\ttls\tec-p256\tin use") || !strings.Contains(list, "sealed") {
		t.Fatalf("the keys: %s", list)
	}
	before := journal()
	full := unix.Rlimit{Cur: uint64(len(before) + 10), Max: unix.RLIM_INFINITY} // a part of an entry has room
	if err := unix.Prlimit(k.cmd.Process.Pid, unix.RLIMIT_FSIZE, &full, nil); err != nil {
		t.Fatal(err)
	}
	for what, try := range map[string]func() (int, string){
		"generate": func() (int, string) { return keys("generate", "--kind", "ec-p256", "other") },
		"retire":   func() (int, string) { return keys("retire", "tls") },
		"seal":     func() (int, string) { return s.code("seal", "--keyd", k.socket, "--slot", "service") },
		"unseal":   unseal,
	} {
		if code, out := try(); code != 1 || !strings.Contains(out, "the journal of keys cannot be written, so nothing is done") {
			t.Errorf("%s: %d %s", what, code, out)
		}
	}
	if _, now := keys("list"); now != list {
		t.Errorf("the keys are others now: %s", now)
	}
	if code, out := keys("request", "--host", "localhost", "tls"); code != 0 {
		t.Errorf("a key cannot be used: %s", out)
	}
	if now := journal(); now != before {
		t.Errorf("the journal is another now: %s", now)
	}
	k.stop(syscall.SIGTERM)
	k.start() // without the limit
	k.unseal()
	if code, out := keys("generate", "--kind", "ec-p256", "other"); code != 0 {
		t.Errorf("with room again: %s", out)
	}
	if code, out := keys("retire", "other"); code != 0 {
		t.Errorf("retire: %s", out)
	}
	_, list = keys("list")
	_, rest, _ := strings.Cut(list, "service\tretired ")
	at, _, _ := strings.Cut(rest, "\t")
	if code, out := keys("unretire", "retired "+at); code != 0 {
		t.Errorf("unretire %q: %s", at, out)
	}
	if _, list = keys("list"); !strings.Contains(list, "service\tother\tec-p256\tin use") || strings.Contains(list, "retired") {
		t.Errorf("after bringing it back: %s", list)
	}
	if now := journal(); !strings.HasPrefix(now, before) || !strings.Contains(now, `"key":"other"`) || !strings.Contains(now, `"op":"unretire"`) {
		t.Errorf("the journal does not go on: %s", now)
	}
}
