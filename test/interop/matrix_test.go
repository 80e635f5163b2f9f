//go:build e2e

package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"mime"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/testkit"
)

// The tasks of a mail program, in the order of the columns.
const (
	login          = "log-in over TLS"
	list           = "list"
	fetch          = "fetch"
	appended       = "append"
	flag           = "flag"
	move           = "move"
	send           = "send"
	chineseFolder  = "Chinese folder"
	chineseSubject = "Chinese subject"
)

var columns = []string{login, list, fetch, appended, flag, move, send, chineseFolder, chineseSubject}

const (
	folder     = "二〇二六/預算" // and what stands for it on the wire:
	folderUTF7 = "&TowwB06MUW0-/&mBB7lw-"
)

// client is a mail program at work for one person.
type client struct {
	*site
	name, uid string
	work      string            // a folder of its own
	version   string            // what it says of itself
	cells     map[string]string // task to what came of it
	notes     []string          // what departs
}

// can notes that a task went well.
func (c *client) can(tasks ...string) {
	for _, t := range tasks {
		c.cells[t] = "yes"
	}
}

func (c *client) note(format string, args ...any) {
	c.notes = append(c.notes, fmt.Sprintf(format, args...))
}

// arrives delivers a mail with a Chinese subject and text and returns the word by which to know it.
func (c *client) arrives() string {
	c.t.Helper()
	word := rand.Text()[:10]
	c.deliver(addressOf(c.uid), "From: Alice <"+addressOf("alice")+">\r\nTo: "+addressOf(c.uid)+"\r\nSubject: "+mime.BEncoding.Encode("utf-8", "午飯")+" "+word+
		"\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n一起食飯 "+word+"\r\n")
	return word
}

// TestMatrix has each program do what it can do, and writes the matrix to $CMMPD_INTEROP_DOC.
func TestMatrix(t *testing.T) {
	s := newSite(t)
	var all []*client
	for _, p := range []struct {
		name, uid string
		needs     []string
		version   []string
		run       func(*client)
	}{
		{"curl", "dave", []string{"curl"}, []string{"curl", "--version"}, (*client).curl},
		{"Python imaplib, smtplib", "erin", []string{"python3"}, []string{"python3", "--version"}, (*client).python},
		{"swaks", "alice", []string{"swaks"}, []string{"swaks", "--version"}, (*client).swaks},
		{"mbsync", "frank", []string{"mbsync"}, []string{"mbsync", "--version"}, (*client).mbsync},
		{"OfflineIMAP 3", "carol", []string{"offlineimap"}, []string{"dpkg-query", "-W", "-f", "${Version}", "offlineimap3"}, (*client).offlineimap},
		{"NeoMutt", "grace", []string{"neomutt", "script"}, []string{"neomutt", "-v"}, (*client).neomutt},
		{"go-imap's imapclient", "henry", nil, []string{"go", "list", "-m", "-f", "{{.Version}}", "github.com/emersion/go-imap/v2"}, (*client).imapclient},
		{"Thunderbird", "bob", []string{"thunderbird", "certutil", "pk12util", "python3", "openssl"}, []string{"thunderbird", "--version"}, (*client).thunderbird},
	} {
		t.Run(p.name, func(t *testing.T) {
			for _, n := range p.needs {
				testkit.Need(t, n)
			}
			own := *s
			own.t = t
			c := &client{site: &own, name: p.name, uid: p.uid, work: t.TempDir(), cells: make(map[string]string)}
			c.version = versionIn(c.must("", p.version[0], p.version[1:]...))
			p.run(c)
			all = append(all, c)
		})
	}
	var tables string
	t.Run("profiles", func(t *testing.T) { tables = profileTables(t) })
	if name := os.Getenv("CMMPD_INTEROP_DOC"); name != "" && !t.Failed() {
		if err := os.WriteFile(name, document(all, tables), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

var version = regexp.MustCompile(`v?[0-9]+\.?[0-9.]*[^\s]*`)

// versionIn finds the version in a program's words.
func versionIn(words string) string { return version.FindString(words) }

// document is docs/interop.md.
func document(all []*client, tables string) []byte {
	var b bytes.Buffer
	intro, err := os.ReadFile(filepath.Join("testdata", "interop.md"))
	if err != nil {
		panic(err)
	}
	b.Write(intro)
	fmt.Fprintf(&b, "| client | version | %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat(" --- |", len(columns)+2))
	for _, c := range all {
		fmt.Fprintf(&b, "| %s | %s |", c.name, c.version)
		for _, col := range columns {
			cell := c.cells[col]
			if cell == "" {
				cell = "–"
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	b.WriteString("\nWhat else they showed, and what departs:\n\n")
	for _, c := range all {
		for _, n := range c.notes {
			fmt.Fprintf(&b, "- %s: %s.\n", c.name, n)
		}
	}
	outro, err := os.ReadFile(filepath.Join("testdata", "profiles.md"))
	if err != nil {
		panic(err)
	}
	b.Write(outro)
	b.WriteString(tables)
	return b.Bytes()
}

// pty runs a full-screen program on a terminal of its own.
func (c *client) pty(env []string, command string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "script", "-qefc", command, filepath.Join(c.work, "screen"))
	cmd.WaitDelay = time.Second
	cmd.Dir = c.work
	cmd.Env = append(append(os.Environ(), "TERM=xterm", "LC_ALL=C.UTF-8"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.t.Fatalf("%s: %v\n%s", command, err, out)
	}
}
