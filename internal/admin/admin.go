// Package admin is the door for those who administer the platform: what they may ask,
// who may ask it, and the audit record of each act. Commands reach a running daemon over
// its Unix socket (Server, Client); without a daemon they call the Service themselves,
// under the store's lock.
package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"cmmpd/audit"
	"cmmpd/internal/intake"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// RoleAdmin may change the directory.
const RoleAdmin = "admin"

// Caller is who asks: the account of the operating system, and, for what needs a role, a
// log-in.
type Caller struct {
	System   string // "uid 0", by the credentials of the socket's peer
	Name     string // log-in name; empty: none was given
	Password string
}

// ImportResult says what an import of LDIF did.
type ImportResult struct {
	Added     int `json:"added"`
	Modified  int `json:"modified"`
	Deleted   int `json:"deleted"`
	Unchanged int `json:"unchanged"`
	// Changed are the names of the entries that were changed.
	Changed []string `json:"changed"`
}

// CheckReport is what a check of the store found: its counts, and what is wrong.
type CheckReport struct {
	Accounts  int `json:"accounts"`
	Mailboxes int `json:"mailboxes"`
	Entries   int `json:"entries"`
	Bodies    int `json:"bodies"`
	Queue     int `json:"queue"`
	// Recoverable is how many deleted messages can be brought back; they are in none of the counts above.
	Recoverable int      `json:"recoverable"`
	Problems    []string `json:"problems"`
	// Warnings are not of the store; they do not fail a check.
	Warnings []string `json:"warnings,omitempty"`
}

// Options are the parts that the Service acts on. All functions must be set.
type Options struct {
	// Login proves who a caller is.
	Login func(ctx context.Context, client mail.Client, name, password string) (mail.Principal, error)
	// Import and ExportDirectory are the embedded directory's.
	Import          func(ctx context.Context, ldif io.Reader, actor string) (ImportResult, error)
	ExportDirectory func(ctx context.Context, w io.Writer) error
	// Check is the store's. deep reads every body.
	Check func(ctx context.Context, deep bool) (CheckReport, error)
	// Compact is the store's.
	Compact func(ctx context.Context) (storage.CompactReport, error)
	// PlatformKeys and RotateKey are the store's.
	PlatformKeys func(ctx context.Context) (PlatformKeys, error)
	RotateKey    func(ctx context.Context, name string) error
	// Queue is the mail on its way out.
	Queue func(ctx context.Context) (Queue, error)
	// Backup writes a part of the platform, VerifyBackup reads one to its end.
	Backup       func(ctx context.Context, part string, w io.Writer) error
	VerifyBackup func(ctx context.Context, r io.Reader) (BackupReport, error)
	// RestoreAccount brings messages of a backup back into their account.
	RestoreAccount func(ctx context.Context, q RestoreRequest, mailBackup, vault io.Reader) (RestoreResult, error)
	// ImportKey puts a private key in PEM into the slot of the service keys under the name.
	ImportKey func(ctx context.Context, name string, key []byte) error
	// KeyAct does an act on a key in files.
	KeyAct func(ctx context.Context, a KeyAct) ([]byte, error)
	// Explain says what would become of a message.
	Explain func(ctx context.Context, q ExplainRequest, message io.Reader) (*intake.Explanation, error)
	// Escrow does acts about the keys that officers keep; nil where no daemon runs.
	Escrow Escrow
	// AuditDir is the folder that Audit writes.
	AuditDir string
	Audit    *audit.Log
	Syslog   audit.Syslog // how the audit log is written in that format
	Names    audit.Names  // the personal data beside the log; nil: it is in it
	// Forget erases of that data, and returns how many values; nil where there is no table.
	Forget func(q ForgetRequest) (int, error)
	// LocalImport lets a caller without a log-in change the directory: on a machine where
	// no daemon runs yet, the operating system's rights on the files are all there is.
	LocalImport bool
	Log         *slog.Logger
}

// Service does administrative acts: each is checked, recorded, done, and its outcome
// recorded. It may be used by several goroutines.
type Service struct{ o Options }

// NewService makes a Service.
func NewService(o Options) *Service { return &Service{o} }

// Import applies LDIF to the directory as the caller, who must have the role admin.
func (s *Service) Import(ctx context.Context, who Caller, ldif io.Reader) (ImportResult, error) {
	actor, err := s.authorize(ctx, who, RoleAdmin)
	if err != nil {
		return ImportResult{}, err
	}
	act, err := s.begin(ctx, audit.DirectoryImport, actor, who)
	if err != nil {
		return ImportResult{}, err
	}
	res, err := s.o.Import(ctx, ldif, actor)
	for name, n := range map[string]int{"added": res.Added, "modified": res.Modified, "deleted": res.Deleted, "unchanged": res.Unchanged} {
		act.Detail(name, strconv.Itoa(n))
	}
	if len(res.Changed) > 0 {
		act.Detail("entries", summary(res.Changed))
	}
	return res, s.end(ctx, act, err)
}

