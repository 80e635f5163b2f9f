package e2e

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/audit"
)

// TestAuditCompare holds checkpoints of one audit log, and of two with one key, against each other as an auditor does.
func TestAuditCompare(t *testing.T) {
	s, dir := &site{t: t}, t.TempDir()
	at := func(elem ...string) string { return filepath.Join(append([]string{dir}, elem...)...) }
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Options{Origin: "compare.example/audit"}
	record := func(log string, events ...string) {
		t.Helper()
		l, err := audit.Open(at(log), key, o)
		if err != nil {
			t.Fatal(err)
		}
		for _, subject := range events {
			err = errors.Join(err, l.Record(t.Context(), audit.Event{Type: audit.StoreCheck, Actor: "alice", Subject: subject}))
		}
		if err := errors.Join(err, l.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if err := audit.Create(at("log"), key, o); err != nil {
		t.Fatal(err)
	}
	record("log", "a", "b")
	s.must("", "cp", "-a", at("log"), at("early"))
	s.must("", "cp", "-a", at("log"), at("fork"))
	record("log", "c", "d")
	record("fork", "c", "x")
	other := filepath.Join(dir, "other.pub")
	if err := audit.Create(at("stranger"), ed25519.NewKeyFromSeed(make([]byte, 32)), o); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(at("stranger", "audit.pub"), other); err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		key  string
		args []string
		code int
		want string
	}{
		"equal":            {"", []string{at("log", "checkpoint"), at("log", "checkpoint")}, 0, "of one log"},
		"grown":            {"", []string{at("early", "checkpoint"), at("log", "checkpoint"), at("log")}, 0, "of one log"},
		"grown, no log":    {"", []string{at("early", "checkpoint"), at("log", "checkpoint")}, 2, "the log (PATH) is needed"},
		"forked":           {"", []string{at("log", "checkpoint"), at("fork", "checkpoint")}, 1, "there are two logs"},
		"forked, with one": {"", []string{at("early", "checkpoint"), at("fork", "checkpoint"), at("log")}, 1, "held against checkpoint 2"},
		"the log is old":   {"", []string{at("early", "checkpoint"), at("log", "checkpoint"), at("early")}, 1, "held against checkpoint 2"},
		"another key":      {other, []string{at("log", "checkpoint"), at("log", "checkpoint")}, 1, "checkpoint 1"},
		"no checkpoint":    {"", []string{at("log", "audit.pub"), at("log", "checkpoint")}, 1, "checkpoint 1"},
		"no file":          {"", []string{at("nothing"), at("log", "checkpoint")}, 2, "no such file"},
		"no log there":     {"", []string{at("early", "checkpoint"), at("log", "checkpoint"), at("nothing")}, 2, "cannot be opened"},
		"one checkpoint":   {"", []string{at("log", "checkpoint")}, 2, "two checkpoints"},
	} {
		if c.key == "" {
			c.key = at("log", "audit.pub")
		}
		if code, out := s.code(append([]string{"audit", "compare", "--key", c.key}, c.args...)...); code != c.code || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit %d, not %d: %s", what, code, c.code, out)
		}
	}
}
