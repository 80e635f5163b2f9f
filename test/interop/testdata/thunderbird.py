"""Thunderbird, without a screen, as bob's mail program: thunderbird.py DIR BASEPORT WORK

Prints a line "task<TAB>what came of it" for each task; puts screenshots into WORK.
"""
import base64
import imaplib
import os
import smtplib
import socket
import ssl
import subprocess
import sys
import time
import uuid

from marionette import Marionette

d, base, work = sys.argv[1], int(sys.argv[2]), sys.argv[3]
ctx = ssl.create_default_context(cafile=d + "/pki/ca.pem")
ALICE, BOB, CAROL = "alice@works.gov.example", "bob@works.gov.example", "carol@health.gov.example"
profile = work + "/profile"
LDAP = f"ldaps://localhost:{base + 636}/dc=gov,dc=example??sub?(objectclass=*)"


def password(uid):
    return open(f"{d}/people/{uid}/password").read()


def tool(*args):
    subprocess.run(args, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def send(subject, to, text, uid="alice", sender=ALICE, head=""):
    """Alice's mail, or that of another, by smtplib."""
    with smtplib.SMTP_SSL("localhost", base + 465, context=ctx) as c:
        c.login(uid, password(uid))
        c.sendmail(sender, to, (f"{head}From: {uid.capitalize()} <{sender}>\r\nTo: {', '.join(to)}\r\nSubject: {subject}\r\n"
                               "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
                               f"Content-Transfer-Encoding: 8bit\r\nMessage-ID: <{uuid.uuid4()}@works.gov.example>\r\n\r\n{text}\r\n").encode())


def signed(marker):
    """Alice's signed mail, made by OpenSSL."""
    out = subprocess.run(["openssl", "cms", "-sign", "-signer", d + "/people/alice/cert.pem", "-inkey", d + "/people/alice/key.pem",
                          "-from", ALICE, "-to", BOB, "-subject", "signed " + marker, "-md", "sha256"],
                         input=f"Content-Type: text/plain\r\n\r\nsigned {marker}\r\n".encode(), stdout=subprocess.PIPE, check=True).stdout
    with smtplib.SMTP_SSL("localhost", base + 465, context=ctx) as c:
        c.login("alice", password("alice"))
        c.sendmail(ALICE, [BOB], out.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))


def mails(uid, folder):
    with imaplib.IMAP4_SSL("localhost", base + 993, ssl_context=ctx) as m:
        m.login(uid, password(uid))
        m.select(folder, readonly=True)
        _, found = m.search(None, "ALL")
        return [m.fetch(n, "(BODY.PEEK[])")[1][0][1].decode("utf-8", "replace") for n in found[0].split()]


def mail_with(uid, folder, marker, absent=False):
    """The mail that holds marker, once it is there (or has gone)."""
    for _ in range(100):
        found = [t for t in mails(uid, folder) if marker in t]
        if bool(found) != absent:
            return found[0] if found else ""
        time.sleep(0.2)
    raise SystemExit(f"{uid}'s {folder}: {marker} {'stays' if absent else 'does not come'}")


