//go:build e2e

package interop

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/smime"
	"cmmpd/smime/cms"
)

// What is signed for those who have no program that does it: whose key signs what, and which programs verify it.
var ruleSignatures = []struct {
	name, who string
	own       bool
	head      string // fields more
	text      string
	opaque    bool
	readers   string
}{
	{"the department's key, RSA-2048", "alice", false, "", "The tender opens at four.", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, RSA-2048", "alice", true, "", "The tender opens at four.", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, RSA-2048; a Chinese text in 8 bits", "alice", true, utf8Text, "標書四時開標。", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, RSA-2048; opaque, for raw characters in the header of a part", "alice", true, rawPart, "--b\nContent-Description: 標書\n\n標書\n--b--", true, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, RSA-3072", "bob", true, utf8Text, "標書四時開標。", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, P-256", "carol", true, utf8Text, "標書四時開標。", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, P-384", "erin", true, utf8Text, "標書四時開標。", false, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"the author's own, P-521", "grace", true, utf8Text, "標書四時開標。", false, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
}

const (
	utf8Text = "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"
	rawPart  = "Content-Type: multipart/mixed; boundary=b\n"
)

// ruleTable has each program verify what the gateway signs by rule: mail in clear, and what it seals.
func (p *peers) ruleTable(head func(string), row func(string, func(string) (string, error))) {
	head("signed by the gateway by rule, verified by")
	for _, sig := range ruleSignatures {
		raw := []byte(strings.ReplaceAll("From: "+sig.who+"@works.gov.example\nTo: team@works.gov.example\nSubject: tender\nMIME-Version: 1.0\n"+sig.head+"\n"+sig.text+"\n", "\n", "\r\n"))
		x := message.Parse(raw, message.Limits{})
		signed, err := p.gw.Sign(raw, x, smime.SignOptions{Author: mail.MustParseAddress(sig.who + "@works.gov.example"), Own: sig.own})
		if err != nil {
			p.t.Fatal(err)
		}
		x = message.Parse(signed, message.Limits{})
		if r := p.gw.Verify(signed, x); r.Status != smime.Pass || r.Domain == sig.own || sig.opaque != (x.Root.Type == "application") {
			p.t.Errorf("%s: ours says %+v", sig.name, r)
		}
		signer := sig.who + ".pem"
		if !sig.own {
			signer = "works.pem"
		}
		row(sig.name, func(program string) (string, error) {
			var err error
			if sig.opaque {
				err = p.verifyOpaque(program, sig.who, signed)
			} else {
				err = p.verifyDetached(program, "bob", signer, signed)
			}
			return p.verdict(program, sig.name, sig.readers, err)
		})
	}
	const name = "sealed, and signed within by the author's own key, RSA-2048"
	raw := []byte("From: alice@works.gov.example\r\nTo: bob@works.gov.example\r\nSubject: [CONFIDENTIAL] tender\r\n\r\nThe tender opens at four.\r\n")
	sealed, err := p.gw.Seal(raw, message.Parse(raw, message.Limits{}), smime.SealOptions{
		Sender: mail.MustParseAddress("alice@works.gov.example"), Own: true, Recipients: []smime.Usable{{Cert: p.people["bob"].Cert, Transport: cms.PKCS1v15}},
	})
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := bodyOf(sealed)
	if err != nil {
		p.t.Fatal(err)
	}
	row(name, func(program string) (string, error) {
		got, err := p.open(program, "bob", der)
		if err == nil {
			err = p.verifyDetached(program, "bob", "alice.pem", got)
		}
		return p.verdict(program, name, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle", err)
	})
}

// verdict is the word for what a program says, which must be what is known of it.
func (p *peers) verdict(program, name, readers string, err error) (string, error) {
	if (err == nil) != strings.Contains(readers, program) {
		p.t.Errorf("%s, %s: %v", program, name, err)
	}
	if err != nil {
		return "no", err
	}
	return "verifies", nil
}

// verifyOpaque has a program verify a message that is one signed structure of name's.
func (p *peers) verifyOpaque(program, name string, raw []byte) error {
	der, err := bodyOf(raw)
	if err != nil {
		return err
	}
	s, err := cms.ParseSigned(der, cms.Limits{})
	if err != nil {
		return err
	}
	got, err := p.verify(program, name, der)
	if err == nil && !bytes.Equal(got, s.Content) {
		return errors.New("another content")
	}
	return err
}

// bodyOf is the body of a message of one part, decoded.
func bodyOf(raw []byte) ([]byte, error) {
	x := message.Parse(raw, message.Limits{})
	if len(x.Root.Children) > 0 {
		return nil, fmt.Errorf("it has %d parts", len(x.Root.Children))
	}
	return message.DecodeTransfer(raw[x.Root.BodyStart:x.Root.BodyEnd], x.Root.Encoding)
}
