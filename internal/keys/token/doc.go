// Package token is a keyd.Token on a PKCS #11 library (OASIS, version 2.40, and Ed25519 of 3.0). Only a program built with cgo can load one, and only
// cmmpd keyd does.
//
// A key is found by CKA_LABEL, its name; the halves of a pair share it. What is made here is sensitive, never extractable, and stays in the token.
package token

// Options say which token is meant.
type Options struct {
	Token    string // the token's label
	Serial   string // its serial number; empty: the label alone says
	Sessions int    // in use at a time; 0 means 8
}
