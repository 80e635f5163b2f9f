package policy

import "cmmpd/internal/mail"

// Definition is one label of the registry.
type Definition struct {
	Label mail.Label
	Names []string // display names, English first, then Traditional Chinese: "CONFIDENTIAL", "機密"; also read as subject prefix in brackets and as header word
	Words []string // other words that mean this label in a header field or as a subject prefix
}

// Registry is the ordered set of labels.
type Registry struct {
	defs []Definition
}

// DefaultLabels is the registry unless the configuration has its own.
func DefaultLabels() []Definition {
	return []Definition{
		{Label: mail.Unclassified, Names: []string{"UNCLASSIFIED", "非機密"}},
		{Label: mail.Restricted, Names: []string{"RESTRICTED", "限閱"}},
		{Label: mail.Confidential, Names: []string{"CONFIDENTIAL", "機密"}},
		{Label: mail.Secret, Names: []string{"SECRET", "絕密"}},
		{Label: mail.TopSecret, Names: []string{"TOP SECRET", "極機密"}},
	}
}
