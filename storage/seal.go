package storage

import (
	"crypto/cipher"
	"encoding/binary"
	"fmt"
	"io"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/storage/blob"
)

// A body is sealed under a random message key of its own, used for nothing else: AES-256-GCM over frames of 64 KiB, and
// over the summary. The nonce is a domain octet (1: a frame, 2: the last frame, 3: the summary), zeros, and the frame's
// number, so no nonce is used twice, and frames can be neither reordered nor cut off; the additional data is the store,
// the body's ID and the frame's number.
const (
	frameSize = 64 << 10
	tagSize   = 16
	keySize   = 32

	domainFrame   = 1
	domainLast    = 2
	domainSummary = 3
)

// frames is how many frames a body of that size has: at least one.
func frames(plain int64) int64 { return max(1, (plain+frameSize-1)/frameSize) }

// sealedSize is the size of the frames of a body.
func sealedSize(plain int64) int64 { return plain + frames(plain)*tagSize }

type messageKey struct {
	aead  cipher.AEAD
	store blob.StoreID
	body  uint64
}

func newMessageKey(key []byte, store blob.StoreID, body uint64) (*messageKey, error) {
	aead, err := keys.NewGCM(key)
	return &messageKey{aead, store, body}, err
}

func (k *messageKey) params(domain byte, frame uint32) (nonce [12]byte, aad [28]byte) {
	nonce[0] = domain
	binary.BigEndian.PutUint32(nonce[8:], frame)
	copy(aad[:], k.store[:])
	binary.BigEndian.PutUint64(aad[16:], k.body)
	binary.BigEndian.PutUint32(aad[24:], frame)
	return nonce, aad
}

func (k *messageKey) seal(dst, plain []byte, domain byte, frame uint32) []byte {
	nonce, aad := k.params(domain, frame)
	return k.aead.Seal(dst, nonce[:], plain, aad[:])
}

// open decrypts sealed into its own space.
func (k *messageKey) open(sealed []byte, domain byte, frame uint32) ([]byte, error) {
	nonce, aad := k.params(domain, frame)
	plain, err := k.aead.Open(sealed[:0], nonce[:], sealed, aad[:])
	if err != nil {
		return nil, mail.E(mail.Corrupt, "the message is damaged", fmt.Errorf("body %d, frame %d: %w", k.body, frame, err))
	}
	return plain, nil
}

// sealedBody is a body ready to be written.
type sealedBody struct {
	id     uint64
	key    []byte
	record bodyRecord // offset, refs and segment are not set
}

// sealBody appends the sealed summary and frames to dst.
func sealBody(dst []byte, rnd io.Reader, store blob.StoreID, id uint64, data []byte, index *message.Index) ([]byte, *sealedBody, error) {
	s := &sealedBody{id: id, key: make([]byte, keySize)}
	if _, err := io.ReadFull(rnd, s.key); err != nil {
		return nil, nil, err
	}
	k, err := newMessageKey(s.key, store, id)
	if err != nil {
		return nil, nil, err
	}
	summary, err := encodeSummary(data, index)
	if err != nil {
		return nil, nil, err
	}
	begin := len(dst)
	dst = k.seal(dst, summary, domainSummary, 0)
	s.record.summary = uint32(len(dst) - begin)
	n := frames(int64(len(data)))
	for i := range n {
		part, domain := data[i*frameSize:min(int64(len(data)), (i+1)*frameSize)], byte(domainFrame)
		if i == n-1 {
			domain = domainLast
		}
		dst = k.seal(dst, part, domain, uint32(i))
	}
	s.record.plain = int64(len(data))
	s.record.sealed = int64(len(dst)-begin) - int64(s.record.summary)
	s.record.sum = blob.Checksum(dst[begin:])
	return dst, s, nil
}

// entryAAD binds an entry's secret to the account and the body, not to the mailbox: copies share it.
func entryAAD(store blob.StoreID, id mail.AccountID, body uint64) []byte {
	b := append(make([]byte, 0, 80), "cmmpd entry 1 "...)
	b = append(b, store[:]...)
	b = binary.BigEndian.AppendUint64(b, body)
	return append(b, id...)
}

func textAAD(store blob.StoreID, id mail.AccountID) []byte {
	b := append(make([]byte, 0, 80), "cmmpd name 1 "...)
	b = append(b, store[:]...)
	return append(b, id...)
}