def opened(sealed, uid):
    """What uid's key opens, by OpenSSL."""
    return subprocess.run(["openssl", "cms", "-decrypt", "-inkey", f"{d}/people/{uid}/key.pem", "-recip", f"{d}/people/{uid}/cert.pem"],
                          input=sealed.encode(), stdout=subprocess.PIPE, check=True).stdout.decode()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def make_profile(port):
    """A profile with bob's account, the government's CA, and bob's key."""
    os.makedirs(profile)
    db = "sql:" + profile
    tool("certutil", "-N", "-d", db, "--empty-password")
    tool("certutil", "-A", "-d", db, "-n", "government", "-t", "CT,C,", "-i", d + "/pki/ca.pem")
    tool("pk12util", "-i", f"{d}/people/bob/bob.p12", "-d", db, "-w", f"{d}/people/bob/password", "-K", "")
    prefs = {
        "mail.accountmanager.accounts": "account1,account2", "mail.accountmanager.defaultaccount": "account1",
        "mail.accountmanager.localfoldersserver": "server2",
        "mail.account.account1.identities": "id1", "mail.account.account1.server": "server1", "mail.account.account2.server": "server2",
        "mail.server.server2.type": "none", "mail.server.server2.hostname": "Local Folders", "mail.server.server2.userName": "nobody",
        "mail.server.server1.type": "imap", "mail.server.server1.hostname": "localhost", "mail.server.server1.port": base + 993,
        "mail.server.server1.userName": "bob", "mail.server.server1.name": BOB, "mail.server.server1.socketType": 3,
        "mail.server.server1.authMethod": 3, "mail.server.server1.login_at_startup": False, "mail.server.server1.check_new_mail": False,
        "mail.identity.id1.fullName": "Bob", "mail.identity.id1.useremail": BOB, "mail.identity.id1.smtpServer": "smtp1",
        "mail.identity.id1.valid": True, "mail.identity.id1.compose_html": False,
        "mail.identity.id1.fcc_folder": "imap://bob@localhost/Sent", "mail.identity.id1.draft_folder": "imap://bob@localhost/Drafts",
        "mail.smtpservers": "smtp1", "mail.smtp.defaultserver": "smtp1", "mail.smtpserver.smtp1.type": "smtp",
        "mail.smtpserver.smtp1.hostname": "localhost", "mail.smtpserver.smtp1.port": base + 465,
        "mail.smtpserver.smtp1.username": "bob", "mail.smtpserver.smtp1.try_ssl": 3, "mail.smtpserver.smtp1.authMethod": 3,
        "mail.provider.suppress_dialog_on_startup": True, "mail.spotlight.firstRunDone": True, "mail.rights.version": 1,
        "mailnews.start_page.enabled": False, "mail.shell.checkDefaultClient": False, "mail.biff.show_alert": False,
        "mail.warn_on_send_accel_key": False, "mail.SpellCheckBeforeSend": False, "mail.compose.attachment_reminder": False,
        "app.update.enabled": False, "datareporting.policy.dataSubmissionEnabled": False, "extensions.update.enabled": False,
        "ldap_2.servers.gov.uri": LDAP, "ldap_2.servers.gov.auth.dn": "uid=bob,ou=people,dc=gov,dc=example",
        "ldap_2.servers.gov.description": "Government", "ldap_2.servers.gov.filename": "gov.sqlite", "ldap_2.servers.gov.dirType": 0,
        "ldap_2.autoComplete.useDirectory": True, "ldap_2.autoComplete.directoryServer": "ldap_2.servers.gov",
        "security.OCSP.enabled": 0, "marionette.port": port,
    }
    with open(profile + "/user.js", "w") as f:
        for k, v in prefs.items():
            v = str(v).lower() if isinstance(v, bool) else v if isinstance(v, int) else f'"{v}"'
            f.write(f'user_pref("{k}", {v});\n')


# Words that every script begins with.
WORDS = """
const {MailServices} = ChromeUtils.importESModule("resource:///modules/MailServices.sys.mjs");
const until = async (what, f) => {
  for (const end = Date.now() + 50000; Date.now() < end; await new Promise(r => setTimeout(r, 50))) {
    const v = await f();
    if (v) return v;
  }
  throw new Error("not in time: " + what);
};
const server = MailServices.accounts.allServers.find(s => s.type == "imap");
const folder = name => until(name, () => server.rootFolder.descendants.find(f => f.URI == server.serverURI + "/" + encodeURIComponent(name)));
const main = Services.wm.getMostRecentWindow("mail:3pane");
const tabs = main.document.getElementById("tabmail");
// show displays the folder and returns the header of the message that ok() likes.
const show = async (name, ok) => {
  const f = await folder(name), pane = await until("pane", () => tabs.currentAbout3Pane);
  pane.displayFolder(f.URI);
  return await until("the message", () => {
    if (pane.gFolder != f || !pane.gDBView) return null;
    f.updateFolder(main.msgWindow);
    for (let i = 0; i < pane.gDBView.rowCount; i++) {
      const h = pane.gDBView.getMsgHdrAt(i);
      if (ok(h)) return h;
    }
  });
};
// read shows a message and returns its window, once its text has marker.
const read = async (h, marker) => {
  const pane = tabs.currentAbout3Pane;
  pane.threadTree.selectedIndex = pane.gDBView.findIndexOfMsgHdr(h, true);
  const about = await until("its window", () => tabs.currentAboutMessage?.gMessage?.messageKey == h.messageKey && tabs.currentAboutMessage);
  await until("its text", () => about.getMessagePaneBrowser().contentDocument?.body?.textContent.includes(marker));
  return about;
};
// composer waits for the window in which one writes about the subject.
const composer = subject => until("the composer", () => {
  for (const w of Services.wm.getEnumerator("msgcompose")) {
    if (w.document.readyState == "complete" && w.composeEditorReady && w.gMsgCompose?.editor && w.gMsgCompose.compFields.subject == subject) return w;
  }
});
const closed = w => until("the end of the composer", () => {
  if (said) throw new Error(said);
  return w.closed;
});
// A question or a complaint that stands in the way becomes an error.
let said = "";
Services.obs.addObserver(w => { said ||= w.document?.getElementById("infoBody")?.textContent || "a window to answer"; w.close(); }, "common-dialog-loaded");
"""

