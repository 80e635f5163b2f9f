package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"cmmpd/imap"
	"cmmpd/internal/admin"
	"cmmpd/internal/intake"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smtp"
)

// The exit codes of "cmmpd policy explain" for what would not be taken.
const (
	exitRefused  = 3
	exitDeferred = 4
)

// addressList is a flag that may be given several times.
type addressList []string

func (l *addressList) String() string { return fmt.Sprint(*l) }

func (l *addressList) Set(s string) error {
	a, err := mail.ParseAddress(s)
	if err != nil {
		return fmt.Errorf("%q is not an address", s)
	}
	*l = append(*l, a.String())
	return nil
}

// policyExplain is "cmmpd policy explain": exit 0 if the message would be taken, 3 if it
// would be refused, 4 if it would be deferred.
func policyExplain(args []string) error {
	fs := newFlags("policy explain", "--config FILE [--path PATH] [--user NAME] [--from ADDRESS] [--to ADDRESS]... [--lang en|zh-Hant] [--json] MESSAGE")
	way := fs.String("path", policy.Submission.String(), "the `way` in: submission, inbound, append (saved to a mailbox) or drafts")
	user := fs.String("user", "", "log-in `name` or address of who submits or saves it; without it the author in From")
	from := fs.String("from", "", "`address` of the envelope's sender; without it that of the user, or From")
	lang := fs.String("lang", "en", "`language` of the answer: en or zh-Hant")
	asJSON := fs.Bool("json", false, "print the answer as JSON")
	var to addressList
	fs.Var(&to, "to", "`address` of a recipient of the envelope, may be repeated; without it To, Cc and Bcc")
	var e *intake.Explanation
	err := withOperator(fs, args, 1, func(ctx context.Context, op *operator) error {
		if explainWords[*lang] == nil {
			return usageError{fmt.Errorf("--lang %s is neither en nor zh-Hant", *lang)}
		}
		if _, ok := pathOf(*way); !ok {
			return usageError{fmt.Errorf("--path %s is none of submission, inbound, append, drafts", *way)}
		}
		raw, err := readMessage(fs.Arg(0))
		if err != nil {
			return err
		}
		e, err = op.explain(ctx, admin.ExplainRequest{Path: *way, User: *user, From: *from, To: to}, bytes.NewReader(raw))
		return err
	})
	if err != nil {
		return err
	}
	if *asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "  ")
		err = out.Encode(e)
	} else {
		err = explained(os.Stdout, e, *lang)
	}
	switch {
	case err != nil:
		return err
	case e.Action == policy.Refuse.String():
		return exitError{exitRefused, errors.New("it would be refused")}
	case e.Action == policy.Defer.String():
		return exitError{exitDeferred, errors.New("it would be deferred")}
	}
	return nil
}

// explain answers with the intake that is open here.
func (p *platform) explain(ctx context.Context, r admin.ExplainRequest, body io.Reader) (*intake.Explanation, error) {
	raw, err := io.ReadAll(io.LimitReader(body, int64(p.cfg.Limits.MessageSize)+1))
	if err == nil && len(raw) > int(p.cfg.Limits.MessageSize) {
		err = mail.E(mail.TooLarge, fmt.Sprintf("the message is longer than limits.message-size, %v", p.cfg.Limits.MessageSize), nil)
	}
	if err != nil {
		return nil, err
	}
	q, err := p.question(ctx, r, message.Parse(raw, p.cfg.Limits.message()).Root.Envelope)
	if err != nil {
		return nil, err
	}
	e, err := p.intake.Explain(ctx, q, raw)
	if err == nil && e.Err != nil {
		e.Reply = smtp.Reply(e.Err)
		if q.Path == policy.Append || q.Path == policy.Draft {
			e.Reply = imap.Reply(e.Err)
		}
	}
	return e, err
}

// pathOf is the path of a name.
func pathOf(name string) (policy.Path, bool) {
	for p := policy.Submission; p <= policy.Draft; p++ {
		if p.String() == name {
			return p, true
		}
	}
	return 0, false
}

// question completes a request by what the message itself says.
func (p *platform) question(ctx context.Context, r admin.ExplainRequest, env *message.Envelope) (q intake.Question, err error) {
	var ok bool
	if q.Path, ok = pathOf(r.Path); !ok {
		return q, mail.E(mail.Invalid, "the path is not known", nil)
	}
	author := addressesOf(env.From)
	if r.From != "" {
		if q.From, err = mail.ParseAddress(r.From); err != nil {
			return q, err
		}
	} else if len(author) > 0 {
		q.From = author[0]
	}
	for _, s := range r.To {
		a, err := mail.ParseAddress(s)
		if err != nil {
			return q, err
		}
		q.To = append(q.To, a)
	}
	if len(r.To) == 0 {
		for _, a := range addressesOf(env.To, env.Cc, env.Bcc) {
			if !slices.ContainsFunc(q.To, a.Equal) {
				q.To = append(q.To, a)
			}
		}
	}
	if q.Path == policy.Inbound {
		return q, nil
	}
	name := r.User
	if name == "" {
		name = q.From.String()
	}
	who, err := p.dir.Principal(ctx, name)
	if err != nil {
		return q, mail.E(mail.KindOf(err), fmt.Sprintf("%q is nobody who can log in here; say by --user who sends or saves the message", name), nil)
	}
	q.Sender = &who
	if r.From == "" && !who.MaySendAs(q.From) {
		q.From = who.Address
	}
	if !who.MaySendAs(q.From) {
		return q, mail.E(mail.Denied, who.UID+" may not send as "+q.From.String(), nil)
	}
	return q, nil
}

// addressesOf are the addresses that lists name.
func addressesOf(lists ...[]message.Address) []mail.Address {
	var out []mail.Address
	for _, list := range lists {
		for _, a := range list {
			if m, ok := a.Mail(); ok {
				out = append(out, m)
			}
		}
	}
	return out
}
