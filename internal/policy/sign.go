package policy

import (
	"fmt"
	"slices"
	"strings"

	"cmmpd/internal/mail"
)

// SignRule says whose submissions the platform signs for them.
type SignRule struct {
	From   []string     // addresses, and domains, which are departments; none: everybody's
	Labels []mail.Label // the empty one is that of mail without a label; none: all
	By     Signer
}

// Signer is whose key signs.
type Signer uint8

// The signers.
const (
	ByNobody     Signer = iota
	ByDepartment        // the signing authority of the author's domain, where there is one; otherwise the rule does not hold
	ByAuthor            // the author's own key, where the platform has it; otherwise the rule does not hold
)

func (s Signer) String() string { return [...]string{"", "department", "author"}[s] }

// Signs is who signs a submission: the first rule that holds says so. has says whether there
// is a key of that signer for the author.
func (p *Policy) Signs(author mail.Address, l mail.Label, has func(Signer) bool) Signer {
	for _, r := range p.sign {
		from := len(r.From) == 0 || slices.ContainsFunc(r.From, func(f string) bool {
			return f == author.Domain || strings.EqualFold(f, author.String())
		})
		if from && (len(r.Labels) == 0 || slices.Contains(r.Labels, l)) && has(r.By) {
			return r.By
		}
	}
	return ByNobody
}

func (p *Policy) checkSign() error {
	for _, r := range p.sign {
		for _, l := range r.Labels {
			if l != "" && !p.labels.Known(l) {
				return fmt.Errorf("a rule for signing names the unknown label %q", l)
			}
		}
		if r.By != ByDepartment && r.By != ByAuthor {
			return fmt.Errorf("a rule for signing does not say who signs")
		}
	}
	return nil
}
