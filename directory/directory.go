// Package directory finds people, posts and groups: it is the one resolver of the
// platform, an LDAP client. It speaks plain LDAP v3 (RFC 4511) and asks nothing that
// only our own server could answer, so that the same code serves an in-process
// embedded directory and an OpenLDAP of the government's own, by Options alone.
//
// "Nobody has this address" and "the directory cannot answer" are never mixed up: the
// first is mail.NotFound, the second mail.Unavailable, which is temporary.
package directory

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

// Options says how to reach the directory and how its entries are read.
type Options struct {
	// Dial opens a connection: in process server.Server.Dial, else what Reach sets.
	Dial func(ctx context.Context) (net.Conn, error)
	// StartTLS, if not nil, upgrades each connection before anything is asked (RFC
	// 4511, section 4.14). It needs ServerName.
	StartTLS *tls.Config
	// Trusted says that the connections of Dial carry the service's identity already
	// (in process): nothing is bound before a search.
	Trusted      bool
	BindDN       string // the service identity of searches; unused if Trusted; empty: anonymous
	BindPassword string
	BaseDN       string
	Names        Names // attribute names; the zero value is our own schema
	Limits       Limits
	Log          *slog.Logger
	Now          func() time.Time
}

// Limits bound what is asked and remembered; zero fields take the defaults.
type Limits struct {
	Connections  int           // for searches, and as many for binds; default 4
	Timeout      time.Duration // of one operation; default 10 s
	CacheTTL     time.Duration // how long an answer may be used again; default 10 s; negative: never
	CacheEntries int           // answers that are remembered; default 10,000
	GroupDepth   int           // groups within groups; default 10
	GroupMembers int           // of a group, those of groups within it too; default 10,000
}

// DefaultLimits are what zero fields of Limits become.
func DefaultLimits() Limits { return Limits{}.withDefaults() }

