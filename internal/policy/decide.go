package policy

// Requirement is what a label demands before mail may be released.
type Requirement uint8

const (
	Free     Requirement = iota // nothing
	TLS                         // delivered here, or sent over verified TLS
	SMIME                       // S/MIME to every recipient and the sender
	Withheld                    // not carried by this platform
)
