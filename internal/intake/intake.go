// Package intake is the one door: every message that enters the platform, whatever
// brought it, comes through here. docs/flow.md tells the journey.
package intake

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"cmmpd/audit"
	"cmmpd/directory"
	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/internal/queue"
	"cmmpd/smime"
	"cmmpd/storage"
)

// Resolver finds people, posts and groups: directory.Directory.
type Resolver interface {
	Resolve(ctx context.Context, a mail.Address) ([]directory.Entry, error)
	Lookup(ctx context.Context, a mail.Address) (directory.Entry, error)
	ByAccount(ctx context.Context, id mail.AccountID) (directory.Entry, error)
	Certified(ctx context.Context) ([]directory.Entry, error)
}

// Store keeps messages: storage.Store.
type Store interface {
	Deliver(ctx context.Context, d storage.Delivery) ([]storage.Placed, error)
	LabelOf(ctx context.Context, id mail.AccountID, messageIDs []string) ([]mail.Label, error)
}

// Sealer protects messages, and looks at how they are protected: smime.Gateway.
type Sealer interface {
	Choose(c smime.Candidate) (smime.Usable, error)
	Labels(raw []byte, x *message.Index) smime.Labels
	Inspect(raw []byte, x *message.Index) smime.Protection
	Covers(p smime.Protection, must, may []smime.Candidate) (smime.Relied, error)
	Readers(p smime.Protection, people []smime.Candidate) []mail.Address
	CoversEach(p smime.Protection, must []smime.Candidate) (smime.Relied, error)
	Seal(raw []byte, x *message.Index, o smime.SealOptions) ([]byte, error)
	Verify(raw []byte, x *message.Index) smime.SignatureResult
	HasOwn(a mail.Address) bool
	HasAuthority(domain string) bool
	Sign(raw []byte, x *message.Index, o smime.SignOptions) ([]byte, error)
}

// Queue carries mail to other domains: queue.Queue.
type Queue interface {
	Way(domain string) (string, error)
	Item(l queue.Letter) (storage.QueueItem, error)
	Wake()
}

// Recorder keeps the record of decisions: audit.Log.
type Recorder interface {
	Note(e audit.Event)
	Begin(ctx context.Context, e audit.Event) (*audit.Act, error)
}

// Options are the parts that intake works with. Directory, Store, Gateway, Audit and
// Policy must be set.
type Options struct {
	Hostname  string   // our name in Received and Authentication-Results; default localhost
	Domains   []string // the domains whose mail is delivered here, lower case
	Directory Resolver
	Store     Store
	Gateway   Sealer
	Audit     Recorder
	Policy    *policy.Policy
	Queue     Queue          // nil: no mail to other domains
	Memory    *limit.Budget  // bytes of messages in flight; default 512 MiB
	Message   message.Limits // what is read of a message
	MaxHops   int            // Received fields of a message; default 50
	// Lowerers are the roles of those who may lower the label of a conversation; empty: nobody.
	Lowerers []string
	// Soft are the labels under which what a client encrypted passes although it is not
	// known whether a reader's certificate is revoked. No label counts as unclassified. What
	// we seal ourselves is never soft.
	Soft []mail.Label
	Log  *slog.Logger     // default: nothing is logged
	Now  func() time.Time // default: time.Now
}

// Intake accepts messages. It is safe for concurrent use.
type Intake struct {
	o     Options
	local map[string]bool // our domains
}

