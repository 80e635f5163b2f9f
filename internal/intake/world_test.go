package intake

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/directory"
	"cmmpd/directory/server"
	"cmmpd/internal/demopki"
	"cmmpd/internal/limit"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
	"cmmpd/storage"
)

// rsaKey is made once: that takes long.
var rsaKey = sync.OnceValue(func() crypto.Signer {
	k, err := demopki.NewKey(demopki.RSA2048)
	if err != nil {
		panic(err)
	}
	return k
})

// world is the people of the demonstration in a real directory, with a real gateway. What
// is delivered lies on shelf.
type world struct {
	t      testing.TB
	ca     *demopki.CA
	dir    *directory.Directory
	people map[string]*demopki.Identity
	trust  *trust.Verifier
	shelf  *shelf
	notes  *notes
	in     *Intake
	crl    string
	change func(ldif string) // of the directory
}

// shelf keeps deliveries for looking at, or fails.
type shelf struct {
	mu     sync.Mutex
	got    []storage.Delivery
	labels map[string]mail.Label // by account and Message-ID
	fail   error
}

func (s *shelf) Deliver(_ context.Context, d storage.Delivery) ([]storage.Placed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return nil, s.fail
	}
	s.got = append(s.got, d)
	for _, l := range d.Submitted {
		s.labels[string(l.Account)+l.MessageID] = l.Label
	}
	return nil, nil
}

func (s *shelf) LabelOf(_ context.Context, id mail.AccountID, ids []string) ([]mail.Label, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]mail.Label, len(ids))
	for i := range ids {
		out[i] = s.labels[string(id)+ids[i]]
	}
	return out, s.fail
}

type notes struct {
	mu     sync.Mutex
	events []audit.Event
	log    *audit.Log // of acts; nil: they cannot be recorded
}

func (n *notes) Begin(ctx context.Context, e audit.Event) (*audit.Act, error) {
	if n.log == nil {
		return nil, mail.E(mail.Full, "", nil)
	}
	return n.log.Begin(ctx, e)
}

func (n *notes) Note(e audit.Event) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.events = append(n.events, e)
}

var _ Recorder = (*audit.Log)(nil)

const base = "dc=gov,dc=example"

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, people: map[string]*demopki.Identity{}, shelf: &shelf{labels: map[string]mail.Label{}}, notes: &notes{}, crl: filepath.Join(t.TempDir(), "ca.crl")}
	var err error
	w.ca, err = demopki.NewCA("Root", nil)
	w.must(err)
	past := time.Now().Add(-24 * time.Hour)
	for uid, s := range map[string]demopki.Spec{
		"alice": {Address: "alice@works.gov.example", Signer: rsaKey()}, "bob": {Address: "bob@works.gov.example"}, "carol": {Address: "carol@health.gov.example"},
		"erin": {Key: demopki.P384}, "frank": {Address: "frank@works.gov.example", NotBefore: past.Add(-time.Hour), NotAfter: past}, "grace": {Address: "grace@works.gov.example"},
		"ds1": {Address: "ds1@works.gov.example"}, "stranger": {Address: "s@example.org"},
	} {
		s.CN = uid
		w.people[uid], err = w.ca.Issue(s)
		w.must(err)
	}
	w.ca.Revoke(w.people["grace"].Cert)
	w.publish(24 * time.Hour)
	w.trust, err = trust.New(trust.Options{Anchors: []*x509.Certificate{w.ca.Cert}, CRLs: []string{w.crl}, RequireCRL: true})
	w.must(err)
	w.directory()
	authority, err := w.ca.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example"})
	w.must(err)
	gw := smime.New(smime.Options{Trust: w.trust, Signers: func(domain string) (cms.SignerSpec, bool) {
		return cms.SignerSpec{Cert: authority.Cert, Key: authority.Key}, domain == "works.gov.example"
	}})
	pol, err := policy.New(policy.Options{})
	w.must(err)
	w.in, err = New(Options{
		Hostname: "mail.gov.example", Domains: []string{"works.gov.example", "health.gov.example"},
		Directory: w.dir, Store: w.shelf, Gateway: gw, Audit: w.notes, Policy: pol, Memory: limit.NewBudget(64 << 20),
	})
	w.must(err)
	return w
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) publish(holds time.Duration) {
	der, err := w.ca.CRL(holds)
	w.must(err)
	w.must(os.WriteFile(w.crl, der, 0o600))
}

