package directory

import (
	"context"
	"errors"
	"fmt"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

// maxName is the length of a log-in name.
const maxName = 512

// cached is search with the memory of answers.
func (d *Directory) cached(ctx context.Context, key, base string, scope int, filter string, limit int) ([]Entry, error) {
	list, ok, generation := d.cache.get(key)
	if ok {
		return list, nil
	}
	list, err := d.search(ctx, base, scope, filter, limit)
	if err != nil {
		return nil, err
	}
	d.cache.put(key, list, generation)
	return list, nil
}

// search asks the directory. No entry is no error. limit 0: all.
func (d *Directory) search(ctx context.Context, base string, scope int, filter string, limit int) ([]Entry, error) {
	req := ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, limit, int(d.o.Limits.Timeout.Seconds()), false, filter, d.attrs, nil)
	var res *ldap.SearchResult
	err := d.searches.do(ctx, func(c *ldap.Conn) (err error) {
		res, err = c.Search(req)
		return err
	})
	switch {
	case err == nil, ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) && limit > 0:
	case scope == ldap.ScopeBaseObject && (ldap.IsErrorWithCode(err, ldap.LDAPResultNoSuchObject) || ldap.IsErrorWithCode(err, ldap.LDAPResultInvalidDNSyntax)):
		return nil, nil
	case ctx.Err() != nil:
		return nil, mail.E(mail.Unavailable, "the directory did not answer in time", errors.Join(ctx.Err(), err))
	default:
		// A base that does not exist is a fault of the configuration, not of the question.
		d.o.Log.Error("directory search failed", "err", err)
		return nil, mail.E(mail.Unavailable, "the directory cannot answer now", err)
	}
	var out []Entry
	for _, e := range res.Entries {
		out = append(out, d.names.read(e))
	}
	return out, nil
}

// Bind proves name (DN, address or uid) by its password. AuthFailed if it is not good,
// with one text and at the same cost for names that nobody has.
func (d *Directory) Bind(ctx context.Context, name, password string) error {
	// An empty password would be an unauthenticated bind, which servers answer with
	// success (RFC 4513, section 5.1.2).
	if password == "" {
		return authFailed(errors.New("empty password"))
	}
	e, err := d.named(ctx, name)
	dn := e.DN
	if err != nil {
		if mail.KindOf(err) != mail.NotFound {
			return err
		}
		dn = childDN(d.names.UID, "nobody", d.o.BaseDN)
	}
	err = d.binds.do(ctx, func(c *ldap.Conn) error { return c.Bind(dn, password) })
	switch {
	case err == nil && e.DN == "":
		return authFailed(errors.New("no such name"))
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return mail.E(mail.Unavailable, "the directory did not answer in time", errors.Join(ctx.Err(), err))
	}
	for _, code := range []uint16{
		ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
		ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultInsufficientAccessRights,
	} {
		if ldap.IsErrorWithCode(err, code) {
			return authFailed(err)
		}
	}
	d.o.Log.Error("directory bind failed", "err", err)
	return mail.E(mail.Unavailable, "the directory cannot answer now", err)
}

func authFailed(cause error) error {
	return mail.E(mail.AuthFailed, "authentication failed", fmt.Errorf("bind: %w", cause))
}
