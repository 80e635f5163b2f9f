package backup

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

func testKeys(t testing.TB) keys.Keystore {
	t.Helper()
	ks, err := keys.CreateFile(filepath.Join(t.TempDir(), "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if err := ks.Generate(keys.Service, "store", keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	return ks
}

type item struct {
	name string
	data []byte
}

func write(t testing.TB, ks keys.Keystore, items ...item) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := NewWriter(context.Background(), &out, ks, Manifest{Kind: Mail, Store: "s", Time: time.Unix(1, 0).UTC(), Program: "test"})
	if err != nil {
		t.Fatal(err)
	}
	for _, it := range items {
		err := w.Put(it.name, func(w io.Writer) error {
			_, err := w.Write(it.data)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func read(b []byte, ks keys.Keystore) (items []item, m Manifest, err error) {
	r, err := NewReader(context.Background(), bytes.NewReader(b), ks)
	if err != nil {
		return nil, Manifest{}, err
	}
	for {
		name, body, err := r.Next()
		if errors.Is(err, io.EOF) {
			return items, r.Manifest, nil
		}
		if err != nil {
			return nil, r.Manifest, err
		}
		data, err := io.ReadAll(body)
		if err != nil {
			return nil, r.Manifest, err
		}
		items = append(items, item{name, data})
	}
}

func TestRoundTrip(t *testing.T) {
	ks := testKeys(t)
	// The manifest and the names take some octets: these sizes put the end around the border of a frame.
	for size := range 200 {
		data := make([]byte, frameSize-200+size)
		b := write(t, ks, item{"a", data})
		got, _, err := read(b, ks)
		if err != nil || len(got) != 1 || !bytes.Equal(got[0].data, data) {
			t.Fatalf("size %d: %v", len(data), err)
		}
	}
	big := make([]byte, 3*maxPiece+17)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	want := []item{{"empty", []byte{}}, {"store/big", big}, {"store/small", []byte("x")}}
	b := write(t, ks, want...)
	got, m, err := read(b, ks)
	if err != nil || m.Kind != Mail || m.Store != "s" || !m.Time.Equal(time.Unix(1, 0)) {
		t.Fatal(err, m)
	}
	for i := range want {
		if got[i].name != want[i].name || !bytes.Equal(got[i].data, want[i].data) {
			t.Errorf("entry %d is %s with %d octets", i, got[i].name, len(got[i].data))
		}
	}
	r, err := NewReader(context.Background(), bytes.NewReader(b), ks)
	if err != nil {
		t.Fatal(err)
	}
	names := ""
	for {
		name, _, err := r.Next() // nothing is read of the entries
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		names += name + " "
	}
	if names != "empty store/big store/small " {
		t.Error(names)
	}
	if bytes.Contains(b, []byte("small")) {
		t.Error("names stand in clear")
	}
}

// TestDamage changes, cuts and lengthens a backup in many places: none is taken for whole.
func TestDamage(t *testing.T) {
	ks := testKeys(t)
	b := write(t, ks, item{"a", make([]byte, 2*frameSize)}, item{"b", []byte("text")})
	bad := func(what string, c []byte) {
		t.Helper()
		if _, _, err := read(c, ks); mail.KindOf(err) != mail.Corrupt && mail.KindOf(err) != mail.Unsupported {
			t.Errorf("%s: %v", what, err)
		}
	}
	for i := 0; i < len(b); i += 1 + i/50 {
		c := bytes.Clone(b)
		c[i] ^= 1
		bad("one bit", c)
	}
	for i := 0; i < len(b); i += 1 + i/20 {
		bad("cut", b[:i])
	}
	bad("longer", append(bytes.Clone(b), 0))
	begin := headSize + int(binary.LittleEndian.Uint16(b[headSize-2:]))
	const frame = frameSize + frameTag
	first, second := b[begin:begin+frame], b[begin+frame:begin+2*frame]
	bad("frames swapped", slices.Concat(b[:begin], second, first, b[begin+2*frame:]))
	bad("a frame twice", slices.Concat(b[:begin+frame], b[begin:]))
	bad("a frame dropped", slices.Concat(b[:begin], b[begin+frame:]))
	other := testKeys(t)
	if _, _, err := read(b, other); err == nil || !strings.Contains(err.Error(), "another keystore") {
		t.Errorf("with another keystore: %v", err)
	}
	newer := bytes.Clone(b)
	newer[8] = 2
	if _, _, err := read(newer, ks); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("a newer version: %v", err)
	}
}

func FuzzEntries(f *testing.F) {
	f.Add([]byte("\x01\x00a\x03\x00\x00\x00xyz\x00\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00"))
	f.Add([]byte("\x01\x00a\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := &entryReader{r: bytes.NewReader(b)}
		total := 0
		for {
			name, body, err := r.next()
			if err != nil {
				if errors.Is(err, io.EOF) && total > len(b) {
					t.Error("more came out than went in")
				}
				return
			}
			n, err := io.Copy(io.Discard, body)
			if err != nil {
				return
			}
			total += len(name) + int(n)
		}
	})
}

func FuzzHead(f *testing.F) {
	ks := testKeys(f)
	f.Add(write(f, ks, item{"a", []byte("text")}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = read(b, ks)
	})
}
