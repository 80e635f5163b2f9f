package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
)

const anyPolicy = "2.5.29.32.0"

// maxPolicies bounds the policies of one certificate.
const maxPolicies = 200

// policyInput are the inputs of RFC 5280, section 6.1.1 (c) to (g).
type policyInput struct {
	accepted       []string // the user-initial-policy-set; empty: any
	explicit       bool
	inhibitAny     bool
	inhibitMapping bool
}

// PolicyAmong says whether a list such as Options.Policies has, names the policy. One that
// ends in ".*" stands for all below it: many authorities put the version of their practice
// statement into the last arc.
func PolicyAmong(list []string, policy string) bool {
	return slices.ContainsFunc(list, func(a string) bool {
		above, all := strings.CutSuffix(a, "*")
		return policy == a || all && strings.HasPrefix(policy, above)
	})
}

// CheckPolicy says whether s can stand among Options.Policies.
func CheckPolicy(s string) error {
	if _, err := x509.ParseOID(strings.TrimSuffix(s, ".*")); err != nil {
		return fmt.Errorf("%q is not an object identifier, nor one followed by \".*\"", s)
	}
	return nil
}

// TypeOf is the type of a certificate for statistics: the first policy that it names, an
// object identifier; or its issuer's name where it names none.
func TypeOf(c *x509.Certificate) string {
	for _, p := range c.Policies {
		if s := p.String(); s != anyPolicy {
			return s
		}
	}
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}

// policyNode is one node of the policy graph of RFC 9618: a policy at one depth. The
// tree of RFC 5280 would have a node for every way to it, and grows without bound.
type policyNode struct {
	policy   string
	expected []string
	parents  []*policyNode
	live     bool // a way leads from it to the last depth
}

// policies is the state of policy processing down a path.
type policies struct {
	in    policyInput
	last  int // how many certificates the path has below its anchor
	depth int
	// levels are the nodes of each depth; graph says whether the valid_policy_graph is not null.
	levels                               [][]*policyNode
	graph                                bool
	explicit, inhibitAny, inhibitMapping int
}

func newPolicies(in policyInput, last int) *policies {
	p := &policies{in: in, last: last, graph: true, explicit: last + 1, inhibitAny: last + 1, inhibitMapping: last + 1}
	if in.explicit {
		p.explicit = 0
	}
	if in.inhibitAny {
		p.inhibitAny = 0
	}
	if in.inhibitMapping {
		p.inhibitMapping = 0
	}
	p.levels = [][]*policyNode{{{policy: anyPolicy, expected: []string{anyPolicy}}}}
	return p
}

var errPolicy = errors.New("no certificate policy holds for the whole path")

// next processes the certificate at the next depth (sections 6.1.3 (d) to (f), 6.1.4).
func (p *policies) next(c *x509.Certificate, selfIssued bool) error {
	p.depth++
	final := p.depth == p.last
	if len(c.Policies) > maxPolicies || len(c.PolicyMappings) > maxPolicies {
		return errors.New("too many certificate policies")
	}
	switch {
	case len(c.Policies) == 0:
		p.graph = false
	case p.graph:
		p.extend(c, p.inhibitAny > 0 || !final && selfIssued)
	}
	if p.explicit == 0 && !p.graph {
		return errPolicy
	}
	if final {
		if p.explicit > 0 {
			p.explicit--
		}
		if c.RequireExplicitPolicyZero {
			p.explicit = 0
		}
		return nil
	}
	if err := p.mapped(c); err != nil {
		return err
	}
	if !selfIssued {
		for _, n := range []*int{&p.explicit, &p.inhibitAny, &p.inhibitMapping} {
			*n = max(*n-1, 0)
		}
	}
	lower(&p.explicit, c.RequireExplicitPolicy, c.RequireExplicitPolicyZero)
	lower(&p.inhibitMapping, c.InhibitPolicyMapping, c.InhibitPolicyMappingZero)
	lower(&p.inhibitAny, c.InhibitAnyPolicy, c.InhibitAnyPolicyZero)
	return nil
}

