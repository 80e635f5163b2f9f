package cms

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des" // to read old mail, when policy says so
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
)

// Cipher is a content-encryption algorithm.
type Cipher uint8

// The content ciphers. AES-CBC is for EnvelopedData (RFC 3565), AES-GCM for
// AuthEnvelopedData (RFC 5084). UnknownCipher is any other; such a message can be
// looked at, not opened.
const (
	UnknownCipher Cipher = iota
	AES128CBC
	AES192CBC
	AES256CBC
	TripleDES // read only, and only when Limits.TripleDES says so
	AES128GCM
	AES192GCM
	AES256GCM
)

// String is the name of c for people and for the audit record.
func (c Cipher) String() string {
	switch c {
	case AES128CBC:
		return "aes-128-cbc"
	case AES192CBC:
		return "aes-192-cbc"
	case AES256CBC:
		return "aes-256-cbc"
	case TripleDES:
		return "des-ede3-cbc"
	case AES128GCM:
		return "aes-128-gcm"
	case AES192GCM:
		return "aes-192-gcm"
	case AES256GCM:
		return "aes-256-gcm"
	}
	return "unknown"
}

// KeySize is the size of c's key in bytes, 0 if unknown.
func (c Cipher) KeySize() int {
	switch c {
	case AES128CBC, AES128GCM:
		return 16
	case AES192CBC, AES192GCM, TripleDES:
		return 24
	case AES256CBC, AES256GCM:
		return 32
	}
	return 0
}

// Authenticated says whether c shows that a message was changed (AES-GCM).
func (c Cipher) Authenticated() bool { return c >= AES128GCM }

func (c Cipher) oid() OID {
	switch c {
	case AES128CBC:
		return oidAES128CBC
	case AES192CBC:
		return oidAES192CBC
	case AES256CBC:
		return oidAES256CBC
	case TripleDES:
		return oidTripleDES
	case AES128GCM:
		return oidAES128GCM
	case AES192GCM:
		return oidAES192GCM
	case AES256GCM:
		return oidAES256GCM
	}
	return ""
}

// The sizes of nonce and tag that we write. No other nonce is read, and no tag shorter
// than 12 bytes (RFC 5084, section 3.2).
const (
	gcmNonce = 12
	gcmTag   = 16
)

// contentCipher is a cipher with its parameters.
type contentCipher struct {
	Cipher
	iv      []byte // CBC: the initialisation vector; GCM: the nonce
	tagSize int    // GCM
	derive  []byte // RFC 9709: the key is derived for this AlgorithmIdentifier; nil: it is used as it is
}

// parseCipher reads a ContentEncryptionAlgorithmIdentifier. The parameters of CBC are
// the IV as an OCTET STRING (RFC 3565, section 4.1), those of GCM (RFC 5084, section
// 3.2):
//
//	GCMParameters ::= SEQUENCE {
//	  aes-nonce   OCTET STRING, -- recommended size is 12 octets
//	  aes-ICVlen  AES-GCM-ICVlen DEFAULT 12 }
//
// In the form of RFC 9709 this identifier, in DER, is the parameter of another. What is not
// known is UnknownCipher and no error.
func parseCipher(a algorithm, authenticated bool) contentCipher {
	var unknown contentCipher
	if a.id == oidCEKHKDFSHA256 {
		r := a.inParams()
		inner, err := r.readAlgorithm()
		if err != nil || r.end() != nil || inner.id == oidCEKHKDFSHA256 || checkDER(a.params, maxDepth) != nil {
			return unknown
		}
		c := parseCipher(inner, authenticated)
		c.derive = a.params
		return c
	}
	c := contentCipher{}
	for known := AES128CBC; known <= AES256GCM; known++ {
		if a.id == known.oid() && known.Authenticated() == authenticated {
			c.Cipher = known
		}
	}
	r := a.inParams()
	var err error
	if !authenticated {
		size := aes.BlockSize
		if c.Cipher == TripleDES {
			size = des.BlockSize
		}
		c.iv, err = r.readOctets(tagOctetString)
		if err != nil || r.end() != nil || len(c.iv) != size {
			return unknown
		}
		return c
	}
	in, err := r.enter(tagSequence)
	if err != nil || r.end() != nil {
		return unknown
	}
	if c.iv, err = in.readOctets(tagOctetString); err != nil || len(c.iv) != gcmNonce {
		return unknown
	}
	c.tagSize = 12
	if in.more() {
		n, err := in.readInteger()
		if err != nil || !n.IsInt64() || n.Int64() < 12 || n.Int64() > 16 || in.end() != nil {
			return unknown
		}
		c.tagSize = int(n.Int64())
	}
	return c
}

