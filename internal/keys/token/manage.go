//go:build cgo

package token

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/miekg/pkcs11"
	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// maxObjects is how many keys of one class are looked at.
const maxObjects = 10000

// object finds a key by its name. Two of one name are refused: which is meant cannot be told.
func (t *token) object(s *session, class uint, name string) (object, error) {
	if o, ok := s.objects[objectKey{class, name}]; ok {
		return o, nil
	}
	found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name))
	if err != nil {
		return object{}, err
	}
	switch len(found) {
	case 0:
		return object{}, mail.E(mail.NotFound, "", fmt.Errorf("no key %q in the token %s", name, t.o.Token))
	case 1:
	default:
		return object{}, mail.E(mail.Invalid, "", fmt.Errorf("%d keys are called %q in the token %s", len(found), name, t.o.Token))
	}
	a, err := t.ctx.GetAttributeValue(s.handle, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
	if err != nil {
		return object{}, err
	}
	o := object{found[0], number(a[0].Value)}
	s.objects[objectKey{class, name}] = o
	return o, nil
}

// number is an attribute of type CK_ULONG.
func number(value []byte) uint {
	if len(value) == 8 {
		return uint(binary.NativeEndian.Uint64(value))
	} else if len(value) == 4 {
		return uint(binary.NativeEndian.Uint32(value))
	}
	return 0
}

func (t *token) search(s *session, template ...*pkcs11.Attribute) (found []pkcs11.ObjectHandle, err error) {
	if err := t.ctx.FindObjectsInit(s.handle, template); err != nil {
		return nil, err
	}
	for len(found) < maxObjects {
		var some []pkcs11.ObjectHandle
		if some, _, err = t.ctx.FindObjects(s.handle, 100); err != nil || len(some) == 0 {
			break
		}
		found = append(found, some...)
	}
	return found, errors.Join(err, t.ctx.FindObjectsFinal(s.handle))
}

// List satisfies keyd.Token. Keys that others keep in the token are listed, too.
func (t *token) List() (list []keys.Info, err error) {
	err = t.do("list", func(s *session) error {
		list = nil
		for _, class := range []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PRIVATE_KEY} {
			found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class))
			if err != nil {
				return err
			}
			for _, h := range found {
				a, err := t.ctx.GetAttributeValue(s.handle, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, nil)})
				if err != nil {
					return err
				}
				k, err := t.info(s, string(a[0].Value), number(a[1].Value))
				if err != nil {
					return err
				}
				list = append(list, k)
			}
		}
		return nil
	})
	slices.SortFunc(list, func(a, b keys.Info) int { return strings.Compare(a.Name, b.Name) })
	return list, err
}

// Public satisfies keyd.Token.
func (t *token) Public(name string) (k keys.Info, err error) {
	err = t.do("public", func(s *session) error {
		o, err := t.object(s, pkcs11.CKO_PRIVATE_KEY, name)
		if mail.KindOf(err) == mail.NotFound && err != nil {
			o, err = t.object(s, pkcs11.CKO_SECRET_KEY, name)
		}
		if err == nil {
			k, err = t.info(s, name, o.keyType)
		}
		return err
	})
	return k, err
}

// info is what may be known of a key.
func (t *token) info(s *session, name string, keyType uint) (keys.Info, error) {
	k := keys.Info{Name: name, Retired: keys.IsRetired(name)}
	switch keyType {
	case pkcs11.CKK_AES:
		k.Kind = keys.KindAES256
		return k, nil
	case pkcs11.CKK_GENERIC_SECRET, pkcs11.CKK_SHA256_HMAC:
		k.Kind = keys.KindHMAC256
		return k, nil
	}
	public, err := t.public(s, name, keyType)
	if err != nil {
		return k, err
	}
	k.Kind = keys.KindOfPublic(public)
	k.Public, err = x509.MarshalPKIXPublicKey(public)
	return k, err
}

