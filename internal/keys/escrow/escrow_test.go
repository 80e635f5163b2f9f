package escrow

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/demopki"
	"cmmpd/internal/durable"
	"cmmpd/internal/durable/faultfs"
	"cmmpd/internal/keys/shares"
	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
	"cmmpd/smime/cms"
)

// officers is a group whose parts are encrypted by CMS, with the identities that open them.
func officers(t testing.TB, k int, kinds ...demopki.Kind) (*Group, []*demopki.Identity) {
	t.Helper()
	ca, err := demopki.NewCA("escrow test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var list []Officer
	var ids []*demopki.Identity
	for i, kind := range kinds {
		id, err := ca.Issue(demopki.Spec{CN: fmt.Sprintf("officer %d", i+1), Key: kind})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		list = append(list, Officer{UID: fmt.Sprintf("secoff%d", i+1), Certificate: sha256.Sum256(id.Cert.Raw), Seal: func(plain []byte) ([]byte, error) {
			return cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, []cms.RecipientSpec{{Cert: id.Cert}}, plain)
		}})
	}
	g, err := NewGroup(k, list)
	if err != nil {
		t.Fatal(err)
	}
	return g, ids
}

// share opens an officer's part.
func share(t *testing.T, e *Envelope, i int, id *demopki.Identity) shares.Share {
	t.Helper()
	p, err := cms.ParseEnveloped(e.Parts[i], cms.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	opener, err := cms.NewKeyOpener(id.Cert, id.Key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := p.Decrypt(opener)
	if err != nil {
		t.Fatal(err)
	}
	s, err := shares.ParseShare(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func open(t testing.TB, fsys durable.FS, path string) *File {
	t.Helper()
	f, err := Open(fsys, path, [16]byte{1})
	if err == nil {
		err = f.wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func put(t testing.TB, f *File, g *Group, id mail.AccountID, secret string) *Envelope {
	t.Helper()
	e, err := g.Wrap(id, []byte(secret))
	if err == nil {
		err = f.Put(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestTwoOfThree(t *testing.T) {
	g, ids := officers(t, 2, demopki.RSA2048, demopki.P256, demopki.P384)
	f := open(t, durable.OS{}, filepath.Join(t.TempDir(), "escrow"))
	put(t, f, g, "alice", "alice's key")
	put(t, f, g, "bob", "bob's key")
	e, err := f.Get("alice")
	if err != nil {
		t.Fatal(err)
	}
	var all []shares.Share
	for i := range ids {
		all = append(all, share(t, e, i, ids[i]))
	}
	for _, pair := range [][]shares.Share{{all[0], all[1]}, {all[2], all[0]}, {all[1], all[2]}, all} {
		if secret, err := e.Open(pair); err != nil || string(secret) != "alice's key" {
			t.Errorf("%q %v", secret, err)
		}
	}
	bob, err := f.Get("bob")
	if err != nil {
		t.Fatal(err)
	}
	for name, list := range map[string][]shares.Share{
		"nobody": nil, "one": {all[0]}, "one twice": {all[1], all[1]}, "another account's": {all[0], share(t, bob, 1, ids[1])},
	} {
		if secret, err := e.Open(list); mail.KindOf(err) != mail.Invalid || secret != nil {
			t.Errorf("%s: %q %v", name, secret, err)
		}
	}
	if _, err := f.Get("carol"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("an account that is not kept: %v", err)
	}
	// An envelope under another's name does not pass for theirs.
	e.Account = "bob"
	if _, err := e.Open(all); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("another account's envelope: %v", err)
	}
}

func TestOpenSSL(t *testing.T) {
	testkit.Need(t, "openssl")
	g, ids := officers(t, 2, demopki.RSA2048, demopki.P256)
	e, err := g.Wrap("alice", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	var list []shares.Share
	for i, id := range ids {
		key, err := demopki.KeyPEM(id.Key)
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		for name, data := range map[string][]byte{"part.p7m": e.Parts[i], "cert.pem": demopki.CertPEM(id.Cert), "key.pem": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		cmd := exec.Command("openssl", "cms", "-decrypt", "-inform", "DER", "-in", "part.p7m", "-recip", "cert.pem", "-inkey", "key.pem")
		cmd.Dir, cmd.Stderr = dir, os.Stderr
		text, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "account alice") {
			t.Errorf("%q does not name the account", text)
		}
		s, err := shares.ParseShare(string(text))
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, s)
	}
	if secret, err := e.Open(list); err != nil || string(secret) != "secret" {
		t.Errorf("%q %v", secret, err)
	}
}

func TestGroups(t *testing.T) {
	g, _ := officers(t, 2, demopki.P256, demopki.P256)
	two := g.Officers
	for _, tc := range []struct {
		k    int
		list []Officer
	}{
		{1, two},
		{0, two},
		{3, two},
		{1, two[:1]},
		{2, []Officer{two[0], two[0]}},
		{2, []Officer{two[0], {UID: "x", Certificate: two[0].Certificate}}},
		{2, []Officer{two[0], {UID: two[0].UID}}},
		{2, []Officer{two[0], {Certificate: two[1].Certificate}}},
	} {
		if _, err := NewGroup(tc.k, tc.list); mail.KindOf(err) != mail.Invalid {
			t.Errorf("%d of %d: %v", tc.k, len(tc.list), err)
		}
	}
	swapped, err := NewGroup(2, []Officer{two[1], two[0]})
	if err != nil || swapped.ID == g.ID {
		t.Errorf("officers in another order are another group: %v", err)
	}
	again, err := parseGroup(g.body())
	if err != nil || again.ID != g.ID || again.Number("secoff2") != 2 || again.Number("alice") != 0 {
		t.Errorf("%+v %v", again, err)
	}
}

func TestAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "escrow")
	old, oldIDs := officers(t, 2, demopki.P256, demopki.P256)
	fresh, _ := officers(t, 2, demopki.P256, demopki.P256, demopki.P256)
	f := open(t, durable.OS{}, path)
	for i := range 50 {
		put(t, f, old, mail.AccountID(fmt.Sprint("account", i)), "key")
	}
	before := put(t, f, old, "alice", "key")
	put(t, f, fresh, "alice", "key")
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	f = open(t, durable.OS{}, path)
	if st, err := f.Stats(); err != nil || st.Accounts != 51 || st.Spoilt != 0 {
		t.Fatalf("%+v %v", st, err)
	}
	if g, err := f.Covered("alice"); err != nil || g.ID != fresh.ID {
		t.Errorf("alice's is for %+v %v", g, err)
	}
	if g, err := f.Covered("nobody"); err != nil || g != nil {
		t.Errorf("nobody's is for %+v %v", g, err)
	}
	now, err := f.Get("alice")
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range oldIDs {
		if err := now.Check(share(t, before, i, id)); mail.KindOf(err) != mail.Invalid {
			t.Errorf("a share of the old group is taken: %v", err)
		}
	}

	// The rewrite leaves neither what does not count any more nor what is to be erased.
	if err := f.Rewrite(func(id mail.AccountID) bool { return id == "account7" }); err != nil {
		t.Fatal(err)
	}
	put(t, f, fresh, "bob", "key")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(data, before.Parts[0]) || bytes.Contains(data, []byte("\x08account7")) || !bytes.Contains(data, now.Parts[0]) {
		t.Error("the file has what it should not have, or not what it should")
	}
	for range 2 {
		if st, err := f.Stats(); err != nil || st.Accounts != 51 || st.Octets != int64(len(data)) {
			t.Errorf("%+v %v", st, err)
		}
		if _, err := f.Get("account8"); err != nil {
			t.Error(err)
		}
		if _, err := f.Get("account7"); mail.KindOf(err) != mail.NotFound {
			t.Errorf("an erased key: %v", err)
		}
		var copied bytes.Buffer
		if err := f.Backup(&copied); err != nil || !bytes.Equal(copied.Bytes(), data) {
			t.Errorf("the backup differs: %v", err)
		}
		f.Close()
		f = open(t, durable.OS{}, path)
	}
	if _, err := Open(durable.OS{}, path, [16]byte{2}); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("another store's file: %v", err)
	}
	data[8]++
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(durable.OS{}, path, [16]byte{1}); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("a newer file: %v", err)
	}
}

// TestEveryBit flips each bit of an envelope, with the checksums of the file and without: what is wrong is refused, or it was of no consequence
// for those whose parts are whole.
func TestEveryBit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "escrow")
	g, ids := officers(t, 2, demopki.P256, demopki.P256)
	f := open(t, durable.OS{}, path)
	e := put(t, f, g, "alice", "alice's key")
	put(t, f, g, "bob", "bob's key")
	list := []shares.Share{share(t, e, 0, ids[0]), share(t, e, 1, ids[1])}
	f.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	payload := e.payload()
	for bit := range 8 * (recordHead + len(payload)) {
		b := bytes.Clone(whole)
		b[headerSize+bit/8] ^= 1 << (bit % 8)
		found := make(map[accountKey]place)
		end, spoilt, err := readRecords(bytes.NewReader(b), f.seed, int64(len(b)), func(payload []byte, at int64) error {
			return index(make(map[GroupID]*Group), found, payload, at)
		})
		_, alice := found[keyOf("alice")]
		_, bob := found[keyOf("bob")]
		if alice || !bob || spoilt != 1 || end != int64(len(b)) || err != nil {
			t.Fatalf("bit %d: alice %v, bob %v, %d places up to %d, %v", bit, alice, bob, spoilt, end, err)
		}
	}
	// A bit that turns while the file is open.
	f = open(t, durable.OS{}, path)
	whole[headerSize+200] ^= 4
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Get("alice"); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("damaged meanwhile: %v", err)
	}
	f.Close()
	f = open(t, durable.OS{}, path)
	if _, err := f.Get("alice"); mail.KindOf(err) != mail.NotFound {
		t.Errorf("damaged before: %v", err)
	}
	put(t, f, g, "alice", "alice's key")
	if _, err := f.Get("alice"); err != nil {
		t.Error(err)
	}
	// Somebody who can write the file writes its checksums, too.
	parts := bytes.Index(payload, e.Parts[0]) - 3
	for bit := range 8 * parts {
		b := bytes.Clone(payload)
		b[bit/8] ^= 1 << (bit % 8)
		forged, err := parseEnvelope(b)
		if err != nil {
			continue
		}
		secret, err := forged.Open(list)
		group := forged.Group.ID != g.ID // what it says of the officers opens nothing
		if err == nil && (!group || string(secret) != "alice's key") {
			t.Fatalf("bit %d: %q", bit, secret)
		}
	}
}

// TestFaults lets each durable step fail, both ways: what was put stays, or was refused, and nothing stands half.
func TestFaults(t *testing.T) {
	g, _ := officers(t, 2, demopki.P256, demopki.P256)
	for step := 1; ; step++ {
		for _, mode := range []faultfs.Mode{faultfs.Lost, faultfs.Done, faultfs.Short} {
			path := filepath.Join(t.TempDir(), "escrow")
			ffs := faultfs.New()
			f := open(t, ffs, path)
			put(t, f, g, "first", "key")
			ffs.FailAt(step, mode)
			e, err := g.Wrap("second", []byte("key"))
			if err != nil {
				t.Fatal(err)
			}
			second := f.Put(e)
			rewritten := f.Rewrite(func(mail.AccountID) bool { return false })
			done := ffs.Count() < step
			f.Close()
			again := open(t, durable.OS{}, path)
			if _, err := again.Get("first"); err != nil {
				t.Errorf("step %d: %v", step, err)
			}
			if _, err := again.Get("second"); second == nil && err != nil {
				t.Errorf("step %d: lost: %v", step, err)
			}
			put(t, again, g, "third", "key")
			if done && (second != nil || rewritten != nil) {
				t.Errorf("without a fault: %v %v", second, rewritten)
			}
			if done {
				return
			}
		}
	}
}

func TestTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "escrow")
	g, _ := officers(t, 2, demopki.P256, demopki.P256)
	f := open(t, durable.OS{}, path)
	put(t, f, g, "first", "key")
	st, _ := f.Stats()
	put(t, f, g, "second", "key")
	f.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{st.Octets + 1, st.Octets + recordHead, st.Octets + 300, int64(len(whole)) - 1} {
		if err := os.WriteFile(path, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		f := open(t, durable.OS{}, path)
		if got, err := f.Stats(); err != nil || got != st {
			t.Errorf("cut at %d: %+v, not %+v: %v", n, got, st, err)
		}
		put(t, f, g, "third", "key")
		f.Close()
		f = open(t, durable.OS{}, path)
		if got, err := f.Stats(); err != nil || got.Accounts != 2 || got.Spoilt != 0 {
			t.Errorf("cut at %d: %+v %v", n, got, err)
		}
		f.Close()
	}
	if err := os.WriteFile(path, whole[:10], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(durable.OS{}, path, [16]byte{1}); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("half a header: %v", err)
	}
}

