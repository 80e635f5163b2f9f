package cms

import (
	"bytes"
	"reflect"
	"testing"
)

// The labels of all signers are found, whatever their signatures are worth.
func TestLabelsOfSigners(t *testing.T) {
	all := people(t)
	carol, alice := all["carol"], all["alice"]
	sign := func(p *person, l *SecurityLabel) []byte {
		der, err := Sign(nil, false, []SignerSpec{{Cert: p.cert, Key: p.key}}, SignOptions{Label: l}, []byte("x"))
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	label := SecurityLabel{Policy: "1.2.3", Classification: 3, PrivacyMark: "mark"}
	one := sign(carol, &label)
	s, err := ParseSigned(one, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, bad := s.Labels(); bad != 0 || !reflect.DeepEqual(got, []SecurityLabel{label}) {
		t.Errorf("%+v, %d unreadable", got, bad)
	}
	two, err := ParseSigned(sign(alice, nil), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, bad := two.Labels(); bad != 0 || got != nil {
		t.Errorf("without a label: %+v, %d unreadable", got, bad)
	}
	two.Signers = append(two.Signers, s.Signers...) // an unlabelled signer before a labelled one
	if got, _ := two.Labels(); len(got) != 1 {
		t.Errorf("the second signer's label is lost: %+v", got)
	}
	forged, err := ParseSigned(bytes.Replace(one, []byte("mark"), []byte("bark"), 1), Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if got, bad := forged.Labels(); bad != 0 || len(got) != 1 || got[0].PrivacyMark != "bark" {
		t.Errorf("of a signature that is not good: %+v, %d", got, bad)
	}
	for name, change := range map[string]func([]byte) []byte{
		"a label of rubbish": func(b []byte) []byte {
			return bytes.Replace(b, []byte{0x06, 0x02, 0x2a, 0x03, 0x13}, []byte{0x05, 0x02, 0x2a, 0x03, 0x13}, 1)
		},
		"attributes not in order": func(b []byte) []byte { return reorder(t, b) },
	} {
		s, err := ParseSigned(one, Limits{})
		if err != nil {
			t.Fatal(err)
		}
		changed := change(bytes.Clone(s.Signers[0].attrs))
		if bytes.Equal(changed, s.Signers[0].attrs) {
			t.Fatalf("%s: nothing was changed", name)
		}
		s.Signers[0].attrs = changed
		if got, bad := s.Labels(); bad != 1 || got != nil {
			t.Errorf("%s: %+v, %d unreadable", name, got, bad)
		}
	}
}

// reorder exchanges the first two attributes of a set.
func reorder(t *testing.T, set []byte) []byte {
	t.Helper()
	r, err := (&reader{&budget{elements: 1000, depth: maxDepth}, set, 0}).enter(tagSet)
	if err != nil {
		t.Fatal(err)
	}
	members, err := r.setMembers()
	if err != nil || len(members) < 2 {
		t.Fatal(members, err)
	}
	members[0], members[1] = members[1], members[0]
	var all [][]byte
	for _, m := range members {
		all = append(all, m.raw)
	}
	return tlv(derSet, all...)
}

func TestLabelAlone(t *testing.T) {
	l, err := ParseSecurityLabel([]byte{0x31, 0x03, 0x02, 0x01, 0x03})
	if err != nil || l.Policy != "" || l.Classification != 3 {
		t.Errorf("of X.411, without a policy: %+v, %v", l, err)
	}
	full := SecurityLabel{Policy: "1.2.3", Classification: 3}
	der, err := full.DER()
	if err != nil {
		t.Fatal(err)
	}
	if l, err = ParseSecurityLabel(der); err != nil || l.String() != "1.2.3:3" {
		t.Errorf("%v, %v", l, err)
	}
	if !MentionsLabel(append([]byte("..."), oidAttrSecurityLabel.der()...)) || MentionsLabel(der) {
		t.Error("MentionsLabel")
	}
	for _, b := range [][]byte{nil, {0x31}, append(der, 0), {0x30, 0x03, 0x02, 0x01, 0x03}} {
		if l, err := ParseSecurityLabel(b); err == nil {
			t.Errorf("%x: %+v", b, l)
		}
	}
}
