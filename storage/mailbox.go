package storage

import (
	"context"

	"github.com/emersion/go-imap/v2"
)

// Mailbox is a handle on an open mailbox, whose index in memory all handles share.
type Mailbox struct{}

// Close gives the handle back.
func (m *Mailbox) Close() {}

// Name is the mailbox's name now: it follows a rename.
func (m *Mailbox) Name() string { return "" }

// UIDValidity of RFC 3501, section 2.3.1.1.
func (m *Mailbox) UIDValidity() uint32 { return 0 }

// ID is the MAILBOXID (RFC 8474).
func (m *Mailbox) ID() string { return "" }

// SpecialUse is the special-use attribute, or "".
func (m *Mailbox) SpecialUse() string { return "" }

// Deleted says whether the mailbox was deleted after it was opened.
func (m *Mailbox) Deleted() bool { return false }

// Keywords is every keyword the mailbox knows.
func (m *Mailbox) Keywords() []string { return nil }

// State is the state now.
func (m *Mailbox) State() State { return State{} }

// ClaimRecent makes the caller's session the one that sees what is new as \Recent: UIDs from firstUID on.
func (m *Mailbox) ClaimRecent() (firstUID uint32) { return 0 }

// Snapshot is all messages, ascending by UID, and the state at the same moment.
func (m *Mailbox) Snapshot() ([]Msg, State) { return nil, State{} }

// Get is one message.
func (m *Mailbox) Get(uid uint32) (Msg, bool) { return Msg{}, false }

// Changes is what happened after the mod-sequence since.
func (m *Mailbox) Changes(since uint64) (Changes, error) { return Changes{}, errSoon }

// Watch calls f after every commit that touched the mailbox, from one goroutine, calls folded together. f must not
// block. stop, or the end of ctx, ends it.
func (m *Mailbox) Watch(ctx context.Context, f func()) (stop func()) { return func() {} }

// Summary is the summary of one message; the body is not opened.
func (m *Mailbox) Summary(ctx context.Context, uid uint32) (*Summary, error) { return nil, errSoon }

// Body opens a message for reading.
func (m *Mailbox) Body(ctx context.Context, uid uint32) (*Content, error) { return nil, errSoon }

// StoreFlags changes flags of those of uids that exist. With unchangedSince > 0, messages whose mod-sequence is
// greater are left alone and returned in modified (RFC 7162). changed holds the messages whose flags are now different.
func (m *Mailbox) StoreFlags(ctx context.Context, uids imap.UIDSet, op FlagOp, flags []string, unchangedSince uint64) (changed []Msg, modified imap.UIDSet, err error) {
	return nil, nil, errSoon
}

// Expunge removes the messages marked \Deleted, of uids only if that is not nil.
func (m *Mailbox) Expunge(ctx context.Context, uids *imap.UIDSet) (gone imap.UIDSet, err error) {
	return nil, errSoon
}

// Copy copies messages into another mailbox of the account, in one act. NotFound: no such mailbox.
func (m *Mailbox) Copy(ctx context.Context, uids imap.UIDSet, dest string) (CopyResult, error) {
	return CopyResult{}, errSoon
}

// Move is Copy and removal from m in one act.
func (m *Mailbox) Move(ctx context.Context, uids imap.UIDSet, dest string) (CopyResult, error) {
	return CopyResult{}, errSoon
}

// Content is a message as served, prefix and then body, opened for reading at any offset.
type Content struct{}

// ReadAt satisfies io.ReaderAt. Only the frames that are needed are read and decrypted.
func (c *Content) ReadAt(p []byte, off int64) (int, error) { return 0, errSoon }

// Size is the length in octets.
func (c *Content) Size() int64 { return 0 }

// Close forgets the key.
func (c *Content) Close() error { return nil }
