package audit

import "errors"

// ErrCannotOpen is in the chain of Verify's error when path does not exist or may not
// be opened.
var ErrCannotOpen = errors.New("cannot be opened")

// Class says what happens when an event cannot be recorded.
type Class uint8

// The classes.
const (
	Unknown Class = iota
	Must          // the act is refused
	Count         // the act goes on; a counted gap event follows
)

// The event types.
const (
	// Must be recorded (Begin and End, or Record).
	DirectoryImport = "directory.import"
	DirectoryExport = "directory.export"
	StoreCheck      = "store.check"
	StoreRepair     = "store.repair"
	AuditExport     = "audit.export"
	KeystoreUse     = "keystore.use"
	AccountUnlock   = "account.unlock"
	ConfigChange    = "config.change"
	LabelLower      = "label.lower"

	// Recorded or counted (Note).
	ServerStart = "server.start"
	ServerStop  = "server.stop"
	StoreOpen   = "store.open"
	AuthLogin   = "auth.login"   // repeats are folded
	MailRefused = "mail.refused" // a message or recipient was refused by a rule
	MailSealed  = "mail.sealed"  // the gateway encrypted a confidential message
	MailPassed  = "mail.passed"  // a confidential message that was encrypted already was let through

	// Written by the log itself.
	AuditGap = "audit.gap" // count says how many notes were lost
)