WRITE_SMIME = """
const p = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
const f = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
const [to, marker, encrypt] = args;
f.to = to;
f.subject = (encrypt ? "[CONFIDENTIAL] " : "plain ") + marker;
f.body = "secret words " + marker + "\\n";
const s = Cc["@mozilla.org/messengercompose/composesecure;1"].createInstance(Ci.nsIMsgComposeSecure);
s.requireEncryptMessage = encrypt;
s.signMessage = true;
f.composeSecure = s;
p.composeFields = f;
p.type = Ci.nsIMsgCompType.New;
p.format = Ci.nsIMsgCompFormat.PlainText;
p.identity = MailServices.accounts.defaultAccount.defaultIdentity;
const db = Cc["@mozilla.org/security/x509certdb;1"].getService(Ci.nsIX509CertDB);
const cert = [...db.getCerts()].find(c => c.commonName == "Bob");
for (const use of ["signing", "encryption"]) {
  p.identity.setUnicharAttribute(use + "_cert_name", cert.displayName);
  p.identity.setCharAttribute(use + "_cert_dbkey", cert.dbKey);
}
MailServices.compose.OpenComposeWindowWithParams(null, p);
const w = await composer(f.subject);
w.gSelectedTechnologyIsPGP = false;
w.gSendEncrypted = encrypt;
w.gSendSigned = true;
if (encrypt) {
  await until("the recipients' certificates", async () => {
    await w.checkEncryptionState();
    return w.gSMFields?.haveValidCertForEmail(to);
  });
}
w.goDoCommand("cmd_sendNow");
try {
  await closed(w);
} catch (e) {
  w.SetContentAndBodyAsUnmodified();
  w.close();
  throw e;
}
"""
READ_SIGNED = """
const [who, marker] = args;
const h = await show("INBOX", h => h.mime2DecodedSubject.includes(marker) && h.author.includes(who + "@"));
const about = await read(h, marker);
await until("the verdict", () => about.gSignerCert?.commonName.toLowerCase() == who && about.document.getElementById("signedHdrIcon")?.alt);
return about.document.getElementById("signedHdrIcon").alt;
"""


