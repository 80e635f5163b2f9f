// Package keyd is the process "cmmpd keyd", which alone loads the libraries of tokens and knows their PINs, and the
// daemon's side of its Unix socket.
//
// On the socket one request follows another, each answered before the next. A frame is a length of four octets
// (big-endian, maxFrame at most) and that many octets. docs/formats.md has the bytes.
package keyd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

const (
	protocolVersion = 1
	maxFrame        = 64 << 10
	maxName         = 200
)

// op is what is asked for.
type op uint8

// The operations. Their numbers are part of the protocol.
const (
	opStatus   op = 1  // data of the answer: a status
	opList     op = 2  // the answer: key infos
	opPublic   op = 3  // the answer: one key info
	opSign     op = 4  // data: digest (Ed25519: message); by scheme and hash
	opDecrypt  op = 5  // data: ciphertext; extra: label of OAEP; size: of the key, for PKCS #1 v1.5
	opAgree    op = 6  // data: the peer's point, uncompressed; the answer: x of the shared point
	opWrap     op = 7  // data: plain; extra: additional data
	opUnwrap   op = 8  // data: wrapped; extra: additional data
	opDerive   op = 9  // data: info; the answer: 32 octets
	opGenerate op = 10 // data: kind
	opRetire   op = 11
	opUnseal   op = 12 // data: PIN
	opSeal     op = 13
	opShare    op = 14 // data: an officer's share; the answer: how many there are, how many are needed
	opSetPIN   op = 15 // data: the PIN; extra: the new one
	opActs     op = 16 // data: how many entries of the journal are known, u64; the answer: lines after them
	opUnretire op = 17
)

var opNames = [...]string{
	opStatus: "status", opList: "list", opPublic: "public", opSign: "sign", opDecrypt: "decrypt", opAgree: "agree", opWrap: "wrap", opUnwrap: "unwrap",
	opDerive: "derive", opGenerate: "generate", opRetire: "retire", opUnseal: "unseal", opSeal: "seal", opShare: "share", opSetPIN: "set PIN", opActs: "acts",
	opUnretire: "unretire",
}

func (o op) String() string {
	if int(o) < len(opNames) && opNames[o] != "" {
		return opNames[o]
	}
	return fmt.Sprintf("operation %d", uint8(o))
}

// Scheme says how an RSA or elliptic key is used.
type Scheme uint8

// The schemes. Their numbers are part of the protocol.
const (
	Plain   Scheme = 0 // ECDSA and Ed25519 signatures
	PKCS1   Scheme = 1 // RSASSA-PKCS1-v1_5, RSAES-PKCS1-v1_5 (RFC 8017)
	PSS     Scheme = 2 // RSASSA-PSS, salt as long as the hash
	OAEP    Scheme = 3 // RSAES-OAEP
	schemes        = 4
)

// ofOperator says whether only an operator may ask for it; it is an act that the journal keeps.
func (o op) ofOperator() bool { return o >= opGenerate && o != opActs }

// request is one frame to keyd.
type request struct {
	op     op
	scheme Scheme
	hash   uint8  // a crypto.Hash
	mgf    uint8  // a crypto.Hash: of MGF1 in OAEP
	size   uint16 // of the result, in octets
	slot   keys.Slot
	name   string
	data   []byte
	extra  []byte
}

var errFrame = mail.E(mail.Invalid, "", errors.New("not a frame of keyd's protocol"))

func (r *request) encode() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 4, 64+len(r.data)+len(r.extra)))
	b.AddUint8(protocolVersion)
	b.AddUint8(uint8(r.op))
	b.AddUint8(uint8(r.scheme))
	b.AddUint8(r.hash)
	b.AddUint8(r.mgf)
	b.AddUint16(r.size)
	for _, s := range []string{string(r.slot), r.name} {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	}
	for _, s := range [][]byte{r.data, r.extra} {
		b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(s) })
	}
	return frame(b)
}

// frame puts the length in front, for which four octets were left.
func frame(b *cryptobyte.Builder) ([]byte, error) {
	f, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if len(f)-4 > maxFrame {
		return nil, mail.E(mail.TooLarge, "", fmt.Errorf("%d octets are too many for keyd", len(f)))
	}
	binary.BigEndian.PutUint32(f, uint32(len(f)-4))
	return f, nil
}

// decodeRequest reads the content of a frame. Its slices are those of b.
func decodeRequest(b []byte) (*request, error) {
	s := cryptobyte.String(b)
	var r request
	var version, o, scheme uint8
	var slot, name, data, extra cryptobyte.String
	switch {
	case !s.ReadUint8(&version):
		return nil, errFrame
	case version != protocolVersion:
		return nil, mail.E(mail.Unsupported, "", fmt.Errorf("keyd's protocol of version %d; this program knows %d", version, protocolVersion))
	case !s.ReadUint8(&o) || !s.ReadUint8(&scheme) || !s.ReadUint8(&r.hash) || !s.ReadUint8(&r.mgf) || !s.ReadUint16(&r.size),
		!s.ReadUint8LengthPrefixed(&slot) || !s.ReadUint8LengthPrefixed(&name),
		!s.ReadUint24LengthPrefixed(&data) || !s.ReadUint24LengthPrefixed(&extra) || !s.Empty(),
		o == 0 || int(o) >= len(opNames), scheme >= schemes, len(name) > maxName:
		return nil, errFrame
	}
	r.op, r.scheme, r.slot, r.name, r.data, r.extra = op(o), Scheme(scheme), keys.Slot(slot), string(name), data, extra
	return &r, nil
}

