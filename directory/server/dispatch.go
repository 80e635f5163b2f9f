package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"strings"

	"cmmpd/internal/boltfile"
)

// responseOf is the tag of the answer to each operation that has one.
var responseOf = map[byte]byte{
	opBindRequest: opBindResponse, opSearchRequest: opSearchDone, opModifyRequest: 0x67, opAddRequest: 0x69, opDeleteRequest: 0x6b,
	opRenameRequest: 0x6d, opCompareRequest: opCompareResponse, opExtended: opExtendedResp,
}

// dispatch answers one request. false: the connection ends.
func (c *conn) dispatch(ctx context.Context, m message) bool {
	switch m.op.tag {
	case opUnbind:
		return false
	case opAbandon:
		p := parser{b: m.op.body}
		if id := p.number(m.op.body); p.err == nil {
			c.stop(id)
		}
		return true
	}
	response, known := responseOf[m.op.tag]
	if !known || m.id == 0 {
		c.disconnect(errBER)
		return false
	}
	if oid := unknownCritical(m); oid != "" {
		return c.reply(m.id, response, result{code: unavailableCriticalExtension, text: "control " + oid + " is not served"})
	}
	switch m.op.tag {
	case opBindRequest:
		c.stopAll()
		return c.reply(m.id, response, c.bind(ctx, m.op.body))
	case opSearchRequest:
		return c.search(ctx, m)
	case opCompareRequest:
		return c.reply(m.id, response, c.compare(m.op.body))
	case opExtended:
		return c.extended(ctx, m)
	}
	return c.reply(m.id, response, result{code: unwillingToPerform, text: "the directory is changed by import only"})
}

func (c *conn) reply(id int, op byte, r result) bool {
	return c.write(appendResult(nil, id, op, r, nil, nil)) == nil
}

// unknownCritical names a control that must not be ignored and that we do not know
// (RFC 4511, section 4.1.11).
func unknownCritical(m message) string {
	for _, k := range m.controls {
		known := k.oid == oidManageDsaIT || k.oid == oidPaged && m.op.tag == opSearchRequest
		if k.critical && !known {
			return strings.Map(func(r rune) rune {
				if r == '.' || r >= '0' && r <= '9' {
					return r
				}
				return -1
			}, k.oid[:min(len(k.oid), 64)])
		}
	}
	return ""
}

// search starts a search.
func (c *conn) search(ctx context.Context, m message) bool {
	s := c.srv
	req, err := s.st.schema.parseSearch(m.op.body)
	if err != nil {
		return c.reply(m.id, opSearchDone, result{code: protocolError, text: "malformed search request"})
	}
	q := &search{c: c, who: c.who, id: m.id, req: req, sel: s.st.schema.selectAttrs(req.attrs, req.typesOnly), limitHit: sizeLimitExceeded}
	if q.base, err = s.st.schema.parseDN(req.base); err != nil {
		return c.reply(m.id, opSearchDone, result{code: invalidDNSyntax})
	}
	for _, k := range m.controls {
		if k.oid != oidPaged {
			continue
		}
		if q.page, err = parsePage(k.value, cookieMAC(c.pageKey[:], c.who, req.raw)); err != nil {
			return c.reply(m.id, opSearchDone, result{code: unwillingToPerform, text: "the page cannot be continued"})
		}
	}
	q.limits()
	if q.page != nil && q.page.done {
		q.page.more = false
		return c.write(appendResult(nil, m.id, opSearchDone, result{}, nil, func(e *encoder) { q.page.appendResponse(e, q) })) == nil
	}
	if !c.who.trusted && c.who.known() && !s.searches.allow(c.who.key) {
		return c.reply(m.id, opSearchDone, result{code: busy, text: "too many searches"})
	}
	started := c.start(ctx, m.id, func(ctx context.Context) {
		out := q.run(ctx)
		c.stop(m.id) // before its end is known, so that what the client sends next finds it ended
		if out != nil {
			c.write(out)
		}
	})
	if !started {
		return c.reply(m.id, opSearchDone, result{code: busy, text: "too many searches at once"})
	}
	return true
}

