package imap

import "cmmpd/imap/wire"

// cmdID answers with our name only: a version would help nobody but an attacker. What
// the client says of itself is checked and forgotten (RFC 2971).
func cmdID(s *session, p *wire.Parser) (string, error) {
	const maxPairs, maxKey, maxValue = 30, 30, 1024
	if p.Peek() == '(' {
		n := 0
		p.List(func() {
			key := p.String()
			p.SP()
			value, _ := p.NString()
			if n++; n > maxPairs || len(key) > maxKey || len(value) > maxValue {
				p.Fail(&wire.Error{Text: "Malformed ID"})
			}
		})
	} else if _, ok := p.NString(); ok {
		p.Fail(&wire.Error{Text: "Malformed ID"})
	}
	if err := p.End(); err != nil {
		return "", err
	}
	s.untagged(`ID ("name" "cmmpd")`)
	return "", nil
}