// lower takes over a smaller number, if one is stated.
func lower(n *int, stated int, zero bool) {
	if zero || stated > 0 {
		*n = min(*n, stated)
	}
}

// extend adds the nodes of the policies of c.
func (p *policies) extend(c *x509.Certificate, anyCounts bool) {
	above := p.levels[p.depth-1]
	var level []*policyNode
	hasAny := false
	for _, oid := range c.Policies {
		policy := oid.String()
		if policy == anyPolicy {
			hasAny = true
			continue
		}
		parents := expecting(above, policy)
		if len(parents) == 0 {
			parents = expecting(above, anyPolicy)
		}
		if len(parents) > 0 {
			level = append(level, &policyNode{policy: policy, expected: []string{policy}, parents: parents})
		}
	}
	if hasAny && anyCounts {
		named := len(level)
		for _, n := range above {
			for _, e := range n.expected {
				same := func(m *policyNode) bool { return m.policy == e }
				if slices.ContainsFunc(level[:named], same) {
					continue
				}
				if i := slices.IndexFunc(level, same); i >= 0 {
					level[i].parents = append(level[i].parents, n)
					continue
				}
				level = append(level, &policyNode{policy: e, expected: []string{e}, parents: []*policyNode{n}})
			}
		}
	}
	p.levels = append(p.levels, level)
	p.graph = len(level) > 0
}

func expecting(level []*policyNode, policy string) (out []*policyNode) {
	for _, n := range level {
		if slices.Contains(n.expected, policy) {
			out = append(out, n)
		}
	}
	return out
}

// mapped applies the policy mappings of c (section 6.1.4 (a) and (b)).
func (p *policies) mapped(c *x509.Certificate) error {
	to := map[string][]string{}
	for _, m := range c.PolicyMappings {
		from, subject := m.IssuerDomainPolicy.String(), m.SubjectDomainPolicy.String()
		if from == anyPolicy || subject == anyPolicy {
			return errors.New("a policy mapping from or to any policy")
		}
		to[from] = append(to[from], subject)
	}
	if !p.graph || len(to) == 0 {
		return nil
	}
	level := p.levels[p.depth]
	if p.inhibitMapping == 0 {
		level = slices.DeleteFunc(level, func(n *policyNode) bool { return to[n.policy] != nil })
		p.levels[p.depth], p.graph = level, len(level) > 0
		return nil
	}
	var wild *policyNode
	for _, n := range level {
		if n.policy == anyPolicy {
			wild = n
		} else if s := to[n.policy]; s != nil {
			n.expected = s
			delete(to, n.policy)
		}
	}
	for from, subjects := range to {
		if wild != nil {
			p.levels[p.depth] = append(p.levels[p.depth], &policyNode{policy: from, expected: subjects, parents: wild.parents})
		}
	}
	return nil
}

// wrapUp decides after the last certificate (section 6.1.5 (g)). The result are the
// policies of the anchor's domain under which the path holds, for us to accept.
func (p *policies) wrapUp() ([]string, error) {
	valid := p.authority()
	if len(p.in.accepted) > 0 && !slices.Contains(p.in.accepted, anyPolicy) {
		if slices.Contains(valid, anyPolicy) {
			valid = p.in.accepted
		} else {
			valid = slices.DeleteFunc(valid, func(s string) bool { return !PolicyAmong(p.in.accepted, s) })
		}
	}
	if p.explicit == 0 && len(valid) == 0 {
		return nil, errPolicy
	}
	return valid, nil
}

// authority is the authority-constrained-policy-set: live nodes that hang at any policy.
func (p *policies) authority() []string {
	if !p.graph {
		return nil
	}
	var out []string
	for _, n := range p.levels[p.last] {
		n.live = true
		if n.policy == anyPolicy {
			out = append(out, anyPolicy)
		}
	}
	for depth := p.last; depth > 0; depth-- {
		for _, n := range p.levels[depth] {
			if !n.live {
				continue
			}
			for _, parent := range n.parents {
				parent.live = true
				if parent.policy == anyPolicy && n.policy != anyPolicy {
					out = append(out, n.policy)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
