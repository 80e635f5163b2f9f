"""Python's smtplib and imaplib against a demonstration: clients.py DIR BASEPORT"""
import base64
import imaplib
import smtplib
import ssl
import sys
import uuid

d, base = sys.argv[1], int(sys.argv[2])
ctx = ssl.create_default_context(cafile=d + "/pki/ca.pem")


def password(uid):
    return open(f"{d}/people/{uid}/password").read()


def text(marker):
    return (f"From: alice@works.gov.example\r\nTo: bob@works.gov.example\r\nSubject: =?utf-8?B?5Y2I6aOv?=\r\n\r\n"
            f"午飯 {marker}\r\n.a line with a dot\r\n").encode()


marker = uuid.uuid4().hex
with smtplib.SMTP("localhost", base + 587) as c:
    c.starttls(context=ctx)
    c.login("alice@works.gov.example", password("alice"))
    assert c.sendmail("alice@works.gov.example", ["bob@works.gov.example"], text(marker)) == {}
with smtplib.SMTP_SSL("localhost", base + 465, context=ctx) as c:
    c.login("alice", password("alice"))
    c.sendmail("alice@works.gov.example", ["team@works.gov.example"], text(marker))
    try:
        c.sendmail("alice@works.gov.example", ["nobody@works.gov.example"], text(marker))
        raise SystemExit("an unknown recipient was accepted")
    except smtplib.SMTPRecipientsRefused as e:
        assert e.recipients["nobody@works.gov.example"][0] == 550, e
    try:
        smtplib.SMTP_SSL("localhost", base + 465, context=ctx).login("alice", "wrong")
        raise SystemExit("a wrong password was accepted")
    except smtplib.SMTPAuthenticationError as e:
        assert e.smtp_code == 535, e

with imaplib.IMAP4("localhost", base + 143) as plain:
    plain.starttls(ctx)
    plain.login("bob", password("bob"))

with imaplib.IMAP4_SSL("localhost", base + 993, ssl_context=ctx) as m:
    m.login("bob", password("bob"))
    typ, boxes = m.list()
    assert typ == "OK" and len(boxes) >= 6, boxes
    m.select("INBOX")
    typ, found = m.search("UTF-8", "TEXT", f'"{marker}"')
    assert typ == "OK" and len(found[0].split()) == 2, found
    num = found[0].split()[0]
    typ, got = m.fetch(num, "(FLAGS BODY.PEEK[TEXT] ENVELOPE BODYSTRUCTURE)")
    assert marker.encode() in got[0][1] and b"\r\n.a line with a dot\r\n" in got[0][1], got
    m.store(num, "+FLAGS", r"(\Flagged $Work)")
    typ, got = m.fetch(num, "(FLAGS)")
    assert rb"\Flagged" in got[0] and b"$Work" in got[0], got
    m.create("Projects/2026")
    typ, _ = m.copy(num, "Projects/2026")
    assert typ == "OK"
    typ, got = m.status("Projects/2026", "(MESSAGES UIDNEXT UNSEEN)")
    assert b"MESSAGES 1" in got[0], got
    typ, got = m.append("Drafts", r"(\Draft \Seen)", None, text("draft" + marker))
    assert typ == "OK", got
    m.select("Drafts")
    typ, found = m.uid("SEARCH", "DRAFT")
    uid = found[0].split()[-1]
    typ, got = m.uid("FETCH", uid, "(BODY[])")
    assert ("draft" + marker).encode() in got[0][1]
    m.uid("STORE", uid, "+FLAGS.SILENT", r"(\Deleted)")
    typ, gone = m.expunge()
    assert typ == "OK" and gone[0], gone
    assert m.select("Drafts", readonly=True)[0] == "OK"
    m.unselect()
    chinese = "Projects/&" + base64.b64encode("二〇二六".encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + "-"
    typ, got = m.rename("Projects/2026", chinese)
    assert typ == "OK", got
    typ, got = m.delete(chinese)
    assert typ == "OK", got
print("all good")