// The first octet of an answer's content after the version: done, sealed, or an error's kind and statusKind.
const (
	statusDone   = 0
	statusSealed = 1
	statusKind   = 2
)

// encodeAnswer makes a frame of a result or of an error.
func encodeAnswer(data []byte, err error) ([]byte, error) {
	status, text := uint8(statusDone), ""
	switch {
	case errors.Is(err, keys.ErrSealed):
		status = statusSealed
	case err != nil:
		status, text = statusKind+uint8(mail.KindOf(err)), err.Error()
		text, data = text[:min(len(text), 1000)], nil
	}
	b := cryptobyte.NewBuilder(make([]byte, 4, 64+len(data)))
	b.AddUint8(protocolVersion)
	b.AddUint8(status)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(text)) })
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(data) })
	return frame(b)
}

// decodeAnswer reads the content of a frame. An error that keyd answered is err, of its kind.
func decodeAnswer(b []byte) (data []byte, err error) {
	s := cryptobyte.String(b)
	var version, status uint8
	var text, d cryptobyte.String
	if !s.ReadUint8(&version) || version != protocolVersion || !s.ReadUint8(&status) ||
		!s.ReadUint16LengthPrefixed(&text) || !s.ReadUint24LengthPrefixed(&d) || !s.Empty() {
		return nil, errAnswer
	}
	switch status {
	case statusDone:
		return d, nil
	case statusSealed:
		return nil, keys.ErrSealed
	}
	kind := mail.Kind(status - statusKind)
	if kind > mail.Corrupt {
		kind = mail.Internal
	}
	return nil, mail.E(kind, "", fmt.Errorf("keyd: %q", string(text)))
}

var errAnswer = mail.E(mail.Unavailable, "", errors.New("what keyd answered cannot be understood"))

// readFrame reads a frame's content into buf, which it makes larger where needed.
func readFrame(r io.Reader, buf []byte) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return buf, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxFrame {
		return buf, errFrame
	}
	if uint32(cap(buf)) < n {
		buf = make([]byte, n)
	}
	buf = buf[:n]
	_, err := io.ReadFull(r, buf)
	return buf, err
}

// State says whether a slot can be used.
type State uint8

// The states. Their numbers are part of the protocol.
const (
	Absent State = iota // keyd has no such slot
	Open
	Sealed
	Failed // the token does not answer, or refused the PIN
)

func (s State) String() string {
	return map[State]string{Open: "open", Sealed: "sealed", Failed: "failed"}[s]
}

// SlotStatus is what keyd says of a slot.
type SlotStatus struct {
	State  State
	Token  string // its label
	Reason string // of Failed
}

func encodeStatus(s SlotStatus) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddUint8(uint8(s.State))
	addText(&b, s.Token)
	addText(&b, s.Reason)
	return b.Bytes()
}

func decodeStatus(data []byte) (SlotStatus, error) {
	s := cryptobyte.String(data)
	var state uint8
	var token, reason cryptobyte.String
	if !s.ReadUint8(&state) || state > uint8(Failed) || !s.ReadUint16LengthPrefixed(&token) || !s.ReadUint16LengthPrefixed(&reason) || !s.Empty() {
		return SlotStatus{}, errAnswer
	}
	return SlotStatus{State(state), string(token), string(reason)}, nil
}

func addText(b *cryptobyte.Builder, text string) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(text[:min(len(text), 1000)])) })
}

func encodeInfos(list []keys.Info) ([]byte, error) {
	var b cryptobyte.Builder
	for _, k := range list {
		addText(&b, k.Name)
		addText(&b, string(k.Kind))
		if k.Retired {
			b.AddUint8(1)
		} else {
			b.AddUint8(0)
		}
		b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(k.Public) })
	}
	return b.Bytes()
}

func decodeInfos(slot keys.Slot, data []byte) (list []keys.Info, err error) {
	for s := cryptobyte.String(data); !s.Empty(); {
		var name, kind, public cryptobyte.String
		var retired uint8
		if !s.ReadUint16LengthPrefixed(&name) || !s.ReadUint16LengthPrefixed(&kind) || !s.ReadUint8(&retired) || retired > 1 || !s.ReadUint16LengthPrefixed(&public) {
			return nil, errAnswer
		}
		list = append(list, keys.Info{Slot: slot, Name: string(name), Kind: keys.Kind(kind), Retired: retired == 1, Public: public})
	}
	return list, nil
}
