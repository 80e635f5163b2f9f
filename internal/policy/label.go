package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"cmmpd/internal/mail"
)

// Definition is one label of the registry. Each of its names and words is recognised
// in a header field, and in brackets at the head of a subject, without regard to case,
// width and spacing.
type Definition struct {
	Label mail.Label
	Names []string // for display: English, then Traditional Chinese
	Words []string // others that mean the same
	// Classification is the label's security-classification (RFC 2634, section 3.2), as it is
	// written, and as it is read under policies that no Foreign names; 0: it has none.
	Classification int
	Foreign        []Foreign // what it is under policies of others
	Color          string    // of its marking: "red", or "#ff0000"; empty: none
}

// Foreign is a classification under a security policy of somebody else's.
type Foreign struct {
	Policy         string // an object identifier, dotted
	Classification int    // NoClassification: a label of that policy that has none
}

// NoClassification stands for a security-classification that is absent.
const NoClassification = -1

// maxClassification is the highest security-classification (RFC 2634, section 3.2).
const maxClassification = 256

// Registry is the ordered set of labels. It is immutable.
type Registry struct {
	defs  []Definition
	rank  map[mail.Label]int
	words map[string]mail.Label // by folded form
	first map[rune][]string     // folded words by first rune, longest first

	numbers map[int]mail.Label     // by classification
	foreign map[Foreign]mail.Label // likewise, of others
	others  map[string]bool        // the policies of foreign
}

// DefaultLabels is the registry unless the configuration has its own, weakest first.
func DefaultLabels() []Definition {
	return []Definition{
		{Label: mail.Unclassified, Names: []string{"UNCLASSIFIED", "非機密"}, Words: []string{"非机密"}, Classification: 1, Color: "green"},
		{Label: mail.Restricted, Names: []string{"RESTRICTED", "限閱"}, Words: []string{"限閱文件", "限阅"}, Classification: 2, Color: "blue"},
		{Label: mail.Confidential, Names: []string{"CONFIDENTIAL", "機密"}, Words: []string{"机密", "company-confidential"}, Classification: 3, Color: "red"},
		{Label: mail.Secret, Names: []string{"SECRET", "絕密"}, Words: []string{"绝密", "高度機密", "高度机密"}, Classification: 4, Color: "maroon"},
		{Label: mail.TopSecret, Names: []string{"TOP SECRET", "絕對機密"}, Words: []string{"topsecret", "绝对机密", "極機密", "极机密"}, Classification: 5, Color: "black"},
	}
}

// NewRegistry checks and indexes defs, weakest first.
func NewRegistry(defs []Definition) (*Registry, error) {
	if len(defs) == 0 {
		return nil, errors.New("no labels are defined")
	}
	r := &Registry{
		defs: defs, rank: map[mail.Label]int{}, words: map[string]mail.Label{}, first: map[rune][]string{},
		numbers: map[int]mail.Label{}, foreign: map[Foreign]mail.Label{}, others: map[string]bool{},
	}
	highest := 0
	for i, d := range defs {
		if d.Label == "" || strings.Trim(string(d.Label), "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return nil, fmt.Errorf("label %q: must be of lower-case letters, digits and hyphens", d.Label)
		}
		if _, ok := r.rank[d.Label]; ok {
			return nil, fmt.Errorf("label %q is defined twice", d.Label)
		}
		r.rank[d.Label] = i
		if err := r.number(d, &highest); err != nil {
			return nil, err
		}
		for _, w := range append(append([]string{string(d.Label)}, d.Names...), d.Words...) {
			f := fold(w)
			if f == "" {
				return nil, fmt.Errorf("label %q: the name %q is empty", d.Label, w)
			}
			if other, ok := r.words[f]; ok && other != d.Label {
				return nil, fmt.Errorf("the name %q means both %q and %q", w, other, d.Label)
			} else if ok {
				continue
			}
			r.words[f] = d.Label
			c, _ := utf8.DecodeRuneInString(f)
			r.first[c] = insertByLength(r.first[c], f)
		}
	}
	return r, nil
}

// number indexes the classifications of d. highest is that of the labels before it.
func (r *Registry) number(d Definition, highest *int) error {
	switch n := d.Classification; {
	case n == 0:
	case n <= *highest || n > maxClassification:
		return fmt.Errorf("label %q: the classification %d is not above that of the labels before it, and %d at most", d.Label, n, maxClassification)
	default:
		r.numbers[n], *highest = d.Label, n
	}
	for _, f := range d.Foreign {
		if other, ok := r.foreign[f]; ok && other != d.Label {
			return fmt.Errorf("the classification %d of the policy %s means both %q and %q", f.Classification, f.Policy, other, d.Label)
		}
		if !dotted.MatchString(f.Policy) || f.Classification < NoClassification || f.Classification > maxClassification {
			return fmt.Errorf("label %q: %q with %d is no policy and classification", d.Label, f.Policy, f.Classification)
		}
		r.foreign[f], r.others[f.Policy] = d.Label, true
	}
	if !color.MatchString(d.Color) {
		return fmt.Errorf("label %q: %q is no colour such as \"red\" or \"#ff0000\"", d.Label, d.Color)
	}
	return nil
}

