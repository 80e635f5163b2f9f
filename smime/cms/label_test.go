package cms

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

func TestSecurityLabel(t *testing.T) {
	carol := people(t)["carol"]
	const policy OID = "2.16.344.8.4711"
	for name, c := range map[string]struct {
		label SecurityLabel
		hex   string // of the whole label; empty: whatever
	}{
		"policy alone":   {SecurityLabel{Policy: "1.2.3", Classification: NoClassification}, "310406022a03"},
		"classification": {SecurityLabel{Policy: "1.2.3", Classification: 3}, "310702010306022a03"},
		"highest":        {SecurityLabel{Policy: "1.2.3", Classification: 256}, "31080202010006022a03"},
		"mark":           {SecurityLabel{Policy: "1.2.3", Classification: 0, PrivacyMark: "IN CONFIDENCE"}, ""},
		"Chinese mark":   {SecurityLabel{Policy: "1.2.3", Classification: 4, PrivacyMark: "機密"}, "310f02010406022a030c06e6a99fe5af86"},
		"categories": {SecurityLabel{Policy: policy, Classification: 4, PrivacyMark: "x", Categories: []SecurityCategory{
			{Type: "1.2.3.4", Value: small(1)}, {Type: "1.2.3.5", Value: tlv(derSequence, small(1), null())},
		}}, ""},
	} {
		der, err := Sign(nil, false, []SignerSpec{{Cert: carol.cert, Key: carol.key}}, SignOptions{Label: &c.label}, []byte("x"))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		s, err := ParseSigned(der, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Verify(0, nil)
		if err != nil || r.SecurityLabel == nil || !reflect.DeepEqual(*r.SecurityLabel, c.label) {
			t.Errorf("%s: %+v, %v", name, r.SecurityLabel, err)
		}
		if own, err := c.label.der(); err != nil || checkDER(own, maxDepth) != nil || c.hex != "" && hex.EncodeToString(own) != c.hex {
			t.Errorf("%s: %x, %v", name, own, err)
		}
	}
	for name, l := range map[string]SecurityLabel{
		"no policy": {}, "not a policy": {Policy: "x"}, "too high": {Policy: policy, Classification: 257}, "negative": {Policy: policy, Classification: -2},
		"a long mark": {Policy: policy, PrivacyMark: strings.Repeat("x", maxPrivacyMark+1)}, "not UTF-8": {Policy: policy, PrivacyMark: "\xff"},
		"a category without a type": {Policy: policy, Categories: []SecurityCategory{{Value: small(1)}}}, "a category without a value": {Policy: policy, Categories: []SecurityCategory{{Type: policy}}},
		"too many categories": {Policy: policy, Categories: make([]SecurityCategory, maxCategories+1)},
	} {
		if _, err := Sign(nil, false, []SignerSpec{{Cert: carol.cert, Key: carol.key}}, SignOptions{Label: &l}, []byte("x")); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, h := range map[string]string{
		"no set": "300406022a03", "no policy": "3103020103", "two policies": "310806022a0306022a04", "two marks": "310a06022a030c0178130179", "an empty mark": "310606022a030c00",
		"not UTF-8": "310706022a030c01ff", "another member": "310606022a030500", "negative": "31070201ff06022a03", "257": "31080202010106022a03", "no categories": "310606022a033100",
		"a category of rubbish": "310806022a0331023000", "a category with two values": "311406022a03310e300c80022a03a106020101020101",
	} {
		b, err := hex.DecodeString(h)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if l, err := parseSecurityLabel(b); err == nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
}

func FuzzSecurityLabel(f *testing.F) {
	f.Add([]byte("1\x04\x06\x02\x2a\x03"))
	full := SecurityLabel{Policy: "1.2.3", Classification: 4, PrivacyMark: "機密", Categories: []SecurityCategory{{Type: "1.2.3.4", Value: small(1)}}}
	der, err := full.der()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := ParseSecurityLabel(b); err != nil && mail.KindOf(err) == mail.Internal {
			t.Fatal(err) // a panic
		}
		if checkDER(b, maxDepth) != nil {
			return // as parseAttributes has it
		}
		l, err := parseSecurityLabel(b)
		if err != nil {
			return
		}
		der, err := l.der()
		if err != nil {
			t.Fatalf("%+v: %v", l, err)
		}
		again, err := parseSecurityLabel(der)
		if err != nil || !reflect.DeepEqual(l, again) && len(l.Categories) < 2 { // a set of several may come sorted otherwise
			t.Fatalf("%+v becomes %+v, %v", l, again, err)
		}
	})
}
