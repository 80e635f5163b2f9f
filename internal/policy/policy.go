// Package policy decides: facts in, a decision out. It reads no clock, no socket and
// no file, and knows nothing but the mail vocabulary.
package policy

import "cmmpd/internal/mail"

// Policy is a label registry with its release rules and content rules. It is
// immutable after New and safe for concurrent use.
type Policy struct {
	labels  *Registry
	rules   map[mail.Label]Requirement
	content []ContentRule
	drafts  Drafts
}

// Options are what the configuration says. Zero fields take the defaults.
type Options struct {
	Labels  []Definition               // weakest first; default DefaultLabels
	Rules   map[mail.Label]Requirement // by label; labels not named take the rule of the next weaker one
	Content []ContentRule              // default DefaultContent
	Drafts  Drafts                     // default DraftsAtRest
}

// Drafts says what happens to a confidential message that is saved in clear to the
// Drafts mailbox.
type Drafts string

const (
	DraftsAtRest Drafts = "at-rest" // kept as it is, protected by the encryption at rest, so that it can be edited
	DraftsSeal   Drafts = "seal"    // sealed to the owner like everywhere else
)
