package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// constraints are the name constraints gathered down a path (RFC 5280, section
// 4.2.1.10): of each authority's permitted subtrees a name must lie in one, and in no
// excluded one.
type constraints struct {
	permitted [][]generalName // one list for each authority that has some
	excluded  []generalName
	budget    int // comparisons left
}

// maxComparisons bounds the work for one path, which is the product of two lists that
// strangers write (CVE-2025-58187).
const maxComparisons = 100_000

var errConstraints = errors.New("malformed name constraints")

// add takes up the constraints that c sets for what is below it.
func (k *constraints) add(c *x509.Certificate) error {
	der, ok := extension(c.Extensions, oidNameConstraints)
	if !ok {
		return nil
	}
	in := cryptobyte.String(der)
	var seq, v cryptobyte.String
	var there bool
	if !in.ReadASN1(&seq, cbasn1.SEQUENCE) || !in.Empty() ||
		!seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return errConstraints
	}
	if there {
		list, err := readSubtrees(v)
		if err != nil {
			return err
		}
		k.permitted = append(k.permitted, list)
	}
	if !seq.ReadOptionalASN1(&v, &there, cbasn1.Tag(1).ContextSpecific().Constructed()) || !seq.Empty() {
		return errConstraints
	}
	if there {
		list, err := readSubtrees(v)
		if err != nil {
			return err
		}
		k.excluded = append(k.excluded, list...)
	}
	return nil
}

func readSubtrees(in cryptobyte.String) ([]generalName, error) {
	var out []generalName
	for !in.Empty() {
		var seq cryptobyte.String
		if !in.ReadASN1(&seq, cbasn1.SEQUENCE) {
			return nil, errConstraints
		}
		g, err := readGeneralName(&seq)
		if err != nil {
			return nil, err
		}
		if !seq.Empty() { // minimum must be 0 and maximum absent
			return nil, errors.New("name constraints with a minimum or maximum")
		}
		if g.form == formIP && len(g.value) != 8 && len(g.value) != 32 {
			return nil, errConstraints
		}
		if out = append(out, g); len(out) > maxGeneralNames {
			return nil, errors.New("too many name constraints")
		}
	}
	return out, nil
}

// check holds every name of c to the constraints. Forms that we cannot compare are
// refused if anything is said about them.
func (k *constraints) check(c *x509.Certificate) error {
	if len(k.permitted) == 0 && len(k.excluded) == 0 {
		return nil
	}
	names, err := alternativeNames(c)
	if err != nil {
		return err
	}
	if subject := parseName(c.RawSubject); len(subject) > 0 {
		names = append(names, generalName{form: formDirectory, dir: subject})
	}
	if !slices.ContainsFunc(names, isMailbox) {
		for _, s := range legacy(c) {
			names = append(names, generalName{form: formEmail, value: []byte(s)})
		}
	}
	for _, n := range names {
		if box, ok := utf8Mailbox(n); ok { // constrained as an rfc822Name (RFC 9598, section 6)
			names = append(names, generalName{form: formEmail, value: []byte(box)})
		}
	}
	for _, n := range names {
		if err := k.checkName(n); err != nil {
			return err
		}
	}
	return nil
}

func (k *constraints) checkName(n generalName) error {
	for _, base := range k.excluded {
		if base.form != n.form {
			continue
		}
		in, err := k.within(n, base)
		if err != nil {
			return err
		}
		if in {
			return fmt.Errorf("the name %s is excluded by an authority", n)
		}
	}
	for _, list := range k.permitted {
		spoken, ok := false, false
		for _, base := range list {
			if base.form != n.form {
				continue
			}
			spoken = true
			in, err := k.within(n, base)
			if err != nil {
				return err
			}
			if ok = in; ok {
				break
			}
		}
		if spoken && !ok {
			return fmt.Errorf("the name %s is outside of what an authority may certify", n)
		}
	}
	return nil
}

func (g generalName) String() string {
	switch g.form {
	case formEmail, formDNS, formURI:
		return fmt.Sprintf("%q", g.value)
	case formDirectory:
		return "of the subject"
	}
	return fmt.Sprintf("of form %d", g.form)
}

// within says whether n lies in the subtree base; both are of one form.
func (k *constraints) within(n, base generalName) (bool, error) {
	if k.budget--; k.budget < 0 {
		return false, errors.New("too many names and name constraints")
	}
	switch n.form {
	case formDirectory:
		return n.dir.within(base.dir), nil
	case formEmail:
		return emailWithin(string(n.value), string(base.value))
	case formDNS:
		return domainWithin(string(n.value), string(base.value)), nil
	case formURI:
		return uriWithin(string(n.value), string(base.value))
	case formIP:
		return ipWithin(n.value, base.value)
	}
	return false, fmt.Errorf("names of form %d are constrained, which is not supported", n.form)
}

// emailWithin: the constraint is a mailbox, a host, or with a leading dot all hosts of
// a domain. Local parts compare without regard to case, as our addresses do: otherwise an
// excluded mailbox could be had in other letters.
func emailWithin(s, base string) (bool, error) {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return false, errors.New("a constrained mail address without a domain")
	}
	if i := strings.LastIndexByte(base, '@'); i >= 0 {
		return strings.EqualFold(s[:at], base[:i]) && strings.EqualFold(s[at+1:], base[i+1:]), nil
	}
	host := strings.ToLower(s[at+1:])
	base = strings.ToLower(base)
	if strings.HasPrefix(base, ".") {
		return strings.HasSuffix(host, base), nil
	}
	return base == "" || host == base, nil
}

// domainWithin: any labels may be added on the left.
func domainWithin(s, base string) bool {
	s, base = strings.ToLower(s), strings.ToLower(strings.TrimPrefix(base, "."))
	return base == "" || s == base || strings.HasSuffix(s, "."+base)
}

// uriWithin looks at the host: the constraint is one, or with a leading dot those
// below it.
func uriWithin(s, base string) (bool, error) {
	u, err := url.Parse(s)
	if err != nil || u.Hostname() == "" || net.ParseIP(u.Hostname()) != nil {
		return false, errors.New("a constrained URI without a host name")
	}
	host := strings.ToLower(u.Hostname())
	base = strings.ToLower(base)
	if strings.HasPrefix(base, ".") {
		return strings.HasSuffix(host, base), nil
	}
	return host == base, nil
}

// ipWithin: the constraint is an address and a mask.
func ipWithin(ip, base []byte) (bool, error) {
	if len(ip) != 4 && len(ip) != 16 {
		return false, errNames
	}
	if 2*len(ip) != len(base) {
		return false, nil
	}
	masked := make([]byte, len(ip))
	network := make([]byte, len(ip))
	for i := range ip {
		masked[i] = ip[i] & base[len(ip)+i]
		network[i] = base[i] & base[len(ip)+i]
	}
	return bytes.Equal(masked, network), nil
}
