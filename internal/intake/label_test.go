package intake

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
	"cmmpd/smime/cms"
)

// signedMail is a message whose only label is the one in uid's signature.
func (w *world) signedMail(uid string, detached bool, l *cms.SecurityLabel, spoil func([]byte) []byte) string {
	w.t.Helper()
	id := w.people[uid]
	content := "Content-Type: text/plain\r\n\r\nthe marker\r\n"
	der, err := cms.Sign(nil, detached, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{Label: l}, []byte(content))
	w.must(err)
	if spoil != nil {
		der = spoil(der)
	}
	head := "From: " + uid + "@works.gov.example\nTo: bob@works.gov.example, carol@health.gov.example\nSubject: hello\nMessage-ID: <signed@x>\nMIME-Version: 1.0\n"
	if !detached {
		return head + "Content-Type: application/pkcs7-mime; smime-type=signed-data; name=smime.p7m\nContent-Transfer-Encoding: base64\n\n" + base64Lines(der)
	}
	return head + "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=b\n\n--b\n" + strings.ReplaceAll(content, "\r\n", "\n") +
		"\n--b\nContent-Type: application/pkcs7-signature; name=smime.p7s\nContent-Transfer-Encoding: base64\n\n" + base64Lines(der) + "--b--\n"
}

// A label that stands in the signature alone counts, on every way in, whatever the
// signature is worth, and never makes a label weaker.
func TestLabelInSignature(t *testing.T) {
	w := newWorld(t)
	ess := func(class int, mark string) *cms.SecurityLabel {
		return &cms.SecurityLabel{Policy: "1.2.3.4", Classification: class, PrivacyMark: mark}
	}
	cut := func(b []byte) []byte { return b[:len(b)-40] } // into the signature value
	for name, c := range map[string]struct {
		label *cms.SecurityLabel
		spoil func([]byte) []byte
		want  mail.Label
	}{
		"none":                   {nil, nil, ""},
		"unmarked":               {ess(0, ""), nil, ""},
		"unclassified":           {ess(1, ""), nil, mail.Unclassified},
		"restricted":             {ess(2, ""), nil, mail.Restricted},
		"confidential":           {ess(3, ""), nil, mail.Confidential},
		"secret":                 {ess(4, ""), nil, mail.Secret},
		"top secret":             {ess(5, ""), nil, mail.TopSecret},
		"the mark is stronger":   {ess(2, "機密"), nil, mail.Confidential},
		"the mark alone":         {ess(cms.NoClassification, "COMPANY CONFIDENTIAL"), nil, mail.Confidential},
		"a number of their own":  {ess(17, "COSMIC"), nil, mail.Confidential},
		"nothing but a policy":   {ess(cms.NoClassification, ""), nil, mail.Confidential},
		"a bad signature":        {ess(3, "mark"), func(b []byte) []byte { return bytes.Replace(b, []byte("mark"), []byte("bark"), 1) }, mail.Confidential},
		"damaged, with a label":  {ess(3, ""), cut, mail.Confidential},
		"damaged, without label": {nil, cut, ""},
	} {
		for _, detached := range []bool{true, false} {
			text := w.signedMail("alice", detached, c.label, c.spoil)
			raw := crlf(text)
			p := &passage{path: policy.Inbound, text: raw, header: message.ParseHeader(raw, message.Limits{}), index: message.Parse(raw, message.Limits{})}
			w.must(w.in.classify(t.Context(), p))
			if p.label != c.want {
				t.Errorf("%s, detached %v: %q, want %q", name, detached, p.label, c.want)
			}
			w.must(w.in.classifyOwn(t.Context(), p, w.principal("alice").Account))
			if p.label != c.want || c.want != "" && p.source != policy.FromSignature {
				t.Errorf("%s, detached %v, saved by its owner: %q from %q, want %q", name, detached, p.label, p.source, c.want)
			}
		}
	}
	text := w.signedMail("alice", true, ess(3, ""), nil)
	if _, err := w.submit("alice", "bob carol", text); err != nil {
		t.Fatal(err)
	}
	if got := w.readers(w.last().Bodies[0].Data, "the marker"); got != "alice bob carol" {
		t.Errorf("a submission is read by %s", got)
	}
	if _, err := w.receive("carol", text); err != nil {
		t.Fatal(err)
	}
	if got := w.readers(w.last().Bodies[0].Data, "the marker"); got != "carol" {
		t.Errorf("inbound mail is read by %s", got)
	}
	w.shelf.got = nil
	_, err := w.submit("alice", "dave", text)
	w.refused(err, mail.Refused, "dave@health.gov.example", "CONFIDENTIAL")

	forwarded := "From: alice@works.gov.example\nContent-Type: multipart/mixed; boundary=o\n\n--o\n\nsee below\n--o\nContent-Type: message/rfc822\n\n" + text + "\n--o--\n"
	_, err = w.submit("alice", "dave", forwarded)
	w.refused(err, mail.Refused, "CONFIDENTIAL")
	var many strings.Builder
	many.WriteString("From: alice@works.gov.example\nContent-Type: multipart/mixed; boundary=o\n\n")
	for range 40 {
		many.WriteString("--o\nContent-Type: application/pkcs7-signature\nContent-Transfer-Encoding: base64\n\n" + base64.StdEncoding.EncodeToString([]byte("x")) + "\n")
	}
	many.WriteString("--o--\n")
	_, err = w.submit("alice", "dave", many.String())
	w.refused(err, mail.Refused, "CONFIDENTIAL") // what is not looked at is not taken for harmless
}

