package trust

import (
	"context"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
	"cmmpd/smime/trust/fetch"
)

// memory is a Cache for tests.
type memory struct {
	mu   sync.Mutex
	data map[string][]byte
}

func (m *memory) Load(key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.data[key], nil
}

func (m *memory) Save(key string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.data[key] = data
	return nil
}

// online is a world whose authorities publish over HTTP.
type online struct {
	*world
	url   string
	cache *memory

	mu    sync.Mutex
	files map[string][]byte // by path; guarded by mu, as is all below
	asked map[string]int
	ocsp  func(request []byte) []byte // nil: 500
}

func newOnline(t *testing.T) *online {
	o := &online{world: newWorld(t), cache: &memory{data: map[string][]byte{}}, files: map[string][]byte{}, asked: map[string]int{}}
	s := httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(s.Close)
	o.url = s.URL
	client, err := fetch.New(fetch.Options{
		Hosts: []string{strings.TrimPrefix(s.URL, "http://")}, Internal: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
	})
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(t.TempDir(), "root.crl")
	der, err := o.root.CRL(1000 * time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(root, der, 0o600); err != nil {
		t.Fatal(err)
	}
	o.options.CRLs, o.options.Fetch, o.options.Cache = []string{root}, client, o.cache
	return o
}

func (o *online) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked[r.URL.Path]++
	if r.URL.Path == "/ocsp" && o.ocsp != nil {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(o.ocsp(b))
		return
	}
	if b := o.files[r.URL.Path]; b != nil {
		_, _ = w.Write(b)
		return
	}
	http.Error(w, "no", http.StatusInternalServerError)
}

func (o *online) put(path string, b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.files[path] = b
}

func (o *online) requests(path string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[path]
}

// list publishes a list of ca.
func (o *online) list(ca *demopki.CA, holds time.Duration) {
	o.t.Helper()
	der, err := ca.CRL(holds)
	if err != nil {
		o.t.Fatal(err)
	}
	o.put("/sub.crl", der)
}

// person issues a certificate that names where to ask.
func (o *online) person(where func(*x509.Certificate)) *x509.Certificate {
	return o.issue(demopki.Spec{CN: "Alice", Address: alice.String(), Adjust: where})
}

func (o *online) withList(c *x509.Certificate) {
	c.CRLDistributionPoints = []string{"ldap://directory.example/cn=list", o.url + "/sub.crl"}
}
func (o *online) withResponder(c *x509.Certificate) { c.OCSPServer = []string{o.url + "/ocsp"} }

