//go:build e2e

package interop

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-message"
	_ "github.com/emersion/go-message/charset" // for encoded words
)

func (c *client) curl() {
	curl := func(in string, args ...string) string {
		return c.must(in, "curl", append([]string{"-sS", "--ssl-reqd", "--cacert", c.path("pki", "ca.pem"), "-u", c.uid + ":" + c.password(c.uid)}, args...)...)
	}
	imaps, starttls := "imaps://"+c.addr(993)+"/", "imap://"+c.addr(143)+"/"
	word := c.arrives()
	for _, url := range []string{imaps, starttls} {
		out := curl("", url)
		for _, name := range []string{"INBOX", `\Drafts`, `\Sent`, `\Junk`, `\Trash`, `\Archive`} {
			if !strings.Contains(out, name) {
				c.t.Fatalf("the list lacks %s:\n%s", name, out)
			}
		}
	}
	c.can(login, list)
	if got := curl("", imaps+"INBOX;MAILINDEX=*"); !strings.Contains(got, "一起食飯 "+word) {
		c.t.Fatalf("it fetches\n%s", got)
	}
	c.can(fetch, chineseSubject)
	curl("", imaps, "-X", `CREATE "`+folderUTF7+`"`)
	kept := "kept" + word
	mail := c.write(filepath.Join(c.work, "kept"), "From: "+addressOf(c.uid)+"\r\nSubject: Kept\r\n\r\n"+kept+"\r\n")
	curl("", "-T", mail, imaps+strings.NewReplacer("&", "%26", ",", "%2C").Replace(folderUTF7))
	c.one(c.uid, folder, kept)
	c.can(appended, chineseFolder)
	curl("", imaps+"INBOX", "-X", `STORE * +FLAGS (\Flagged)`)
	c.flagged(c.uid, "INBOX", word, imap.FlagFlagged)
	c.can(flag)
	curl("", imaps+"INBOX", "-X", `MOVE * Archive`)
	c.one(c.uid, "Archive", word)
	c.gone(c.uid, "INBOX", word)
	c.can(move)
	for i, url := range []string{"smtps://" + c.addr(465), "smtp://" + c.addr(587)} {
		sent := fmt.Sprintf("sent%d%s", i, word)
		curl("From: "+addressOf(c.uid)+"\nTo: "+addressOf("alice")+"\nSubject: Hello\n\n"+sent+"\n",
			"--mail-from", addressOf(c.uid), "--mail-rcpt", addressOf("alice"), "--crlf", "-T", "-", url)
		c.one("alice", "INBOX", sent)
	}
	c.can(send)
	c.note("a folder's name is given as it is on the wire, in modified UTF-7")
}

func (c *client) python() {
	word := c.arrives()
	out := c.must("", "python3", "testdata/python.py", c.dir, fmt.Sprint(c.base), c.uid, addressOf(c.uid), word, folderUTF7)
	for line := range strings.Lines(out) {
		c.can(strings.TrimSpace(line))
	}
	c.one(c.uid, folder, word)
	c.gone(c.uid, "INBOX", word)
	c.flagged(c.uid, folder, word, imap.FlagFlagged)
	c.one("alice", "INBOX", "sent"+word)
	c.note("imaplib does not encode folder names: the caller does")
}

func (c *client) swaks() {
	word := c.arrives()
	for i, args := range [][]string{
		{"--port", fmt.Sprint(c.base + 465), "--tls-on-connect"},
		{"--port", fmt.Sprint(c.base + 587), "--tls"},
		{"--port", fmt.Sprint(c.base + 587), "--tls", "--auth", "LOGIN"},
	} {
		body := fmt.Sprintf("一起食飯 swaks%d%s", i, word)
		c.must("", "swaks", append([]string{
			"--server", "localhost", "--tls-verify", "--tls-ca-path", c.path("pki", "ca.pem"),
			"--auth-user", c.uid, "--auth-password", c.password(c.uid), "--from", addressOf(c.uid), "--to", addressOf("bob"),
			"--header", "Subject: =?utf-8?B?5Y2I6aOv?=", "--add-header", "MIME-Version: 1.0", "--add-header", "Content-Type: text/plain; charset=utf-8", "--body", body,
		}, args...)...)
		c.one("bob", "INBOX", body)
	}
	c.can(login, send, chineseSubject)
}

