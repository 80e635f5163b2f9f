package server

import (
	"errors"
	"slices"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

const (
	maxDN    = 2048 // bytes of a distinguished name
	maxDepth = 20   // RDNs in one
)

var errDN = errors.New("not a distinguished name")

// name is a parsed distinguished name (RFC 4514).
type name struct {
	key  string // the RDNs in prepared form from the root down, each ended by \x00: children follow their parent in key order
	rdns [][]ava
}

// ava is one attribute type and value of an RDN.
type ava struct {
	typ   *attrType
	value string
}

// parseDN reads a distinguished name. The empty name is the root: its key is empty.
func (s *schema) parseDN(text string) (name, error) {
	if len(text) > maxDN {
		return name{}, errDN
	}
	d, err := ldap.ParseDN(text)
	if err != nil || len(d.RDNs) > maxDepth {
		return name{}, errDN
	}
	n := name{rdns: make([][]ava, len(d.RDNs))}
	var key strings.Builder
	for i := len(d.RDNs) - 1; i >= 0; i-- {
		var parts []string
		for _, a := range d.RDNs[i].Attributes {
			t := s.attrs[strings.ToLower(a.Type)]
			if t == nil || a.Value == "" {
				return name{}, errDN
			}
			v, ok := s.prepare(t.rule, []byte(a.Value))
			if !ok || len(v) == 0 || t.rule != caseIgnore && t.rule != caseExact {
				return name{}, errDN
			}
			n.rdns[i] = append(n.rdns[i], ava{t, a.Value})
			parts = append(parts, strings.ToLower(t.name)+"="+string(v))
		}
		slices.Sort(parts)
		key.WriteString(strings.Join(parts, "\x01"))
		key.WriteByte(0)
	}
	n.key = key.String()
	return n, nil
}

// parentKey is the key of the entry above; ok is false for the root.
func parentKey(key string) (parent string, ok bool) {
	if key == "" {
		return "", false
	}
	return key[:strings.LastIndexByte(key[:len(key)-1], 0)+1], true
}

func joinOptions(list []string) string {
	slices.Sort(list)
	list = slices.Compact(list)
	if len(list) == 0 {
		return ""
	}
	return ";" + strings.Join(list, ";")
}
