package storage

// The system flags of RFC 3501, section 2.3.2, in canonical form. \Recent is not a flag of the store: see
// Mailbox.ClaimRecent.
const (
	FlagSeen     = `\Seen`
	FlagAnswered = `\Answered`
	FlagFlagged  = `\Flagged`
	FlagDeleted  = `\Deleted`
	FlagDraft    = `\Draft`
)

// FlagOp says what StoreFlags does with the flags given.
type FlagOp uint8

// The operations.
const (
	SetFlags FlagOp = iota // replace
	AddFlags
	DelFlags
)

// Flags is the set of flags of one message, a small value.
type Flags struct {
	sys   uint8
	words [2]uint64
	names []string // shared, the mailbox's keywords; bit i of words is names[i]
}

// Has says whether the flag is set. System flags and keywords compare without regard to case.
func (f Flags) Has(flag string) bool { return false }

// List is the flags in canonical form, system flags first.
func (f Flags) List() []string { return nil }
