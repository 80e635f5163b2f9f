package smime

import (
	"slices"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime/cms"
)

// Labels is what the signatures of a message say of its label. Nothing of it is verified:
// a label, whoever forged it, only makes what must be done for a message stronger.
type Labels struct {
	Labels []cms.SecurityLabel // of every signer of every signature
	// Unreadable counts what names a security label and cannot be read: a label, signed
	// attributes, a damaged SignedData; and structures beyond those that are looked at.
	Unreadable int
	Headers    []message.Header // of the entities that are signed, where header protection may repeat fields
	Entities   []Entity         // what stands within structures: opaque signatures, compressed data
}

// Entity is a MIME entity that was unpacked from a message.
type Entity struct {
	Raw   []byte
	Index *message.Index // of Raw
}

// The bounds of what Labels looks at.
const (
	maxLabelled   = 32       // CMS structures
	maxLabelDepth = 8        // structures within structures
	maxUnpacked   = 16 << 20 // bytes of all compressed structures of a message
)

// Labels reads the ESS security labels (RFC 2634, section 3; RFC 5035) of all signatures
// in the message, wherever in it they stand: around it, around a part to which a list
// has added its footer, or around a message that is forwarded. What is encrypted is not
// looked into.
func (g *Gateway) Labels(raw []byte, x *message.Index) Labels {
	w := labelWalk{left: maxLabelled, room: maxUnpacked}
	w.part(raw, x.Root, 0)
	return w.found
}

// labelWalk collects Labels.
type labelWalk struct {
	found Labels
	left  int // structures that are still looked at
	room  int // bytes that are still unpacked
}

func (w *labelWalk) part(raw []byte, p *message.Part, depth int) {
	if p.Type == "multipart" && p.Subtype == "signed" && len(p.Children) > 1 && isDetached(p) {
		w.header(raw, p.Children[0])
	}
	for _, c := range p.Children {
		w.part(raw, c, depth)
	}
	if len(p.Children) > 0 || !isCMS(p) && !isSignature(p) && !(p.Type == "application" && called(p, ".p7s")) {
		return
	}
	if w.left--; w.left < 0 || depth == maxLabelDepth {
		w.found.Unreadable++
		return
	}
	der, err := body(raw, p)
	if err != nil { // read what others may read of it
		if der, err = message.DecodeTransfer(raw[p.BodyStart:p.BodyEnd], p.Encoding); err != nil {
			der = raw[p.BodyStart:p.BodyEnd]
		}
	}
	w.cms(der, depth)
}

// cms looks into one structure.
func (w *labelWalk) cms(der []byte, depth int) {
	kind, err := cms.ContentType(der)
	if err != nil {
		w.damaged(der)
		return
	}
	switch kind {
	case cms.SignedData:
		s, err := cms.ParseSigned(der, cms.Limits{})
		if err != nil {
			w.damaged(der)
			return
		}
		labels, bad := s.Labels()
		w.found.Labels, w.found.Unreadable = append(w.found.Labels, labels...), w.found.Unreadable+bad
		if s.Content != nil && s.ContentType == cms.Data {
			w.within(s.Content, depth, true)
		} else if s.Content != nil && s.ContentType == cms.SignedData {
			w.damaged(s.Content) // of a form that mail does not have
		}
	case cms.CompressedData:
		w.compressed(der, depth)
	}
}

// compressed looks into compressed data. One that cannot be unpacked ends that: a small
// message must not take much time.
func (w *labelWalk) compressed(der []byte, depth int) {
	if w.room <= 0 {
		w.found.Unreadable++
		return
	}
	id, content, err := cms.Decompress(der, cms.Limits{Size: w.room})
	if err != nil {
		w.room = 0
		if mail.KindOf(err) == mail.TooLarge {
			w.found.Unreadable++
		}
		return
	}
	if w.room -= len(content); id == cms.Data {
		w.within(content, depth, false)
	}
}

// within looks into what a structure holds.
func (w *labelWalk) within(content []byte, depth int, signed bool) {
	x := message.Parse(content, message.Limits{})
	if signed {
		w.header(content, x.Root)
	}
	w.found.Entities = append(w.found.Entities, Entity{content, x})
	w.part(content, x.Root, depth+1)
}

// damaged counts a structure that cannot be read, if it names a label.
func (w *labelWalk) damaged(der []byte) {
	if cms.MentionsLabel(der) {
		w.found.Unreadable++
	}
}

func (w *labelWalk) header(raw []byte, p *message.Part) {
	w.found.Headers = append(w.found.Headers, message.ParseHeader(raw[p.HeaderStart:p.BodyStart], message.Limits{}))
}

// called says whether a file name of p has the ending.
func called(p *message.Part, ending string) bool {
	return slices.ContainsFunc(slices.Concat(p.Params, p.DispositionParams), func(v message.Param) bool {
		return (v.Name == "name" || v.Name == "filename") && strings.HasSuffix(strings.ToLower(v.Value), ending)
	})
}