// New makes an Intake. The error is of kind Invalid.
func New(o Options) (*Intake, error) {
	if o.Directory == nil || o.Store == nil || o.Gateway == nil || o.Audit == nil || o.Policy == nil {
		return nil, mail.E(mail.Invalid, "", errors.New("intake: an option is missing"))
	}
	if o.Hostname == "" {
		o.Hostname = "localhost"
	}
	if o.Memory == nil {
		o.Memory = limit.NewBudget(512 << 20)
	}
	if o.MaxHops <= 0 {
		o.MaxHops = 50
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	in := &Intake{o: o, local: map[string]bool{}}
	for _, d := range o.Domains {
		in.local[d] = true
	}
	return in, nil
}

// Accept takes a message from a submission (env.Sender is set) or from another server
// (env.Sender is nil). When it returns without an error the message is durable and in
// every recipient's mailbox, and in the queue for those elsewhere. If some mailboxes are full
// (but not all), the others have it, and the sender has a report about those. When it
// returns an error nothing of it is kept. The caller has reserved len(raw) bytes with
// Reserve and must not change raw until Accept returns; then it may, for nothing of raw is kept.
func (in *Intake) Accept(ctx context.Context, env *mail.Envelope, raw []byte) (mail.ID, error) {
	p := &passage{env: env, path: policy.Inbound}
	if env.Sender != nil {
		p.path = policy.Submission
	}
	if env.ID == "" {
		env.ID = mail.NewID()
	}
	if err := in.parse(p, raw); err != nil {
		return "", err
	}
	if err := in.resolve(ctx, p); err != nil {
		return "", err
	}
	if err := in.classify(ctx, p); err != nil {
		return "", err
	}
	if err := in.decide(ctx, p); err != nil {
		return "", err
	}
	release, err := in.protect(ctx, p)
	if err != nil {
		return "", err
	}
	defer release()
	if err := in.onRecord(ctx, p, in.commit); err != nil {
		return "", err
	}
	return env.ID, nil
}

// passage is one message on its way through the door, filled in step by step.
type passage struct {
	env  *mail.Envelope
	path policy.Path
	asks bool // somebody only wants to know: nothing goes on record

	// parse
	header message.Header // of text
	text   []byte         // the message as it came, with our trace fields, without what must not stay
	index  *message.Index // of text

	// resolve
	mailboxes []mailbox
	sender    directory.Entry // of a submission; empty until somebody needs it

	// classify
	asked   *policy.Lowering // by the author of a submission
	floor   mail.Label       // what the conversation demanded before it was lowered; empty: nothing was
	signals policy.Signals
	label   mail.Label
	source  policy.Source

	classified bool

	// decide
	facts      policy.Facts
	demand     policy.Requirement
	protection smime.Protection
	decision   policy.Decision
	usable     map[string]smime.Usable // whom Seal encrypts to, by mailbox.key
	envelopes  []envelope              // the copies to be sealed
	relied     smime.Relied            // of what came encrypted
	signer     policy.Signer           // whose key signs by rule
	signedFor  mail.Address            // the author, where somebody signs

	// protect
	bodies []storage.Body

	// commit
	full []mailbox // those that were left out
	told bool      // the sender gets a report about them
}

// mailbox is one that gets the message, and how the envelope came to name it. Of one
// elsewhere the entry has the address of the envelope and what the directory knows of it,
// which may be nothing.
type mailbox struct {
	entry directory.Entry
	via   []mail.Address // recipients of the envelope: the entry's own address, an alias, a group
	way   string         // of the queue; empty: it is here
}

// key tells mailboxes apart.
func (m *mailbox) key() string {
	if m.way != "" {
		return "to " + m.entry.Address.String() // whether case matters there, only they know (RFC 5321, section 2.4)
	}
	return accountKey(m.entry.Account)
}

func accountKey(a mail.AccountID) string { return "of " + string(a) }

// Reserve takes n bytes of the memory that messages in flight may use. It waits until
// they are free or ctx is done (Busy). Give them back with Release.
func (in *Intake) Reserve(ctx context.Context, n int64) error { return in.o.Memory.Acquire(ctx, n) }

// TryReserve is Reserve that does not wait, and says whether it has them.
func (in *Intake) TryReserve(n int64) bool { return in.o.Memory.TryAcquire(n) }

// Release gives back what Reserve took.
func (in *Intake) Release(n int64) { in.o.Memory.Release(n) }
