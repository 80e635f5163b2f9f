package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// maxListBytes bounds one revocation list file.
const maxListBytes = 64 << 20

// clockSkew is how far in the future a list's thisUpdate may lie.
const clockSkew = 5 * time.Minute

// lists holds the revocation lists of the configured files. A file is read again when
// its size or date changes; when that fails the last good list stays in use until it
// is too old by its own dates.
type lists struct {
	paths []string
	log   *slog.Logger

	mu     sync.Mutex
	files  map[string]*listFile // by path, guarded by mu
	failed map[string]string    // the complaint last logged for a path, guarded by mu
}

// listFile is one file as last seen.
type listFile struct {
	size    int64
	changed time.Time
	lists   []*revocations
}

// revocations is one list, made ready for look-ups.
type revocations struct {
	list    *x509.RevocationList
	serial  map[string]time.Time // by the serial number's bytes
	reject  string               // why the list cannot be used, if so
	trusted map[string]bool      // whether its signature is good under the certificate with these bytes; guarded by lists.mu
}

// answer is what is known about one certificate.
type answer struct {
	revoked bool
	at      time.Time // of revocation; otherwise the list's thisUpdate
	unknown bool      // no list of this issuer is configured
	problem string    // there is one, but it cannot be relied on
}

func openLists(paths []string, log *slog.Logger) (*lists, error) {
	l := &lists{paths: paths, log: log, files: map[string]*listFile{}, failed: map[string]string{}}
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return nil, fmt.Errorf("revocation list: %w", err)
		}
	}
	for _, p := range l.expand() {
		if err := l.load(p); err != nil {
			return nil, fmt.Errorf("revocation list %s: %w", p, err)
		}
	}
	return l, nil
}

// expand turns folders into the files in them.
func (l *lists) expand() []string {
	var out []string
	for _, p := range l.paths {
		entries, err := os.ReadDir(p)
		if err != nil { // a file, or a folder that has gone: load says so
			out = append(out, p)
			continue
		}
		for _, e := range entries {
			if e.Type().IsRegular() && e.Name()[0] != '.' {
				out = append(out, filepath.Join(p, e.Name()))
			}
		}
	}
	return out
}

// refresh reads what has changed since.
func (l *lists) refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.expand() {
		err := l.load(p)
		switch {
		case err == nil:
			delete(l.failed, p)
		case l.failed[p] != err.Error():
			l.failed[p] = err.Error()
			l.log.Error("a revocation list cannot be read; the last good one stays in use", "file", p, "error", err)
		}
	}
}

// load reads one file unless it is unchanged. The caller holds mu, or is alone.
func (l *lists) load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fs.ErrInvalid
	}
	old := l.files[path]
	if old != nil && old.size == st.Size() && old.changed.Equal(st.ModTime()) {
		return nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxListBytes+1))
	if err != nil {
		return err
	}
	if len(b) > maxListBytes {
		return errors.New("larger than 64 MiB")
	}
	parsed, err := parseLists(b)
	if err != nil {
		return err
	}
	l.files[path] = &listFile{size: st.Size(), changed: st.ModTime(), lists: parsed}
	return nil
}

// parseLists reads one list in DER, or any number in PEM.
func parseLists(b []byte) ([]*revocations, error) {
	if len(b) > 0 && b[0] == 0x30 {
		r, err := parseList(b)
		if err != nil {
			return nil, err
		}
		return []*revocations{r}, nil
	}
	var out []*revocations
	for len(b) > 0 {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		r, err := parseList(block.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	if len(out) == 0 {
		return nil, errors.New("holds no revocation list")
	}
	return out, nil
}

func parseList(der []byte) (*revocations, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	r := &revocations{list: list, serial: make(map[string]time.Time, len(list.RevokedCertificateEntries)), trusted: map[string]bool{}}
	r.reject = unknownCritical(list)
	for i := range list.RevokedCertificateEntries {
		e := &list.RevokedCertificateEntries[i]
		r.serial[string(e.SerialNumber.Bytes())] = e.RevocationTime
	}
	return r, nil
}

var oidDelta = asn1.ObjectIdentifier{2, 5, 29, 27}

// unknownCritical names what makes a list mean something else than "these
// certificates of its issuer are revoked, and no others": delta, partitioned and
// indirect lists say so by critical extensions (RFC 5280, sections 5.2 and 5.3).
func unknownCritical(list *x509.RevocationList) string {
	for _, e := range list.Extensions {
		if e.Critical || e.Id.Equal(oidDelta) {
			return "the revocation list is partitioned, indirect or incomplete, or has an unknown critical extension"
		}
	}
	for i := range list.RevokedCertificateEntries {
		for _, e := range list.RevokedCertificateEntries[i].Extensions {
			if e.Critical {
				return "the revocation list has entries with an unknown critical extension"
			}
		}
	}
	return ""
}

// lookup finds the newest list that the issuer signed and looks c up in it.
func (l *lists) lookup(c, issuer *x509.Certificate, now time.Time, maxAge time.Duration) answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	best := answer{unknown: true}
	var newest *revocations
	for _, f := range l.files {
		for _, r := range f.lists {
			if !bytes.Equal(r.list.RawIssuer, issuer.RawSubject) {
				continue
			}
			if best.unknown {
				best = answer{problem: "the revocation list is not signed by " + nameOf(issuer)}
			}
			if !r.signedBy(issuer) {
				continue
			}
			if r.reject != "" {
				best.problem = r.reject
				continue
			}
			if newest == nil || r.newer(newest) {
				newest = r
			}
		}
	}
	if newest == nil {
		return best
	}
	return newest.lookup(c, now, maxAge)
}

// newer compares by date, and within a second by number (RFC 5280, section 5.2.3).
func (r *revocations) newer(than *revocations) bool {
	a, b := r.list, than.list
	if !a.ThisUpdate.Equal(b.ThisUpdate) {
		return a.ThisUpdate.After(b.ThisUpdate)
	}
	return a.Number != nil && b.Number != nil && a.Number.Cmp(b.Number) > 0
}

// lookup looks one certificate up. A list that is too old still proves a revocation.
func (r *revocations) lookup(c *x509.Certificate, now time.Time, maxAge time.Duration) answer {
	if at, ok := r.serial[string(c.SerialNumber.Bytes())]; ok {
		return answer{revoked: true, at: at}
	}
	made, next := r.list.ThisUpdate, r.list.NextUpdate
	switch {
	case made.After(now.Add(clockSkew)):
		return answer{problem: "the revocation list is dated in the future, " + made.UTC().Format(time.RFC3339)}
	case next.IsZero() && maxAge == 0:
		return answer{problem: "the revocation list does not say how long it holds"}
	case !next.IsZero() && now.After(next):
		return answer{problem: "the revocation list held only until " + next.UTC().Format(time.RFC3339)}
	case maxAge > 0 && now.Sub(made) > maxAge:
		return answer{problem: "the revocation list is too old, of " + made.UTC().Format(time.RFC3339)}
	}
	return answer{at: made}
}

// signedBy checks the signature once for each issuer certificate: it must be an
// authority whose key usage includes cRLSign, where it states one.
func (r *revocations) signedBy(issuer *x509.Certificate) bool {
	key := string(issuer.Raw)
	good, known := r.trusted[key]
	if !known {
		good = r.list.CheckSignatureFrom(issuer) == nil
		if len(r.trusted) < 16 {
			r.trusted[key] = good
		}
	}
	return good
}
