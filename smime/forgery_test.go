package smime

import (
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// signedByOpenSSL is an entity with a signature that OpenSSL made, without fields of a message. signers are people, or
// "domain"; args are further arguments.
func (w *world) signedByOpenSSL(entity string, signers []string, args ...string) string {
	w.t.Helper()
	command := []string{"cms", "-sign", "-binary", "-crlfeol", "-in", w.write("in.txt", []byte(crlf(entity))), "-certfile", w.write("sub.pem", pemOf(w))}
	for _, s := range signers {
		cert, key := w.files(s)
		command = append(command, "-signer", cert, "-inkey", key)
	}
	out, err := w.openssl(append(command, args...)...)
	w.must(err)
	_, entity, ok := strings.Cut(crlf(string(out)), "MIME-Version: 1.0\r\n")
	if !ok {
		w.t.Fatalf("OpenSSL wrote %q", out)
	}
	return entity
}

// TestForgeries judges messages with good and bad signatures that OpenSSL made, as they came and put together anew.
func TestForgeries(t *testing.T) {
	w := newWorld(t)
	w.person("mallory@evil.example", "", demopki.Spec{CN: "Mallory", Address: "mallory@evil.example"})
	w.people["domain"] = &person{Identity: w.domain}
	twin, err := demopki.NewCA("Root", nil)
	w.must(err)
	twinSub, err := twin.NewSub("Mail", nil)
	w.must(err)
	foreign, err := twinSub.Issue(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example"})
	w.must(err)
	w.people["foreign"] = &person{Identity: foreign}
	own, err := demopki.NewCA("Carol", nil)
	w.must(err)
	self, err := own.Issue(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example"})
	w.must(err)
	w.people["self"] = &person{Identity: self}

	const from, text = "From: Carol <carol@health.gov.example>\r\n", "Content-Type: text/plain\n\nI agree.\n"
	carol := []string{"carol"}
	good := w.signedByOpenSSL(text, carol)
	opaque := w.signedByOpenSSL(text, carol, "-nodetach")
	b := boundaryOf(good)
	if b == "" {
		t.Fatalf("OpenSSL wrote %q", good)
	}
	part := func(entity string) string { return "--m\r\n" + entity + "\r\n" }
	mixed := func(entities ...string) string {
		s := "Content-Type: multipart/mixed; boundary=m\r\n\r\n"
		for _, e := range entities {
			s += part(e)
		}
		return s + "--m--\r\n"
	}
	const footer = "Content-Type: text/plain\r\n\r\nThis list is read by everybody.\r\n"
	encrypted := w.encryptedByOpenSSL(text, "carol")
	for name, c := range map[string]struct {
		header, body string
		want         Status
		reason       string
	}{
		"detached":                     {from, good, Pass, "by the author"},
		"opaque":                       {from, opaque, Pass, "by the author"},
		"RSA":                          {"From: alice@works.gov.example\r\n", w.signedByOpenSSL(text, []string{"alice"}, "-md", "sha512"), Pass, "by the author"},
		"PSS":                          {"From: bob@works.gov.example\r\n", w.signedByOpenSSL(text, []string{"bob"}, "-keyopt", "rsa_padding_mode:pss"), Pass, "by the author"},
		"no signed attributes":         {from, w.signedByOpenSSL(text, carol, "-noattr"), Pass, "by the author"},
		"by key identifier":            {from, w.signedByOpenSSL(text, carol, "-keyid"), Pass, "by the author"},
		"SHA-1":                        {from, w.signedByOpenSSL(text, carol, "-md", "sha1"), Neutral, "not accepted"},
		"no certificate":               {from, w.signedByOpenSSL(text, carol, "-nocerts"), PermError, "not in the message"},
		"SMTP's own dots and long":     {from, w.signedByOpenSSL("Content-Type: text/plain\n\n.\n..\n"+strings.Repeat("x", 900)+"\nFrom here\n", carol), Pass, "by the author"},
		"an empty text":                {from, w.signedByOpenSSL("Content-Type: text/plain\n\n", carol), Pass, "by the author"},
		"a multipart within":           {from, w.signedByOpenSSL("Content-Type: multipart/alternative; boundary="+"x\n\n--x\n\na\n--x\nContent-Type: text/html\n\nb\n--x--\n", carol), Pass, "by the author"},
		"changed":                      {from, strings.Replace(good, "I agree", "I demur", 1), Fail, "does not fit"},
		"another's text":               {from, strings.Replace(good, "I agree", "I agree to all", 1), Fail, "does not fit"},
		"signature of another message": {from, strings.Replace(good, signatureOf(good), signatureOf(w.signedByOpenSSL(text+"x\n", carol)), 1), Fail, "does not fit"},

		// Who is the author?
		"two From fields":             {"From: ceo@works.gov.example\r\n" + from, good, Policy, "one author"},
		"two From fields, behind":     {from + "Subject: x\r\nFROM : ceo@works.gov.example\r\n", good, Policy, "one author"},
		"the same From twice":         {from + from, good, Policy, "one author"},
		"two addresses":               {"From: carol@health.gov.example, ceo@works.gov.example\r\n", good, Policy, "one author"},
		"an address and half of one":  {"From: carol@health.gov.example, ceo\r\n", good, Policy, "one author"},
		"no From":                     {"Sender: carol@health.gov.example\r\n", good, Policy, "one author"},
		"an empty From":               {"From: \r\n", good, Policy, "one author"},
		"only Sender is the signer":   {"From: ceo@works.gov.example\r\nSender: carol@health.gov.example\r\n", good, Policy, "not the author"},
		"Sender is another":           {from + "Sender: secretary@works.gov.example\r\n", good, Pass, "by the author"},
		"only Reply-To is the signer": {"From: ceo@works.gov.example\r\nReply-To: carol@health.gov.example\r\n", good, Policy, "not the author"},
		"a group of one":              {"From: The CEO: carol@health.gov.example;\r\n", good, Policy, "one author"},
		"an empty group beside":       {"From: The CEO:;, carol@health.gov.example\r\n", good, Policy, "one author"},
		"display name is an address":  {"From: \"ceo@works.gov.example\" <carol@health.gov.example>\r\n", good, Policy, "display name"},
		"with words around":           {"From: The CEO (ceo@works.gov.example via mail) <carol@health.gov.example>\r\n", good, Pass, "by the author"},
		"quoted with words around":    {"From: \"The CEO ceo@works.gov.example\" <carol@health.gov.example>\r\n", good, Policy, "display name"},
		"display name is encoded":     {"From: =?utf-8?b?Y2VvQHdvcmtzLmdvdi5leGFtcGxl?= <carol@health.gov.example>\r\n", good, Policy, "display name"},
		"display name in wide signs":  {"From: \"ｃｅｏ＠works.gov.example\" <carol@health.gov.example>\r\n", good, Policy, "display name"},
		"display name is their own":   {"From: \"Carol@Health.gov.example\" <carol@health.gov.example>\r\n", good, Pass, "by the author"},
		"case of the address":         {"From: CAROL@health.GOV.example\r\n", good, Pass, "by the author"},
		"an author within":            {from, w.signedByOpenSSL("From: ceo@works.gov.example\nSubject: pay\n"+text, carol), Policy, "names another author"},
		"themselves within":           {from, w.signedByOpenSSL("From: Carol <carol@health.gov.example>\nSubject: pay\n"+text, carol), Pass, "by the author"},
		"two authors within":          {from, w.signedByOpenSSL("From: Carol <carol@health.gov.example>\nFrom: ceo@works.gov.example\n"+text, carol, "-nodetach"), Policy, "names another author"},
		"another's signature":         {from, w.signedByOpenSSL(text, []string{"mallory"}), Policy, "not the author"},

		// Is it the root that is signed, all of it, by one?
		"a list's footer":              {from, mixed(good, footer), None, "not signed"},
		"a list's footer in the text":  {from, strings.Replace(good, "I agree.", "I agree.\r\n-- \r\nThis list is read by everybody.", 1), Fail, "does not fit"},
		"alone in a mixed":             {from, mixed(good), None, "not signed"},
		"forwarded":                    {from, mixed("\r\nsee below", "Content-Type: message/rfc822\r\n\r\n"+from+good), None, "not signed"},
		"the message is a message":     {from, "Content-Type: message/rfc822\r\n\r\n" + from + good, None, "not signed"},
		"a signed message in it":       {"From: mallory@evil.example\r\n", w.signedByOpenSSL("Content-Type: message/rfc822\n\n"+from+good, []string{"mallory"}), Pass, "by the author"},
		"the same, in her name":        {from, w.signedByOpenSSL("Content-Type: message/rfc822\n\n"+from+good, []string{"mallory"}), Policy, "not the author"},
		"a part before":                {from, strings.Replace(good, "--"+b, "--"+b+"\r\n\r\npay\r\n--"+b, 1), Neutral, "exactly one part"},
		"a part behind":                {from, strings.Replace(good, "--"+b+"--", "--"+b+"\r\n\r\npay\r\n--"+b+"--", 1), Neutral, "exactly one part"},
		"without its signature":        {from, good[:strings.LastIndex(good, "--"+b+"\r\n")] + "--" + b + "--\r\n", Neutral, "exactly one part"},
		"two signers":                  {from, w.signedByOpenSSL(text, []string{"carol", "mallory"}), Policy, "several"},
		"nobody signed":                {from, "Content-Type: application/pkcs7-mime; smime-type=certs-only\r\nContent-Transfer-Encoding: base64\r\n\r\n" + w.certsOnly(), None, "not signed"},
		"said twice what it is":        {from + "Content-Type: text/plain\r\n", good, Neutral, "says twice"},
		"said twice, another boundary": {from, "Content-Type: multipart/mixed; boundary=other\r\n" + good + "--other\r\n\r\npay\r\n--other--\r\n", Neutral, "says twice"},
		"two encodings":                {from + "Content-Transfer-Encoding: 8bit\r\n", opaque, Neutral, "says twice"},

		// Encrypted and signed.
		"encrypted, then signed":       {from, w.signedByOpenSSL(encrypted, carol), Pass, "by the author"},
		"encrypted, signed by another": {from, w.signedByOpenSSL(encrypted, []string{"mallory"}), Policy, "not the author"},
		"signed, then encrypted":       {from, w.encryptedByOpenSSL(good, "carol"), None, "not signed"},

		// The domain's signature is called so.
		"by the domain":                {"From: Alice <alice@works.gov.example>\r\n", w.signedByOpenSSL(text, []string{"domain"}), Pass, "signed by the domain works.gov.example, not by the author"},
		"by another domain":            {from, w.signedByOpenSSL(text, []string{"domain"}), Policy, "not the author"},
		"by the domain above":          {"From: a@sub.works.gov.example\r\n", w.signedByOpenSSL(text, []string{"domain"}), Policy, "not the author"},
		"by the domain and the author": {"From: alice@works.gov.example\r\n", w.signedByOpenSSL(text, []string{"domain", "alice"}), Policy, "several"},

		// Does the certificate hold?
		"expired":                {"From: frank@works.gov.example\r\n", w.signedByOpenSSL(text, []string{"frank"}), Policy, "has expired"},
		"revoked":                {"From: grace@works.gov.example\r\n", w.signedByOpenSSL(text, []string{"grace"}), Policy, "has been revoked"},
		"an authority's twin":    {from, w.signedByOpenSSL(text, []string{"foreign"}), Policy, "not from a trusted authority"},
		"the twin comes with it": {from, w.signedByOpenSSL(text, []string{"foreign"}, "-certfile", w.write("twin.pem", append(demopki.CertPEM(twinSub.Cert), demopki.CertPEM(twin.Cert)...))), Policy, "not from a trusted authority"},
		"their own authority":    {from, w.signedByOpenSSL(text, []string{"self"}, "-certfile", w.write("own.pem", demopki.CertPEM(own.Cert))), Policy, "not from a trusted authority"},
		"names no address":       {"From: erin@health.gov.example\r\n", w.signedByOpenSSL(text, []string{"erin"}), Policy, "not the author"},
	} {
		raw := []byte(c.header + c.body)
		r := w.gw.Verify(raw, parse(raw))
		if r.Status != c.want || !strings.Contains(r.Reason, c.reason) || r.Domain != strings.HasPrefix(c.reason, "signed by the domain") {
			t.Errorf("%s: %v, %q, domain %v; want %v, %q", name, r.Status, r.Reason, r.Domain, c.want, c.reason)
		}
		if field := r.AuthenticationResults("mail.gov.example"); !strings.Contains(field, "smime="+string(c.want)) {
			t.Errorf("%s: %q", name, field)
		}
	}
}

// signatureOf is the base64 of a detached signature that OpenSSL made.
func signatureOf(body string) string {
	_, sig, _ := strings.Cut(body, "filename=\"smime.p7s\"\r\n\r\n")
	sig, _, _ = strings.Cut(sig, "--"+boundaryOf(body))
	return sig
}

// encryptedByOpenSSL is an entity encrypted to somebody.
func (w *world) encryptedByOpenSSL(entity, to string) string {
	w.t.Helper()
	cert, _ := w.files(to)
	out, err := w.openssl("cms", "-encrypt", "-aes256", "-in", w.write("in.txt", []byte(crlf(entity))), cert)
	w.must(err)
	_, body, _ := strings.Cut(crlf(string(out)), "MIME-Version: 1.0\r\n")
	return body
}

// certsOnly is a CMS structure with certificates alone.
func (w *world) certsOnly() string {
	w.t.Helper()
	out, err := w.openssl("crl2pkcs7", "-nocrl", "-certfile", w.write("sub.pem", pemOf(w)))
	w.must(err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[1:len(lines)-1], "\r\n") + "\r\n"
}

// TestSigningTime: what the signer says about when must fit their certificate and our clock, within a day.
func TestSigningTime(t *testing.T) {
	w := newSmallWorld(t)
	now := time.Now()
	old, err := w.sub.Issue(demopki.Spec{CN: "Carol", Address: "carol@health.gov.example", NotBefore: now.Add(-10 * 24 * time.Hour), NotAfter: now.Add(10 * 24 * time.Hour)})
	w.must(err)
	const content = "Content-Type: text/plain\r\n\r\nyes\r\n"
	at := func(when time.Time) []byte {
		der, err := cms.Sign(rand.Reader, false, []cms.SignerSpec{{Cert: old.Cert, Key: old.Key}}, cms.SignOptions{Time: when}, []byte(content))
		w.must(err)
		return []byte("From: carol@health.gov.example\r\nContent-Type: application/pkcs7-mime; smime-type=signed-data\r\nContent-Transfer-Encoding: base64\r\n\r\n" + string(appendBase64(nil, der)))
	}
	for days, want := range map[int]string{
		-12: "before their certificate was valid", -9: "by the author", 0: "by the author", 2: "in the future",
	} {
		raw := at(now.Add(time.Duration(days) * 24 * time.Hour))
		r := w.gw.Verify(raw, parse(raw))
		if !strings.Contains(r.Reason, want) || (r.Status == Pass) != (want == "by the author") {
			t.Errorf("%d days: %v %q", days, r.Status, r.Reason)
		}
	}
	// It held when it was signed, but does not when it comes.
	raw := at(now)
	v, err := trust.New(trust.Options{
		Anchors: []*x509.Certificate{w.ca.Cert}, Intermediates: []*x509.Certificate{w.sub.Cert}, Now: func() time.Time { return now.Add(11 * 24 * time.Hour) },
		CRLs: []string{filepath.Join(w.dir, "root.crl"), filepath.Join(w.dir, "sub.crl")},
	})
	w.must(err)
	if r := New(Options{Trust: v}).Verify(raw, parse(raw)); r.Status != Policy || !strings.Contains(r.Reason, "expired") {
		t.Errorf("expired when it comes: %v %q", r.Status, r.Reason)
	}
}
