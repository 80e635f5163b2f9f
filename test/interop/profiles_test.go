//go:build e2e

package interop

import (
	"bytes"
	"crypto/sha1" // as gpgsm names what it trusts
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"software.sslmate.com/src/go-pkcs12"

	"cmmpd/internal/demopki"
	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/testkit"
	"cmmpd/smime"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// thunderbirdLibraries is where Thunderbird keeps its NSS, which Debian's cmsutil is run with.
const thunderbirdLibraries = "/usr/lib/thunderbird"

// bouncyCastle is where Debian has the library that many gateways in Java are made with.
const bouncyCastle = "/usr/share/java/bcprov.jar:/usr/share/java/bcpkix.jar:/usr/share/java/bcutil.jar:/usr/share/java/bcmail.jar"

// peers are the programs that read and write CMS: OpenSSL, NSS and Bouncy Castle with one
// person's key at a time, gpgsm with all that it takes, which are the RSA keys.
type peers struct {
	t      *testing.T
	dir    string
	ca     *demopki.CA
	people map[string]*demopki.Identity
	home   string // gpgsm's
	java   string // where testdata/BouncyCastle.java is compiled to
	gw     *smime.Gateway
}

// The people and what their keys are for. Eddie, whose key only signs, is none of NSS's.
var kinds = map[string]demopki.Kind{"alice": demopki.RSA2048, "bob": demopki.RSA3072, "carol": demopki.P256, "erin": demopki.P384, "grace": demopki.P521}

func newPeers(t *testing.T) *peers {
	p := &peers{t: t, dir: t.TempDir(), people: make(map[string]*demopki.Identity)}
	var err error
	if p.home, err = os.MkdirTemp("/tmp", "g"); err != nil { // the agent's socket wants a short path
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = p.run(nil, "gpgconf", "--kill", "gpg-agent")
		_ = os.RemoveAll(p.home)
	})
	if p.ca, err = demopki.NewCA("Root", nil); err != nil {
		t.Fatal(err)
	}
	p.file("ca.pem", demopki.CertPEM(p.ca.Cert))
	trusted := fmt.Sprintf("%X S relax\n", sha1.Sum(p.ca.Cert.Raw))
	for name, text := range map[string]string{"gpgsm.conf": "disable-crl-checks\n", "gpg-agent.conf": "allow-loopback-pinentry\n", "trustlist.txt": trusted} {
		if err := os.WriteFile(filepath.Join(p.home, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.java = t.TempDir()
	source, err := filepath.Abs(filepath.Join("testdata", "BouncyCastle.java"))
	if err != nil {
		t.Fatal(err)
	}
	p.must("javac", "-cp", bouncyCastle, "-d", p.java, source)
	p.person("eddie", demopki.Ed25519)
	for name, kind := range kinds {
		id := p.person(name, kind)
		p12, err := id.PKCS12("secret")
		if err != nil {
			t.Fatal(err)
		}
		db := "sql:" + filepath.Join(p.dir, name)
		if err := os.Mkdir(filepath.Join(p.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		p.must("certutil", "-N", "-d", db, "--empty-password")
		p.must("certutil", "-A", "-d", db, "-n", "root", "-t", "CT,C,", "-i", "ca.pem")
		p.must("pk12util", "-i", p.file(name+".p12", p12), "-d", db, "-W", "secret", "-K", "")
		if err := p.toGpgsm(name, id); err != nil && strings.HasPrefix(keyName(name), "RSA") {
			t.Fatal(err)
		}
	}
	authority, err := p.ca.Issue(demopki.Spec{CN: "works", Address: "domain-signing-authority@works.gov.example", Key: demopki.RSA2048})
	if err != nil {
		t.Fatal(err)
	}
	p.file("works.pem", demopki.CertPEM(authority.Cert))
	verifier, err := trust.New(trust.Options{Anchors: []*x509.Certificate{p.ca.Cert}})
	if err != nil {
		t.Fatal(err)
	}
	p.gw = smime.New(smime.Options{
		Trust: verifier,
		Signers: func(string) (cms.SignerSpec, bool) {
			return cms.SignerSpec{Cert: authority.Cert, Key: authority.Key}, true
		},
		Own: func(a mail.Address) (cms.SignerSpec, bool) {
			id, ok := p.people[a.Local]
			if !ok {
				return cms.SignerSpec{}, false
			}
			return cms.SignerSpec{Cert: id.Cert, Key: id.Key}, true
		},
	})
	for name := range kinds {
		for other := range kinds {
			if name != other {
				p.must("certutil", "-A", "-d", "sql:"+filepath.Join(p.dir, name), "-n", other, "-t", ",,", "-i", other+".pem")
			}
		}
	}
	return p
}

// toGpgsm gives gpgsm 2.2 a key, in the old form that it takes. It stumbles over one file in a
// hundred, which OpenSSL reads.
func (p *peers) toGpgsm(name string, id *demopki.Identity) error {
	p.t.Helper()
	for range 3 {
		old, err := pkcs12.LegacyDES.Encode(id.Key, id.Cert, []*x509.Certificate{p.ca.Cert}, "secret")
		if err != nil {
			return err
		}
		if _, err = p.gpgsm("--import", p.file(name+".old.p12", old)); err == nil {
			return nil
		}
	}
	return fmt.Errorf("gpgsm takes no key of %s", name)
}

// person makes somebody with a certificate, and their files.
func (p *peers) person(name string, kind demopki.Kind) *demopki.Identity {
	p.t.Helper()
	id, err := p.ca.Issue(demopki.Spec{CN: name, Address: name + "@works.gov.example", Key: kind})
	if err != nil {
		p.t.Fatal(err)
	}
	p.people[name] = id
	key, err := demopki.KeyPEM(id.Key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.file(name+".key", key)
	p.file(name+".pem", demopki.CertPEM(id.Cert))
	return id
}

func (p *peers) file(name string, b []byte) string {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.WriteFile(path, b, 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// run runs a program in the folder of the keys. What belongs to NSS runs with Thunderbird's.
func (p *peers) run(in []byte, name string, args ...string) ([]byte, error) {
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Stdin = p.dir, bytes.NewReader(in)
	cmd.Env = append(os.Environ(), "GNUPGHOME="+p.home)
	if strings.HasSuffix(name, "util") {
		cmd.Env = append(cmd.Env, "LD_LIBRARY_PATH="+thunderbirdLibraries)
	}
	var out, words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &words
	if err := cmd.Run(); err != nil {
		return out.Bytes(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(words.String()))
	}
	return out.Bytes(), nil
}

func (p *peers) must(name string, args ...string) {
	p.t.Helper()
	if _, err := p.run(nil, name, args...); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peers) gpgsm(args ...string) ([]byte, error) {
	return p.run([]byte("secret\n"), "gpgsm", append([]string{"--batch", "--pinentry-mode", "loopback", "--passphrase-fd", "0"}, args...)...)
}

// bouncy has Bouncy Castle do something.
func (p *peers) bouncy(args ...string) ([]byte, error) {
	return p.run(nil, "java", append([]string{"-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", bouncyCastle + ":" + p.java, "BouncyCastle"}, args...)...)
}

// programs are the peers' names, in the order of the columns.
var programs = []string{"OpenSSL", "gpgsm", "Thunderbird's NSS", "Bouncy Castle"}

// open has a program open an encrypted message with name's key.
func (p *peers) open(program, name string, der []byte) ([]byte, error) {
	in := p.file("in", der)
	switch program {
	case "OpenSSL":
		return p.run(nil, "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", in, "-inkey", name+".key", "-recip", name+".pem")
	case "gpgsm":
		return p.gpgsm("--decrypt", in)
	case "Bouncy Castle":
		return p.bouncy("decrypt", in, name+".pem", name+".key")
	}
	return p.run(nil, "cmsutil", "-D", "-d", "sql:"+name, "-i", in)
}

// verify has a program verify what name signed, and tell its content.
func (p *peers) verify(program, name string, der []byte) ([]byte, error) {
	in := p.file("in", der)
	switch program {
	case "OpenSSL":
		return p.run(nil, "openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", in, "-CAfile", "ca.pem")
	case "gpgsm":
		out := filepath.Join(p.dir, "out")
		if _, err := p.gpgsm("--yes", "--output", out, "--verify", in); err != nil {
			return nil, err
		}
		return os.ReadFile(out)
	case "Bouncy Castle":
		return p.bouncy("verify", in, name+".pem")
	}
	return p.run(nil, "cmsutil", "-D", "-d", "sql:bob", "-u", "4", "-i", in)
}

// encrypt has a program encrypt to name.
func (p *peers) encrypt(program, name string, how []string, plain []byte) ([]byte, error) {
	in := p.file("in", plain)
	switch program {
	case "OpenSSL":
		return p.run(nil, "openssl", append(append([]string{"cms", "-encrypt", "-binary", "-outform", "DER", "-in", in}, how...), name+".pem")...)
	case "gpgsm":
		return p.gpgsm("--encrypt", "--disable-crl-checks", "-r", name+"@works.gov.example", in)
	case "Bouncy Castle":
		return p.bouncy(append(append([]string{"encrypt", in}, how...), name+".pem")...)
	}
	return p.run(nil, "cmsutil", "-E", "-d", "sql:"+name, "-r", name+"@works.gov.example", "-i", in)
}

// sign has a program sign, with the content within. Only OpenSSL and Bouncy Castle let one say how.
func (p *peers) sign(program string, s signature, plain []byte) ([]byte, error) {
	in, name := p.file("in", plain), s.who
	switch program {
	case "OpenSSL":
		return p.run(nil, "openssl", append([]string{"cms", "-sign", "-binary", "-nodetach", "-outform", "DER", "-in", in, "-signer", name + ".pem", "-inkey", name + ".key"}, s.openssl...)...)
	case "Bouncy Castle":
		return p.bouncy("sign", in, s.java, name+".pem", name+".key")
	}
	if _, known := kinds[name]; s.pss || !known {
		return nil, errNotAsked
	}
	if program == "gpgsm" {
		return p.gpgsm("--sign", "-u", name+"@works.gov.example", in)
	}
	nick, err := p.nick(name)
	if err != nil {
		return nil, err
	}
	return p.run(nil, "cmsutil", "-S", "-G", "-d", "sql:"+name, "-N", nick, "-i", in)
}

var errNotAsked = errors.New("it has no such key, or nothing of the kind")

// A signature: whose, and how.
type signature struct {
	name, who string
	pss       bool
	openssl   []string
	java      string // Bouncy Castle's name for it
	readers   string // of the programs: what is known of them must stay so
}

var signatures = []signature{
	{"RSA-2048, PKCS #1 v1.5", "alice", false, nil, "SHA256withRSA", "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"RSA-2048, PSS", "alice", true, []string{"-keyopt", "rsa_padding_mode:pss"}, "SHA256withRSAandMGF1", "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"ECDSA P-256", "carol", false, nil, "SHA256withECDSA", "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"ECDSA P-384", "erin", false, []string{"-md", "sha384"}, "SHA384withECDSA", "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{"ECDSA P-521", "grace", false, []string{"-md", "sha512"}, "SHA512withECDSA", "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{"Ed25519", "eddie", false, nil, "Ed25519", "Bouncy Castle"},
}

// nick is the name that pk12util gave the certificate that it brought.
func (p *peers) nick(name string) (string, error) {
	out, err := p.run(nil, "certutil", "-L", "-d", "sql:"+name)
	for line := range strings.Lines(string(out)) {
		if i := strings.Index(line, "u,u,u"); i > 0 {
			return strings.TrimSpace(line[:i]), nil
		}
	}
	return "", err
}

// A profile of what the gateway seals: what is known of who can read it is what must stay so.
var profiles = []struct {
	gcm       bool
	transport cms.KeyTransport
	to        []string
	readers   string // of the programs
}{
	{false, cms.PKCS1v15, []string{"bob"}, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{false, cms.OAEPSHA256, []string{"alice"}, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{false, 0, []string{"carol"}, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{false, 0, []string{"erin"}, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{false, 0, []string{"grace"}, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{false, cms.PKCS1v15, []string{"alice", "bob", "carol", "erin"}, "OpenSSL, gpgsm, Thunderbird's NSS, Bouncy Castle"},
	{false, cms.OAEPSHA256, []string{"alice", "bob", "carol", "erin"}, "OpenSSL, Thunderbird's NSS, Bouncy Castle"},
	{true, cms.PKCS1v15, []string{"bob"}, "OpenSSL, Bouncy Castle"},
	{true, cms.OAEPSHA256, []string{"alice"}, "OpenSSL, Bouncy Castle"},
	{true, 0, []string{"carol"}, "OpenSSL, Bouncy Castle"},
	{true, 0, []string{"erin"}, "OpenSSL, Bouncy Castle"},
	{true, 0, []string{"grace"}, "OpenSSL, Bouncy Castle"},
	{true, cms.OAEPSHA256, []string{"alice", "bob", "carol", "erin"}, "OpenSSL, Bouncy Castle"},
}

// seal is a message that the gateway seals in the i-th profile, as it stands within the MIME
// structure, and what is within: the multipart/signed of the domain.
func (p *peers) seal(i int) (der, entity []byte) {
	p.t.Helper()
	pr := profiles[i]
	var to []smime.Usable
	for _, name := range pr.to {
		to = append(to, smime.Usable{Cert: p.people[name].Cert, GCM: pr.gcm, Transport: pr.transport})
	}
	raw := []byte("From: alice@works.gov.example\r\nTo: team@works.gov.example\r\nSubject: [CONFIDENTIAL] tender\r\n" +
		"Content-Type: text/plain; charset=utf-8\r\n\r\n" + strings.Repeat("The tender opens at four. 標書四時開標。\r\n", 200))
	sealed, err := p.gw.Seal(raw, message.Parse(raw, message.Limits{}), smime.SealOptions{Sender: mail.MustParseAddress("alice@works.gov.example"), Recipients: to})
	if err != nil {
		p.t.Fatal(err)
	}
	x := message.Parse(sealed, message.Limits{})
	k, err := cms.NewKeyOpener(p.people[pr.to[0]].Cert, p.people[pr.to[0]].Key)
	if err != nil {
		p.t.Fatal(err)
	}
	o, err := p.gw.Open(sealed, x, k)
	if err != nil || o.Signature.Status != smime.Pass {
		p.t.Fatalf("ours does not open in ours: %v, %+v", err, o)
	}
	if der, err = message.DecodeTransfer(sealed[x.Root.BodyStart:x.Root.BodyEnd], x.Root.Encoding); err != nil {
		p.t.Fatal(err)
	}
	return der, o.Entity
}

// verifyDetached has a program, with name's keys if it wants some, verify a multipart/signed of the one whose certificate is given.
func (p *peers) verifyDetached(program, name, signer string, entity []byte) error {
	x := message.Parse(entity, message.Limits{})
	if len(x.Root.Children) != 2 {
		return fmt.Errorf("what is within is no multipart/signed:\n%s", entity)
	}
	first, second := x.Root.Children[0], x.Root.Children[1]
	sig, err := message.DecodeTransfer(entity[second.BodyStart:second.BodyEnd], second.Encoding)
	if err != nil {
		return err
	}
	content, signature := p.file("content", entity[first.HeaderStart:first.BodyEnd]), p.file("signature", sig)
	switch program {
	case "OpenSSL":
		_, err = p.run(entity, "openssl", "cms", "-verify", "-CAfile", "ca.pem", "-purpose", "smimesign")
	case "gpgsm":
		_, err = p.gpgsm("--verify", signature, content)
	case "Bouncy Castle":
		_, err = p.bouncy("verify", signature, signer, content)
	default:
		_, err = p.run(nil, "cmsutil", "-D", "-d", "sql:"+name, "-u", "4", "-i", signature, "-c", content)
	}
	return err
}

func (p *peers) profileName(i int) string {
	pr := profiles[i]
	var keys []string
	for _, name := range pr.to {
		how := keyName(name)
		if how == "RSA" {
			how = "RSA PKCS #1 v1.5"
			if pr.transport == cms.OAEPSHA256 {
				how = "RSA-OAEP SHA-256"
			}
		}
		if len(keys) == 0 || keys[len(keys)-1] != how {
			keys = append(keys, how)
		}
	}
	cipher := cms.AES256CBC
	if pr.gcm {
		cipher = cms.AES256GCM
	}
	return fmt.Sprintf("%s, %s", cipher, strings.Join(keys, " + "))
}

// keyName says how the person's key is used for encryption.
func keyName(name string) string {
	switch kinds[name] {
	case demopki.P256:
		return "ECDH P-256"
	case demopki.P384:
		return "ECDH P-384"
	case demopki.P521:
		return "ECDH P-521"
	}
	return "RSA"
}

// profileTables goes both ways with each program in every profile and returns the tables.
func profileTables(t *testing.T) string {
	for _, n := range []string{"openssl", "gpgsm", "cmsutil", "certutil", "pk12util", "thunderbird", "java", "javac"} {
		testkit.Need(t, n)
	}
	p := newPeers(t)
	plain := []byte(strings.Repeat("Content-Type: text/plain\r\n\r\nThe tender opens at four.\r\n", 200))
	var b strings.Builder
	head := func(title string) {
		fmt.Fprintf(&b, "\n| %s | %s |\n|%s\n", title, strings.Join(programs, " | "), strings.Repeat(" --- |", len(programs)+1))
	}
	row := func(what string, cell func(program string) (string, error)) {
		fmt.Fprintf(&b, "| %s |", what)
		for _, program := range programs {
			word, err := cell(program)
			if err != nil {
				t.Logf("%s, %s: %v", what, program, err)
			}
			fmt.Fprintf(&b, " %s |", word)
		}
		b.WriteString("\n")
	}

	head("sealed by the gateway, opened and its signature verified by")
	for i, pr := range profiles {
		der, entity := p.seal(i)
		row(p.profileName(i), func(program string) (string, error) {
			for _, name := range pr.to {
				if program == "gpgsm" && strings.HasPrefix(keyName(name), "ECDH") && len(pr.to) > 1 {
					continue // it has no such key; those with others shall read theirs
				}
				got, err := p.open(program, name, der)
				if err == nil && !bytes.Equal(got, entity) {
					err = fmt.Errorf("%s reads %d bytes, not %d", name, len(got), len(entity))
				}
				if err == nil {
					err = p.verifyDetached(program, name, "works.pem", got)
				}
				if err != nil {
					if strings.Contains(pr.readers, program) {
						t.Errorf("%s, %s: %v", program, p.profileName(i), err)
					}
					return "no", err
				}
			}
			if !strings.Contains(pr.readers, program) {
				t.Errorf("%s opens %s: what is known of it is out of date", program, p.profileName(i))
			}
			return "yes", nil
		})
	}

	p.ruleTable(head, row)

	head("signed by us, verified by")
	for _, sig := range signatures {
		id := p.people[sig.who]
		der, err := cms.Sign(nil, false, []cms.SignerSpec{{Cert: id.Cert, Key: id.Key, PSS: sig.pss}}, cms.SignOptions{Time: time.Now(), Certificates: []*x509.Certificate{p.ca.Cert}}, plain)
		if err != nil {
			t.Fatal(err)
		}
		row(sig.name, func(program string) (string, error) {
			got, err := p.verify(program, sig.who, der)
			if err == nil && !bytes.Equal(got, plain) {
				err = errors.New("another content")
			}
			if (err == nil) != strings.Contains(sig.readers, program) {
				t.Errorf("%s verifies %s: %v", program, sig.name, err)
			}
			if err != nil {
				return "no", err
			}
			return "verifies", nil
		})
	}

	head("encrypted by them, opened by us")
	oaep := []string{"-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"}
	for _, w := range []struct {
		what, to string
		openssl  []string // how OpenSSL is told
		java     []string // and Bouncy Castle
		own      bool     // what the others do of themselves
	}{
		{"RSA PKCS #1 v1.5, the program's own choice of cipher", "bob", []string{"-aes256"}, []string{"cbc", "pkcs1v15"}, true},
		{"ECDH P-256, likewise", "carol", []string{"-aes256"}, []string{"cbc", "pkcs1v15"}, true},
		{"ECDH P-384, likewise", "erin", []string{"-aes256"}, []string{"cbc", "pkcs1v15"}, true},
		{"ECDH P-521, likewise", "grace", []string{"-aes256"}, []string{"cbc", "pkcs1v15"}, true},
		{"AES-256-CBC, RSA-OAEP", "alice", append([]string{"-aes256", "-recip", "alice.pem"}, oaep...), []string{"cbc", "oaep"}, false},
		{"AES-256-GCM, RSA PKCS #1 v1.5", "bob", []string{"-aes-256-gcm"}, []string{"gcm", "pkcs1v15"}, false},
		{"AES-256-GCM, RSA-OAEP", "alice", append([]string{"-aes-256-gcm", "-recip", "alice.pem"}, oaep...), []string{"gcm", "oaep"}, false},
		{"AES-256-GCM, ECDH P-256", "carol", []string{"-aes-256-gcm"}, []string{"gcm", "oaep"}, false},
		{"AES-256-GCM, ECDH P-384", "erin", []string{"-aes-256-gcm"}, []string{"gcm", "oaep"}, false},
	} {
		row(w.what, func(program string) (string, error) {
			how := w.openssl
			switch {
			case program == "Bouncy Castle":
				how = w.java
			case program != "OpenSSL" && !w.own:
				return "–", nil
			}
			der, err := p.encrypt(program, w.to, how, plain)
			if err != nil {
				return "cannot", err
			}
			e, err := cms.ParseEnveloped(der, cms.Limits{})
			if err != nil {
				t.Errorf("%s by %s: %v", w.what, program, err)
				return "no", err
			}
			k, err := cms.NewKeyOpener(p.people[w.to].Cert, p.people[w.to].Key)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := e.Decrypt(k); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s by %s: %v", w.what, program, err)
				return "no", err
			}
			return fmt.Sprintf("opens (%s)", e.Cipher), nil
		})
	}

	head("signed by them, verified by us")
	for _, sig := range signatures {
		row(sig.name, func(program string) (string, error) {
			der, err := p.sign(program, sig, plain)
			switch {
			case errors.Is(err, errNotAsked):
				return "–", nil
			case err != nil:
				return "cannot", err
			}
			s, err := cms.ParseSigned(der, cms.Limits{})
			if err != nil {
				t.Errorf("%s by %s: %v", sig.name, program, err)
				return "no", err
			}
			res, err := s.Verify(0, nil, p.people[sig.who].Cert)
			if err != nil || !res.Cert.Equal(p.people[sig.who].Cert) || !bytes.Equal(s.Content, plain) {
				t.Errorf("%s by %s: %v", sig.name, program, err)
				return "no", err
			}
			return "verifies", nil
		})
	}
	return b.String()
}