// What header protection repeats within a signature counts like what stands outside.
func TestLabelInSignedHeader(t *testing.T) {
	w := newWorld(t)
	inner := "Content-Type: text/plain; hp=\"clear\"\r\nSubject: [CONFIDENTIAL] budget\r\n\r\nx\r\n"
	id := w.people["alice"]
	der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{}, []byte(inner))
	w.must(err)
	_, err = w.submit("alice", "dave", "From: alice@works.gov.example\nSubject: budget\nContent-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n"+base64Lines(der))
	w.refused(err, mail.Refused, "CONFIDENTIAL")
}

// Content rules read what an opaque signature or compressed data hold.
func TestContentWithinStructures(t *testing.T) {
	w := newWorld(t)
	id := w.people["alice"]
	der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key}}, cms.SignOptions{}, []byte("Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"+base64.StdEncoding.EncodeToString([]byte("Mr Chan, A123456(3)"))+"\r\n"))
	w.must(err)
	_, err = w.submit("alice", "bob", "From: alice@works.gov.example\nSubject: x\nContent-Type: application/pkcs7-mime; smime-type=signed-data\nContent-Transfer-Encoding: base64\n\n"+base64Lines(der))
	w.must(err)
	if l := w.last().Bodies[0].Label; l != mail.Restricted {
		t.Errorf("an identity card's number in an opaque signature: %q", l)
	}
}

