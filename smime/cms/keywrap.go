package cms

import (
	"crypto/aes"
	"crypto/subtle"
	"encoding/binary"
	"errors"
)

// AES key wrap (RFC 3394).

const wrapIV = 0xa6a6a6a6a6a6a6a6 // RFC 3394, section 2.2.3.1

var errWrap = errors.New("key wrap: integrity check failed")

// wrapKey encrypts key, a multiple of eight bytes and at least sixteen, under kek.
func wrapKey(kek, key []byte) ([]byte, error) {
	if len(key) < 16 || len(key)%8 != 0 {
		return nil, errors.New("key wrap: key size")
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 8+len(key))
	copy(out[8:], key)
	var buf [16]byte
	a := uint64(wrapIV)
	n := len(key) / 8
	for j := range 6 {
		for i := 1; i <= n; i++ {
			binary.BigEndian.PutUint64(buf[:8], a)
			copy(buf[8:], out[8*i:8*i+8])
			block.Encrypt(buf[:], buf[:])
			a = binary.BigEndian.Uint64(buf[:8]) ^ uint64(n*j+i)
			copy(out[8*i:], buf[8:])
		}
	}
	binary.BigEndian.PutUint64(out, a)
	return out, nil
}

// unwrapKey undoes wrapKey.
func unwrapKey(kek, wrapped []byte) ([]byte, error) {
	if len(wrapped) < 24 || len(wrapped)%8 != 0 || len(wrapped) > 8+64 {
		return nil, errWrap
	}
	block, err := aes.NewCipher(kek)
	if err != nil {
		return nil, err
	}
	key := append([]byte(nil), wrapped[8:]...)
	var buf [16]byte
	a := binary.BigEndian.Uint64(wrapped)
	n := len(key) / 8
	for j := 5; j >= 0; j-- {
		for i := n; i >= 1; i-- {
			binary.BigEndian.PutUint64(buf[:8], a^uint64(n*j+i))
			copy(buf[8:], key[8*i-8:8*i])
			block.Decrypt(buf[:], buf[:])
			a = binary.BigEndian.Uint64(buf[:8])
			copy(key[8*i-8:], buf[8:])
		}
	}
	var got, want [8]byte
	binary.BigEndian.PutUint64(got[:], a)
	binary.BigEndian.PutUint64(want[:], wrapIV)
	if subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return nil, errWrap
	}
	return key, nil
}
