package directory

import (
	"strings"

	"github.com/go-ldap/ldap/v3"

	"cmmpd/internal/mail"
)

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
	SMIME        [][]byte // userSMIMECertificate (RFC 2798, section 2.8): SignedData with certificates and capabilities
	Profile      string   // what their mail client reads: "gcm", "oaep", "pkcs1v15", or "" for not said
	Clearance    mail.Label
	Members      []string // DNs, of a group
	Holder       string   // DN, of a post
	Roles        []string
	Department   string
}

// Names are the attribute names that entries are read by. An empty field takes the
// name of our own schema.
type Names struct {
	UID         string // "uid"
	Name        string // "displayName"; where it is absent, cn
	Mail        string // "mail"
	Alias       string // "mailAlternateAddress"
	Certificate string // "userCertificate;binary"
	SMIME       string // "userSMIMECertificate;binary"
	Profile     string // "cmmpdCipherProfile"
	Clearance   string // "cmmpdClearance"
	Role        string // "cmmpdRole"
	Member      string // "member"
	Holder      string // "roleOccupant"
	Department  string // "ou"
	UUID        string // "entryUUID"
}

func (n *Names) fields() []*string {
	return []*string{&n.UID, &n.Name, &n.Mail, &n.Alias, &n.Certificate, &n.SMIME, &n.Profile, &n.Clearance, &n.Role, &n.Member, &n.Holder, &n.Department, &n.UUID}
}

// DefaultNames are those of our own schema.
func DefaultNames() Names {
	return Names{
		"uid", "displayName", "mail", "mailAlternateAddress", "userCertificate;binary", "userSMIMECertificate;binary", "cmmpdCipherProfile", "cmmpdClearance", "cmmpdRole",
		"member", "roleOccupant", "ou", "entryUUID",
	}
}

func (n Names) withDefaults() Names {
	own := DefaultNames()
	defaults := own.fields()
	for i, f := range n.fields() {
		if *f == "" {
			*f = *defaults[i]
		}
	}
	return n
}

// check refuses names that could change the meaning of a filter.
func (n Names) check() error {
	for _, f := range n.fields() {
		if strings.Trim(strings.ToLower(*f), "abcdefghijklmnopqrstuvwxyz0123456789-;.") != "" {
			return mail.E(mail.Invalid, "not the name of a directory attribute: "+*f, nil)
		}
	}
	return nil
}

func (n Names) list() []string {
	out := []string{"objectClass", "cn"}
	for _, f := range n.fields() {
		out = append(out, *f)
	}
	// userSMIMECertificate has no syntax that asks for ;binary: OpenLDAP knows it without alone.
	return append(out, bare(n.SMIME))
}

// bare is an attribute's name without options.
func bare(name string) string {
	name, _, _ = strings.Cut(name, ";")
	return name
}

// read makes an Entry of what the directory answered. Values that are not what they
// should be are left out.
func (n Names) read(e *ldap.Entry) Entry {
	first := e.GetEqualFoldAttributeValue
	out := Entry{
		DN: e.DN, UID: first(n.UID), Name: first(n.Name), Profile: strings.ToLower(first(n.Profile)), Clearance: mail.Label(strings.ToLower(first(n.Clearance))),
		Members: e.GetEqualFoldAttributeValues(n.Member), Holder: first(n.Holder), Roles: e.GetEqualFoldAttributeValues(n.Role), Department: first(n.Department),
		Account: mail.AccountID(strings.ToLower(first(n.UUID))),
	}
	for _, alternative := range []string{first("cn"), out.UID} {
		if out.Name == "" {
			out.Name = alternative
		}
	}
	for _, list := range [][]string{e.GetEqualFoldAttributeValues(n.Mail), e.GetEqualFoldAttributeValues(n.Alias)} {
		for _, s := range list {
			a, err := mail.ParseAddress(s)
			switch {
			case err != nil:
			case out.Address.IsZero():
				out.Address = a
			default:
				out.Aliases = append(out.Aliases, a)
			}
		}
	}
	// Whether the answer says userCertificate or userCertificate;binary is the server's taste.
	for _, a := range e.Attributes {
		switch name := bare(a.Name); {
		case strings.EqualFold(name, bare(n.Certificate)):
			out.Certificates = append(out.Certificates, a.ByteValues...)
		case strings.EqualFold(name, bare(n.SMIME)):
			out.SMIME = append(out.SMIME, a.ByteValues...)
		}
	}
	out.Kind = n.kind(e)
	if out.Kind == Group {
		out.Account = ""
	}
	return out
}

func (n Names) kind(e *ldap.Entry) Kind {
	kind := Person
	for _, c := range e.GetEqualFoldAttributeValues("objectClass") {
		switch strings.ToLower(c) {
		case "groupofnames", "groupofuniquenames", "cmmpdgroup":
			return Group
		case "organizationalrole":
			kind = Post
		}
	}
	if len(e.GetEqualFoldAttributeValues(n.Member)) > 0 {
		return Group
	}
	return kind
}
