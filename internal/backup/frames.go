package backup

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"

	"cmmpd/internal/keys"
)

// A stream is cut into frames of 64 KiB, the last one shorter or as long, each under AES-256-GCM with its number as
// the nonce, whose last octet is 1 in the last frame alone (the STREAM construction). So frames can be neither swapped
// nor dropped, and a stream that was cut off is not whole.
const (
	frameSize = 64 << 10
	frameTag  = 16
)

type nonce [12]byte

// next counts up. 2^64 frames are never reached.
func (n *nonce) next() {
	binary.BigEndian.PutUint64(n[3:11], binary.BigEndian.Uint64(n[3:11])+1)
}

type frameWriter struct {
	w     io.Writer
	aead  cipher.AEAD
	nonce nonce
	buf   []byte
}

func newFrameWriter(w io.Writer, key []byte) (*frameWriter, error) {
	aead, err := keys.NewGCM(key)
	return &frameWriter{w: w, aead: aead, buf: make([]byte, 0, frameSize+frameTag)}, err
}

// Write buffers. A full frame goes out only when more follows, for the last one is marked.
func (f *frameWriter) Write(b []byte) (int, error) {
	n := len(b)
	for len(b) > 0 {
		if len(f.buf) == frameSize {
			if err := f.flush(); err != nil {
				return 0, err
			}
		}
		m := min(len(b), frameSize-len(f.buf))
		f.buf = append(f.buf, b[:m]...)
		b = b[m:]
	}
	return n, nil
}

func (f *frameWriter) flush() error {
	_, err := f.w.Write(f.aead.Seal(f.buf[:0], f.nonce[:], f.buf, nil))
	f.buf = f.buf[:0]
	f.nonce.next()
	return err
}

func (f *frameWriter) close() error {
	f.nonce[11] = 1
	return f.flush()
}

type frameReader struct {
	r     io.Reader
	aead  cipher.AEAD
	nonce nonce
	raw   []byte // a frame, and one octet more that tells whether another follows
	have  int    // octets of raw that are read already
	space []byte // for the plain text of one frame
	plain []byte // what of it was not taken yet
	last  bool
}

func newFrameReader(r io.Reader, key []byte) (*frameReader, error) {
	aead, err := keys.NewGCM(key)
	return &frameReader{r: r, aead: aead, raw: make([]byte, frameSize+frameTag+1), space: make([]byte, 0, frameSize)}, err
}

func (f *frameReader) Read(p []byte) (int, error) {
	if len(f.plain) == 0 {
		if f.last {
			return 0, io.EOF
		}
		if err := f.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, f.plain)
	f.plain = f.plain[n:]
	if n == 0 && f.last && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// fill opens the next frame.
func (f *frameReader) fill() error {
	n, err := io.ReadFull(f.r, f.raw[f.have:])
	n += f.have
	switch {
	case err == nil: // the octet more belongs to the next frame
		n--
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		f.last = true
		f.nonce[11] = 1
	default:
		return err
	}
	next := f.raw[n:] // of the next frame, if there is one
	plain, err := f.aead.Open(f.space, f.nonce[:], f.raw[:n], nil)
	if err != nil {
		f.last = false
		return corrupt(err)
	}
	f.plain = plain
	f.have = 0
	if !f.last {
		f.have = copy(f.raw, next[:1])
	}
	f.nonce.next()
	return nil
}
