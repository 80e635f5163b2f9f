package smime

import (
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Choose picks the certificate to encrypt to. The error is of kind Refused with a sentence that names the address and
// the reason, or Unavailable where our revocation data is too old to decide.
func (g *Gateway) Choose(c Candidate) (Usable, error) {
	return Usable{}, mail.E(mail.Unsupported, "", nil)
}

// Inspect says how the message is protected.
func (g *Gateway) Inspect(raw []byte, x *message.Index) Protection { return Protection{} }

// Covers checks that an encrypted message can be opened by everyone in must, by nobody outside must and may, and that
// it is encrypted by AES-256. The error is of kind Refused and names who is missing or too many.
func (g *Gateway) Covers(p Protection, must, may []Candidate) error {
	return mail.E(mail.Unsupported, "", nil)
}

// Seal returns the message encrypted to o.Recipients.
func (g *Gateway) Seal(raw []byte, x *message.Index, o SealOptions) ([]byte, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}

// Open decrypts a message with k. There is one error for everything that can be wrong with the key or the ciphertext.
func (g *Gateway) Open(raw []byte, x *message.Index, k cms.KeyOpener) (*Opened, error) {
	return nil, mail.E(mail.Unsupported, "", nil)
}
