// Package policy decides: facts in, a decision out. It reads no clock, no socket and
// no file, and knows nothing but the mail vocabulary.
package policy

import (
	"fmt"

	"cmmpd/internal/mail"
)

// Policy is a label registry with its release rules and content rules. It is
// immutable after New and safe for concurrent use.
type Policy struct {
	labels  *Registry
	rules   []Requirement // by rank
	content []ContentRule
	drafts  Drafts

	release     []ReleaseRule
	departments []Department
	essPolicy   string
	sign        []SignRule
}

// Options are what the configuration says. Zero fields take the defaults.
type Options struct {
	Labels  []Definition               // weakest first; default DefaultLabels
	Rules   map[mail.Label]Requirement // default DefaultRules; a label not named takes the rule of the next weaker one
	Content []ContentRule              // nil: DefaultContent; empty: none
	Drafts  Drafts                     // default DraftsAtRest

	Release     []ReleaseRule // nil: DefaultRelease; empty: none
	Departments []Department  // what differs by department
	// ESSPolicy is the security policy, a dotted object identifier, in the ESS security labels
	// that are written; empty: none are. Programs that keep to RFC 2634, section 3.1.2, may
	// refuse to show what bears a policy that they do not know.
	ESSPolicy string
	Sign      []SignRule // whose submissions are signed for them; none: nobody's
}

// Drafts says what happens to a confidential message that is saved in clear to the
// Drafts mailbox.
type Drafts string

// The choices for Options.Drafts.
const (
	DraftsAtRest Drafts = "at-rest" // kept as it is, under the encryption at rest, so that it can be edited
	DraftsSeal   Drafts = "seal"    // sealed to the owner, as everywhere else
)

// New makes a Policy. An error says what in o does not fit together.
func New(o Options) (*Policy, error) {
	if o.Labels == nil {
		o.Labels = DefaultLabels()
	}
	if o.Rules == nil {
		o.Rules = DefaultRules()
	}
	if o.Content == nil {
		o.Content = DefaultContent()
	}
	if o.Release == nil {
		o.Release = DefaultRelease()
	}
	labels, err := NewRegistry(o.Labels)
	if err != nil {
		return nil, err
	}
	p := &Policy{
		labels: labels, content: o.Content, drafts: o.Drafts, rules: make([]Requirement, len(o.Labels)),
		release: o.Release, departments: o.Departments, essPolicy: o.ESSPolicy, sign: o.Sign,
	}
	if err := p.checkSign(); err != nil {
		return nil, err
	}
	if err := p.checkRelease(); err != nil {
		return nil, err
	}
	if o.ESSPolicy != "" && !dotted.MatchString(o.ESSPolicy) {
		return nil, fmt.Errorf("%q is not an object identifier", o.ESSPolicy)
	}
	switch p.drafts {
	case "":
		p.drafts = DraftsAtRest
	case DraftsAtRest, DraftsSeal:
	default:
		return nil, fmt.Errorf("drafts = %q: must be %q or %q", o.Drafts, DraftsAtRest, DraftsSeal)
	}
	for l, r := range o.Rules {
		if !labels.Known(l) {
			return nil, fmt.Errorf("release rule for the unknown label %q", l)
		}
		if r > Withheld {
			return nil, fmt.Errorf("unknown release rule %d for the label %q", r, l)
		}
	}
	for _, c := range o.Content {
		if !labels.Known(c.Label) || c.Match == nil {
			return nil, fmt.Errorf("content rule %q: it needs a known label and something to match", c.Name)
		}
	}
	last := Free
	for i, d := range o.Labels {
		if r, ok := o.Rules[d.Label]; ok {
			last = r
		}
		p.rules[i] = last
	}
	return p, nil
}

// Labels is the registry.
func (p *Policy) Labels() *Registry { return p.labels }

// ESSPolicy is the security policy of the ESS security labels that are written; empty if
// none are.
func (p *Policy) ESSPolicy() string { return p.essPolicy }

// Requires says what l demands. The empty label demands nothing; a label that the
// registry does not know is treated as its strongest.
func (p *Policy) Requires(l mail.Label) Requirement {
	if l == "" {
		return Free
	}
	rank := p.labels.Rank(l)
	if rank < 0 {
		rank = len(p.rules) - 1
	}
	return p.rules[rank]
}
