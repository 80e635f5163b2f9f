package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"

	"cmmpd/internal/testkit"
)

// inboxIDs lists the X-Bench-Id of every message in a bench user's INBOX, and how often each is there.
func (s *site) inboxIDs(user string) (map[string]int, error) {
	c, err := imapclient.DialTLS(fmt.Sprintf("127.0.0.1:%d", s.base+993), &imapclient.Options{TLSConfig: s.clientTLS()})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.Login(user, "benchpass").Wait(); err != nil {
		return nil, err
	}
	box, err := c.Select("INBOX", nil).Wait()
	if err != nil || box.NumMessages == 0 {
		return nil, err
	}
	section := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}, &imap.FetchOptions{BodySection: []*imap.FetchItemBodySection{section}}).Collect()
	if err != nil {
		return nil, err
	}
	ids := make(map[string]int)
	for _, m := range msgs {
		body := m.FindBodySection(section)
		_, rest, ok := bytes.Cut(body, []byte("X-Bench-Id: "))
		id, text, _ := bytes.Cut(rest, []byte("\r\n"))
		if !ok || bytes.Count(text, []byte("some text of a message\r\n")) != 150 {
			return nil, errors.New("a message is not whole")
		}
		ids[string(id)]++
	}
	return ids, c.Logout().Wait()
}

// load is mail that is sent over several connections until it is stopped.
type load struct {
	stop  chan struct{}
	wg    sync.WaitGroup
	mu    sync.Mutex
	acked map[string]int // identifier to user
}

const loadUsers = 5

// startLoad sends to bench0 … bench4.
func (s *site) startLoad() *load {
	l := &load{stop: make(chan struct{}), acked: make(map[string]int)}
	conf := s.clientTLS()
	for conn := range 4 {
		l.wg.Go(func() {
			c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), conf)
			if err != nil {
				s.t.Error(err)
				return
			}
			defer c.Close()
			for i := 0; ; i++ {
				select {
				case <-l.stop:
					return
				default:
				}
				user, id := (conn+i)%loadUsers, fmt.Sprintf("c%d-%d", conn, i)
				msg := fmt.Sprintf("From: sender@example.org\r\nTo: bench%d@bench.test\r\nSubject: load\r\nX-Bench-Id: %s\r\n\r\n%s\r\n", user, id, strings.Repeat("some text of a message\r\n", 150))
				if err := c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(msg)); err != nil {
					s.t.Error(err)
					return
				}
				l.mu.Lock()
				l.acked[id] = user
				l.mu.Unlock()
			}
		})
	}
	return l
}

// soFar is what has been acknowledged.
func (l *load) soFar() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	m := make(map[string]int, len(l.acked))
	for id, user := range l.acked {
		m[id] = user
	}
	return m
}

// TestBackup takes a backup under load, restores it into an empty folder, with the configuration and without, and finds
// every message that was acknowledged before the backup began.
func TestBackup(t *testing.T) {
	s := newSite(t, "--bench-users", fmt.Sprint(loadUsers))
	l := s.startLoad()
	s.eventually("some mail is acknowledged", func() bool { return len(l.soFar()) > 300 })
	before := l.soFar()
	dest := filepath.Join(t.TempDir(), "backups")
	if code, out := s.code("backup", "--config", s.path("cmmpd.toml"), dest); code != 0 || strings.Count(out, "verified") != 2 {
		t.Fatalf("backup: %d %s", code, out)
	}
	during := len(l.soFar()) - len(before)
	close(l.stop)
	l.wg.Wait()
	t.Logf("%d acknowledged before the backup, %d while it was taken", len(before), during)
	if during == 0 {
		t.Error("nothing was acknowledged while the backup was taken")
	}
	files, err := filepath.Glob(dest + "/*")
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || bytes.Contains(b, []byte("bench")) || bytes.Contains(b, []byte("some text")) {
			t.Errorf("%s: %v, or it holds clear text", f, err)
		}
	}
	s.stop(syscall.SIGTERM)

	if code, out := s.code("restore", "--config", s.path("cmmpd.toml"), dest); code != 1 || !strings.Contains(out, "overwrites nothing") {
		t.Errorf("restore over what is there: %d %s", code, out)
	}
	// A new machine: nothing but the keys.
	moved := &site{t: t, dir: filepath.Join(t.TempDir(), "new"), base: s.base}
	moved.command = []string{"serve", "--config", moved.path("cmmpd.toml")}
	if err := os.CopyFS(moved.path("keys"), os.DirFS(s.path("keys"))); err != nil {
		t.Fatal(err)
	}
	private(t, moved.path("keys"))
	if code, out := s.code("restore", "--config", moved.path("cmmpd.toml"), dest); code != 2 || !strings.Contains(out, "--keystore") {
		t.Errorf("restore without a keystore: %d %s", code, out)
	}
	if code, out := s.code("restore", "--config", moved.path("cmmpd.toml"), "--keystore", moved.path("keys", "keystore"), dest); code != 0 {
		t.Fatalf("restore: %d %s", code, out)
	}
	if code, out := s.code("check", "--deep", "--config", moved.path("cmmpd.toml")); code != 0 {
		t.Errorf("check --deep: %d %s", code, out)
	}
	moved.serveIt()
	moved.finds(before)
	moved.stop(syscall.SIGTERM)
	if code, out := s.code("audit", "verify", "--key", s.path("audit", "audit.pub"), moved.path("audit")); code != 0 {
		t.Errorf("audit verify: %d %s", code, out)
	}
	if log := s.must("", program, "audit", "export", "--config", moved.path("cmmpd.toml")); !strings.Contains(log, `"type":"store.restore"`) || !strings.Contains(log, `"type":"store.backup"`) {
		t.Error("the audit log does not know of the backup and the restore")
	}

	// The mail alone was lost: configuration and audit log stay.
	for _, lost := range []string{"store", "directory.db"} {
		if err := os.RemoveAll(moved.path(lost)); err != nil {
			t.Fatal(err)
		}
	}
	if code, out := s.code("restore", "--config", moved.path("cmmpd.toml"), dest); code != 0 || !strings.Contains(out, "stays") {
		t.Fatalf("restore of the mail alone: %d %s", code, out)
	}
	moved.serveIt()
	moved.finds(before)

	damaged := files[0] // the mail
	b, err := os.ReadFile(damaged)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(damaged, b, 0o600); err != nil {
		t.Fatal(err)
	}
	third := filepath.Join(t.TempDir(), "third")
	if err := os.CopyFS(filepath.Join(third, "keys"), os.DirFS(s.path("keys"))); err != nil {
		t.Fatal(err)
	}
	private(t, filepath.Join(third, "keys"))
	if code, out := s.code("restore", "--config", filepath.Join(third, "cmmpd.toml"), "--keystore", filepath.Join(third, "keys", "keystore"), dest); code != 1 || !strings.Contains(out, "damaged") {
		t.Errorf("restore of a damaged backup: %d %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(third, "cmmpd.toml")); err == nil {
		t.Error("a damaged backup was put in place")
	}
}

