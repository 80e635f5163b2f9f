package policy

import (
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

func newPolicy(t testing.TB) *Policy {
	t.Helper()
	p, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSubjectLabels(t *testing.T) {
	p := newPolicy(t)
	for subject, want := range map[string]mail.Label{
		"":                          "",
		"budget":                    "",
		"the [CONFIDENTIAL] budget": "",
		"[CONFIDENTIAL] budget":     mail.Confidential,
		"[confidential]budget":      mail.Confidential,
		"  [ Confidential ] budget": mail.Confidential,
		"［ＣＯＮＦＩＤＥＮＴＩＡＬ］ budget": mail.Confidential,
		"【機密】預算":                              mail.Confidential,
		"【 機密 】預算":                            mail.Confidential,
		"【机密】预算":                              mail.Confidential,
		"(機密) 預算":                             mail.Confidential,
		"【非機密】預算":                             mail.Unclassified,
		"[UNCLASSIFIED] budget":               mail.Unclassified,
		"[RESTRICTED] budget":                 mail.Restricted,
		"【限閱】預算":                              mail.Restricted,
		"【限閱文件】預算":                            mail.Restricted,
		"[SECRET] budget":                     mail.Secret,
		"【絕密】預算":                              mail.Secret,
		"【高度機密】預算":                            mail.Secret,
		"[TOP SECRET] budget":                 mail.TopSecret,
		"[top-secret] budget":                 mail.TopSecret,
		"[TOP  SECRET] budget":                mail.TopSecret,
		"【絕對機密】預算":                            mail.TopSecret,
		"Re: [CONFIDENTIAL] budget":           mail.Confidential,
		"RE[2]: Fwd: [CONFIDENTIAL] x":        mail.Confidential,
		"回覆：【機密】預算":                           mail.Confidential,
		"轉寄: Re: 【機密】":                        mail.Confidential,
		"[team] Re: [EXT] [CONFIDENTIAL] x":   mail.Confidential,
		"[RESTRICTED] Fwd: [CONFIDENTIAL]":    mail.Confidential,
		"[CONFIDENTIAL - WORKS] x":            mail.Confidential,
		"[CONFIDENTIAL】x":                     mail.Confidential,
		"[\u200bCONFI\u200bDENTIAL] x":        mail.Confidential,
		"\ufeff[CONFIDENTIAL] x":              mail.Confidential,
		"[C.O.N.F] x":                         "",
		"[CONFIDENTIALITY] x":                 "",
		"[SECRETARY] x":                       "",
		"[CONFIDENTIAL x":                     "",
		"note: [CONFIDENTIAL] x":              "",
		"[" + strings.Repeat("x", 5000) + "]": "",
	} {
		got, source := p.Classify(Signals{Subject: []string{subject}})
		if got != want || (got != "") != (source == FromSubject) {
			t.Errorf("%q: %q from %q, want %q", subject, got, source, want)
		}
	}
}

func TestHeaderLabels(t *testing.T) {
	p := newPolicy(t)
	for name, c := range map[string]struct {
		s      Signals
		want   mail.Label
		source Source
	}{
		"sio marking":         {Signals{SIOLabel: []string{`marking="CONFIDENTIAL"; fgcolor=black; bgcolor=red`}}, mail.Confidential, FromSIOLabel},
		"sio marking, parts":  {Signals{SIOLabel: []string{`marking*0="TOP "; marking*1="SECRET"; type=":xml"`}}, mail.TopSecret, FromSIOLabel},
		"sio marking, quotes": {Signals{SIOLabel: []string{`marking="say \"RESTRICTED\""; type=":ess"`}}, mail.Restricted, FromSIOLabel},
		"sio, other word":     {Signals{SIOLabel: []string{`marking="PUBLIC"; label="CONFIDENTIAL"`}}, "", ""},
		"sio, no marking":     {Signals{SIOLabel: []string{`CONFIDENTIAL`}}, mail.Confidential, FromSIOLabel},
		"classification":      {Signals{Classification: []string{"Company Confidential // WORKS"}}, mail.Confidential, FromClassification},
		"classification, zh":  {Signals{Classification: []string{"限閱文件"}}, mail.Restricted, FromClassification},
		"not a word":          {Signals{Classification: []string{"secretariat"}}, "", ""},
		"sensitivity":         {Signals{Sensitivity: []string{"Company-Confidential"}}, mail.Confidential, FromSensitivity},
		"sensitivity, case":   {Signals{Sensitivity: []string{" company-CONFIDENTIAL "}}, mail.Confidential, FromSensitivity},
		"sensitivity, more":   {Signals{Sensitivity: []string{"(by policy) \"Company-Confidential\""}}, mail.Confidential, FromSensitivity},
		"personal":            {Signals{Sensitivity: []string{"Personal"}}, "", ""},
		"thread":              {Signals{Thread: []mail.Label{mail.Restricted, mail.Confidential}}, mail.Confidential, FromThread},
		"submission":          {Signals{Submission: []mail.Label{mail.Confidential}}, mail.Confidential, FromSubmission},
		"strongest":           {Signals{Subject: []string{"[UNCLASSIFIED] x"}, Thread: []mail.Label{mail.Confidential}, Classification: []string{"restricted"}}, mail.Confidential, FromThread},
		"first of equals":     {Signals{Subject: []string{"[CONFIDENTIAL] x"}, Sensitivity: []string{"Company-Confidential"}}, mail.Confidential, FromSensitivity},
		"second subject":      {Signals{Subject: []string{"hello", "[CONFIDENTIAL] x"}}, mail.Confidential, FromSubject},
		"unknown label":       {Signals{Thread: []mail.Label{"cosmic"}}, "", ""},
		"content":             {Signals{Texts: [][]byte{[]byte("my card is A123456(3).")}}, mail.Restricted, FromContent},
	} {
		if got, source := p.Classify(c.s); got != c.want || source != c.source {
			t.Errorf("%s: %q from %q, want %q from %q", name, got, source, c.want, c.source)
		}
	}
}

func TestIdentityCard(t *testing.T) {
	p := newPolicy(t)
	for text, want := range map[string]bool{
		"A123456(3)":       true,
		"a123456(3)":       true,
		"A123456 (3)":      true,
		"A123456（3）":       true,
		"號碼A123456(3)。":    true,
		"AB987654(3)":      true,
		"AB987654(2)":      false,
		"A123456(4)":       false,
		"A123456(3":        false,
		"123456(3)":        false,
		"ABC123456(3)":     false,
		"(3)":              false,
		"A12345(3)":        false,
		"C668668(E)":       false,
		"f(x) and A123456": false,
		"":                 false,
		"(":                false,
		"A123456\xef":      false,
	} {
		if l, _ := p.Classify(Signals{Texts: [][]byte{[]byte(text)}}); (l == mail.Restricted) != want {
			t.Errorf("%q: %v, want %v", text, l, want)
		}
	}
}

// TestWidth: what is written in full width counts as what is written in ASCII, for every rule; a pattern may ask for either.
func TestWidth(t *testing.T) {
	pattern, err := Pattern("合約：[0-9]{3}")
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Options{Content: []ContentRule{
		{"hkid", mail.Restricted, HasIdentityCard}, {"card", mail.Confidential, HasCardNumber}, {"pattern", mail.Secret, pattern},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]mail.Label{
		"身份證Ａ１２３４５６（３）。": mail.Restricted,
		"ａ123456(３)":                         mail.Restricted,
		"Ａ１２３４５６　（Ａ）":                        "",
		"Ｃ６６８６６８　（Ａ）":                        "",
		"Ｇ１２３４５６　（Ａ）":                        mail.Restricted,
		"Ａ１２３４５６（４）":                         "",
		"ＡＢＣ１２３４５６（３）":                       "",
		"４１１１１１１１１１１１１１１１":                   mail.Confidential,
		"４１１１　１１１１　１１１１　１１１１":                mail.Confidential,
		"4111\u30001111\u30001111\u30001111": mail.Confidential,
		"４１１１－１１１１－１１１１－１１１１":                mail.Confidential,
		"４１１１１１１１１１１１１１１２":                   "",
		"合約：１２３":                             "",
		"合約：123":                             mail.Secret, // only as it is
		"￦￥":                                 "", "\xef": "", "\xef\xbc": "", "Ａ１２３４５６（３\xef": "",
	} {
		texts := [][]byte{[]byte("first"), []byte(text)}
		if l, _ := p.Classify(Signals{Texts: texts}); l != want || string(texts[1]) != text {
			t.Errorf("%q: %q, want %q", text, l, want)
		}
		if r := p.Readings(Signals{Texts: texts}); (len(r) > 0) != (want != "") {
			t.Errorf("%q: %v", text, r)
		}
	}
}

func FuzzClassify(f *testing.F) {
	f.Add("[CONFIDENTIAL] x", `marking="SECRET"; type=":xml"`, "A123456(3)")
	f.Add("Re: 【機密】", "限閱", "A123456（3）")
	f.Add("RE[2]：［ＴＯＰ－ＳＥＣＲＥＴ］", `marking*0="a\"`, "(\xef\xbc")
	p := newPolicy(f)
	f.Fuzz(func(t *testing.T, subject, header, text string) {
		s := Signals{Subject: []string{subject}, SIOLabel: []string{header}, Classification: []string{header}, Texts: [][]byte{[]byte(text)}}
		l, source := p.Classify(s)
		if (l == "") != (source == FromNothing) || l != "" && !p.Labels().Known(l) {
			t.Fatalf("label %q from %q", l, source)
		}
		marked, _ := p.Classify(Signals{Subject: []string{"Re: [SECRET] " + subject}})
		if p.Labels().Rank(marked) < p.Labels().Rank(mail.Secret) {
			t.Fatalf("%q after a label hides it", subject)
		}
	})
}