// limits sets how many entries may be returned: the client's wish, and ours.
func (q *search) limits() {
	ours := q.c.srv.o.Limits.Entries
	if q.page != nil {
		ours = q.c.srv.o.Limits.PagedEntries
	}
	if q.who.trusted {
		ours = 0
	}
	q.limit = ours
	if n := q.req.sizeLimit; n > 0 && (ours == 0 || n < ours) {
		q.limit = n
	}
}

// compare is RFC 4511, section 4.10.
func (c *conn) compare(b []byte) (res result) {
	if !c.who.known() {
		return result{code: insufficientAccessRights, text: "log in first"}
	}
	st := c.srv.st
	p := parser{b: b}
	dn := string(p.want(tagOctets))
	a := parser{b: p.want(tagSequence), err: p.err}
	desc, value := string(a.want(tagOctets)), a.want(tagOctets)
	if a.end() != nil || p.end() != nil {
		return result{code: protocolError, text: "malformed compare request"}
	}
	n, err := st.schema.parseDN(dn)
	if err != nil {
		return result{code: invalidDNSyntax}
	}
	d, ok := st.schema.describe(desc)
	if !ok {
		return result{code: undefinedAttributeType}
	}
	want, ok := st.schema.prepare(d.typ.rule, value)
	err = st.db.View(func(tx *boltfile.Tx) error {
		e, err := st.get(tx, st.find(tx, n.key))
		if err != nil {
			return err
		}
		res = st.compareEntry(e, d, want, ok)
		return nil
	})
	if err != nil {
		c.log.Error("compare failed", "err", err)
		return result{code: other, text: "internal error"}
	}
	return res
}

func (st *store) compareEntry(e *entry, d description, want []byte, valid bool) result {
	if e == nil {
		return result{code: noSuchObject}
	}
	values := st.schema.valuesOf(d, e)
	if len(values) == 0 || hidden(d.typ) {
		return result{code: noSuchAttribute}
	}
	for _, v := range values {
		if got, ok := st.schema.prepare(d.typ.rule, v); ok && valid && bytes.Equal(got, want) {
			return result{code: compareTrue}
		}
	}
	return result{code: compareFalse}
}

// extended is RFC 4511, section 4.12.
func (c *conn) extended(ctx context.Context, m message) bool {
	p := parser{b: m.op.body}
	oid := string(p.want(0x80))
	if p.peek() == 0x81 {
		p.any()
	}
	if p.end() != nil {
		return c.reply(m.id, opExtendedResp, result{code: protocolError, text: "malformed extended request"})
	}
	switch oid {
	case oidWhoAmI:
		id := c.who.authzID()
		return c.write(appendResult(nil, m.id, opExtendedResp, result{}, func(e *encoder) { e.text(0x8b, id) }, nil)) == nil
	case oidStartTLS:
		return c.startTLS(ctx, m.id)
	}
	return c.reply(m.id, opExtendedResp, result{code: protocolError, text: "this extended operation is not served"})
}

// startTLS is RFC 4511, section 4.14. What a client, or somebody on the line, sends in
// clear after the request must not be taken for its words under TLS: then the
// connection ends.
func (c *conn) startTLS(ctx context.Context, id int) bool {
	named := func(code resultCode, text string) bool {
		return c.write(appendResult(nil, id, opExtendedResp, result{code: code, text: text}, func(e *encoder) { e.text(0x8a, oidStartTLS) }, nil)) == nil
	}
	c.mu.Lock()
	outstanding := len(c.running)
	c.mu.Unlock()
	switch {
	case c.r.Buffered() > 0:
		return false
	case c.secure || outstanding > 0:
		return named(operationsError, "not now")
	case c.conf == nil:
		return named(protocolError, "TLS is not offered")
	}
	c.ops.Wait() // for last words being written
	if !named(success, "") {
		return false
	}
	c.mu.Lock()
	t := tls.Server(c.nc, c.conf)
	c.nc = t
	c.mu.Unlock()
	c.r = bufio.NewReader(t)
	c.secure = true
	c.who = identity{}
	return c.handshake(ctx, t)
}
