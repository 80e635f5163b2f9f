package smime

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Opened is a decrypted message.
type Opened struct {
	Entity []byte // the decrypted MIME entity, as it was encrypted
	// Inner is the message as its author wrote it, as far as it could be unwrapped: the
	// signature of the outermost layer, the fields of header protection and legacy display elements are gone.
	Inner     []byte
	Protected bool // the header of Inner is the protected one (RFC 9788), not the outer one
	// Differs names fields, in lower case, that stand outside in another form than the
	// inner side says was sent: somebody changed, added or took them away.
	Differs []string
	// Confidential names fields of a protected header, in lower case, that did not stand outside as they are: an
	// answer should not tell them to others (RFC 9788, section 6.1).
	Confidential []string
	// Signature is that of the whole entity: by the author, or by the domain (see
	// SignatureResult.Domain). Unless it passes, the content must be shown as unverified:
	// CBC lets others change it (EFAIL, CVE-2017-17689).
	Signature SignatureResult
	// Author is the signature that the author's own client made, where the gateway
	// wrapped it; Status None otherwise.
	Author SignatureResult
}

// Open decrypts a message whose root entity is encrypted, with k, checks the
// signature within, and unwraps the protected header. There is one error, of kind
// Invalid, for everything that can be wrong with the key or the ciphertext.
func (g *Gateway) Open(raw []byte, x *message.Index, k cms.KeyOpener) (*Opened, error) {
	p := g.Inspect(raw, x)
	switch {
	case p.Kind == EncryptedBroken:
		return nil, mail.E(mail.Invalid, "the message could not be decrypted", errors.New(p.Reason))
	case p.Kind != Encrypted:
		return nil, mail.E(mail.Invalid, "the message is not encrypted", nil)
	}
	entity, err := p.Enveloped.Decrypt(k)
	if err != nil {
		return nil, mail.E(mail.Invalid, "the message could not be decrypted", err)
	}
	return g.openInner(split(raw[x.Root.HeaderStart:x.Root.BodyStart]), entity), nil
}

// openInner reads the decrypted entity. It never fails: what is no MIME is the body of
// a message with the outer header.
func (g *Gateway) openInner(outer fields, entity []byte) *Opened {
	o := &Opened{Entity: entity}
	payload, x := expand(entity)
	signed, content, result := g.signed(payload, x.Root)
	if signed != nil {
		if payload = content; payload == nil {
			payload = signed.Content
		}
		payload, x = expand(payload)
	}
	header := outer
	switch hp := strings.ToLower(x.Root.Param("hp")); {
	case hp == "cipher" || hp == "clear":
		o.Protected = true
		header = split(payload[x.Root.HeaderStart:x.Root.BodyStart])
		said := hpOuter(payload, x.Root)
		o.Differs = differs(header.mine, outer.mine, said)
		if hp == "cipher" {
			o.Confidential = missing(header.mine, said)
			payload, x = g.withoutLegacy(payload, x)
		}
	case hp == "" && strings.EqualFold(x.Root.Param("protected-headers"), "v1"):
		o.Protected = true
		header = split(payload[x.Root.HeaderStart:x.Root.BodyStart])
		inner, subject := cutSubject(header.mine) // it does not say what was left outside; in place of a subject a word is
		outside, shown := cutSubject(outer.mine)
		o.Differs, o.Confidential = differs(inner, outside, nil), missing(subject, pairsOf(shown))
	}
	o.Inner = unwrap(header, payload, x.Root)
	author, why := soleAuthor(authors(header.mine))
	o.Signature, o.Author = result, SignatureResult{Status: None, Reason: "not signed"}
	if signed == nil {
		return o
	}
	if why != "" {
		o.Signature = SignatureResult{Status: Policy, Reason: why}
		return o
	}
	o.Signature = g.verifySigned(signed, content, author)
	if r := x.Root; o.Protected && r.Type == "multipart" && r.Subtype == "mixed" && len(r.Children) == 1 {
		if s, c, _ := g.signed(payload, r.Children[0]); s != nil {
			o.Author = g.verifySigned(s, c, author)
		}
	}
	return o
}

