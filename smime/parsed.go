package smime

import (
	"bytes"
	"crypto/x509"
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
	known map[string]*x509.Certificate // by the DER; nobody changes them; guarded by mu
}

// certificate is trust.ParseCertificate.
func (p *parsed) certificate(der []byte) (*x509.Certificate, error) {
	p.mu.RLock()
	c := p.known[string(der)]
	p.mu.RUnlock()
	if c != nil {
		return c, nil
	}
	c, err := trust.ParseCertificate(bytes.Clone(der)) // of which the certificate keeps parts
	if err != nil || len(der) > maxParsedSize {
		return c, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil || len(p.known) >= maxParsed {
		p.known = map[string]*x509.Certificate{}
	}
	p.known[string(der)] = c
	return c, nil
}