// algorithm is the identifier of c with its parameters.
func (c contentCipher) algorithm() algorithm {
	iv := tlv(derOctetString, c.iv)
	if c.Authenticated() {
		return algorithm{c.oid(), tlv(derSequence, iv, small(byte(c.tagSize)))}
	}
	return algorithm{c.oid(), iv}
}

// contentKey is the key that c uses, from the one that the recipients get: by RFC 9709,
// section 2, a key made for one cipher and mode opens nothing in another.
func (c contentCipher) contentKey(key []byte) ([]byte, error) {
	if c.derive == nil {
		return key, nil
	}
	return hkdf.Key(sha256.New, key, []byte("The Cryptographic Message Syntax"), string(c.derive), len(key))
}

// block returns the block cipher under key, which must have c.KeySize() bytes.
func (c contentCipher) block(key []byte) (cipher.Block, error) {
	if c.Cipher == TripleDES {
		return des.NewTripleDESCipher(key)
	}
	return aes.NewCipher(key)
}

// padding is what follows n bytes (RFC 5652, section 6.3).
func padding(n int) []byte {
	size := aes.BlockSize - n%aes.BlockSize
	return bytes.Repeat([]byte{byte(size)}, size)
}

// sealCBC encrypts buf, which holds padded content, in place.
func (c contentCipher) sealCBC(key, buf []byte) error {
	b, err := c.block(key)
	if err == nil {
		cipher.NewCBCEncrypter(b, c.iv).CryptBlocks(buf, buf)
	}
	return err
}

// openCBC decrypts and removes the padding (RFC 5652, section 6.3). How the padding is
// wrong shows neither in the result nor in the time taken.
func (c contentCipher) openCBC(key, sealed []byte) ([]byte, bool) {
	b, err := c.block(key)
	if err != nil || len(sealed) == 0 || len(sealed)%b.BlockSize() != 0 {
		return nil, false
	}
	plain := make([]byte, len(sealed))
	cipher.NewCBCDecrypter(b, c.iv).CryptBlocks(plain, sealed)
	n, ok := paddingSize(plain[len(plain)-b.BlockSize():])
	return plain[:len(plain)-n], ok == 1
}

// paddingSize returns how many bytes of padding end block, and 1 if they are right, in
// a time that depends on neither. The size is 0 if they are wrong.
func paddingSize(block []byte) (n, ok int) {
	n = int(block[len(block)-1])
	ok = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, len(block))
	for i := range block {
		inside := subtle.ConstantTimeLessOrEq(len(block)-i, n)
		same := subtle.ConstantTimeByteEq(block[i], byte(n))
		ok &= same | (1 - inside)
	}
	return subtle.ConstantTimeSelect(ok, n, 0), ok
}

// sealGCM encrypts buf in place and puts the tag into tag, which lies behind buf in the same
// array.
func (c contentCipher) sealGCM(key, buf, tag, aad []byte) error {
	g, err := c.gcm(key)
	if err != nil {
		return err
	}
	n := len(buf)
	behind := buf[n : n+gcmTag] // Seal writes the tag there
	var kept [gcmTag]byte
	copy(kept[:], behind)
	sealed := g.Seal(buf[:0], c.iv, buf, aad)
	var made [gcmTag]byte
	copy(made[:], sealed[n:])
	copy(behind, kept[:])
	copy(tag, made[:])
	return nil
}

// openGCM decrypts sealed, and nothing comes out unless tag is right.
func (c contentCipher) openGCM(key, sealed, tag, aad []byte) ([]byte, bool) {
	g, err := c.gcm(key)
	if err != nil || len(tag) != c.tagSize {
		return nil, false
	}
	in := make([]byte, 0, len(sealed)+len(tag))
	in = append(append(in, sealed...), tag...)
	plain, err := g.Open(in[:0], c.iv, in, aad)
	return plain, err == nil
}

func (c contentCipher) gcm(key []byte) (cipher.AEAD, error) {
	b, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithTagSize(b, c.tagSize)
}