// summary names the first entries and counts the others.
func summary(dns []string) string {
	const most = 20
	s := ""
	for i, dn := range dns {
		if i == most {
			return fmt.Sprintf("%s; and %d more", s, len(dns)-most)
		}
		if i > 0 {
			s += "; "
		}
		s += dn
	}
	return s
}

// ExportDirectory writes the whole directory as LDIF, password verifiers included; the
// caller must have the role admin.
func (s *Service) ExportDirectory(ctx context.Context, who Caller, w io.Writer) error {
	actor, err := s.authorize(ctx, who, RoleAdmin)
	if err != nil {
		return err
	}
	act, err := s.begin(ctx, audit.DirectoryExport, actor, who)
	if err != nil {
		return err
	}
	return s.end(ctx, act, s.o.ExportDirectory(ctx, w))
}

// Check looks whether the store keeps its invariants. Whoever may use the socket may ask:
// the answer holds counts only.
func (s *Service) Check(ctx context.Context, who Caller, deep bool) (CheckReport, error) {
	act, err := s.begin(ctx, audit.StoreCheck, "", who)
	if err != nil {
		return CheckReport{}, err
	}
	rep, err := s.o.Check(ctx, deep)
	if err == nil {
		act.Detail("problems", strconv.Itoa(len(rep.Problems)))
	}
	if rep.Problems == nil {
		rep.Problems = []string{}
	}
	return rep, s.end(ctx, act, err)
}

// errLogin is the answer to an act without a log-in that needs one.
var errLogin = mail.E(mail.AuthFailed, "this needs a log-in: give --user and --password-file", nil)

// authorize says who the caller is for the record, or why they may not: one of the roles is needed.
func (s *Service) authorize(ctx context.Context, who Caller, roles ...string) (actor string, err error) {
	if who.Name == "" {
		if s.o.LocalImport {
			return "", nil
		}
		return "", errLogin
	}
	p, err := s.o.Login(ctx, mail.Client{Protocol: "admin", Remote: who.System}, who.Name, who.Password)
	if err != nil {
		return "", err
	}
	if !slices.ContainsFunc(roles, p.HasRole) {
		s.noteRefused(p.UID, who, roles)
		return "", mail.E(mail.Denied, p.UID+" does not have the role "+strings.Join(roles, " or "), nil)
	}
	return p.UID, nil
}

// noteRefused puts on record that somebody has none of the roles that they need.
func (s *Service) noteRefused(uid string, who Caller, roles []string) {
	s.o.Audit.Note(audit.Event{Type: audit.AdminRefused, Actor: uid, Client: "socket, " + who.System, Outcome: mail.Denied.String(), Detail: map[string]string{"roles": strings.Join(roles, " ")}})
}

// begin puts an act on record. actor is empty where the caller did not need to log in:
// then the system's account is what we know.
func (s *Service) begin(ctx context.Context, event, actor string, who Caller) (*audit.Act, error) {
	return s.beginOn(ctx, event, actor, "", who)
}

// beginOn is begin of an act on something that has a name.
func (s *Service) beginOn(ctx context.Context, event, actor, subject string, who Caller) (*audit.Act, error) {
	return s.beginWith(ctx, event, actor, subject, who, nil)
}

// beginWith is beginOn of an act of which more is to be said.
func (s *Service) beginWith(ctx context.Context, event, actor, subject string, who Caller, detail map[string]string) (*audit.Act, error) {
	if actor == "" {
		actor = who.System
	}
	act, err := s.o.Audit.Begin(ctx, audit.Event{Type: event, Actor: actor, Subject: subject, Client: "socket, " + who.System, Detail: detail})
	if err != nil {
		return nil, notBegun(err)
	}
	return act, nil
}

// notBegun is the error of an act that could not be put on record.
func notBegun(err error) error {
	if errors.Is(err, audit.ErrUnwitnessed) {
		return err // it says what is waited for
	}
	return mail.E(mail.Unavailable, "the audit log cannot be written, so nothing was done", err)
}

// end puts the outcome on record. An outcome that cannot be recorded is not reported as
// done.
func (s *Service) end(ctx context.Context, act *audit.Act, outcome error) error {
	if err := act.End(context.WithoutCancel(ctx), outcome); err != nil {
		return mail.E(mail.Unavailable, "the act may have been done, but its outcome could not be put on record", err)
	}
	return outcome
}
