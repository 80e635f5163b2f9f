package engine

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"cmmpd/internal/durable"
)

func openBolt(t testing.TB, path string) Engine {
	t.Helper()
	e, err := OpenBolt(durable.OS{}, path)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// TestConformance is the contract; every engine runs it.
func TestConformance(t *testing.T) {
	for name, open := range map[string]func(testing.TB, string) Engine{
		"bolt": openBolt,
	} {
		t.Run(name, func(t *testing.T) { conformance(t, open) })
	}
}

func conformance(t *testing.T, open func(testing.TB, string) Engine) {
	path := filepath.Join(t.TempDir(), "engine")
	e := open(t, path)
	put := func(w Writer, pairs ...string) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := w.Put([]byte(pairs[i]), []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	}
	scan := func(prefix, from string) string {
		var b strings.Builder
		err := e.View(func(r Reader) error {
			r.Scan([]byte(prefix), []byte(from), func(k, v []byte) bool {
				fmt.Fprintf(&b, "%s=%s ", k, v)
				return string(k) != "stop"
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	err := e.Update(func(w Writer) error {
		if err := put(w, "b1", "x", "a2", "2", "a1", "1", "a3", "", "stop", "!", "stopped", "!"); err != nil {
			return err
		}
		if err := w.Delete([]byte("b1")); err != nil {
			return err
		}
		if w.Get([]byte("b1")) != nil || string(w.Get([]byte("a1"))) != "1" {
			t.Error("an update does not see its own changes")
		}
		return w.Delete([]byte("never there"))
	})
	if err != nil {
		t.Fatal(err)
	}
	undone := errors.New("undone")
	if err := e.Update(func(w Writer) error { return errors.Join(put(w, "a1", "wrong", "c", "c"), undone) }); !errors.Is(err, undone) {
		t.Errorf("the error of an update: %v", err)
	}
	for range 2 {
		if got := scan("a", ""); got != "a1=1 a2=2 a3= " {
			t.Errorf("scan a: %q", got)
		}
		if got := scan("a", "a15"); got != "a2=2 a3= " {
			t.Errorf("scan a from a15: %q", got)
		}
		if err := e.Release(); err != nil {
			t.Fatal(err)
		}
		if got := scan("", "b"); got != "stop=! " {
			t.Errorf("scan from b: %q", got)
		}
		_ = e.View(func(r Reader) error {
			if v := r.Get([]byte("a3")); v == nil || len(v) != 0 {
				t.Errorf("an empty value reads as %v", v)
			}
			if r.Get([]byte("c")) != nil {
				t.Error("a failed update left something")
			}
			return nil
		})
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		e = open(t, path)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}

// failing is an engine whose updates fail when told to.
type failing struct {
	Engine
	fail bool
}

func (f *failing) Update(g func(Writer) error) error {
	if f.fail {
		return errors.New("told to")
	}
	return f.Engine.Update(g)
}

// TestBehind compares Behind with a map, flushing now and then, with and without success.
func TestBehind(t *testing.T) {
	n := 0
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		n++
		bolt, err := OpenBolt(durable.OS{}, filepath.Join(dir, fmt.Sprint(n)))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = bolt.Close() }()
		e := &failing{Engine: bolt}
		b := NewBehind(e)
		model := make(map[string]string)
		key := rapid.StringMatching(`[ab][a-c]{0,2}`)
		t.Repeat(map[string]func(*rapid.T){
			"apply": func(t *rapid.T) {
				var ops []Op
				for range rapid.IntRange(1, 4).Draw(t, "n") {
					k := key.Draw(t, "key")
					if rapid.Bool().Draw(t, "delete") {
						ops = append(ops, Op{Key: []byte(k)})
						delete(model, k)
					} else {
						v := rapid.StringN(0, 3, -1).Draw(t, "value")
						ops = append(ops, Op{Key: []byte(k), Value: append([]byte{}, v...)})
						model[k] = v
					}
				}
				b.Apply(ops, Op{Key: []byte("mark"), Value: fmt.Append(nil, len(model))})
			},
			"flush": func(t *rapid.T) {
				e.fail = rapid.Bool().Draw(t, "fail")
				if err := b.Flush(func() error { return nil }); err != nil && !e.fail {
					t.Fatal(err)
				} else if err == nil && b.Pending() != 0 {
					t.Fatal("something is pending after a flush")
				}
			},
			"": func(t *rapid.T) {
				prefix, from := rapid.SampledFrom([]string{"", "a", "b", "ab"}).Draw(t, "prefix"), rapid.SampledFrom([]string{"", "ab", "b"}).Draw(t, "from")
				var got, want []string
				err := b.View(func(r Reader) error {
					r.Scan([]byte(prefix), []byte(from), func(k, v []byte) bool {
						if string(k) != "mark" {
							got = append(got, string(k)+"="+string(v))
						}
						return true
					})
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range slices.Sorted(maps.Keys(model)) {
					if strings.HasPrefix(k, prefix) && k >= from {
						want = append(want, k+"="+model[k])
					}
					v, err := b.Get([]byte(k))
					if err != nil || !bytes.Equal(v, []byte(model[k])) || v == nil {
						t.Fatalf("get %q: %q, %v", k, v, err)
					}
				}
				if !slices.Equal(got, want) {
					t.Fatalf("scan %q from %q: %q, want %q", prefix, from, got, want)
				}
			},
		})
	})
}
