package intake

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/emersion/go-imap/v2"

	"cmmpd/internal/mail"
	"cmmpd/internal/testkit"
)

// needle stands in the subject and the text of every message of the table.
const needle = "qzneedleqz"

// verdict is what shall become of a message.
type verdict string

const (
	kept    verdict = "as it is"
	sealed  verdict = "sealed"
	refused verdict = "refused"
	later   verdict = "later"
	waits   verdict = "waits" // accepted, and not sent before there is TLS to a server that proves its name
)

// trial is one case of the table.
type trial struct {
	label mail.Label
	state string // of the one recipient whom the case is about; of what is saved, of the owner
	path  string
	form  string // in clear, or encrypted by the author's client to all whom the message names, who may have a certificate or not
}

// stateNames are the states of a recipient, with what they are.
var stateNames = [][2]string{
	{"rsa", "good, RSA-2048"},
	{"ec", "good, P-256"},
	{"none", "no certificate"},
	{"expired", "expired"},
	{"revoked", "revoked"},
	{"wrong", "of another address"},
	{"signing", "not for encryption"},
	{"weak", "RSA-1024"},
	{"foreign", "an attacker's authority of the same name"},
	{"unknown", "no revocation data"},
}

func states() []string {
	var out []string
	for _, s := range stateNames {
		out = append(out, s[0])
	}
	return out
}

var (
	tableLabels = []mail.Label{"", mail.Unclassified, mail.Restricted, mail.Confidential, mail.Secret, mail.TopSecret}
	tableForms  = []string{"in clear", "encrypted"}
	tablePaths  = []string{"submission", "group", "inbound", "Sent", "Archive", "Drafts", "out of Drafts", "elsewhere, no TLS", "elsewhere, TLS", "report"}
)

// expect is the rule, from the design of the platform and not from what the program does: confidential mail is
// readable by all its recipients and its author or does not exist; the other labels need less; secret is not carried.
func (c trial) expect() verdict {
	saved := slices.Contains([]string{"Sent", "Archive", "Drafts", "out of Drafts"}, c.path)
	byCertificate := func(good verdict) verdict {
		switch c.state {
		case "rsa", "ec":
			return good
		case "unknown":
			return later
		}
		return refused
	}
	v := kept
	switch {
	case c.label == mail.Secret || c.label == mail.TopSecret:
		return refused
	case c.form == "encrypted" && !saved: // everybody must be able to read what somebody can
		v = byCertificate(kept)
	case c.form == "encrypted", c.label != mail.Confidential, c.path == "Drafts":
	default:
		return byCertificate(sealed)
	}
	if v == kept && c.label == mail.Restricted && c.path == "elsewhere, no TLS" {
		return waits
	}
	return v
}

// to is the address that the message is written to.
func (c trial) to() mail.Address {
	at := map[string]string{
		"group": ".team@works.gov.example", "elsewhere, no TLS": "@" + inClearDomain, "elsewhere, TLS": "@" + secureDomain, "report": "@" + rejectDomain,
	}[c.path]
	if at == "" {
		at = "@works.gov.example"
	}
	return mail.MustParseAddress(c.state + at)
}

// elsewhere is the domain to which the message leaves; empty: none.
func (c trial) elsewhere() string {
	if d := c.to().Domain; d != "works.gov.example" {
		return d
	}
	return ""
}

// text is the message. entity is what its author's client has encrypted.
func (c trial) text(n int, entity string) string {
	from := "alice@works.gov.example"
	switch c.path {
	case "inbound":
		from = "sender@example.org"
	case "Sent", "Archive", "Drafts", "out of Drafts":
		from = c.state + "@works.gov.example"
	}
	header := fmt.Sprintf("From: %s\nTo: %s\nCc: carol@health.gov.example\nDate: Mon, 2 Jan 2006 15:04:05 +0800\nMessage-ID: <%d@table.example>\n", from, c.to(), n)
	subject := ""
	if c.label != "" {
		subject = "[" + strings.ToUpper(strings.ReplaceAll(string(c.label), "-", " ")) + "] "
	}
	if c.form == "encrypted" {
		return header + "Subject: " + subject + "...\n" + entity
	}
	return header + "Subject: " + subject + needle + "\n\n" + needle + "\n"
}