func TestSIOLabelWithin(t *testing.T) {
	p, err := policy.New(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	ess, err := (&cms.SecurityLabel{Policy: "1.2.3", Classification: 3}).DER()
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]mail.Label{
		`marking="PUBLIC"; type=":ess"; label="` + b64(ess) + `"`:                                                      mail.Confidential,
		`marking="SECRET"; type=":ess"; label="` + b64(ess) + `"`:                                                      mail.Secret,
		`type=":ess"; label*0="` + b64(ess)[:4] + `"; label*1="` + b64(ess)[4:] + `"`:                                  mail.Confidential,
		`type=":x411"; label="` + b64([]byte{0x31, 3, 2, 1, 4}) + `"`:                                                  mail.Secret,
		`type=":xml"; label="` + b64([]byte(`<l xmlns="urn:x"><Classification>RESTRICTED</Classification></l>`)) + `"`: mail.Restricted,
		`type=":xml"; label="` + b64([]byte(`<l xmlns="urn:confidential"><c value="機密"/></l>`)) + `"`:                  mail.Confidential,
		`type=":xml"; label="` + b64([]byte(`<l xmlns="urn:confidential"/>`)) + `"`:                                    mail.Confidential,
		`type=":xml"; label="` + b64([]byte(`<l><Classification>RESTRICTED</Classification>`)) + `"`:                   mail.Confidential,
		`type=":xml"; label="` + b64([]byte(`<l><Classification>SECRET</Classification>`)) + `"`:                       mail.Secret,
		`marking="RESTRICTED"; type=":xml"; label="` + b64([]byte(`<l>FOUO</l>`)) + `"`:                                mail.Restricted,
		`marking="PUBLIC"; type=":xml"; label="` + b64([]byte(`<l>UNCLASSIFIED</l>`)) + `"`:                            mail.Unclassified,
		`marking="PUBLIC"; type=":ess"; label="rubbish!"`:                                                              mail.Confidential,
		`marking="PUBLIC"`:                                           "",
		`type=":ess"; label="rubbish!"`:                              mail.Confidential,
		`type="urn:example:unknown"; label="AAAA"`:                   mail.Confidential,
		`marking="PUBLIC"; type="urn:example:unknown"; label="AAAA"`: mail.Confidential,
		`marking="RESTRICTED"; type=":ess"; label="AAAA"`:            mail.Restricted,
		`type=":ess"; label="` + b64([]byte{0x31, 3, 2, 1, 0}) + `"`: "",
		`marking="機密"`:                                               mail.Confidential,
	} {
		h := message.ParseHeader([]byte("SIO-Label: "+value+"\r\n\r\n"), message.Limits{})
		if got, source := p.Classify(signals(h)); got != want || want != "" && source != policy.FromSIOLabel {
			t.Errorf("%s: %q from %q, want %q", value, got, source, want)
		}
	}
}

