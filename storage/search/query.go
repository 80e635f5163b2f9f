package search

import (
	"bytes"
	"unicode/utf8"
)

// Query is a question about folded text, in terms of the index: which messages can have the needle in one of the fields.
type Query struct {
	Fields Fields
	Exact  bool // who has the terms has the needle
	terms  []pattern
}

// pattern says which terms are looked for; a message must have one of them. end is what stands before and after each term
// in a block of the dictionary, so that a look-up of any kind is a search for octets.
type pattern struct {
	octets []byte // with end before, after, or both, where the term begins or ends there
	from   []byte // terms that begin so, if begins
	begins bool
}

const end = 0

func contains(s []byte) pattern { return pattern{octets: s} }
func suffix(s []byte) pattern   { return pattern{octets: append(bytes.Clone(s), end)} }
func prefix(s []byte) pattern   { return pattern{append([]byte{end}, s...), s, true} }
func exactly(s []byte) pattern  { return pattern{append(append([]byte{end}, s...), end), s, true} }

// NewQuery asks for a folded needle. ok is false if the index cannot tell anything: the needle has no terms.
func NewQuery(fields Fields, needle []byte) (q Query, ok bool) {
	q.Fields = fields
	if !utf8.Valid(needle) {
		return q, false
	}
	needle = bytes.Clone(needle)
	for rest := needle; ; {
		before := len(rest)
		var r run
		r, rest = cutRun(rest)
		if r.class == between {
			break
		}
		begins := before-len(rest) > len(r.text) || before < len(needle) // something stands before it
		q.add(r, begins, len(rest) > 0)
	}
	if r, _ := cutRun(needle); len(r.text) == len(needle) {
		q.Exact = r.class == word && len(needle) <= fragment || r.class == character && utf8.RuneCount(needle) <= 2
	}
	return q, len(q.terms) > 0
}

// add asks for a run, of which the needle has the beginning, the end, both, or neither.
func (q *Query) add(r run, begins, ends bool) {
	w := r.text
	switch {
	case r.class == character && utf8.RuneCount(w) == 1:
		q.terms = append(q.terms, contains(w))
	case r.class == character:
		pairs(w, func(pair []byte) { q.terms = append(q.terms, exactly(pair)) })
	case begins && ends && len(w) <= maxWord:
		q.terms = append(q.terms, exactly(w))
	case len(w) <= fragment && begins:
		q.terms = append(q.terms, prefix(w))
	case len(w) <= fragment && ends:
		q.terms = append(q.terms, suffix(w))
	case len(w) <= fragment:
		q.terms = append(q.terms, contains(w))
	default:
		last := len(w) - fragment
		for !utf8.RuneStart(w[last]) {
			last++
		}
		q.terms = append(q.terms, contains(w[:runeStart(w, fragment)]), contains(w[last:]))
	}
}

// Verdict is what the index knows of a message and a question.
type Verdict uint8

// The verdicts. Perhaps: the message must be looked into.
const (
	No Verdict = iota
	Yes
	Perhaps
)
