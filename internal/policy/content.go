package policy

import "cmmpd/internal/mail"

// ContentRule gives a message a label for what its text holds.
type ContentRule struct {
	Name  string                 // for the record of the decision
	Label mail.Label             // what a match means
	Match func(text []byte) bool // pure, in time linear in the text
}

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
		if c := text[i]; c != '(' && c != 0xef {
			continue
		}
		if identityCardAt(text, i) {
			return true
		}
	}
	return false
}

// identityCardAt checks a number whose opening bracket, half or full width, is at i.
func identityCardAt(text []byte, i int) bool {
	const wide, wideEnd = "\xef\xbc\x88", "\xef\xbc\x89" // （ ）
	j := i + 1
	if text[i] != '(' {
		if len(text)-i < len(wide) || string(text[i:i+len(wide)]) != wide {
			return false
		}
		j = i + len(wide)
	}
	if j+1 >= len(text) || text[j+1] != ')' && (len(text)-j-1 < len(wideEnd) || string(text[j+1:j+1+len(wideEnd)]) != wideEnd) {
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
