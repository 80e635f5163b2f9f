package cms

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math/big"
	"strings"
	"testing"
)

func newReader(b []byte) *reader {
	return &reader{&budget{elements: 10000, depth: maxDepth}, b, 0}
}

// TestElement goes through the forms of headers and lengths.
func TestElement(t *testing.T) {
	for _, v := range []struct {
		in, content string
		err         error
	}{
		{"0403010203", "010203", nil},
		{"048103010203", "010203", nil}, // a length longer than need be
		{"04880000000000000003010203", "010203", nil},
		{"0489000000000000000003010203", "", errForm},
		{"3080020105" + "0000", "020105", nil},
		{"3080308002010500000000", "308002010500" + "00", nil},
		{"308002010500", "", errTruncated},
		{"3080", "", errTruncated},
		{"30", "", errTruncated},
		{"", "", errMissing},
		{"0480010203", "", errForm}, // indefinite, but primitive
		{"04ff", "", errForm},
		{"0484ffffffff", "", errTruncated},
		{"0488ffffffffffffffff", "", errTruncated},
		{"04030102", "", errTruncated},
		{"0000", "", errForm},
		{"30800000", "", nil},
		{"3f1f0101", "01", nil}, // high tag numbers
		{"1f1e0101", "", errForm},
		{"1f80010101", "", errForm},
		{"1fffffffff7f0101", "", errForm},
		{"1fff", "", errTruncated},
		{"1f", "", errTruncated},
		{"1f81", "", errTruncated},
	} {
		r := newReader(unhex(t, v.in))
		e, err := r.next()
		if !errors.Is(err, v.err) || hex.EncodeToString(e.content) != v.content {
			t.Errorf("%s: %x, %v; want %s, %v", v.in, e.content, err, v.content, v.err)
		}
	}
}

func TestOctets(t *testing.T) {
	for in, want := range map[string]string{
		"0403010203":             "010203",
		"2480040101040202030000": "010203",
		"2405040101" + "0400":    "01",
		"2480" + "2480040101" + "0000" + "040102" + "0000": "0102",
		"24800000":                        "",
		"2400":                            "",
		"a080040101040102" + "0000":       "not this tag",
		"2480" + "020101" + "0000":        "malformed",
		"2480" + "0403" + "0102" + "0000": "malformed",
	} {
		got, err := newReader(unhex(t, in)).readOctets(tagOctetString)
		if wantErr := strings.ContainsRune(want, 'm') || strings.ContainsRune(want, 'n'); wantErr != (err != nil) ||
			err == nil && hex.EncodeToString(got) != want {
			t.Errorf("%s: %x, %v; want %s", in, got, err, want)
		}
	}
}

// TestBounds checks that depth and work are bounded, whatever the form.
func TestBounds(t *testing.T) {
	deep := func(n int) []byte {
		return []byte(strings.Repeat("\x24\x80", n) + "\x04\x01x" + strings.Repeat("\x00\x00", n))
	}
	if got, err := newReader(deep(31)).readOctets(tagOctetString); err != nil || string(got) != "x" {
		t.Errorf("31 deep: %q, %v", got, err)
	}
	for _, n := range []int{33, 1000, 100000} {
		if _, err := newReader(deep(n)).next(); !errors.Is(err, errTooDeep) {
			t.Errorf("%d deep: %v", n, err)
		}
	}
	definite := []byte("\x04\x01x")
	for range 40 {
		definite = tlv(0x24, definite)
	}
	if _, err := newReader(definite).readOctets(tagOctetString); !errors.Is(err, errTooDeep) {
		t.Errorf("deep with definite lengths: %v", err)
	}
	many := []byte("\x24\x80" + strings.Repeat("\x04\x00", 20000) + "\x00\x00")
	if _, err := newReader(many).next(); !errors.Is(err, errTooMany) {
		t.Errorf("many pieces: %v", err)
	}
}

func TestInteger(t *testing.T) {
	for in, want := range map[string]int64{
		"020100": 0, "02017f": 127, "02020080": 128, "0201ff": -1, "020180": -128, "0202ff7f": -129, "02028000": -32768, "0203010000": 65536,
	} {
		got, err := newReader(unhex(t, in)).readInteger()
		if err != nil || got.Int64() != want {
			t.Errorf("%s: %v, %v", in, got, err)
		}
		if out := integer(big.NewInt(want)); hex.EncodeToString(out) != in {
			t.Errorf("%d: %x, want %s", want, out, in)
		}
	}
	for _, in := range []string{"0200", "2203020101", "0241" + strings.Repeat("01", 65), "040100"} {
		if n, err := newReader(unhex(t, in)).readInteger(); err == nil {
			t.Errorf("%s: %v", in, n)
		}
	}
}

