package keys

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"cmmpd/internal/mail"
)

// The vault is a header of 64 octets and then records, each a header of 28 octets and a payload. Numbers are
// little-endian. docs/formats.md describes it octet by octet.
const (
	vaultMagic       = "CMMPDVLT"
	vaultVersion     = 2
	vaultHeaderSize  = 64
	vaultRecordMagic = 0x31764d43 // "CMv1"
	vaultRecordHead  = 28
	maxVaultPayload  = 16 << 10
)

type vaultKind uint8

const (
	vaultAccount vaultKind = 1 // an account's key pair
	vaultEpoch   vaultKind = 2 // an epoch key
	vaultFloor   vaultKind = 3 // epochs up to this one have been used

	// Since version 2.
	vaultWrap     vaultKind = 4 // how an account's private key is wrapped now
	vaultPlatform vaultKind = 5 // the key that accounts are to be wrapped under
)

// maxWrapName bounds the names of keys that wrap.
const maxWrapName = 200

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func vaultHeader(store [16]byte) []byte {
	b := make([]byte, vaultHeaderSize)
	copy(b, vaultMagic)
	binary.LittleEndian.PutUint32(b[8:], vaultVersion)
	copy(b[16:], store[:])
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// checkVaultHeader returns the seed of the records' checksums, and the file's version.
func checkVaultHeader(b []byte, store [16]byte) (seed, version uint32, err error) {
	if len(b) != vaultHeaderSize || string(b[:8]) != vaultMagic {
		return 0, 0, errors.New("not a key vault")
	}
	v := binary.LittleEndian.Uint32(b[8:])
	if v > vaultVersion {
		return 0, 0, mail.E(mail.Unsupported, "", fmt.Errorf("made by a newer version of this program: version %d, this program knows %d", v, vaultVersion))
	} else if v == 0 {
		return 0, 0, fmt.Errorf("key vault of version %d is unknown", v)
	}
	if crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return 0, 0, errors.New("the header is damaged")
	}
	if [16]byte(b[16:32]) != store {
		return 0, 0, errors.New("the key vault is that of another store")
	}
	return crc32.Checksum(b, castagnoli), v, nil
}

type vaultRecord struct {
	kind   vaultKind
	id     mail.AccountID
	epoch  uint32     // of vaultEpoch and vaultFloor
	key    AccountKey // of vaultAccount, where Wrapped may be empty; of vaultWrap and vaultPlatform what they have
	sealed []byte     // of vaultEpoch
}

func (r *vaultRecord) payload() []byte {
	b := append([]byte{byte(len(r.id))}, r.id...)
	switch r.kind {
	case vaultAccount:
		b = append(b, r.key.Suite)
		b = binary.LittleEndian.AppendUint16(b, uint16(len(r.key.Public)))
		b = append(b, r.key.Public...)
		b = append(b, r.key.Wrapped...)
	case vaultEpoch:
		b = binary.LittleEndian.AppendUint32(b, r.epoch)
		b = append(b, r.sealed...)
	case vaultFloor:
		b = binary.LittleEndian.AppendUint32(b, r.epoch)
	case vaultWrap:
		b = append(append(b, byte(len(r.key.Key))), r.key.Key...)
		b = append(b, r.key.Wrapped...)
	case vaultPlatform:
		b = append(b, r.key.Key...)
	}
	return b
}

// encode frames the record. synced is the place up to which the file was known to be flushed.
func (r *vaultRecord) encode(seed uint32, synced int64) []byte {
	payload := r.payload()
	b := make([]byte, 0, vaultRecordHead+len(payload))
	b = binary.LittleEndian.AppendUint32(b, vaultRecordMagic)
	b = binary.LittleEndian.AppendUint32(b, uint32(r.kind))
	b = binary.LittleEndian.AppendUint64(b, uint64(synced))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	b = binary.LittleEndian.AppendUint32(b, crc32.Update(seed, castagnoli, b))
	return append(b, payload...)
}

var errVaultRecord = errors.New("no valid record")

// decodeVaultHead reads a record's header.
func decodeVaultHead(b []byte, seed uint32) (kind vaultKind, synced int64, n int, sum uint32, err error) {
	if len(b) < vaultRecordHead || binary.LittleEndian.Uint32(b) != vaultRecordMagic ||
		crc32.Update(seed, castagnoli, b[:24]) != binary.LittleEndian.Uint32(b[24:]) {
		return 0, 0, 0, 0, errVaultRecord
	}
	k, at, size := binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint32(b[16:])
	if k < uint32(vaultAccount) || k > uint32(vaultPlatform) || at > 1<<62 || size > maxVaultPayload {
		return 0, 0, 0, 0, errVaultRecord
	}
	return vaultKind(k), int64(at), int(size), binary.LittleEndian.Uint32(b[20:]), nil
}

// decodeVaultRecord reads the record at the beginning of b, and says how long it is.
func decodeVaultRecord(b []byte, seed uint32) (*vaultRecord, int, error) {
	r := new(vaultRecord)
	n, err := r.decode(b, seed, newID)
	return r, n, err
}

// newID is an account's ID as a string of its own.
func newID(id []byte) mail.AccountID { return mail.AccountID(id) }

// decode is decodeVaultRecord into r, of which only the ID outlives b; name makes it.
func (r *vaultRecord) decode(b []byte, seed uint32, name func([]byte) mail.AccountID) (int, error) {
	kind, _, n, sum, err := decodeVaultHead(b, seed)
	if err != nil {
		return 0, err
	}
	if len(b) < vaultRecordHead+n {
		return 0, errVaultRecord
	}
	p := b[vaultRecordHead : vaultRecordHead+n]
	if crc32.Checksum(p, castagnoli) != sum {
		return 0, errVaultRecord
	}
	return vaultRecordHead + n, r.decodePayload(kind, p, name)
}

func decodeVaultPayload(kind vaultKind, p []byte) (*vaultRecord, error) {
	r := new(vaultRecord)
	return r, r.decodePayload(kind, p, newID)
}

func (r *vaultRecord) decodePayload(kind vaultKind, p []byte, name func([]byte) mail.AccountID) error {
	if len(p) < 1 || len(p) < 1+int(p[0]) || (p[0] == 0) != (kind == vaultPlatform) {
		return errVaultRecord
	}
	*r = vaultRecord{kind: kind, id: name(p[1 : 1+int(p[0])])}
	p = p[1+int(p[0]):]
	switch kind {
	case vaultAccount:
		if len(p) < 3 || len(p) < 3+int(binary.LittleEndian.Uint16(p[1:])) {
			return errVaultRecord
		}
		n := 3 + int(binary.LittleEndian.Uint16(p[1:]))
		r.key = AccountKey{Suite: p[0], Public: p[3:n:n], Key: PlatformKey, Wrapped: p[n:]}
	case vaultEpoch, vaultFloor:
		if len(p) < 4 || kind == vaultFloor && len(p) != 4 {
			return errVaultRecord
		}
		r.epoch, r.sealed = binary.LittleEndian.Uint32(p), p[4:]
	case vaultWrap:
		if len(p) < 1 || p[0] == 0 || int(p[0]) > maxWrapName || len(p) <= 1+int(p[0]) {
			return errVaultRecord
		}
		n := 1 + int(p[0])
		r.key = AccountKey{Key: string(p[1:n]), Wrapped: p[n:]}
	case vaultPlatform:
		if len(p) == 0 || len(p) > maxWrapName {
			return errVaultRecord
		}
		r.key = AccountKey{Key: string(p)}
	}
	return nil
}
