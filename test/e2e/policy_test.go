package e2e

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"cmmpd/internal/testkit"
)

// TestLabels sends what only a signature labels, and lowers a conversation; OpenSSL signs, opens and shows the label.
func TestLabels(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	s := newSite(t)
	if out, err := s.send("alice", alice, []string{bob}, "Message-ID: <first@works.gov.example>\n"+mailOf(alice, bob, "[CONFIDENTIAL] plan", "needle one")); err != nil {
		t.Fatal(err, out)
	}
	sealed := s.last("bob", "INBOX")
	outer, _, _ := strings.Cut(sealed, "\r\n\r\n")
	label := regexp.MustCompile(`SIO-Label: marking="CONFIDENTIAL";\r\n fgcolor=white; bgcolor="red";\r\n type=":ess"; label="([^"]+)"\r\n`).FindStringSubmatch(outer)
	if label == nil {
		t.Fatalf("outside stands\n%s", outer)
	}
	inner := s.must(sealed, "openssl", "cms", "-decrypt", "-inkey", s.path("people", "bob", "key.pem"), "-recip", s.path("people", "bob", "cert.pem"))
	printed := s.must(inner, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem"), "-cmsout", "-print")
	der, err := base64.StdEncoding.DecodeString(label[1])
	if err != nil {
		t.Fatal(err)
	}
	shown := s.must(string(der), "openssl", "asn1parse", "-inform", "DER")
	for _, want := range []string{"SET", "INTEGER           :03", "2.25.113865221376509670885562157255721961056.3.1", "CONFIDENTIAL"} {
		if !strings.Contains(shown, want) {
			t.Errorf("OpenSSL shows the label in SIO-Label as\n%s", shown)
		}
	}
	if !strings.Contains(printed, "id-smime-aa-securityLabel") || !strings.Contains(printed, "2.25.113865221376509670885562157255721961056.3.1") {
		t.Errorf("OpenSSL shows no label in the signature:\n%s", printed)
	}

	// An answer to dave, who has no certificate, is confidential, too.
	answer := func(subject string) string {
		return "In-Reply-To: <first@works.gov.example>\n" + mailOf(alice, dave, subject, "needle two")
	}
	if out, err := s.send("alice", alice, []string{dave}, answer("Re: plan")); err == nil || !strings.Contains(out, "has no certificate") {
		t.Fatalf("the conversation's label is forgotten: %v\n%s", err, out)
	}
	const asked = "[LOWER RESTRICTED: published on Monday] Re: plan"
	if out, err := s.send("alice", alice, []string{dave}, answer(asked)); err == nil || !strings.Contains(out, "you may not lower the label") {
		t.Fatalf("anybody lowers a label: %v\n%s", err, out)
	}
	s.must("dn: uid=alice,ou=people,dc=gov,dc=example\nchangetype: modify\nadd: cmmpdRole\ncmmpdRole: declassifier\n", program, "directory", "import", "--config", s.path("cmmpd.toml"),
		"--user", "admin", "--password-file", s.path("people", "admin", "password"))
	if out, err := s.send("alice", alice, []string{dave}, answer(asked)); err != nil {
		t.Fatalf("who may lower a label is refused: %v\n%s", err, out)
	}
	got := s.last("dave", "INBOX")
	if !strings.Contains(got, "needle two") || !strings.Contains(got, "Subject: Re: plan\r\n") || !strings.Contains(got, "SIO-Label: marking=\"RESTRICTED\"") || strings.Contains(got, "LOWER") || strings.Contains(got, "published") {
		t.Errorf("dave is served\n%s", got)
	}
	records := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	var acts []string
	for line := range strings.Lines(records) {
		if strings.Contains(line, `"type":"label.lower"`) {
			acts = append(acts, line)
		}
	}
	if len(acts) != 2 || !strings.Contains(acts[0], `"reason":"published on Monday"`) || !strings.Contains(acts[0], `"floor":"confidential"`) || !strings.Contains(acts[0], `"actor":"alice"`) || !strings.Contains(acts[1], `"outcome":"ok"`) {
		t.Errorf("on record are %s", acts)
	}
	if strings.Contains(s.log.String(), "needle") || strings.Contains(records, "needle") {
		t.Error("content stands in a log")
	}
}

// TestPolicyExplain asks what would become of messages, beside the daemon and without it, and does it.
func TestPolicyExplain(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	s := newSite(t)
	config, dir := s.path("cmmpd.toml"), t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	type answer struct {
		Label, Source, Action, Reply string
		Readers                      []struct{ Address, Role, Problem string }
	}
	ask := func(code int, args ...string) (a answer) {
		t.Helper()
		got, out := s.code(append([]string{"policy", "explain", "--config", config, "--json"}, args...)...)
		if got != code {
			t.Errorf("%v: exit %d, want %d\n%s", args, got, code, out)
		}
		if i := strings.LastIndexByte(out, '}'); i >= 0 {
			out = out[strings.IndexByte(out, '{') : i+1]
		}
		if err := json.Unmarshal([]byte(out), &a); err != nil {
			t.Errorf("%v: %v in %s", args, err, out)
		}
		if strings.Contains(out, "needle") {
			t.Errorf("content is told: %s", out)
		}
		return a
	}
	sealed := file("sealed.eml", mailOf(alice, bob, "[CONFIDENTIAL] needle", "needle"))
	refused := mailOf(alice, bob+", "+dave, "[CONFIDENTIAL] needle", "needle")
	for _, beside := range []bool{true, false} {
		if !beside {
			s.stop(syscall.SIGTERM)
		}
		before := s.counts()
		if a := ask(0, sealed); a.Action != "seal" || a.Label != "confidential" || a.Source != "subject" || len(a.Readers) != 2 {
			t.Errorf("%+v", a)
		}
		a := ask(3, file("refused.eml", refused))
		if a.Action != "refuse" || !strings.HasPrefix(a.Reply, "550 5.7.1 CONFIDENTIAL mail must be readable by all") || a.Readers[1].Problem == "" {
			t.Errorf("%+v", a)
		}
		if beside {
			out, err := s.send("alice", alice, []string{bob, dave}, refused)
			if words, _ := strings.CutPrefix(a.Reply, "550 5.7.1 "); err == nil || !strings.Contains(strings.ReplaceAll(out, "\r\n< 550-5.7.1 ", " "), words) {
				t.Errorf("the client hears other words than %q:\n%s", a.Reply, out)
			}
		}
		if a := ask(0, "--path", "inbound", "--from", "x@example.org", "--to", carol, sealed); a.Action != "seal" || a.Readers[0].Address != carol {
			t.Errorf("%+v", a)
		}
		if a := ask(3, "--path", "append", "--user", "dave", sealed); !strings.HasPrefix(a.Reply, "NO [") {
			t.Errorf("%+v", a)
		}
		if a := ask(0, "--path", "drafts", "--user", "alice", sealed); a.Action != "pass" {
			t.Errorf("%+v", a)
		}
		if code, out := s.code("policy", "explain", "--config", config, "--lang", "zh-Hant", sealed); code != 0 || !strings.Contains(out, "決定: 接收並加密") || !strings.Contains(out, "\n密級: 機密 (confidential)\n  主旨: 機密 (confidential)\n") {
			t.Errorf("in Chinese: %d %s", code, out)
		}
		if code, out := s.code("policy", "explain", "--config", config, sealed); code != 0 || !strings.Contains(out, "decision: taken and sealed") || !strings.Contains(out, "certificate: CN=Bob") {
			t.Errorf("in English: %d %s", code, out)
		}
		for _, args := range [][]string{{"--path", "post", sealed}, {"--lang", "de", sealed}, {"--to", "nobody", sealed}, {}} {
			if code, out := s.code(append([]string{"policy", "explain", "--config", config}, args...)...); code != 2 {
				t.Errorf("%v: %d %s", args, code, out)
			}
		}
		if code, out := s.code("policy", "explain", "--config", config, "--user", "nobody", sealed); code != 1 || !strings.Contains(out, "nobody who can log in") {
			t.Errorf("%d %s", code, out)
		}
		if after := s.counts(); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("counts were %+v and are %+v", before, after)
		}
	}
	if strings.Contains(s.log.String(), "needle") {
		t.Error("content stands in the log")
	}
}
