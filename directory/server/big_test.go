package server

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

// BenchmarkLargeDirectory asks a directory of 100,000 people.
func BenchmarkLargeDirectory(b *testing.B) {
	s := openTest(b, Options{})
	pw, err := HashPassword(zeros{}, "benchpass", minRounds)
	if err != nil {
		b.Fatal(err)
	}
	r, w := io.Pipe()
	go func() {
		fmt.Fprintf(w, "dn: %s\nobjectClass: domain\ndc: gov\n\ndn: ou=bench,%s\nobjectClass: organizationalUnit\nou: bench\n\n", testBase, testBase)
		for i := range 100_000 {
			fmt.Fprintf(w, "dn: uid=bench%d,ou=bench,%s\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\nuid: bench%d\ncn: Bench %d\nsn: User%d\ndisplayName: 測試用戶 %d\nmail: bench%d@bench.test\nuserPassword: %s\n\n", i, testBase, i, i, i, i, i, pw)
		}
		w.Close()
	}()
	b.ResetTimer()
	b.Run("import", func(b *testing.B) {
		if b.N > 1 {
			b.Skip("once")
		}
		if _, err := s.Import(context.Background(), r, "bench"); err != nil {
			b.Fatal(err)
		}
	})
	nc, err := s.Dial(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	c := ldap.NewConn(nc, false)
	c.Start()
	defer c.Close()
	for _, filter := range []string{
		"(mail=bench77777@bench.test)", "(|(mail=bench5@bench.test)(mailAlternateAddress=bench5@bench.test))",
		"(|(cn=*7777*)(mail=*7777*)(displayName=*7777*)(sn=*7777*))", "(displayName=*戶 9999*)",
	} {
		b.Run(filter, func(b *testing.B) {
			for b.Loop() {
				if _, err := c.Search(ldap.NewSearchRequest(testBase, 2, 0, 0, 0, false, filter, nil, nil)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }
