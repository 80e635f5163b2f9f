package storage

import (
	"bytes"
	"testing"

	"cmmpd/internal/message"
	"cmmpd/storage/blob"
	"cmmpd/storage/engine"
)

// FuzzRecords: every decoder of the index takes anything, and what it takes it writes again as it was.
func FuzzRecords(f *testing.F) {
	text := sealedText{3, []byte("sealed")}
	set := flagSet{sys: sysSeen, words: [2]uint64{1 << 3, 1}}
	f.Add(byte(0), accountRecord{1, 2, 3, 4, 0}.encode())
	f.Add(byte(0), accountRecord{1, 2, 3, 4, 5}.encode())
	f.Add(byte(1), mailboxRecord{use: 1, nameHash: hash{1}, name: text, keywords: []keyword{{hash{2}, text}}}.encode())
	f.Add(byte(2), counters{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}.encode())
	f.Add(byte(3), entryRecord{1, 2, 3, 4, -5, 6, set}.encode())
	f.Add(byte(4), secretRecord{1, []byte("x")}.encode())
	f.Add(byte(5), bodyRecord{1, 2, 3, 4, sealedSize(6), 6, 7}.encode())
	f.Add(byte(6), messageIDRecord{1, 0, "secret"}.encode())
	f.Add(byte(6), messageIDRecord{1, 20_000, "secret"}.encode())
	f.Add(byte(7), encodeFlagRuns(0, []flagRun{{3, 4, 5, set}, {9, 1, 6, set}}))
	f.Add(byte(8), encodeUIDs([]uidRange{{1, 3}, {9, 9}}))
	f.Add(byte(9), encodePosition(blob.Position{Segment: 1, Offset: 2, Seq: 3}))
	f.Add(byte(10), encodeNumber(300))
	f.Add(byte(11), text.append(nil))
	f.Add(byte(12), encodeOps([]engine.Op{{Key: []byte("Ka"), Value: []byte("v")}, {Key: []byte("x")}, {Key: []byte("Ba"), Value: bodyRecord{1, 0, 3, 4, 22, 6, 7}.encode()}}))
	f.Add(byte(12), encodeCopies([]engine.Op{{Key: []byte("Ba"), Value: bodyRecord{1, 0, 3, 4, 22, 6, 7}.encode()}}))
	f.Add(byte(13), scrubState{1, 2, 3}.encode())
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		var again []byte
		var err error
		switch kind {
		case 0:
			again, err = redo(b, decodeAccount)
		case 1:
			again, err = redo(b, decodeMailbox)
		case 2:
			again, err = redo(b, decodeCounters)
		case 3:
			again, err = redo(b, decodeEntry)
		case 4:
			again, err = redo(b, decodeSecret)
		case 5:
			again, err = redo(b, decodeBody)
		case 6:
			again, err = redo(b, decodeMessageID)
		case 7:
			var r []flagRun
			r, err = decodeFlagRuns(0, b)
			again = encodeFlagRuns(0, r)
		case 8:
			var r []uidRange
			r, err = decodeUIDs(b)
			again = encodeUIDs(r)
		case 9:
			var p blob.Position
			p, err = decodePosition(b)
			again = encodePosition(p)
		case 10:
			var n uint64
			n, err = decodeNumber(b)
			again = encodeNumber(n)
		case 11:
			var s sealedText
			s, err = decodeSealedText(b)
			again = s.append(nil)
		case 12:
			var ops []engine.Op
			if ops, err = decodeOps(b); err == nil {
				again = encodeOps(ops)
			}
			if copies, _ := decodeCopies(b); len(copies) > 0 {
				again = encodeCopies(copies)
			}
		case 13:
			again, err = redo(b, decodeScrub)
		default:
			return
		}
		if err == nil && b != nil && !bytes.Equal(again, b) {
			t.Fatalf("kind %d: %x is written again as %x", kind, b, again)
		}
	})
}

func redo[R interface{ encode() []byte }](b []byte, decode func([]byte) (R, error)) ([]byte, error) {
	r, err := decode(b)
	if err != nil {
		return nil, err
	}
	return r.encode(), nil
}

func FuzzFormat(f *testing.F) {
	f.Add(encodeFormat(1, blob.StoreID{1}))
	f.Add(encodeFormat(2, blob.StoreID{1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if id, version, err := decodeFormat(b); err == nil && !bytes.Equal(encodeFormat(version, id), b) {
			t.Fatalf("%q is written again otherwise", b)
		}
	})
}

func FuzzSummary(f *testing.F) {
	data := testMessage("s", "b")
	x := message.Parse(data, message.Limits{})
	b, err := encodeSummary(data, x)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	old, err := x.AppendBinary(appendBytes(nil, data[:x.Root.BodyStart])) // version 1
	if err != nil {
		f.Fatal(err)
	}
	f.Add(old)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeSummary(b)
		if err != nil {
			return
		}
		if _, err := s.open(); err != nil {
			return
		}
		if _, err := s.appendEnvelope(nil); err != nil {
			t.Errorf("an envelope that can be read cannot be sent: %v", err)
		}
	})
}
