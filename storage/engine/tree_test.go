package engine

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// page is a branch page of 256 octets.
func page(number uint64, children ...uint64) []byte {
	b := make([]byte, 256)
	binary.LittleEndian.PutUint64(b, number)
	binary.LittleEndian.PutUint16(b[8:], branchFlag)
	binary.LittleEndian.PutUint16(b[10:], uint16(len(children)))
	for i, child := range children {
		e := b[pageHeader+branchElement*i:]
		binary.LittleEndian.PutUint32(e, uint32(200-17*i))
		binary.LittleEndian.PutUint32(e[4:], 1)
		binary.LittleEndian.PutUint64(e[8:], child)
		e[200-17*i] = byte(child)
	}
	return b
}

func leaf(number uint64) []byte {
	b := page(number)
	binary.LittleEndian.PutUint16(b[8:], leafFlag)
	return b
}

func walk(b []byte) error {
	t := &tree{file: bytes.NewReader(b), size: 256, seen: make(map[uint64]bool)}
	return t.walk(0, 0)
}

func TestTree(t *testing.T) {
	for name, b := range map[string][]byte{
		"out of order":    bytes.Join([][]byte{page(0, 1, 2), page(1, 3, 4), leaf(2), leaf(3), leaf(4)}, nil), // 2 after 4
		"its own child":   page(0, 0),
		"an ancestor":     bytes.Join([][]byte{page(0, 1), page(1, 0)}, nil),
		"shared":          bytes.Join([][]byte{page(0, 1, 1), leaf(1)}, nil),
		"not there":       page(0, 7),
		"another's page":  bytes.Join([][]byte{page(0, 1), leaf(2)}, nil),
		"too many":        func() []byte { b := page(0); b[11] = 1; return b }(),
		"beyond the page": func() []byte { b := page(0, 1); b[pageHeader+5] = 1; return append(b, leaf(1)...) }(),
	} {
		if walk(b) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := walk(bytes.Join([][]byte{page(0, 1, 2), leaf(1), leaf(2)}, nil)); err != nil {
		t.Error(err)
	}
}

// FuzzTree: whatever the pages say, the walk ends.
func FuzzTree(f *testing.F) {
	f.Add(bytes.Join([][]byte{page(0, 1, 2), page(1, 3), page(2, 4), leaf(3), leaf(4)}, nil))
	f.Add(page(0, 0))
	f.Fuzz(func(_ *testing.T, b []byte) { _ = walk(b) })
}
