// Package smime is the mechanics of confidential mail (RFC 8551, RFC 9788): which
// certificate of a person can be used, sealing a message to exactly its readers,
// looking at what came already protected, opening and verifying. What must be sealed
// or refused is decided by policy; where it is kept is storage's.
package smime

import (
	"crypto/rand"
	"crypto/x509"
	"io"
	"log/slog"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// Options of a Gateway.
type Options struct {
	Trust *trust.Verifier // nil: no certificate is trusted
	// Pinned are the certificates that an administrator laid down for an address; may be nil.
	Pinned  func(a mail.Address) []*x509.Certificate
	Sources []Source // asked in order for those of whom the directory has no certificate that can be used
	Book    Book     // remembers certificates of good signatures; nil: nobody does
	// Signers returns the domain signing authority of a domain (RFC 3183), by which
	// what the gateway seals is signed inside; nil or false: none.
	Signers func(domain string) (cms.SignerSpec, bool)
	// Own returns the signing key of the person or post with an address; nil or false: there is none.
	Own func(a mail.Address) (cms.SignerSpec, bool)
	// SHA1 and TripleDES are for reading old mail only: then signatures made with SHA-1 can be
	// good, and what was encrypted by triple DES is opened. The door for new mail sets neither.
	SHA1, TripleDES bool

	Now  func() time.Time
	Rand io.Reader
	Log  *slog.Logger
}

// Gateway seals, inspects, opens and verifies. It keeps no message and may be used by
// several goroutines at once.
type Gateway struct {
	o      Options
	lines  *encoder
	parsed parsed
}

// New makes a Gateway.
func New(o Options) *Gateway {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Signers == nil {
		o.Signers = func(string) (cms.SignerSpec, bool) { return cms.SignerSpec{}, false }
	}
	if o.Own == nil {
		o.Own = func(mail.Address) (cms.SignerSpec, bool) { return cms.SignerSpec{}, false }
	}
	return &Gateway{o: o, lines: newEncoder()}
}

// limits are the bounds of what is read, with what is outdated.
func (g *Gateway) limits() cms.Limits { return cms.Limits{SHA1: g.o.SHA1, TripleDES: g.o.TripleDES} }

// Candidate is a person or post with what the directory says about them.
type Candidate struct {
	Address       mail.Address
	Aliases       []mail.Address // their other addresses, which their certificate may name instead
	Name          string
	Certificates  [][]byte // DER
	SMIME         [][]byte // userSMIMECertificate (RFC 2798, section 2.8): further certificates, and what their client reads
	Profile       string   // the directory's cmmpdCipherProfile: ProfileGCM, ProfileOAEP, ProfileOld, or ""
	FromDirectory bool
	Soft          bool // what is sent bears a certificate of which it is not known whether it is revoked
}

// Usable is a candidate with the certificate to encrypt to, and what they can read.
type Usable struct {
	Candidate
	Cert        *x509.Certificate
	Fingerprint string           // the SHA-256 of Cert, in hex
	Evidence    []trust.Evidence // how it is known that Cert is not revoked
	Source      string           // FromDirectory, FromPin, or a Source's name
	GCM         bool             // AES-256-GCM; AES-256-CBC everybody reads
	Transport   cms.KeyTransport // of an RSA key; an elliptic curve's agrees on a key either way
}

// Kind is how a message is protected, judged by its root entity alone: an encrypted
// part deeper inside protects nothing around it (EFAIL).
type Kind uint8

// The kinds.
const (
	Plain           Kind = iota // neither signed nor encrypted by S/MIME
	SignedOnly                  // multipart/signed or opaque SignedData
	Encrypted                   // EnvelopedData; Protection.Enveloped is set
	EncryptedBroken             // says that it is encrypted, but is damaged or of a form that we cannot check
	OtherCMS                    // compressed data, certificates only, and other CMS content that hides nothing
)

var kindNames = [...]string{"plain", "signed", "encrypted", "encrypted-broken", "other-cms"}

func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown"
}

// Protection is what Inspect found.
type Protection struct {
	Kind      Kind
	Enveloped *cms.Enveloped // of Encrypted
	Signed    bool           // of Encrypted: a signature is around it (RFC 2634, section 1.1: triple wrapping)
	Reason    string         // of EncryptedBroken and OtherCMS: what was found, for the log
}

// SealOptions say who may read a sealed message and what is shown of it.
type SealOptions struct {
	// Sender is who has proved to be the author: their domain signs. Zero: nobody
	// vouches for the From field, and the content is not signed.
	Sender mail.Address
	// Own: Sender is the one author, and their own key signs in place of their domain's.
	Own        bool
	Recipients []Usable // everyone who shall be able to open this copy, the sender included where wanted
	// BccOf: this is the copy of one blind recipient; their address alone stays in Bcc, within.
	BccOf *mail.Address
	// KeepBcc: this is the author's own copy; who the blind recipients are stays, within.
	KeepBcc bool
	// Label is the label, and Marking how it is written: outside, whatever the author wrote
	// there, within and in the domain's signature. Without a label the author's fields are shown.
	Label   mail.Label
	Marking Marking
}
