package imap

import "testing"

func TestList(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a LIST "" ""
		S: * LIST (\Noselect) "/" ""
		S: a OK …
		C: b LIST "" *
		S: * LIST (\HasNoChildren) "/" INBOX
		S: * LIST (\HasNoChildren \Archive) "/" Archive
		S: * LIST (\HasNoChildren \Drafts) "/" Drafts
		S: * LIST (\HasNoChildren \Junk) "/" Junk
		S: * LIST (\HasNoChildren \Sent) "/" Sent
		S: * LIST (\HasNoChildren \Trash) "/" Trash
		S: b OK LIST completed
		C: c LIST "" inbox
		S: * LIST (\HasNoChildren) "/" INBOX
		S: c OK …
		C: d LIST "" "in%x"
		S: * LIST (\HasNoChildren) "/" INBOX
		S: d OK …
		C: e CREATE Projects/2026/&U,BTFw-
		S: e OK …
		C: f LIST "" Projects%
		S: * LIST (\HasChildren) "/" Projects
		S: f OK …
		C: g LIST Projects/ %/%
		S: * LIST (\HasNoChildren) "/" Projects/2026/&U,BTFw-
		S: g OK …
		C: h LIST "" (Sent "Dra*") RETURN (SPECIAL-USE CHILDREN)
		S: * LIST (\HasNoChildren \Drafts) "/" Drafts
		S: * LIST (\HasNoChildren \Sent) "/" Sent
		S: h OK …
		C: i LIST (SPECIAL-USE) "" %
		S: * LIST …Archive
		S: * LIST …Drafts
		S: * LIST …Junk
		S: * LIST …Sent
		S: * LIST …Trash
		S: i OK …
		C: j LIST "" &AGE-
		S: j OK …
		C: j2 LIST &AGE- *
		S: j2 OK …
		C: j3 LIST "" (&AGE- Sent)
		S: * LIST (\HasNoChildren \Sent) "/" Sent
		S: j3 OK …
		C: j4 LSUB "" !#$&'+,-.0123456789:;<=>?@^_` + "`" + `|[}%*
		S: j4 OK …
		C: k LIST (FOO) "" *
		S: k BAD …
		C: l NAMESPACE
		S: * NAMESPACE (("" "/")) NIL NIL
		S: l OK …`)
}

func TestSubscriptions(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.talk(`
		C: a LSUB "" D*
		S: * LSUB (\HasNoChildren \Drafts) "/" Drafts
		S: a OK …
		C: b SUBSCRIBE gone/deep
		S: b OK …
		C: c LSUB "" gone/*
		S: * LSUB (\Noselect \HasNoChildren) "/" gone/deep
		S: c OK …
		C: d LSUB "" g%
		S: * LSUB (\Noselect) "/" gone
		S: d OK …
		C: e LIST "" g*
		S: e OK …
		C: f UNSUBSCRIBE gone/deep
		S: f OK …
		C: g LSUB "" g*
		S: g OK …
		C: h UNSUBSCRIBE Drafts
		S: h OK …
		C: i LIST (SUBSCRIBED) "" (Drafts Sent)
		S: * LIST (\HasNoChildren \Subscribed \Sent) "/" Sent
		S: i OK …`)
}
