package intake

import (
	"strconv"
	"strings"
	"time"

	"cmmpd/smime/trust"
)

// readers adds to a record which certificate was used for whom, each reader once:
// "reader.1" and so on, of which each is the SHA-256 of the certificate, where it was
// found, its type and the reader's address, with " | " between them. The history of
// certificates is read from these (docs/operations.md). "last-known-good" is the time of
// the oldest revocation data that was used although its own time was over.
func (p *passage) readers(detail map[string]string) {
	seen := map[string]bool{}
	var oldest time.Time
	for _, e := range p.envelopes {
		for _, u := range e.readers {
			if u.Cert == nil || seen[u.Address.Key()] {
				continue
			}
			seen[u.Address.Key()] = true
			for _, v := range u.Evidence {
				if v.LastKnown && (oldest.IsZero() || v.Made.Before(oldest)) {
					oldest = v.Made
				}
			}
			if len(seen) > maxListed {
				continue
			}
			detail["reader."+strconv.Itoa(len(seen))] = strings.Join([]string{
				u.Fingerprint, plain(u.Source), plain(trust.TypeOf(u.Cert)), u.Address.String(),
			}, " | ")
		}
	}
	if !oldest.IsZero() {
		detail["last-known-good"] = oldest.UTC().Format(time.RFC3339)
	}
	if len(seen) > maxListed {
		detail["readers"] = strconv.Itoa(len(seen))
	}
}

// plain keeps a name out of the way of what separates the parts.
func plain(s string) string { return strings.ReplaceAll(s, "|", "/") }
