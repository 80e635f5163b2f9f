package trust

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
)

var alice = mail.MustParseAddress("alice@works.gov.example")

// world is an authority with a sub-authority and both their lists on disk, under a
// clock that the test moves.
type world struct {
	t         *testing.T
	now       time.Time
	root, sub *demopki.CA
	dir       string
	options   Options
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), dir: t.TempDir()}
	clock := func() time.Time { return w.now }
	var err error
	if w.root, err = demopki.NewCA("Root", clock); err != nil {
		t.Fatal(err)
	}
	if w.sub, err = w.root.NewSub("Sub", nil); err != nil {
		t.Fatal(err)
	}
	w.publish(w.root, "root.crl", 24*time.Hour)
	w.publish(w.sub, "sub.crl", 24*time.Hour)
	w.options = Options{
		Anchors: []*x509.Certificate{w.root.Cert}, Intermediates: []*x509.Certificate{w.sub.Cert},
		CRLs: []string{w.dir}, RequireCRL: true, Now: clock, Log: slog.New(slog.DiscardHandler),
	}
	return w
}

func (w *world) publish(ca *demopki.CA, name string, holds time.Duration) {
	w.t.Helper()
	der, err := ca.CRL(holds)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(name, der)
}

func (w *world) write(name string, b []byte) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.dir, name), b, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) issue(s demopki.Spec) *x509.Certificate {
	w.t.Helper()
	id, err := w.sub.Issue(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return id.Cert
}

func (w *world) verifier() *Verifier {
	w.t.Helper()
	v, err := New(w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) expect(v *Verifier, c *x509.Certificate, p Purpose, b Binding, want Failure) {
	w.t.Helper()
	r := v.Check(c, p, b)
	if r.Failure != want || r.Usable != (want == None) {
		w.t.Errorf("got %v (usable %v), want %v; steps %+v", r.Failure, r.Usable, want, r.Steps)
	}
	if len(r.Steps) == 0 || r.Steps[len(r.Steps)-1].OK != r.Usable {
		w.t.Errorf("the steps do not tell the outcome: %+v", r.Steps)
	}
	if want == None && len(r.Steps) != 6 {
		w.t.Errorf("%d steps instead of 6: %+v", len(r.Steps), r.Steps)
	}
}

func TestCheck(t *testing.T) {
	w := newWorld(t)
	email := func(oid asn1.ObjectIdentifier, value string) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oid, Value: value}}
		}
	}
	critical := func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}}}
	}
	const addr = "alice@works.gov.example"
	person := Binding{Address: alice, Directory: true}
	stranger := Binding{Address: alice}
	for name, c := range map[string]struct {
		spec demopki.Spec
		p    Purpose
		b    Binding
		want Failure
	}{
		"good RSA":                       {demopki.Spec{Address: addr, Key: demopki.RSA2048}, Encrypt, stranger, None},
		"good P-256":                     {demopki.Spec{Address: addr, Key: demopki.P256}, Encrypt, stranger, None},
		"good P-384":                     {demopki.Spec{Address: addr, Key: demopki.P384}, Sign, stranger, None},
		"good P-521":                     {demopki.Spec{Address: addr, Key: demopki.P521}, Encrypt, stranger, None},
		"no EKU":                         {demopki.Spec{Address: addr, NoEKU: true}, Encrypt, stranger, None},
		"any EKU":                        {demopki.Spec{Address: addr, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}, Encrypt, stranger, None},
		"server EKU":                     {demopki.Spec{Address: addr, EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, Encrypt, stranger, KeyUsage},
		"RSA-1024":                       {demopki.Spec{Address: addr, Key: demopki.RSA1024}, Encrypt, stranger, WeakKey},
		"expired":                        {demopki.Spec{Address: addr, NotBefore: w.now.Add(-2 * time.Hour), NotAfter: w.now.Add(-time.Hour)}, Encrypt, stranger, Expired},
		"not yet":                        {demopki.Spec{Address: addr, NotBefore: w.now.Add(time.Hour)}, Encrypt, stranger, NotYetValid},
		"RSA signing only":               {demopki.Spec{Address: addr, Key: demopki.RSA2048, Usage: x509.KeyUsageDigitalSignature}, Encrypt, stranger, KeyUsage},
		"RSA for agreement":              {demopki.Spec{Address: addr, Key: demopki.RSA2048, Usage: x509.KeyUsageKeyAgreement}, Encrypt, stranger, KeyUsage},
		"EC for encipherment":            {demopki.Spec{Address: addr, Usage: x509.KeyUsageKeyEncipherment}, Encrypt, stranger, KeyUsage},
		"encryption only, signs":         {demopki.Spec{Address: addr, Usage: x509.KeyUsageKeyAgreement}, Sign, stranger, KeyUsage},
		"nonRepudiation, signs":          {demopki.Spec{Address: addr, Usage: x509.KeyUsageContentCommitment}, Sign, stranger, None},
		"other case":                     {demopki.Spec{Address: "Alice@Works.GOV.example"}, Encrypt, stranger, None},
		"other person":                   {demopki.Spec{Address: "bob@works.gov.example"}, Encrypt, stranger, WrongAddress},
		"other person, in the entry":     {demopki.Spec{Address: "bob@works.gov.example"}, Encrypt, person, WrongAddress},
		"alias":                          {demopki.Spec{Address: "a.lee@works.gov.example"}, Encrypt, Binding{Address: alice, Aliases: []mail.Address{mail.MustParseAddress("a.lee@works.gov.example")}}, None},
		"no address":                     {demopki.Spec{CN: "Erin"}, Encrypt, stranger, WrongAddress},
		"no address, in the entry":       {demopki.Spec{CN: "Erin"}, Encrypt, person, None},
		"not an address, in the entry":   {demopki.Spec{CN: "Erin", Address: "erin"}, Encrypt, person, WrongAddress},
		"legacy address":                 {demopki.Spec{Adjust: email(oidEmail, addr)}, Encrypt, stranger, None},
		"legacy address of another":      {demopki.Spec{Adjust: email(oidEmail, "eve@x.example")}, Encrypt, person, WrongAddress},
		"legacy address beside a SAN":    {demopki.Spec{Address: "eve@x.example", Adjust: email(oidEmail, addr)}, Encrypt, stranger, WrongAddress},
		"address in another attribute":   {demopki.Spec{Adjust: email(asn1.ObjectIdentifier{2, 5, 4, 13}, addr)}, Encrypt, stranger, WrongAddress},
		"unknown critical extension":     {demopki.Spec{Address: addr, Adjust: critical}, Encrypt, stranger, Untrusted},
		"the null address, in the entry": {demopki.Spec{Address: "bob@works.gov.example"}, Encrypt, Binding{Directory: true}, WrongAddress},
	} {
		t.Run(name, func(t *testing.T) {
			if c.spec.CN == "" {
				c.spec.CN = "Alice"
			}
			w.t = t
			w.expect(w.verifier(), w.issue(c.spec), c.p, c.b, c.want)
		})
	}
}

