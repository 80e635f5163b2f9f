package keys

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"cmmpd/internal/mail"
)

// What officers keep of an account is its private key as it is (package escrow). It goes through here on its way there and back.

// Secret unwraps the private key for those who keep it. Clear it after use.
func (k AccountKey) Secret(ctx context.Context, ks Keystore, id mail.AccountID) ([]byte, error) {
	p, err := k.Open(ctx, ks, id)
	if err != nil {
		return nil, err
	}
	defer p.Wipe()
	return p.key.Bytes()
}

// OpenSecret is Open without a keystore, with what Secret returned. The error is of kind mail.Corrupt if it is not the private key of this pair.
func (k AccountKey) OpenSecret(id mail.AccountID, secret []byte) (*PrivateKey, error) {
	if k.Suite != suiteP256 {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("account %s has a key of unknown suite %d", id, k.Suite))
	}
	priv, err := kem().NewPrivateKey(secret)
	if err == nil && !bytes.Equal(priv.PublicKey().Bytes(), k.Public) {
		err = errors.New("it is another key's")
	}
	if err != nil {
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("what is kept of the key of account %s: %w", id, err))
	}
	return &PrivateKey{id, priv}, nil
}

// Recover wraps what Secret returned by the named platform key, in the place of a wrapping that cannot be opened any more. The error is of kind
// mail.Corrupt if it is not the private key of this pair.
func (k AccountKey) Recover(ctx context.Context, ks Keystore, name string, id mail.AccountID, secret []byte) (AccountKey, error) {
	p, err := k.OpenSecret(id, secret)
	if err != nil {
		return AccountKey{}, err
	}
	p.Wipe()
	fresh := AccountKey{Suite: k.Suite, Public: k.Public, Key: name}
	if fresh.Wrapped, err = ks.Wrap(ctx, Mail, name, secret, accountAAD(id)); err != nil {
		return AccountKey{}, fmt.Errorf("wrap the key of account %s: %w", id, err)
	}
	return fresh, nil
}