var (
	dotted = regexp.MustCompile(`^[0-2](\.(0|[1-9][0-9]{0,39})){1,20}$`)
	// color is what RFC 7444, section 3, allows.
	color = regexp.MustCompile(`^(|#[0-9a-f]{6}|aqua|black|blue|fuchsia|gray|green|lime|maroon|navy|olive|purple|red|silver|teal|white|yellow)$`)
)

// Classified is the label of a classification under a policy, which may be empty. Of a
// policy that some label names all classifications count that labels name, and no other.
// "Unmarked" (0) is no label; known says whether anything is known of it.
func (r *Registry) Classified(policy string, classification int) (l mail.Label, known bool) {
	if r.others[policy] {
		l, known = r.foreign[Foreign{policy, classification}]
		return l, known
	}
	if classification == 0 {
		return "", true
	}
	l, known = r.numbers[classification]
	return l, known
}

// Definition is what the registry holds of l; the zero Definition if it does not know l.
func (r *Registry) Definition(l mail.Label) Definition {
	if i, ok := r.rank[l]; ok {
		return r.defs[i]
	}
	return Definition{}
}

func insertByLength(words []string, w string) []string {
	i := 0
	for i < len(words) && len(words[i]) >= len(w) {
		i++
	}
	return append(words[:i], append([]string{w}, words[i:]...)...)
}

// Known says whether l is in the registry.
func (r *Registry) Known(l mail.Label) bool { _, ok := r.rank[l]; return ok }

// Rank is l's place, 0 the weakest; -1 for the empty and for an unknown label.
func (r *Registry) Rank(l mail.Label) int {
	if i, ok := r.rank[l]; ok {
		return i
	}
	return -1
}

// Stronger is the stronger of two labels.
func (r *Registry) Stronger(a, b mail.Label) mail.Label {
	if r.Rank(b) > r.Rank(a) {
		return b
	}
	return a
}

// Name is l's English display name, in ASCII.
func (r *Registry) Name(l mail.Label) string {
	if i, ok := r.rank[l]; ok && len(r.defs[i].Names) > 0 {
		return r.defs[i].Names[0]
	}
	return strings.ToUpper(string(l))
}

// ChineseName is l's display name in Traditional Chinese; where it has none, the English one.
func (r *Registry) ChineseName(l mail.Label) string {
	if i, ok := r.rank[l]; ok && len(r.defs[i].Names) > 1 {
		return r.defs[i].Names[1]
	}
	return r.Name(l)
}

// Find is the strongest label named anywhere in text, such as "COMPANY CONFIDENTIAL //
// WORKS". Names of letters must stand as words of their own; among names that begin
// at the same place the longest counts, so that 非機密 is not read as 機密.
func (r *Registry) Find(text string) (mail.Label, bool) {
	var best mail.Label
	s := fold(text)
	wordBefore := false
	for len(s) > 0 {
		c, n := utf8.DecodeRuneInString(s)
		if w := r.match(s, c, wordBefore); w != "" {
			best = r.Stronger(best, r.words[w])
			n = len(w)
			c, _ = utf8.DecodeLastRuneInString(w)
		}
		wordBefore = spaced(c)
		s = s[n:]
	}
	return best, best != ""
}

// match is the longest registry word at the head of s.
func (r *Registry) match(s string, c rune, wordBefore bool) string {
	if wordBefore && spaced(c) {
		return ""
	}
	for _, w := range r.first[c] {
		if !strings.HasPrefix(s, w) {
			continue
		}
		last, _ := utf8.DecodeLastRuneInString(w)
		if next, _ := utf8.DecodeRuneInString(s[len(w):]); len(w) < len(s) && spaced(last) && spaced(next) {
			continue
		}
		return w
	}
	return ""
}

// unspaced says whether c belongs to a script that puts no spaces between words.
func unspaced(c rune) bool { return unicode.In(c, unicode.Han, unicode.Hiragana, unicode.Katakana) }

// spaced says whether c belongs to a script that puts spaces between words.
func spaced(c rune) bool {
	return unicode.IsDigit(c) || unicode.IsLetter(c) && !unspaced(c)
}

// fold is the form in which words are compared: compatibility forms and widths
// removed, lower case, invisible characters dropped, and every run of white space,
// hyphens, underscores, dots and asterisks one space, but none between two characters of a
// script that has no spaces between words: 機　密 is 機密.
func fold(s string) string {
	if len(s) > maxFold {
		s = s[:maxFold]
	}
	var b strings.Builder
	b.Grow(len(s))
	gap, last := false, rune(0)
	for _, c := range norm.NFKC.String(s) {
		switch {
		case c == ' ' || c == '-' || c == '_' || c == '.' || c == '*' || unicode.IsSpace(c):
			gap = true
			continue
		case unicode.In(c, unicode.Cc, unicode.Cf, unicode.Mn):
			continue
		}
		if gap && b.Len() > 0 && !(unspaced(last) && unspaced(c)) {
			b.WriteByte(' ')
		}
		gap, last = false, c
		b.WriteRune(unicode.ToLower(c))
	}
	return b.String()
}

// maxFold bounds the text that is searched for a name, in bytes.
const maxFold = 4096
