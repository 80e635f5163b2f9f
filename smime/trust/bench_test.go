package trust

import (
	"crypto/x509"
	"fmt"
	"math/big"
	"testing"
	"time"

	"cmmpd/internal/demopki"
)

// What a recipient costs: the path known, or found anew.
func BenchmarkCheck(b *testing.B) {
	now := time.Now
	root, err := demopki.NewCA("Root", now)
	if err != nil {
		b.Fatal(err)
	}
	sub, err := root.NewSub("Sub", nil)
	if err != nil {
		b.Fatal(err)
	}
	id, err := sub.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	if err != nil {
		b.Fatal(err)
	}
	v, err := New(Options{Anchors: []*x509.Certificate{root.Cert}, Intermediates: []*x509.Certificate{sub.Cert}})
	if err != nil {
		b.Fatal(err)
	}
	for i, ca := range []*demopki.CA{root, sub} {
		for range 1000 * i {
			ca.Revoke(&x509.Certificate{SerialNumber: root.Cert.SerialNumber})
		}
		der, err := ca.CRL(time.Hour)
		if err != nil {
			b.Fatal(err)
		}
		r, err := parseList(der, "list")
		if err != nil {
			b.Fatal(err)
		}
		v.lists.files[ca.Cert.Subject.CommonName] = &listFile{lists: []*revocations{r}}
	}
	v.lists.reindex()
	for name, extra := range map[string][]*x509.Certificate{"known": nil, "anew": {sub.Cert}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if name == "anew" {
					v.paths = newPaths()
				}
				if r := v.Check(id.Cert, Encrypt, Binding{Address: alice}, extra...); !r.Usable {
					b.Fatalf("%+v", r)
				}
			}
		})
	}
}

// A large list, of which every certificate's status is read once.
func BenchmarkParseList(b *testing.B) {
	root, err := demopki.NewCA("Root", nil)
	if err != nil {
		b.Fatal(err)
	}
	for i := range 10_000 {
		root.Revoke(&x509.Certificate{SerialNumber: new(big.Int).SetBytes(fmt.Appendf(nil, "serial number %d", i))})
	}
	der, err := root.CRL(time.Hour)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.SetBytes(int64(len(der)))
	for b.Loop() {
		if _, err := parseList(der, "list"); err != nil {
			b.Fatal(err)
		}
	}
}
