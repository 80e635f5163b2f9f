package imap

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"

	"cmmpd/internal/testkit"
)

// go-imap's client, through everything that it can do with us.
func TestImapclient(t *testing.T) {
	ts := newServer(t, Limits{})
	news := make(chan uint32, 100)
	c, err := imapclient.DialStartTLS(ts.clear, &imapclient.Options{
		TLSConfig: ts.clientTLS(),
		UnilateralDataHandler: &imapclient.UnilateralDataHandler{
			Mailbox: func(d *imapclient.UnilateralDataMailbox) {
				if d.NumMessages != nil {
					news <- *d.NumMessages
				}
			},
		},
	})
	must(t, err)
	defer c.Close()
	must(t, c.Login("alice", "secret").Wait())
	must(t, c.Create("Akten/陳", nil).Wait())
	boxes, err := c.List("", "Akten*", nil).Collect()
	must(t, err)
	if len(boxes) != 2 || boxes[1].Mailbox != "Akten/陳" {
		t.Errorf("LIST: %+v", boxes)
	}
	msg := strings.ReplaceAll(nested, "\n", "\r\n")
	app := c.Append("Akten/陳", int64(len(msg)), &imap.AppendOptions{Flags: []imap.Flag{imap.FlagSeen}, Time: time.Unix(1_000_000_000, 0)})
	_, err = app.Write([]byte(msg))
	must(t, err)
	must(t, app.Close())
	placed, err := app.Wait()
	must(t, err)
	if placed.UID != 1 {
		t.Errorf("APPENDUID: %+v", placed)
	}
	sel, err := c.Select("Akten/陳", nil).Wait()
	must(t, err)
	if sel.NumMessages != 1 || sel.UIDNext != 2 || sel.UIDValidity != placed.UIDValidity {
		t.Errorf("SELECT: %+v", sel)
	}
	whole := &imap.FetchItemBodySection{Peek: true}
	msgs, err := c.Fetch(imap.UIDSetNum(1), &imap.FetchOptions{
		Envelope: true, BodyStructure: &imap.FetchItemBodyStructure{Extended: true}, Flags: true, InternalDate: true, RFC822Size: true,
		BodySection: []*imap.FetchItemBodySection{whole, {Part: []int{2, 1}, Peek: true}},
	}).Collect()
	must(t, err)
	if len(msgs) != 1 {
		t.Fatalf("FETCH: %d messages", len(msgs))
	}
	m := msgs[0]
	if m.Envelope.Subject != "café" || m.RFC822Size != int64(len(msg)) || m.InternalDate.Unix() != 1_000_000_000 || m.BodyStructure.MediaType() != "multipart/mixed" {
		t.Errorf("FETCH: %+v %+v", m, m.Envelope)
	}
	if got := m.FindBodySection(whole); string(got) != msg {
		t.Errorf("BODY[]: %q", got)
	}
	if got := m.FindBodySection(&imap.FetchItemBodySection{Part: []int{2, 1}, Peek: true}); string(got) != "inner plain" {
		t.Errorf("BODY[2.1]: %q", got)
	}
	found, err := c.UIDSearch(&imap.SearchCriteria{Text: []string{"inner html"}, Not: []imap.SearchCriteria{{Flag: []imap.Flag{imap.FlagDeleted}}}}, nil).Wait()
	must(t, err)
	if got := found.AllUIDs(); len(got) != 1 || got[0] != 1 {
		t.Errorf("SEARCH: %v", got)
	}
	must(t, c.Store(imap.UIDSetNum(1), &imap.StoreFlags{Op: imap.StoreFlagsAdd, Flags: []imap.Flag{imap.FlagFlagged}}, nil).Close())
	copied, err := c.Copy(imap.UIDSetNum(1), "Archive").Wait()
	must(t, err)
	if copied.DestUIDs.String() != "1" {
		t.Errorf("COPYUID: %+v", copied)
	}
	idle, err := c.Idle()
	must(t, err)
	ts.login("alice").append("Akten/&lnM-", "", "Subject: new\n\nx\n")
	for n := range news {
		if n == 2 {
			break
		}
	}
	must(t, idle.Close())
	must(t, idle.Wait())
	moved, err := c.Move(imap.UIDSetNum(1, 2), "INBOX").Wait()
	must(t, err)
	if moved.SourceUIDs.String() != "1:2" {
		t.Errorf("MOVE: %+v", moved)
	}
	st, err := c.Status("INBOX", &imap.StatusOptions{NumMessages: true}).Wait()
	must(t, err)
	if *st.NumMessages != 2 {
		t.Errorf("STATUS: %d", *st.NumMessages)
	}
	must(t, c.Logout().Wait())
}

