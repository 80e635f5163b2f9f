package cms

import (
	"bytes"
	"compress/zlib"
	"errors"
	"fmt"
	"io"
)

const oidZlib OID = "1.2.840.113549.1.9.16.3.8"

var errPacked = errors.New("compressed content: damaged")

// Decompress reads a ContentInfo that holds CompressedData (RFC 3274) and returns what is
// inside and its type. lim.Size bounds the structure, and the content that comes out of it.
// Errors are of kind Invalid, TooLarge, or Unsupported for other content types and
// algorithms.
func Decompress(ber []byte, lim Limits) (contentType OID, content []byte, err error) {
	defer guard(&err)
	lim = lim.withDefaults()
	id, r, err := openContentInfo(ber, lim)
	if err != nil {
		return "", nil, malformed(err)
	}
	if id != CompressedData {
		return "", nil, notA("CompressedData", id)
	}
	alg, contentType, packed, err := readCompressed(r)
	if err != nil {
		return "", nil, malformed(err)
	}
	if alg.id != oidZlib {
		return "", nil, notA("zlib", alg.id)
	}
	if content, err = unpack(packed, lim.Size); err != nil {
		return "", nil, malformed(err)
	}
	return contentType, content, nil
}

// readCompressed reads (RFC 3274, section 1.1)
//
//	CompressedData ::= SEQUENCE {
//	  version CMSVersion,  -- always set to 0
//	  compressionAlgorithm CompressionAlgorithmIdentifier,
//	  encapContentInfo EncapsulatedContentInfo }
func readCompressed(outer *reader) (alg algorithm, contentType OID, packed []byte, err error) {
	r, err := outer.enter(tagSequence)
	if err != nil {
		return alg, "", nil, err
	}
	if err := outer.end(); err != nil {
		return alg, "", nil, err
	}
	if _, err := r.readInteger(); err != nil {
		return alg, "", nil, err
	}
	if alg, err = r.readAlgorithm(); err != nil {
		return alg, "", nil, err
	}
	var s Signed // whose content has the same syntax
	if err := s.readContent(r); err != nil {
		return alg, "", nil, fmt.Errorf("encapContentInfo: %w", err)
	}
	if s.Content == nil {
		return alg, "", nil, errMissing
	}
	return alg, s.ContentType, s.Content, r.end()
}

// unpack undoes the compression of RFC 1950. Nothing may follow it, and no more than limit
// bytes may come out.
func unpack(packed []byte, limit int) ([]byte, error) {
	in := bytes.NewReader(packed)
	z, err := zlib.NewReader(in)
	if err != nil {
		return nil, errPacked
	}
	defer z.Close()
	out, err := io.ReadAll(io.LimitReader(z, int64(limit)+1))
	switch {
	case err != nil:
		return nil, errPacked
	case len(out) > limit:
		return nil, errTooMany
	case in.Len() > 0:
		return nil, errTrailing
	}
	return out, nil
}
