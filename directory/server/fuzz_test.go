package server

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// fuzzServer is a small directory without passwords that cost time.
func fuzzServer(f *testing.F) *Server {
	s, err := Open(Options{Path: filepath.Join(f.TempDir(), "d.db"), BaseDN: testBase, Rounds: minRounds})
	if err != nil {
		f.Fatal(err)
	}
	text := strings.ReplaceAll(testLDIF, "userCertificate;binary:: CERT\n", "")
	if _, err := s.Import(context.Background(), strings.NewReader(text), "fuzz"); err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { s.Close() })
	return s
}

// FuzzLDAPMessage sends octets to a connection with the service's identity: decoding,
// dispatch and every operation.
func FuzzLDAPMessage(f *testing.F) {
	s := fuzzServer(f)
	f.Add(request(1, opSearchRequest, searchBody(testBase, scopeSub, anyClass)))
	f.Add(request(2, opBindRequest, bindRequestBody("alice", "x")))
	f.Add(request(3, opExtended, func(e *encoder) { e.text(0x80, oidWhoAmI) }))
	f.Add(request(4, opAbandon, nil))
	f.Add(request(5, opDeleteRequest, nil))
	f.Add(request(6, opCompareRequest, func(e *encoder) {
		e.text(tagOctets, bobDN)
		m := e.open(tagSequence)
		e.text(tagOctets, "userPassword")
		e.text(tagOctets, "x")
		e.close(m)
	}))
	paged := encoder{}
	m := paged.open(tagSequence)
	paged.integer(tagInteger, 7)
	o := paged.open(opSearchRequest)
	searchBody(testBase, scopeOne, anyClass)(&paged)
	paged.close(o)
	k := paged.open(0xa0)
	(&page{mac: cookieMAC(nil, identity{}, nil), more: true}).appendResponse(&paged, &search{})
	paged.close(k)
	paged.close(m)
	f.Add(paged.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { s.ServeConn(context.Background(), ours, ConnOptions{Trusted: true}); close(done) }()
		read := make(chan struct{})
		go func() {
			defer close(read)
			for r := bufio.NewReader(theirs); ; {
				m, err := readMessage(r, 1<<22)
				if err != nil {
					return
				}
				if bytes.Contains(m, []byte("SCRAM-SHA-256$")) {
					panic("a password verifier was sent")
				}
				if _, err := parseMessage(m); err != nil {
					panic(err)
				}
			}
		}()
		theirs.SetWriteDeadline(time.Now().Add(5 * time.Second))
		theirs.Write(b)
		theirs.Write(request(99, opUnbind, nil))
		theirs.Close()
		<-done
		<-read
	})
}

// FuzzFilter compiles filters with go-ldap's grammar and evaluates ours, with and without
// the indexes: both must find the same.
func FuzzFilter(f *testing.F) {
	s := fuzzServer(f)
	for _, seed := range []string{
		"(uid=alice)", "(cn=*陳*)", "(&(objectClass=person)(!(uid=b*)))", "(|(mail=*w*o*)(cn=b))", "(uid>=a)", "(ou:dn:=people)", "(:caseIgnoreMatch:=x)",
		"(telephoneNumber=*2345 6*)", "(member=uid=bob,ou=people,dc=gov,dc=example)", "(userPassword=*)", "(cn~=Alice)", "(!(nonsense=x))",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ldap.CompileFilter(text)
		if err != nil {
			return
		}
		e, _, err := next(p.Bytes())
		if err != nil {
			return
		}
		left := maxElements
		if checkNesting(p.Bytes(), 1, &left) != nil {
			return
		}
		fl, err := s.st.schema.parseFilter(e, 0)
		if err != nil {
			return
		}
		comparePlan(t, s, fl, text)
	})
}

// FuzzEntryRecord decodes records as they lie in the database.
func FuzzEntryRecord(f *testing.F) {
	sch, err := loadSchema()
	if err != nil {
		f.Fatal(err)
	}
	d, _ := sch.describe("cn;lang-en")
	e := &entry{dn: "cn=x", key: "cn=x\x00", attrs: []attribute{{d, [][]byte{[]byte("x"), []byte("y")}}}}
	f.Add(e.appendBinary(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := sch.decodeEntry(b)
		if err != nil {
			return
		}
		if again := e.appendBinary(nil); !bytes.Equal(again, b) {
			t.Fatalf("two records for one entry:\n%x\n%x", b, again)
		}
	})
}
