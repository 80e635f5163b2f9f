package smime

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// Covers checks a message that its sender encrypted: everyone in must can open it, by
// any certificate of theirs that may be used; nobody else can but those in may; and
// the cipher is AES-256, as is what wraps its key for those with keys on elliptic
// curves. The error is of kind Refused and names who is missing or too
// many, or Unavailable where our revocation data is too old to decide.
//
// Whether the client filled in the RecipientInfos honestly cannot be seen without a
// key: one that names bob may hold anything.
func (g *Gateway) Covers(p Protection, must, may []Candidate) (Relied, error) {
	if err := encrypted(p, cms.AES256CBC, cms.AES256GCM); err != nil {
		return Relied{}, err
	}
	c := g.coverage(p.Enveloped)
	if err := c.require(must); err != nil {
		return Relied{}, err
	}
	for _, person := range may {
		c.claim(person)
	}
	if err := c.leftOver(); err != nil {
		return Relied{}, err
	}
	return c.relied, c.wrapped()
}

// Relied is on what, besides revocation data that holds now, the certificates of a message count.
type Relied struct {
	LastKnown time.Time      // the oldest data that is used although its own time is over; zero: none
	Unknown   []mail.Address // whose certificates passed although nothing is known about their revocation
}

func (r *Relied) note(a mail.Address, t trust.Result) {
	if t.Unknown && !slices.ContainsFunc(r.Unknown, a.Equal) {
		r.Unknown = append(r.Unknown, a)
	}
	for _, e := range t.Evidence {
		if e.LastKnown && (r.LastKnown.IsZero() || e.Made.Before(r.LastKnown)) {
			r.LastKnown = e.Made
		}
	}
}

// Readers are those of people to whose certificates, usable or not, the message is
// encrypted. It serves to name them; who may read it is for Covers to say.
func (g *Gateway) Readers(p Protection, people []Candidate) []mail.Address {
	if p.Enveloped == nil {
		return nil
	}
	var out []mail.Address
	for _, person := range people {
		for _, cert := range g.certificates(person) {
			if cert != nil && slices.ContainsFunc(p.Enveloped.Recipients, func(r cms.RecipientInfo) bool { return r.Matches(cert) }) {
				out = append(out, person.Address)
				break
			}
		}
	}
	return out
}

// CoversEach checks a message from outside: everyone in must can open it; who else
// can is the sender's affair. The cipher is any form of AES.
func (g *Gateway) CoversEach(p Protection, must []Candidate) (Relied, error) {
	if err := encrypted(p, cms.AES256CBC, cms.AES256GCM, cms.AES192CBC, cms.AES192GCM, cms.AES128CBC, cms.AES128GCM); err != nil {
		return Relied{}, err
	}
	c := g.coverage(p.Enveloped)
	err := c.require(must)
	return c.relied, err
}

// Strong says whether the message is encrypted by a form of AES.
func (p Protection) Strong() bool {
	return encrypted(p, cms.AES256CBC, cms.AES256GCM, cms.AES192CBC, cms.AES192GCM, cms.AES128CBC, cms.AES128GCM) == nil
}

func encrypted(p Protection, allowed ...cms.Cipher) error {
	switch {
	case p.Kind == EncryptedBroken:
		return mail.E(mail.Refused, "the message is encrypted in a way that cannot be checked", errors.New(p.Reason))
	case p.Kind != Encrypted || p.Enveloped == nil:
		return mail.E(mail.Refused, "the message is not encrypted", nil)
	}
	for _, c := range allowed {
		if p.Enveloped.Cipher == c {
			return nil
		}
	}
	if len(allowed) == 2 {
		return mail.E(mail.Refused, "the message is not encrypted by AES-256", nil)
	}
	return mail.E(mail.Refused, "the message is not encrypted by AES", nil)
}

// coverage matches the recipients of one encrypted message with people.
type coverage struct {
	g      *Gateway
	e      *cms.Enveloped
	known  []bool  // by recipient: somebody's usable certificate is named
	bad    []error // by recipient: it names a certificate of somebody's that may not be used
	relied Relied
}

