package cms

import (
	"crypto"
	"encoding/hex"
	"testing"
)

func TestAbilities(t *testing.T) {
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	sha384 := hashAlgorithm(crypto.SHA384, null())
	for name, c := range map[string]struct {
		caps []Capability
		want Abilities
	}{
		"none":                  {nil, Abilities{}},
		"ours":                  {Capabilities(), Abilities{true, true}},
		"CBC":                   {[]Capability{{oidAES256CBC, nil}, {oidTripleDES, nil}}, Abilities{}},
		"a weaker GCM":          {[]Capability{{oidAES128GCM, nil}}, Abilities{}},
		"GCM with parameters":   {[]Capability{{oidAES256GCM, null()}}, Abilities{GCM: true}},
		"OAEP":                  {[]Capability{{oidOAEP, nil}}, Abilities{OAEP: true}},
		"OAEP by RFC 4055":      {[]Capability{{oidOAEP, oaepSHA256().params}}, Abilities{OAEP: true}},
		"OAEP by RFC 3560":      {[]Capability{{oidOAEP, unhex(oaepSHA256RFC3560)}}, Abilities{OAEP: true}},
		"OAEP with SHA-1":       {[]Capability{{oidOAEP, unhex("3000")}}, Abilities{}},
		"OAEP with both":        {[]Capability{{oidOAEP, unhex("3000")}, {oidOAEP, oaepSHA256().params}}, Abilities{OAEP: true}},
		"OAEP, MGF1 with SHA-1": {[]Capability{{oidOAEP, tlv(derSequence, tlv(derExplicit, algorithm{oidSHA256, null()}.der()))}}, Abilities{}},
		"OAEP with SHA-384":     {[]Capability{{oidOAEP, tlv(derSequence, tlv(derExplicit, sha384.der()))}}, Abilities{}},
		"OAEP with rubbish":     {[]Capability{{oidOAEP, []byte{0x30}}}, Abilities{}},
	} {
		if got := AbilitiesOf(c.caps); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}
