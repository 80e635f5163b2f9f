package message

import (
	"slices"
	"strings"
)

// Bounds of one parameterised field.
const (
	maxParams    = 200
	maxParamName = 100
)

// ParseParams reads "name=value; name=value" without a word before it, as SIO-Label has
// it (RFC 7444, section 2), with RFC 2231 undone. It reads what it can.
func ParseParams(s string) []Param {
	_, params, _ := parseParameterised("x; " + s)
	return params
}

// parseParameterised reads the value of Content-Type or Content-Disposition: a word in
// lower case and its parameters (RFC 2045, section 5.1; RFC 2183), with RFC 2231 undone.
// It reads what it can; cut says that there were too many parameters.
func parseParameterised(s string) (value string, params []Param, cut bool) {
	value, s = firstWord(s)
	if s == "" {
		return value, nil, false
	}
	params = make([]Param, 0, min(maxParams, 1+strings.Count(s, ";")))
	extended := false
	for {
		s = skipComments(strings.TrimLeft(s, "; \t"))
		if s == "" {
			break
		}
		if s[0] == ';' {
			continue
		}
		end := strings.IndexAny(s, "=; \t(")
		if end < 0 {
			break
		}
		name := strings.ToLower(s[:end])
		s = skipComments(s[end:])
		if s == "" || s[0] != '=' {
			continue // a word without a value
		}
		var v string
		v, s = paramValue(skipComments(s[1:]), name)
		if name == "" || len(name) > maxParamName || !isToken(name) {
			continue
		}
		if len(params) == maxParams {
			cut = true
			break
		}
		extended = extended || strings.IndexByte(name, '*') >= 0
		params = append(params, Param{name, v})
	}
	if extended {
		params = joinExtended(params)
	}
	if len(params) == 0 {
		params = nil
	}
	return value, params, cut
}

// firstWord reads the word before the parameters. Blanks and comments may stand around
// it and around its slash.
func firstWord(s string) (word, rest string) {
	for {
		s = skipComments(s)
		end := strings.IndexAny(s, "; \t(")
		if end < 0 {
			end = len(s)
		}
		word += s[:end]
		s = skipComments(s[end:])
		if !strings.HasPrefix(s, "/") && (!strings.HasSuffix(word, "/") || end == 0) {
			return strings.ToLower(strings.Trim(word, `"`)), s
		}
	}
}

// paramValue reads a quoted string or what stands for a token: values of file names are
// often neither, and run to the next semicolon.
func paramValue(s, name string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		stops := "; \t"
		if strings.HasPrefix(name, "name") || strings.HasPrefix(name, "filename") {
			stops = ";"
		}
		end := strings.IndexAny(s, stops)
		if end < 0 {
			end = len(s)
		}
		return strings.TrimRight(s[:end], " \t"), s[end:]
	}
	return quoted(s)
}

// quoted reads the quoted string that begins s. One without its closing quote runs to
// the end.
func quoted(s string) (value, rest string) {
	s = s[1:]
	end := strings.IndexAny(s, `"\`)
	if end < 0 {
		return s, ""
	}
	if s[end] == '"' {
		return s[:end], s[end+1:]
	}
	var b strings.Builder
	b.Grow(min(len(s), 256))
	i := 0
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String(), s[min(i+1, len(s)):]
}

// skipComments skips white space and comments.
func skipComments(s string) string {
	for {
		s = strings.TrimLeft(s, " \t")
		if !strings.HasPrefix(s, "(") {
			return s
		}
		_, s = comment(s)
	}
}

// comment reads the comment that begins s, which may nest, and its text without the
// outer parentheses. One that is not closed runs to the end.
func comment(s string) (text, rest string) {
	depth := 0
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return s[1:i], s[i+1:]
			}
		}
	}
	return s[1:], ""
}

// piece is one section of a parameter (RFC 2231, section 3).
type piece struct {
	number  int
	encoded bool
	value   string
}

// joinExtended undoes RFC 2231. Where a parameter is given both plainly and extended,
// the extended one counts, in the place of the first.
func joinExtended(params []Param) []Param {
	pieces := map[string][]piece{}
	for _, p := range params {
		if name, q, ok := splitExtended(p); ok {
			pieces[name] = append(pieces[name], q)
		}
	}
	out := params[:0]
	for _, p := range params {
		name, _, ok := splitExtended(p)
		if !ok {
			name = p.Name
		}
		list, is := pieces[name]
		if !is {
			out = append(out, p)
			continue
		}
		if len(list) > 0 {
			out = append(out, Param{name, join(list)})
			pieces[name] = nil // its other sections add nothing
		}
	}
	return slices.Clip(out)
}

// splitExtended reads the stars of a parameter name.
func splitExtended(p Param) (name string, q piece, ok bool) {
	name, encoded := strings.CutSuffix(p.Name, "*")
	q = piece{number: -1, encoded: encoded, value: p.Value}
	base, digits, found := strings.Cut(name, "*")
	if !found {
		return name, q, encoded && name != ""
	}
	if base == "" || digits == "" || len(digits) > 3 {
		return "", q, false
	}
	q.number = 0
	for i := 0; i < len(digits); i++ {
		if digits[i] < '0' || digits[i] > '9' {
			return "", q, false
		}
		q.number = q.number*10 + int(digits[i]-'0')
	}
	return base, q, true
}

// join makes the value of the sections of one parameter.
func join(list []piece) string {
	slices.SortStableFunc(list, func(a, b piece) int { return a.number - b.number })
	var b []byte
	charset, any := "", false
	want := list[0].number // -1: in one piece
	for _, q := range list {
		if q.number != want {
			break // a gap, or a second one of the same number
		}
		v := q.value
		if q.encoded && q.number <= 0 {
			if first, rest, ok := strings.Cut(v, "'"); ok {
				if _, text, ok := strings.Cut(rest, "'"); ok {
					charset, v = first, text
				}
			}
		}
		if q.encoded {
			any = true
			b = appendUnescaped(b, v)
		} else {
			b = append(b, v...)
		}
		if want < 0 {
			break
		}
		want++
	}
	if !any {
		return string(b)
	}
	text, _ := toUTF8(b, charset)
	return clean(string(text))
}

// appendUnescaped undoes %XX.
func appendUnescaped(b []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := hexValue(s[i+1]), hexValue(s[i+2]); hi >= 0 && lo >= 0 {
				b = append(b, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return b
}

// hexValue is the value of a hexadecimal digit, or -1.
func hexValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// isToken is token of RFC 2045.
func isToken(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
			return false
		}
	}
	return true
}

// firstToken is the first word of a value, in lower case, without comments or quotes;
// "" if it is no token.
func firstToken(s string) string {
	s = strings.TrimLeft(skipComments(s), `"`)
	end := strings.IndexAny(s, "; \t(\"")
	if end < 0 {
		end = len(s)
	}
	if s = strings.ToLower(s[:end]); isToken(s) {
		return s
	}
	return ""
}

// Param is the value of the first parameter of that name of Content-Type, "" if there
// is none.
func (part *Part) Param(name string) string { return paramOf(part.Params, name) }

// Filename is the name that the sender gave to the part, decoded, from either field;
// "" if there is none. It is a text to show, not a path to use.
func (part *Part) Filename() string {
	if s := paramOf(part.DispositionParams, "filename"); s != "" {
		return DecodeWords(s)
	}
	return DecodeWords(part.Param("name"))
}

func paramOf(params []Param, name string) string {
	for _, p := range params {
		if p.Name == name {
			return p.Value
		}
	}
	return ""
}
