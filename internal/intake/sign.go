package intake

import (
	"context"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
)

// chooseSigner finds out whose key signs a submission for its author. What their own client
// has signed or encrypted is left to it; what has several authors is nobody's to sign.
func (in *Intake) chooseSigner(ctx context.Context, p *passage) error {
	from := authors(p.index)
	if p.path != policy.Submission || p.protection.Kind != smime.Plain || !smime.Signable(p.index) || len(from) != 1 || len(p.index.Root.Envelope.From) != 1 {
		return nil
	}
	if in.o.Policy.Signs(from[0], p.label, func(policy.Signer) bool { return true }) == policy.ByNobody {
		return nil
	}
	own := in.o.Gateway.HasOwn(from[0])
	if own {
		var err error
		if own, err = in.owns(ctx, p.env.Sender, from[0]); err != nil {
			return err
		}
	}
	p.signer, p.signedFor = in.o.Policy.Signs(from[0], p.label, func(by policy.Signer) bool {
		return by == policy.ByAuthor && own || by == policy.ByDepartment && in.o.Gateway.HasAuthority(from[0].Domain)
	}), from[0]
	return nil
}

// owns says whether somebody may use the key that belongs to an address: it is their own, or that of a post that
// they hold. That they may write in its name was found before.
func (in *Intake) owns(ctx context.Context, who *mail.Principal, a mail.Address) (bool, error) {
	if !who.MaySendAs(a) {
		return false, nil
	}
	e, err := in.o.Directory.Lookup(ctx, a)
	switch {
	case err != nil && mail.KindOf(err) == mail.NotFound:
		return false, nil
	case err != nil:
		return false, err
	}
	return e.Kind == directory.Post || e.Kind == directory.Person && e.Account != "" && e.Account == who.Account, nil
}

// sign signs a submission that is not sealed, if a rule says so. release gives back the
// memory that the signed message takes.
func (in *Intake) sign(ctx context.Context, p *passage) (release func(), err error) {
	if p.signer == policy.ByNobody {
		return func() {}, nil
	}
	release, err = in.room(ctx, len(p.text), 1)
	if err != nil {
		return nil, err
	}
	o := smime.SignOptions{Author: p.signedFor, Own: p.signer == policy.ByAuthor, Label: in.marking(p.label).ESS}
	text, err := in.o.Gateway.Sign(p.text, p.index, o)
	if err != nil {
		release()
		return nil, err
	}
	p.text, p.header, p.index = text, message.ParseHeader(text, in.o.Message), message.Parse(text, in.o.Message)
	return release, nil
}