func TestUntrustedPaths(t *testing.T) {
	w := newWorld(t)
	v := w.verifier()
	b := Binding{Address: alice, Directory: true}
	clock := func() time.Time { return w.now }

	other, err := demopki.NewCA("Root", clock) // the same name as ours
	if err != nil {
		t.Fatal(err)
	}
	twin, err := other.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(v, twin.Cert, Encrypt, b, Untrusted)
	if r := v.Check(twin.Cert, Encrypt, b, other.Cert); r.Usable || r.Failure != Untrusted {
		t.Errorf("an anchor taken from the message: %+v", r)
	}

	// A person's certificate is no authority, whatever is signed with its key.
	person, err := w.sub.Issue(demopki.Spec{CN: "Mallory", Address: "mallory@works.gov.example"})
	if err != nil {
		t.Fatal(err)
	}
	fake := &demopki.CA{Identity: *person, Now: clock}
	forged, err := fake.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	if err != nil {
		t.Fatal(err)
	}
	if r := v.Check(forged.Cert, Encrypt, b, person.Cert); r.Usable || r.Failure != Untrusted {
		t.Errorf("a path through a person: %+v", r)
	}

	// An intermediate that came with the message may be part of the path.
	sub2, err := w.root.NewSub("Sub 2", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.publish(sub2, "sub2.crl", time.Hour)
	id, err := sub2.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	if err != nil {
		t.Fatal(err)
	}
	w.expect(v, id.Cert, Sign, b, Untrusted)
	if r := v.Check(id.Cert, Sign, b, sub2.Cert); !r.Usable || len(r.Path) != 3 {
		t.Errorf("an intermediate from the message: %+v", r)
	}
}

func TestNameConstraints(t *testing.T) {
	w := newWorld(t)
	health, err := w.root.NewSub("Health only", func(c *x509.Certificate) {
		c.PermittedEmailAddresses = []string{"health.gov.example"}
		c.PermittedDNSDomainsCritical = true
	})
	if err != nil {
		t.Fatal(err)
	}
	w.publish(health, "health.crl", time.Hour)
	w.options.Intermediates = append(w.options.Intermediates, health.Cert)
	v := w.verifier()
	check := func(s demopki.Spec, a string, want Failure) {
		t.Helper()
		id, err := health.Issue(s)
		if err != nil {
			t.Fatal(err)
		}
		w.expect(v, id.Cert, Encrypt, Binding{Address: mail.MustParseAddress(a)}, want)
	}
	check(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example"}, "carol@health.gov.example", None)
	check(demopki.Spec{CN: "Alice", Address: alice.String()}, alice.String(), Untrusted)
	// The limit cannot be evaded by the legacy attribute.
	check(demopki.Spec{CN: "Alice", Adjust: func(c *x509.Certificate) {
		c.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: oidEmail, Value: alice.String()}}
	}}, alice.String(), Untrusted)
}

