package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
)

// Addresses that cannot be asked do not keep one behind them from being asked.
func TestManyAddresses(t *testing.T) {
	o := newOnline(t)
	var ldap []string
	for i := range 6 {
		ldap = append(ldap, fmt.Sprintf("ldap://directory.example/cn=%d", i))
	}
	o.list(o.sub, 1000*time.Hour)
	o.put("/sub.cer", o.sub.Cert.Raw)
	c := o.person(func(c *x509.Certificate) {
		o.withList(c)
		c.IssuingCertificateURL = append(slices.Clone(ldap), o.url+"/sub.cer")
		c.OCSPServer = append(slices.Clone(ldap), o.url+"/ocsp")
	})
	o.options.Intermediates = nil
	v := o.verifier()
	o.expect(v, c, Encrypt, Binding{Address: alice}, None)
	got := v.remote.allowed(append(slices.Clone(ldap), o.url+"/1", o.url+"/2", o.url+"/3", o.url+"/4", o.url+"/5"))
	if len(got) != maxPerCert || got[0] != o.url+"/1" {
		t.Errorf("%q", got)
	}
	if got := v.remote.allowed(append(slices.Repeat(ldap, 20), o.url)); got != nil {
		t.Errorf("so many are looked at: %q", got)
	}
	noList := o.person(func(c *x509.Certificate) {
		c.IssuingCertificateURL = []string{o.url + "/sub.cer"}
		c.OCSPServer = append(slices.Clone(ldap), o.url+"/ocsp")
	})
	o.expect(v, noList, Encrypt, Binding{Address: alice}, Stale)
	if o.requests("/ocsp") != 1 {
		t.Errorf("the responder was asked %d times", o.requests("/ocsp"))
	}
}

// An authority whose certificate was revoked has got another for its key. Who remembers the old path finds the new
// one: it comes with the message, or is published.
func TestPathOfRevokedAuthority(t *testing.T) {
	o := newOnline(t)
	o.list(o.sub, 1000*time.Hour)
	rootList := func() {
		der, err := o.root.CRL(1000 * time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(o.options.CRLs[0], der, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, b := o.person(func(c *x509.Certificate) {
		o.withList(c)
		c.IssuingCertificateURL = []string{o.url + "/sub.cer"}
	}), Binding{Address: alice}
	o.put("/sub.cer", o.sub.Cert.Raw)
	v := o.verifier()
	o.expect(v, c, Sign, b, None)
	again, err := o.root.Issue(demopki.Spec{Signer: o.sub.Key, Adjust: func(c *x509.Certificate) {
		c.RawSubject, c.SubjectKeyId = o.sub.Cert.RawSubject, o.sub.Cert.SubjectKeyId
		c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(time.Second)
	o.root.Revoke(o.sub.Cert)
	rootList()
	o.expect(v, c, Sign, b, Revoked)
	if r := v.Ask(c, Query{Purpose: Sign, Binding: b, Extra: []*x509.Certificate{again.Cert}}); !r.Usable || !r.Path[1].Equal(again.Cert) {
		t.Errorf("with the new certificate in the message: %+v", r.Steps)
	}
	o.expect(v, c, Sign, b, Revoked)
	o.now = o.now.Add(2 * time.Minute)
	o.put("/sub.cer", again.Cert.Raw)
	o.expect(v, c, Sign, b, None)
	// The person's own revocation stands on every path.
	o.sub.Revoke(c)
	o.list(o.sub, 1000*time.Hour)
	o.now = o.now.Add(1001 * time.Hour)
	rootList()
	o.list(o.sub, 1000*time.Hour)
	o.expect(v, c, Sign, b, Revoked)
}

// Strangers who name many addresses use up what is asked of one host for signatures; encrypting goes on.
func TestFairToOthers(t *testing.T) {
	o := newOnline(t)
	o.list(o.sub, 1000*time.Hour)
	o.options.Intermediates = nil
	v := o.verifier()
	for i := range maxStrange + 5 {
		c := o.person(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{fmt.Sprintf("%s/none%d.cer", o.url, i)} })
		o.expect(v, c, Sign, Binding{Address: alice}, Stale)
	}
	if o.requests(fmt.Sprintf("/none%d.cer", maxStrange)) != 0 {
		t.Error("more was asked than may be")
	}
	o.put("/sub.cer", o.sub.Cert.Raw)
	c := o.person(func(c *x509.Certificate) {
		o.withList(c)
		c.IssuingCertificateURL = []string{o.url + "/sub.cer"}
	})
	o.expect(v, c, Encrypt, Binding{Address: alice}, None)
	v = o.verifier()
	for range maxStrange {
		v.remote.admit(o.now, "http://a.example/x", Sign)
	}
	if v.remote.admit(o.now, "http://a.example/y", Sign) {
		t.Error("no end")
	}
	if !v.remote.admit(o.now, "http://b.example/y", Sign) || !v.remote.admit(o.now, "http://a.example/y", Encrypt) || !v.remote.admit(o.now.Add(2*time.Minute), "http://a.example/y", Sign) {
		t.Error("others wait")
	}
}

// What lies in a folder of lists and is not read is told.
func TestLinksInFolders(t *testing.T) {
	w := newWorld(t)
	var words bytes.Buffer
	w.options.Log = slog.New(slog.NewTextHandler(&words, nil))
	v := w.verifier()
	if n := v.Health().Unread; n != 0 || words.Len() > 0 {
		t.Fatalf("%d, %s", n, words.String())
	}
	link := filepath.Join(w.dir, "link.crl")
	if err := os.Symlink(filepath.Join(w.dir, "sub.crl"), link); err != nil {
		t.Fatal(err)
	}
	w.write("rubbish.crl", []byte("x"))
	for range 3 {
		if n := v.Health().Unread; n != 2 {
			t.Errorf("%d unread", n)
		}
	}
	if strings.Count(words.String(), "link.crl") != 1 || strings.Count(words.String(), "rubbish.crl") != 1 {
		t.Errorf("said: %s", words.String())
	}
	for _, name := range []string{"link.crl", "rubbish.crl"} {
		if err := os.Remove(filepath.Join(w.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.Health().Unread; n != 0 {
		t.Errorf("%d unread after they were removed", n)
	}
}

// Whether something is not known about revocation is said.
func TestUnknownIsSaid(t *testing.T) {
	w := newWorld(t)
	c := w.issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	v := w.verifier()
	if r := v.Ask(c, Query{Binding: Binding{Address: alice}, Soft: true}); !r.Usable || r.Unknown {
		t.Errorf("%+v", r)
	}
	w.now = w.now.Add(48 * time.Hour)
	if r := v.Ask(c, Query{Binding: Binding{Address: alice}, Soft: true}); !r.Usable || !r.Unknown {
		t.Errorf("%+v", r)
	}
}