func TestConcurrent(t *testing.T) {
	path := filepath.Join(t.TempDir(), "escrow")
	g, _ := officers(t, 2, demopki.P256, demopki.P256)
	f := open(t, durable.OS{}, path)
	done := make(chan error)
	for w := range 8 {
		go func() {
			var err error
			for i := range 10 {
				e, werr := g.Wrap(mail.AccountID(fmt.Sprint(w, "-", i)), []byte("key"))
				if err = werr; err == nil {
					err = f.Put(e)
				}
				if err != nil {
					break
				}
			}
			done <- err
		}()
	}
	for range 3 {
		if err := f.Rewrite(func(mail.AccountID) bool { return false }); err != nil {
			t.Error(err)
		}
	}
	for range 8 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	f.Close()
	f = open(t, durable.OS{}, path)
	if st, err := f.Stats(); err != nil || st.Accounts != 80 || st.Spoilt != 0 {
		t.Errorf("%+v %v", st, err)
	}
}

func FuzzEnvelope(f *testing.F) {
	g, _ := officers(f, 2, demopki.P256, demopki.P256)
	e, err := g.Wrap("alice", []byte("key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.payload())
	f.Add(e.payload()[:100])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseEnvelope(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.payload(), b) {
			t.Error("another encoding of the same")
		}
	})
}