// public reads a public key object.
func (t *token) public(s *session, name string, keyType uint) (crypto.PublicKey, error) {
	o, err := t.object(s, pkcs11.CKO_PUBLIC_KEY, name)
	if err != nil {
		return nil, fmt.Errorf("public half: %w", err)
	}
	bad := mail.E(mail.Unsupported, "", fmt.Errorf("the public half of %q is of a kind that is not known", name))
	want := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_EC_POINT, nil), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, nil)}
	if keyType == pkcs11.CKK_RSA {
		want = []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_MODULUS, nil), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, nil)}
	} else if keyType != pkcs11.CKK_EC && keyType != ckkECEdwards {
		return nil, bad
	}
	a, err := t.ctx.GetAttributeValue(s.handle, o.handle, want)
	if err != nil {
		return nil, err
	}
	if keyType == pkcs11.CKK_RSA {
		e := new(big.Int).SetBytes(a[1].Value)
		if !e.IsInt64() || e.Int64() > 1<<31-1 {
			return nil, bad
		}
		return &rsa.PublicKey{N: new(big.Int).SetBytes(a[0].Value), E: int(e.Int64())}, nil
	}
	der := cryptobyte.String(a[0].Value)
	var point cryptobyte.String
	if !der.ReadASN1(&point, asn1.OCTET_STRING) || !der.Empty() {
		point = a[0].Value // some tokens leave the wrapping out
	}
	if keyType == ckkECEdwards {
		if len(point) != ed25519.PublicKeySize {
			return nil, bad
		}
		return ed25519.PublicKey(point), nil
	}
	for curve, oid := range curveOIDs {
		if string(a[1].Value) == oid {
			key, err := ecdsa.ParseUncompressedPublicKey(curve, point)
			if err != nil {
				return nil, mail.E(mail.Corrupt, "", fmt.Errorf("public half of %q: %w", name, err))
			}
			return key, nil
		}
	}
	return nil, bad
}

// curveOIDs are the curves' names in DER (RFC 5480, section 2.1.1.1).
var curveOIDs = map[elliptic.Curve]string{
	elliptic.P256(): "\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07",
	elliptic.P384(): "\x06\x05\x2b\x81\x04\x00\x22",
}

// edwards25519 is how PKCS #11 3.0 names the curve of Ed25519: a printable string.
const edwards25519 = "\x13\x0cedwards25519"

