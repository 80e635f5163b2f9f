package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"cmmpd/audit"
)

// outsider reads a log as anybody can who knows C2SP tlog-tiles and nothing of this
// package: with the client half of x/mod.
type outsider struct{ dir string }

func (outsider) Height() int                     { return 8 }
func (outsider) SaveTiles([]tlog.Tile, [][]byte) {}

// path writes a tile's path by the text of the specification.
func (o outsider) path(level string, n int64, width int) string {
	s := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		s = fmt.Sprintf("x%03d/%s", n%1000, s)
	}
	if width < 256 {
		s += ".p/" + strconv.Itoa(width)
	}
	return filepath.Join(o.dir, "tile", level, s)
}

func (o outsider) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, t := range tiles {
		b, err := os.ReadFile(o.path(strconv.Itoa(t.L), t.N, t.W))
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

func (o outsider) entries(t *testing.T, n int64, width int) [][]byte {
	t.Helper()
	b, err := os.ReadFile(o.path("entries", n, width))
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for len(b) > 0 {
		size := int(binary.BigEndian.Uint16(b))
		out, b = append(out, b[2:2+size]), b[2+size:]
	}
	return out
}

func openTree(t *testing.T, signed []byte, dir string) tlog.Tree {
	t.Helper()
	vkey, err := os.ReadFile(filepath.Join(dir, "audit.pub"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(strings.TrimSpace(string(vkey)))
	if err != nil {
		t.Fatal(err)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Split(n.Text, "\n")
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || f[0] != "log.example" {
		t.Fatalf("%q", f)
	}
	hash, err := tlog.ParseHash(f[2])
	if err != nil {
		t.Fatal(err)
	}
	return tlog.Tree{N: size, Hash: hash}
}

func TestAnOutsiderChecksTheLog(t *testing.T) {
	ctx := context.Background()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Options{Origin: "log.example", Queue: 1 << 20}
	dir := filepath.Join(t.TempDir(), "audit")
	if err := audit.Create(dir, key, o); err != nil {
		t.Fatal(err)
	}
	l, err := audit.Open(dir, key, o)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var kept [][]byte
	for _, n := range []int{1, 254, 1, 1, 767, 64512, 300} { // up to two full levels and more
		for i := range n {
			l.Note(audit.Event{Type: audit.MailSealed, Subject: fmt.Sprint(i)})
		}
		if err := l.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, l.Checkpoint())
	}
	out := outsider{dir}
	tree := openTree(t, kept[len(kept)-1], dir)
	onDisk, err := os.ReadFile(filepath.Join(dir, "checkpoint"))
	if err != nil || !bytes.Equal(onDisk, kept[len(kept)-1]) {
		t.Errorf("the checkpoint on disk: %q, %v", onDisk, err)
	}
	reader := tlog.TileHashReader(tree, out)
	for _, k := range kept {
		old := openTree(t, k, dir)
		proof, err := tlog.ProveTree(tree.N, old.N, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, old.N, old.Hash); err != nil {
			t.Errorf("consistency from %d to %d: %v", old.N, tree.N, err)
		}
	}
	for _, seq := range []int64{0, 1, 255, 256, 1023, 1024, 65535, 65536, tree.N - 1} {
		bundle := out.entries(t, seq/256, int(min(256, tree.N-seq/256*256)))
		raw := bundle[seq%256]
		proof, err := tlog.ProveRecord(tree.N, seq, reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, seq, tlog.RecordHash(raw)); err != nil {
			t.Errorf("record %d: %v", seq, err)
		}
		var rec struct {
			Seq  int64  `json:"seq"`
			Type string `json:"type"`
		}
		if err := json.Unmarshal(raw, &rec); err != nil || rec.Seq != seq || rec.Type != audit.MailSealed {
			t.Errorf("record %d: %s, %v", seq, raw, err)
		}
	}
	r, err := audit.Verify(ctx, dir, l.PublicKey(), kept[3])
	if err != nil || r.Records != tree.N || r.Since != 257 {
		t.Errorf("%+v, %v", r, err)
	}
}
