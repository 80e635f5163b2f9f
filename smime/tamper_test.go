package smime

import (
	"bytes"
	"encoding/asn1"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
)

// short is a confidential message of few bytes: every bit of what is made of it is changed.
const short = "From: alice@works.gov.example\r\nTo: petra@works.gov.example\r\nSubject: [CONFIDENTIAL] x\r\n\r\nmarker-4711 marker-4711 marker-4711\r\n"

// shortBinary is one whose signature is opaque, within what is encrypted.
const shortBinary = "From: alice@works.gov.example\r\nTo: carol@health.gov.example\r\nSubject: x\r\n" +
	"Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\nmarker-4711\nmarker-4711\n"

// victim is a sealed message and all that somebody on its way could do with it.
type victim struct {
	w     *world
	name  string // who can read it
	der   []byte
	inner []byte // the message within
	k     cms.KeyOpener
	words map[string]int // what Open said of the changed messages
}

func (w *world) victim(raw, name string) *victim {
	w.t.Helper()
	sealed := w.seal(raw, SealOptions{Recipients: w.usable(name)})
	der, err := body(sealed, parse(sealed).Root)
	w.must(err)
	return &victim{w, name, der, w.open(sealed, name).Inner, w.opener(name), map[string]int{}}
}

// try opens a changed message: it does not open, or it is as it was, or its signature does not pass.
func (v *victim) try(der []byte, what string, at int) {
	v.w.t.Helper()
	raw := assembled(nil, []field{{"from", []byte("From: alice@works.gov.example\r\n")}}, cms.AES256GCM, der)
	o, err := v.w.gw.Open(raw, parse(raw), v.k)
	switch {
	case err != nil && mail.KindOf(err) != mail.Invalid:
		v.w.t.Errorf("%s, %s %d: %v", v.name, what, at, err)
	case err != nil:
		v.words[mail.PublicOf(err)]++
	case !bytes.Equal(o.Inner, v.inner) && o.Signature.Status == Pass:
		v.w.t.Errorf("%s, %s %d: another text passes: %q", v.name, what, at, o.Inner)
	}
}

// oneError checks that whatever did not open got the same words.
func (v *victim) oneError(atLeast int) {
	v.w.t.Helper()
	if n := v.words["the message could not be decrypted"]; len(v.words) != 1 || n < atLeast {
		v.w.t.Errorf("%s: %v, want one sentence at least %d times", v.name, v.words, atLeast)
	}
}

// TestTampered changes every bit of a GCM message and of a CBC message that is signed inside,
// cuts them everywhere, and puts pieces of others in.
func TestTampered(t *testing.T) {
	w := newProfileWorld(t)
	for _, c := range []struct {
		raw, name string
		gcm       bool
	}{{short, "petra", true}, {short, "carol", false}, {shortBinary, "carol", false}} { // both on P-256
		v, other, gcm := w.victim(c.raw, c.name), w.victim(c.raw, c.name), c.gcm
		for len(other.der) != len(v.der) { // ECDSA signatures within are not all equally long
			other = w.victim(c.raw, c.name)
		}
		for bit := range 8 * len(v.der) {
			bad := bytes.Clone(v.der)
			bad[bit/8] ^= 1 << (bit % 8)
			v.try(bad, "bit", bit)
		}
		if gcm {
			v.oneError(7 * len(v.der))
		}
		for n := range v.der {
			v.try(v.der[:n], "cut", n)
		}
		v.oneError(len(v.der))
		v.splices(other)
	}
}

// splices replaces each element of the structure by that of another message to the same
// reader, and each block of the content by others.
func (v *victim) splices(other *victim) {
	mine, theirs := elements(v.w, v.der), elements(v.w, other.der)
	if len(mine) != len(theirs) {
		v.w.t.Fatalf("%d and %d elements", len(mine), len(theirs))
	}
	n := 0
	for i := range mine {
		if len(mine[i]) != len(theirs[i]) || bytes.Equal(mine[i], theirs[i]) || len(mine[i]) < 8 {
			continue // lengths above it would have to change
		}
		n++
		v.try(bytes.Replace(v.der, mine[i], theirs[i], 1), "element of another", i)
	}
	if n < 4 { // ephemeral key, wrapped key, IV or nonce, and what is around them
		v.w.t.Errorf("only %d elements were exchanged", n)
	}
	content := mine[longest(mine)]
	at := bytes.Index(v.der, content)
	for i := 0; i+32 <= len(content); i += 16 {
		swapped := bytes.Clone(v.der)
		copy(swapped[at+i:], content[i+16:i+32])
		copy(swapped[at+i+16:], content[i:i+16])
		v.try(swapped, "blocks exchanged at", i)
		repeated := bytes.Clone(v.der)
		copy(repeated[at+i:], content[:16])
		v.try(repeated, "block repeated at", i)
	}
}

// elements are the contents of all elements of a DER structure that hold no others.
func elements(w *world, der []byte) [][]byte {
	w.t.Helper()
	var out [][]byte
	for len(der) > 0 {
		var e asn1.RawValue
		rest, err := asn1.Unmarshal(der, &e)
		w.must(err)
		if e.IsCompound {
			out = append(out, elements(w, e.Bytes)...)
		} else {
			out = append(out, e.Bytes)
		}
		der = rest
	}
	return out
}

func longest(all [][]byte) int {
	at := 0
	for i := range all {
		if len(all[i]) > len(all[at]) {
			at = i
		}
	}
	return at
}
