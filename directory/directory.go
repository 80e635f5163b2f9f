// Package directory finds people, posts and groups: it is the one resolver of the
// platform, an LDAP client. It speaks plain LDAP v3 (RFC 4511) and asks nothing that
// only our own server could answer, so that the same code serves an in-process
// embedded directory and an OpenLDAP of the government's own, by Options alone.
package directory

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"

	"cmmpd/internal/mail"
)

// Options says how to reach the directory and how its entries are read.
type Options struct {
	// Dial opens a connection: in process server.Server.Dial, else TCP or TCP with TLS.
	Dial func(ctx context.Context) (net.Conn, error)
	// StartTLS, if not nil, upgrades each connection before anything is asked (RFC 4511, 4.14).
	StartTLS *tls.Config
	// Trusted says that the connections of Dial carry the service's identity already
	// (in process): nothing is bound before a search.
	Trusted      bool
	BindDN       string // the service identity of searches; unused if Trusted
	BindPassword string
	BaseDN       string
	Names        Names         // attribute names; the zero value is our own schema
	Connections  int           // connections for searches; default 4
	Timeout      time.Duration // of one operation; default 10 s
	CacheTTL     time.Duration // how long an answer may be used again; default 10 s; negative: never
	CacheEntries int           // default 10,000
	Log          *slog.Logger
	Now          func() time.Time
}

// Kind says what an entry is.
type Kind uint8

// The kinds of entries.
const (
	Person Kind = iota
	Post
	Group
)

// Entry is one person, post or group of the directory.
type Entry struct {
	Kind         Kind
	Account      mail.AccountID // entryUUID; empty for groups
	UID          string
	DN           string
	Name         string // for people to read
	Address      mail.Address
	Aliases      []mail.Address
	Certificates [][]byte // DER
	Profile      string   // "", "oaep" or "pkcs1v15"
	Clearance    mail.Label
	Members      []string // DNs, of a group
	Holder       string   // DN, of a post
	Roles        []string
	Department   string
}

// Directory is the resolver. It may be used by several goroutines.
type Directory struct {
	o Options
}

var errUnfinished = mail.E(mail.Unsupported, "not yet served", nil)

// New makes a resolver. It does not connect.
func New(o Options) (*Directory, error) { return &Directory{o: o}, nil }

// Close closes the pooled connections.
func (d *Directory) Close() error { return nil }

// Ready asks the directory whether it answers.
func (d *Directory) Ready(ctx context.Context) error { return errUnfinished }

// Changed drops every cached answer: the directory has been changed.
func (d *Directory) Changed() {}

// Resolve returns the mailboxes (persons and posts) that a stands for. Aliases and
// groups, nested too, are followed; each mailbox is returned once. NotFound if
// nobody has the address; Unavailable if the directory cannot answer now.
func (d *Directory) Resolve(ctx context.Context, a mail.Address) ([]Entry, error) {
	return nil, errUnfinished
}

// Lookup returns the entry that has a as its primary address or as an alias, without
// expansion.
func (d *Directory) Lookup(ctx context.Context, a mail.Address) (Entry, error) {
	return Entry{}, errUnfinished
}

// ByUID returns the entry with the uid.
func (d *Directory) ByUID(ctx context.Context, uid string) (Entry, error) {
	return Entry{}, errUnfinished
}

// ByDN returns the entry with the distinguished name.
func (d *Directory) ByDN(ctx context.Context, dn string) (Entry, error) {
	return Entry{}, errUnfinished
}

// Principal returns who the name (DN, address or uid) is, without a proof.
func (d *Directory) Principal(ctx context.Context, name string) (mail.Principal, error) {
	return mail.Principal{}, errUnfinished
}

// Bind proves name (DN, address or uid) by its password. AuthFailed if it is not
// good, unknown names included.
func (d *Directory) Bind(ctx context.Context, name, password string) error { return errUnfinished }