// act brings the message in.
func (h *house) act(c trial, text string) error {
	h.t.Helper()
	switch c.path {
	case "inbound":
		_, err := h.receive(c.to().String(), text)
		return err
	case "Sent", "Archive", "Drafts":
		return h.desks[c.state].append(c.path, text)
	case "out of Drafts":
		d := h.desks[c.state]
		if err := d.append("Drafts", text); err != nil {
			return err
		}
		synctest.Wait()
		h.news()
		h.counted()
		h.log.events = nil
		from := h.boxes[c.state]["Drafts"]
		all, _ := from.Snapshot()
		last := imap.UID(all[len(all)-1].UID)
		_, err := h.in.Move(h.t.Context(), d.who, d.acct, from, imap.UIDSet{{Start: last, Stop: last}}, "Archive")
		return err
	}
	_, err := h.submit("alice", c.to().String(), text)
	return err
}

// places are the mailboxes in which the message shall come to lie.
func (c trial) places() []string {
	switch c.path {
	case "submission", "inbound":
		return []string{c.state + "/INBOX"}
	case "group":
		places := []string{"carol/INBOX", c.state + "/INBOX"}
		slices.Sort(places)
		return places
	case "Sent", "Archive", "Drafts":
		return []string{c.state + "/" + c.path}
	case "out of Drafts":
		return []string{c.state + "/Archive"}
	}
	return nil
}

// readers are those who shall be able to open what is sealed.
func (c trial) readers() string {
	r := []string{"alice", c.state}
	switch c.path {
	case "inbound", "Sent", "Archive", "out of Drafts":
		r = []string{c.state}
	case "group":
		r = append(r, "carol")
	case "elsewhere, no TLS", "elsewhere, TLS", "report":
		r = []string{"alice", c.state + ".contact"}
	}
	slices.Sort(r)
	return strings.Join(r, " ")
}

// trial does one case and compares everything that can be seen with the rule.
func (h *house) trial(c trial, n int, entity string) {
	t := h.t
	t.Helper()
	wrong := func(format string, args ...any) {
		t.Helper()
		t.Errorf("%q %s, %s, %s, want %s: %s", c.label, c.state, c.path, c.form, c.expect(), fmt.Sprintf(format, args...))
	}
	want, text := c.expect(), c.text(n, entity)
	h.log.events = nil
	err := h.act(c, text)
	kind, ok := map[verdict]mail.Kind{refused: mail.Refused, later: mail.Unavailable}[want]
	if ok != (err != nil) || ok && mail.KindOf(err) != kind {
		wrong("%v", err)
	}
	if err != nil && strings.Contains(err.Error(), needle) {
		wrong("the refusal repeats the message: %v", err)
	}
	settle()
	if want == waits {
		h.waiting(wrong)
	}
	h.lies(c, text, wrong)
	h.left(c, text, wrong)
	if s := fmt.Sprintf("%+v", h.log.events) + h.logged(c); betrays(s) {
		wrong("on record or in the log: %s", s)
	}
	refusals := 0
	for _, e := range h.log.events {
		if e.Outcome == "refuse" || e.Outcome == "defer" {
			refusals++
		}
	}
	if ok && refusals != 1 {
		wrong("%d refusals on record: %+v", refusals, h.log.events)
	}
}

// logged is what was logged since it was last asked. What another server has to say about mail that it got in clear is
// left out: that may be the mail's own words.
func (h *house) logged(c trial) string {
	lines := strings.Split(h.words.take(), "\n")
	if c.path == "report" && c.form == "in clear" && c.expect() == kept {
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.Contains(l, `msg="queue: bounced"`) })
	}
	return strings.Join(lines, "\n")
}

