package keys

import (
	"bytes"
	"fmt"

	"cmmpd/internal/mail"
)

// Which platform key wraps an account's private key is a matter of each account, so that a new key can take the place of an old one while everybody
// goes on.

// check refuses what cannot be kept.
func (k AccountKey) check() error {
	if k.Key == "" || len(k.Key) > maxWrapName || len(k.Wrapped) == 0 {
		return mail.E(mail.Invalid, "", fmt.Errorf("a private key of %d bytes under %q", len(k.Wrapped), k.Key))
	}
	return nil
}

// Platform is the name of the key that accounts are to be wrapped under.
func (v *Vault) Platform() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.platformName()
}

func (v *Vault) platformName() string {
	if v.platform == "" {
		return PlatformKey
	}
	return v.platform
}

// SetPlatform says which key accounts are to be wrapped under from now on. It is durable on return.
func (v *Vault) SetPlatform(name string) error {
	if err := CheckName(Mail, name); err != nil {
		return err
	}
	return v.put(func() error { return nil }, &vaultRecord{kind: vaultPlatform, key: AccountKey{Key: name}})
}

// Rewrap replaces how an account's private key is wrapped, if it still is as in old. It is durable on return; what it replaces is in the file until
// the next Erase. The error is of kind mail.Exists if it is wrapped otherwise by now.
func (v *Vault) Rewrap(id mail.AccountID, old, fresh AccountKey) error {
	if err := fresh.check(); err != nil {
		return err
	}
	same := func() error {
		k, ok, err := v.account(id)
		switch {
		case err != nil:
			return err
		case !ok:
			return mail.E(mail.NotFound, "", fmt.Errorf("account %s has no keys", id))
		case k.Key != old.Key || !bytes.Equal(k.Wrapped, old.Wrapped):
			return mail.E(mail.Exists, "", fmt.Errorf("the key of account %s has been wrapped anew meanwhile", id))
		case k.Suite != fresh.Suite || !bytes.Equal(k.Public, fresh.Public):
			return mail.E(mail.Internal, "", fmt.Errorf("another key pair for account %s", id))
		}
		return nil
	}
	return v.put(same, &vaultRecord{kind: vaultWrap, id: id, key: fresh})
}

// Wraps says how many accounts each platform key wraps.
func (v *Vault) Wraps() map[string]int {
	v.mu.Lock()
	defer v.mu.Unlock()
	n := make(map[string]int)
	for _, e := range v.accounts {
		if e.key != 0 {
			n[e.under]++
		}
	}
	return n
}

// NotUnder is the accounts, in no order, that another key wraps than the named one.
func (v *Vault) NotUnder(name string) (list []mail.AccountID) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for id, e := range v.accounts {
		if e.key != 0 && e.under != name {
			list = append(list, id)
		}
	}
	return list
}

// Stale says whether the file has wrapped keys that Rewrap has replaced.
func (v *Vault) Stale() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.stale
}