func TestRevocation(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	b := Binding{Address: alice}
	v := w.verifier()
	w.expect(v, c, Encrypt, b, None)

	// A list that ages is not believed, until a newer one is laid in its place.
	w.now = w.now.Add(25 * time.Hour)
	w.expect(v, c, Encrypt, b, Stale)
	w.publish(w.root, "root.crl", 24*time.Hour)
	w.publish(w.sub, "sub.crl", 24*time.Hour)
	w.expect(v, c, Encrypt, b, None)

	// A damaged file does not take away what is known.
	w.write("sub.crl", []byte("rubbish"))
	w.expect(v, c, Encrypt, b, None)
	if err := os.Remove(filepath.Join(w.dir, "sub.crl")); err != nil {
		t.Fatal(err)
	}
	w.expect(v, c, Encrypt, b, None)

	w.sub.Revoke(c)
	w.publish(w.sub, "more.crl", 24*time.Hour) // of the same second, beside the older one
	w.expect(v, c, Encrypt, b, Revoked)
	w.now = w.now.Add(48 * time.Hour) // an old list still proves a revocation
	w.publish(w.root, "root.crl", 24*time.Hour)
	w.expect(v, c, Encrypt, b, Revoked)

	// The authority itself is revoked.
	w.publish(w.sub, "sub.crl", 24*time.Hour)
	d := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	w.expect(v, d, Encrypt, b, None)
	w.root.Revoke(w.sub.Cert)
	w.publish(w.root, "root.crl", 24*time.Hour)
	w.expect(v, d, Encrypt, b, Revoked)
}

func TestRevocationUnknown(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	b := Binding{Address: alice}

	w.options.CRLs = []string{filepath.Join(w.dir, "root.crl")}
	w.expect(w.verifier(), c, Encrypt, b, Stale)
	w.options.RequireCRL = false
	w.expect(w.verifier(), c, Encrypt, b, None)

	w.options.CRLs = []string{w.dir}
	w.options.MaxCRLAge = time.Hour
	w.now = w.now.Add(2 * time.Hour)
	w.expect(w.verifier(), c, Encrypt, b, Stale)

	w.now = w.now.Add(time.Hour)
	w.publish(w.root, "root.crl", 24*time.Hour)
	w.publish(w.sub, "sub.crl", 24*time.Hour)
	w.expect(w.verifier(), c, Encrypt, b, None)
	w.now = w.now.Add(-time.Hour) // now the lists are from the future
	w.expect(w.verifier(), c, Encrypt, b, Stale)

	w.options.CRLs = []string{filepath.Join(w.dir, "absent.crl")}
	if _, err := New(w.options); err == nil {
		t.Error("a missing list did not stop the start")
	}
	w.write("rubbish.crl", []byte("rubbish"))
	w.options.CRLs = []string{w.dir}
	if _, err := New(w.options); err == nil {
		t.Error("a damaged list did not stop the start")
	}
	if _, err := New(Options{}); err == nil {
		t.Error("no anchor did not stop the start")
	}
}

