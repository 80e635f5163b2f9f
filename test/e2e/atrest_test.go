package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
	"cmmpd/storage"
)

// session is a session of a person over IMAP.
func (s *site) session(uid string) *imapclient.Client {
	s.t.Helper()
	c, err := imapclient.DialTLS(fmt.Sprintf("127.0.0.1:%d", s.base+993), &imapclient.Options{TLSConfig: s.clientTLS()})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := c.Login(uid, s.read("people", uid, "password")).Wait(); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// put appends a message and returns its UID.
func (s *site) put(c *imapclient.Client, mailbox, text string, flags ...imap.Flag) imap.UID {
	s.t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	w := c.Append(mailbox, int64(len(text)), &imap.AppendOptions{Flags: flags})
	if _, err := w.Write([]byte(text)); err != nil {
		s.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		s.t.Fatal(err)
	}
	data, err := w.Wait()
	if err != nil {
		s.t.Fatal(err)
	}
	return data.UID
}

// secrets are markers, each of which is in one place of one mail only.
type secrets struct{ body, subject, file, mailbox, keyword, term, neighbour, disposed, other string }

func (m *secrets) all() []string {
	return []string{m.body, m.subject, m.file, m.mailbox, m.keyword, m.term, m.neighbour, m.disposed, m.other}
}

// TestAtRest: who has all files, and knows every format, reads nothing while the platform is sealed; with the platform key the same program reads everything.
// What was disposed of, and what an account held whose keys were erased, it cannot read even then, from a mail backup of before.
func TestAtRest(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	word := func(kind string) string { return kind + rand.Text() }
	m := &secrets{
		word("body"), word("subject"), word("file"), word("mailbox"), word("keyword"), strings.ToLower(word("term")), word("neighbour"), word("disposed"), word("other"),
	}
	disposed := s.fill(m)
	s.stop(syscall.SIGTERM)

	for _, marker := range m.all() {
		for _, path := range lies(t, s.dir, marker) {
			t.Errorf("%s is in %s", marker[:8], path)
		}
	}
	planted := s.path("planted")
	if err := os.WriteFile(planted, fmt.Appendf(nil, "x%sx", m.body), 0o600); err != nil {
		t.Fatal(err)
	}
	if in := lies(t, s.dir, m.body); len(in) != 1 || in[0] != planted {
		t.Errorf("the planted marker is found in %v", in)
	}
	if err := os.Remove(planted); err != nil {
		t.Fatal(err)
	}
	keystore := func(name string) string { return s.path("keys", "keystore", name+".pem") }
	f := steal(t, s.path("store"), s.path("store"))
	if len(f.searches) == 0 {
		t.Error("there is no search index to look into")
	}
	f.finds(0, nil, m.all()...)
	f.finds(f.try(f.fileKey(keystore("service/store")), f.fileKey(keystore("service/blind"))), nil, m.all()...) // root, while the mail slot is sealed
	f.finds(f.try(f.fileKey(keystore("mail/platform"))), m.all())
	if !holds(f.words.Bytes(), m.term+"77") || !holds(f.words.Bytes(), strings.ToLower(m.subject)) && !holds(f.words.Bytes(), strings.ToLower(m.neighbour)) {
		t.Error("the terms of the search index cannot be read with the platform key: nothing is proved by their not being found without")
	}

	dest := [2]string{filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "after")}
	s.backUp(dest[0])
	before := filepath.Join(t.TempDir(), "store")
	if err := os.CopyFS(before, os.DirFS(s.path("store"))); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(before, "search")); err != nil { // no backup has the search index
		t.Fatal(err)
	}
	s.serveIt()
	c := s.session("alice")
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		t.Fatal(err)
	}
	if err := c.Store(imap.UIDSetNum(disposed), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagDeleted}}, nil).Close(); err != nil {
		t.Fatal(err)
	}
	if err := c.Expunge().Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	s.stop(syscall.SIGTERM)
	s.house(func(ctx context.Context, st *storage.Store) error {
		r, err := st.Dispose(ctx)
		if err == nil && r.Epochs == 0 {
			t.Error("nothing was disposed of")
		}
		return err
	})
	s.backUp(dest[1])
	s.oldMail(dest, m)
	f = steal(t, s.path("store"), s.path("store"))
	f.searches = nil // the words of what is gone leave the search index within a week or so: docs/security.md
	f.finds(f.try(f.fileKey(keystore("mail/platform"))), without(m.all(), m.disposed), m.disposed)
	f = steal(t, before, s.path("store"))
	f.try(f.fileKey(keystore("mail/platform")))
	f.finds(1, []string{m.other}, m.disposed)

	person := s.account("bob")
	s.house(func(ctx context.Context, st *storage.Store) error { return st.EraseAccount(ctx, person) })
	f = steal(t, before, s.path("store"))
	f.finds(f.try(f.fileKey(keystore("mail/platform"))), nil, m.disposed, m.other)
	f = steal(t, before, before)
	f.finds(f.try(f.fileKey(keystore("mail/platform"))), m.all()) // with the vault from before, which is why its copies are not kept for long
}

