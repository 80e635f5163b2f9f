package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
)

var buckets = [][]byte{[]byte("one"), []byte("two")}

func options(leaves bool) Options {
	return Options{Buckets: buckets, Damaged: "it is damaged", Leaves: leaves}
}

func mustOpen(t testing.TB, path string, leaves bool) *DB {
	t.Helper()
	d, err := Open(durable.OS{}, path, options(leaves))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// all is everything in a file.
func all(d *DB) (map[string]string, error) {
	m := make(map[string]string)
	err := d.View(func(tx *Tx) error {
		for _, name := range buckets {
			tx.Bucket(name).Scan(nil, nil, func(k, v []byte) bool {
				m[string(name)+string(k)] = string(v)
				return true
			})
		}
		return nil
	})
	return m, err
}

// full makes a file with branches, free pages and values of several pages.
func full(t testing.TB, path string) map[string]string {
	t.Helper()
	d := mustOpen(t, path, true)
	for round := range 4 {
		err := d.Update(func(tx *Tx) error {
			for i := range 1000 {
				k := fmt.Appendf(nil, "key %04d", i*7%1000)
				if round == 3 && i%3 == 0 || round == 2 && i < 200 {
					if err := tx.Bucket(buckets[0]).Delete(k); err != nil {
						return err
					}
					continue
				}
				size := 20
				if i%100 == 50 {
					size = 9000
				}
				if err := tx.Bucket(buckets[0]).Put(k, bytes.Repeat([]byte{byte('a' + round)}, size)); err != nil {
					return err
				}
			}
			return tx.Bucket(buckets[1]).Put([]byte("small"), []byte{byte(round)})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want, err := all(d)
	if err = errors.Join(err, d.Close()); err != nil {
		t.Fatal(err)
	}
	return want
}

// TestBits changes one bit at a time, all over a file. What is read is right, or an error; nothing ends the program, reading or writing.
func TestBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	want := full(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	rapid.Check(t, func(t *rapid.T) {
		at := rapid.IntRange(0, len(good)-1).Draw(t, "at")
		if rapid.Bool().Draw(t, "head") { // where pages say what they are
			at = at&^4095 + at%64
		}
		bit, leaves := rapid.IntRange(0, 7).Draw(t, "bit"), rapid.Bool().Draw(t, "leaves")
		bad := bytes.Clone(good)
		bad[at] ^= 1 << bit
		if err := errors.Join(os.Remove(path), os.WriteFile(path, bad, 0o600)); err != nil {
			t.Fatal(err)
		}
		what := look(path, leaves, want)
		if count[fmt.Sprint(leaves, " ", what)]++; strings.HasPrefix(what, "WRONG") || leaves && what == "missing" {
			t.Errorf("%s", what)
		}
	})
	t.Log(count)
}

// look opens, reads and writes a file, and says what became of it.
func look(path string, leaves bool, want map[string]string) (what string) {
	d, err := Open(durable.OS{}, path, options(leaves))
	if mail.KindOf(err) == mail.Corrupt {
		return "not opened"
	} else if err != nil {
		return fmt.Sprint("WRONG ", err)
	}
	d.bolt.NoSync = true
	defer func() { _ = d.Close() }()
	got, err := all(d)
	for k, v := range got {
		if want[k] != v {
			return fmt.Sprintf("WRONG %q: %q, want %q", k, v, want[k])
		}
	}
	switch {
	case err != nil && mail.KindOf(err) != mail.Corrupt:
		return fmt.Sprint("WRONG ", what, err, len(got))
	case err != nil:
		what = "noticed"
	case len(got) < len(want):
		what = "missing"
	default:
		what = "unused"
	}
	err = d.Update(func(tx *Tx) error {
		for i := range 1000 {
			if err := tx.Bucket(buckets[0]).Put(fmt.Appendf(nil, "key %04d", i), []byte("new")); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && what == "unused" && leaves {
		if got, err = all(d); err != nil || got["onekey 0500"] != "new" {
			return fmt.Sprint("WRONG ", what, err, len(got))
		}
	}
	return what
}

// TestSound: whatever is done to a file, it is found to be good.
func TestSound(t *testing.T) {
	dir, n := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		open := func(leaves bool) *DB {
			d, err := Open(durable.OS{}, path, options(leaves))
			if err != nil {
				t.Fatal(err)
			}
			d.bolt.NoSync = true
			return d
		}
		d, model := open(true), make(map[string]string)
		t.Repeat(map[string]func(*rapid.T){
			"update": func(t *rapid.T) {
				fail := rapid.IntRange(0, 3).Draw(t, "fail") == 0
				next := maps.Clone(model)
				err := d.Update(func(tx *Tx) error {
					for range rapid.IntRange(1, 4).Draw(t, "n") {
						b := rapid.IntRange(0, 1).Draw(t, "bucket")
						from, many := rapid.IntRange(0, 300).Draw(t, "key"), rapid.IntRange(1, 20).Draw(t, "many")
						size := rapid.SampledFrom([]int{-1, 0, 10, 200, 5000, 20_000}).Draw(t, "size")
						for i := from; i < from+many; i++ {
							k := fmt.Sprintf("%04d", i*31%330)
							if size < 0 {
								delete(next, string(buckets[b])+k)
								if err := tx.Bucket(buckets[b]).Delete([]byte(k)); err != nil {
									return err
								}
								continue
							}
							next[string(buckets[b])+k] = string(make([]byte, size))
							if err := tx.Bucket(buckets[b]).Put([]byte(k), make([]byte, size)); err != nil {
								return err
							}
						}
					}
					if fail {
						return errors.New("told to")
					}
					return nil
				})
				if (err != nil) != fail {
					t.Fatal(err)
				}
				if !fail {
					model = next
				}
			},
			"open": func(t *rapid.T) {
				if err := d.Close(); err != nil {
					t.Fatal(err)
				}
				d = open(rapid.Bool().Draw(t, "leaves"))
			},
			"": func(t *rapid.T) {
				if got, err := all(d); err != nil || !maps.Equal(got, model) {
					t.Fatal(len(got), len(model), err)
				}
			},
		})
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(open(true).Close(), os.Remove(path)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestOldMeta: the older of the first two pages is not believed when the newer is damaged: what was done last would be undone.
func TestOldMeta(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	full(t, path)
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for page := range 2 {
		bad := bytes.Clone(good)
		bad[page*4096+pageHeader+20] ^= 1
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(durable.OS{}, path, options(false)); mail.KindOf(err) != mail.Corrupt {
			t.Errorf("page %d: %v", page, err)
		}
	}
}

// TestCutShort: a file that is shorter than it was is damaged, an empty one too.
func TestCutShort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	full(t, path)
	for _, size := range []int64{40 << 12, 3 << 12, 5000, 50, 0} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(durable.OS{}, path, options(false)); mail.KindOf(err) != mail.Corrupt {
			t.Errorf("%d octets: %v", size, err)
		}
	}
}

func TestBusy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	d := mustOpen(t, path, true)
	if _, err := Open(durable.OS{}, path, options(true)); mail.KindOf(err) != mail.Busy {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := mustOpen(t, path, true).Close(); err != nil {
		t.Fatal(err)
	}
}

// FuzzInspect: whatever the pages say, the look at them ends, and takes no more memory than the file has octets.
func FuzzInspect(f *testing.F) {
	path := filepath.Join(f.TempDir(), "file")
	if err := mustOpen(f, path, true).Close(); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, true)
	full(f, path)
	if b, err = os.ReadFile(path); err != nil {
		f.Fatal(err)
	}
	f.Add(b[:min(len(b), 64<<10)], false)
	f.Fuzz(func(t *testing.T, b []byte, leaves bool) {
		m, err := metaOf(bytes.NewReader(b))
		if err != nil { // as if its sum were right
			if len(b) < 8192 {
				return
			}
			m = meta{size: 4096, root: binary.LittleEndian.Uint64(b[32:]), free: binary.LittleEndian.Uint64(b[48:]), pages: uint64(len(b) / 4096)}
		}
		_ = m.inspect(bytes.NewReader(b), int64(len(b)), leaves)
	})
}
