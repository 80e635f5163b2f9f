package intake

import (
	"context"
	"time"

	"cmmpd/directory"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/smime/trust"
)

// Question is a message of which somebody wants to know what would become of it.
type Question struct {
	Path   policy.Path
	Sender *mail.Principal // the author of a submission, the owner of what is saved
	From   mail.Address    // of the envelope
	To     []mail.Address
}

// Explanation is what would become of a message, and why. It holds nothing of the
// message's content, and says no more than the directory, the configuration and the
// labels of the sender's own conversations.
type Explanation struct {
	Path       string   `json:"path"`
	From       string   `json:"from"`
	To         []string `json:"to"`
	Protection string   `json:"protection"` // how it came: "plain", "signed", "encrypted", …
	Classified bool     `json:"classified"` // false: it ends before the label is looked for
	Label      string   `json:"label"`      // empty: none
	LabelName  string   `json:"labelName"`
	// Chinese are the names in Traditional Chinese of all labels that the answer names.
	Chinese   map[string]string `json:"chinese"`
	Source    string            `json:"source"` // what gave it
	Signals   []Signal          `json:"signals"`
	Floor     string            `json:"floor,omitempty"` // of the conversation, which the author may lower and does
	Reason    string            `json:"reason,omitempty"`
	Demand    string            `json:"demand"`           // "free", "tls", "smime", "refuse"
	LeastForm string            `json:"leastForm"`        // of encryption that is demanded: "any", "oaep", "gcm"
	Form      string            `json:"form"`             // in which it would be sealed, or is encrypted
	Signer    string            `json:"signer,omitempty"` // whose key signs by rule: "author" or "department"
	Readers   []Reader          `json:"readers"`          // the recipients, and the sender or owner where they must read it
	Action    string            `json:"action"`           // "pass", "require-tls", "seal", "refuse", "defer"
	Reply     string            `json:"reply"`            // the front end's words to the client, where it is refused or deferred
	Err       error             `json:"-"`                // why it would not be taken; nil: it would
}

// Signal is one thing that speaks of the label.
type Signal struct {
	Label  string `json:"label"`
	Source string `json:"source"`
	Detail string `json:"detail,omitempty"`
}

// Reader is somebody who gets the message.
type Reader struct {
	Address     string       `json:"address"`
	Role        string       `json:"role"` // "recipient", "sender", "owner"
	Via         []string     `json:"via,omitempty"`
	Blind       bool         `json:"blind,omitempty"`
	Destination string       `json:"destination"` // "here", "elsewhere"
	Clearance   string       `json:"clearance,omitempty"`
	Demand      string       `json:"demand,omitempty"`
	Certificate *Certificate `json:"certificate,omitempty"`
	Problem     string       `json:"problem,omitempty"` // why nothing can be encrypted to them
	Temporary   bool         `json:"temporary,omitempty"`
}

// Certificate is the one that would be used for a reader.
type Certificate struct {
	Subject  string    `json:"subject"`
	Serial   string    `json:"serial"`
	SHA256   string    `json:"sha256"`
	Source   string    `json:"source"`
	Type     string    `json:"type"`
	NotAfter time.Time `json:"notAfter"`
	Reads    string    `json:"reads"` // "gcm", "oaep", "any"
}

// Explain says what would become of raw if it came now, by the steps and the code that
// would decide about it, up to the decision. Nothing is kept, sent or put on record. The
// error is about the question; what is wrong with the message is in the answer.
func (in *Intake) Explain(ctx context.Context, q Question, raw []byte) (*Explanation, error) {
	if err := in.o.Memory.Acquire(ctx, int64(2*len(raw))); err != nil {
		return nil, err
	}
	defer in.o.Memory.Release(int64(2 * len(raw)))
	p := &passage{env: &mail.Envelope{ID: mail.NewID(), From: q.From, To: q.To, Sender: q.Sender}, path: q.Path, asks: true}
	err := in.consider(ctx, p, raw)
	if err == nil {
		err = p.refusal()
	}
	if err != nil && mail.KindOf(err) == mail.Internal {
		return nil, err
	}
	return in.explanation(p, err), nil
}

