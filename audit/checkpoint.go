package audit

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A checkpoint (C2SP tlog-checkpoint) is a signed note of three lines: the origin, the
// number of records, the root hash. Ours carries exactly one signature, Ed25519 by the
// log's key, whose name is the origin; there are no extension lines.
type checkpoint struct {
	origin string
	tree   tlog.Tree
}

// maxRecords bounds what a checkpoint may claim, so that counting files cannot overflow.
const maxRecords = 1 << 48

func (c checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.origin, c.tree.N, c.tree.Hash)
}

// noteKey signs notes with a key that may live in a token. It is a note.Signer.
type noteKey struct {
	note.Verifier // name and hash
	key           crypto.Signer
	pub           []byte // content of audit.pub
}

var errKey = errors.New("not an Ed25519 key")

// newNoteKey binds key to its name, the origin of the log.
func newNoteKey(origin string, key crypto.Signer) (*noteKey, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errKey
	}
	vkey, err := note.NewEd25519VerifierKey(origin, pub)
	if err != nil {
		return nil, err
	}
	v, err := note.NewVerifier(vkey) // refuses a name that is none
	if err != nil {
		return nil, fmt.Errorf("origin %q: %w", origin, err)
	}
	return &noteKey{Verifier: v, key: key, pub: []byte(vkey + "\n")}, nil
}

// Sign signs msg and checks the signature: a token may fail quietly.
func (k *noteKey) Sign(msg []byte) ([]byte, error) {
	sig, err := k.key.Sign(rand.Reader, msg, crypto.Hash(0))
	if err != nil {
		return nil, err
	}
	if !k.Verify(msg, sig) {
		return nil, errors.New("the key made a signature that does not verify")
	}
	return sig, nil
}

// sign writes the checkpoint of tree.
func (k *noteKey) sign(tree tlog.Tree) ([]byte, error) {
	return note.Sign(&note.Note{Text: checkpoint{k.Name(), tree}.text()}, k)
}

// parseKey reads a verifier key as it stands in audit.pub, with or without its line
// end, and only in the one form in which it is written.
func parseKey(b []byte) (note.Verifier, []byte, error) {
	s := strings.TrimSuffix(string(b), "\n")
	s = strings.TrimSuffix(s, "\r")
	v, err := note.NewVerifier(s)
	if err != nil {
		return nil, nil, err
	}
	// name+hash+base64, and base64 has plus signs of its own
	raw, err := base64.StdEncoding.Strict().DecodeString(strings.SplitN(s, "+", 3)[2])
	if err != nil {
		return nil, nil, err
	}
	canonical, err := note.NewEd25519VerifierKey(v.Name(), raw[1:])
	if err != nil || canonical != s {
		return nil, nil, errNotCanonical
	}
	return v, []byte(s + "\n"), nil
}

// parseCheckpoint reads a checkpoint signed by key. note.Open decodes base64 loosely,
// so what was read is written again and must be equal.
func parseCheckpoint(b []byte, key note.Verifier) (checkpoint, error) {
	n, err := note.Open(b, note.VerifierList(key))
	if err != nil {
		return checkpoint{}, err
	}
	if len(n.UnverifiedSigs) > 0 {
		return checkpoint{}, errors.New("a signature by an unknown key")
	}
	f := strings.Split(n.Text, "\n")
	if len(f) != 4 || f[3] != "" {
		return checkpoint{}, errors.New("not three lines")
	}
	size, err := strconv.ParseInt(f[1], 10, 64)
	if err != nil || size < 0 || size > maxRecords {
		return checkpoint{}, errors.New("no valid number of records")
	}
	hash, err := tlog.ParseHash(f[2])
	if err != nil {
		return checkpoint{}, errors.New("no valid root hash")
	}
	c := checkpoint{f[0], tlog.Tree{N: size, Hash: hash}}
	if c.origin != key.Name() {
		return checkpoint{}, fmt.Errorf("the origin is %q, not %q", c.origin, key.Name())
	}
	sig, err := base64.StdEncoding.DecodeString(n.Sigs[0].Base64)
	if err != nil {
		return checkpoint{}, err
	}
	again := fmt.Sprintf("%s\n— %s %s\n", c.text(), key.Name(), base64.StdEncoding.EncodeToString(sig))
	if !bytes.Equal(b, []byte(again)) || binary.BigEndian.Uint32(sig) != key.KeyHash() {
		return checkpoint{}, errNotCanonical
	}
	return c, nil
}
