package main

import (
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// recheck is how often a handshake looks whether the files have changed.
const recheck = time.Minute

// certificate is the server's certificate and key, read again when the files change. Connections that stand are not
// touched. All methods may be called concurrently.
type certificate struct {
	certFile, keyFile string
	key               crypto.Signer // in a token; nil: in keyFile
	log               *slog.Logger
	meter             *meter
	now               func() time.Time
	changing          func(fingerprint string) error // is told of a certificate before it is in force; nil: nobody is told

	current atomic.Pointer[tls.Certificate]
	next    atomic.Int64 // when a handshake may look again, Unix nanoseconds

	mu   sync.Mutex // held while reading; guards what follows
	seen [2]stamp   // of the files when they were last read, well or not
}

// stamp tells one state of a file from another.
type stamp struct {
	modified time.Time
	size     int64
}

func openCertificate(certFile, keyFile string, key crypto.Signer, log *slog.Logger, m *meter) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, key: key, log: log, meter: m, now: time.Now}
	c.seen = c.stamps()
	pair, err := c.load()
	if err != nil {
		return nil, err
	}
	if now := c.now(); now.After(pair.Leaf.NotAfter) || now.Before(pair.Leaf.NotBefore) {
		log.Warn("the server certificate is not valid now: clients will refuse it", "from", pair.Leaf.NotBefore, "to", pair.Leaf.NotAfter)
	}
	c.current.Store(&pair)
	c.next.Store(c.now().Add(recheck).UnixNano())
	return c, nil
}

// load reads the pair.
func (c *certificate) load() (pair tls.Certificate, err error) {
	if c.key == nil {
		return tls.LoadX509KeyPair(c.certFile, c.keyFile)
	}
	chain, err := readCertificates([]string{c.certFile})
	if err != nil {
		return pair, err
	}
	if own, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !own.Equal(c.key.Public()) {
		return pair, fmt.Errorf("%s is not the certificate of the key %s", c.certFile, c.keyFile)
	}
	for _, cert := range chain {
		pair.Certificate = append(pair.Certificate, cert.Raw)
	}
	pair.PrivateKey, pair.Leaf = c.key, chain[0]
	return pair, nil
}

// get is tls.Config.GetCertificate.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now, due := c.now(), c.next.Load()
	if now.UnixNano() >= due && c.next.CompareAndSwap(due, now.Add(recheck).UnixNano()) {
		c.refresh()
	}
	return c.current.Load(), nil
}

func (c *certificate) notAfter() time.Time { return c.current.Load().Leaf.NotAfter }

// refresh reads the files if they have changed.
func (c *certificate) refresh() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stamps() != c.seen {
		c.read()
	}
}

// reload reads the files.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read()
}

// read takes the new pair if it is good; otherwise the old one stays. c.mu is held.
func (c *certificate) read() {
	before := c.stamps()
	pair, err := c.load()
	if err == nil {
		err = c.usable(&pair)
	}
	c.seen = before // a change while it was read is seen the next time
	if err == nil && c.changing != nil {
		if err = c.changing(sum(pair.Leaf.Raw)); err != nil {
			c.seen = [2]stamp{} // it is tried again
		}
	}
	if err != nil {
		c.meter.reloads.Inc("refused")
		c.log.Error("the new server certificate is not taken; the old one stays", "file", c.certFile, "err", err)
		return
	}
	c.meter.reloads.Inc("ok")
	c.current.Store(&pair)
	c.log.Info("server certificate read", "serial", fmt.Sprintf("%x", pair.Leaf.SerialNumber), "until", pair.Leaf.NotAfter)
}

// fingerprint is SHA-256 of the certificate in use, in hexadecimal.
func (c *certificate) fingerprint() string { return sum(c.current.Load().Leaf.Raw) }

func (c *certificate) usable(pair *tls.Certificate) error {
	now := c.now()
	if now.Before(pair.Leaf.NotBefore) {
		return fmt.Errorf("it is valid only from %s", pair.Leaf.NotBefore.Format(time.RFC3339))
	}
	if now.After(pair.Leaf.NotAfter) {
		return fmt.Errorf("it expired on %s", pair.Leaf.NotAfter.Format(time.RFC3339))
	}
	if len(pair.Leaf.DNSNames)+len(pair.Leaf.IPAddresses) == 0 {
		return errors.New("it names no host")
	}
	return nil
}

// stamps are the states of both files; of one that is not there, the zero stamp.
func (c *certificate) stamps() (s [2]stamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if st, err := os.Stat(name); err == nil {
			s[i] = stamp{st.ModTime(), st.Size()}
		}
	}
	return s
}
