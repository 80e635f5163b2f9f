package smime

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"sync"

	"cmmpd/smime/trust"
)

// Bounds of parsed; beyond them everything is forgotten.
const (
	maxParsed     = 1000
	maxParsedSize = 8 << 10 // of one certificate that is remembered
)

// parsed remembers certificates of the directory as they were read: to read one takes half as long as to encrypt to it. It says
// nothing of what they are worth. The zero value is empty; it may be used by several goroutines at once.
type parsed struct {
	mu    sync.RWMutex
	known map[string]read // by the DER; nobody changes them; guarded by mu
}

// read is a certificate that was read, and its fingerprint.
type read struct {
	cert  *x509.Certificate
	print string
}

// fingerprint is the SHA-256 of c, in hex.
func (p *parsed) fingerprint(c *x509.Certificate) string {
	p.mu.RLock()
	r, ok := p.known[string(c.Raw)]
	p.mu.RUnlock()
	if ok {
		return r.print
	}
	return fingerprint(c)
}

func fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// certificate is trust.ParseCertificate.
func (p *parsed) certificate(der []byte) (*x509.Certificate, error) {
	p.mu.RLock()
	r, ok := p.known[string(der)]
	p.mu.RUnlock()
	if ok {
		return r.cert, nil
	}
	c, err := trust.ParseCertificate(bytes.Clone(der)) // of which the certificate keeps parts
	if err != nil || len(der) > maxParsedSize {
		return c, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxParsed {
		p.known = map[string]read{}
	}
	p.known[string(der)] = read{c, fingerprint(c)}
	return c, nil
}