func FuzzFile(f *testing.F) {
	g, _ := officers(f, 2, demopki.P256, demopki.P256)
	path := filepath.Join(f.TempDir(), "escrow")
	file := open(f, durable.OS{}, path)
	put(f, file, g, "alice", "key")
	put(f, file, g, "bob", "key")
	file.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole[headerSize:])
	f.Add(slices.Concat(whole[headerSize:], whole[headerSize+5:]))
	f.Add([]byte("EMs1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		end, _, err := readRecords(bytes.NewReader(append(fileHeader([16]byte{1}), b...)), file.seed, int64(headerSize+len(b)), func(payload []byte, _ int64) error {
			return index(map[GroupID]*Group{}, map[accountKey]place{}, payload, 0)
		})
		if err != nil || end > int64(headerSize+len(b)) {
			t.Error(end, err)
		}
	})
}

func BenchmarkLoad(b *testing.B) {
	path := filepath.Join(b.TempDir(), "escrow")
	g, _ := officers(b, 2, demopki.RSA2048, demopki.RSA2048, demopki.RSA2048)
	f := open(b, durable.OS{}, path)
	e, err := g.Wrap("00000000-0000-0000-0000-000000000000", make([]byte, 32))
	if err != nil {
		b.Fatal(err)
	}
	f.Close()
	data := fileHeader([16]byte{1})
	const accounts = 100_000
	for i := range accounts {
		e.Account = mail.AccountID(fmt.Sprintf("%036d", i))
		data = append(data, encodeRecord(e.payload(), f.seed)...)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		f, err := Open(durable.OS{}, path, [16]byte{1})
		if err == nil {
			err = f.wait()
		}
		if err != nil || len(f.accounts) != accounts {
			b.Fatal(err)
		}
		f.Close()
	}
}

func BenchmarkWrap(b *testing.B) {
	for name, kind := range map[string]demopki.Kind{"RSA2048": demopki.RSA2048, "P256": demopki.P256} {
		b.Run(name, func(b *testing.B) {
			g, _ := officers(b, 2, kind, kind, kind)
			for b.Loop() {
				e, err := g.Wrap("00000000-0000-0000-0000-000000000000", make([]byte, 32))
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(recordHead+len(e.payload())), "octets")
			}
		})
	}
}
