package policy

import (
	"errors"
	"testing"

	"cmmpd/internal/mail"
)

// TestLoweringAsked: one request, with a reason, and nothing that contradicts it.
func TestLoweringAsked(t *testing.T) {
	p := newPolicy(t)
	for _, c := range []struct {
		fields, subjects []string
		want             mail.Label
		err              error
	}{
		{fields: []string{`restricted; reason="published"`}, want: mail.Restricted},
		{fields: []string{`restricted; reason="published"`}, subjects: []string{"[LOWER RESTRICTED: published] x"}, want: mail.Restricted},
		{subjects: []string{"【降級 限閱：已公布】x"}, want: mail.Restricted},
		{fields: []string{`restricted; reason="published"`, `unclassified; reason="published"`}, err: ErrAskedTwice},
		{fields: []string{`restricted; reason="published"`}, subjects: []string{"[LOWER RESTRICTED: for another reason] x"}, err: ErrAskedTwice},
		{subjects: []string{"[LOWER RESTRICTED: one][LOWER UNCLASSIFIED: one] x"}, err: ErrAskedTwice},
		{fields: []string{`restricted; reason="no"`}, err: ErrNoReason},
		{fields: []string{`restricted; reason="公布"`}, err: ErrNoReason}, // of characters, not octets
		{fields: []string{`restricted; reason="已公布"`}, want: mail.Restricted},
		{fields: []string{`cosmic; reason="published"`}, err: ErrNoSuchLabel},
		{subjects: []string{"Re: [LOWER RESTRICTED: published] x"}, err: ErrNotFirst},
		{subjects: []string{"Re: [Lower Austria: published] x"}},
		{subjects: []string{"Re: x"}},
	} {
		l, err := p.Lowering(c.fields, c.subjects)
		if !errors.Is(err, c.err) || (l != nil) != (c.want != "") || l != nil && l.Label != c.want {
			t.Errorf("%q, %q: %+v, %v", c.fields, c.subjects, l, err)
		}
	}
}

// TestSignRules: a rule names addresses and domains, and the first that holds and can be kept says who signs.
func TestSignRules(t *testing.T) {
	p, err := New(Options{Sign: []SignRule{
		{From: []string{"Bob@Works.gov.example"}, By: ByAuthor},
		{From: []string{"works.gov.example"}, Labels: []mail.Label{mail.Restricted}, By: ByDepartment},
		{From: []string{"health.gov.example"}, By: ByDepartment},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		from  string
		label mail.Label
		own   bool
		want  Signer
	}{
		{"bob@works.gov.example", "", true, ByAuthor},
		{"bob@works.gov.example", "", false, ByNobody},
		{"bob@works.gov.example", mail.Restricted, false, ByDepartment},
		{"alice@works.gov.example", mail.Restricted, true, ByDepartment},
		{"alice@works.gov.example", "", true, ByNobody},
		{"carol@health.gov.example", mail.Unclassified, true, ByDepartment},
		{"dave@lands.gov.example", mail.Restricted, true, ByNobody},
	} {
		got := p.Signs(mail.MustParseAddress(c.from), c.label, func(s Signer) bool { return c.own || s == ByDepartment })
		if got != c.want {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

// TestSecurityWithoutClassification: a security label that says nothing that is known here is confidential; one that says "unmarked" is none.
func TestSecurityWithoutClassification(t *testing.T) {
	p := newPolicy(t)
	for want, l := range map[mail.Label]SecurityLabel{
		mail.Confidential: {Policy: "1.2.3", Classification: NoClassification},
		mail.Secret:       {Policy: "1.2.3", Classification: NoClassification, PrivacyMark: "SECRET // WORKS"},
		"":                {Policy: "1.2.3", Classification: 0},
		mail.Restricted:   {Policy: "1.2.3", Classification: 2, PrivacyMark: "PROJECT X"},
	} {
		if got, _ := p.Classify(Signals{Signed: Security{Labels: []SecurityLabel{l}}}); got != want {
			t.Errorf("%+v: %q, want %q", l, got, want)
		}
	}
}
