package main

import (
	"bufio"
	"strings"
	"testing"

	"cmmpd/configs"
)

func TestEditConfig(t *testing.T) {
	got, err := editConfig("# words\n[a]\nkey = 1   # one\nlist = [\"x\", \"#\"] # two\n[b]\nkey = \"#\"\n", map[string]string{"a.list": `["yz"]`, "b.key": `"long"`})
	want := "# words\n[a]\nkey = 1   # one\nlist = [\"yz\"]     # two\n[b]\nkey = \"long\"\n"
	if err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := editConfig(configs.Example, map[string]string{"log.colour": `"red"`}); err == nil {
		t.Error("a key that is not there was set")
	}
	for _, signers := range [][]signerConfig{nil, {{"a.example", "pki/a.pem", "gateway/a.example"}}} {
		text := replaceSigners(configs.Example, signers)
		if n := strings.Count(text, "\n[[smime.signers]]"); n != len(signers) {
			t.Errorf("%d signers stand in the text, want %d", n, len(signers))
		}
		if before, after := strings.Count(configs.Example, "\n["), strings.Count(text, "\n["); before-3+len(signers) != after {
			t.Errorf("%d sections before, %d after", before, after)
		}
	}
}

func TestAsk(t *testing.T) {
	o := initOptions{officers: firstOfficers(), dir: "/given"}
	var said strings.Builder
	answers := strings.Join([]string{"mail.gov.example", "gov.example, works.gov.example", "", "", "kwchan", "", "", "", ""}, "\n") + "\n"
	if err := o.ask(&asker{bufio.NewReader(strings.NewReader(answers)), &said}, map[string]bool{"dir": true}); err != nil {
		t.Fatal(err)
	}
	if err := o.complete(); err != nil {
		t.Fatal(err)
	}
	if o.dir != "/given" || o.hostname != "mail.gov.example" || len(o.domains) != 2 || o.base != "dc=gov,dc=example" || !o.selfSigned ||
		o.officers[0].name != "kwchan@gov.example" || o.officers[4].name != "records@gov.example" {
		t.Errorf("the answers became %+v", o)
	}
	if !strings.Contains(said.String(), "電郵網域") || !strings.Contains(said.String(), "Mail domains") {
		t.Errorf("the questions are not in both languages: %s", said.String())
	}
	if err := o.ask(&asker{bufio.NewReader(strings.NewReader("")), &said}, nil); err == nil {
		t.Error("asking goes on without answers")
	}
}

func TestInitRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*initOptions)
		want   string
	}{
		"two roles":        {func(o *initOptions) { o.officers[3].name = "admin" }, "nobody may hold two"},
		"a stranger":       {func(o *initOptions) { o.officers[0].name = "a@elsewhere.example" }, "is not one of the domains"},
		"no certificate":   {func(o *initOptions) { o.selfSigned = false }, "--tls-certificate and --tls-key are needed"},
		"a missing anchor": {func(o *initOptions) { o.anchors = []string{"/nowhere.pem"} }, "does not exist"},
		"a bad domain":     {func(o *initOptions) { o.domains = []string{"a b"} }, "is not a domain"},
		"a bad signer":     {func(o *initOptions) { o.signers = []string{"gov.example"} }, "is not DOMAIN,CERTIFICATE,KEY"},
		"a bad address":    {func(o *initOptions) { o.address = "here" }, "is not an IP address"},
	} {
		o := initOptions{dir: "x", hostname: "mail.gov.example", domains: []string{"gov.example"}, selfSigned: true, officers: firstOfficers()}
		tc.change(&o)
		if err := o.complete(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}