def tasks(m):
    def run(code, *args):
        return m.run(WORDS + code, *args)

    def done(task, what="yes"):
        print(f"{task}\t{what}", flush=True)

    def shot(name):
        m.screenshot(f"{work}/{name}.png")

    lunch, tender = "lunch" + uuid.uuid4().hex[:8], "tender" + uuid.uuid4().hex[:8]
    send("=?utf-8?B?5Y2I6aOv?= " + lunch, [BOB], "一起食飯 " + lunch)
    send("[CONFIDENTIAL] Board " + tender, [BOB, CAROL], "機密 " + tender)

    def confidential(marker, encrypt):
        """Bob writes to alice, with a signature, sealed or not, by Thunderbird's own S/MIME."""
        run(WRITE_SMIME, ALICE + ("" if encrypt else "," + BOB), marker, encrypt)

    names = run("""
        const ldap = Services.io.newURI(args[1]), origin = "ldaps://" + ldap.displayHostPort;
        for (const [o, realm, name] of [["imap://localhost", "imap://localhost", "bob"], ["smtp://localhost", "smtp://localhost", "bob"], [origin, origin + ldap.pathQueryRef, ""]]) {
          const l = Cc["@mozilla.org/login-manager/loginInfo;1"].createInstance(Ci.nsILoginInfo);
          l.init(o, null, realm, name, args[0], "", "");
          await Services.logins.addLoginAsync(l);
        }
        server.getNewMessages(server.rootFolder, main.msgWindow, null);
        for (const name of ["Archive", "Drafts", "Junk", "Sent", "Trash"]) await folder(name);
        return server.rootFolder.descendants.map(f => f.URI.replace(server.serverURI + "/", ""));
    """, password("bob"), LDAP)
    done("log-in over TLS")
    assert "INBOX" in names, names
    done("list")

    got = run("""
        const h = await show("INBOX", h => h.mime2DecodedSubject.includes(args[0]));
        const about = await read(h, args[0]);
        return [h.mime2DecodedSubject, about.getMessagePaneBrowser().contentDocument.body.textContent];
    """, lunch)
    assert got[0] == "午飯 " + lunch and "一起食飯 " + lunch in got[1], got
    shot("ordinary")
    done("fetch")
    done("Chinese subject")

    run("""
        const h = await show("INBOX", h => h.mime2DecodedSubject.includes(args[0]));
        h.folder.markMessagesFlagged([h], true);
    """, lunch)
    for _ in range(100):
        with imaplib.IMAP4_SSL("localhost", base + 993, ssl_context=ctx) as c:
            c.login("bob", password("bob"))
            c.select("INBOX", readonly=True)
            if c.search(None, "FLAGGED", "SEEN", "SUBJECT", lunch)[1][0]:
                break
        time.sleep(0.2)
    else:
        raise SystemExit("the flag does not come")
    done("flag")

    run("""
        server.rootFolder.createSubfolder("二〇二六", main.msgWindow);
        const to = await until("the folder", () => server.rootFolder.descendants.find(f => f.name == "二〇二六"));
        const h = await show("INBOX", h => h.mime2DecodedSubject.includes(args[0]));
        MailServices.copy.copyMessages(h.folder, [h], to, true, null, main.msgWindow, true);
    """, lunch)
    mail_with("bob", utf7("二〇二六"), lunch)
    mail_with("bob", "INBOX", lunch, absent=True)
    done("Chinese folder")
    done("move")

    got = run("""
        const h = await show("INBOX", h => h.mime2DecodedSubject == "[...]");
        const about = await read(h, args[0]);
        const text = id => about.document.getElementById(id)?.alt;
        await until("the verdict", () => text("encryptedHdrIcon") && text("signedHdrIcon"));
        return [about.document.getElementById("expandedsubjectBox").textContent, text("encryptedHdrIcon"), text("signedHdrIcon"), about.gSignerCert?.commonName];
    """, tender)
    shot("confidential")
    assert got[1] == "Decryption successful", got
    subject = got[0].removeprefix("Subject:")
    done("a message that the gateway has sealed", f"yes: opens with bob's key. Departs: the subject shown is '{subject}' (header protection, RFC 9788, is not read in S/MIME), and the signature of '{got[3]}' is called '{got[2]}', because the certificate has not the author's address")

    sent = "sent" + uuid.uuid4().hex[:8]
    run("""
        const p = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
        const f = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
        f.to = args[0]; f.subject = "回覆 " + args[1]; f.body = "好的 " + args[1] + "\\n";
        p.composeFields = f; p.type = Ci.nsIMsgCompType.New; p.format = Ci.nsIMsgCompFormat.PlainText;
        p.identity = MailServices.accounts.defaultAccount.defaultIdentity;
        MailServices.compose.OpenComposeWindowWithParams(null, p);
        const w = await composer(f.subject);
        w.goDoCommand("cmd_sendNow");
        await closed(w);
    """, ALICE, sent)
    mail_with("alice", "INBOX", sent)
    done("send")
    mail_with("bob", "Sent", sent)
    done("append", "yes: its copy in Sent")

    draft, edited = "draft" + uuid.uuid4().hex[:8], "edited" + uuid.uuid4().hex[:8]
    run("""
        const p = Cc["@mozilla.org/messengercompose/composeparams;1"].createInstance(Ci.nsIMsgComposeParams);
        const f = Cc["@mozilla.org/messengercompose/composefields;1"].createInstance(Ci.nsIMsgCompFields);
        f.to = args[0]; f.bcc = args[1]; f.subject = "A draft"; f.body = args[2] + "\\n";
        p.composeFields = f; p.type = Ci.nsIMsgCompType.New; p.format = Ci.nsIMsgCompFormat.PlainText;
        p.identity = MailServices.accounts.defaultAccount.defaultIdentity;
        MailServices.compose.OpenComposeWindowWithParams(null, p);
        const w = await composer("A draft");
        w.goDoCommand("cmd_saveAsDraft");
        await until("the draft", () => !w.gSaveOperationInProgress && w.gMsgCompose.compFields.draftId);
        w.close();
        await closed(w);
    """, ALICE, CAROL, draft)
    text = mail_with("bob", "Drafts", draft)
    assert "Bcc: " + CAROL in text, text
    got = run("""
        const h = await show("Drafts", h => h.mime2DecodedSubject == "A draft");
        MailServices.compose.OpenComposeWindow(null, h, h.folder.getUriForMsg(h), Ci.nsIMsgCompType.Draft, Ci.nsIMsgCompFormat.Default, MailServices.accounts.defaultAccount.defaultIdentity, null, main.msgWindow);
        const w = await composer("A draft");
        const before = [w.gMsgCompose.compFields.to, w.gMsgCompose.compFields.bcc];
        w.gMsgCompose.editor.beginningOfDocument();
        w.gMsgCompose.editor.insertText(args[0] + " ");
        return before;
    """, edited)
    assert got == [ALICE, CAROL], got
    main_window = m.windows()
    m.command("WebDriver:SwitchToWindow", handle=m.windows()[-1])
    shot("draft")
    m.command("WebDriver:SwitchToWindow", handle=main_window[0])
    run("""
        const w = await composer("A draft");
        w.goDoCommand("cmd_sendNow");
        await closed(w);
    """)
    for uid in ("alice", "carol"):
        text = mail_with(uid, "INBOX", edited)
        assert draft in text and "Bcc" not in text, text
    mail_with("bob", "Drafts", draft, absent=True)
    done("draft with Bcc: saved, edited, sent", "yes: Bcc stays in the draft, carol gets it, and no copy says so")

    secret = "secret" + uuid.uuid4().hex[:8]
    try:
        confidential(secret, True)
        raise SystemExit("AES-128 was accepted")
    except RuntimeError as e:
        assert "not encrypted by AES-256" in str(e), e
    done("certificate", "yes: it finds alice's in the LDAP address book by itself; to somebody of whom it has read no signed mail it encrypts with AES-128, which the platform refuses, and it shows the platform's reason to its user")

    # One signed mail of each is enough: Thunderbird learns from it that they can read AES-256.
    learn = "learn" + uuid.uuid4().hex[:8]
    signed(learn)
    got = run(READ_SIGNED, "alice", learn)
    assert got == "Good signature", got
    shot("signed")
    done("alice's signature", "yes: verified")
    rule = "rule" + uuid.uuid4().hex[:8]
    send("=?utf-8?B?5Y2I6aOv?= " + rule, [BOB], "一起食飯 " + rule, head="X-Classification: unclassified\r\n")
    assert "multipart/signed" in mail_with("bob", "INBOX", rule)
    assert run(READ_SIGNED, "alice", rule) == "Good signature"
    shot("signed by rule")
    done("a message that the gateway has signed by rule with alice's own key", "yes: verified, with its Chinese subject and text")
    rule = "department" + uuid.uuid4().hex[:8]
    send("Lunch " + rule, [BOB], "with carol " + rule, uid="carol", sender=CAROL, head="X-Classification: unclassified\r\n")
    assert "multipart/signed" in mail_with("bob", "INBOX", rule)
    got = run("""
        const h = await show("INBOX", h => h.mime2DecodedSubject == "Lunch " + args[0]);
        const about = await read(h, args[0]);
        const icon = about.document.getElementById("signedHdrIcon");
        await until("the verdict", () => about.gSignerCert?.commonName.startsWith("Domain"));
        return about.gSignerCert.commonName + (icon.hidden || !icon.alt ? "' has no mark" : `' is called '${icon.alt}'`);
    """, rule)
    shot("signed by the department")
    done("a message that the gateway has signed by rule with the department's key", f"yes: shows it. Departs: the signature of '{got}, because the certificate has not the author's address")
    confidential(learn, False)
    text = mail_with("alice", "INBOX", "Subject: plain " + learn)
    assert "multipart/signed" in text, text
    assert run(READ_SIGNED, "bob", learn) == "Good signature"
    done("its own signature", "yes: passes unchanged")
    confidential(secret, True)
    text = mail_with("alice", "INBOX", secret)
    assert "application/pkcs7-mime" in text and "secret words" not in text, text
    assert "secret words " + secret in opened(text, "alice"), text
    done("its own sealed message", "yes: accepted, once it has read one signed mail of each and so knows that they read AES-256")


def utf7(name):
    """A folder's name, quoted, as it is on the wire."""
    return '"&' + base64.b64encode(name.encode("utf-16-be")).decode().rstrip("=").replace("/", ",") + '-"'


port = free_port()
make_profile(port)
with open(work + "/thunderbird.log", "wb") as log:
    p = subprocess.Popen(["thunderbird", "--headless", "--marionette", "--remote-allow-system-access", "--no-remote", "--profile", profile],
                         stdout=log, stderr=log, stdin=subprocess.DEVNULL)
try:
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    tasks(Marionette(port))
finally:
    p.terminate()
    p.wait()
