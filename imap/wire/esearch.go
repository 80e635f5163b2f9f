package wire

// SearchReturn is what a SEARCH wants to have told (RFC 4731), or kept (RFC 5182).
type SearchReturn uint8

// The result options.
const (
	ReturnMin SearchReturn = 1 << iota
	ReturnMax
	ReturnAll
	ReturnCount
	ReturnSave
)

// SearchReturn takes "RETURN (…)" and the space after it, if it is there; ok says whether it is. An empty list means
// ReturnAll.
func (p *Parser) SearchReturn() (r SearchReturn, ok bool) {
	if !p.ahead("RETURN (") {
		return 0, false
	}
	p.Word()
	p.SP()
	p.List(func() {
		switch p.Word() {
		case "MIN":
			r |= ReturnMin
		case "MAX":
			r |= ReturnMax
		case "ALL":
			r |= ReturnAll
		case "COUNT":
			r |= ReturnCount
		case "SAVE":
			r |= ReturnSave
		default:
			p.bad("Unknown result option")
		}
	})
	p.SP()
	if r == 0 {
		r = ReturnAll
	}
	return r, true
}
