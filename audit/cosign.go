package audit

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// algCosignature is the signature type of cosignature/v1 by Ed25519 keys (C2SP signed-note).
const algCosignature = 4

// cosignatureSize is a timestamp and an Ed25519 signature (C2SP tlog-cosignature).
const cosignatureSize = 8 + ed25519.SignatureSize

// WitnessKey is the public key of a witness, which makes cosignatures of the type
// cosignature/v1 with Ed25519 (C2SP tlog-cosignature).
type WitnessKey struct {
	name string
	id   uint32
	pub  ed25519.PublicKey
}

// NewWitnessKey binds a public key to the witness's name.
func NewWitnessKey(name string, pub ed25519.PublicKey) (*WitnessKey, error) {
	if !validKeyName(name) || len(pub) != ed25519.PublicKeySize {
		return nil, fmt.Errorf("%q is not the name of a witness: one word without plus signs is needed", name)
	}
	h := sha256.Sum256(append([]byte(name+"\n"), append([]byte{algCosignature}, pub...)...))
	return &WitnessKey{name, binary.BigEndian.Uint32(h[:]), pub}, nil
}

// validKeyName is the grammar of key names (C2SP signed-note), and within it what we use:
// visible ASCII.
func validKeyName(name string) bool {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '+' {
			return false
		}
	}
	return name != "" && len(name) <= 255
}

// ParseWitnessKey reads a verifier key of type 4 as C2SP signed-note writes it,
// <name>+<key id>+<base64>, with or without a line end, and in no other form.
func ParseWitnessKey(b []byte) (*WitnessKey, error) {
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	f := strings.SplitN(s, "+", 3)
	if len(f) != 3 {
		return nil, errors.New("not a verifier key")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(f[2])
	if err != nil {
		return nil, err
	}
	if len(raw) != 1+ed25519.PublicKeySize || raw[0] != algCosignature {
		return nil, errors.New("not the Ed25519 key of a witness (type 4)")
	}
	k, err := NewWitnessKey(f[0], raw[1:])
	if err != nil {
		return nil, err
	}
	if k.String() != s {
		return nil, errNotCanonical
	}
	return k, nil
}

// Same says whether two keys are of one witness: those of one name are, and who has one key under two names is no two witnesses either.
func (k *WitnessKey) Same(o *WitnessKey) bool { return k.name == o.name || bytes.Equal(k.pub, o.pub) }

// Name is the witness's name.
func (k *WitnessKey) Name() string { return k.name }

// String is the verifier key.
func (k *WitnessKey) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id, base64.StdEncoding.EncodeToString(append([]byte{algCosignature}, k.pub...)))
}

// cosignedMessage is what a witness signs: the checkpoint's text under a time.
func cosignedMessage(text string, seconds uint64) []byte {
	return []byte("cosignature/v1\ntime " + strconv.FormatUint(seconds, 10) + "\n" + text)
}

// cosignature is one signature line of a witness.
type cosignature struct {
	name string
	id   uint32
	sig  []byte // timestamp and signature
}

func (c *cosignature) line() string {
	b := binary.BigEndian.AppendUint32(nil, c.id)
	return "— " + c.name + " " + base64.StdEncoding.EncodeToString(append(b, c.sig...)) + "\n"
}

func (c *cosignature) by(k *WitnessKey) bool { return c.name == k.name && c.id == k.id }

// check verifies the cosignature of a checkpoint's text and returns its time.
func (k *WitnessKey) check(text string, c *cosignature) (time.Time, bool) {
	if !c.by(k) || len(c.sig) != cosignatureSize {
		return time.Time{}, false
	}
	seconds := binary.BigEndian.Uint64(c.sig)
	if seconds == 0 || seconds > 1<<60 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0).UTC(), ed25519.Verify(k.pub, cosignedMessage(text, seconds), c.sig[8:])
}

