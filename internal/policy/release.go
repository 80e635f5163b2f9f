package policy

import (
	"fmt"
	"slices"

	"cmmpd/internal/mail"
)

// Recipient is where a copy of a message goes.
type Recipient struct {
	Name      string // for sentences: the address, in ASCII
	Domain    string // of the address
	Here      bool   // the mailbox is ours
	Clearance mail.Label
}

// The destinations of a ReleaseRule beside domains.
const (
	Here      = "here"      // mailboxes of this platform
	Elsewhere = "elsewhere" // other servers
)

// Clearance is a condition on a recipient's clearance (the directory's cmmpdClearance).
type Clearance string

// The conditions.
const (
	AnyClearance   Clearance = ""
	BelowClearance Clearance = "below" // the directory names one, and it is weaker than the label
	NoClearance    Clearance = "none"  // the directory names none
)

// ReleaseRule is what mail with a label demands of one destination. All rules that hold
// for a recipient count, and the label's own: the strongest demand wins, so that a rule
// never makes less of a label. Empty conditions hold always; Labels without any hold for
// unlabelled mail, too.
type ReleaseRule struct {
	Labels       []mail.Label
	Destinations []string // Here, Elsewhere, or domains in lower case
	Clearance    Clearance
	Require      Requirement
}

// DefaultRelease keeps mail from those whose clearance is weaker than its label. Nothing
// is demanded of those of whom the directory says nothing.
func DefaultRelease() []ReleaseRule {
	return []ReleaseRule{{Clearance: BelowClearance, Require: Withheld}}
}

// DemandFor is what mail with the label demands before it may go to r.
func (p *Policy) DemandFor(l mail.Label, r Recipient) Requirement {
	req := p.Requires(l)
	for i := range p.release {
		if rule := &p.release[i]; rule.Require > req && p.holds(rule, l, r) {
			req = rule.Require
		}
	}
	return req
}

func (p *Policy) holds(rule *ReleaseRule, l mail.Label, r Recipient) bool {
	if len(rule.Labels) > 0 && !slices.Contains(rule.Labels, l) {
		return false
	}
	where := Elsewhere
	if r.Here {
		where = Here
	}
	if len(rule.Destinations) > 0 && !slices.Contains(rule.Destinations, where) && !slices.Contains(rule.Destinations, r.Domain) {
		return false
	}
	switch rule.Clearance {
	case BelowClearance: // a clearance that the registry does not know is below all
		return l != "" && r.Clearance != "" && p.labels.Rank(r.Clearance) < p.labels.Rank(l)
	case NoClearance:
		return r.Clearance == ""
	}
	return true
}

// Demand is what a message demands: the strongest of what its recipients demand, for it
// is protected as one.
func (p *Policy) Demand(f Facts) Requirement {
	req := p.Requires(f.Label)
	for _, r := range f.Recipients {
		req = max(req, p.DemandFor(f.Label, r))
	}
	return req
}

// NeedsClearance says whether some rule asks for the clearance of recipients of mail with
// the label, so that the caller may spare itself looking for those elsewhere.
func (p *Policy) NeedsClearance(l mail.Label) bool {
	return slices.ContainsFunc(p.release, func(r ReleaseRule) bool {
		return r.Clearance != AnyClearance && (l != "" || r.Clearance == NoClearance) && (len(r.Labels) == 0 || slices.Contains(r.Labels, l))
	})
}

// NeedsRecipients says whether some rule can hold for mail with the label, so that the
// caller may spare itself naming the recipients in the facts.
func (p *Policy) NeedsRecipients(l mail.Label) bool {
	return slices.ContainsFunc(p.release, func(r ReleaseRule) bool {
		return (l != "" || r.Clearance != BelowClearance) && (len(r.Labels) == 0 || slices.Contains(r.Labels, l))
	})
}

// Cipher is how strongly mail must be encrypted at least.
type Cipher uint8

// The ciphers, each demanding what stands before it.
const (
	AnyAES256 Cipher = iota // AES-256 in any way that readers need
	OAEP                    // and no key under RSAES-PKCS1-v1_5
	GCM                     // and AES-256-GCM
)

func (c Cipher) String() string { return [...]string{"any", "oaep", "gcm"}[c] }

// ParseCipher is the inverse of String.
func ParseCipher(s string) (Cipher, bool) {
	for c := AnyAES256; c <= GCM; c++ {
		if c.String() == s {
			return c, true
		}
	}
	return 0, false
}

// Department is what differs for the mail of one department. All that hold count: one
// that refuses plain mail, and the strongest cipher.
type Department struct {
	Domain string       // of the author of a submission, or the owner of what is saved; "*" is all, strangers included
	Labels []mail.Label // none: all that demand S/MIME
	Refuse bool         // a submission that comes in clear is refused, not sealed
	Cipher Cipher
}

// departmentsOf are those whose words count for f.
func (p *Policy) departmentsOf(f Facts) func(yield func(*Department) bool) {
	return func(yield func(*Department) bool) {
		for i := range p.departments {
			d := &p.departments[i]
			if (d.Domain == "*" || slices.Contains(f.Departments, d.Domain)) && (len(d.Labels) == 0 || slices.Contains(d.Labels, f.Label)) && !yield(d) {
				return
			}
		}
	}
}

// refusesPlain says whether f is a submission in clear of a department that wants its own
// people to encrypt.
func (p *Policy) refusesPlain(f Facts, req Requirement) bool {
	if f.Path != Submission || f.Encrypted || req != SMIME {
		return false
	}
	for d := range p.departmentsOf(f) {
		if d.Refuse {
			return true
		}
	}
	return false
}

// DemandedCipher is how a message that demands S/MIME must be encrypted at least. What a
// client encrypts without need is not held to it.
func (p *Policy) DemandedCipher(f Facts) Cipher {
	c := AnyAES256
	if p.Demand(f) < SMIME {
		return c
	}
	for d := range p.departmentsOf(f) {
		c = max(c, d.Cipher)
	}
	return c
}

// checkRelease says what in the rules does not fit the registry.
func (p *Policy) checkRelease() error {
	known := func(what string, labels []mail.Label) error {
		for _, l := range labels {
			if !p.labels.Known(l) {
				return fmt.Errorf("%s for the unknown label %q", what, l)
			}
		}
		return nil
	}
	for _, r := range p.release {
		if err := known("rule", r.Labels); err != nil {
			return err
		}
		if r.Require > Withheld || r.Clearance != AnyClearance && r.Clearance != BelowClearance && r.Clearance != NoClearance {
			return fmt.Errorf("rule: %q and %d are no clearance and requirement", r.Clearance, r.Require)
		}
	}
	for _, d := range p.departments {
		if err := known("department "+d.Domain, d.Labels); err != nil {
			return err
		}
		if d.Domain == "" || d.Cipher > GCM {
			return fmt.Errorf("department %q: it needs a domain and a cipher", d.Domain)
		}
	}
	return nil
}
