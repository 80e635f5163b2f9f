package search

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"testing"
)

// clear16 is an AEAD that seals nothing, so that a fuzzer gets behind it.
type clear16 struct{}

var _ cipher.AEAD = clear16{}

func (clear16) NonceSize() int { return 12 }
func (clear16) Overhead() int  { return tagSize }
func (clear16) Seal(dst, _, text, _ []byte) []byte {
	return append(append(dst, text...), make([]byte, tagSize)...)
}

func (clear16) Open(dst, _, sealed, _ []byte) ([]byte, error) {
	return append(dst, sealed[:len(sealed)-tagSize]...), nil
}

// Whatever stands in a segment, reading it ends, without a panic and without memory for what is only announced.
func FuzzSegment(f *testing.F) {
	b := NewBuilder()
	for i := range 20 {
		if err := b.Add(uint64(i+1), source([]byte("Subject: common word\r\n\r\ntext of "+string(rune('a'+i))+" 中文字\r\n"))); err != nil {
			f.Fatal(err)
		}
	}
	var file bytes.Buffer
	if _, err := b.Write(&file, 0, clear16{}, nil); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes(), []byte("common"))
	f.Fuzz(func(t *testing.T, file, needle []byte) {
		file = bytes.Clone(file)
		if len(file) >= footerSize+tagSize { // the footer's places follow from its lengths
			foot := file[len(file)-footerSize-tagSize:]
			at := uint64(len(file) - footerSize - tagSize)
			at -= min(at, uint64(binary.BigEndian.Uint32(foot[40:]))+tagSize)
			binary.BigEndian.PutUint64(foot[24:], at)
			at -= min(at, uint64(binary.BigEndian.Uint32(foot[32:]))+tagSize)
			binary.BigEndian.PutUint64(foot[16:], at)
		}
		s, err := Open(bytes.NewReader(file), 0, int64(len(file)), clear16{}, nil)
		if err != nil {
			return
		}
		_ = s.Verify()
		if q, ok := NewQuery(AllFields, needle); ok {
			_, _ = s.Find([]Query{q})
		}
		other, err := Open(bytes.NewReader(file), 0, int64(len(file)), clear16{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		_, _, _ = Merge(&out, 0, clear16{}, nil, []*Segment{s, other}, func(id uint64) bool { return id&1 == 0 }, func() error { return nil })
	})
}

// A set of documents is read as it was written, whatever the way.
func FuzzPostings(f *testing.F) {
	f.Add([]byte{asGaps, 0, 3, 5}, uint16(20))
	f.Add([]byte{asBits, 0xff, 0x0f}, uint16(12))
	f.Add([]byte{asOthers, 1}, uint16(300))
	f.Fuzz(func(t *testing.T, b []byte, docs uint16) {
		set := newSet(int(docs))
		if set.addPostings(b, int(docs)) != nil {
			return
		}
		list := set.appendNumbers(nil)
		if len(list) != set.Len() || len(list) > int(docs) {
			t.Fatalf("%d numbers of %d documents in a set of %d", len(list), docs, set.Len())
		}
		again := newSet(int(docs))
		if err := again.addPostings(appendPostings(nil, list, int(docs)), int(docs)); err != nil {
			t.Fatal(err)
		}
		for i := range set {
			if set[i] != again[i] {
				t.Fatalf("%v became another set", list)
			}
		}
	})
}