// waiting checks that a message is in the queue alone, and takes it away.
func (h *house) waiting(wrong func(string, ...any)) {
	h.t.Helper()
	if _, bodies, items := h.counted(); bodies != 1 || items != 1 {
		wrong("%d bodies and %d items more", bodies, items)
	}
	ids, err := h.store.QueueList(h.t.Context(), 0, 10)
	h.must(err)
	for _, id := range ids {
		h.must(h.queue.Remove(h.t.Context(), id))
	}
	h.counts.Bodies, h.counts.Queue = h.counts.Bodies-1, h.counts.Queue-1
	synctest.Wait()
}

// lies compares what came into folders, and the counts of the store.
func (h *house) lies(c trial, text string, wrong func(string, ...any)) {
	h.t.Helper()
	want := c.expect()
	places, bodies := c.places(), 1
	if want == refused || want == later || len(places) == 0 {
		places, bodies = nil, 0
	}
	entries, moved := len(places), 0
	if c.path == "out of Drafts" && len(places) > 0 { // from one folder to another
		entries, bodies, moved = 0, 0, 1
	}
	added, gone := h.news()
	if c.path == "report" && (want == kept || want == sealed) {
		entries, bodies = entries+1, bodies+1
		i := slices.IndexFunc(added, func(f found) bool { return f.where == "alice/INBOX" })
		if i < 0 {
			wrong("alice has no report")
		} else {
			if c.label == mail.Confidential && betrays(added[i].text) || strings.Contains(added[i].text, "\r\n\r\n"+needle) {
				wrong("the report betrays it: %s", added[i].text)
			}
			added = slices.Delete(added, i, i+1)
		}
	}
	if gone != moved {
		wrong("%d messages are gone from folders", gone)
	}
	var where []string
	for _, f := range added {
		where = append(where, f.where)
		h.holds(c, f.text, text, wrong)
	}
	if !slices.Equal(where, places) {
		wrong("it lies in %v, want %v", where, places)
	}
	if e, b, items := h.counted(); e != entries || b != bodies || items != 0 {
		wrong("%d entries, %d bodies, %d queue items more; want %d, %d, 0", e, b, items, entries, bodies)
	}
}

// holds compares one copy with what it should be.
func (h *house) holds(c trial, got, text string, wrong func(string, ...any)) {
	h.t.Helper()
	if c.expect() != sealed {
		body := text[strings.Index(text, "Subject:"):]
		if !strings.HasSuffix(got, string(crlf(body))) {
			wrong("it was changed: %.500q", got)
		}
		return
	}
	if betrays(got) {
		wrong("in clear: %.500q", got)
	}
	all := append(slices.Clone(states()), "alice", "carol", "bob", "erin", "stranger", c.state+".contact")
	if r := h.opens(got, all...); r != c.readers() {
		wrong("it is read by %q, want %q", r, c.readers())
	}
}

// left compares what left for other servers: each message, and every byte on the line.
func (h *house) left(c trial, text string, wrong func(string, ...any)) {
	h.t.Helper()
	want, domain := c.expect(), c.elsewhere()
	n := 0
	if domain != "" && (want == kept || want == sealed) {
		n = 1
	}
	for _, d := range []string{inClearDomain, secureDomain, rejectDomain} {
		got := h.took(d)
		if d == domain && len(got) == n {
			for _, m := range got {
				h.holds(c, m, text, wrong)
			}
		} else if len(got) > 0 || d == domain {
			wrong("%s got %q", d, got)
		}
	}
	open := c.form == "in clear" && want == kept && domain == inClearDomain
	if line := h.wire.take(); betrays(line) != open {
		wrong("on the line in clear: %v: %.2000q", !open, line)
	}
}

// TestTable does every case with everything real behind the door, and looks at every folder, count, line, record and file.
func TestTable(t *testing.T) {
	for _, state := range states() {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			testkit.Bubble(t, func(t *testing.T) { tryState(t, state) })
		})
	}
}

