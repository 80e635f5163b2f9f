// Package mail is the vocabulary that every other package shares: addresses,
// envelopes, principals, labels and errors. It does no I/O and imports only the
// standard library.
package mail

import (
	"crypto/rand"
	"encoding/base32"
	"strings"
)

// AccountID is the directory's stable identifier of a mailbox owner (entryUUID,
// RFC 4530, in lower case). Accounts are keyed by it, never by address: people
// move, posts stay.
type AccountID string

// ID names one acceptance of a message: it is in the reply to the client, in the
// Received field and in the log. It says nothing about the message.
type ID string

var idEncoding = base32.NewEncoding("abcdefghijkmnpqrstuvwxyz23456789").WithPadding(base32.NoPadding)

// NewID returns a fresh random ID of 26 characters.
func NewID() ID {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		panic(err) // crypto/rand never fails on a supported system
	}
	return ID(idEncoding.EncodeToString(b[:]))
}

// Label is the canonical name of a security label, lower case, such as
// "confidential". Which labels exist and how they are ordered is policy's
// registry. The empty Label means that nothing was said.
type Label string

// The labels of the default registry, weakest first.
const (
	Unclassified Label = "unclassified"
	Restricted   Label = "restricted"
	Confidential Label = "confidential"
	Secret       Label = "secret"
	TopSecret    Label = "top-secret"
)

// Principal is somebody who has proved who they are.
type Principal struct {
	UID        string    // the log-in name, unique in the directory
	DN         string    // the directory entry
	Name       string    // the display name
	Account    AccountID // the mailbox account; empty if they have none
	Address    Address   // the primary address
	SendAs     []Address // all addresses they may send as, the primary one included
	Roles      []string  // administrative roles, for instance "admin", "auditor"
	Department string    // the organisational unit
}

// MaySendAs says whether p may use a as envelope sender or author.
func (p *Principal) MaySendAs(a Address) bool {
	for _, own := range p.SendAs {
		if own.Equal(a) {
			return true
		}
	}
	return p.Address.Equal(a)
}

// HasRole says whether p holds the administrative role.
func (p *Principal) HasRole(role string) bool {
	for _, r := range p.Roles {
		if strings.EqualFold(r, role) {
			return true
		}
	}
	return false
}

// Envelope is what the client said outside the message (RFC 5321, section 2.3.1),
// and who the client is.
type Envelope struct {
	ID     ID
	From   Address    // the zero Address is the null sender <>
	To     []Address  // as given, in order, without duplicates
	Sender *Principal // nil: the client has not logged in (MX)
	Client Client     // where it came from
	Size   int64      // the announced size; 0 if none was
}

// ProtocolQueue is the Protocol of what our own queue hands in: reports on deliveries.
const ProtocolQueue = "queue"

// Client says where a message or a command came from, for trace fields and audit.
type Client struct {
	Protocol string // "smtp", "submission", "submissions", "imap", "imaps", "ldap", "admin", ProtocolQueue
	Remote   string // address and port
	Helo     string // the name given in EHLO
	TLS      string // version and cipher suite; empty if the line is in clear
}
