package server

import (
	"testing"

	"cmmpd/internal/boltfile"

	"pgregory.net/rapid"
)

// comparePlan evaluates f over all entries and over the plan's candidates.
func comparePlan(t testing.TB, s *Server, f *filter, text string) {
	t.Helper()
	err := s.st.db.View(func(tx *boltfile.Tx) error {
		p := plan{st: s.st, tx: tx}
		ids, ok := p.candidates(f)
		if !ok {
			return nil
		}
		in := map[uint64]bool{}
		for i, id := range ids {
			if i > 0 && id <= ids[i-1] {
				t.Errorf("%s: candidates do not ascend: %v", text, ids)
			}
			in[id] = true
		}
		for _, r := range *s.st.rows.Load() {
			e, err := s.st.get(tx, r.id)
			if err != nil {
				return err
			}
			if s.st.schema.matches(f, e) == isTrue && !in[r.id] {
				t.Errorf("%s matches %s, which the plan leaves out", text, e.dn)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestPlanLosesNothing tries random filters: whatever matches is among the candidates.
func TestPlanLosesNothing(t *testing.T) {
	s, _ := newTest(t, Options{})
	types := []string{"uid", "cn", "sn", "mail", "displayName", "name", "objectClass", "telephoneNumber", "cn;lang-zh-hant", "entryDN", "ou", "member", "nonsense"}
	words := []string{"alice", "bob", "陳", "麗", "a", "o", "Works.GOV", "wong", "person", "2345 67", " ", "team", bobDN}
	var gen func(depth int) *rapid.Generator[*filter]
	gen = func(depth int) *rapid.Generator[*filter] {
		return rapid.Custom(func(r *rapid.T) *filter {
			sch := s.st.schema
			kind := rapid.IntRange(0, 8).Draw(r, "kind")
			if depth == 0 {
				kind = rapid.IntRange(3, 8).Draw(r, "leaf")
			}
			f := &filter{kind: filterKind(kind)}
			switch f.kind {
			case filterAnd, filterOr:
				f.parts = rapid.SliceOfN(gen(depth-1), 0, 3).Draw(r, "parts")
				return f
			case filterNot:
				f.parts = []*filter{gen(depth-1).Draw(r, "part")}
				return f
			}
			sch.describeFilter(f, rapid.SampledFrom(types).Draw(r, "type"))
			f.rule = ruleOf(f)
			word := []byte(rapid.SampledFrom(words).Draw(r, "word"))
			if f.kind != filterSubstrings {
				f.value, f.valid = sch.prepare(f.rule, word)
				return f
			}
			v, ok := prepareFragment(f.rule, word)
			f.valid = ok
			switch rapid.IntRange(0, 2).Draw(r, "where") {
			case 0:
				f.initial = v
			case 1:
				f.middle = [][]byte{v}
			default:
				f.final = v
			}
			return f
		})
	}
	rapid.Check(t, func(r *rapid.T) { comparePlan(t, s, gen(3).Draw(r, "filter"), "random filter") })
}