// parseCosignature reads a signature line, without its line end, whatever key made it.
func parseCosignature(line string) (*cosignature, error) {
	rest, ok := strings.CutPrefix(line, "— ")
	name, b64, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || !validKeyName(name) {
		return nil, errors.New("not a signature line")
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(b64)
	if err != nil {
		return nil, err
	}
	if len(raw) <= 4 {
		return nil, errors.New("not a signature line")
	}
	c := &cosignature{name, binary.BigEndian.Uint32(raw), raw[4:]}
	if c.line() != line+"\n" { // the decoder passes over line ends
		return nil, errNotCanonical
	}
	return c, nil
}

// cosigner signs for a witness.
type cosigner struct {
	*WitnessKey
	key crypto.Signer
}

func newCosigner(name string, key crypto.Signer) (*cosigner, error) {
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, errKey
	}
	k, err := NewWitnessKey(name, pub)
	if err != nil {
		return nil, err
	}
	return &cosigner{k, key}, nil
}

// cosign signs a checkpoint's text and checks the signature.
func (s *cosigner) cosign(text string, at time.Time) (*cosignature, error) {
	seconds := uint64(max(at.Unix(), 1))
	sig, err := s.key.Sign(rand.Reader, cosignedMessage(text, seconds), crypto.Hash(0))
	if err != nil {
		return nil, err
	}
	c := &cosignature{s.name, s.id, append(binary.BigEndian.AppendUint64(nil, seconds), sig...)}
	if _, ok := s.check(text, c); !ok {
		return nil, errors.New("the key made a cosignature that does not verify")
	}
	return c, nil
}

// cosigned is a checkpoint of ours with the cosignatures of witnesses.
type cosigned struct {
	checkpoint
	signed []byte // as the log signed it
	lines  []*cosignature
}

// MaxWitnesses bounds the lines of witnesses below one checkpoint, and with them the witnesses of a log.
const MaxWitnesses = 32

// maxCheckpoint bounds the file of a checkpoint with cosignatures, even if some of them
// are of kinds that we do not know.
const maxCheckpoint = 256 << 10

func (c *cosigned) encode() []byte {
	b := bytes.Clone(c.signed)
	for _, l := range c.lines {
		b = append(b, l.line()...)
	}
	return b
}

// parseCosigned reads a checkpoint signed by key, whose line comes first, and the lines
// of witnesses, which nothing verifies here. strict demands the one form in which we
// write: only cosignature/v1, sorted, each key once. Otherwise it is a note by anybody.
func parseCosigned(b []byte, key note.Verifier, strict bool) (*cosigned, error) {
	if len(b) > maxCheckpoint {
		return nil, errors.New("too long")
	}
	text, sigs, ok := bytes.Cut(b, []byte("\n\n"))
	if !ok {
		return nil, errors.New("not a signed note")
	}
	var first []byte
	var others []*cosignature
	for line := range bytes.Lines(sigs) {
		l, err := parseCosignature(strings.TrimSuffix(string(line), "\n"))
		switch {
		case err == nil && first == nil && l.name == key.Name() && l.id == key.KeyHash():
			first = line
		case strict && first == nil:
			return nil, errors.New("the log's signature is not the first")
		case err == nil && (strict || len(l.sig) == cosignatureSize):
			others = append(others, l)
		case strict || !bytes.HasPrefix(line, []byte("— ")) || !bytes.HasSuffix(line, []byte("\n")):
			return nil, errors.New("what stands below the text is not all signatures")
		}
	}
	signed := bytes.Join([][]byte{text, []byte("\n\n"), first}, nil)
	c, err := parseCheckpoint(signed, key)
	if err != nil {
		return nil, err
	}
	out := &cosigned{checkpoint: c, signed: signed, lines: others}
	if !strict {
		return out, nil
	}
	for i, l := range out.lines {
		if len(l.sig) != cosignatureSize || i > 0 && out.lines[i-1].compare(l) >= 0 {
			return nil, errNotCanonical
		}
	}
	if len(out.lines) > MaxWitnesses || !bytes.Equal(out.encode(), b) {
		return nil, errNotCanonical
	}
	return out, nil
}

// compare orders lines by name and key.
func (c *cosignature) compare(o *cosignature) int {
	if n := strings.Compare(c.name, o.name); n != 0 {
		return n
	}
	return cmp.Compare(c.id, o.id)
}
