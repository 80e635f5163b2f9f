package server

import "strconv"

// Operations (RFC 4511, section 4.2 and following), by tag.
const (
	opBindRequest     = 0x60
	opBindResponse    = 0x61
	opUnbind          = 0x42
	opSearchRequest   = 0x63
	opSearchEntry     = 0x64
	opSearchDone      = 0x65
	opModifyRequest   = 0x66
	opAddRequest      = 0x68
	opDeleteRequest   = 0x4a
	opRenameRequest   = 0x6c
	opCompareRequest  = 0x6e
	opCompareResponse = 0x6f
	opAbandon         = 0x50
	opExtended        = 0x77
	opExtendedResp    = 0x78
)

// Result codes (RFC 4511, appendix A).
type resultCode int

const (
	success                      resultCode = 0
	operationsError              resultCode = 1
	protocolError                resultCode = 2
	timeLimitExceeded            resultCode = 3
	sizeLimitExceeded            resultCode = 4
	compareFalse                 resultCode = 5
	compareTrue                  resultCode = 6
	authMethodNotSupported       resultCode = 7
	adminLimitExceeded           resultCode = 11
	unavailableCriticalExtension resultCode = 12
	confidentialityRequired      resultCode = 13
	noSuchAttribute              resultCode = 16
	undefinedAttributeType       resultCode = 17
	noSuchObject                 resultCode = 32
	invalidDNSyntax              resultCode = 34
	invalidCredentials           resultCode = 49
	insufficientAccessRights     resultCode = 50
	busy                         resultCode = 51
	unavailable                  resultCode = 52
	unwillingToPerform           resultCode = 53
	other                        resultCode = 80
)

// Object identifiers of extended operations, controls and features.
const (
	oidStartTLS      = "1.3.6.1.4.1.1466.20037"
	oidWhoAmI        = "1.3.6.1.4.1.4203.1.11.3" // RFC 4532
	oidDisconnection = "1.3.6.1.4.1.1466.20036"
	oidPaged         = "1.2.840.113556.1.4.319"  // RFC 2696
	oidManageDsaIT   = "2.16.840.1.113730.3.4.2" // RFC 3296: we have no referrals, so it changes nothing
	oidAllOpAttrs    = "1.3.6.1.4.1.4203.1.5.1"  // RFC 3673: "+"
	oidTrueFalse     = "1.3.6.1.4.1.4203.1.5.3"  // RFC 4526: (&) and (|)
)

// control is a request control (RFC 4511, section 4.1.11).
type control struct {
	oid      string
	critical bool
	value    []byte
	hasValue bool
}

// message is an LDAPMessage: the operation is not yet taken apart.
type message struct {
	id       int
	op       element
	controls []control
}

func parseMessage(b []byte) (message, error) {
	p := parser{b: b}
	m := message{id: p.integer(tagInteger), op: p.any()}
	if p.peek() == 0xa0 {
		list := parser{b: p.want(0xa0)}
		for list.more() {
			c := parser{b: list.want(tagSequence)}
			one := control{oid: string(c.want(tagOctets))}
			if c.peek() == tagBoolean {
				one.critical = c.boolean(tagBoolean)
			}
			if c.peek() == tagOctets {
				one.value, one.hasValue = c.want(tagOctets), true
			}
			if c.end() != nil {
				return m, c.err
			}
			m.controls = append(m.controls, one)
		}
		if list.err != nil {
			return m, list.err
		}
	}
	return m, p.end()
}

// Scopes of a search.
const (
	scopeBase = 0
	scopeOne  = 1
	scopeSub  = 2
)

// searchRequest is RFC 4511, section 4.5.1.
type searchRequest struct {
	base      string
	scope     int
	sizeLimit int
	timeLimit int // seconds
	typesOnly bool
	filter    *filter
	attrs     []string
	raw       []byte // the whole request, to know it again from page to page
}

func (s *schema) parseSearch(b []byte) (searchRequest, error) {
	p := parser{b: b}
	r := searchRequest{raw: b, base: string(p.want(tagOctets)), scope: p.integer(tagEnumerated)}
	deref := p.integer(tagEnumerated)
	r.sizeLimit, r.timeLimit = p.integer(tagInteger), p.integer(tagInteger)
	r.typesOnly = p.boolean(tagBoolean)
	f := p.any()
	if p.err == nil {
		r.filter, p.err = s.parseFilter(f, 0)
	}
	list := parser{b: p.want(tagSequence), err: p.err}
	for list.more() {
		r.attrs = append(r.attrs, string(list.want(tagOctets)))
	}
	if list.err != nil {
		return r, list.err
	}
	if r.scope > scopeSub || deref > 3 || len(r.attrs) > 200 {
		return r, errBER
	}
	return r, p.end()
}

// bindRequest is RFC 4511, section 4.2.
type bindRequest struct {
	version  int
	name     string
	simple   bool
	password string
}

func parseBind(b []byte) (bindRequest, error) {
	p := parser{b: b}
	r := bindRequest{version: p.integer(tagInteger), name: string(p.want(tagOctets))}
	cred := p.any()
	switch cred.tag {
	case 0x80:
		r.simple, r.password = true, string(cred.body)
	case 0xa3: // SASL
	default:
		if p.err == nil {
			p.err = errBER
		}
	}
	return r, p.end()
}

// result is an LDAPResult (RFC 4511, section 4.1.9).
type result struct {
	code    resultCode
	matched string
	text    string
}

// appendResult appends a whole message that is an LDAPResult and nothing more, but for
// what extra and controls append.
func appendResult(b []byte, id int, op byte, r result, extra, controls func(*encoder)) []byte {
	e := encoder{b}
	m := e.open(tagSequence)
	e.integer(tagInteger, id)
	o := e.open(op)
	e.integer(tagEnumerated, int(r.code))
	e.text(tagOctets, r.matched)
	e.text(tagOctets, r.text)
	if extra != nil {
		extra(&e)
	}
	e.close(o)
	if controls != nil {
		c := e.open(0xa0)
		controls(&e)
		e.close(c)
	}
	e.close(m)
	return e.b
}

func (c resultCode) String() string { return strconv.Itoa(int(c)) }
