"""Python's imaplib and smtplib: python.py DIR BASEPORT UID ADDRESS WORD FOLDER; prints each task that went well."""
import imaplib
import smtplib
import ssl
import sys
from email import message_from_bytes, policy
from email.message import EmailMessage

d, base, uid, address, word, folder = sys.argv[1], int(sys.argv[2]), *sys.argv[3:]
ctx = ssl.create_default_context(cafile=d + "/pki/ca.pem")
password = open(f"{d}/people/{uid}/password").read()


def must(answer):
    assert answer[0] == "OK", answer
    return answer[1]


with imaplib.IMAP4("localhost", base + 143) as m:
    m.starttls(ctx)
    m.login(uid, password)
with imaplib.IMAP4_SSL("localhost", base + 993, ssl_context=ctx) as m:
    must(m.login(uid, password))
    print("log-in over TLS")
    assert len(must(m.list())) >= 6
    print("list")
    must(m.select("INBOX"))
    m.literal = ("一起食飯 " + word).encode()
    found = must(m.uid("SEARCH", "CHARSET", "UTF-8", "TEXT"))[0].split()
    assert len(found) == 1, found
    got = must(m.uid("FETCH", found[0], "(FLAGS BODY.PEEK[])"))
    mail = message_from_bytes(got[0][1], policy=policy.default)
    assert mail["Subject"] == "午飯 " + word and "一起食飯 " + word in mail.get_content(), mail
    print("fetch\nChinese subject")
    must(m.create(f'"{folder}"'))
    must(m.append(f'"{folder}"', r"(\Seen $Work)", None, f"From: {address}\r\nSubject: Kept\r\n\r\nkept\r\n".encode()))
    assert b"MESSAGES 1" in must(m.status(f'"{folder}"', "(MESSAGES)"))[0]
    print("append\nChinese folder")
    must(m.uid("STORE", found[0], "+FLAGS", r"(\Flagged)"))
    print("flag")
    must(m.uid("MOVE", found[0], f'"{folder}"'))
    print("move")

mail = EmailMessage()
mail["From"], mail["To"], mail["Subject"] = address, "alice@works.gov.example", "回覆 " + word
mail.set_content("好的\nsent" + word + "\n")
with smtplib.SMTP_SSL("localhost", base + 465, context=ctx) as c:
    c.login(uid, password)
    c.send_message(mail)
with smtplib.SMTP("localhost", base + 587) as c:
    c.starttls(context=ctx)
    c.login(address, password)
print("send")
