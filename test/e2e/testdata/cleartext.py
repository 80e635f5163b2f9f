"""No log-in before TLS on any port: cleartext.py BASEPORT"""
import imaplib
import smtplib
import sys

base = int(sys.argv[1])
for port in (25, 587):
    with smtplib.SMTP("localhost", base + port) as c:
        c.ehlo()
        assert "auth" not in c.esmtp_features, c.esmtp_features
        code, _ = c.docmd("AUTH", "PLAIN AGFsaWNlAHg=")
        assert code >= 500, code
with smtplib.SMTP("localhost", base + 587) as c:
    c.ehlo()
    code, text = c.mail("alice@works.gov.example")
    assert code >= 500, (code, text)
m = imaplib.IMAP4("localhost", base + 143)
assert "LOGINDISABLED" in m.capabilities, m.capabilities
try:
    m.login("alice", "x")
    raise SystemExit("LOGIN in clear was accepted")
except imaplib.IMAP4.error as e:
    assert "PRIVACYREQUIRED" in str(e), e
print("all good")