func (c *client) mbsync() {
	conf := c.write(filepath.Join(c.work, "rc"), fmt.Sprintf(`IMAPAccount a
Host localhost
Port %d
User %s
Pass %s
SSLType IMAPS
CertificateFile %s

IMAPStore far
Account a

MaildirStore near
SubFolders Verbatim
Path %s/m/
Inbox %s/m/INBOX

Channel c
Far :far:
Near :near:
Patterns *
Create Both
Expunge Both
SyncState *
`, c.base+993, c.uid, c.password(c.uid), c.path("pki", "ca.pem"), c.work, c.work))
	if err := os.MkdirAll(filepath.Join(c.work, "m"), 0o700); err != nil {
		c.t.Fatal(err)
	}
	c.maildir(func() { c.must("", "mbsync", "-c", conf, "-a") }, filepath.Join(c.work, "m"), folderUTF7)
	c.note("folder names stay in modified UTF-7 on disk")
}

func (c *client) offlineimap() {
	conf := c.write(filepath.Join(c.work, "rc"), fmt.Sprintf(`[general]
accounts = a
metadata = %s/meta
ui = quiet
[Account a]
localrepository = near
remoterepository = far
utf8foldernames = yes
[Repository near]
type = Maildir
localfolders = %s/m
sep = /
[Repository far]
type = IMAP
remotehost = localhost
remoteport = %d
ssl = yes
sslcacertfile = %s
remoteuser = %s
remotepass = %s
`, c.work, c.work, c.base+993, c.path("pki", "ca.pem"), c.uid, c.password(c.uid)))
	c.maildir(func() { c.must("", "offlineimap", "-o", "-c", conf) }, filepath.Join(c.work, "m"), folder)
}

