package names

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/mail"
)

var monday = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

func open(t testing.TB, path string, key byte) *Table {
	t.Helper()
	n, err := Open(path, bytes.Repeat([]byte{key}, 32))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

func hide(t testing.TB, n *Table, at time.Time, values ...string) []audit.Digest {
	t.Helper()
	d, err := n.Hide(values, at)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	n := open(t, path, 1)
	first := hide(t, n, monday, "bob@partner.example", "192.0.2.1")
	if again := hide(t, n, monday, "192.0.2.1", "bob@partner.example"); again[0] != first[1] || again[1] != first[0] || first[0] == first[1] {
		t.Error("a value has two digests, or two have one")
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = open(t, path, 1)
	if again := hide(t, n, monday.AddDate(0, 0, 3), "bob@partner.example"); again[0] != first[0] {
		t.Error("after a start a value has another digest")
	}
	row, ok, err := n.Reveal(first[0])
	if err != nil || !ok || row.Value != "bob@partner.example" || len(row.Salt) != saltSize || row.Digest() != first[0] {
		t.Errorf("%+v %v %v", row, ok, err)
	}
	if _, ok, err := n.Reveal(audit.Digest{1}); ok || err != nil {
		t.Errorf("%v %v", ok, err)
	}
	rows := map[string]Row{}
	if err := n.Rows(func(r Row) error { rows[r.Value] = r; return nil }); err != nil || len(rows) != 2 {
		t.Fatalf("%v, %v", rows, err)
	}
	if r := rows["bob@partner.example"]; r.First.Day() != 23 || r.Last.Day() != 26 {
		t.Errorf("%+v", r)
	}
	// A clock that goes back takes no day back.
	hide(t, n, monday, "bob@partner.example")
	n.Rows(func(r Row) error { rows[r.Value] = r; return nil })
	if r := rows["bob@partner.example"]; r.Last.Day() != 26 {
		t.Errorf("%+v", r)
	}
	if data, err := os.ReadFile(path); err != nil || bytes.Contains(data, []byte("partner")) || bytes.Contains(data, row.Salt) {
		t.Error("a value or its salt is on the disk in clear")
	}
	if _, err := Open(path, bytes.Repeat([]byte{1}, 32)); mail.KindOf(err) != mail.Busy {
		t.Errorf("opened twice: %v", err)
	}
}

func TestForget(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	n := open(t, path, 1)
	var all []string
	for i := range 3000 {
		all = append(all, fmt.Sprintf("p%d@partner.example", i))
	}
	digests := hide(t, n, monday, all...)
	hide(t, n, monday.AddDate(0, 0, 10), all[1000:]...)
	// sealedOf is how a row lies on the disk.
	sealedOf := func(i int) []byte {
		blind := n.blind(all[i])
		return blind[:24]
	}
	marks := [][]byte{sealedOf(5), sealedOf(2000)}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.Contains(data, marks[0]) || !bytes.Contains(data, marks[1]) {
		t.Fatalf("the rows are not where they are looked for: %v", err)
	}
	erased, err := n.Forget(func(r Row) bool { return r.Last.Before(monday.AddDate(0, 0, 5)) })
	if err != nil || erased != 1000 {
		t.Fatalf("%d, %v", erased, err)
	}
	if data, err = os.ReadFile(path); err != nil || bytes.Contains(data, marks[0]) || !bytes.Contains(data, marks[1]) || bytes.Contains(data, digests[5][:]) {
		t.Errorf("what was erased is in the file, or what was not is gone: %v", err)
	}
	if left, _ := filepath.Glob(path + "*"); len(left) != 1 {
		t.Errorf("%v", left)
	}
	if _, ok, err := n.Reveal(digests[5]); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if row, ok, err := n.Reveal(digests[2000]); !ok || err != nil || row.Value != all[2000] {
		t.Errorf("%+v, %v", row, err)
	}
	if again := hide(t, n, monday, all[5], all[2000]); again[0] == digests[5] || again[1] != digests[2000] {
		t.Error("after forgetting, a value has its old digest, or another lost its")
	}
	if erased, err := n.Forget(func(r Row) bool { return r.Value == "nobody" }); err != nil || erased != 0 {
		t.Errorf("%d, %v", erased, err)
	}
	if erased, err := n.Forget(func(r Row) bool { return r.Value == all[7] || r.Value == all[1500] }); err != nil || erased != 1 {
		t.Errorf("%d, %v", erased, err)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	// An attempt that a crash cut short is cleared away.
	if err := os.WriteFile(path+freshSuffix, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	n = open(t, path, 1)
	if _, ok, err := n.Reveal(digests[1500]); ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	if _, err := os.Stat(path + freshSuffix); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestForeignTable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "names.db")
	n := open(t, path, 1)
	d := hide(t, n, monday, "bob@partner.example")
	n.Close()
	if _, err := n.Hide([]string{"x"}, monday); err == nil {
		t.Error("a closed table took a value")
	}
	n = open(t, path, 2)
	if _, _, err := n.Reveal(d[0]); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("with another key: %v", err)
	}
	if _, err := Open(path, []byte("short")); err == nil {
		t.Error("a short key")
	}
}

// Rows can be carried to another table, as a backup does.
func TestAdd(t *testing.T) {
	a, b := open(t, filepath.Join(t.TempDir(), "a"), 1), open(t, filepath.Join(t.TempDir(), "b"), 2)
	d := hide(t, a, monday, "bob@partner.example", "x")
	if err := a.Rows(func(r Row) error { return b.Add(r) }); err != nil {
		t.Fatal(err)
	}
	if again := hide(t, b, monday, "bob@partner.example"); again[0] != d[0] {
		t.Error("the digest is another")
	}
}

func FuzzRow(f *testing.F) {
	n := open(f, filepath.Join(f.TempDir(), "names.db"), 1)
	name := audit.Name{Salt: bytes.Repeat([]byte{3}, 32), Value: "bob"}
	f.Add(n.sealed(name.Digest(), name, 1, 2))
	f.Add([]byte(strings.Repeat("x", 60)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, _, _, err := n.open(name.Digest(), b); err == nil && got.Value != "bob" {
			t.Fatalf("%+v", got)
		}
	})
}

func BenchmarkHide(b *testing.B) {
	n := open(b, filepath.Join(b.TempDir(), "names.db"), 1)
	known := []string{"bob@partner.example", "192.0.2.1"}
	b.Run("known", func(b *testing.B) {
		for b.Loop() {
			hide(b, n, monday, known...)
		}
	})
	b.Run("new, 100 together", func(b *testing.B) {
		next := 0
		for b.Loop() {
			var values []string
			for range 100 {
				next++
				values = append(values, fmt.Sprintf("p%d@partner.example", next))
			}
			hide(b, n, monday, values...)
		}
	})
}
