package directory

import (
	"context"
	"crypto/x509"
	"net"
	"net/url"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

// ReachPublic is Reach for a directory of public data, such as an authority publishes its
// certificates in: ldap:// is in clear, and nobody binds. What it answers must be
// verified by other means.
func (o *Options) ReachPublic(address string, roots *x509.CertPool) error {
	if err := o.Reach(address, roots); err != nil {
		return err
	}
	o.StartTLS, o.BindDN, o.BindPassword, o.Trusted = nil, "", "", false
	if u, err := url.Parse(address); err == nil && u.Scheme == "ldap" {
		o.Dial = dialer((&net.Dialer{}).DialContext, u, "389")
	}
	return nil
}

// maxPublished bounds the entries with one address in an authority's directory.
const maxPublished = 20

// Published returns the certificates of all entries that have the address: an authority
// may have an entry for each of them. None is no error.
func (d *Directory) Published(ctx context.Context, a mail.Address) ([][]byte, error) {
	list, err := d.cached(ctx, "published:"+a.Key(), d.o.BaseDN, ldap.ScopeWholeSubtree, filterEqual(d.names.Mail, a.String()), maxPublished)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, e := range list {
		if e.has(a) {
			out = append(out, e.Certificates...)
		}
	}
	return out, nil
}

// has says whether the address is the entry's.
func (e *Entry) has(a mail.Address) bool {
	for _, own := range append([]mail.Address{e.Address}, e.Aliases...) {
		if strings.EqualFold(own.Key(), a.Key()) {
			return true
		}
	}
	return false
}
