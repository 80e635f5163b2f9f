package directory

import (
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// Search filters are built here and nowhere else (a test holds us to it), so that no
// name from outside ever becomes a part of their grammar (RFC 4515).

// anyEntry matches every entry.
const anyEntry = "(objectClass=*)"

// filterEqual asks for an attribute, whose name is ours, with a value from anywhere.
func filterEqual(attr, value string) string {
	return "(" + attr + "=" + ldap.EscapeFilter(value) + ")"
}

// filterHas asks for entries that have an attribute, whose name is ours.
func filterHas(attr string) string { return "(" + attr + "=*)" }

func filterOr(parts ...string) string { return "(|" + strings.Join(parts, "") + ")" }

// childDN is the name of an entry below base, with a value from anywhere.
func childDN(attr, value, base string) string { return attr + "=" + ldap.EscapeDN(value) + "," + base }
