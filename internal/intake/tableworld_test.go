package intake

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/message"
	"cmmpd/internal/queue"
	"cmmpd/internal/testkit"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
	"cmmpd/storage"
)

// The domains elsewhere, by what their server does.
const (
	inClearDomain = "clear.example"  // takes mail, and has no TLS
	secureDomain  = "secure.example" // takes mail over TLS, and proves its name
	rejectDomain  = "reject.example" // the same, but refuses each message
)

// house is a world with everything real behind the door: store, queue, audit log, and servers
// elsewhere. It lives in a bubble.
type house struct {
	*world
	dir    string // of the data
	store  *storage.Store
	queue  *queue.Queue
	log    *auditLog
	words  *lockedBuffer // what is logged
	wire   *lockedBuffer // what came over the lines of the servers elsewhere, as it was on the line
	desks  map[string]*desk
	boxes  map[string]map[string]*storage.Mailbox // by person and name
	seen   map[string]map[uint32]bool             // messages by mailbox
	counts storage.Report

	mu    sync.Mutex
	taken map[string][]string // messages by domain, as the server read them
}

// auditLog keeps what it passes on.
type auditLog struct {
	notes
	log *audit.Log
}

func (l *auditLog) Note(e audit.Event) {
	l.notes.Note(e)
	l.log.Note(e)
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// take empties it.
func (b *lockedBuffer) take() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.b.String()
	b.b.Reset()
	return s
}

func newHouse(t *testing.T, state string) *house {
	t.Helper()
	h := &house{
		world: newWorld(t), dir: t.TempDir(), words: &lockedBuffer{}, wire: &lockedBuffer{}, taken: map[string][]string{},
		desks: map[string]*desk{}, boxes: map[string]map[string]*storage.Mailbox{}, seen: map[string]map[uint32]bool{},
	}
	h.populate(state)
	ks, err := keys.CreateFile(filepath.Join(h.dir, "keys"))
	h.must(err)
	for name, slot := range map[string]keys.Slot{"store": keys.Service, "blind": keys.Service, "platform": keys.Mail} {
		h.must(ks.Generate(slot, name, keys.KindAES256))
	}
	h.must(ks.Generate(keys.Service, "audit", keys.KindEd25519))
	log := slog.New(slog.NewTextHandler(h.words, &slog.HandlerOptions{Level: slog.LevelDebug}))
	h.store, err = storage.Open(t.Context(), storage.Options{
		Dir: filepath.Join(h.dir, "store"), Keys: ks, Log: log, HouseEvery: -1, Recover: 24 * time.Hour, Search: storage.SearchOptions{Least: 1},
	})
	h.must(err)
	signer, err := ks.Signer(t.Context(), keys.Service, "audit")
	h.must(err)
	h.must(audit.Create(filepath.Join(h.dir, "audit"), signer, audit.Options{Origin: "test", Log: log}))
	record, err := audit.Open(filepath.Join(h.dir, "audit"), signer, audit.Options{Origin: "test", Log: log})
	h.must(err)
	h.log = &auditLog{log: record}
	h.openQueue(log)
	h.in.o.Store, h.in.o.Queue, h.in.o.Audit, h.in.o.Log = h.store, h.queue, h.log, log
	h.queue.Run(h.in)
	for _, uid := range []string{"alice", "carol", state} {
		h.openDesk(uid)
	}
	t.Cleanup(func() {
		h.must(h.queue.Shutdown(context.Background()))
		h.must(record.Close())
		h.must(h.store.Close())
		ks.Close()
	})
	return h
}

// openQueue makes the servers elsewhere, and the queue that goes there.
func (h *house) openQueue(log *slog.Logger) {
	h.t.Helper()
	server, err := h.ca.Server("mx.example")
	h.must(err)
	conf := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{server.Cert.Raw}, PrivateKey: server.Key}}}
	roots := x509.NewCertPool()
	roots.AddCert(h.ca.Cert)
	h.queue, err = queue.New(queue.Options{
		Hostname: "mail.gov.example", Store: h.store, Audit: h.log, LaneKey: []byte("k"), Log: log,
		Routes: []queue.Route{
			{Domain: inClearDomain, Host: inClearDomain + ":25", TLS: queue.Opportunistic},
			{Domain: secureDomain, Host: secureDomain + ":25", Name: "mx.example", Roots: roots},
			{Domain: rejectDomain, Host: rejectDomain + ":25", Name: "mx.example", Roots: roots},
		},
		Dial: func(_ context.Context, _, addr string) (net.Conn, error) {
			domain, _, _ := net.SplitHostPort(addr)
			ours, theirs := net.Pipe()
			c := conf
			if domain == inClearDomain {
				c = nil
			}
			go h.serve(tapped{theirs, h.wire}, domain, c)
			return ours, nil
		},
	})
	h.must(err)
}