// maildir has a program synchronise both ways between the server and the Maildir folders under dir.
func (c *client) maildir(sync func(), dir, chinese string) {
	word := c.arrives()
	sync()
	c.can(login)
	for _, name := range []string{"INBOX", "Drafts", "Sent", "Junk", "Trash", "Archive"} {
		if _, err := os.Stat(filepath.Join(dir, name, "cur")); err != nil {
			c.t.Fatal(err)
		}
	}
	c.can(list)
	near := c.local(dir, "INBOX", word)
	if text, err := os.ReadFile(near); err != nil || !bytes.Contains(text, []byte("一起食飯 "+word)) {
		c.t.Fatalf("%v, it has\n%s", err, text)
	}
	c.can(fetch, chineseSubject)

	kept := "kept" + rand.Text()[:10]
	for _, name := range []string{filepath.Dir(chinese), chinese} {
		for _, sub := range []string{"new", "cur", "tmp"} {
			if err := os.MkdirAll(filepath.Join(dir, name, sub), 0o700); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	c.write(filepath.Join(dir, chinese, "new", "1.host"), "From: "+addressOf(c.uid)+"\nSubject: Kept\nMessage-ID: <"+kept+"@health.gov.example>\n\n"+kept+"\n")
	base, _, _ := strings.Cut(filepath.Base(near), ":")
	flagged := filepath.Join(dir, "INBOX", "cur", base+":2,FS")
	if err := os.Rename(near, flagged); err != nil {
		c.t.Fatal(err)
	}
	sync()
	c.one(c.uid, folder, kept)
	c.can(appended, chineseFolder)
	c.flagged(c.uid, "INBOX", word, imap.FlagFlagged)
	c.flagged(c.uid, "INBOX", word, imap.FlagSeen)
	c.can(flag)

	if err := os.Rename(flagged, filepath.Join(dir, "Archive", "cur", "2.host:2,FS")); err != nil {
		c.t.Fatal(err)
	}
	sync()
	c.one(c.uid, "Archive", word)
	c.gone(c.uid, "INBOX", word)
	c.flagged(c.uid, "Archive", word, imap.FlagFlagged)
	c.can(move)

	// The other way: what happens at the server is seen here.
	far := c.imap(c.uid)
	defer far.Close()
	if _, err := far.Select("Archive", nil).Wait(); err != nil {
		c.t.Fatal(err)
	}
	if _, err := far.Move(imap.SeqSet{imap.SeqRange{Start: 1, Stop: 0}}, folder).Wait(); err != nil {
		c.t.Fatal(err)
	}
	sync()
	c.local(dir, chinese, word)
	if names := c.locals(dir, "Archive", word); len(names) != 0 {
		c.t.Fatalf("still there: %v", names)
	}
	before := c.tree(dir)
	sync()
	if after := c.tree(dir); !slices.Equal(before, after) {
		c.t.Errorf("another round changes\n%q to\n%q", before, after)
	}
}

// locals are the files of a Maildir folder that hold the word.
func (c *client) locals(dir, name, word string) []string {
	c.t.Helper()
	var found []string
	for _, sub := range []string{"new", "cur"} {
		files, err := filepath.Glob(filepath.Join(dir, name, sub, "*"))
		if err != nil {
			c.t.Fatal(err)
		}
		for _, f := range files {
			if b, err := os.ReadFile(f); err == nil && bytes.Contains(b, []byte(word)) {
				found = append(found, f)
			}
		}
	}
	return found
}

func (c *client) local(dir, name, word string) string {
	c.t.Helper()
	found := c.locals(dir, name, word)
	if len(found) != 1 {
		c.t.Fatalf("%s has %q with %s", name, found, word)
	}
	return found[0]
}

// tree lists the mails.
func (c *client) tree(dir string) []string {
	var all []string
	for _, sub := range []string{"new", "cur"} {
		for _, depth := range []string{"*", "*/*"} {
			files, _ := filepath.Glob(filepath.Join(dir, depth, sub, "*"))
			all = append(all, files...)
		}
	}
	return all
}

func (c *client) neomutt() {
	word := c.arrives()
	boxes := fmt.Sprintf("imaps://%s@%s/", c.uid, c.addr(993))
	rc := c.write(filepath.Join(c.work, "rc"), fmt.Sprintf(`set imap_user = %q
set imap_pass = %q
set smtp_url = "smtps://%s@%s"
set smtp_pass = %q
set smtp_authenticators = "plain"
set ssl_ca_certificates_file = %q
set folder = %q
set spoolfile = "+INBOX"
set record = "+Sent"
set from = %q
set realname = "Grace"
set charset = "utf-8"
set send_charset = "utf-8"
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set move = no
set wait_key = no
set pipe_decode = yes
set editor = true
set abort_unmodified = no
set autoedit = yes
set edit_headers = yes
`, c.uid, c.password(c.uid), c.uid, c.addr(465), c.password(c.uid), c.path("pki", "ca.pem"), boxes, addressOf(c.uid)))
	home := []string{"HOME=" + c.work}
	mutt := func(push string) {
		c.pty(home, fmt.Sprintf(`neomutt -n -F %s -e 'push "%s"'`, rc, push))
	}
	// Send without a screen; then from the composer, which puts a copy into Sent.
	sent := "sent" + word
	cmd := exec.Command("neomutt", "-n", "-F", rc, "-e", "set copy = no", "-s", "回覆 "+sent, addressOf("alice"))
	cmd.Env = append(append(os.Environ(), "LC_ALL=C.UTF-8"), home...)
	cmd.Stdin = strings.NewReader("好的 " + sent + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%v\n%s", err, out)
	}
	c.one("alice", "INBOX", "好的 "+sent)
	composed := "composed" + word
	body := c.write(filepath.Join(c.work, "body"), "好的 "+composed+"\n")
	c.pty(home, fmt.Sprintf(`neomutt -n -F %s -e 'send2-hook . "push <send-message>"' -i %s -s '回覆' %s`, rc, body, addressOf("alice")))
	c.one("alice", "INBOX", "好的 "+composed)
	c.one(c.uid, "Sent", "好的 "+composed)
	c.can(login, send, appended)

	// Read, flag, then move, at the screen.
	mutt("<limit>~s " + word + "<enter><pipe-message>cat > read.txt<enter><flag-message><sync-mailbox><exit>")
	if text, err := os.ReadFile(filepath.Join(c.work, "read.txt")); err != nil || !strings.Contains(string(text), "Subject: 午飯 "+word) || !strings.Contains(string(text), "一起食飯 "+word) {
		c.t.Fatalf("%v: it reads\n%s", err, text)
	}
	c.can(fetch, chineseSubject)
	c.flagged(c.uid, "INBOX", word, imap.FlagFlagged)
	c.can(flag)
	mutt("<create-mailbox>" + folder + "<enter><exit>")
	mutt("<limit>~s " + word + "<enter><save-message>=" + folder + "<enter><sync-mailbox><exit>")
	c.one(c.uid, folder, word)
	c.gone(c.uid, "INBOX", word)
	c.can(move, chineseFolder, list)
}

func (c *client) imapclient() {
	word := c.arrives()
	start, err := imapclient.DialStartTLS(c.addr(143), &imapclient.Options{TLSConfig: c.tls()})
	if err != nil {
		c.t.Fatal(err)
	}
	defer start.Close()
	must := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	must(start.Login(c.uid, c.password(c.uid)).Wait())
	must(start.Logout().Wait())
	m := c.imap(c.uid)
	defer m.Close()
	c.can(login)
	boxes, err := m.List("", "*", nil).Collect()
	must(err)
	if len(boxes) < 6 {
		c.t.Fatalf("it lists %v", boxes)
	}
	c.can(list)
	_, err = m.Select("INBOX", nil).Wait()
	must(err)
	found, err := m.UIDSearch(&imap.SearchCriteria{Text: []string{"一起食飯 " + word}}, nil).Wait()
	must(err)
	uids := found.AllUIDs()
	if len(uids) != 1 {
		c.t.Fatalf("the search finds %v", uids)
	}
	set := imap.UIDSetNum(uids...)
	msgs, err := m.Fetch(set, &imap.FetchOptions{Envelope: true, Flags: true, InternalDate: true, RFC822Size: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, BodySection: []*imap.FetchItemBodySection{{}}}).Collect()
	must(err)
	if len(msgs) != 1 || !strings.Contains(msgs[0].Envelope.Subject, "午飯 "+word) || msgs[0].BodyStructure.MediaType() != "text/plain" {
		c.t.Fatalf("it fetches %+v", msgs)
	}
	e, err := message.Read(bytes.NewReader(msgs[0].FindBodySection(&imap.FetchItemBodySection{})))
	must(err)
	if got, err := io.ReadAll(e.Body); err != nil || !bytes.Contains(got, []byte("一起食飯 "+word)) {
		c.t.Fatalf("%v: it reads %s", err, got)
	}
	c.can(fetch, chineseSubject)
	must(m.Create(folder, nil).Wait())
	kept := "From: " + addressOf(c.uid) + "\r\nSubject: Kept\r\n\r\nkept" + word + "\r\n"
	a := m.Append(folder, int64(len(kept)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen, "$Work"}})
	_, err = a.Write([]byte(kept))
	must(err)
	must(a.Close())
	data, err := a.Wait()
	must(err)
	if data.UID == 0 || data.UIDValidity == 0 {
		c.t.Errorf("APPENDUID says %+v", data)
	}
	c.one(c.uid, folder, "kept"+word)
	c.can(appended, chineseFolder)
	must(m.Store(set, &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}, Silent: true}, nil).Close())
	c.flagged(c.uid, "INBOX", word, imap.FlagFlagged)
	c.can(flag)
	moved, err := m.Move(set, folder).Wait()
	must(err)
	if len(moved.SourceUIDs.(imap.UIDSet)) == 0 || len(moved.DestUIDs.(imap.UIDSet)) == 0 {
		c.t.Errorf("COPYUID says %+v", moved)
	}
	c.one(c.uid, folder, "一起食飯 "+word)
	c.gone(c.uid, "INBOX", word)
	c.can(move)
	must(m.Logout().Wait())
}

func (c *client) thunderbird() {
	shots := os.Getenv("CMMPD_SCREENSHOTS") // a folder to keep them in
	if shots == "" {
		shots = c.work
	}
	out := c.must("", "python3", "testdata/thunderbird.py", c.dir, fmt.Sprint(c.base), shots)
	for line := range strings.Lines(out) {
		task, what, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if slices.Contains(columns, task) {
			c.can(task)
		}
		if note, ok := strings.CutPrefix(what, "yes: "); ok || !slices.Contains(columns, task) {
			c.note("%s: %s", task, note)
		}
	}
}