func TestOID(t *testing.T) {
	for in, want := range map[string]OID{
		"06092a864886f70d010701": Data,
		"0603883703":             "2.999.3",
		"0600":                   "",
		"060180":                 "",
		"06022a80":               "",
		"06032a8001":             "",
		"060100":                 "0.0",
		"060127":                 "0.39",
		"060128":                 "1.0",
		"06012a":                 "1.2",
		"060150":                 "2.0",
		"06142a" + strings.Repeat("ff", 18) + "7f": "1.2.10889035741470030830827987437816582766591",
	} {
		got, err := newReader(unhex(t, in)).readOID()
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v", in, got, err)
		}
		if want != "" && hex.EncodeToString(want.der()) != in {
			t.Errorf("%s: %x", want, want.der())
		}
	}
	for _, o := range []OID{
		"0.39", "1.39", "2.39", "2.47", "2.48", "2.175", "2.176", "1.2.127", "1.2.128", "1.2.16383", "1.2.16384", "1.2.4611686018427387903", "1.2.4611686018427387904",
		"1.2.9223372036854775807", "1.2.9223372036854775808", "1.2.18446744073709551616", "2.4611686018427387823", "2.4611686018427387903", "2.9223372036854775808",
	} {
		if got, err := newReader(o.der()).readOID(); got != o || err != nil {
			t.Errorf("%s becomes %s, %v", o, got, err)
		}
	}
	for _, o := range []OID{"", "1", "1.", "1.40", "3.1", "1.-2", "1.2.x", OID("1.2." + strings.Repeat("9", 500))} {
		if b := o.der(); b != nil {
			t.Errorf("%q encodes as %x", o, b)
		}
	}
}

func TestCheckDER(t *testing.T) {
	for in, good := range map[string]bool{
		"3003020105":              true,
		"308103020105":            false, // a length longer than need be
		"30800201050000":          false,
		"3003020105" + "00":       false,
		"24030401" + "01":         false, // a string in pieces
		"1003020105":              false, // a SEQUENCE must be constructed
		"30020000":                false,
		"a003020105":              true,
		"3004a00204" + "00":       true,
		"3082000302" + "0105":     false,
		"300402810105":            false,
		"bf1f03020105":            true,
		"":                        false,
		"3181" + "80" + "0000":    false,
		"300302020102" + "010203": false,
	} {
		if err := checkDER(unhex(t, in), maxDepth); (err == nil) != good {
			t.Errorf("%s: %v", in, err)
		}
	}
	deep := []byte{}
	for range 40 {
		deep = tlv(derSequence, deep)
	}
	if err := checkDER(deep, maxDepth); !errors.Is(err, errTooDeep) {
		t.Errorf("deep: %v", err)
	}
}

// walk reads everything there is.
func walk(r *reader) error {
	for r.more() {
		e, err := r.next()
		if err != nil {
			return err
		}
		if len(e.content) > len(e.raw) {
			return errors.New("slices")
		}
		_, _ = r.octets(e)
		if e.constructed {
			in, err := r.inside(e)
			if err != nil {
				return err
			}
			if err := walk(in); err != nil {
				return err
			}
		}
	}
	return nil
}

func FuzzBER(f *testing.F) {
	f.Add([]byte("\x24\x80\x04\x01\x01\x00\x00"))
	f.Add([]byte("\x30\x80\x30\x80\x02\x01\x05\x00\x00\x00\x00"))
	f.Add(Data.der())
	f.Add(contentInfo(Data, pieces{tlv(derOctetString, []byte("x"))}).join())
	f.Add([]byte("\x1f\x81\x01\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		err := walk(newReader(b))
		if checkDER(b, maxDepth) == nil {
			e, err2 := newReader(b).next()
			if err2 != nil || !bytes.Equal(e.raw, b) {
				t.Fatalf("%x is DER but reads as %x, %v (%v)", b, e.raw, err2, err)
			}
		}
		if id, err := newReader(b).readOID(); err == nil {
			if again, err := newReader(id.der()).readOID(); err != nil || again != id {
				t.Fatalf("%s encodes as %x", id, id.der())
			}
		}
		if n, err := newReader(b).readInteger(); err == nil {
			if again, err := newReader(integer(n)).readInteger(); err != nil || again.Cmp(n) != 0 {
				t.Fatalf("%s encodes as %x", n, integer(n))
			}
		}
		_, _ = parseAttributes(b)
		_, _ = ContentType(b)
	})
}

// contentInfo wraps the content of a ContentInfo.
func contentInfo(id OID, content pieces) pieces {
	return wrap(derSequence, pieces{id.der()}, wrap(derExplicit, content))
}

// wrap puts all parts under one header.
func wrap(id byte, parts ...pieces) pieces {
	all := pieces{nil}
	for _, p := range parts {
		all = append(all, p...)
	}
	all[0] = derHeader(id, all.size())
	return all
}

// join is the encoding in one piece.
func (p pieces) join() []byte { return bytes.Join(p, nil) }
