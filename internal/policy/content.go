package policy

import "cmmpd/internal/mail"

// ContentRule gives a message a label for what its text holds.
type ContentRule struct {
	Name  string                 // for the record of the decision
	Label mail.Label             // what a match means
	Match func(text []byte) bool // pure; must run in time linear in the text
}
