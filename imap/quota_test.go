package imap

import (
	"strings"
	"testing"

	"cmmpd/storage"
)

func TestQuota(t *testing.T) {
	ts := newServerWith(t, storage.Options{Dir: t.TempDir(), Quota: 4096}, Limits{})
	c := ts.login("alice")
	c.append("INBOX", `(\Deleted) `, "Subject: a\n\n"+strings.Repeat("x", 3000)+"\n")
	c.talk(`
		C: a GETQUOTAROOT inbox
		S: * QUOTAROOT INBOX ""
		S: * QUOTA "" (STORAGE 3 4)
		S: a OK …
		C: b GETQUOTA ""
		S: * QUOTA "" (STORAGE 3 4)
		S: b OK …
		C: c GETQUOTA other
		S: c NO [NONEXISTENT] …
		C: d GETQUOTAROOT nothing
		S: d NO [NONEXISTENT] …
		C: e STATUS INBOX (DELETED DELETED-STORAGE)
		S: * STATUS INBOX (DELETED 1 DELETED-STORAGE 3016)
		S: e OK …
		C: f SELECT INBOX
		S? f OK …
		C: g COPY 1 Trash
		S: g NO [OVERQUOTA] …
		C: h MOVE 1 Trash
		S? h OK …
		C: i APPEND INBOX {2000+}`)
	c.send(strings.Repeat("x: y\r\n\r\n", 250) + "\r\n")
	c.talk(`
		S: i NO [OVERQUOTA] …
		C: j SETQUOTA "" (STORAGE 100)
		S: j BAD …`)
	newServer(t, Limits{}).login("alice").talk(`
		C: a GETQUOTA ""
		S: * QUOTA "" ()
		S: a OK …`)
}