func tryState(t *testing.T, state string) {
	h := newHouse(t, state)
	settle()
	h.news()
	h.counted()
	entity := "Content-Type: text/plain\n\n" + needle + "\n"
	here, elsewhere := h.encrypted(entity, "alice", "carol", state), h.encrypted(entity, "alice", "carol", state+".contact")
	n := 0
	for _, form := range tableForms {
		for _, label := range tableLabels {
			for _, path := range tablePaths {
				c := trial{label, state, path, form}
				secret := here
				if c.elsewhere() != "" {
					secret = elsewhere
				}
				n++
				h.trial(c, n, secret)
			}
		}
	}
	if found, files := scan(t, h.dir); len(found) > 0 || files < 10 {
		t.Errorf("the needle is in %v, of %d files", found, files)
	}
	if indexed, _ := os.ReadDir(h.dir + "/store/search"); len(indexed) == 0 {
		t.Error("nothing was indexed for searching")
	}
	planted := h.dir + "/planted"
	h.must(os.WriteFile(planted, []byte("x"+needle), 0o600))
	if found, _ := scan(t, h.dir); !slices.Equal(found, []string{planted}) {
		t.Errorf("the scan finds %v", found)
	}
	if n != len(tableForms)*len(tableLabels)*len(tablePaths) {
		t.Errorf("%d cases", n)
	}
}

// TestTableDocument compares docs/confidential.md with the rules; CMMPD_WRITE_DOC=1 writes it.
func TestTableDocument(t *testing.T) {
	const path = "../../docs/confidential.md"
	want := tableDocument()
	if os.Getenv("CMMPD_WRITE_DOC") != "" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s is not what the rules say: write it with CMMPD_WRITE_DOC=1 (%v)", path, err)
	}
}

// tableDocument is the table for people. States that end the same way on all paths share a line.
func tableDocument() []byte {
	var b bytes.Buffer
	b.WriteString("# What becomes of a message\n\n" +
		"Written by a test from the rules (`internal/intake/table_test.go`), not by hand. The same test does every case with the real store, queue and\n" +
		"audit log and compares: the answer, every folder of everybody, the counts of the store before and after, who can open what was sealed,\n" +
		"every byte on the line to other servers, every log line and record; and at the end every file.\n\n" +
		"The column is the way on which the message comes; the line is its label and the certificate of the one recipient whom the case is about\n" +
		"(for what is saved, of the mailbox's owner). The others, and the author, have good ones. *As it is*: kept and sent unchanged. *Sealed*: encrypted to\n" +
		"its readers alone. *Refused*: 5xx or NO. *Later*: 451 or NO, for revocation data is missing. *Waits*: queued until there is verified TLS.\n" +
		"*Report*: the message leaves, the other server refuses it, and its author gets a report, which repeats nothing of confidential mail.\n")
	for _, form := range tableForms {
		fmt.Fprintf(&b, "\n## %s\n\n| label | certificate | %s |\n|---|---|%s\n", map[string]string{
			"in clear": "Mail in clear", "encrypted": "Mail that its author's client has encrypted to its recipients and the author",
		}[form], strings.Join(tablePaths, " | "), strings.Repeat("---|", len(tablePaths)))
		for _, label := range tableLabels {
			var lines []string
			names := map[string][]string{}
			for _, s := range stateNames {
				var cells []string
				for _, path := range tablePaths {
					cells = append(cells, string(trial{label, s[0], path, form}.expect()))
				}
				line := strings.Join(cells, " | ")
				if names[line] == nil {
					lines = append(lines, line)
				}
				names[line] = append(names[line], s[1])
			}
			for _, line := range lines {
				who := strings.Join(names[line], "; ")
				if len(names[line]) == len(stateNames) {
					who = "any"
				}
				name := string(label)
				if name == "" {
					name = "none"
				}
				fmt.Fprintf(&b, "| %s | %s | %s |\n", name, who, line)
			}
		}
	}
	return b.Bytes()
}