// tapped is a line that is listened in on.
type tapped struct {
	net.Conn
	to io.Writer
}

func (c tapped) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	_, _ = c.to.Write(p[:n])
	return n, err
}

// serve is the server of a domain elsewhere.
func (h *house) serve(c net.Conn, domain string, conf *tls.Config) {
	defer func() { c.Close() }()
	r := bufio.NewReader(c)
	say := func(s string) { _, _ = io.WriteString(c, s+"\r\n") }
	say("220 mx.example")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		switch verb, _, _ := strings.Cut(strings.TrimSpace(line), " "); strings.ToUpper(verb) {
		case "EHLO":
			if _, secure := c.(*tls.Conn); conf != nil && !secure {
				say("250-mx.example\r\n250 STARTTLS")
				continue
			}
			say("250 mx.example")
		case "STARTTLS":
			say("220 go")
			tc := tls.Server(c, conf)
			if tc.Handshake() != nil {
				return
			}
			c, r = tc, bufio.NewReader(tc)
		case "DATA":
			say("354 go")
			var text strings.Builder
			for line, err = r.ReadString('\n'); err == nil && line != ".\r\n"; line, err = r.ReadString('\n') {
				text.WriteString(strings.TrimPrefix(line, "."))
			}
			h.mu.Lock()
			h.taken[domain] = append(h.taken[domain], text.String())
			h.mu.Unlock()
			if domain == rejectDomain { // with words of the message, as some do
				say("550 5.7.1 not here: " + strings.ReplaceAll(text.String()[:min(text.Len(), 300)], "\r\n", " "))
				continue
			}
			say("250 2.0.0 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 2.0.0 ok")
		}
	}
}

// took is what the server of a domain has taken since it was last asked.
func (h *house) took(domain string) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	got := h.taken[domain]
	delete(h.taken, domain)
	return got
}

// populate adds to the directory somebody in the state, here and elsewhere, and a group with them
// and carol.
func (h *house) populate(state string) {
	h.t.Helper()
	silent, err := h.ca.NewSub("Silent", nil) // nobody knows what it has revoked
	h.must(err)
	here := state + "@works.gov.example"
	elsewhere := []string{state + "@" + inClearDomain, state + "@" + secureDomain, state + "@" + rejectDomain}
	h.issue(state, state, silent, here)
	h.issue(state+".contact", state, silent, elsewhere...)
	var b strings.Builder
	fmt.Fprintf(&b, "dn: uid=%s,ou=people,%s\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\nuid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[3]s\n", state, base, here)
	h.certificate(&b, state)
	contact := state + ".contact"
	fmt.Fprintf(&b, "\ndn: cn=%s,ou=people,%s\nobjectClass: inetOrgPerson\ncn: %[1]s\nsn: %[1]s\n", contact, base)
	for _, a := range elsewhere {
		b.WriteString("mail: " + a + "\n")
	}
	h.certificate(&b, contact)
	fmt.Fprintf(&b, "\ndn: cn=%s.team,ou=groups,%s\nobjectClass: groupOfNames\nobjectClass: cmmpdGroup\ncn: %[1]s.team\nmail: %[1]s.team@works.gov.example\n", state, base)
	fmt.Fprintf(&b, "member: uid=carol,ou=people,%s\nmember: uid=%s,ou=people,%[1]s\n", base, state)
	h.change(b.String())
	h.publish(90 * 24 * time.Hour)
	h.trust, err = trust.New(trust.Options{Anchors: []*x509.Certificate{h.ca.Cert}, Intermediates: []*x509.Certificate{silent.Cert}, CRLs: []string{h.crl}, RequireCRL: true})
	h.must(err)
	authority, err := h.ca.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example"})
	h.must(err)
	h.in.o.Gateway = smime.New(smime.Options{Trust: h.trust, Signers: func(domain string) (cms.SignerSpec, bool) {
		return cms.SignerSpec{Cert: authority.Cert, Key: authority.Key}, domain == "works.gov.example"
	}})
}

// issue makes the certificate, in that state, of somebody with the addresses.
func (h *house) issue(name, state string, silent *demopki.CA, addresses ...string) {
	h.t.Helper()
	now, ca := time.Now(), h.ca
	s := demopki.Spec{CN: name, Adjust: func(c *x509.Certificate) { c.EmailAddresses = addresses }}
	switch state {
	case "none":
		return
	case "rsa":
		s.Key = demopki.RSA2048
	case "expired":
		s.NotBefore, s.NotAfter = now.Add(-48*time.Hour), now.Add(-24*time.Hour)
	case "wrong":
		s.Adjust = func(c *x509.Certificate) { c.EmailAddresses = []string{"somebody.else@works.gov.example"} }
	case "signing":
		s.Usage = x509.KeyUsageDigitalSignature
	case "weak":
		s.Key = demopki.RSA1024
	case "foreign": // the attacker's authority has the name of ours
		twin, err := demopki.NewCA("Root", nil)
		h.must(err)
		ca = twin
	case "unknown":
		ca = silent
	}
	id, err := ca.Issue(s)
	h.must(err)
	if state == "revoked" {
		h.ca.Revoke(id.Cert)
	}
	h.people[name] = id
}

