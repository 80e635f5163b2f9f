package trust

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
)

func marshal(t *testing.T, v any, params string) []byte {
	t.Helper()
	der, err := asn1.MarshalWithParams(v, params)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func oid(t *testing.T, s string) x509.OID {
	t.Helper()
	o, err := x509.ParseOID(s)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// An anchor may be accepted for some policies only.
func TestPoliciesOfAnAnchor(t *testing.T) {
	const personal, role, other = "1.2.3.4.1.17", "1.2.3.4.2", "1.2.3.4.9"
	w := newWorld(t)
	sub, err := w.root.NewSub("Policies", func(c *x509.Certificate) {
		c.Policies = []x509.OID{oid(t, personal), oid(t, role), oid(t, other)}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.publish(sub, "policies.crl", time.Hour)
	w.options.Intermediates = append(w.options.Intermediates, sub.Cert)
	w.options.Policies = map[string][]string{string(w.root.Cert.Raw): {"1.2.3.4.1.*", role}}
	v := w.verifier()
	for policy, want := range map[string]Failure{personal: None, role: None, other: Untrusted, "": Untrusted} {
		id, err := sub.Issue(demopki.Spec{CN: "Alice", Address: alice.String(), Adjust: func(c *x509.Certificate) {
			if policy != "" {
				c.Policies = []x509.OID{oid(t, policy)}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.expect(v, id.Cert, Encrypt, Binding{Address: alice}, want)
		if r := v.Check(id.Cert, Encrypt, Binding{Address: alice}); want == None && (len(r.Policies) != 1 || r.Policies[0] != policy) {
			t.Errorf("policies of the result: %v", r.Policies)
		}
	}
}

func TestCheckPolicy(t *testing.T) {
	list := []string{"1.2.3.*", "1.4"}
	for policy, want := range map[string]bool{"1.2.3.4": true, "1.2.3.4.5": true, "1.2.3": false, "1.2.30": false, "1.4": true, "1.4.1": false} {
		if PolicyAmong(list, policy) != want {
			t.Error(policy)
		}
	}
	for s, good := range map[string]bool{"1.2.3": true, "1.2.3.*": true, "*": false, "1.2.*.3": false, "": false, "x": false, "1.2.3*": false} {
		if (CheckPolicy(s) == nil) != good {
			t.Error(s)
		}
	}
	w := newWorld(t)
	w.options.Policies = map[string][]string{string(w.root.Cert.Raw): {"personal"}}
	if _, err := New(w.options); err == nil {
		t.Error("a policy that is no identifier")
	}
}

// Certificates of a message that sign each other crosswise must not keep us busy.
func TestPathBuildingIsBounded(t *testing.T) {
	w := newWorld(t)
	clock := func() time.Time { return w.now }
	var cas []*demopki.CA
	for range 12 {
		ca, err := demopki.NewCA("Loop", clock)
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, ca)
	}
	var extra []*x509.Certificate
	for i, a := range cas { // a third of all pairs
		for j, b := range cas {
			if i == j || (i+j)%3 != 0 {
				continue
			}
			id, err := a.Issue(demopki.Spec{CN: "Loop", Signer: b.Key, Adjust: func(c *x509.Certificate) {
				c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			}})
			if err != nil {
				t.Fatal(err)
			}
			extra = append(extra, id.Cert)
		}
	}
	id, err := cas[0].Issue(demopki.Spec{CN: "Mallory", Address: alice.String()})
	if err != nil {
		t.Fatal(err)
	}
	v := w.verifier()
	k := &check{v: v, c: id.Cert, q: Query{Extra: extra}, now: w.now}
	if k.path() || k.b.signatures > maxSignatures+1 || k.b.steps > maxSteps+1 {
		t.Errorf("a path, or %d signatures and %d steps", k.b.signatures, k.b.steps)
	}
	if r := v.Check(id.Cert, Sign, Binding{Address: alice}, extra...); r.Failure != Untrusted {
		t.Errorf("%+v", r)
	}
}

// ladder is a certificate and the authorities above it, each three times, under no anchor. Their names are long.
func ladder(t testing.TB, levels, long int, now func() time.Time) (leaf *x509.Certificate, extra []*x509.Certificate) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	above, err := demopki.NewCA(strings.Repeat("x", long), now)
	must(err)
	for i := range levels {
		key, err := demopki.NewKey(demopki.P256)
		must(err)
		var next *demopki.Identity
		for range 3 {
			next, err = above.Issue(demopki.Spec{CN: fmt.Sprint(i) + strings.Repeat("x", long), Signer: key, Adjust: func(c *x509.Certificate) {
				c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign, nil
			}})
			must(err)
			extra = append(extra, next.Cert)
		}
		above = &demopki.CA{Identity: *next, Now: now}
	}
	id, err := above.Issue(demopki.Spec{CN: "Mallory", Address: alice.String()})
	must(err)
	return id.Cert, extra
}

// Nor must long names of theirs, which are met at every step.
func TestLongNamesAreReadOnce(t *testing.T) {
	w := newWorld(t)
	clock := func() time.Time { return w.now }
	leaf, extra := ladder(t, 9, 2000, clock)
	k := &check{v: w.verifier(), c: leaf, q: Query{Extra: extra}, now: w.now}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	found := k.path()
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; found || k.b.steps <= maxSteps || n > 16<<20 {
		t.Errorf("found %v, %d steps, %d bytes", found, k.b.steps, n)
	}
	leaf, extra = ladder(t, 3, maxCertSize, clock)
	k = &check{v: w.verifier(), c: leaf, q: Query{Extra: extra}, now: w.now}
	if k.path() || k.b.signatures > 0 {
		t.Errorf("%d signatures of certificates that are too long", k.b.signatures)
	}
}

func TestMailConstraints(t *testing.T) {
	for _, c := range []struct {
		s, base string
		want    bool
	}{
		{"bob@x.example", "Bob@X.example", true},
		{"bob@x.example", "bo@x.example", false},
		{"bob@a.x.example", "x.example", false},
		{"bob@x.example", "X.Example", true},
		{"bob@a.x.example", ".x.example", true},
		{"bob@x.example", ".x.example", false},
		{"bob@evilx.example", ".x.example", false},
		{"bob@x.example@y.example", "x.example", false},
		{"bob@x.example", "", true},
	} {
		if got, err := emailWithin(c.s, c.base); got != c.want || err != nil {
			t.Errorf("%s within %q: %v %v", c.s, c.base, got, err)
		}
	}
	if _, err := emailWithin("bob", "x.example"); err == nil {
		t.Error("an address without a domain")
	}
}

// Names times name constraints is work that strangers choose.
func TestNameConstraintsAreBounded(t *testing.T) {
	w := newWorld(t)
	var domains, addresses []string
	for i := range 900 {
		domains = append(domains, fmt.Sprintf("d%d.example", i))
		addresses = append(addresses, fmt.Sprintf("a%d@works.gov.example", i))
	}
	sub, err := w.root.NewSub("Long", func(c *x509.Certificate) { c.ExcludedEmailAddresses = domains })
	if err != nil {
		t.Fatal(err)
	}
	w.publish(sub, "long.crl", time.Hour)
	w.options.Intermediates = append(w.options.Intermediates, sub.Cert)
	v := w.verifier()
	for n, want := range map[int]Failure{50: None, len(addresses): Untrusted} {
		id, err := sub.Issue(demopki.Spec{CN: "x", Adjust: func(c *x509.Certificate) { c.EmailAddresses = addresses[:n] }})
		if err != nil {
			t.Fatal(err)
		}
		w.expect(v, id.Cert, Encrypt, Binding{Address: mail.MustParseAddress("a1@works.gov.example")}, want)
	}
}

// An authority's certificate is replaced, and the old one revoked: the path over the new
// one is taken.
func TestAnotherPathIsTaken(t *testing.T) {
	for _, newFirst := range []bool{false, true} {
		w := newWorld(t)
		again, err := w.root.Issue(demopki.Spec{Signer: w.sub.Key, Adjust: func(c *x509.Certificate) {
			c.RawSubject, c.SubjectKeyId = w.sub.Cert.RawSubject, w.sub.Cert.SubjectKeyId
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		w.options.Intermediates = []*x509.Certificate{w.sub.Cert, again.Cert}
		if newFirst {
			slices.Reverse(w.options.Intermediates)
		}
		v, c, b := w.verifier(), w.issue(demopki.Spec{CN: "Alice", Address: alice.String()}), Binding{Address: alice}
		w.expect(v, c, Encrypt, b, None)
		w.root.Revoke(w.sub.Cert)
		w.publish(w.root, "root.crl", time.Hour)
		for range 2 { // the second time from what is remembered
			if r := v.Check(c, Encrypt, b); !r.Usable || !r.Path[1].Equal(again.Cert) {
				t.Errorf("%+v", r.Steps)
			}
		}
		w.root.Revoke(again.Cert)
		w.publish(w.root, "root.crl", 2*time.Hour)
		w.expect(v, c, Encrypt, b, Revoked)
	}
}

func TestNamesCompare(t *testing.T) {
	seq := func(values ...asn1.RawValue) []byte {
		var rdns []asn1.RawValue
		for _, v := range values {
			attr := marshal(t, struct {
				Type  asn1.ObjectIdentifier
				Value asn1.RawValue
			}{asn1.ObjectIdentifier{2, 5, 4, 3}, v}, "")
			rdns = append(rdns, asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attr})
		}
		return marshal(t, rdns, "")
	}
	str := func(tag int, s string) asn1.RawValue { return asn1.RawValue{Tag: tag, Bytes: []byte(s)} }
	for _, c := range []struct {
		a, b asn1.RawValue
		same bool
	}{
		{str(asn1.TagPrintableString, "Works Bureau"), str(asn1.TagUTF8String, "  works   BUREAU "), true},
		{str(asn1.TagUTF8String, "Straße"), str(asn1.TagUTF8String, "STRASSE"), true},
		{str(asn1.TagUTF8String, "發展局"), str(30, "\x76\x7c\x5c\x55\x5c\x40"), true},
		{str(asn1.TagUTF8String, "ａｂｃ"), str(asn1.TagIA5String, "ABC"), true},
		{str(asn1.TagUTF8String, "soft\u00adware"), str(asn1.TagUTF8String, "software"), true},
		{str(asn1.TagUTF8String, "Works Bureau"), str(asn1.TagUTF8String, "WorksBureau"), false},
		{str(asn1.TagUTF8String, "Works"), str(asn1.TagOctetString, "Works"), false},
		{str(asn1.TagUTF8String, "\xff"), str(asn1.TagUTF8String, "\xfe"), false},
		{str(30, "a"), str(30, "b"), false},
	} {
		if got := sameName(seq(c.a), seq(c.b)); got != c.same {
			t.Errorf("%q and %q: %v", c.a.Bytes, c.b.Bytes, got)
		}
	}
	a, b := str(asn1.TagUTF8String, "a"), str(asn1.TagUTF8String, "b")
	if sameName(seq(a, b), seq(b, a)) || !parseName(seq(a, b)).within(parseName(seq(a))) || parseName(seq(b, a)).within(parseName(seq(a))) {
		t.Error("the order of relative names")
	}
	if sameName([]byte("x"), []byte("y")) || !sameName([]byte("x"), []byte("x")) {
		t.Error("names that cannot be read")
	}
}

func utf8SAN(t *testing.T, box string) func(*x509.Certificate) {
	other := marshal(t, struct {
		Type  asn1.ObjectIdentifier
		Value string `asn1:"tag:0,explicit,utf8"`
	}{asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 8, 9}, box}, "tag:0")
	san := marshal(t, []asn1.RawValue{{FullBytes: other}}, "")
	return func(c *x509.Certificate) {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: oidSAN, Critical: true, Value: san})
	}
}

// RFC 9598: an address with a local part that is not ASCII, its domain in A-labels.
func TestSmtpUTF8Mailbox(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	for box, c := range map[string]struct {
		who  string
		want Failure
	}{
		"陳大文@works.gov.example":           {"陳大文@works.gov.example", None},
		"陳大文@xn--fiqs8s.example":          {"陳大文@中国.example", None},
		"李小明@works.gov.example":           {"陳大文@works.gov.example", WrongAddress},
		"alice@works.gov.example":         {"alice@works.gov.example", WrongAddress}, // must be an rfc822Name
		"陳大文@中国.example":                  {"陳大文@中国.example", WrongAddress},          // must be A-labels
		"陳大文":                             {"alice@works.gov.example", WrongAddress},
		"陳大文@xn--fiqs8s.example\x00.evil": {"陳大文@中国.example", WrongAddress},
	} {
		id := w.issue(demopki.Spec{CN: "Chan", Adjust: utf8SAN(t, box)})
		w.expect(v, id, Encrypt, Binding{Address: mail.MustParseAddress(c.who), Directory: true}, c.want)
	}
	// Limits to mail domains hold for it.
	sub, err := w.root.NewSub("Health only", func(c *x509.Certificate) { c.PermittedEmailAddresses = []string{"health.gov.example"} })
	if err != nil {
		t.Fatal(err)
	}
	w.publish(sub, "health.crl", time.Hour)
	w.options.Intermediates = append(w.options.Intermediates, sub.Cert)
	v = w.verifier()
	for box, want := range map[string]Failure{"陳@health.gov.example": None, "陳@works.gov.example": Untrusted} {
		id, err := sub.Issue(demopki.Spec{CN: "Chan", Adjust: utf8SAN(t, box)})
		if err != nil {
			t.Fatal(err)
		}
		w.expect(v, id.Cert, Encrypt, Binding{Address: mail.MustParseAddress(box)}, want)
	}
}

// An authority limited to a part of the directory may name nobody else.
func TestDirectoryNameConstraints(t *testing.T) {
	w := newWorld(t)
	base := marshal(t, pkix.Name{Organization: []string{"Demonstration  GOVERNMENT"}}.ToRDNSequence(), "")
	tree := func(form int, name []byte) []byte {
		return marshal(t, struct {
			Permitted []asn1.RawValue `asn1:"tag:0"`
		}{[]asn1.RawValue{{Tag: asn1.TagSequence, IsCompound: true, Bytes: marshal(t, asn1.RawValue{
			Class: asn1.ClassContextSpecific, Tag: form, IsCompound: form != formEmail, Bytes: name,
		}, "")}}}, "")
	}
	for name, c := range map[string]struct {
		constraint []byte
		want       Failure
	}{
		"within":           {tree(formDirectory, base), None},
		"outside":          {tree(formDirectory, marshal(t, pkix.Name{Organization: []string{"Else"}}.ToRDNSequence(), "")), Untrusted},
		"a form not known": {tree(3, []byte{0x30, 0}), None}, // no such name is there
		"rubbish":          {[]byte{0x30, 2, 0xa0, 0x80}, Untrusted},
	} {
		t.Run(name, func(t *testing.T) {
			w.t = t
			sub, err := w.root.NewSub("Constrained", func(x *x509.Certificate) {
				x.ExtraExtensions = []pkix.Extension{{Id: oidNameConstraints, Critical: true, Value: c.constraint}}
			})
			if err != nil { // crypto/x509 does not read it
				if c.want == None {
					t.Error(err)
				}
				return
			}
			w.publish(sub, "constrained.crl", time.Hour)
			id, err := sub.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
			if err != nil {
				t.Fatal(err)
			}
			o := w.options
			o.Intermediates = append(o.Intermediates[:1:1], sub.Cert)
			v, err := New(o)
			if err != nil {
				t.Fatal(err)
			}
			w.expect(v, id.Cert, Encrypt, Binding{Address: alice}, c.want)
		})
	}
}

// Past its nextUpdate a list counts as long as it is configured to, where there is no
// newer; and where the label is soft, nothing known passes. A revocation never does.
func TestLastKnownGoodAndSoft(t *testing.T) {
	w := newWorld(t)
	w.options.LastKnownGood, w.options.MaxCRLAge = 12*time.Hour, 72*time.Hour
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	b := Binding{Address: alice}
	v := w.verifier()
	w.now = w.now.Add(30 * time.Hour)
	r := v.Check(c, Encrypt, b)
	if !r.Usable || len(r.Evidence) != 2 || !r.Evidence[0].LastKnown || !strings.Contains(r.Steps[4].Detail, "last that is known") {
		t.Errorf("%+v", r)
	}
	w.now = w.now.Add(10 * time.Hour)
	w.expect(v, c, Encrypt, b, Stale)
	if r := v.Ask(c, Query{Purpose: Encrypt, Binding: b, Soft: true}); !r.Usable || !strings.Contains(r.Steps[4].Detail, "not known") {
		t.Errorf("soft: %+v", r)
	}
	w.options.LastKnownGood = 1000 * time.Hour
	v = w.verifier()
	w.expect(v, c, Encrypt, b, None)
	w.now = w.now.Add(40 * time.Hour) // beyond MaxCRLAge
	w.expect(v, c, Encrypt, b, Stale)
	w.sub.Revoke(c)
	w.publish(w.sub, "sub.crl", time.Hour)
	w.publish(w.root, "root.crl", time.Hour)
	if r := w.verifier().Ask(c, Query{Purpose: Encrypt, Binding: b, Soft: true}); r.Failure != Revoked {
		t.Errorf("soft and revoked: %+v", r)
	}
}

// What crypto/x509 cannot read is read, with every byte as it was.
func TestParseCertificate(t *testing.T) {
	w := newWorld(t)
	relative := marshal(t, []struct{ Point asn1.RawValue }{{asn1.RawValue{
		Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: marshal(t, asn1.RawValue{
			Class: asn1.ClassContextSpecific, Tag: 1, IsCompound: true, Bytes: marshal(t, pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "p1"}, ""),
		}, ""),
	}}}, "")
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(7), NotBefore: w.now, NotAfter: w.now.Add(time.Hour), Subject: pkix.Name{CommonName: "x"},
		ExtraExtensions: []pkix.Extension{{Id: oidCRLDP, Critical: true, Value: relative}},
	}
	der, err := x509.CreateCertificate(nil, tmpl, w.root.Cert, w.root.Key.Public(), w.root.Key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.root.Cert.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil {
		t.Error(err)
	}
	points, err := distributionPoints(c)
	if err != nil || len(points) != 1 || len(points[0].names(parseName(c.RawIssuer))) != 1 {
		t.Errorf("%+v %v", points, err)
	}
	if _, err := ParseCertificate(der[:len(der)-1]); err == nil {
		t.Error("a truncated certificate was read")
	}
}

func FuzzParseCertificate(f *testing.F) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.Cert.Raw)
	for _, name := range []string{"ValidcRLIssuerTest29EE.crt", "nameConstraintsDN1CACert.crt", "P12Mapping1to3CACert.crt"} {
		der, err := os.ReadFile(filepath.Join(pkitsDir(f), "certs", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	v, err := New(Options{Anchors: []*x509.Certificate{ca.Cert}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := ParseCertificate(der)
		if err != nil {
			return
		}
		if string(c.Raw) != string(der) {
			t.Fatal("bytes changed")
		}
		v.Check(c, Sign, Binding{Address: alice}, c)
		Addresses(c)
		_, _ = distributionPoints(c)
		k := constraints{budget: maxComparisons}
		if k.add(c) == nil {
			_ = k.check(c)
		}
		p := newPolicies(policyInput{}, 2)
		for range 2 {
			if err = p.next(c, false); err != nil {
				return
			}
		}
		_, _ = p.wrapUp()
	})
}

// Of a list and a response nothing that was changed counts, wherever the bit is.
func TestEveryBitCounts(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	list, err := w.sub.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	response, err := ocsp.CreateResponse(w.sub.Cert, w.sub.Cert, ocsp.Response{
		SerialNumber: c.SerialNumber, Status: ocsp.Good, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour),
	}, w.sub.Key)
	if err != nil {
		t.Fatal(err)
	}
	goodList, err := parseList(list, "test")
	if err != nil || !goodList.signedBy(w.sub.Cert) {
		t.Fatal(err)
	}
	goodResponse, err := parseResponse(response)
	if err != nil {
		t.Fatal(err)
	}
	k := &check{v: w.verifier(), c: c, now: w.now}
	path := []*x509.Certificate{c, w.sub.Cert, w.root.Cert}
	if s := k.byResponse(goodResponse, "test", path, 0, 0); s.state != good {
		t.Fatalf("%+v", s)
	}
	for i := range 8 * len(list) {
		b := bytes.Clone(list)
		b[i/8] ^= 1 << (i % 8)
		if r, err := parseList(b, "test"); err == nil && r.signedBy(w.sub.Cert) && !bytes.Equal(r.tbs, goodList.tbs) {
			t.Fatalf("bit %d of the list", i)
		}
	}
	for i := range 8 * len(response) {
		b := bytes.Clone(response)
		b[i/8] ^= 1 << (i % 8)
		r, err := parseResponse(b)
		if err == nil && k.byResponse(r, "test", path, 0, 0).state == good && !bytes.Equal(r.tbs, goodResponse.tbs) {
			t.Fatalf("bit %d of the response", i)
		}
	}
}

// TestListSignerUnknown: a list by another certificate of the authority's name is believed only if that one is known not to be revoked; that nothing is
// known of it is not enough.
func TestListSignerUnknown(t *testing.T) {
	w := newWorld(t)
	between, err := w.root.NewSub("Between", func(c *x509.Certificate) { c.MaxPathLenZero = false })
	if err != nil {
		t.Fatal(err)
	}
	second, err := between.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.options.Intermediates = append(w.options.Intermediates, between.Cert, second.Cert)
	w.publish(second, "sub.crl", 24*time.Hour) // in place of the authority's own
	c := w.issue(demopki.Spec{Address: alice.String()})
	w.expect(w.verifier(), c, Encrypt, Binding{Address: alice}, Stale)
	w.publish(between, "between.crl", 24*time.Hour)
	w.expect(w.verifier(), c, Encrypt, Binding{Address: alice}, None)
	between.Revoke(second.Cert)
	w.publish(between, "between.crl", 24*time.Hour)
	w.expect(w.verifier(), c, Encrypt, Binding{Address: alice}, Stale)
}

// TestKeysRefused: RSA keys that are too large, which cost whoever verifies with them, and exponents with which nobody is safe.
func TestKeysRefused(t *testing.T) {
	key := func(bits, e int) *x509.Certificate {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return &x509.Certificate{PublicKeyAlgorithm: x509.RSA, PublicKey: &rsa.PublicKey{N: n.SetBit(n, 0, 1), E: e}}
	}
	for _, c := range []struct {
		bits, e int
		good    bool
	}{{2048, 65537, true}, {8192, 3, true}, {8193, 65537, false}, {2047, 65537, false}, {2048, 1, false}, {2048, 4, false}, {2048, 0, false}} {
		if err := checkKey(key(c.bits, c.e), minRSABits); (err == nil) != c.good {
			t.Errorf("%d bits, exponent %d: %v", c.bits, c.e, err)
		}
	}
}

// TestOldListOfAnotherKey: what a list that has run out, by another key of the authority, says of a revocation stands; but not a hold, from which there is a
// return, if a newer list knows of none.
func TestOldListOfAnotherKey(t *testing.T) {
	w := newWorld(t)
	second, err := w.root.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.options.Intermediates = append(w.options.Intermediates, second.Cert)
	c := w.issue(demopki.Spec{Address: alice.String()})
	for reason, want := range map[int]Failure{6: None, 1: Revoked} {
		der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
			RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: c.SerialNumber, RevocationTime: w.now.Add(-72 * time.Hour), ReasonCode: reason}},
			Number:                    big.NewInt(1), ThisUpdate: w.now.Add(-72 * time.Hour), NextUpdate: w.now.Add(-48 * time.Hour),
		}, second.Cert, second.Key)
		if err != nil {
			t.Fatal(err)
		}
		w.write("old.crl", der)
		w.expect(w.verifier(), c, Encrypt, Binding{Address: alice}, want)
	}
}
