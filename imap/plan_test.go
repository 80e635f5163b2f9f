package imap

import (
	"fmt"
	"testing"

	"cmmpd/storage"
)

// A search finds the same with an index and without, in whatever way its keys are combined.
func TestSearchWithIndex(t *testing.T) {
	keys := []string{
		"TEXT zirconium", "TEXT zirc", "BODY zirconium", "SUBJECT zirconium", "SUBJECT four", `TEXT "word is zirc"`, "NOT TEXT zirconium", "UNSEEN TEXT zirconium",
		"OR SUBJECT zirconium BODY zirconium", "NOT (SEEN BODY zirconium)", "TEXT zirconium NOT SUBJECT zirconium", "UID 10:20 TEXT zirc", "50:* NOT TEXT zirc",
		"FROM bob", "FROM works.gov", "NOT FROM bob", "HEADER X-Note zirconium", "HEADER X-Other zirconium", `HEADER X-Note ""`, `TEXT "..."`, `TEXT ""`, "BODY x-note", "TEXT x-note",
		"OR SEEN TEXT zirconium", "SENTSINCE 1-Jan-2026 TEXT zirconium", "CHARSET UTF-8 TEXT {6+}\r\n新年", "CHARSET UTF-8 TEXT {9+}\r\n新年快", "CHARSET UTF-8 SUBJECT {3+}\r\n新",
		"TEXT report.pdf", "BODY report.pdf", "DELETED", "OR OR FROM bob SUBJECT zirconium TEXT nowhere", "LARGER 200 BODY e", "TEXT e",
	}
	var answers [2][]string
	for i, o := range []storage.Options{{Search: storage.SearchOptions{Off: true}}, {Search: storage.SearchOptions{Least: 1, Batch: 16}}} {
		o.Dir = t.TempDir()
		ts := newServerWith(t, o, Limits{})
		c := ts.login("alice")
		for n := range 60 {
			flags, from, subject, note, body := "", "bob@works.gov.example", fmt.Sprint("number ", n), "", "plain words"
			if n%2 == 0 {
				flags, from = `\Seen`, "carol@health.gov.example"
			}
			if n%5 == 0 {
				body = "The word is Zirconium."
			}
			if n%7 == 0 {
				subject = "about =?utf-8?Q?zir?= =?utf-8?Q?conium?= four=20 =?utf-8?B?5paw5bm05b+r5qiC?="
			}
			if n%11 == 0 {
				note = "X-Note: zirconium\nX-Other: none\n"
			}
			if n%13 == 0 {
				body += "\n--x\nContent-Type: application/pdf; name=report.pdf\n\n...\n--x--"
				note += "Content-Type: multipart/mixed; boundary=x\n"
				body = "\n--x\n\n" + body
			}
			c.append("INBOX", fmt.Sprintf(`(%s) "17-Jul-2026 02:44:25 +0000" `, flags), fmt.Sprintf("From: %s\nSubject: %s\nDate: Sat, 18 Jul 2026 00:00:00 +0800\n%s\n%s\n", from, subject, note, body))
		}
		c.append("INBOX", `() "17-Jul-2026 02:44:25 +0000" `, "Subject: secret zirconium\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data\nContent-Transfer-Encoding: base64\n\nTUlJRA==\n")
		c.talk(`
			C: a SELECT INBOX
			S? a OK …`)
		for range 2 { // the first of them makes the index
			answers[i] = nil
			for _, k := range keys {
				c.send("s SEARCH " + k + "\r\n")
				answers[i] = append(answers[i], c.line())
				switch k {
				case "TEXT zirconium", "BODY zirconium":
					c.expect("s OK SEARCH completed; encrypted messages of which only the headers were searched: 1")
				case "SUBJECT zirconium", "UID 10:20 TEXT zirc":
					c.expect("s OK SEARCH completed")
				default:
					c.expect("s OK SEARCH completed…")
				}
			}
		}
	}
	for n, k := range keys {
		if answers[0][n] != answers[1][n] {
			t.Errorf("%s\nwithout an index %s\nwith an index    %s", k, answers[0][n], answers[1][n])
		}
	}
}
