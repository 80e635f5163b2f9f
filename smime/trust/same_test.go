package trust

import (
	"crypto/x509"
	"math/rand/v2"
	"testing"
	"time"

	"cmmpd/internal/demopki"
)

// On what crypto/x509 can judge too, name constraints, path lengths and extended key
// usages, we agree with it; but for hosts in mail constraints, which it takes for domains.
// RFC 5280, section 4.2.1.10, does not, so there are no hosts below each other here.
func TestAgreesWithTheStandardLibrary(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same cases each time
	root, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	key, err := demopki.NewKey(demopki.P256)
	if err != nil {
		t.Fatal(err)
	}
	domains := []string{"a.example", "c.example", "x@a.example", "d.example"}
	addresses := []string{"x@a.example", "y@a.example", "z@c.example"}
	usages := [][]x509.ExtKeyUsage{nil, nil, {x509.ExtKeyUsageEmailProtection}, {x509.ExtKeyUsageEmailProtection}, {x509.ExtKeyUsageAny}, {x509.ExtKeyUsageServerAuth}}
	some := func(from []string) (out []string) {
		for range max(0, r.IntN(6)-3) {
			out = append(out, from[r.IntN(len(from))])
		}
		return out
	}
	adjust := func(c *x509.Certificate) {
		c.PermittedEmailAddresses, c.ExcludedEmailAddresses = some(domains), some(domains)
		c.PermittedDNSDomains = some([]string{"a.example", "b.example"})
		if c.MaxPathLenZero = true; r.IntN(4) > 0 {
			c.MaxPathLen = 1
		}
		c.ExtKeyUsage = usages[r.IntN(len(usages))]
	}
	agreed := map[bool]int{}
	for i := range 200 {
		upper, err := root.NewSub("Upper", adjust)
		if err != nil {
			t.Fatal(err)
		}
		lower, err := upper.NewSub("Lower", adjust)
		if err != nil {
			t.Fatal(err)
		}
		id, err := lower.Issue(demopki.Spec{CN: "x", Signer: key, NoEKU: true, Adjust: func(c *x509.Certificate) {
			c.EmailAddresses, c.DNSNames = append(some(addresses), addresses[r.IntN(len(addresses))]), some([]string{"a.example", "w.b.example"})
			c.ExtKeyUsage = usages[r.IntN(len(usages))]
		}})
		if err != nil {
			t.Fatal(err)
		}
		roots, pool := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(root.Cert)
		pool.AddCert(upper.Cert)
		pool.AddCert(lower.Cert)
		_, want := id.Cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}})
		v, err := New(Options{Anchors: []*x509.Certificate{root.Cert}, Intermediates: []*x509.Certificate{upper.Cert, lower.Cert}})
		if err != nil {
			t.Fatal(err)
		}
		k := &check{v: v, c: id.Cert, now: time.Now()}
		if got := k.path(); got != (want == nil) {
			t.Errorf("%d: %v, crypto/x509 says %v; %+v", i, got, want, k.r.Steps)
		} else {
			agreed[got]++
		}
	}
	if agreed[true] < 20 || agreed[false] < 20 {
		t.Errorf("the cases are one-sided: %v", agreed)
	}
	t.Logf("%d good, %d bad", agreed[true], agreed[false])
}
