package policy

import (
	"fmt"
	"strings"

	"cmmpd/internal/mail"
)

// Requirement is what a label demands before mail may be released.
type Requirement uint8

// The requirements, each stronger than the one before.
const (
	Free     Requirement = iota // nothing
	TLS                         // delivered here, or sent over verified TLS
	SMIME                       // S/MIME to every recipient and the sender
	Withheld                    // not carried by this platform
)

func (r Requirement) String() string { return [...]string{"free", "tls", "smime", "refuse"}[r] }

// ParseRequirement is the inverse of String.
func ParseRequirement(s string) (Requirement, bool) {
	for r := Free; r <= Withheld; r++ {
		if r.String() == s {
			return r, true
		}
	}
	return 0, false
}

// DefaultRules are the release rules unless the configuration has its own.
func DefaultRules() map[mail.Label]Requirement {
	return map[mail.Label]Requirement{
		mail.Unclassified: Free, mail.Restricted: TLS, mail.Confidential: SMIME, mail.Secret: Withheld, mail.TopSecret: Withheld,
	}
}

// Path is the way by which a message enters.
type Path uint8

// The paths.
const (
	Submission Path = iota // from one of our users
	Inbound                // from another server
	Append                 // saved into a mailbox by its owner
	Draft                  // saved into Drafts by its owner
)

func (p Path) String() string { return [...]string{"submission", "inbound", "append", "drafts"}[p] }

// Facts are what a decision rests on.
type Facts struct {
	Path        Path
	Label       mail.Label
	Departments []string    // the domains of a submission's author and of its envelope's sender, of the owner of what is saved
	Recipients  []Recipient // of a submission and of inbound mail
	Encrypted   bool        // the message is encrypted already, as one S/MIME entity
	Problems    []Problem   // who could not read it: of an encrypted message, who is not covered; of a plain one, for whom it cannot be sealed
}

// Problem says why one reader's part cannot be done.
type Problem struct {
	Text      string // a sentence without its full stop, such as "dave@health.gov.example has no certificate"
	Temporary bool   // the data to decide it is missing or too old just now
}

// Action is what is to be done with a message.
type Action uint8

// The actions.
const (
	Pass       Action = iota // as it is
	RequireTLS               // as it is, leaving only over verified TLS
	Seal                     // encrypted to its readers first
	Refuse                   // not at all, and never
	Defer                    // not now
)

func (a Action) String() string {
	return [...]string{"pass", "require-tls", "seal", "refuse", "defer"}[a]
}

// Decision is an action and, where it is Refuse or Defer, why: sentences for the
// person who sent the message, in ASCII as far as the addresses are.
type Decision struct {
	Action  Action
	Reasons []string
}

// maxReasons bounds how many reasons a person is shown.
const maxReasons = 20

// Text is the reasons in one line.
func (d Decision) Text() string {
	if n := len(d.Reasons); n > maxReasons {
		return strings.Join(d.Reasons[:maxReasons], "; ") + fmt.Sprintf("; and %d more", n-maxReasons)
	}
	return strings.Join(d.Reasons, "; ")
}

// Readers says whose certificates a decision about a message needs to know.
type Readers uint8

// The answers of NeedsReaders.
const (
	NoReaders  Readers = iota // nobody's
	Recipients                // the recipients'
	Everyone                  // the recipients' and the sender's
	Owner                     // the mailbox owner's
)

// NeedsReaders says whose part in a message must be known before Decide can be asked. The
// problems of f do not count for it.
func (p *Policy) NeedsReaders(f Facts) Readers {
	req := p.Demand(f)
	switch {
	case req == Withheld:
		return NoReaders
	case f.Path == Append && !f.Encrypted && req == SMIME, f.Path == Draft && !f.Encrypted && req == SMIME && p.drafts == DraftsSeal:
		return Owner
	case f.Path == Append || f.Path == Draft:
		return NoReaders
	case p.refusesPlain(f, req):
		return NoReaders
	case f.Encrypted || req == SMIME:
		if f.Path == Submission {
			return Everyone
		}
		return Recipients
	}
	return NoReaders
}

// Decide is the decision about a message. The facts hold a Problem for each of the
// readers that NeedsReaders names who cannot have the message.
func (p *Policy) Decide(f Facts) Decision {
	req := p.Demand(f)
	if req == Withheld {
		return p.withheld(f)
	}
	if p.refusesPlain(f, req) {
		return Decision{Refuse, []string{p.name(f.Label) + " mail of your department must be encrypted by your own mail program"}}
	}
	if p.NeedsReaders(f) == NoReaders {
		if req == TLS {
			return Decision{Action: RequireTLS}
		}
		return Decision{Action: Pass}
	}
	if len(f.Problems) > 0 {
		return p.unreadable(f, req)
	}
	switch {
	case f.Encrypted && req == TLS:
		return Decision{Action: RequireTLS}
	case f.Encrypted:
		return Decision{Action: Pass}
	}
	return Decision{Action: Seal}
}

// name is how sentences call mail with the label.
func (p *Policy) name(l mail.Label) string {
	if l == "" {
		return "unlabelled"
	}
	return p.labels.Name(l)
}

// withheld refuses what is not carried at all, or not to some recipients.
func (p *Policy) withheld(f Facts) Decision {
	d := Decision{Action: Refuse}
	if p.Requires(f.Label) == Withheld {
		d.Reasons = []string{p.name(f.Label) + " mail is not carried by this platform"}
		return d
	}
	for _, r := range f.Recipients {
		if p.DemandFor(f.Label, r) == Withheld {
			d.Reasons = append(d.Reasons, fmt.Sprintf("%s mail may not be sent to %s", p.name(f.Label), r.Name))
		}
	}
	return d
}

// unreadable refuses a message that not all its readers could have; if only what we do
// not know stands against it, it is deferred.
func (p *Policy) unreadable(f Facts, req Requirement) Decision {
	d := Decision{Action: Defer}
	for _, pr := range f.Problems {
		if !pr.Temporary {
			d.Action = Refuse
		}
	}
	for _, pr := range f.Problems {
		if d.Action == Defer || !pr.Temporary {
			d.Reasons = append(d.Reasons, pr.Text)
		}
	}
	what := "encrypted mail"
	if req == SMIME {
		what = p.name(f.Label) + " mail"
	}
	d.Reasons[0] = fmt.Sprintf("%s must be readable by all its recipients and nobody else: %s", what, d.Reasons[0])
	return d
}
