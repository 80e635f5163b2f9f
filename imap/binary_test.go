package imap

import "testing"

func TestBinary(t *testing.T) {
	ts := newServer(t, Limits{})
	c := ts.login("alice")
	c.append("INBOX", "", `Subject: a
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Transfer-Encoding: base64

aGVs
bG8=
--b
Content-Type: application/octet-stream
Content-Transfer-Encoding: base64

YQBi
--b
Content-Transfer-Encoding: quoted-printable

a=3Db
--b
Content-Transfer-Encoding: x-other

?
--b

plain
--b--
`)
	c.talk(`
		C: a SELECT INBOX
		S? a OK …
		C: b FETCH 1 (BINARY.PEEK[1] BINARY.SIZE[1])
		S: * 1 FETCH (BINARY[1] {5}
		S: hello BINARY.SIZE[1] 5)
		S: b OK …
		C: c FETCH 1 BINARY.PEEK[2]`)
	c.expect("* 1 FETCH (BINARY[2] ~{3}")
	c.expect("a\x00b)")
	c.talk(`
		S: c OK …
		C: d FETCH 1 BINARY[3]<1.1>
		S: * 1 FETCH (FLAGS (\Seen \Recent) BINARY[3]<1> {1}
		S: =)
		S: d OK …
		C: e FETCH 1 BINARY.PEEK[3]<9.9>
		S: * 1 FETCH (BINARY[3]<9> "")
		S: e OK …
		C: f FETCH 1 BINARY.PEEK[4]
		S: f NO [UNKNOWN-CTE] …
		C: g FETCH 1 BINARY.SIZE[4]
		S: g NO [UNKNOWN-CTE] …
		C: h FETCH 1 (BINARY.PEEK[5] BINARY.SIZE[5] BINARY.PEEK[9] BINARY.SIZE[9])
		S: * 1 FETCH (BINARY[5] {5}
		S: plain BINARY.SIZE[5] 5 BINARY[9] NIL BINARY.SIZE[9] 0)
		S: h OK …
		C: i FETCH 1 BINARY.PEEK[]<0.7>
		S: * 1 FETCH (BINARY[]<0> {7}
		S: Subject)
		S: i OK …
		C: j FETCH 1 BINARY[1.MIME]
		S: j BAD …
		C: k FETCH 1 BINARY.SIZE[1]<0.1>
		S: k BAD …`)
	if n := ts.intake.reserved.Load(); n != 0 {
		t.Errorf("%d octets are still reserved", n)
	}
}
