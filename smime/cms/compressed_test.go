package cms

import (
	"bytes"
	"compress/zlib"
	"os"
	"testing"

	"cmmpd/internal/mail"
)

// compressed is a CompressedData around what zlib made, with algorithm id.
func compressed(t testing.TB, id OID, packed []byte) []byte {
	t.Helper()
	return contentInfo(CompressedData, pieces{tlv(derSequence, small(0), algorithm{id, nil}.der(),
		tlv(derSequence, Data.der(), tlv(derExplicit, tlv(derOctetString, packed))))}).join()
}

func zipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecompress(t *testing.T) {
	sample, err := os.ReadFile("testdata/compressed.ber")
	if err != nil {
		t.Fatal(err)
	}
	content := text(1000)
	packed := zipped(t, content)
	bomb := zipped(t, make([]byte, 1<<20))
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-1] ^= 1 // the checksum
	for name, c := range map[string]struct {
		ber  []byte
		want string
		kind mail.Kind
	}{
		"Bouncy Castle's":   {sample, "Content-Type: text/plain\r\n\r\nsample\r\n", 0},
		"ours":              {compressed(t, oidZlib, packed), string(content), 0},
		"empty":             {compressed(t, oidZlib, zipped(t, nil)), "", 0},
		"a bomb":            {compressed(t, oidZlib, bomb), "", mail.TooLarge},
		"cut":               {compressed(t, oidZlib, packed[:len(packed)-5]), "", mail.Invalid},
		"changed":           {compressed(t, oidZlib, flipped), "", mail.Invalid},
		"something behind":  {compressed(t, oidZlib, append(bytes.Clone(packed), 0)), "", mail.Invalid},
		"not zlib":          {compressed(t, oidZlib, content), "", mail.Invalid},
		"another algorithm": {compressed(t, oidRSA, packed), "", mail.Unsupported},
		"signed":            {contentInfo(SignedData, pieces{tlv(derSequence)}).join(), "", mail.Unsupported},
		"without content":   {contentInfo(CompressedData, pieces{tlv(derSequence, small(0), algorithm{oidZlib, nil}.der(), tlv(derSequence, Data.der()))}).join(), "", mail.Invalid},
		"nothing":           {nil, "", mail.Invalid},
	} {
		id, got, err := Decompress(c.ber, Limits{Size: 100_000})
		if (c.kind == 0) != (err == nil) || err != nil && mail.KindOf(err) != c.kind || string(got) != c.want || err == nil && id != Data {
			t.Errorf("%s: %d bytes of %s, %v", name, len(got), id, err)
		}
	}
	whole := compressed(t, oidZlib, packed)
	if id, err := ContentType(whole); err != nil || id != CompressedData {
		t.Errorf("%s, %v", id, err)
	}
}

func FuzzDecompress(f *testing.F) {
	addSamples(f)
	f.Add(compressed(f, oidZlib, zipped(f, text(100))))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, out, err := Decompress(b, Limits{Size: 1 << 20})
		if err != nil && mail.KindOf(err) == mail.Internal {
			t.Fatal(err) // a panic
		}
		if len(out) > 1<<20 {
			t.Fatalf("%d bytes", len(out))
		}
	})
}