func FuzzSignals(f *testing.F) {
	p, err := policy.New(policy.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(`SIO-Label: marking="SECRET"; type=":ess"; label="MQYGASkCAQM="`)
	f.Add("SIO-Label: type=\":xml\"; label=\"PGw+UkVTVFJJQ1RFRDwvbD4=\"\r\nX-Classification-Lower: restricted; reason=\"x y z\"")
	f.Add("Subject: Re: [LOWER RESTRICTED: published] x")
	f.Fuzz(func(t *testing.T, header string) {
		h := message.ParseHeader([]byte(header+"\r\n\r\n"), message.Limits{})
		s := signals(h)
		l, _ := p.Classify(s)
		if l != "" && !p.Labels().Known(l) {
			t.Fatal(l)
		}
		s.Subject = append(s.Subject, "[TOP SECRET]")
		if l, _ := p.Classify(s); l != mail.TopSecret {
			t.Fatalf("%q makes less of a label", header)
		}
		_, _ = p.Lowering(readings(h, policy.LowerField), s.Subject)
	})
}

// The label is written on what we send: in clear, sealed, and in the domain's signature.
func TestLabelIsWritten(t *testing.T) {
	w := newWorld(t)
	var err error
	w.in.o.Policy, err = policy.New(policy.Options{ESSPolicy: "2.25.4711.1"})
	w.must(err)
	const sio = "SIO-Label: marking=\"RESTRICTED\";\r\n fgcolor=white; bgcolor=\"blue\";\r\n type=\":ess\"; label=\""
	send := func(text string) string {
		t.Helper()
		if _, err := w.submit("alice", "bob", "From: alice@works.gov.example\nTo: bob@works.gov.example\n"+text); err != nil {
			t.Fatal(err)
		}
		return string(w.last().Bodies[0].Data)
	}
	got := send("Subject: [RESTRICTED] x\n\nbody\n")
	if !strings.Contains(got, "\r\n"+sio) || strings.Count(got, "SIO-Label") != 1 || !strings.HasPrefix(got, "Received: ") {
		t.Errorf("restricted: %s", got)
	}
	ours := got[strings.Index(got, sio):]
	ours, _, _ = strings.Cut(ours, "\"\r\n")
	h := message.ParseHeader([]byte(got), message.Limits{})
	if l, source := w.in.o.Policy.Classify(policy.Signals{SIOLabel: h.All("SIO-Label")}); l != mail.Restricted || source != policy.FromSIOLabel {
		t.Errorf("what is written is read as %q from %q", l, source)
	}
	if string(w.last().Bodies[0].Index.Root.Envelope.Subject) != "[RESTRICTED] x" {
		t.Error("the index is not that of what is kept")
	}
	if got := send("Subject: x\n\nbody\n"); strings.Contains(got, "SIO-Label") {
		t.Errorf("without a label: %s", got)
	}
	if got := send("SIO-Label: marking=\"RESTRICTED // WORKS\"\nSubject: x\n\nbody\n"); !strings.Contains(got, "RESTRICTED // WORKS") || strings.Count(got, "SIO-Label") != 1 {
		t.Errorf("the author's own: %s", got)
	}
	if got := send("SIO-Label: marking=\"UNCLASSIFIED\"\nSubject: [RESTRICTED] x\n\nbody\n"); strings.Contains(got, "UNCLASSIFIED") || strings.Count(got, sio) != 1 {
		t.Errorf("the author's own says less: %s", got)
	}
	long := "SIO-Label: marking=\"UNCLASSIFIED\"; x=\""
	long += strings.Repeat("x", len(ours)-len(long)) + "\"\n"
	if got := send(long + "Subject: [RESTRICTED] x\n\nbody\n"); strings.Contains(got, "UNCLASSIFIED") || strings.Count(got, sio) != 1 {
		t.Errorf("the author's own says less, at the same length: %s", got)
	}
	if _, err := w.receive("bob", "From: x@example.org\nSubject: [RESTRICTED] x\n\nbody\n"); err != nil || bytes.Contains(w.last().Bodies[0].Data, []byte("SIO-Label")) {
		t.Errorf("what is not ours is marked: %v", err)
	}

	got = send("X-Classification: restricted\nSIO-Label: marking=\"CONFIDENTIAL // EYES OF WORKS\"\nSubject: budget\n\nthe marker\n")
	outer, _, _ := strings.Cut(got, "\r\n\r\n")
	if !strings.Contains(outer, "SIO-Label: marking=\"CONFIDENTIAL\";") || !strings.Contains(outer, "X-Classification: confidential\r\n") || strings.Contains(outer, "EYES") || strings.Contains(outer, "restricted") {
		t.Errorf("outside stands %s", outer)
	}
	key, err := cms.NewKeyOpener(w.people["bob"].Cert, w.people["bob"].Key)
	w.must(err)
	opened, err := w.gateway().Open([]byte(got), message.Parse([]byte(got), message.Limits{}), key)
	w.must(err)
	inner, _, _ := strings.Cut(string(opened.Inner), "\r\n\r\n")
	if !strings.Contains(inner, "EYES OF WORKS") || strings.Count(inner, "SIO-Label") != 1 || !strings.Contains(inner, "X-Classification: confidential") || strings.Count(inner, "X-Classification") != 1 || len(opened.Differs) > 0 {
		t.Errorf("within stands %s, and differs: %v", inner, opened.Differs)
	}
	found := w.gateway().Labels(opened.Entity, message.Parse(opened.Entity, message.Limits{}))
	if len(found.Labels) != 1 || found.Labels[0].String() != "2.25.4711.1:3" || found.Labels[0].PrivacyMark != "CONFIDENTIAL" {
		t.Errorf("the domain's signature says %+v", found)
	}
	if opened.Signature.Status != "pass" {
		t.Errorf("the signature: %+v", opened.Signature)
	}
}
