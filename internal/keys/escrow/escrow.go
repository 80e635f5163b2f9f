// Package escrow keeps every account's private key a second time, parted among security officers: so many of them together have it, fewer
// have nothing, and neither the platform key nor anything else on the machine is of use. No key opens more than one account: each has a secret
// sharing of its own, and each part is encrypted to the certificate of one officer.
package escrow

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// GroupID names a group of officers: it is made of the threshold, and of the officers' names and certificates.
type GroupID [16]byte

// String is the ID in hexadecimal.
func (g GroupID) String() string { return hex.EncodeToString(g[:]) }

// Officer is one of a group.
type Officer struct {
	UID         string
	Certificate [sha256.Size]byte // its SHA-256
	// Seal encrypts to the officer. Groups that were read from a file have none.
	Seal func(plain []byte) ([]byte, error)
}

// Group is officers of whom Threshold together open an account. Part i of an envelope is that of Officers[i], and has the number i+1.
type Group struct {
	ID        GroupID
	Threshold int
	Officers  []Officer
}

const (
	// MaxOfficers is how many officers a group can have.
	MaxOfficers = 30
	maxUID      = 100
)

// NewGroup makes a group. The error is of kind mail.Invalid.
func NewGroup(threshold int, officers []Officer) (*Group, error) {
	bad := func(format string, args ...any) error {
		return mail.E(mail.Invalid, fmt.Sprintf(format, args...), nil)
	}
	switch n := len(officers); {
	case threshold < 2:
		return nil, bad("escrow needs 2 officers at least to open an account, not %d", threshold)
	case threshold > n:
		return nil, bad("%d officers cannot come together out of %d", threshold, n)
	case n > MaxOfficers:
		return nil, bad("%d officers are more than %d", n, MaxOfficers)
	}
	for i, o := range officers {
		for _, other := range officers[:i] {
			if o.UID == other.UID || o.Certificate == other.Certificate {
				return nil, bad("the officers %s and %s are the same", other.UID, o.UID)
			}
		}
		if o.UID == "" || len(o.UID) > maxUID {
			return nil, bad("%q is not the uid of an officer", o.UID)
		}
	}
	g := &Group{Threshold: threshold, Officers: slices.Clone(officers)}
	g.ID = idOf(g.body())
	return g, nil
}

// idOf is the ID of a group with this body.
func idOf(body []byte) GroupID {
	sum := sha256.Sum256(append([]byte("cmmpd escrow group 1 "), body...))
	return GroupID(sum[:16])
}

// body is what the file has of a group.
func (g *Group) body() []byte {
	b := []byte{byte(g.Threshold), byte(len(g.Officers))}
	for _, o := range g.Officers {
		b = append(append(b, byte(len(o.UID))), o.UID...)
		b = append(b, o.Certificate[:]...)
	}
	return b
}

// Number is the number of an officer's parts, 0 if they are not of the group.
func (g *Group) Number(uid string) int {
	return 1 + slices.IndexFunc(g.Officers, func(o Officer) bool { return o.UID == uid })
}

func parseGroup(b []byte) (*Group, error) {
	in := cryptobyte.String(b)
	var k, n uint8
	if !in.ReadUint8(&k) || !in.ReadUint8(&n) {
		return nil, errGroup
	}
	var list []Officer
	for range n {
		var uid, sum cryptobyte.String
		if !in.ReadUint8LengthPrefixed(&uid) || !in.ReadBytes((*[]byte)(&sum), sha256.Size) {
			return nil, errGroup
		}
		list = append(list, Officer{UID: string(uid), Certificate: [sha256.Size]byte(sum)})
	}
	if !in.Empty() {
		return nil, errGroup
	}
	return NewGroup(int(k), list)
}

var errGroup = errors.New("not a group of officers")

// Envelope is an account's private key, parted among the officers of a group.
type Envelope struct {
	Account mail.AccountID
	Group   *Group // its officers cannot be sealed to if it was read
	set     *shares.Set
	Parts   [][]byte // CMS, one for each officer
}

// Wrap parts the secret of an account among the officers.
func (g *Group) Wrap(id mail.AccountID, secret []byte) (*Envelope, error) {
	if len(id) == 0 || len(id) > 255 {
		return nil, mail.E(mail.Invalid, "", fmt.Errorf("account id of %d bytes", len(id)))
	}
	bound := append(binding(id), secret...)
	defer clear(bound)
	set, list, err := shares.Split(bound, g.Threshold, len(g.Officers))
	if err != nil {
		return nil, err
	}
	e := &Envelope{Account: id, Group: g, set: set}
	for i, o := range g.Officers {
		text := fmt.Appendf(nil, "Part %d of %d of the key of account %s. 帳戶密碼匙分片,切勿外洩。\r\n%s\r\n", i+1, len(g.Officers), id, list[i])
		part, err := o.Seal(text)
		clear(text)
		if err != nil {
			return nil, fmt.Errorf("the part of %s of the key of account %s: %w", o.UID, id, err)
		}
		if len(part) > maxPart {
			return nil, mail.E(mail.Internal, "", fmt.Errorf("a part of %d octets", len(part)))
		}
		e.Parts = append(e.Parts, part)
	}
	return e, nil
}

// binding stands before the secret, so that nobody can give one account's envelope the name of another.
func binding(id mail.AccountID) []byte { return append([]byte{byte(len(id))}, id...) }

// Check proves that a share is one of this envelope's. The error is of kind mail.Invalid.
func (e *Envelope) Check(s shares.Share) error { return e.set.Check(s) }

// SetID tells this envelope from every other one: its shares have it, too.
func (e *Envelope) SetID() [16]byte { return e.set.ID }

// Threshold is how many shares are needed.
func (e *Envelope) Threshold() int { return e.set.Threshold }

// Open is the secret. The error is of kind mail.Invalid if a share is not genuine, or there are too few different ones; mail.Corrupt if the
// envelope is another account's.
func (e *Envelope) Open(list []shares.Share) ([]byte, error) {
	bound, err := e.set.Combine(list)
	if err != nil {
		return nil, err
	}
	secret, ok := bytes.CutPrefix(bound, binding(e.Account))
	if !ok {
		clear(bound)
		return nil, mail.E(mail.Corrupt, "", fmt.Errorf("what is kept as the key of account %s is another's", e.Account))
	}
	return secret, nil
}
