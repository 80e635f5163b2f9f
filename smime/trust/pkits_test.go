package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// pkitsCase is one case of NIST's Public Key Interoperability Test Suite.
type pkitsCase struct {
	Name                        string
	CertPath, CRLPath           []string
	ShouldValidate              bool
	InitialPolicySet            []string
	InitialPolicyMappingInhibit bool
	InitialExplicitPolicy       bool
	InitialAnyPolicyInhibit     bool
}

// departures are the cases that we answer otherwise than the suite, and why.
var departures = map[string]string{
	"4.1.4 Valid DSA Signatures Test4":            "DSA is not accepted",
	"4.1.5 Valid DSA Parameter Inheritance Test5": "DSA is not accepted",
	"4.15.5 Valid delta-CRL Test5":                "a delta list cannot take a certificate off hold",
}

// pkits is the suite's certificates and lists.
type pkits struct {
	t     *testing.T
	dir   string
	lists map[string][]byte
}

// pkitsDir is where the sources of Go keep the suite.
func pkitsDir(t testing.TB) string {
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(strings.TrimSpace(string(root)), "src/crypto/x509/testdata/nist-pkits")
}

func newPKITS(t *testing.T) *pkits {
	p := &pkits{t: t, dir: pkitsDir(t), lists: map[string][]byte{}}
	rest, err := os.ReadFile("testdata/pkits/crls.pem")
	if err != nil {
		t.Fatal(err)
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		p.lists[block.Headers["File"]] = block.Bytes
	}
	return p
}

func (p *pkits) cases() (list []pkitsCase) {
	b, err := os.ReadFile(filepath.Join(p.dir, "vectors.json"))
	if err != nil {
		p.t.Fatalf("the suite comes with the sources of Go's standard library: %v", err)
	}
	if err := json.Unmarshal(b, &list); err != nil {
		p.t.Fatal(err)
	}
	return list
}

// path returns the certificates, anchor first, and why one of them cannot be read.
func (p *pkits) path(c pkitsCase) (certs []*x509.Certificate, err error) {
	for _, f := range c.CertPath {
		der, err := os.ReadFile(filepath.Join(p.dir, "certs", f))
		if err != nil {
			p.t.Fatal(err)
		}
		cert, err := ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

func policyOID(name string) string {
	if name == "anyPolicy" {
		return anyPolicy
	}
	return "2.16.840.1.101.3.2.1.48." + strings.TrimPrefix(name, "NIST-test-policy-")
}

// run answers one case. The suite's end entities have no addresses and are not for
// mail, so the steps usage and binding are left out.
func (p *pkits) run(c pkitsCase) (bool, string) {
	certs, err := p.path(c)
	if err != nil {
		return false, err.Error()
	}
	dir := p.t.TempDir()
	for _, f := range c.CRLPath {
		if p.lists[f] == nil {
			p.t.Fatalf("no list %s", f)
		}
		if err := os.WriteFile(filepath.Join(dir, f), p.lists[f], 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	v, err := New(Options{
		Anchors: certs[:1], CRLs: []string{dir}, RequireCRL: true, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Date(2018, 3, 1, 0, 0, 0, 0, time.UTC) },
	})
	if err != nil {
		p.t.Fatal(err)
	}
	k := &check{v: v, c: certs[len(certs)-1], q: Query{Extra: certs}, now: v.o.Now()}
	k.policy = policyInput{
		explicit: c.InitialExplicitPolicy, inhibitAny: c.InitialAnyPolicyInhibit, inhibitMapping: c.InitialPolicyMappingInhibit,
	}
	for _, name := range c.InitialPolicySet {
		k.policy.accepted = append(k.policy.accepted, policyOID(name))
	}
	good := k.key() && k.dates() && k.path() && k.revocation()
	return good, k.r.Steps[len(k.r.Steps)-1].Detail
}

// Every case of the suite is answered as its authors say, but for departures, which
// are all refusals. The words of each answer are kept in testdata/pkits/outcomes.txt;
// PKITS_WRITE=1 renews it.
func TestPKITS(t *testing.T) {
	p := newPKITS(t)
	var out bytes.Buffer
	word := map[bool]string{true: "valid", false: "invalid"}
	cases := p.cases()
	departed := 0
	for _, c := range cases {
		got, why := p.run(c)
		fmt.Fprintf(&out, "%s | %s | %s | %s\n", c.Name, word[c.ShouldValidate], word[got], why)
		reason, departs := departures[c.Name]
		if departs {
			departed++
		}
		if got != c.ShouldValidate && (!departs || got) || got == c.ShouldValidate && departs {
			t.Errorf("%s: %s, should be %s: %s (departure: %q)", c.Name, word[got], word[c.ShouldValidate], why, reason)
		}
	}
	if len(cases) != 249 || departed != len(departures) {
		t.Errorf("%d cases, %d departures", len(cases), departed)
	}
	const file = "testdata/pkits/outcomes.txt"
	if os.Getenv("PKITS_WRITE") != "" {
		if err := os.WriteFile(file, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept, out.Bytes()) {
		a, b := strings.Split(string(kept), "\n"), strings.Split(out.String(), "\n")
		i := slices.IndexFunc(b, func(s string) bool { return !slices.Contains(a, s) })
		t.Errorf("the answers are not those of %s, from line %d on", file, i+1)
	}
}