func (l Limits) withDefaults() Limits {
	for _, d := range []struct {
		field *int
		value int
	}{{&l.Connections, 4}, {&l.CacheEntries, 10000}, {&l.GroupDepth, 10}, {&l.GroupMembers, 10000}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	for _, d := range []*time.Duration{&l.Timeout, &l.CacheTTL} {
		if *d == 0 {
			*d = 10 * time.Second
		}
	}
	return l
}

// Directory is the resolver. It may be used by several goroutines. What it returns may
// be shared with other callers: do not change the slices.
type Directory struct {
	o        Options
	names    Names
	attrs    []string // asked for in every search
	searches *pool
	binds    *pool
	cache    cache
}

// New makes a resolver. It does not connect.
func New(o Options) (*Directory, error) {
	if _, err := ldap.ParseDN(o.BaseDN); err != nil || o.BaseDN == "" {
		return nil, mail.E(mail.Invalid, "the base of the directory is not a distinguished name", err)
	}
	if _, err := ldap.ParseDN(o.BindDN); err != nil {
		return nil, mail.E(mail.Invalid, "the name to bind with is not a distinguished name", err)
	}
	names := o.Names.withDefaults()
	if err := names.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Limits = o.Limits.withDefaults()
	d := &Directory{o: o, names: names, attrs: names.list(), cache: cache{ttl: o.Limits.CacheTTL, max: o.Limits.CacheEntries, now: o.Now}}
	d.searches = newPool(o, true)
	d.binds = newPool(o, false)
	return d, nil
}

// Close closes the pooled connections. Operations that run end with an error.
func (d *Directory) Close() error {
	d.searches.close()
	d.binds.close()
	return nil
}

// Changed drops every cached answer: the directory has been changed. A search that began
// before is not remembered either.
func (d *Directory) Changed() { d.cache.drop() }

// Ready asks the directory whether it answers.
func (d *Directory) Ready(ctx context.Context) error {
	_, err := d.search(ctx, d.o.BaseDN, ldap.ScopeBaseObject, anyEntry, 1)
	return err
}

// Lookup returns the entry that has a as its primary address or as an alias, without
// expansion.
func (d *Directory) Lookup(ctx context.Context, a mail.Address) (Entry, error) {
	s := a.String()
	return d.one(ctx, "mail:"+a.Key(), filterOr(filterEqual(d.names.Mail, s), filterEqual(d.names.Alias, s)))
}

// maxCertified bounds the answer of Certified.
const maxCertified = 1000

// Certified returns entries that have certificates, not more than 1,000: enough to say
// whose a certificate is in most places, and never all of a large directory.
func (d *Directory) Certified(ctx context.Context) ([]Entry, error) {
	return d.cached(ctx, "certified:", d.o.BaseDN, ldap.ScopeWholeSubtree, filterOr(filterHas(d.names.Certificate), filterHas(bare(d.names.SMIME))), maxCertified)
}

// ByUID returns the entry with the uid.
func (d *Directory) ByUID(ctx context.Context, uid string) (Entry, error) {
	return d.one(ctx, "uid:"+strings.ToLower(uid), filterEqual(d.names.UID, uid))
}

// ByAccount returns the person or post whose account that is.
func (d *Directory) ByAccount(ctx context.Context, id mail.AccountID) (Entry, error) {
	return d.one(ctx, "account:"+string(id), filterEqual(d.names.UUID, string(id)))
}

// one returns the only entry that the filter finds below the base.
func (d *Directory) one(ctx context.Context, key, filter string) (Entry, error) {
	list, err := d.cached(ctx, key, d.o.BaseDN, ldap.ScopeWholeSubtree, filter, 2)
	switch {
	case err != nil:
		return Entry{}, err
	case len(list) == 0:
		return Entry{}, notFound()
	case len(list) > 1:
		// Which of them is meant cannot be guessed; somebody has to mend the directory.
		d.o.Log.Error("several directory entries for one name", "first", list[0].DN, "second", list[1].DN)
		return Entry{}, mail.E(mail.Unavailable, "the directory cannot answer now", fmt.Errorf("%s and %s share a name", list[0].DN, list[1].DN))
	}
	return list[0], nil
}

// ByDN returns the entry with the distinguished name.
func (d *Directory) ByDN(ctx context.Context, dn string) (Entry, error) {
	if _, err := ldap.ParseDN(dn); err != nil || dn == "" {
		return Entry{}, notFound()
	}
	list, err := d.cached(ctx, "dn:"+strings.ToLower(dn), dn, ldap.ScopeBaseObject, anyEntry, 1)
	if err == nil && len(list) == 0 {
		err = notFound()
	}
	if err != nil {
		return Entry{}, err
	}
	return list[0], nil
}

func notFound() error { return mail.E(mail.NotFound, "no such mailbox", nil) }

// named finds the entry of a log-in name: DN, address or uid.
func (d *Directory) named(ctx context.Context, name string) (Entry, error) {
	switch {
	case name == "" || len(name) > maxName:
		return Entry{}, notFound()
	case strings.Contains(name, "="):
		if _, err := ldap.ParseDN(name); err == nil {
			return d.ByDN(ctx, name)
		}
		fallthrough // some addresses have an equals sign
	case strings.Contains(name, "@"):
		a, err := mail.ParseAddress(name)
		if err != nil {
			return Entry{}, notFound()
		}
		return d.Lookup(ctx, a)
	}
	return d.ByUID(ctx, name)
}

// Principal returns who the name (DN, address or uid) is, without a proof. They may
// send as their own addresses and those of the posts that they hold.
func (d *Directory) Principal(ctx context.Context, name string) (mail.Principal, error) {
	e, err := d.named(ctx, name)
	if err != nil {
		return mail.Principal{}, err
	}
	if e.Kind == Group {
		return mail.Principal{}, notFound()
	}
	held, err := d.cached(ctx, "held:"+strings.ToLower(e.DN), d.o.BaseDN, ldap.ScopeWholeSubtree, filterEqual(d.names.Holder, e.DN), 0)
	if err != nil {
		return mail.Principal{}, err
	}
	p := mail.Principal{UID: e.UID, DN: e.DN, Name: e.Name, Account: e.Account, Address: e.Address, Roles: e.Roles, Department: e.Department}
	for _, x := range append([]Entry{e}, held...) {
		if !x.Address.IsZero() {
			p.SendAs = append(p.SendAs, x.Address)
		}
		p.SendAs = append(p.SendAs, x.Aliases...)
	}
	return p, nil
}

// Resolve returns the mailboxes (persons and posts) that a stands for. Aliases and
// groups, nested too, are followed; each mailbox is returned once. NotFound if
// nobody has the address; Unavailable if the directory cannot answer now; TooLarge for
// a group beyond the limits.
func (d *Directory) Resolve(ctx context.Context, a mail.Address) ([]Entry, error) {
	e, err := d.Lookup(ctx, a)
	if err != nil {
		return nil, err
	}
	x := expansion{d: d, seen: map[string]bool{}}
	if err := x.add(ctx, e, 0); err != nil {
		return nil, err
	}
	if len(x.out) == 0 {
		return nil, notFound()
	}
	return x.out, nil
}

// expansion is one Resolve.
type expansion struct {
	d    *Directory
	seen map[string]bool // DNs, lower case: loops end and nobody comes twice
	out  []Entry
}

func (x *expansion) add(ctx context.Context, e Entry, depth int) error {
	key := strings.ToLower(e.DN)
	if x.seen[key] {
		return nil
	}
	x.seen[key] = true
	if e.Kind != Group {
		if e.Account == "" || e.Address.IsZero() {
			x.d.o.Log.Warn("directory entry without a mailbox", "dn", e.DN)
			return nil
		}
		x.out = append(x.out, e)
		return nil
	}
	if depth >= x.d.o.Limits.GroupDepth {
		return mail.E(mail.TooLarge, "the group is nested too deeply", fmt.Errorf("at %s", e.DN))
	}
	for _, dn := range e.Members {
		if len(x.seen) > x.d.o.Limits.GroupMembers {
			return mail.E(mail.TooLarge, "the group has too many members", fmt.Errorf("at %s", e.DN))
		}
		m, err := x.d.ByDN(ctx, dn)
		if mail.KindOf(err) == mail.NotFound && err != nil {
			x.d.o.Log.Warn("a group names a member that does not exist", "group", e.DN, "member", dn)
			continue
		}
		if err != nil {
			return err
		}
		if err := x.add(ctx, m, depth+1); err != nil {
			return err
		}
	}
	return nil
}
