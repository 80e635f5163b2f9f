package storage

import (
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
)

// Delivery is one durable act: every body is kept once, with an entry in each mailbox named and an item in the queue
// for each way on which it leaves. All or nothing.
type Delivery struct {
	Bodies    []Body
	Submitted []SubmittedLabel
	Must      bool     // there is always room for it: its recipient has a right to it
	Tells     *Warning // the delivery is this warning, for which there is always room. It is refused (mail.Exists) if it was told, or is not true any more
}

// Body is one message, the mailboxes that get it and the ways on which it leaves. Data must not be changed until Deliver returns.
type Body struct {
	Data    []byte
	Index   *message.Index // of Data
	Label   mail.Label     // remembered under the message's Message-ID for every account that gets it
	Entries []NewEntry
	Queue   []QueueItem
}

// NewEntry is one message in one mailbox.
type NewEntry struct {
	Account      mail.AccountID
	Mailbox      string    // "" is INBOX; must exist, unless the account does not yet
	Prefix       []byte    // header lines of this entry's own, each ending in CRLF, served before the body
	Flags        []string  // system flags and keywords
	InternalDate time.Time // the zero Time is now
	Department   string    // which the account is of, if that is known: the domain of its address, lower case
}

// SubmittedLabel remembers which label a message had that the account has submitted.
type SubmittedLabel struct {
	Account   mail.AccountID
	MessageID string // without angle brackets
	Label     mail.Label
}

// Placed says where an entry went. Deliver returns one for each entry, in the order given.
type Placed struct {
	Account          mail.AccountID
	Mailbox          string
	UIDValidity, UID uint32
	EmailID          ObjectID
}

// Append is one message to be added to a mailbox by its owner.
type Append struct {
	Data         []byte
	Index        *message.Index
	Flags        []string
	InternalDate time.Time // the zero Time is now
	Label        mail.Label
}

// ObjectID is an EMAILID or THREADID (RFC 8474): unique in the store, never used again. 0 is none.
type ObjectID uint64

// String is the ID as IMAP sends it. The zero ID gives "".
func (id ObjectID) String() string {
	if id == 0 {
		return ""
	}
	return "M" + strconv.FormatUint(uint64(id), 36)
}

// Thread is the ID as IMAP sends a THREADID. The zero ID gives "".
func (id ObjectID) Thread() string {
	if id == 0 {
		return ""
	}
	return "T" + strconv.FormatUint(uint64(id), 36)
}

// Msg is what the in-memory index knows of a message. It is a small copy.
type Msg struct {
	UID          uint32
	ModSeq       uint64
	Flags        Flags
	InternalDate time.Time // to the second
	SaveDate     time.Time
	Size         int64 // octets as served: prefix and body
	EmailID      ObjectID
	ThreadID     ObjectID // print with ThreadID.Thread()
}

// State is the state of a mailbox at one moment.
type State struct {
	Messages      uint32
	UIDNext       uint32
	UIDValidity   uint32
	HighestModSeq uint64
	FirstRecent   uint32 // UIDs from here on have not been claimed as \Recent by any session
}

// Changes is what happened in a mailbox since a mod-sequence.
type Changes struct {
	Changed       []Msg       // new, or with changed flags; ascending by UID
	Vanished      imap.UIDSet // expunged since; may hold UIDs that the asker never saw
	HighestModSeq uint64
}

// Status is the answer to STATUS, from counters that are kept.
type Status struct {
	Messages, Recent, Unseen, Deleted uint32
	UIDNext, UIDValidity              uint32
	HighestModSeq                     uint64
	Size                              int64
	MailboxID                         string
	Recoverable                       bool // it holds deleted messages
}

// MailboxInfo is one line of LIST.
type MailboxInfo struct {
	Name        string // UTF-8 in normal form C, levels separated by "/"; INBOX in capitals
	SpecialUse  string // `\Sent` ..., or ""
	Subscribed  bool
	Exists      bool // false: only subscribed, or only a parent (\NonExistent, \Noselect)
	HasChildren bool
	ID          string // MAILBOXID (RFC 8474); "" if it does not exist
	Recoverable bool   // it holds deleted messages
}

// CopyResult pairs the UIDs of copies with those of their sources (RFC 4315, COPYUID).
type CopyResult struct {
	UIDValidity uint32
	From, To    []uint32
}

// Report is the result of Check.
type Report struct {
	Accounts  int `json:"accounts"`
	Mailboxes int `json:"mailboxes"`
	Entries   int `json:"entries"`
	Bodies    int `json:"bodies"`
	Queue     int `json:"queue"`
	// Recoverable is how many deleted messages can be brought back. Neither they nor their mailboxes nor bodies that only they have are
	// in the counts above.
	Recoverable int      `json:"recoverable"`
	Problems    []string `json:"problems"`
}
