package policy

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"

	"golang.org/x/text/width"

	"cmmpd/internal/mail"
)

// ContentRule gives a message a label for what its text holds. Match sees the text as it is, and where it
// has letters, digits or signs of full width, which Chinese input methods write, also with those of ASCII.
type ContentRule struct {
	Name  string                 // for the record of the decision
	Label mail.Label             // what a match means
	Match func(text []byte) bool // pure, in time linear in the text
}

// matches says whether one of the texts matches.
func (c *ContentRule) matches(texts [][]byte) bool { return slices.ContainsFunc(texts, c.Match) }

// contentTexts are the texts that the content rules see.
func (p *Policy) contentTexts(texts [][]byte) [][]byte {
	if len(p.content) == 0 {
		return nil
	}
	all := slices.Clip(texts)
	for _, t := range texts {
		if bytes.IndexByte(t, wideLead) >= 0 || bytes.Contains(t, wideSpace) {
			all = append(all, width.Fold.Bytes(t))
		}
	}
	return all
}

// wideLead begins the signs of full width in UTF-8, U+FF01 to U+FFE6, but the space.
const wideLead = 0xef

var wideSpace = []byte("\u3000")

// DefaultContent labels personal data: mail with the number of a Hong Kong identity
// card is restricted.
func DefaultContent() []ContentRule {
	return []ContentRule{{Name: "hkid", Label: mail.Restricted, Match: HasIdentityCard}}
}

// HasIdentityCard finds the number of a Hong Kong identity card with a valid check
// digit: one or two letters, six digits and the check digit in brackets, as the card
// shows it, such as A123456(3).
func HasIdentityCard(text []byte) bool {
	for i := 0; i < len(text); i++ {
		if text[i] == '(' && identityCardAt(text, i) {
			return true
		}
	}
	return false
}

// identityCardAt checks a number whose opening bracket is at i.
func identityCardAt(text []byte, i int) bool {
	j := i + 1
	if j+1 >= len(text) || text[j+1] != ')' {
		return false
	}
	if i > 0 && text[i-1] == ' ' {
		i--
	}
	if i < 7 {
		return false
	}
	sum, weight := 0, 2
	for k := i - 1; k >= i-6; k-- {
		if text[k] < '0' || text[k] > '9' {
			return false
		}
		sum += int(text[k]-'0') * weight
		weight++
	}
	first, ok := letter(text, i-7)
	if !ok {
		return false
	}
	sum += first * 8
	if second, ok := letter(text, i-8); ok {
		if _, more := letter(text, i-9); more {
			return false
		}
		sum += second * 9
	} else {
		sum += 36 * 9 // a space stands for the missing letter
	}
	switch c := text[j]; {
	case c >= '0' && c <= '9':
		sum += int(c - '0')
	case c == 'A' || c == 'a':
		sum += 10
	default:
		return false
	}
	return sum%11 == 0
}

// letter is the value of the letter at text[i]: A is 10.
func letter(text []byte, i int) (int, bool) {
	if i < 0 {
		return 0, false
	}
	c := text[i] &^ 0x20
	return int(c-'A') + 10, c >= 'A' && c <= 'Z'
}

// maxPattern bounds a pattern, in bytes.
const maxPattern = 1000

// Pattern is a match for a regular expression (RE2: in time linear in the text). The error
// says what is wrong with it.
func Pattern(expr string) (func(text []byte) bool, error) {
	if len(expr) > maxPattern {
		return nil, fmt.Errorf("the pattern is longer than %d octets", maxPattern)
	}
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	if re.MatchString("") {
		return nil, fmt.Errorf("the pattern %q matches every text", expr)
	}
	return re.Match, nil
}

// The lengths of card numbers (ISO/IEC 7812-1 allows 8 to 19 digits; those in use have these).
const minCard, maxCard = 13, 19

// HasCardNumber finds the number of a payment card: 13 to 19 digits of an issuer in use
// (the first is 3 to 6, or they begin with 2221 to 2720), with spaces or hyphens between
// groups of two or more, whose last digit is the check digit of Luhn (ISO/IEC 7812-1,
// annex B). A longer number, or one with a letter beside it, is none.
func HasCardNumber(text []byte) bool {
	for i := 0; i < len(text); {
		if !digit(text[i]) {
			i++
			continue
		}
		number, end := cardAt(text, i)
		if (i == 0 || !word(text[i-1])) && (end == len(text) || !word(text[end])) && isCard(number) {
			return true
		}
		i = end
	}
	return false
}

// cardAt reads the digits from i on, over single spaces and hyphens, and where they end.
// Of more than a card has, one more is kept.
func cardAt(text []byte, i int) (number []byte, end int) {
	for i < len(text) {
		if digit(text[i]) {
			if len(number) <= maxCard {
				number = append(number, text[i]-'0')
			}
			i++
			continue
		}
		if (text[i] != ' ' && text[i] != '-') || i+2 >= len(text) || !digit(text[i+1]) || !digit(text[i+2]) {
			break
		}
		i++
	}
	return number, i
}

func isCard(n []byte) bool {
	if len(n) < minCard || len(n) > maxCard {
		return false
	}
	four := int(n[0])*1000 + int(n[1])*100 + int(n[2])*10 + int(n[3])
	if (n[0] < 3 || n[0] > 6) && (four < 2221 || four > 2720) {
		return false
	}
	sum := 0
	for i, d := range n {
		if v := int(d); (len(n)-i)%2 == 0 {
			v *= 2
			sum += v/10 + v%10
		} else {
			sum += v
		}
	}
	return sum%10 == 0
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// word says whether c joins a number: a letter or digit of ASCII.
func word(c byte) bool { return digit(c) || c&^0x20 >= 'A' && c&^0x20 <= 'Z' }