// fill has markers come in, and says which of alice's messages is to be disposed of.
func (s *site) fill(m *secrets) imap.UID {
	s.t.Helper()
	c := s.session("alice")
	defer c.Close()
	if err := c.Create(m.mailbox, nil).Wait(); err != nil {
		s.t.Fatal(err)
	}
	s.put(c, m.mailbox, mailOf(alice, bob, m.subject, "in a mailbox with a name"), imap.Flag(m.keyword))
	s.put(c, "INBOX", strings.Replace(mailOf(alice, bob, "file", "x"), "\n\nx", "\nContent-Type: application/pdf; name="+m.file+".pdf\nContent-Disposition: attachment; filename="+m.file+".pdf\n\nx", 1))
	disposed := s.put(c, "INBOX", mailOf(alice, bob, m.disposed, m.disposed))
	s.put(c, "INBOX", mailOf(alice, bob, m.neighbour, m.neighbour))
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, m.other, m.body)); err != nil {
		s.t.Fatal(out)
	}
	for i := range 260 { // enough for a search index
		s.put(c, "INBOX", mailOf(alice, bob, fmt.Sprint("n", i), fmt.Sprintf("text %s%d", m.term, i)))
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		s.t.Fatal(err)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Text: []string{m.term + "77"}}, nil).Wait()
	if err != nil || len(found.AllUIDs()) != 1 {
		s.t.Fatal(found, err)
	}
	return disposed
}

// finds demands that the loot has these markers and not those.
func (f *thief) finds(messages int, these []string, not ...string) {
	f.t.Helper()
	if (messages > 0) != (len(these) > 0) {
		f.t.Errorf("%d messages were read", messages)
	}
	for _, marker := range these {
		if !holds(f.loot.Bytes(), marker) {
			f.t.Errorf("%s cannot be read", marker[:8])
		}
	}
	for _, marker := range not {
		if holds(f.loot.Bytes(), marker) {
			f.t.Errorf("%s can be read", marker[:8])
		}
	}
}

func without(list []string, one string) (rest []string) {
	for _, x := range list {
		if x != one {
			rest = append(rest, x)
		}
	}
	return rest
}

func (s *site) backUp(dest string) {
	s.t.Helper()
	if code, out := s.code("backup", "--config", s.path("cmmpd.toml"), dest); code != 0 {
		s.t.Fatalf("backup: %d %s", code, out)
	}
}

// house runs f on the store of a platform that does not run. Nothing deleted can be brought back in it.
func (s *site) house(f func(context.Context, *storage.Store) error) {
	s.t.Helper()
	ks, err := keys.OpenFile(s.path("keys", "keystore"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer ks.Close()
	st, err := storage.Open(context.Background(), storage.Options{Dir: s.path("store"), Keys: ks, Recover: -1, HouseRate: -1, HouseEvery: -1})
	if err != nil {
		s.t.Fatal(err)
	}
	if err := f(context.Background(), st); err != nil {
		s.t.Error(err)
	}
	r, err := st.Check(context.Background(), true)
	if err != nil || len(r.Problems) > 0 {
		s.t.Errorf("%v, %+v", err, r)
	}
	if err := st.Close(); err != nil {
		s.t.Error(err)
	}
}

// account is the ID of a person's account.
func (s *site) account(uid string) mail.AccountID {
	s.t.Helper()
	for entry := range strings.SplitSeq(s.must("", program, "directory", "export", "--config", s.path("cmmpd.toml")), "\n\n") {
		if strings.Contains(entry, "\nuid: "+uid+"\n") {
			if _, id, ok := strings.Cut(entry, "\nentryUUID: "); ok {
				id, _, _ = strings.Cut(id, "\n")
				return mail.AccountID(id)
			}
		}
	}
	s.t.Fatalf("the directory has no %s", uid)
	return ""
}

// oldMail restores the mail from before a disposal with the vault from after it: the neighbours come back, what was disposed of does not.
func (s *site) oldMail(dest [2]string, m *secrets) {
	s.t.Helper()
	mails, err := filepath.Glob(filepath.Join(dest[0], "mail-*"))
	if err != nil || len(mails) != 1 {
		s.t.Fatal(mails, err)
	}
	vaults, err := filepath.Glob(filepath.Join(dest[1], "vault-*"))
	if err != nil || len(vaults) != 1 {
		s.t.Fatal(vaults, err)
	}
	moved := &site{t: s.t, dir: filepath.Join(s.t.TempDir(), "new"), base: s.base}
	if err := os.CopyFS(moved.path("keys"), os.DirFS(s.path("keys"))); err != nil {
		s.t.Fatal(err)
	}
	private(s.t, moved.path("keys"))
	code, out := s.code("restore", "--config", moved.path("cmmpd.toml"), "--keystore", moved.path("keys", "keystore"), "--vault", vaults[0], mails[0])
	if code != 0 {
		s.t.Fatalf("restore: %d %s", code, out)
	}
	f := steal(s.t, moved.path("store"), moved.path("store"))
	f.finds(f.try(f.fileKey(moved.path("keys", "keystore", "mail", "platform.pem"))), without(without(m.all(), m.disposed), m.term), m.disposed)
	moved.house(func(ctx context.Context, st *storage.Store) error {
		a, err := st.OpenAccount(ctx, s.account("alice"))
		if err != nil {
			return err
		}
		defer a.Close()
		box, err := a.Open(ctx, "INBOX")
		if err != nil {
			return err
		}
		defer box.Close()
		uids, _, _ := box.UIDs()
		var all bytes.Buffer
		for _, uid := range uids {
			sum, err := box.Summary(ctx, uid)
			if err != nil {
				return err
			}
			all.Write(sum.Header)
		}
		if len(uids) != 262 || !holds(all.Bytes(), m.neighbour) || holds(all.Bytes(), m.disposed) {
			s.t.Errorf("%d messages were restored; the neighbour %v, what was disposed of %v", len(uids), holds(all.Bytes(), m.neighbour), holds(all.Bytes(), m.disposed))
		}
		return nil
	})
}
