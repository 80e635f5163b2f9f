package audit

import (
	"fmt"
	"strings"
	"time"

	"cmmpd/internal/mail"
)

// Filter says which records of a log are wanted. The zero Filter wants all. Of each list one pattern must match, if there
// is any. A pattern is the whole text, or its beginning and an asterisk; of a type also its beginning up to a dot, and of
// an outcome its kind alone ("refused" for "refused: no"). Only the end of an act has an outcome.
type Filter struct {
	First    int64     `json:"first,omitempty"` // no earlier Seq
	End      int64     `json:"end,omitempty"`   // this Seq and no later one; 0: no limit
	From     time.Time `json:"from,omitzero"`   // of this time or later
	To       time.Time `json:"to,omitzero"`     // before this time
	Actors   []string  `json:"actors,omitempty"`
	Types    []string  `json:"types,omitempty"`
	Objects  []string  `json:"objects,omitempty"` // the Subject
	Outcomes []string  `json:"outcomes,omitempty"`
}

// maxPatterns bounds each list of a Filter.
const maxPatterns = 100

// Check says what is wrong with the filter, with kind Invalid.
func (f *Filter) Check() error {
	for _, p := range f.Types {
		if !strings.HasSuffix(p, "*") && !strings.HasSuffix(p, ".") && ClassOf(p) == Unknown {
			return mail.E(mail.Invalid, fmt.Sprintf("there is no type %q; a pattern such as key. or key.* takes several", p), nil)
		}
	}
	return f.bounded()
}

// bounded is Check of what another version may have written, which had other types.
func (f *Filter) bounded() error {
	for name, list := range map[string][]string{"actor": f.Actors, "type": f.Types, "object": f.Objects, "outcome": f.Outcomes} {
		if len(list) > maxPatterns {
			return mail.E(mail.Invalid, fmt.Sprintf("more than %d patterns for %s", maxPatterns, name), nil)
		}
		for _, p := range list {
			if p == "" || len(p) > maxSubject {
				return mail.E(mail.Invalid, "a pattern for "+name+" is empty or too long", nil)
			}
		}
	}
	switch {
	case !f.From.IsZero() && !f.To.IsZero() && !f.From.Before(f.To):
		return mail.E(mail.Invalid, "the end of the time asked for is not after its beginning", nil)
	case f.First < 0 || f.End < 0 || f.End > 0 && f.End <= f.First:
		return mail.E(mail.Invalid, "the last number asked for is before the first", nil)
	}
	return nil
}

// all says whether every record from First to End is wanted.
func (f *Filter) all() bool {
	return f.From.IsZero() && f.To.IsZero() && len(f.Actors)+len(f.Types)+len(f.Objects)+len(f.Outcomes) == 0
}

func (f *Filter) matches(r *Record) bool {
	switch {
	case r.Seq < f.First || f.End > 0 && r.Seq >= f.End,
		!f.From.IsZero() && r.Time.Before(f.From),
		!f.To.IsZero() && !r.Time.Before(f.To):
		return false
	}
	return anyMatches(f.Types, r.Type, ".") && anyMatches(f.Actors, r.Actor, "") &&
		anyMatches(f.Objects, r.Subject, "") && anyMatches(f.Outcomes, r.Outcome, ":")
}

// anyMatches says whether there is no pattern, or one that s matches. mark is what may end the beginning of a text that
// a pattern names: as the pattern's last character, or behind it in the text.
func anyMatches(patterns []string, s, mark string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if head, ok := strings.CutSuffix(p, "*"); ok && strings.HasPrefix(s, head) {
			return true
		}
		rest, ok := strings.CutPrefix(s, p)
		if ok && (rest == "" || mark == "." && strings.HasSuffix(p, mark) || mark == ":" && strings.HasPrefix(rest, mark)) {
			return true
		}
	}
	return false
}