// directory is a real one with alice, bob, ... and the group team.
func (w *world) directory() {
	var b strings.Builder
	b.WriteString("dn: " + base + "\nobjectClass: domain\ndc: gov\n")
	for _, ou := range []string{"people", "posts", "groups"} {
		fmt.Fprintf(&b, "\ndn: ou=%s,%s\nobjectClass: organizationalUnit\nou: %s\n", ou, base, ou)
	}
	for uid, domain := range map[string]string{"alice": "works", "bob": "works", "carol": "health", "dave": "health", "erin": "health", "frank": "works", "grace": "works"} {
		fmt.Fprintf(&b, "\ndn: uid=%s,ou=people,%s\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[1]s@%[3]s.gov.example\nmailAlternateAddress: %[1]s.alias@%[3]s.gov.example\n", uid, base, domain)
		w.certificate(&b, uid)
	}
	fmt.Fprintf(&b, "\ndn: cn=ds1,ou=posts,%s\nobjectClass: organizationalRole\nobjectClass: cmmpdAccount\ncn: ds1\nuid: ds1\nmail: ds1@works.gov.example\nroleOccupant: uid=bob,ou=people,%[1]s\n", base)
	w.certificate(&b, "ds1")
	fmt.Fprintf(&b, "\ndn: cn=team,ou=groups,%s\nobjectClass: groupOfNames\nobjectClass: cmmpdGroup\ncn: team\nmail: team@works.gov.example\n", base)
	for _, uid := range []string{"alice", "bob", "carol"} {
		fmt.Fprintf(&b, "member: uid=%s,ou=people,%s\n", uid, base)
	}
	fmt.Fprintf(&b, "\ndn: cn=contact,ou=people,%s\nobjectClass: inetOrgPerson\ncn: contact\nsn: contact\nmail: s@example.org\n", base)
	w.certificate(&b, "stranger")
	s, err := server.Open(server.Options{Path: filepath.Join(w.t.TempDir(), "d.db"), BaseDN: base, Rounds: 4096})
	w.must(err)
	_, err = s.Import(context.Background(), strings.NewReader(b.String()), "test")
	w.must(err)
	w.dir, err = directory.New(directory.Options{Dial: s.Dial, Trusted: true, BaseDN: base})
	w.must(err)
	w.change = func(ldif string) {
		w.t.Helper()
		_, err := s.Import(context.Background(), strings.NewReader(ldif), "test")
		w.must(err)
		w.dir.Changed()
	}
	w.t.Cleanup(func() {
		w.dir.Close()
		_ = s.Shutdown(context.Background())
		s.Close()
	})
}

func (w *world) certificate(b *strings.Builder, uid string) {
	if id := w.people[uid]; id != nil {
		fmt.Fprintf(b, "userCertificate;binary:: %s\n", base64.StdEncoding.EncodeToString(id.Cert.Raw))
	}
}

func (w *world) principal(uid string) *mail.Principal {
	w.t.Helper()
	p, err := w.dir.Principal(context.Background(), uid)
	w.must(err)
	return &p
}

// submit sends text, with LF as line ends, as uid to the recipients, who are addresses or
// uids of people.
func (w *world) submit(uid, to, text string) (mail.ID, error) {
	w.t.Helper()
	who := w.principal(uid)
	env := &mail.Envelope{From: who.Address, Sender: who, To: w.addresses(to), Client: mail.Client{Protocol: "submission", Remote: "192.0.2.77:12345", Helo: "laptop.secret", TLS: "TLS 1.3 X"}}
	return w.in.Accept(w.t.Context(), env, crlf(text))
}

// receive brings text from another server.
func (w *world) receive(to, text string) (mail.ID, error) {
	w.t.Helper()
	env := &mail.Envelope{From: mail.MustParseAddress("sender@example.org"), To: w.addresses(to), Client: mail.Client{Protocol: "smtp", Remote: "192.0.2.1:25", Helo: "mx.example.org"}}
	return w.in.Accept(w.t.Context(), env, crlf(text))
}

func (w *world) addresses(list string) []mail.Address {
	w.t.Helper()
	var out []mail.Address
	for f := range strings.FieldsSeq(list) {
		if strings.Contains(f, "@") {
			out = append(out, mail.MustParseAddress(f))
			continue
		}
		e, err := w.dir.ByUID(context.Background(), f)
		w.must(err)
		out = append(out, e.Address)
	}
	return out
}

func crlf(s string) []byte { return []byte(strings.ReplaceAll(s, "\n", "\r\n")) }

// last is the last delivery.
func (w *world) last() storage.Delivery {
	w.t.Helper()
	if len(w.shelf.got) == 0 {
		w.t.Fatal("nothing was delivered")
	}
	return w.shelf.got[len(w.shelf.got)-1]
}

// uids are the accounts that get a body, by name.
func (w *world) uids(b storage.Body) string {
	var out []string
	for _, e := range b.Entries {
		for uid := range w.people {
			if p, err := w.dir.Principal(context.Background(), uid); err == nil && p.Account == e.Account {
				out = append(out, uid)
			}
		}
		if p := w.principal("dave"); p.Account == e.Account {
			out = append(out, "dave")
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// readers are those who can open a sealed message, by name; what they read is checked to
// hold want.
func (w *world) readers(data []byte, want string) string {
	w.t.Helper()
	x := message.Parse(data, message.Limits{})
	gw := w.gateway()
	if k := gw.Inspect(data, x).Kind; k != smime.Encrypted {
		w.t.Fatalf("the message is %v, not encrypted", k)
	}
	var out []string
	for uid, id := range w.people {
		key, err := cms.NewKeyOpener(id.Cert, id.Key)
		w.must(err)
		opened, err := gw.Open(data, x, key)
		if err != nil {
			continue
		}
		if !strings.Contains(string(opened.Inner), want) {
			w.t.Errorf("%s reads %q", uid, opened.Inner)
		}
		out = append(out, uid)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// refused checks that err has the kind and names every word, and that nothing was kept.
func (w *world) refused(err error, kind mail.Kind, words ...string) {
	w.t.Helper()
	if err == nil || mail.KindOf(err) != kind {
		w.t.Errorf("got %v, want an error of kind %v", err, kind)
	}
	for _, word := range words {
		if !strings.Contains(mail.PublicOf(err), word) {
			w.t.Errorf("%q does not say %q", mail.PublicOf(err), word)
		}
	}
	if len(w.shelf.got) > 0 {
		w.t.Errorf("something was kept")
		w.shelf.got = nil
	}
}

func base64Lines(der []byte) string {
	s := base64.StdEncoding.EncodeToString(der)
	var b strings.Builder
	for len(s) > 76 {
		b.WriteString(s[:76] + "\n")
		s = s[76:]
	}
	return b.String() + s + "\n"
}

func (w *world) gateway() *smime.Gateway { return w.in.o.Gateway.(*smime.Gateway) }
