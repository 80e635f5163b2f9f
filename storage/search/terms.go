package search

import (
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Folded text is cut into runs: words (letters, marks and digits) and runs of Han, kana or hangul; the rest is between
// them. A word is a term. A word that is longer than maxWord octets is cut into pieces that overlap, so that any
// fragment of fragment octets is in one of them. Of the other runs every two neighbours are a term, a character
// that stands alone is one by itself.
const (
	maxWord  = 64
	fragment = 32 // maxWord - step, at most: see pieces
	step     = 32
	maxTerm  = maxWord + utf8.UTFMax - 1
)

// Rules names what the terms of a text depend on. An index that was made under others is made again.
const Rules = "2 " + unicode.Version + " " + norm.Version + " " + cases.UnicodeVersion

type class uint8

const (
	between class = iota
	word
	character // of a script without spaces, or with words that are looked for by their parts
)

// next is the class and length of what text begins with.
func next(text []byte) (class, int) {
	if c := text[0]; c < utf8.RuneSelf {
		if isWord(c) {
			return word, 1
		}
		return between, 1
	}
	r, n := utf8.DecodeRune(text)
	return classOf(r), n
}

// isWord says whether an octet is a letter or digit of ASCII.
func isWord(c byte) bool {
	const digits, letters = 1<<10 - 1, 1<<26 - 1
	return [4]uint64{digits << '0', letters<<('A'-64) | letters<<('a'-64)}[c>>6]>>(c&63)&1 != 0
}

func classOf(r rune) class {
	switch {
	case r < 0x1100: // the alphabets
	case unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana, unicode.Hangul, unicode.Bopomofo):
		return character
	}
	if unicode.In(r, unicode.L, unicode.M, unicode.N) {
		return word
	}
	return between
}

// run is a longest stretch of one class.
type run struct {
	class class
	text  []byte
}

// cutRun takes the next run off folded text; its class is between at the end.
func cutRun(text []byte) (r run, rest []byte) {
	at := 0
	var c class
	var n int
	for at < len(text) {
		if o := text[at]; o < utf8.RuneSelf && !isWord(o) {
			at++
			continue
		}
		if c, n = next(text[at:]); c != between {
			break
		}
		at += n
	}
	if at == len(text) {
		return run{}, nil
	}
	begin := at
	for at += n; at < len(text); at += n {
		if o := text[at]; o < utf8.RuneSelf {
			if n = 1; c != word || !isWord(o) {
				break
			}
			continue
		}
		var other class
		if other, n = next(text[at:]); other != c {
			break
		}
	}
	return run{c, text[begin:at]}, text[at:]
}

// eachTerm calls f for each term of folded text, as often as it is there. The term is f's until it returns.
func eachTerm(text []byte, f func(term []byte)) {
	for {
		var r run
		r, text = cutRun(text)
		switch r.class {
		case between:
			return
		case word:
			pieces(r.text, f)
		case character:
			pairs(r.text, f)
		}
	}
}

// pieces yields a word, or the pieces of one that is too long. With a fragment of the word that begins at a, the piece
// that begins at a/step*step ends step-1+fragment octets after that, or later, or with the word.
func pieces(w []byte, f func(term []byte)) {
	begin := 0
	for begin+maxWord < len(w) {
		f(w[runeStart(w, begin):runeStart(w, begin+maxWord)])
		begin += step
	}
	f(w[runeStart(w, begin):])
}

func runeStart(w []byte, at int) int {
	for !utf8.RuneStart(w[at]) {
		at--
	}
	return at
}

// pairs yields every two neighbours, or the only character.
func pairs(text []byte, f func(term []byte)) {
	_, a := utf8.DecodeRune(text)
	if a == len(text) {
		f(text)
		return
	}
	for {
		_, b := utf8.DecodeRune(text[a:])
		f(text[:a+b])
		if a+b == len(text) {
			return
		}
		text, a = text[a:], b
	}
}
