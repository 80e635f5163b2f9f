//go:build !cgo

package token

import (
	"errors"

	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/mail"
)

// Library is a PKCS #11 library that is loaded: in a program that was built without cgo, none.
type Library struct{}

// Load says that this program was built without cgo.
func Load(string) (*Library, error) {
	return nil, mail.E(mail.Unsupported, "", errors.New("this program was built without cgo and cannot load a PKCS #11 library; make keyd builds one that can"))
}

// Token is not reached.
func (*Library) Token(Options) keyd.Token { return nil }

// Close does nothing.
func (*Library) Close() error { return nil }
