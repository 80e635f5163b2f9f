package imap

import (
	"strings"
	"testing"

	"cmmpd/storage"
)

func TestQuota(t *testing.T) {
	ts := newServerWith(t, storage.Options{Dir: t.TempDir(), Quotas: storage.Quotas{Account: storage.Quota{Octets: 4096}}}, Limits{})
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

// TestDepartmentQuota: its root is shown where it has a quota, and only that of one's own.
func TestDepartmentQuota(t *testing.T) {
	ts := newServerWith(t, storage.Options{Dir: t.TempDir(), Quotas: storage.Quotas{
		Account: storage.Quota{Messages: 9}, Department: storage.Quota{Octets: 10240, Messages: 3},
	}}, Limits{})
	a := ts.login("alice")
	a.append("INBOX", "", "Subject: a\n\ntext\n")
	a.talk(`
		C: a GETQUOTAROOT Drafts
		S: * QUOTAROOT Drafts "" "works.gov.example"
		S: * QUOTA "" (MESSAGE 1 9)
		S: * QUOTA "works.gov.example" (STORAGE 1 10 MESSAGE 1 3)
		S: a OK …
		C: b GETQUOTA works.gov.example
		S: * QUOTA "works.gov.example" (STORAGE 1 10 MESSAGE 1 3)
		S: b OK …
		C: c GETQUOTA health.gov.example
		S: c NO [NONEXISTENT] …`)
	for range 2 {
		a.append("INBOX", "", "Subject: a\n\ntext\n")
	}
	a.talk(`
		C: d SELECT INBOX
		S? d OK …
		C: e COPY 1 Trash
		S: e NO [OVERQUOTA] …`)
}
