package e2e

import (
	"regexp"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// TestKeysInFilesOnRecord: what is done to keys in files is on record, beside the daemon and without it.
func TestKeysInFilesOnRecord(t *testing.T) {
	testkit.Need(t, "openssl")
	s := newSite(t)
	config := s.path("cmmpd.toml")
	keys := func(args ...string) string {
		t.Helper()
		return s.must("", program, append([]string{"keys", args[0], "--config", config}, args[1:]...)...)
	}
	keys("generate", "--kind", "ec-p256", "signer/one")
	request := keys("request", "--name", "One", "--address", "one@works.gov.example", "signer/one")
	if out := s.must(request, "openssl", "req", "-verify", "-noout", "-text"); !strings.Contains(out, "CN = One") && !strings.Contains(out, "CN=One") || !strings.Contains(out, "one@works.gov.example") {
		t.Errorf("the request: %s", out)
	}
	keys("retire", "signer/one")
	if code, out := s.code("keys", "request", "--config", config, "signer/one"); code != 1 {
		t.Errorf("a retired key signs: %s", out)
	}
	retired := regexp.MustCompile(`retired \S+ signer/one`).FindString(keys("list"))
	keys("unretire", retired)
	keys("request", "signer/one")
	s.stop(syscall.SIGTERM)
	keys("generate", "--kind", "ec-p256", "signer/two")

	var got []string
	for _, r := range s.records("key.act") {
		if r.Outcome == "" {
			got = append(got, r.Detail["op"]+" "+r.Subject)
		} else if !strings.HasPrefix(r.Actor, "uid ") || !strings.HasPrefix(r.Outcome, "ok") && len(got) != 4 {
			t.Errorf("on record: %+v", r)
		}
	}
	if want := "generate service/signer/one, request service/signer/one, retire service/signer/one, request service/signer/one, unretire service/" + retired + ", request service/signer/one, generate service/signer/two"; strings.Join(got, ", ") != want {
		t.Errorf("on record are %s", strings.Join(got, ", "))
	}
	list := keys("list")
	if !strings.Contains(list, "signer/two\tec-p256\tin use") {
		t.Errorf("the keys: %s", list)
	}
}