// An authority's lists may have a new name each time. What has gone from the folder stays in
// use until there is a newer one.
func TestListsUnderNewNames(t *testing.T) {
	w := newWorld(t)
	c, b := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()}), Binding{Address: alice}
	v := w.verifier()
	if err := os.Remove(filepath.Join(w.dir, "sub.crl")); err != nil {
		t.Fatal(err)
	}
	w.expect(v, c, Encrypt, b, None)
	for i := range 3 {
		w.now = w.now.Add(time.Hour)
		name := fmt.Sprintf("sub-%d.crl", i)
		w.publish(w.sub, name, 24*time.Hour)
		w.expect(v, c, Encrypt, b, None)
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
		w.expect(v, c, Encrypt, b, None)
	}
	if n := len(v.lists.files); n != 2 {
		t.Errorf("%d files in memory", n)
	}
	if n := len(v.lists.of(parseName(w.sub.Cert.RawSubject).key())); n != 1 {
		t.Errorf("%d lists", n)
	}
}

// A list in our issuer's name that somebody else signed says nothing, neither good
// nor bad; and a partitioned one is not taken for a full one.
func TestRevocationListsThatDoNotCount(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	b := Binding{Address: alice}
	clock := func() time.Time { return w.now }

	root2, err := demopki.NewCA("Root", clock)
	if err != nil {
		t.Fatal(err)
	}
	forger, err := root2.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	forger.Revoke(c)
	w.now = w.now.Add(time.Hour) // newer than the true one
	w.publish(forger, "forged.crl", 24*time.Hour)
	v := w.verifier()
	w.expect(v, c, Encrypt, b, None)
	w.publish(forger, "sub.crl", 24*time.Hour) // and now instead of the true one
	w.expect(v, c, Encrypt, b, Stale)

	der, err := x509.CreateRevocationList(nil, &x509.RevocationList{
		Number: w.sub.Cert.SerialNumber, ThisUpdate: w.now, NextUpdate: w.now.Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 28}, Critical: true, Value: []byte{0x30, 0x03, 0x82, 0x01, 0xff}}},
	}, w.sub.Cert, w.sub.Key)
	if err != nil {
		t.Fatal(err)
	}
	w.write("sub.crl", der)
	r := v.Check(c, Encrypt, b)
	if r.Failure != Stale || !strings.Contains(r.Steps[len(r.Steps)-1].Detail, "partitioned") {
		t.Errorf("a partitioned list: %+v", r)
	}
	if !r.Failure.Temporary() || Revoked.Temporary() {
		t.Error("only Stale is temporary")
	}
}

func TestStepsAreOneLine(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Ali\r\nce\u2028\x1b[31m", Address: alice.String()})
	w.sub.Revoke(c)
	w.publish(w.sub, "sub.crl", time.Hour)
	for _, s := range w.verifier().Check(c, Sign, Binding{Address: alice}).Steps {
		if strings.ContainsAny(s.Detail, "\r\n\x1b\u2028") {
			t.Errorf("%q", s.Detail)
		}
	}
}

func FuzzParseLists(f *testing.F) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		f.Fatal(err)
	}
	ca.Revoke(ca.Cert)
	der, err := ca.CRL(time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add(demopki.CRLPEM(der))
	f.Add([]byte("0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		sameAsStandard(t, b)
		lists, err := parseLists(b, "test")
		if err == nil && len(lists) == 0 {
			t.Fatal("neither a list nor an error")
		}
		for _, r := range lists {
			r.entry(ca.Cert, parseName(ca.Cert.RawIssuer).key())
			r.speaksFor(ca.Cert, &point{reasons: allReasons})
			r.signedBy(ca.Cert)
		}
	})
}