// maxExpanded bounds what comes out of a compressed entity, in bytes.
const maxExpanded = 128 << 20

// expand is the entity that is compressed in b (RFC 3274; RFC 8551, section 3.6), or b itself
// where it is no compressed one that can be read.
func expand(b []byte) ([]byte, *message.Index) {
	x := message.Parse(b, message.Limits{})
	if !isCMS(x.Root) {
		return b, x
	}
	der, err := body(b, x.Root)
	if err != nil {
		return b, x
	}
	id, inner, err := cms.Decompress(der, cms.Limits{Size: maxExpanded})
	if err != nil || id != cms.Data {
		return b, x
	}
	return inner, message.Parse(inner, message.Limits{})
}

// unwrap puts the header before the body that the payload describes.
func unwrap(header fields, payload []byte, root *message.Part) []byte {
	var b bytes.Buffer
	b.Grow(len(payload) + 1024)
	for _, m := range header.mine {
		b.Write(m.raw)
	}
	p := message.ParseHeader(payload[root.HeaderStart:root.BodyStart], message.Limits{})
	for _, f := range p.Fields() {
		switch name := strings.ToLower(f.Name); {
		case slices.Contains(blindFields, name):
			b.Write(tidy(p.Raw(f)))
		case strings.HasPrefix(name, "content-"):
			b.Write(tidy(p.Raw(f)))
		}
	}
	b.WriteString("MIME-Version: 1.0\r\n\r\n")
	b.Write(payload[root.BodyStart:root.BodyEnd])
	return b.Bytes()
}

// authors are the entries of the From fields.
func authors(header []field) []message.Address {
	var out []message.Address
	for _, f := range header {
		if f.name == "from" {
			out = append(out, message.ParseAddressList(unfold(f.value()))...)
		}
	}
	return out
}

// pair is one field for comparison.
type pair struct{ name, value string }

func pairOf(f field) pair { return pair{f.name, unfold(f.value())} }

func pairsOf(header []field) []pair {
	var out []pair
	for _, f := range header {
		out = append(out, pairOf(f))
	}
	return out
}

// missing names the fields that are not among those.
func missing(header []field, there []pair) []string {
	var names []string
	for _, f := range header {
		if !slices.Contains(there, pairOf(f)) {
			names = append(names, f.name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// cutSubject parts the subject from the other fields.
func cutSubject(header []field) (others, subject []field) {
	for _, f := range header {
		if f.name == "subject" {
			subject = append(subject, f)
		} else {
			others = append(others, f)
		}
	}
	return others, subject
}

// hpOuter is what the payload says was left outside (RFC 9788, section 2.2).
func hpOuter(payload []byte, root *message.Part) []pair {
	var out []pair
	h := message.ParseHeader(payload[root.HeaderStart:root.BodyStart], message.Limits{})
	for _, v := range h.All("HP-Outer") {
		if name, value, ok := strings.Cut(v, ":"); ok {
			out = append(out, pair{strings.ToLower(strings.TrimSpace(name)), unfold([]byte(value))})
		}
	}
	return out
}

// differs compares what stands outside with what was left there. Without HP-Outer
// everything that stands outside was copied from within (hp="clear"). Fields that the
// author did not write, such as a mailing list's, are not of interest.
func differs(inner, outer []field, said []pair) []string {
	if len(said) == 0 {
		said = pairsOf(inner)
	}
	ours, left, stands := map[string]bool{}, map[pair]bool{}, map[pair]bool{}
	for _, f := range inner {
		ours[f.name] = true
	}
	for _, p := range said {
		ours[p.name], left[p] = true, true
	}
	changed := map[string]bool{}
	for _, f := range outer {
		p := pairOf(f)
		stands[p] = true
		if ours[p.name] && !left[p] {
			changed[p.name] = true
		}
	}
	for p := range left {
		if !stands[p] {
			changed[p.name] = true
		}
	}
	return slices.Sorted(maps.Keys(changed))
}

// unfold is a field value on one line, blanks at its ends removed and line ends
// dropped (RFC 5322, section 2.2.3).
func unfold(v []byte) string {
	return strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(string(v), "\r", ""), "\n", ""))
}
