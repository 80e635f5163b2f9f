package trust

import (
	"bytes"
	"encoding/binary"
	"testing"

	"cmmpd/internal/demopki"
)

// TestNames: what is remembered of a name is what would be read, and there is an end to it.
func TestNames(t *testing.T) {
	root, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	var n names
	long := bytes.Repeat([]byte{0x31}, maxNameSize+1)
	for i := range maxNames + 10 {
		for _, der := range [][]byte{root.Cert.RawSubject, binary.BigEndian.AppendUint64(nil, uint64(i)), long} {
			for range 2 {
				if got, key := n.of(der); key != parseName(der).key() || got.key() != key {
					t.Fatalf("%x is taken for another name", der)
				}
			}
		}
		if len(n.known) > maxNames {
			t.Fatalf("%d names are remembered", len(n.known))
		}
	}
}
