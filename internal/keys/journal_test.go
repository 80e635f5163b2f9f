package keys

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/internal/mail"
)

func TestJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	j, err := OpenJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	for _, outcome := range []error{nil, mail.E(mail.AuthFailed, "", nil)} {
		a, err := j.Begin(Act{Time: now, Op: "unseal", Slot: Mail, Who: "uid 0"})
		if err == nil {
			err = j.End(a, now.Add(time.Second), outcome)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	all, err := j.Since(0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	acts, mark, err := ParseActs(all, Mark{})
	if err != nil || len(acts) != 4 || mark.Seq != 4 || acts[1].Of != 1 || acts[1].Outcome != "ok" || acts[3].Outcome != "authentication failed" {
		t.Fatalf("%+v, %v, %v", acts, mark, err)
	}
	_, second, err := ParseActs(all[:j.starts[2]], Mark{})
	if err != nil {
		t.Fatal(err)
	}
	rest, err := j.Since(2, j.starts[3]-j.starts[2])
	if acts, _, perr := ParseActs(rest, second); err != nil || perr != nil || len(acts) != 1 || acts[0].Seq != 3 {
		t.Errorf("a part: %+v, %v, %v", acts, err, perr)
	}
	if _, _, err := ParseActs(rest, Mark{2, "other"}); !errors.Is(err, ErrJournal) {
		t.Errorf("after another entry: %v", err)
	}
	if _, err := j.Since(5, 1<<20); !errors.Is(err, ErrJournal) {
		t.Errorf("after more than there are: %v", err)
	}
	if b, err := j.Since(4, 1<<20); err != nil || len(b) > 0 {
		t.Errorf("after the last: %q, %v", b, err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Begin(Act{}); err == nil {
		t.Error("a closed journal takes an entry")
	}
	for n := range all { // what is spoilt in the last line only the next one shows
		b := bytes.Clone(all)
		b[n] ^= 1
		if acts, _, err := ParseActs(b, Mark{}); err == nil && n < int(j.starts[3]) {
			t.Fatalf("octet %d spoilt: %+v", n, acts)
		}
		if err := os.WriteFile(path, all[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		torn, err := OpenJournal(path)
		if err != nil {
			t.Fatalf("torn at %d: %v", n, err)
		}
		if want := uint64(bytes.Count(all[:n], []byte("\n"))); torn.last.Seq != want {
			t.Fatalf("torn at %d: %d entries, not %d", n, torn.last.Seq, want)
		}
		_ = torn.Close()
	}
}

func FuzzParseActs(f *testing.F) {
	f.Add([]byte(`{"seq":1,"time":"2026-01-01T00:00:00Z","op":"unseal","slot":"mail","who":"uid 0","prev":""}` + "\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		acts, to, err := ParseActs(b, Mark{})
		if err == nil && (to.Seq != uint64(len(acts)) || len(acts) != bytes.Count(b, []byte("\n"))) {
			t.Fatalf("%d entries of %d", len(acts), to.Seq)
		}
	})
}
