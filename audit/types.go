package audit

// Class says what happens when an event cannot be recorded.
type Class uint8

// The classes.
const (
	Unknown Class = iota // not a type of ours
	Must                 // the act is refused
	Count                // the act goes on; a counted gap event follows
)

// The event types.
const (
	// Must be recorded: Begin and End, or Record.
	DirectoryImport = "directory.import"
	DirectoryExport = "directory.export"
	StoreCheck      = "store.check"
	StoreCompact    = "store.compact"
	StoreBackup     = "store.backup"
	StoreRestore    = "store.restore"
	AuditExport     = "audit.export"
	AuditForget     = "audit.forget"  // personal data was erased beside the log
	KeyAct          = "key.act"       // something was done to keys, or is about to be, by keyd's journal
	KeyRotate       = "key.rotate"    // accounts' keys are to be wrapped by another platform key
	AccountOpen     = "account.open"  // an account was opened for somebody who is not its owner
	ConfigChange    = "config.change" // the configuration in force differs from that of the last start
	KeyImport       = "key.import"    // a signing key made elsewhere came into the keystore
	LabelLower      = "label.lower"   // a message's label was lowered
	QueueList       = "queue.list"    // somebody looked who writes to whom outside
	QueueHold       = "queue.hold"
	QueueRelease    = "queue.release"
	QueueRetry      = "queue.retry"
	QueueRemove     = "queue.remove" // a message was taken out of the queue undelivered

	EscrowStatus  = "escrow.status"  // somebody looked whose keys are kept
	EscrowCover   = "escrow.cover"   // keys were given to the officers to keep
	EscrowRequest = "escrow.request" // somebody wants an account opened, under a case
	EscrowList    = "escrow.list"
	EscrowShare   = "escrow.share"   // an officer took their part, encrypted
	EscrowApprove = "escrow.approve" // an officer brought their part
	EscrowRefuse  = "escrow.refuse"
	EscrowClose   = "escrow.close"
	EscrowExport  = "escrow.export"  // an account was opened by officers, and its mail given out
	EscrowRecover = "escrow.recover" // keys were wrapped anew by officers
	EscrowNotice  = "escrow.notice"  // the owner was told

	// Recorded or counted: Note.
	AdminRefused  = "admin.refused" // somebody who proved who they are asked for what their roles do not allow
	ServerStart   = "server.start"
	ServerStop    = "server.stop"
	AuthLogin     = "auth.login"     // repeats of one outcome are folded
	MailRefused   = "mail.refused"   // a rule refused a message or a recipient
	MailSealed    = "mail.sealed"    // the gateway encrypted a confidential message
	MailPassed    = "mail.passed"    // a confidential message came encrypted and was let through
	KeystoreState = "keystore.state" // a slot of the keystore was sealed or unsealed, or its token went or came
	KeyUnwrap     = "key.unwrap"     // an account's key was opened: its mail can be read; repeats are folded
	MailUntold    = "mail.untold"    // a delivery failed or is late and its sender could not be told

	// Written by the log itself.
	AuditGap     = "audit.gap"     // count says how many notes were lost
	AuditWitness = "audit.witness" // a witness is asked for cosignatures from here on; the detail "key" is its verifier key
	ClockBack    = "clock.back"    // the clock was set back: details "from", "to" and "by"
)

// ClassOf is the class of an event type. Verifying does not ask for it: other versions have other types.
func ClassOf(typ string) Class {
	switch typ {
	case DirectoryImport, DirectoryExport, StoreCheck, StoreCompact, StoreBackup, StoreRestore, AuditExport, AuditForget, KeyImport, KeyAct, KeyRotate,
		AccountOpen, ConfigChange, LabelLower,
		QueueList, QueueHold, QueueRelease, QueueRetry, QueueRemove,
		EscrowStatus, EscrowCover, EscrowRequest, EscrowList, EscrowShare, EscrowApprove, EscrowRefuse, EscrowClose, EscrowExport, EscrowRecover,
		EscrowNotice:
		return Must
	case AdminRefused, ServerStart, ServerStop, AuthLogin, MailRefused, MailSealed, MailPassed, MailUntold, KeystoreState, KeyUnwrap, AuditGap, AuditWitness, ClockBack:
		return Count
	}
	return Unknown
}

// folded says whether repeats of the type become one record with a count.
func folded(typ string) bool { return typ == AuthLogin || typ == KeyUnwrap }
