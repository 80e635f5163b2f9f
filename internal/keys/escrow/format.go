package escrow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"golang.org/x/crypto/cryptobyte"

	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
)

// The file is a header of 64 octets and then records, each a header of 16 octets and a payload, one account's envelope. docs/formats.md describes it octet by octet.
const (
	fileMagic   = "CMMPDESC"
	fileVersion = 1
	headerSize  = 64
	recordMagic = 0x31734d45 // "EMs1"
	recordHead  = 16
	maxPart     = 4 << 10
	maxPayload  = 160 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func fileHeader(store [16]byte) []byte {
	b := make([]byte, headerSize)
	copy(b, fileMagic)
	binary.LittleEndian.PutUint32(b[8:], fileVersion)
	copy(b[16:], store[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// checkHeader returns the seed of the records' checksums.
func checkHeader(b []byte, store [16]byte) (uint32, error) {
	if len(b) != headerSize || string(b[:8]) != fileMagic {
		return 0, errors.New("not a file of escrowed keys")
	}
	if v := binary.LittleEndian.Uint32(b[8:]); v > fileVersion {
		return 0, mail.E(mail.Unsupported, "", fmt.Errorf("made by a newer version of this program: version %d, this program knows %d", v, fileVersion))
	}
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return 0, errors.New("the header is damaged")
	}
	if !bytes.Equal(b, fileHeader(store)) {
		return 0, errors.New("it belongs to another store")
	}
	return crc32.Checksum(b, castagnoli), nil
}

// encodeRecord frames a payload.
func encodeRecord(payload []byte, seed uint32) []byte {
	b := make([]byte, 0, recordHead+len(payload))
	b = binary.LittleEndian.AppendUint32(b, recordMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(seed, castagnoli, b))
	return append(b, payload...)
}

var errRecord = errors.New("no valid record")

// decodeHead says how long a record's payload is, and its checksum.
func decodeHead(b []byte, seed uint32) (n int, sum uint32, err error) {
	if len(b) < recordHead || binary.LittleEndian.Uint32(b) != recordMagic ||
		crc32.Update(seed, castagnoli, b[:12]) != binary.LittleEndian.Uint32(b[12:]) {
		return 0, 0, errRecord
	}
	size := binary.LittleEndian.Uint32(b[4:])
	if size > maxPayload {
		return 0, 0, errRecord
	}
	return int(size), binary.LittleEndian.Uint32(b[8:]), nil
}

// decodeRecord is the payload of the record at the beginning of b, in which it lies.
func decodeRecord(b []byte, seed uint32) (payload []byte, err error) {
	n, sum, err := decodeHead(b, seed)
	if err != nil || len(b) < recordHead+n {
		return nil, errRecord
	}
	if payload = b[recordHead : recordHead+n]; crc32.Checksum(payload, castagnoli) != sum {
		return nil, errRecord
	}
	return payload, nil
}

// payload is the envelope as the file has it.
func (e *Envelope) payload() []byte {
	b := append([]byte{byte(len(e.Account))}, e.Account...)
	for _, part := range [][]byte{e.Group.body(), e.set.Bytes()} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(part))), part...)
	}
	b = append(b, byte(len(e.Parts)))
	for _, p := range e.Parts {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
	}
	return b
}

// ownerOf reads whose envelope it is, and the body of the group; rest follows.
func ownerOf(payload []byte) (id mail.AccountID, group, rest cryptobyte.String, err error) {
	rest = payload
	var name cryptobyte.String
	if !rest.ReadUint8LengthPrefixed(&name) || len(name) == 0 || !rest.ReadUint16LengthPrefixed(&group) {
		return "", nil, nil, errEnvelope
	}
	return mail.AccountID(name), group, rest, nil
}

var errEnvelope = errors.New("not an escrowed key")

// parseEnvelope reads what payload returned; nothing of it lies in b.
func parseEnvelope(b []byte) (*Envelope, error) {
	id, group, in, err := ownerOf(b)
	if err != nil {
		return nil, err
	}
	var set cryptobyte.String
	var n uint8
	if !in.ReadUint16LengthPrefixed(&set) || !in.ReadUint8(&n) {
		return nil, errEnvelope
	}
	e := &Envelope{Account: id}
	if e.Group, err = parseGroup(group); err != nil {
		return nil, err
	}
	if e.set, err = shares.ParseBytes(set); err != nil {
		return nil, err
	}
	for range n {
		var part cryptobyte.String
		if !in.ReadUint16LengthPrefixed(&part) || len(part) == 0 || len(part) > maxPart {
			return nil, errEnvelope
		}
		e.Parts = append(e.Parts, bytes.Clone(part))
	}
	if !in.Empty() || len(e.Parts) != len(e.Group.Officers) || e.set.Count != len(e.Parts) || e.set.Threshold != e.Group.Threshold {
		return nil, errEnvelope
	}
	return e, nil
}
