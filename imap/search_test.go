package imap

import "testing"

func TestSearch(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", `(\Seen) "17-Jul-2026 02:44:25 +0000" `, nested)
	c.append("INBOX", `($Work) "18-Jul-2026 02:44:25 +0000" `, "Subject: =?Big5?B?pKSk5Q==?= STRASSE\nDate: Tue, 8 Feb 1994 00:00:00 +0800\nX-Empty:\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: base64\n\n5paw5bm05b+r5qiCIFN0cmHDn2U=\n")
	c.append("INBOX", `(\Deleted) "19-Jul-2026 23:44:25 +0000" `, "Subject: three\nBcc: <(the) blind (one)@ works (of) .gov>\nDate: nonsense\n\nplain words\n")
	c.talk(`
		C: a SELECT INBOX
		S? a OK …`)
	for keys, want := range map[string]string{
		"ALL":                                " 1 2 3",
		"2:*":                                " 2 3",
		"UID 2,9":                            " 2",
		"SEEN":                               " 1",
		"UNSEEN":                             " 2 3",
		"NEW":                                " 2 3",
		"OLD":                                "",
		"RECENT UNDELETED":                   " 1 2",
		"KEYWORD $work":                      " 2",
		"UNKEYWORD $Work":                    " 1 3",
		"NOT (SEEN) NOT DELETED":             " 2",
		"OR SEEN DELETED":                    " 1 3",
		"BEFORE 18-Jul-2026":                 " 1",
		"ON 18-Jul-2026":                     " 2",
		"SINCE 18-Jul-2026":                  " 2 3",
		"SENTON 7-Feb-1994":                  " 1",
		"SENTSINCE 8-Feb-1994":               " 2",
		"SENTBEFORE 8-Feb-1994":              " 1",
		"LARGER 100 SMALLER 300":             " 2",
		"SMALLER 0":                          "",
		"SUBJECT CAF\xc3\x89":                "BAD",
		"SUBJECT {5+}\r\nCAF\xc3\x89":        " 1",
		"FROM works.gov":                     " 1",
		"CC x":                               "",
		"BCC blind@works.gov":                " 3", // as the envelope shows it
		"BCC \"(the) blind\"":                " 3",
		`HEADER X-Empty ""`:                  " 2",
		`HEADER Message-ID "<1@works"`:       " 1",
		"TO carol":                           " 1",
		"BODY first":                         " 1",
		"BODY \"INNER HTML\"":                " 1",
		"BODY carol":                         " 1", // the author of the message in it
		"BODY inner.eml":                     "",
		"TEXT INNER.EML":                     " 1",
		"TEXT part1":                         " 1",
		"TEXT three":                         " 3",
		"CHARSET UTF-8 TEXT {6+}\r\n新年":      " 2",
		"CHARSET UTF-8 SUBJECT {6+}\r\n中文":   " 2",
		"CHARSET UTF-8 BODY {7+}\r\nSTRASSE": " 2",
		"CHARSET UTF-8 SUBJECT {7+}\r\nstra\xc3\x9fe": " 2",
		"CHARSET KOI8-R ALL":                          "NO [BADCHARSET (US-ASCII UTF-8)]",
		"":                                            "BAD",
	} {
		c.send("s SEARCH " + keys + "\r\n")
		if fits("s NO …", want) || want == "BAD" || want[:min(2, len(want))] == "NO" {
			c.expect("s " + want + " …")
			continue
		}
		if got := c.line(); got != "* SEARCH"+want {
			t.Errorf("%s: got %q, want %q", keys, got, want)
		}
		c.talk("S: s OK …")
	}
	c.talk(`
		C: b UID SEARCH DELETED
		S: * SEARCH 3
		S: b OK UID SEARCH completed`)
}
