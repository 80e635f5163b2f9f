package policy

import (
	"fmt"
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

func TestDecide(t *testing.T) {
	p := newPolicy(t)
	none := []Problem{{Text: "dave@health.gov.example has no certificate"}}
	stale := []Problem{{Text: "bob@works.gov.example: revocation data is too old", Temporary: true}}
	for _, c := range []struct {
		f       Facts
		readers Readers
		want    Action
	}{
		{Facts{Path: Submission}, NoReaders, Pass},
		{Facts{Path: Submission, Problems: none}, NoReaders, Pass},
		{Facts{Path: Submission, Label: mail.Unclassified}, NoReaders, Pass},
		{Facts{Path: Submission, Label: mail.Restricted}, NoReaders, RequireTLS},
		{Facts{Path: Submission, Label: mail.Restricted, Encrypted: true}, Everyone, RequireTLS},
		{Facts{Path: Submission, Label: mail.Confidential}, Everyone, Seal},
		{Facts{Path: Submission, Label: mail.Confidential, Problems: none}, Everyone, Refuse},
		{Facts{Path: Submission, Label: mail.Confidential, Problems: stale}, Everyone, Defer},
		{Facts{Path: Submission, Label: mail.Confidential, Problems: append(stale, none...)}, Everyone, Refuse},
		{Facts{Path: Submission, Label: mail.Confidential, Encrypted: true}, Everyone, Pass},
		{Facts{Path: Submission, Label: mail.Confidential, Encrypted: true, Problems: none}, Everyone, Refuse},
		{Facts{Path: Submission, Encrypted: true}, Everyone, Pass},
		{Facts{Path: Submission, Encrypted: true, Problems: none}, Everyone, Refuse},
		{Facts{Path: Submission, Label: mail.Secret}, NoReaders, Refuse},
		{Facts{Path: Submission, Label: mail.TopSecret, Encrypted: true}, NoReaders, Refuse},
		{Facts{Path: Submission, Label: "cosmic"}, NoReaders, Refuse},
		{Facts{Path: Inbound, Label: mail.Confidential}, Recipients, Seal},
		{Facts{Path: Inbound, Label: mail.Confidential, Problems: none}, Recipients, Refuse},
		{Facts{Path: Inbound, Encrypted: true}, Recipients, Pass},
		{Facts{Path: Inbound, Label: mail.Secret}, NoReaders, Refuse},
		{Facts{Path: Append}, NoReaders, Pass},
		{Facts{Path: Append, Label: mail.Confidential}, Owner, Seal},
		{Facts{Path: Append, Label: mail.Confidential, Problems: none}, Owner, Refuse},
		{Facts{Path: Append, Label: mail.Confidential, Encrypted: true}, NoReaders, Pass},
		{Facts{Path: Append, Label: mail.Secret}, NoReaders, Refuse},
		{Facts{Path: Draft, Label: mail.Confidential}, NoReaders, Pass},
		{Facts{Path: Draft, Label: mail.Secret}, NoReaders, Refuse},
	} {
		if got := p.NeedsReaders(c.f); got != c.readers {
			t.Errorf("%+v: needs readers %v, want %v", c.f, got, c.readers)
		}
		d := p.Decide(c.f)
		if d.Action != c.want {
			t.Errorf("%+v: %v, want %v", c.f, d.Action, c.want)
		}
		if (d.Text() != "") != (d.Action == Refuse || d.Action == Defer) {
			t.Errorf("%+v: %v for the reasons %q", c.f, d.Action, d.Text())
		}
	}
	sealed, err := New(Options{Drafts: DraftsSeal})
	if err != nil {
		t.Fatal(err)
	}
	if d := sealed.Decide(Facts{Path: Draft, Label: mail.Confidential}); d.Action != Seal {
		t.Errorf("drafts = seal: %v", d.Action)
	}
}

func TestReasons(t *testing.T) {
	p := newPolicy(t)
	var many []Problem
	for i := range 100 {
		many = append(many, Problem{Text: fmt.Sprintf("user%d@x.example has no certificate", i)})
	}
	text := p.Decide(Facts{Label: mail.Confidential, Problems: many}).Text()
	if !strings.HasPrefix(text, "CONFIDENTIAL mail must be readable by all its recipients and nobody else: user0@x.example has no certificate; user1@") ||
		!strings.HasSuffix(text, "; and 80 more") {
		t.Error(text)
	}
	mixed := p.Decide(Facts{Label: mail.Confidential, Problems: []Problem{{Text: "a is stale", Temporary: true}, {Text: "b has no certificate"}}})
	if text := mixed.Text(); strings.Contains(text, "stale") || !strings.Contains(text, "b has no certificate") {
		t.Error(text)
	}
	if text := p.Decide(Facts{Label: mail.TopSecret}).Text(); text != "TOP SECRET mail is not carried by this platform" {
		t.Error(text)
	}
}

func TestNewRefuses(t *testing.T) {
	def := func(l mail.Label, names ...string) Definition { return Definition{Label: l, Names: names} }
	for name, o := range map[string]Options{
		"no labels":      {Labels: []Definition{}},
		"bad label":      {Labels: []Definition{def("Top Secret")}},
		"twice":          {Labels: []Definition{def("a"), def("a")}},
		"same name":      {Labels: []Definition{def("a", "X"), def("b", "x")}},
		"empty name":     {Labels: []Definition{def("a", " - ")}},
		"unknown rule":   {Rules: map[mail.Label]Requirement{"cosmic": SMIME}},
		"bad rule":       {Rules: map[mail.Label]Requirement{mail.Secret: 9}},
		"bad drafts":     {Drafts: "burn"},
		"content, label": {Content: []ContentRule{{Name: "x", Label: "cosmic", Match: HasIdentityCard}}},
		"content, match": {Content: []ContentRule{{Name: "x", Label: mail.Secret}}},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	p, err := New(Options{Labels: []Definition{def("open"), def("guarded"), def("closed")}, Rules: map[mail.Label]Requirement{"guarded": SMIME}, Content: []ContentRule{}})
	if err != nil {
		t.Fatal(err)
	}
	if p.Requires("open") != Free || p.Requires("closed") != SMIME || p.Requires("") != Free || p.ReadsContent() {
		t.Error("a label without a rule takes the next weaker one's")
	}
	if l, _ := p.Classify(Signals{Sensitivity: []string{"Company-Confidential"}}); l != "guarded" {
		t.Errorf("Company-Confidential is %q", l)
	}
}
