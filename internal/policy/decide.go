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

// Facts are what a decision rests on.
type Facts struct {
	Path      Path
	Label     mail.Label
	Encrypted bool      // the message is encrypted already, as one S/MIME entity
	Problems  []Problem // who could not read it: of an encrypted message, who is not covered; of a plain one, for whom it cannot be sealed
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

// NeedsReaders says whose part in a message must be known before Decide can be asked.
func (p *Policy) NeedsReaders(path Path, l mail.Label, encrypted bool) Readers {
	req := p.Requires(l)
	switch {
	case req == Withheld:
		return NoReaders
	case path == Append && !encrypted && req == SMIME, path == Draft && !encrypted && req == SMIME && p.drafts == DraftsSeal:
		return Owner
	case path == Append || path == Draft:
		return NoReaders
	case encrypted || req == SMIME:
		if path == Submission {
			return Everyone
		}
		return Recipients
	}
	return NoReaders
}

// Decide is the decision about a message. The facts hold a Problem for each of the
// readers that NeedsReaders names who cannot have the message.
func (p *Policy) Decide(f Facts) Decision {
	req := p.Requires(f.Label)
	if req == Withheld {
		return Decision{Refuse, []string{fmt.Sprintf("%s mail is not carried by this platform", p.labels.Name(f.Label))}}
	}
	if p.NeedsReaders(f.Path, f.Label, f.Encrypted) == NoReaders {
		if req == TLS {
			return Decision{Action: RequireTLS}
		}
		return Decision{Action: Pass}
	}
	if len(f.Problems) > 0 {
		return p.unreadable(f)
	}
	switch {
	case f.Encrypted && req == TLS:
		return Decision{Action: RequireTLS}
	case f.Encrypted:
		return Decision{Action: Pass}
	}
	return Decision{Action: Seal}
}

// unreadable refuses a message that not all its readers could have; if only what we do
// not know stands against it, it is deferred.
func (p *Policy) unreadable(f Facts) Decision {
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
	if p.Requires(f.Label) == SMIME {
		what = p.labels.Name(f.Label) + " mail"
	}
	d.Reasons[0] = fmt.Sprintf("%s must be readable by all its recipients and nobody else: %s", what, d.Reasons[0])
	return d
}