func TestListsAreFetched(t *testing.T) {
	o := newOnline(t)
	c, b := o.person(o.withList), Binding{Address: alice}
	o.options.LastKnownGood, o.options.MaxCRLAge = 10*time.Hour, 1000*time.Hour
	v := o.verifier()
	o.expect(v, c, Encrypt, b, Stale) // the server has none yet
	if h := v.Health(); h.Failing != 1 || !h.Next.Equal(o.now.Add(1000*time.Hour)) {
		t.Errorf("%+v", h)
	}
	o.list(o.sub, 24*time.Hour)
	o.expect(v, c, Encrypt, b, Stale) // and is not asked again at once
	if n := o.requests("/sub.crl"); n != 1 {
		t.Errorf("%d requests", n)
	}
	o.now = o.now.Add(2 * time.Minute)
	o.expect(v, c, Encrypt, b, None)
	o.expect(v, c, Encrypt, b, None)
	if n := o.requests("/sub.crl"); n != 2 {
		t.Errorf("%d requests", n)
	}
	if r := v.Check(c, Encrypt, b); len(r.Evidence) != 2 || r.Evidence[0].Source != o.url+"/sub.crl" || r.Evidence[0].Kind != "CRL" {
		t.Errorf("%+v", r.Evidence)
	}
	if h := v.Health(); h.Failing != 0 || h.Next.Sub(o.now).Hours() > 24 {
		t.Errorf("%+v", h)
	}
	if len(o.cache.data) != 1 {
		t.Errorf("%d things kept", len(o.cache.data))
	}

	// A list that somebody else signed takes nothing away, and is not kept.
	good := o.cache.data["list "+o.url+"/sub.crl"]
	forger, err := demopki.NewCA("Sub", func() time.Time { return o.now })
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(23 * time.Hour)
	o.list(forger, 1000*time.Hour)
	v.Refresh(context.Background())
	o.expect(v, c, Encrypt, b, None)
	if string(o.cache.data["list "+o.url+"/sub.crl"]) != string(good) {
		t.Error("the forged list was kept")
	}
	o.now = o.now.Add(2 * time.Hour) // past nextUpdate: the last that is known
	if r := v.Check(c, Encrypt, b); !r.Usable || !r.Evidence[0].LastKnown {
		t.Errorf("%+v", r)
	}

	// A revocation is found by the renewal, and a return to an older list does not undo it.
	old, err := o.sub.CRL(48 * time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(time.Hour)
	o.sub.Revoke(c)
	o.list(o.sub, 48*time.Hour)
	v.Refresh(context.Background())
	o.expect(v, c, Encrypt, b, Revoked)
	o.put("/sub.crl", old)
	o.now = o.now.Add(2 * time.Hour)
	v.Refresh(context.Background())
	o.expect(v, c, Encrypt, b, Revoked)

	// After a restart what was kept is used, and checked again.
	o.put("/sub.crl", nil)
	o.expect(o.verifier(), c, Encrypt, b, Revoked)
	for key, data := range o.cache.data {
		data = append([]byte{}, data...)
		data[len(data)/2] ^= 1
		o.cache.data[key] = data
	}
	o.expect(o.verifier(), c, Encrypt, b, Stale)
}

func TestOnlyAllowedHostsAreAsked(t *testing.T) {
	o := newOnline(t)
	o.list(o.sub, time.Hour)
	client, err := fetch.New(fetch.Options{Hosts: []string{"crl.example"}})
	if err != nil {
		t.Fatal(err)
	}
	o.options.Fetch = client
	c := o.person(func(c *x509.Certificate) {
		o.withList(c)
		o.withResponder(c)
		c.IssuingCertificateURL = []string{o.url + "/sub.cer"}
	})
	o.expect(o.verifier(), c, Encrypt, Binding{Address: alice}, Stale)
	o.options.Intermediates = nil
	o.expect(o.verifier(), c, Encrypt, Binding{Address: alice}, Untrusted)
	if len(o.asked) != 0 {
		t.Errorf("asked: %v", o.asked)
	}
}

// slow is a Fetcher whose server never answers.
type slow struct{ asked int }

func (*slow) Allowed(string) error { return nil }

func (s *slow) Get(context.Context, string, int64) ([]byte, error) {
	s.asked++
	return nil, context.DeadlineExceeded
}

func (s *slow) Post(context.Context, string, string, []byte, int64) ([]byte, error) {
	s.asked++
	return nil, os.ErrDeadlineExceeded
}

// A message to many people does not wait for each of their lists.
func TestSilentServer(t *testing.T) {
	o := newOnline(t)
	server := &slow{}
	o.options.Fetch = server
	v := o.verifier()
	for i := range 3 {
		c := o.person(func(c *x509.Certificate) {
			c.CRLDistributionPoints = []string{fmt.Sprintf("%s/%d.crl", o.url, i)}
			o.withResponder(c)
		})
		o.expect(v, c, Encrypt, Binding{Address: alice}, Stale)
	}
	if server.asked != 1 {
		t.Errorf("asked %d times", server.asked)
	}
	o.now = o.now.Add(2 * time.Minute)
	o.expect(v, o.person(o.withResponder), Encrypt, Binding{Address: alice}, Stale)
	if server.asked != 2 {
		t.Errorf("asked %d times", server.asked)
	}
	// One that nobody had the time to ask is not taken for silent.
	ctx, cancel := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer cancel()
	if _, err := v.remote.get(ctx, "http://other.example/", 1); err == nil || server.asked != 2 {
		t.Errorf("asked %d times, %v", server.asked, err)
	}
	if _, err := v.remote.get(context.Background(), "http://other.example/", 1); err == nil || server.asked != 3 {
		t.Errorf("asked %d times, %v", server.asked, err)
	}
}

func TestIssuersAreFetched(t *testing.T) {
	o := newOnline(t)
	o.list(o.sub, 1000*time.Hour)
	where := func(c *x509.Certificate) {
		o.withList(c)
		c.IssuingCertificateURL = []string{o.url + "/sub.cer"}
	}
	c, b := o.person(where), Binding{Address: alice}
	o.options.Intermediates = nil
	o.expect(o.verifier(), c, Encrypt, b, Stale) // cannot be fetched now
	o.put("/sub.cer", []byte("rubbish"))
	o.expect(o.verifier(), c, Encrypt, b, Stale)
	o.put("/sub.cer", o.sub.Cert.Raw)
	v := o.verifier()
	o.expect(v, c, Encrypt, b, None)
	n := o.requests("/sub.cer")
	o.expect(v, c, Sign, b, None)
	o.put("/sub.cer", nil)
	o.expect(o.verifier(), c, Encrypt, b, None) // from what was kept
	if o.requests("/sub.cer") != n {
		t.Error("it was fetched again")
	}

	// As certs-only CMS, and one that is not the issuer.
	o.cache.data = map[string][]byte{}
	p7 := filepath.Join(t.TempDir(), "sub.p7c")
	pem := filepath.Join(t.TempDir(), "sub.pem")
	if err := os.WriteFile(pem, append(demopki.CertPEM(o.root.Cert), demopki.CertPEM(o.sub.Cert)...), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testkit.Need(t, "openssl"), "crl2pkcs7", "-nocrl", "-certfile", pem, "-outform", "DER", "-out", p7).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	der, err := os.ReadFile(p7)
	if err != nil {
		t.Fatal(err)
	}
	o.put("/sub.cer", der)
	o.expect(o.verifier(), c, Encrypt, b, None)
	o.cache.data = map[string][]byte{}
	o.put("/sub.cer", c.Raw)
	o.expect(o.verifier(), c, Encrypt, b, Untrusted)
	if len(o.cache.data) != 0 {
		t.Error("a certificate of no path was kept")
	}
}

// What was fetched once is fetched again when it does not help any more: the authority has
// a new key, or the certificate of its old one is renewed.
func TestReplacedIssuersAreFetched(t *testing.T) {
	o := newOnline(t)
	o.list(o.sub, 1000*time.Hour)
	issuer := func(c *x509.Certificate) { c.IssuingCertificateURL = []string{o.url + "/sub.cer"} }
	again := func(until time.Time) []byte { // a certificate of the sub-authority
		id, err := o.root.Issue(demopki.Spec{Signer: o.sub.Key, NotAfter: until, Adjust: func(c *x509.Certificate) {
			c.RawSubject, c.SubjectKeyId = o.sub.Cert.RawSubject, o.sub.Cert.SubjectKeyId
			c.IsCA, c.KeyUsage, c.ExtKeyUsage = true, x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		return id.Cert.Raw
	}
	c, b := o.person(func(c *x509.Certificate) { o.withList(c); issuer(c) }), Binding{Address: alice}
	o.options.Intermediates = nil
	v := o.verifier()
	o.put("/sub.cer", again(o.now.Add(time.Hour)))
	o.expect(v, c, Encrypt, b, None)
	o.now = o.now.Add(2 * time.Hour)
	o.put("/sub.cer", nil)
	o.expect(v, c, Encrypt, b, Stale) // who knows whether it was renewed
	o.now = o.now.Add(2 * time.Minute)
	o.put("/sub.cer", again(o.now.Add(time.Hour)))
	o.expect(v, c, Encrypt, b, None)

	next, err := o.root.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := next.CRL(1000 * time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.put("/next.crl", list)
	id, err := next.Issue(demopki.Spec{CN: "Alice", Address: alice.String(), Adjust: func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{o.url + "/next.crl"}
		issuer(c)
	}})
	if err != nil {
		t.Fatal(err)
	}
	o.now = o.now.Add(2 * time.Minute)
	o.expect(v, id.Cert, Encrypt, b, Untrusted)
	n := o.requests("/sub.cer")
	o.expect(v, id.Cert, Encrypt, b, Untrusted) // it is not asked for again at once
	if o.requests("/sub.cer") != n {
		t.Error("asked again at once")
	}
	o.now = o.now.Add(2 * time.Minute)
	o.put("/sub.cer", next.Cert.Raw)
	o.expect(v, id.Cert, Encrypt, b, None)
}

// What one certificate named does not count as failing for ever, but what is in use does.
func TestFailingIsForgotten(t *testing.T) {
	o := newOnline(t)
	c := o.person(func(c *x509.Certificate) { c.IssuingCertificateURL = []string{o.url + "/none.cer"} })
	o.options.Intermediates = nil
	v := o.verifier()
	o.expect(v, c, Sign, Binding{Address: alice}, Stale)
	if n := v.Health().Failing; n != 1 {
		t.Errorf("%d", n)
	}
	o.now = o.now.Add(3 * time.Hour)
	if n := v.Health().Failing; n != 0 {
		t.Errorf("%d after hours", n)
	}
	o.options.Intermediates = []*x509.Certificate{o.sub.Cert}
	v = o.verifier()
	o.expect(v, o.person(o.withList), Encrypt, Binding{Address: alice}, Stale)
	o.now = o.now.Add(3 * time.Hour)
	v.Refresh(context.Background())
	if n := v.Health().Failing; n != 1 {
		t.Errorf("%d lists after hours", n)
	}
}

// A list that nobody believes does not keep us from asking for another.
func TestForgedListDoesNotStay(t *testing.T) {
	o := newOnline(t)
	c, b := o.person(o.withList), Binding{Address: alice}
	forger, err := demopki.NewCA("Sub", func() time.Time { return o.now })
	if err != nil {
		t.Fatal(err)
	}
	o.list(forger, 1000*time.Hour)
	v := o.verifier()
	o.expect(v, c, Encrypt, b, Stale)
	o.list(o.sub, time.Hour)
	o.now = o.now.Add(2 * time.Minute)
	o.expect(v, c, Encrypt, b, None)
}

// answer makes the OCSP response to a request with golang.org/x/crypto.
func (o *online) answer(by *demopki.Identity, adjust func(*ocsp.Response)) func([]byte) []byte {
	return func(request []byte) []byte {
		r, err := ocsp.ParseRequest(request)
		if err != nil {
			o.t.Errorf("our request: %v", err)
			return nil
		}
		t := ocsp.Response{SerialNumber: r.SerialNumber, Status: ocsp.Good, ThisUpdate: o.now.Add(-time.Minute), NextUpdate: o.now.Add(time.Hour)}
		if by != &o.sub.Identity {
			t.Certificate = by.Cert
		}
		if adjust != nil {
			adjust(&t)
		}
		der, err := ocsp.CreateResponse(o.sub.Cert, by.Cert, t, by.Key)
		if err != nil {
			o.t.Error(err)
		}
		return der
	}
}

func TestOCSP(t *testing.T) {
	o := newOnline(t)
	noCheck := pkix.Extension{Id: oidNoCheck, Value: []byte{5, 0}}
	delegate := func(ca *demopki.CA, s demopki.Spec) *demopki.Identity {
		s.CN = "Responder"
		if s.Adjust == nil {
			s.Adjust = func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{noCheck} }
		}
		id, err := ca.Issue(s)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	signing := []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}
	other, err := demopki.NewCA("Sub", func() time.Time { return o.now })
	if err != nil {
		t.Fatal(err)
	}
	set := func(f func(*ocsp.Response)) func(*ocsp.Response) { return f }
	for name, x := range map[string]struct {
		by     *demopki.Identity
		adjust func(*ocsp.Response)
		want   Failure
	}{
		"the authority":          {&o.sub.Identity, nil, None},
		"a delegate":             {delegate(o.sub, demopki.Spec{EKU: signing}), nil, None},
		"without the usage":      {delegate(o.sub, demopki.Spec{}), nil, Stale},
		"of another authority":   {delegate(o.root, demopki.Spec{EKU: signing}), nil, Stale},
		"of a twin":              {delegate(other, demopki.Spec{EKU: signing}), nil, Stale},
		"the twin":               {&other.Identity, nil, Stale},
		"expired":                {delegate(o.sub, demopki.Spec{EKU: signing, NotBefore: o.now.Add(-2 * time.Hour), NotAfter: o.now.Add(-time.Hour)}), nil, Stale},
		"with a weak key":        {delegate(o.sub, demopki.Spec{EKU: signing, Key: demopki.RSA1024}), nil, Stale},
		"not to sign":            {delegate(o.sub, demopki.Spec{EKU: signing, Usage: x509.KeyUsageKeyAgreement}), nil, Stale},
		"perhaps revoked itself": {delegate(o.sub, demopki.Spec{EKU: signing, Adjust: func(*x509.Certificate) {}}), nil, Stale},
		"revoked":                {&o.sub.Identity, set(func(r *ocsp.Response) { r.Status, r.RevokedAt, r.RevocationReason = ocsp.Revoked, o.now, 1 }), Revoked},
		"unknown":                {&o.sub.Identity, set(func(r *ocsp.Response) { r.Status = ocsp.Unknown }), Stale},
		"of another certificate": {&o.sub.Identity, set(func(r *ocsp.Response) { r.SerialNumber = big.NewInt(1) }), Stale},
		"too old":                {&o.sub.Identity, set(func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = o.now.Add(-2*time.Hour), o.now.Add(-time.Hour) }), Stale},
		"old, and revoked": {&o.sub.Identity, set(func(r *ocsp.Response) {
			r.Status, r.RevokedAt, r.NextUpdate = ocsp.Revoked, o.now, o.now.Add(-time.Hour)
		}), Revoked},
		"of the future":           {&o.sub.Identity, set(func(r *ocsp.Response) { r.ThisUpdate = o.now.Add(time.Hour) }), Stale},
		"without an end":          {&o.sub.Identity, set(func(r *ocsp.Response) { r.NextUpdate = time.Time{} }), None},
		"without an end, and old": {&o.sub.Identity, set(func(r *ocsp.Response) { r.ThisUpdate, r.NextUpdate = o.now.Add(-2*time.Hour), time.Time{} }), Stale},
		"with a critical extension": {&o.sub.Identity, set(func(r *ocsp.Response) {
			r.ExtraExtensions = []pkix.Extension{{Id: oidDelta, Critical: true, Value: []byte{5, 0}}}
		}), Stale},
		"with an uncritical extension": {&o.sub.Identity, set(func(r *ocsp.Response) { r.ExtraExtensions = []pkix.Extension{{Id: oidDelta, Value: []byte{5, 0}}} }), None},
		"issuer named by SHA-256":      {&o.sub.Identity, set(func(r *ocsp.Response) { r.IssuerHash = 5 }), None},
		"issuer named by SHA-512":      {&o.sub.Identity, set(func(r *ocsp.Response) { r.IssuerHash = 7 }), Stale},
	} {
		t.Run(name, func(t *testing.T) {
			o.t = t
			o.mu.Lock()
			o.ocsp = o.answer(x.by, x.adjust)
			o.mu.Unlock()
			o.cache.data = map[string][]byte{}
			v, c := o.verifier(), o.person(o.withResponder)
			o.expect(v, c, Encrypt, Binding{Address: alice}, x.want)
			if kept := len(o.cache.data) == 1; kept != (x.want != Stale) {
				t.Errorf("kept: %v", kept)
			}
			r := v.Check(c, Encrypt, Binding{Address: alice})
			if x.want == None && r.Evidence[0].Kind != "OCSP" {
				t.Errorf("%+v", r.Evidence)
			}
		})
	}
}

// The answer is kept as long as it holds, over a restart too, and renewed in the background.
func TestOCSPIsKept(t *testing.T) {
	o := newOnline(t)
	o.ocsp = o.answer(&o.sub.Identity, nil)
	c, b := o.person(o.withResponder), Binding{Address: alice}
	v := o.verifier()
	o.expect(v, c, Encrypt, b, None)
	o.expect(v, c, Encrypt, b, None)
	o.expect(o.verifier(), c, Encrypt, b, None)
	if n := o.requests("/ocsp"); n != 1 {
		t.Errorf("%d requests", n)
	}
	o.now = o.now.Add(90 * time.Minute)
	o.mu.Lock()
	o.ocsp = o.answer(&o.sub.Identity, func(r *ocsp.Response) { r.Status, r.RevokedAt = ocsp.Revoked, o.now })
	o.mu.Unlock()
	v.Refresh(context.Background())
	v.Refresh(context.Background()) // not used since
	if n := o.requests("/ocsp"); n != 2 {
		t.Errorf("%d requests", n)
	}
	o.mu.Lock()
	o.ocsp = nil
	o.mu.Unlock()
	o.expect(v, c, Encrypt, b, Revoked)
	for key := range o.cache.data {
		o.cache.data[key] = []byte("rubbish")
	}
	o.expect(o.verifier(), c, Encrypt, b, Stale)
}

// OpenSSL's responder, as the authority and as its delegate, named by name and by key.
func TestOpenSSLResponder(t *testing.T) {
	openssl := testkit.Need(t, "openssl")
	o := newOnline(t)
	o.now = time.Now()
	file := func(name string, data ...[]byte) string {
		path := filepath.Join(o.dir, name)
		if err := os.WriteFile(path, []byte(strings.Join(func() (s []string) {
			for _, d := range data {
				s = append(s, string(d))
			}
			return s
		}(), "")), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	root, err := demopki.NewCA("Root", nil)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := root.NewSub("Sub", nil)
	if err != nil {
		t.Fatal(err)
	}
	o.root, o.sub = root, sub
	o.options.Anchors, o.options.Intermediates = []*x509.Certificate{root.Cert}, []*x509.Certificate{sub.Cert}
	der, err := root.CRL(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	o.options.CRLs = []string{file("now.crl", der)}
	delegate, err := sub.Issue(demopki.Spec{CN: "Responder", EKU: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, Adjust: func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: oidNoCheck, Value: []byte{5, 0}}}
	}})
	if err != nil {
		t.Fatal(err)
	}
	good, bad := o.person(o.withResponder), o.person(o.withResponder)
	line := func(flag string, c *x509.Certificate, at string) string {
		return fmt.Sprintf("%s\t%s\t%s\t%X\tunknown\t/CN=Alice\n", flag, c.NotAfter.UTC().Format("060102150405Z"), at, c.SerialNumber)
	}
	index := file("index.txt", []byte(line("V", good, "")+line("R", bad, time.Now().UTC().Format("060102150405Z")+",keyCompromise")))
	ca := file("sub.pem", demopki.CertPEM(sub.Cert))
	for name, id := range map[string]*demopki.Identity{"authority": &sub.Identity, "delegate": delegate} {
		key, err := demopki.KeyPEM(id.Key)
		if err != nil {
			t.Fatal(err)
		}
		cert, keyFile := file(name+".crt", demopki.CertPEM(id.Cert)), file(name+".key", key)
		for _, more := range [][]string{nil, {"-resp_key_id"}, {"-resp_no_certs"}} {
			if name == "delegate" && more != nil && more[0] == "-resp_no_certs" {
				continue
			}
			o.mu.Lock()
			o.ocsp = func(request []byte) []byte {
				out := filepath.Join(o.dir, "response")
				args := append([]string{"ocsp", "-index", index, "-CA", ca, "-rsigner", cert, "-rkey", keyFile, "-reqin", file("request", request), "-respout", out, "-ndays", "1"}, more...)
				if words, err := exec.Command(openssl, args...).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, words)
				}
				b, _ := os.ReadFile(out)
				return b
			}
			o.mu.Unlock()
			o.options.Now, o.options.Cache = time.Now, nil
			v := o.verifier()
			o.expect(v, good, Encrypt, Binding{Address: alice}, None)
			o.expect(v, bad, Encrypt, Binding{Address: alice}, Revoked)

			// The answer to another request, with its nonce, is not taken.
			last, err := os.ReadFile(filepath.Join(o.dir, "response"))
			if err != nil {
				t.Fatal(err)
			}
			o.mu.Lock()
			o.ocsp = func([]byte) []byte { return last }
			o.mu.Unlock()
			o.expect(o.verifier(), bad, Encrypt, Binding{Address: alice}, Stale)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		f.Fatal(err)
	}
	id, err := ca.Issue(demopki.Spec{CN: "Alice", Address: alice.String()})
	if err != nil {
		f.Fatal(err)
	}
	der, err := ocsp.CreateResponse(ca.Cert, ca.Cert, ocsp.Response{
		SerialNumber: id.Cert.SerialNumber, Status: ocsp.Revoked, RevokedAt: time.Now(), ThisUpdate: time.Now(), NextUpdate: time.Now().Add(time.Hour), Certificate: ca.Cert,
	}, ca.Key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	v, err := New(Options{Anchors: []*x509.Certificate{ca.Cert}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		f.Fatal(err)
	}
	path := []*x509.Certificate{id.Cert, ca.Cert}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseResponse(b)
		if err != nil {
			return
		}
		k := &check{v: v, c: id.Cert, now: time.Now()}
		if s := k.byResponse(r, "test", path, 0, 0); s.state == good {
			t.Fatalf("good: %x", b)
		}
	})
}

func FuzzParseIssuers(f *testing.F) {
	ca, err := demopki.NewCA("Root", nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ca.Cert.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		if certs, err := parseIssuers(b); err == nil && len(certs) > maxExtra {
			t.Fatal(len(certs))
		}
	})
}