// caFile writes the server's certificate for a peer.
func (ts *testServer) caFile(dir string) string {
	ts.t.Helper()
	nc, err := tls.Dial("tcp", ts.imaps, ts.clientTLS())
	must(ts.t, err)
	defer nc.Close()
	path := filepath.Join(dir, "ca.pem")
	b := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: nc.ConnectionState().PeerCertificates[0].Raw})
	must(ts.t, os.WriteFile(path, b, 0o600))
	return path
}

func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

const imaplibScript = `
import imaplib, ssl, sys, time
ctx = ssl.create_default_context(cafile=sys.argv[2])
m = imaplib.IMAP4("localhost", int(sys.argv[1]))
assert "LOGINDISABLED" in m.capabilities, m.capabilities
m.starttls(ctx)
m.login("alice", "secret")
assert "IDLE" in m.capabilities or "IDLE" in m.capability()[1][0].decode()
msg = b"From: alice@works.gov.example\r\nSubject: from python\r\n\r\nhello\r\n"
ok, d = m.append("INBOX", r"(\Flagged)", imaplib.Time2Internaldate(time.time()), msg)
assert ok == "OK", d
ok, d = m.select("INBOX")
assert (ok, d) == ("OK", [b"1"]), d
ok, d = m.search(None, "SUBJECT", '"from python"')
assert d == [b"1"], d
ok, d = m.fetch("1", "(FLAGS BODY[])")
assert d[0][1] == msg, d
ok, d = m.store("1", "+FLAGS", r"\Deleted")
assert b"\\Deleted" in d[0], d
ok, d = m.expunge()
assert d == [b"1"], d
ok, d = m.list()
assert ok == "OK" and len(d) == 6, d
m.close(); m.logout()
m = imaplib.IMAP4_SSL("localhost", int(sys.argv[3]), ssl_context=ctx)
m.authenticate("PLAIN", lambda _: b"\0alice\0secret")
m.logout()
`

func TestImaplib(t *testing.T) {
	python := testkit.Need(t, "python3")
	ts := newServer(t, Limits{})
	out, err := exec.Command(python, "-c", imaplibScript, port(ts.clear), ts.caFile(t.TempDir()), port(ts.imaps)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// mbsync copies a mailbox to a Maildir and a new message back.
func TestMbsync(t *testing.T) {
	mbsync := testkit.Need(t, "mbsync")
	ts := newServer(t, Limits{})
	dir := t.TempDir()
	ca := ts.caFile(dir)
	must(t, os.Mkdir(filepath.Join(dir, "mail"), 0o700))
	rc := fmt.Sprintf("IMAPAccount a\nHost localhost\nPort %s\nUser alice\nPass secret\nSSLType IMAPS\nCertificateFile %s\n\n"+
		"IMAPStore far\nAccount a\n\nMaildirStore near\nPath %s/mail/\nInbox %s/mail/INBOX\nSubFolders Verbatim\n\n"+
		"Channel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n", port(ts.imaps), ca, dir, dir)
	must(t, os.WriteFile(filepath.Join(dir, "rc"), []byte(rc), 0o600))
	c := ts.login("alice")
	threeMessages(c)
	sync := func() {
		t.Helper()
		out, err := exec.Command(mbsync, "-c", filepath.Join(dir, "rc"), "c").CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	sync()
	got, err := filepath.Glob(filepath.Join(dir, "mail/INBOX/*/*"))
	must(t, err)
	if len(got) != 3 {
		t.Fatalf("the Maildir holds %q", got)
	}
	must(t, os.WriteFile(filepath.Join(dir, "mail/Drafts/new/1.x"), []byte("Subject: draft\n\nx\n"), 0o600))
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b STORE 2 +FLAGS.SILENT (\Deleted)
		S: b OK …
		C: c CLOSE
		S: c OK …`)
	sync()
	if got, _ = filepath.Glob(filepath.Join(dir, "mail/INBOX/*/*")); len(got) != 2 {
		t.Errorf("the Maildir holds %q", got)
	}
	c.talk(`
		C: d STATUS Drafts (MESSAGES)
		S: * STATUS Drafts (MESSAGES 1)
		S: d OK …`)
}