// A path that was found once is not believed beyond the days of all its certificates.
func TestKnownPathEnds(t *testing.T) {
	w := newWorld(t)
	w.options.RequireCRL, w.options.CRLs = false, nil
	v := w.verifier()
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String(), NotAfter: w.now.Add(9 * 365 * 24 * time.Hour)})
	b := Binding{Address: alice}
	w.expect(v, c, Encrypt, b, None)
	w.expect(v, c, Sign, b, None)
	w.expect(v, c, Sign, Binding{Address: mail.MustParseAddress("bob@works.gov.example")}, WrongAddress)
	w.now = w.now.Add(6 * 365 * 24 * time.Hour) // the authority's certificate has expired
	w.expect(v, c, Encrypt, b, Untrusted)
}

// sameAsStandard holds our reading of a list in DER to crypto/x509's.
func sameAsStandard(t *testing.T, der []byte) {
	t.Helper()
	want, err := x509.ParseRevocationList(der)
	if err != nil || len(want.Raw) != len(der) {
		return
	}
	got, err := parseList(der, "test")
	if err != nil {
		return // we are stricter about times and trailing bytes
	}
	if string(got.tbs) != string(want.RawTBSRevocationList) || !got.made.Equal(want.ThisUpdate) || !got.next.Equal(want.NextUpdate) {
		t.Fatal("read otherwise than crypto/x509 does")
	}
	if len(got.entries) > 1 || got.reject != "" {
		return
	}
	for i := range want.RevokedCertificateEntries {
		e := &want.RevokedCertificateEntries[i]
		if _, ok := got.entries[got.issuer.key()][serialKey(e.SerialNumber)]; !ok {
			t.Fatalf("%v is missing", e.SerialNumber)
		}
	}
}

func TestListsAreReadAsTheStandardLibraryDoes(t *testing.T) {
	for name, der := range newPKITS(t).lists {
		if _, err := parseList(der, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sameAsStandard(t, der)
	}
}

// An authority with a new key may keep a list for each key, of what that has signed. That one list does not
// name a certificate is no answer while another does.
func TestListsByTwoKeys(t *testing.T) {
	w := newWorld(t)
	next, err := w.root.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	w.options.Intermediates = append(w.options.Intermediates, next.Cert)
	b := Binding{Address: alice}
	byOld, byNew := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()}), func() *x509.Certificate {
		id, err := next.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
		if err != nil {
			t.Fatal(err)
		}
		return id.Cert
	}()
	w.publish(next, "next.crl", 24*time.Hour)
	w.expect(w.verifier(), byOld, Encrypt, b, None)
	w.expect(w.verifier(), byNew, Encrypt, b, None)
	w.sub.Revoke(byOld)
	next.Revoke(byNew)
	for _, first := range []*demopki.CA{w.sub, next} {
		w.now = w.now.Add(time.Minute)
		w.publish(first, "first.crl", 24*time.Hour)
		w.now = w.now.Add(time.Minute)
		other := next
		if first == next {
			other = w.sub
		}
		w.publish(other, "other.crl", 24*time.Hour)
		v := w.verifier()
		w.expect(v, byOld, Encrypt, b, Revoked)
		w.expect(v, byNew, Encrypt, b, Revoked)
	}
}

// The folder is looked at once in CRLLook.
func TestCRLLook(t *testing.T) {
	w := newWorld(t)
	w.options.CRLLook = time.Hour
	c, b := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()}), Binding{Address: alice}
	v := w.verifier()
	w.expect(v, c, Encrypt, b, None)
	w.sub.Revoke(c)
	w.publish(w.sub, "sub.crl", 25*time.Hour)
	w.expect(v, c, Encrypt, b, None)
	v.lists.looked = time.Now().Add(-2 * time.Hour)
	w.expect(v, c, Encrypt, b, Revoked)
}