// finds looks for messages in the bench users' INBOXes.
func (s *site) finds(want map[string]int) {
	s.t.Helper()
	missing := 0
	for user := range loadUsers {
		ids, err := s.inboxIDs(fmt.Sprintf("bench%d", user))
		if err != nil {
			s.t.Fatal(err)
		}
		for id, u := range want {
			if u == user && ids[id] != 1 {
				missing++
			}
		}
	}
	if missing > 0 {
		s.t.Errorf("%d of %d messages are not there exactly once", missing, len(want))
	}
}

// private closes a copied folder to others.
func private(t testing.TB, dir string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRestoreOne deletes messages and brings them back from a backup, one alone and then the rest, beside the daemon.
func TestRestoreOne(t *testing.T) {
	testkit.Need(t, "curl")
	s := newSite(t)
	config := s.path("cmmpd.toml")
	for _, text := range []string{"one", "two", "three"} {
		mail := strings.Replace(mailOf("alice@works.gov.example", "bob@works.gov.example", "Number "+text, "the text of "+text), "Message-ID: <", "Message-ID: <"+text+".", 1)
		if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mail); err != nil {
			t.Fatal(err, out)
		}
	}
	_, rest, _ := strings.Cut(s.last("bob", "INBOX"), "Message-ID: <")
	three, _, _ := strings.Cut(rest, ">")
	if !strings.HasPrefix(three, "three.") {
		t.Fatalf("the last message has the identifier %q", three)
	}
	dest := filepath.Join(t.TempDir(), "backups")
	s.must("", program, "backup", "--config", config, dest)
	curl := func(command string) string {
		t.Helper()
		return s.must("", "curl", "-sS", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "-X", command, "imaps://"+s.addr(993)+"/INBOX")
	}
	curl(`STORE 2:3 +FLAGS.SILENT (\Deleted)`)
	curl("EXPUNGE")
	count := func(want string) {
		t.Helper()
		if got := curl("SEARCH ALL"); !strings.Contains(got, want) || strings.Count(got, " ") != strings.Count(want, " ") {
			t.Errorf("bob's INBOX: %q, want %q", got, want)
		}
	}
	count("* SEARCH 1\r\n")
	admin := []string{"--user", "admin", "--password-file", s.path("people", "admin", "password")}
	restore := func(args ...string) (string, error) {
		return s.run("", program, append(append([]string{"restore", "--config", config}, args...), dest)...)
	}
	if out, err := restore("--account", "bob"); err == nil {
		t.Error("messages were restored without a log-in:", out)
	}
	if out, err := restore(append(admin, "--account", "bob", "--message-id", "<"+three+">")...); err != nil || out != "restored 1, still there 0, erased since 0\n" {
		t.Fatalf("one message: %q %v", out, err)
	}
	count("* SEARCH 1 2\r\n")
	if got := s.last("bob", "INBOX"); !strings.Contains(got, "the text of three") {
		t.Errorf("restored is %q", got)
	}
	if out, err := restore(append(admin, "--account", "bob", "--mailbox", "INBOX")...); err != nil || !strings.HasPrefix(out, "restored 1, still there 2") {
		t.Errorf("the account: %q %v", out, err)
	}
	if out, err := restore(append(admin, "--account", "bob", "--message-id", "nobody@sent.this")...); err == nil {
		t.Errorf("a message that is not in the backup: %q", out)
	}
	if c := s.counts(); len(c.Problems) > 0 {
		t.Error(c.Problems)
	}
	if log := s.must("", program, "audit", "export", "--config", config); !strings.Contains(log, `"subject":"bob"`) {
		t.Error("the audit log does not know of it")
	}
	if left, err := filepath.Glob(s.path("restore-*")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}