func (h *house) openDesk(uid string) {
	h.t.Helper()
	d := h.desk(h.store, uid)
	h.desks[uid], h.boxes[uid] = d, map[string]*storage.Mailbox{}
	list, err := d.acct.List(h.t.Context())
	h.must(err)
	for _, m := range list {
		h.boxes[uid][m.Name] = d.open(m.Name)
	}
}

// found is a message that came into a mailbox.
type found struct{ where, text string }

// news reads every folder of everybody: what is new there, and what is gone.
func (h *house) news() (added []found, gone int) {
	h.t.Helper()
	for uid, boxes := range h.boxes {
		for name, m := range boxes {
			key := uid + "/" + name
			all, _ := m.Snapshot()
			now := map[uint32]bool{}
			for _, msg := range all {
				now[msg.UID] = true
				if !h.seen[key][msg.UID] {
					b, err := content(h.t.Context(), m, msg.UID)
					h.must(err)
					added = append(added, found{key, string(b)})
				}
			}
			for old := range h.seen[key] {
				if !now[old] {
					gone++
				}
			}
			h.seen[key] = now
		}
	}
	slices.SortFunc(added, func(a, b found) int { return strings.Compare(a.where, b.where) })
	return added, gone
}

// change of the counts of the store since the last call; everything must hold.
func (h *house) counted() (entries, bodies, items int) {
	h.t.Helper()
	r, err := h.store.Check(h.t.Context(), false)
	h.must(err)
	if len(r.Problems) > 0 || r.Accounts != h.counts.Accounts && h.counts.Accounts > 0 {
		h.t.Errorf("check: %+v, before %+v", r, h.counts)
	}
	entries, bodies, items = r.Entries-h.counts.Entries, r.Bodies-h.counts.Bodies, r.Queue-h.counts.Queue
	h.counts = *r
	return entries, bodies, items
}

// settle lets the queue, the audit log and the search index do what they have to do.
func settle() {
	time.Sleep(5 * time.Second)
	synctest.Wait()
}

// opens says who of the candidates can open a sealed message and finds the needle in it.
func (h *house) opens(text string, candidates ...string) string {
	h.t.Helper()
	x := message.Parse([]byte(text), message.Limits{})
	if k := h.gateway().Inspect([]byte(text), x).Kind; k != smime.Encrypted {
		return "not encrypted, but " + k.String()
	}
	var out []string
	for _, uid := range candidates {
		id := h.people[uid]
		if id == nil {
			continue
		}
		key, err := cms.NewKeyOpener(id.Cert, id.Key)
		if err != nil { // a weak key opens nothing
			continue
		}
		if o, err := h.gateway().Open([]byte(text), x, key); err == nil && strings.Contains(string(o.Inner), needle) {
			out = append(out, uid)
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// encrypted is an entity that OpenSSL encrypted to the people; it asks no questions about their certificates.
func (h *house) encrypted(entity string, uids ...string) string {
	h.t.Helper()
	dir := h.t.TempDir()
	args := []string{"cms", "-encrypt", "-aes256", "-outform", "DER"}
	for _, uid := range uids {
		if id := h.people[uid]; id != nil {
			path := filepath.Join(dir, uid+".pem")
			h.must(os.WriteFile(path, demopki.CertPEM(id.Cert), 0o600))
			args = append(args, path)
		}
	}
	cmd := exec.Command(testkit.Need(h.t, "openssl"), args...)
	cmd.Stdin = strings.NewReader(strings.ReplaceAll(entity, "\n", "\r\n"))
	der, err := cmd.Output()
	h.must(err)
	return "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n" + base64Lines(der)
}

// betrays says in which form the needle stands in b: in clear, in base64 at any place of the three, or in UTF-16.
func betrays(b string) bool {
	joined := strings.NewReplacer("=\r\n", "", "\r\n", "", "\n", "").Replace(b)
	forms := []string{needle, strings.Join(strings.Split(needle, ""), "\x00")}
	for shift := range 3 {
		enc := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", shift) + needle))
		forms = append(forms, enc[(shift*8+5)/6:(shift+len(needle))*8/6])
	}
	return slices.ContainsFunc(forms, func(f string) bool { return strings.Contains(b, f) || strings.Contains(joined, f) })
}

// scan looks for the needle in every file below the folder.
func scan(t *testing.T, dir string) (found []string, files int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if files++; err == nil && betrays(string(b)) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, files
}
