package main

import (
	"strconv"
	"strings"
	"testing"

	"cmmpd/configs"
	"cmmpd/internal/mail"
	"cmmpd/internal/policy"
)

// policyExample is the example with lines put before its table of the policy's own lists.
func policyExample(t *testing.T, lines string) (path string, first int) {
	t.Helper()
	const before = "# The labels, weakest first."
	head, _, ok := strings.Cut(configs.Example, before)
	if !ok {
		t.Fatalf("%q is not in the example", before)
	}
	return exampleDir(t, func(s string) string { return strings.Replace(s, before, lines+"\n"+before, 1) }), strings.Count(head, "\n") + 1
}

func TestPolicyComplaints(t *testing.T) {
	for lines, want := range map[string]string{
		"[[policy.labels]]\nlabel = \"x\"\nrelease = \"post\"":                                       "3 none of free, tls",
		"[[policy.labels]]\nlabel = \"x\"\nrelease = \"free\"\ness = [\"1.2:x\"]":                    "4 not a policy and a classification",
		"[[policy.labels]]\nlabel = \"x\"\nrelease = \"free\"\nclassification = 300":                 "- 256 at most",
		"[[policy.labels]]\nlabel = \"x\"\nrelease = \"free\"\ncolor = \"pink\"":                     "- no colour",
		"[[policy.rules]]\nlabels = []\nrequire = \"free\"":                                          "3 none of tls, smime",
		"[[policy.rules]]\nrequire = \"tls\"\nclearance = \"high\"":                                  "3 neither",
		"[[policy.rules]]\nrequire = \"tls\"\nlabels = [\"cosmic\"]":                                 "3 not one of the labels",
		"[[policy.rules]]\nrequire = \"tls\"\ndestinations = [\"here\", \"a b\"]":                    "3 not a domain",
		"[[policy.departments]]\ndomain = \"partner.example\"":                                       "2 not one of domains.local",
		"[[policy.departments]]\ndomain = \"*\"\nplain = \"send\"":                                   "3 neither",
		"[[policy.departments]]\ndomain = \"*\"\ncipher = \"rot13\"":                                 "3 none of any",
		"[[policy.departments]]\ndomain = \"*\"\nlabels = [\"cosmic\"]":                              "3 not one of the labels",
		"[[policy.content]]\nname = \"x\"\nlabel = \"secret\"\nmatch = \"dog\"":                      "4 none of hkid",
		"[[policy.content]]\nname = \"x\"\nmatch = \"pattern\"\nlabel = \"secret\"\npattern = \"(\"": "5 missing closing",
		"[[policy.content]]\nname = \"x\"\nmatch = \"card\"\nlabel = \"secret\"\npattern = \"x\"":    "5 only",
		"[[policy.content]]\nname = \"x\"\nmatch = \"card\"\nlabel = \"cosmic\"":                     "4 not one of the labels",
		"[[policy.content]]\nname = \"\"\nmatch = \"card\"\nlabel = \"secret\"":                      "2 must not be empty",
		"[[policy.content]]\nname = \"x\"\nwhat = 1":                                                 "3 unknown key",
	} {
		path, first := policyExample(t, lines)
		_, err := loadConfig(path)
		if err == nil {
			t.Errorf("%q is accepted", lines)
			continue
		}
		where, words, _ := strings.Cut(want, " ")
		if n, isLine := strconv.Atoi(where); isLine == nil {
			where = path + ":" + strconv.Itoa(first+n-1) + ":"
		} else {
			where = path + ":"
		}
		if !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), words) {
			t.Errorf("%q: got %v, want %s … %s", lines, err, where, words)
		}
	}
}

// What the file says is what the policy does.
func TestPolicyFromConfiguration(t *testing.T) {
	path, _ := policyExample(t, strings.Join([]string{
		"[[policy.labels]]", `label = "open"`, `names = ["OPEN", "公開"]`, `release = "free"`, `classification = 10`,
		"[[policy.labels]]", `label = "inside"`, `names = ["INSIDE", "內部"]`, `words = ["internal"]`, `release = "smime"`, `classification = 20`, `ess = ["1.2.3:4", "1.2.9"]`, `color = "#ff0000"`,
		"[[policy.rules]]", `labels = ["open"]`, `destinations = ["Partner.example"]`, `require = "tls"`,
		"[[policy.rules]]", `clearance = "none"`, `labels = ["inside"]`, `require = "refuse"`,
		"[[policy.departments]]", `domain = "health.gov.example"`, `plain = "refuse"`, `cipher = "gcm"`,
		"[[policy.content]]", `name = "card"`, `match = "card"`, `label = "inside"`,
		"[[policy.content]]", `name = "case"`, `match = "pattern"`, `pattern = "(?i)case no\\. [0-9]+"`, `label = "open"`,
	}, "\n"))
	c, err := loadConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.policy()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		s    policy.Signals
		want mail.Label
	}{
		{policy.Signals{Subject: []string{"【內部】x"}}, "inside"},
		{policy.Signals{Subject: []string{"[CONFIDENTIAL] x"}}, ""},
		{policy.Signals{Signed: policy.Security{Labels: []policy.SecurityLabel{{Policy: "1.2.3", Classification: 4}}}}, "inside"},
		{policy.Signals{Signed: policy.Security{Labels: []policy.SecurityLabel{{Policy: "1.2.9", Classification: policy.NoClassification}}}}, "inside"},
		{policy.Signals{Signed: policy.Security{Labels: []policy.SecurityLabel{{Classification: 10}}}}, "open"},
		{policy.Signals{Texts: [][]byte{[]byte("4111 1111 1111 1111")}}, "inside"},
		{policy.Signals{Texts: [][]byte{[]byte("Case No. 7")}}, "open"},
		{policy.Signals{Texts: [][]byte{[]byte("A123456(3)")}}, ""},
	} {
		if got, _ := p.Classify(tc.s); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.s, got, tc.want)
		}
	}
	if got := p.DemandFor("open", policy.Recipient{Domain: "partner.example"}); got != policy.TLS {
		t.Errorf("open to the partner: %v", got)
	}
	if p.DemandFor("inside", policy.Recipient{Here: true}) != policy.Withheld || p.DemandFor("inside", policy.Recipient{Here: true, Clearance: "open"}) != policy.SMIME {
		t.Error("rules in the file take the place of the default one")
	}
	if d := p.Decide(policy.Facts{Label: "inside", Departments: []string{"health.gov.example"}}); d.Action != policy.Refuse {
		t.Errorf("plain = refuse: %+v", d)
	}
	if got := p.DemandedCipher(policy.Facts{Label: "inside", Departments: []string{"health.gov.example"}}); got != policy.GCM {
		t.Errorf("cipher = gcm: %v", got)
	}
	none, err := loadConfig(exampleDir(t, func(s string) string {
		return strings.Replace(s, `ess-policy = ""`, "ess-policy = \"2.25.7\"\nrules = []\ncontent = []", 1)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if p, err = none.policy(); err != nil || p.ReadsContent() || p.ESSPolicy() != "2.25.7" || p.NeedsClearance(mail.Restricted) {
		t.Errorf("with empty lists: %v", err)
	}
}
