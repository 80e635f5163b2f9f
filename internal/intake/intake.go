// Package intake is the one door: every message that enters the platform, whatever
// brought it, comes through here.
package intake

import (
	"context"
	"log/slog"
	"time"

	"cmmpd/audit"
	"cmmpd/directory"
	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/storage"
)

// Resolver finds people, posts and groups: directory.Directory.
type Resolver interface {
	Resolve(ctx context.Context, a mail.Address) ([]directory.Entry, error)
	Lookup(ctx context.Context, a mail.Address) (directory.Entry, error)
}

// Store keeps messages: storage.Store.
type Store interface {
	Deliver(ctx context.Context, d storage.Delivery) ([]storage.Placed, error)
	LabelOf(ctx context.Context, id mail.AccountID, messageIDs []string) ([]mail.Label, error)
}

// Sealer protects messages, and looks at how they are protected: smime.Gateway.
type Sealer interface {
	Choose(c smime.Candidate) (smime.Usable, error)
	Inspect(raw []byte, x *message.Index) smime.Protection
	Covers(p smime.Protection, must, may []smime.Candidate) error
	Seal(raw []byte, x *message.Index, o smime.SealOptions) ([]byte, error)
	Verify(raw []byte, x *message.Index, from []mail.Address) smime.SignatureResult
}

// Recorder keeps the record of decisions: audit.Log.
type Recorder interface {
	Note(e audit.Event)
}

// Options are the parts that intake needs.
type Options struct {
	Hostname  string   // our name in Received and Authentication-Results
	Domains   []string // the domains whose mail is delivered here, lower case
	Directory Resolver
	Store     Store
	Gateway   Sealer
	Audit     Recorder
	Policy    *policy.Policy
	Memory    *limit.Budget // bytes of messages in flight; default 512 MiB
	MaxHops   int           // Received fields; default 50
	Log       *slog.Logger
	Now       func() time.Time
}

// Intake accepts messages. It is safe for concurrent use.
type Intake struct{ o Options }

// New makes an Intake.
func New(o Options) (*Intake, error) { return &Intake{o}, nil }

// Accept takes a message from a submission (env.Sender is set) or from another server
// (env.Sender is nil). When it returns without an error the message is durable and in
// every recipient's mailbox; when it returns an error nothing of it is kept. The caller
// has reserved len(raw) bytes with Reserve and must not change raw afterwards.
func (in *Intake) Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error) {
	return "", mail.E(mail.Unsupported, "not served yet", nil)
}

// Resolve says whether mail for rcpt would be taken: NotFound for an unknown local
// address, Refused for a domain that is not ours, Unavailable while the directory
// cannot say.
func (in *Intake) Resolve(ctx context.Context, env *mail.Envelope, rcpt mail.Address) error {
	return mail.E(mail.Unsupported, "not served yet", nil)
}

// Reserve takes n bytes of the memory that messages in flight may use. It waits until
// they are free or ctx is done (Busy). Give them back with Release.
func (in *Intake) Reserve(ctx context.Context, n int64) error { return in.o.Memory.Acquire(ctx, n) }

// Release gives back what Reserve took.
func (in *Intake) Release(n int64) { in.o.Memory.Release(n) }