// Generate satisfies keyd.Token.
func (t *token) Generate(name string, kind keys.Kind) error {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	common := func(private bool, more ...*pkcs11.Attribute) []*pkcs11.Attribute {
		return append([]*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, private),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, name), pkcs11.NewAttribute(pkcs11.CKA_ID, id),
		}, more...)
	}
	on := func(a uint) *pkcs11.Attribute { return pkcs11.NewAttribute(a, true) }
	hidden := func(more ...*pkcs11.Attribute) []*pkcs11.Attribute {
		return common(true, append(more, on(pkcs11.CKA_SENSITIVE), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false))...)
	}
	one := func(m uint, template []*pkcs11.Attribute) func(s *session) error {
		return func(s *session) error {
			_, err := t.ctx.GenerateKey(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(m, nil)}, template)
			return err
		}
	}
	pair := func(m uint, public, private []*pkcs11.Attribute) func(s *session) error {
		return func(s *session) error {
			_, _, err := t.ctx.GenerateKeyPair(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(m, nil)}, public, private)
			return err
		}
	}
	rsaKey := func(bits int) func(s *session) error {
		return pair(pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN,
			common(false, on(pkcs11.CKA_VERIFY), on(pkcs11.CKA_ENCRYPT), pkcs11.NewAttribute(pkcs11.CKA_MODULUS_BITS, bits), pkcs11.NewAttribute(pkcs11.CKA_PUBLIC_EXPONENT, []byte{1, 0, 1})),
			hidden(on(pkcs11.CKA_SIGN), on(pkcs11.CKA_DECRYPT)))
	}
	ecKey := func(c elliptic.Curve) func(s *session) error {
		return pair(pkcs11.CKM_EC_KEY_PAIR_GEN, common(false, on(pkcs11.CKA_VERIFY), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte(curveOIDs[c]))),
			hidden(on(pkcs11.CKA_SIGN), on(pkcs11.CKA_DERIVE)))
	}
	length := pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, 32)
	makers := map[keys.Kind]func(s *session) error{
		keys.KindAES256: one(pkcs11.CKM_AES_KEY_GEN, hidden(length, on(pkcs11.CKA_ENCRYPT), on(pkcs11.CKA_DECRYPT))),
		keys.KindHMAC256: one(pkcs11.CKM_GENERIC_SECRET_KEY_GEN, hidden(length, pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_GENERIC_SECRET),
			on(pkcs11.CKA_SIGN), on(pkcs11.CKA_VERIFY))),
		keys.KindEd25519: pair(ckmEdwardsKeyPairGen, common(false, on(pkcs11.CKA_VERIFY), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, []byte(edwards25519))), hidden(on(pkcs11.CKA_SIGN))),
		keys.KindP256:    ecKey(elliptic.P256()),
		keys.KindP384:    ecKey(elliptic.P384()),
		keys.KindRSA2048: rsaKey(2048),
		keys.KindRSA3072: rsaKey(3072),
	}
	make, ok := makers[kind]
	if !ok {
		return mail.E(mail.Invalid, "", fmt.Errorf("no such kind of key: %q", string(kind)))
	}
	return t.do("generate", func(s *session) error {
		handles, err := t.named(s, name)
		if err != nil {
			return err
		}
		if len(handles) > 0 {
			return mail.E(mail.Exists, "", fmt.Errorf("key %q exists in the token %s", name, t.o.Token))
		}
		return make(s)
	})
}

func keyClasses() []uint {
	return []uint{pkcs11.CKO_SECRET_KEY, pkcs11.CKO_PRIVATE_KEY, pkcs11.CKO_PUBLIC_KEY}
}

// named is every key of the name, the halves of a pair apart.
func (t *token) named(s *session, name string) (all []pkcs11.ObjectHandle, err error) {
	for _, class := range keyClasses() {
		found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name))
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// Retire satisfies keyd.Token: the key's label is changed.
func (t *token) Retire(name string) error {
	return t.rename(name, keys.RetiredName(name, time.Now()))
}

// Unretire satisfies keyd.Token.
func (t *token) Unretire(name string) error {
	to, err := keys.FormerName(keys.Service, name) // what is a name does not differ by slot
	if err != nil {
		return err
	}
	return t.rename(name, to)
}

// rename changes the label of a key. Of a pair one half may have the new name already, if it was interrupted.
func (t *token) rename(name, to string) error {
	err := t.do("rename", func(s *session) error {
		var handles []pkcs11.ObjectHandle
		for _, class := range keyClasses() {
			found, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, name))
			if err != nil {
				return err
			}
			taken, err := t.search(s, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, to))
			if err != nil {
				return err
			}
			if len(found) > 0 && len(taken) > 0 {
				return mail.E(mail.Exists, "", fmt.Errorf("key %q exists in the token %s", to, t.o.Token))
			}
			handles = append(handles, found...)
		}
		if len(handles) == 0 {
			return mail.E(mail.NotFound, "", fmt.Errorf("no key %q in the token %s", name, t.o.Token))
		}
		for _, h := range handles {
			if err := t.ctx.SetAttributeValue(s.handle, h, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_LABEL, to)}); err != nil {
				return err
			}
		}
		return nil
	})
	// Sessions remember what they found under the name: all begin anew.
	t.mu.Lock()
	defer t.mu.Unlock()
	t.loggedIn = false
	return err
}
