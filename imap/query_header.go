package imap

import (
	"cmmpd/imap/wire"
	"cmmpd/internal/message"
)

// headersContain looks for the needle of BODY or TEXT in the headers below the root. Those of
// a message within the message are text for both. That of any other part, and the names
// of attached files wherever they stand, are only for TEXT: they say how text is written.
func (q *query) headersContain(n *node) bool {
	root := q.m.src.sum.Index.Root
	all := n.op == wire.KeyText
	var in func(p *message.Part) bool
	in = func(p *message.Part) bool {
		if p != root && (all || p.Envelope != nil) && q.fieldsContain(p, n.needle) {
			return true
		}
		if all && (q.paramsContain(p.Params, n.needle) || q.paramsContain(p.DispositionParams, n.needle)) {
			return true
		}
		for _, child := range p.Children {
			if in(child) {
				return true
			}
		}
		return false
	}
	return in(root)
}

// fieldsContain looks into the header of a part below the root, whose message has been read.
func (q *query) fieldsContain(p *message.Part, needle []byte) bool {
	h := message.ParseHeader(q.m.raw[p.HeaderStart:p.BodyStart], message.Limits{})
	return q.inFields(h, needle)
}

func (q *query) inFields(h message.Header, needle []byte) bool {
	for _, f := range h.Fields() {
		if q.contains([]byte(f.Name+": "+message.DecodeWords(h.Value(f))), needle) {
			return true
		}
	}
	return false
}

// paramsContain looks into parameters, of which the name of a file may be written in a way (RFC 2231)
// that the field does not show.
func (q *query) paramsContain(params []message.Param, needle []byte) bool {
	for _, p := range params {
		if q.contains([]byte(message.DecodeWords(p.Value)), needle) {
			return true
		}
	}
	return false
}
