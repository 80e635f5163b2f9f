package policy

import (
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

// label x destination x clearance.
func TestRelease(t *testing.T) {
	p, err := New(Options{Release: append(DefaultRelease(),
		ReleaseRule{Labels: []mail.Label{mail.Restricted}, Destinations: []string{Elsewhere}, Require: SMIME},
		ReleaseRule{Labels: []mail.Label{mail.Restricted}, Destinations: []string{"closed.example"}, Require: Withheld},
		ReleaseRule{Destinations: []string{"partner.example"}, Require: TLS},
		ReleaseRule{Labels: []mail.Label{mail.Confidential}, Destinations: []string{Elsewhere}, Clearance: NoClearance, Require: Withheld},
		ReleaseRule{Labels: []mail.Label{mail.Confidential}, Require: Free}, // never makes less of a label
	)})
	if err != nil {
		t.Fatal(err)
	}
	here, there, partner, closed := Recipient{Name: "a", Domain: "works.gov.example", Here: true}, Recipient{Name: "b", Domain: "x.example"}, Recipient{Name: "c", Domain: "partner.example"}, Recipient{Name: "d", Domain: "closed.example"}
	cleared := func(r Recipient, l mail.Label) Recipient {
		r.Clearance = l
		return r
	}
	for _, c := range []struct {
		label mail.Label
		r     Recipient
		want  Requirement
	}{
		{"", here, Free},
		{"", there, Free},
		{"", partner, TLS},
		{"", cleared(here, mail.Unclassified), Free},
		{mail.Unclassified, here, Free},
		{mail.Unclassified, cleared(here, mail.Unclassified), Free},
		{mail.Unclassified, partner, TLS},
		{mail.Restricted, here, TLS},
		{mail.Restricted, cleared(here, mail.Restricted), TLS},
		{mail.Restricted, cleared(here, mail.Secret), TLS},
		{mail.Restricted, cleared(here, mail.Unclassified), Withheld},
		{mail.Restricted, cleared(here, "confidental"), Withheld}, // unknown is below all
		{mail.Restricted, there, SMIME},
		{mail.Restricted, partner, SMIME},
		{mail.Restricted, closed, Withheld},
		{mail.Confidential, here, SMIME},
		{mail.Confidential, cleared(here, mail.Confidential), SMIME},
		{mail.Confidential, cleared(here, mail.Restricted), Withheld},
		{mail.Confidential, there, Withheld},
		{mail.Confidential, cleared(there, mail.Confidential), SMIME},
		{mail.Secret, cleared(here, mail.TopSecret), Withheld},
	} {
		if got := p.DemandFor(c.label, c.r); got != c.want {
			t.Errorf("%q to %+v: %v, want %v", c.label, c.r, got, c.want)
		}
	}
	f := Facts{Label: mail.Restricted, Recipients: []Recipient{here, there}}
	if p.Demand(f) != SMIME || p.NeedsReaders(f) != Everyone || p.Decide(f).Action != Seal {
		t.Error("a message is protected as its strictest recipient demands")
	}
	f.Recipients = append(f.Recipients, cleared(here, mail.Unclassified), closed)
	if d := p.Decide(f); d.Action != Refuse || d.Text() != "RESTRICTED mail may not be sent to a; RESTRICTED mail may not be sent to d" || p.NeedsReaders(f) != NoReaders {
		t.Errorf("%+v", d)
	}
	d := newPolicy(t)
	if d.NeedsRecipients("") || !d.NeedsRecipients(mail.Unclassified) || !p.NeedsRecipients("") {
		t.Error("NeedsRecipients")
	}
	if !p.NeedsClearance(mail.Restricted) || p.NeedsClearance("") {
		t.Error("NeedsClearance")
	}
	for _, path := range []Path{Append, Draft} {
		if got := p.Decide(Facts{Path: path, Label: mail.Restricted}).Action; got != RequireTLS {
			t.Errorf("%v: %v", path, got)
		}
	}
}

func TestDepartments(t *testing.T) {
	p, err := New(Options{Departments: []Department{
		{Domain: "works.gov.example", Refuse: true},
		{Domain: "health.gov.example", Labels: []mail.Label{mail.Restricted}, Refuse: true},
		{Domain: "health.gov.example", Cipher: OAEP},
		{Domain: "*", Labels: []mail.Label{mail.Confidential}, Cipher: GCM},
	}, Rules: map[mail.Label]Requirement{mail.Unclassified: Free, mail.Restricted: SMIME, mail.Confidential: SMIME, mail.Secret: Withheld}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		f      Facts
		want   Action
		cipher Cipher
	}{
		{Facts{Label: mail.Confidential, Departments: []string{"works.gov.example"}}, Refuse, GCM},
		{Facts{Label: mail.Restricted, Departments: []string{"works.gov.example"}}, Refuse, AnyAES256},
		{Facts{Label: mail.Unclassified, Departments: []string{"works.gov.example"}}, Pass, AnyAES256},
		{Facts{Label: mail.Confidential, Departments: []string{"works.gov.example"}, Encrypted: true}, Pass, GCM},
		{Facts{Label: mail.Confidential, Departments: []string{"works.gov.example"}, Path: Append}, Seal, GCM},
		{Facts{Label: mail.Confidential, Path: Inbound}, Seal, GCM},
		{Facts{Label: mail.Restricted, Path: Inbound}, Seal, AnyAES256},
		{Facts{Label: mail.Confidential, Departments: []string{"health.gov.example"}}, Seal, GCM},
		{Facts{Label: mail.Restricted, Departments: []string{"health.gov.example"}}, Refuse, OAEP},
		{Facts{Label: mail.Restricted, Departments: []string{"lands.gov.example"}}, Seal, AnyAES256},
		{Facts{Label: mail.Restricted, Departments: []string{"lands.gov.example", "health.gov.example"}}, Refuse, OAEP},
		{Facts{Label: mail.Restricted, Departments: []string{"health.gov.example", "lands.gov.example"}}, Refuse, OAEP},
	} {
		if d := p.Decide(c.f); d.Action != c.want || c.want == Refuse && !strings.Contains(d.Text(), "encrypted by your own mail program") {
			t.Errorf("%+v: %+v, want %v", c.f, d, c.want)
		}
		if got := p.DemandedCipher(c.f); got != c.cipher {
			t.Errorf("%+v: cipher %v, want %v", c.f, got, c.cipher)
		}
	}
}

// TestStrongestCipher: of all departments whose words count the strongest cipher is demanded, in whatever order they stand, also of what only a
// rule for a recipient makes S/MIME of; and nobody's clearance is looked for that no rule asks about.
func TestStrongestCipher(t *testing.T) {
	p, err := New(Options{
		Departments: []Department{{Domain: "*", Cipher: GCM}, {Domain: "works.gov.example", Cipher: OAEP}, {Domain: "works.gov.example"}},
		Release:     []ReleaseRule{{Labels: []mail.Label{mail.Restricted}, Destinations: []string{"partner.example"}, Require: SMIME}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]Cipher{"partner.example": GCM, "other.example": AnyAES256} {
		f := Facts{Label: mail.Restricted, Departments: []string{"works.gov.example"}, Recipients: []Recipient{{Domain: domain}}}
		if got := p.DemandedCipher(f); got != want {
			t.Errorf("to %s: %v, want %v", domain, got, want)
		}
	}
	for _, l := range []mail.Label{"", mail.Restricted, mail.Confidential} {
		if p.NeedsClearance(l) {
			t.Errorf("of %q the clearance is looked for", l)
		}
	}
}

func TestContentRules(t *testing.T) {
	for text, want := range map[string]bool{
		"4111 1111 1111 1111":             true,
		"card 4111-1111-1111-1111.":       true,
		"4111111111111111":                true,
		"5500005555555559":                true,
		"2223003122003222":                true, // Mastercard's newer range
		"378282246310005":                 true, // 15 digits
		"號碼4111111111111111，":             true,
		"4111 1111 1111 1112":             false,
		"41111111111111111111":            false, // too long
		"0000000000000000":                false, // no issuer
		"1234567812345670":                false, // likewise, though its check digit fits
		"A4111111111111111":               false,
		"4111111111111111b":               false,
		"4111  1111 1111 1111":            false,
		"4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1": false,
		"4222222222222":                   true, // 13 digits
		"422222222222":                    false,
		"":                                false,
	} {
		if got := HasCardNumber([]byte(text)); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	match, err := Pattern(`(?i)case no\. [0-9]{4}`)
	if err != nil || !match([]byte("see Case No. 1234")) || match([]byte("case")) {
		t.Error(err)
	}
	for _, bad := range []string{"(", "x*", "", strings.Repeat("x", maxPattern+1)} {
		if _, err := Pattern(bad); err == nil {
			t.Errorf("%.10q is accepted", bad)
		}
	}
}

func TestSecurityLabels(t *testing.T) {
	labels := DefaultLabels()
	labels[1].Foreign = []Foreign{{"1.2.3", 7}, {"1.2.3", NoClassification}}
	labels[3].Foreign = []Foreign{{"1.2.3", 9}}
	p, err := New(Options{Labels: labels})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		l    SecurityLabel
		want mail.Label
	}{
		{SecurityLabel{"1.2.3", 7, ""}, mail.Restricted},
		{SecurityLabel{"1.2.3", NoClassification, ""}, mail.Restricted},
		{SecurityLabel{"1.2.3", 9, ""}, mail.Secret},
		{SecurityLabel{"1.2.3", 1, ""}, mail.Confidential}, // the policy does not have it
		{SecurityLabel{"1.2.3", 0, ""}, mail.Confidential},
		{SecurityLabel{"1.2.3", 1, "RESTRICTED"}, mail.Restricted},
		{SecurityLabel{"1.2.4", 9, ""}, mail.Confidential},
		{SecurityLabel{"1.2.4", 2, ""}, mail.Restricted},
		{SecurityLabel{"", 2, ""}, mail.Restricted},
		{SecurityLabel{"1.2.4", 0, ""}, ""},
		{SecurityLabel{"1.2.4", 0, "secret"}, mail.Secret},
	} {
		if got, _ := p.Classify(Signals{Signed: Security{Labels: []SecurityLabel{c.l}}}); got != c.want {
			t.Errorf("%+v: %q, want %q", c.l, got, c.want)
		}
	}
	if got, source := p.Classify(Signals{Signed: Security{Unreadable: 1}, Subject: []string{"[RESTRICTED]"}}); got != mail.Confidential || source != FromSignature {
		t.Errorf("unreadable: %q from %q", got, source)
	}
	readings := p.Readings(Signals{Subject: []string{"[RESTRICTED]"}, Signed: Security{Labels: []SecurityLabel{{"1.2.3", 9, ""}}}, Texts: [][]byte{[]byte("A123456(3)")}})
	if len(readings) != 3 || readings[0] != (Reading{mail.Secret, FromSignature, "1.2.3:9"}) || readings[2] != (Reading{mail.Restricted, FromContent, "hkid"}) {
		t.Errorf("%+v", readings)
	}
	none, err := New(Options{Labels: []Definition{{Label: "open"}, {Label: "closed"}}, Rules: map[mail.Label]Requirement{"open": Free}, Content: []ContentRule{}})
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := none.Classify(Signals{Signed: Security{Unreadable: 1}}); got != "closed" {
		t.Errorf("where no label demands S/MIME, the unreadable is %q", got)
	}
}

func TestNewRefusesMore(t *testing.T) {
	def := func(change func(d []Definition)) Options {
		d := DefaultLabels()
		change(d)
		return Options{Labels: d}
	}
	for name, o := range map[string]Options{
		"same number":       def(func(d []Definition) { d[1].Classification = 1 }),
		"descending":        def(func(d []Definition) { d[0].Classification = 200 }),
		"too high":          def(func(d []Definition) { d[4].Classification = 257 }),
		"foreign twice":     def(func(d []Definition) { d[0].Foreign, d[1].Foreign = []Foreign{{"1.2", 1}}, []Foreign{{"1.2", 1}} }),
		"foreign, no OID":   def(func(d []Definition) { d[0].Foreign = []Foreign{{"x", 1}} }),
		"foreign, too high": def(func(d []Definition) { d[0].Foreign = []Foreign{{"1.2", 300}} }),
		"color":             def(func(d []Definition) { d[0].Color = "red; x" }),
		"rule, label":       {Release: []ReleaseRule{{Labels: []mail.Label{"cosmic"}}}},
		"rule, clearance":   {Release: []ReleaseRule{{Clearance: "above"}}},
		"department":        {Departments: []Department{{Refuse: true}}},
		"department, label": {Departments: []Department{{Domain: "*", Labels: []mail.Label{"cosmic"}}}},
		"policy":            {ESSPolicy: "works"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzCardNumber(f *testing.F) {
	f.Add([]byte("4111 1111-1111 1111"), 3)
	f.Fuzz(func(t *testing.T, text []byte, at int) {
		HasCardNumber(text)
		cut := text[:min(max(at, 0), len(text))]
		if !HasCardNumber(append(append([]byte{}, cut...), ". 4111 1111 1111 1111 ."...)) {
			t.Fatalf("a number behind %q is missed", cut)
		}
	})
}

func FuzzLowering(f *testing.F) {
	p := newPolicy(f)
	f.Add("restricted; reason=\"x y z\"", "Re: [LOWER RESTRICTED: published] x")
	f.Add("", "【降級 限閱：已公布】【機密】")
	f.Fuzz(func(t *testing.T, field, subject string) {
		l, err := p.Lowering([]string{field}, []string{subject})
		if err == nil && l != nil && (!p.Labels().Known(l.Label) || l.Reason == "" || strings.ContainsAny(l.Reason, "\r\n")) {
			t.Fatalf("%+v", l)
		}
		rest, _ := p.WithoutLowering(subject)
		if again, found := p.WithoutLowering(rest); found {
			t.Fatalf("%q still asks: %q", rest, again)
		}
	})
}
