package cms

import (
	"bytes"
	"crypto"
	"encoding/hex"
)

// Abilities are what a recipient who announces SMIMECapabilities can read, of what Encrypt
// writes beyond AES-256-CBC and RSAES-PKCS1-v1_5.
type Abilities struct {
	GCM  bool // AES-256-GCM, and so AuthEnvelopedData (RFC 5084)
	OAEP bool // RSAES-OAEP with SHA-256 and MGF1-SHA-256
}

// Capabilities of what this package reads, in order of preference, for Sign.
func Capabilities() []Capability {
	return []Capability{
		{oidAES256GCM, nil},
		{oidAES256CBC, nil},
		{oidAES128GCM, nil},
		{oidAES128CBC, nil},
		{oidOAEP, oaepSHA256().params},
		{oidRSA, nil},
	}
}

// AbilitiesOf looks for them. RSAES-OAEP counts without parameters, or with those of
// SHA-256; with those of SHA-1 alone it does not.
func AbilitiesOf(all []Capability) Abilities {
	var a Abilities
	for _, c := range all {
		switch c.ID {
		case oidAES256GCM:
			a.GCM = true
		case oidOAEP:
			a.OAEP = a.OAEP || len(c.Parameters) == 0 || capableOfSHA256(c.Parameters)
		}
	}
	return a
}

// capableOfSHA256 reads the parameters of a capability for RSAES-OAEP.
func capableOfSHA256(params []byte) bool {
	if hex.EncodeToString(params) == oaepSHA256RFC3560 {
		return true
	}
	t, err := algorithm{oidOAEP, params}.oaep()
	return err == nil && t.Hash == crypto.SHA256 && t.MGFHash == crypto.SHA256 && bytes.Equal(t.Label, nil)
}

// oaepSHA256RFC3560 are the parameters as RFC 3560, section 5, prints them, without the
// explicit tags.
const oaepSHA256RFC3560 = "302b300d06096086480165030402010500301a06092a864886f70d010108300d06096086480165030402010500"