func (g *Gateway) coverage(e *cms.Enveloped) *coverage {
	return &coverage{g: g, e: e, known: make([]bool, len(e.Recipients)), bad: make([]error, len(e.Recipients))}
}

// claim marks the recipients that are person and says whether they can open the
// message. Otherwise it says why not.
func (c *coverage) claim(person Candidate) (covered bool, why error) {
	all := c.g.find(person)
	why = unusable(person.Address, all)
	for _, j := range all {
		if j.result.Usable {
			why = mail.E(mail.Refused, "the message is not encrypted to "+show(person.Address), nil)
			break
		}
	}
	for i := range c.e.Recipients {
		for _, j := range all {
			if j.cert == nil || !c.e.Recipients[i].Matches(j.cert) {
				continue
			}
			if j.result.Usable {
				c.known[i] = true
				c.relied.note(person.Address, j.result)
				if c.e.Recipients[i].Fits(j.cert) {
					covered = true
				} else {
					why = mail.E(mail.Refused, "the message is encrypted to "+show(person.Address)+" in a way that they cannot open", nil)
				}
				continue
			}
			c.bad[i] = named(person.Address, j)
			why = c.bad[i]
		}
	}
	return covered, why
}

// named is the error for a recipient whose certificate may not be used.
func named(a mail.Address, j judged) error {
	if j.result.Failure == trust.KeyUsage {
		return mail.E(mail.Refused, "the message is encrypted to a certificate of "+show(a)+" that is not for encryption", lastStep(j.result))
	}
	return unusable(a, []judged{j})
}

// require claims everyone and joins what is missing into one sentence. A reason that
// may pass by itself makes the whole answer temporary only if it is the only kind.
func (c *coverage) require(must []Candidate) error {
	var missing []error
	for _, person := range must {
		if covered, why := c.claim(person); !covered {
			missing = append(missing, why)
		}
	}
	return join(missing)
}

// leftOver is the error for recipients who are nobody's usable certificate.
func (c *coverage) leftOver() error {
	var extra []error
	for i, ok := range c.known {
		switch {
		case ok:
		case c.bad[i] != nil:
			extra = append(extra, c.bad[i])
		default:
			extra = append(extra, mail.E(mail.Refused,
				"the message is also encrypted to somebody who is not among its recipients"+identify(&c.e.Recipients[i]), nil))
		}
	}
	return join(extra)
}

// wrapped is the error for recipients whose copy of the key is easier to get at than the
// content itself.
func (c *coverage) wrapped() error {
	for i := range c.e.Recipients {
		if size := c.e.Recipients[i].WrapSize(); size > 0 && size < cms.AES256GCM.KeySize() {
			return mail.E(mail.Refused, fmt.Sprintf("the key of the message is wrapped by AES-%d, not by AES-256%s", 8*size, identify(&c.e.Recipients[i])), nil)
		}
	}
	return nil
}

// identify is what the sender can find a recipient's certificate by.
func identify(r *cms.RecipientInfo) string {
	switch {
	case r.Kind == cms.Other:
		return " (by other means than a certificate)"
	case r.Serial != nil && r.Serial.BitLen() <= 160:
		return fmt.Sprintf(" (certificate number %X)", r.Serial)
	case len(r.SKI) > 0 && len(r.SKI) <= 32:
		return fmt.Sprintf(" (key identifier %X)", r.SKI)
	}
	return ""
}

// maxReasons bounds how many reasons one sentence names.
const maxReasons = 5

// join makes one error of several: Refused if any is final, else Unavailable. nil if
// there is none.
func join(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	kind := mail.Unavailable
	var parts []string
	for _, err := range errs {
		if k := mail.KindOf(err); !k.Temporary() {
			kind = k
		}
		if s := mail.PublicOf(err); len(parts) < maxReasons && s != "" && !slices.Contains(parts, s) {
			parts = append(parts, s)
		}
	}
	if len(errs) > maxReasons {
		parts = append(parts, "and more")
	}
	return mail.E(kind, strings.Join(parts, "; "), errors.Join(errs...))
}