// consider goes as far as the decision.
func (in *Intake) consider(ctx context.Context, p *passage, raw []byte) error {
	if p.path == policy.Append || p.path == policy.Draft {
		p.text, p.index = raw, message.Parse(raw, in.o.Message)
		use := func() (string, error) {
			if p.path == policy.Draft {
				return drafts, nil
			}
			return "", nil
		}
		return in.considerOwn(ctx, p, p.env.Sender.Account, use)
	}
	if err := in.parse(p, raw); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *passage) error{in.resolve, in.classify, in.judge, in.chooseSigner} {
		if err := step(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// explanation puts what was found into words. err is why the message would not be taken.
func (in *Intake) explanation(p *passage, err error) *Explanation {
	e := &Explanation{
		Path: p.path.String(), Classified: p.classified, From: p.env.From.String(), Label: string(p.label), Source: string(p.source), Floor: string(p.floor),
		Demand: p.demand.String(), LeastForm: in.o.Policy.DemandedCipher(p.facts).String(), Form: p.ciphers(), Action: p.decision.Action.String(), Signals: []Signal{}, To: []string{}, Readers: []Reader{},
	}
	if p.index != nil {
		e.Protection = in.o.Gateway.Inspect(p.text, p.index).Kind.String()
	}
	if p.label != "" {
		e.LabelName = in.o.Policy.Labels().Name(p.label)
	}
	if p.signer != policy.ByNobody {
		e.Signer = p.signer.String()
	}
	if p.floor != "" {
		e.Reason = p.asked.Reason
	}
	if p.protection.Enveloped != nil {
		e.Form = p.protection.Enveloped.Cipher.String()
	}
	for _, a := range p.env.To {
		e.To = append(e.To, a.String())
	}
	for _, r := range in.o.Policy.Readings(p.signals) {
		e.Signals = append(e.Signals, Signal{string(r.Label), string(r.Source), r.Detail})
	}
	e.Readers = append(e.Readers, in.explainReaders(p)...)
	e.Chinese = in.chinese(e)
	if err != nil {
		e.Err, e.Action = err, policy.Refuse.String()
		if mail.KindOf(err).Temporary() {
			e.Action = policy.Defer.String()
		}
	}
	return e
}

// chinese names the labels of an answer.
func (in *Intake) chinese(e *Explanation) map[string]string {
	labels := []string{e.Label, e.Floor}
	for _, s := range e.Signals {
		labels = append(labels, s.Label)
	}
	for _, r := range e.Readers {
		labels = append(labels, r.Clearance)
	}
	names := map[string]string{}
	for _, l := range labels {
		if l != "" {
			names[l] = in.o.Policy.Labels().ChineseName(mail.Label(l))
		}
	}
	return names
}

// explainReaders are the recipients, and who else must read the message.
func (in *Intake) explainReaders(p *passage) []Reader {
	var out []Reader
	blind := []bool{}
	if len(p.mailboxes) > 0 && p.index != nil {
		blind = p.blind()
	}
	recipients := p.recipients()
	for i, m := range p.mailboxes {
		r := Reader{Role: "recipient", Destination: policy.Here, Blind: i < len(blind) && blind[i]}
		if m.way != "" {
			r.Destination = policy.Elsewhere
		}
		for _, a := range m.via {
			r.Via = append(r.Via, a.String())
		}
		if p.classified {
			r.Demand = in.o.Policy.DemandFor(p.label, recipients[i]).String()
		}
		in.explainCertificate(&r, m.entry, p.demand)
		out = append(out, r)
	}
	switch {
	case p.sender.Account != "" && !p.reads(p.sender.Account):
		r := Reader{Role: "sender", Destination: policy.Here}
		in.explainCertificate(&r, p.sender, p.demand)
		out = append(out, r)
	case len(p.envelopes) > 0 && len(p.mailboxes) == 0:
		u := p.envelopes[0].readers[0]
		out = append(out, Reader{Role: "owner", Address: u.Address.String(), Destination: policy.Here, Certificate: certificateOf(u)})
	}
	return out
}

// explainCertificate adds who it is and which certificate would be chosen, where one is
// demanded.
func (in *Intake) explainCertificate(r *Reader, e directory.Entry, demand policy.Requirement) {
	r.Address, r.Clearance = e.Address.String(), string(e.Clearance)
	if demand != policy.SMIME {
		return
	}
	u, err := in.o.Gateway.Choose(candidate(e))
	if err != nil {
		r.Problem, r.Temporary = mail.PublicOf(err), mail.KindOf(err).Temporary()
		return
	}
	r.Certificate = certificateOf(u)
}

func certificateOf(u smime.Usable) *Certificate {
	c := &Certificate{
		Subject: u.Cert.Subject.String(), Serial: u.Cert.SerialNumber.Text(16), SHA256: u.Fingerprint,
		Source: u.Source, Type: trust.TypeOf(u.Cert), NotAfter: u.Cert.NotAfter.UTC(),
	}
	for form := policy.AnyAES256; form <= policy.GCM && u.Meets(form.String()); form++ {
		c.Reads = form.String()
	}
	return c
}
