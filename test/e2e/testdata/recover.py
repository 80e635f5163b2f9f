"""An officer's own way back to what was deleted, with imaplib: recover.py DIR BASEPORT"""
import imaplib
import ssl
import sys

d, base = sys.argv[1], int(sys.argv[2])
ctx = ssl.create_default_context(cafile=d + "/pki/ca.pem")
m = imaplib.IMAP4_SSL("localhost", base + 993, ssl_context=ctx)
m.login("bob", open(d + "/people/bob/password").read())


def ok(result):
    typ, data = result
    assert typ == "OK", result
    return data


def text(i):
    return ok(m.fetch(i, "(BODY.PEEK[])"))[0][1]


def refused(f, *args):
    try:
        typ, data = f(*args)
    except m.readonly:
        return
    assert typ == "NO", (args, typ, data)


ok(m.select("INBOX"))
n = len(ok(m.search(None, "SUBJECT", "precious"))[0].split())
assert n == 2, n
for i in ok(m.search(None, "SUBJECT", "precious"))[0].split():
    ok(m.store(i, "+FLAGS.SILENT", r"(\Deleted \Flagged)"))
ok(m.expunge())
assert ok(m.search(None, "SUBJECT", "precious"))[0] == b""
assert not [b for b in ok(m.list('""', "%")) if b"Recoverable" in b]
assert [b for b in ok(m.list('""', "*")) if b"Recoverable" in b and b"\\Noinferiors" in b], ok(m.list('""', "*"))
assert not [b for b in ok(m.lsub('""', "*")) if b and b"Recoverable" in b]

ok(m.select("Recoverable", readonly=True))
found = ok(m.search(None, "SUBJECT", "precious", "FLAGGED", "UNDELETED"))[0].split()
assert len(found) == 2, found
assert b"a precious text" in text(found[0])
refused(m.store, found[0], "+FLAGS", r"(\Deleted)")
refused(m.expunge)
ok(m.copy(found[0], "INBOX"))
m.unselect()
refused(m.append, "Recoverable", None, None, b"Subject: x\r\n\r\nx\r\n")
refused(m.delete, "Recoverable")
ok(m.select("INBOX"))
back = ok(m.search(None, "SUBJECT", "precious", "FLAGGED", "UNDELETED"))[0].split()
assert len(back) == 1 and b"a precious text" in text(back[0])
m.logout()
print("all good")
