package e2e

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
)

// keydProcess is a cmmpd keyd on two tokens of SoftHSM. The PIN of the first, "services", is in a file.
type keydProcess struct {
	t      testing.TB
	dir    string
	socket string
	hsm    testkit.SoftHSM
	cmd    *exec.Cmd
	end    chan error
	log    bytes.Buffer
	seen   int // how much of log ended has returned

	sandbox string   // file with the sandbox that it runs in; empty: none
	env     []string // what its library needs besides
}

func newKeyd(t testing.TB) *keydProcess { return newKeydIn(t, "") }

func newKeydIn(t testing.TB, sandbox string) *keydProcess {
	t.Helper()
	k := prepareKeyd(t)
	k.sandbox = sandbox
	k.begin()
	return k
}

// prepareKeyd makes the tokens and the configuration.
func prepareKeyd(t testing.TB) *keydProcess {
	t.Helper()
	k := &keydProcess{t: t, dir: t.TempDir(), hsm: testkit.NewSoftHSM(t, "services", "mail keys")}
	k.socket = filepath.Join(k.dir, "keyd.sock")
	for _, label := range []string{"services", "mail keys"} {
		k.write(label+".pin", testkit.SoftPIN(label)+"\n")
	}
	k.write("keyd.toml", fmt.Sprintf("socket = %q\nclients = [\"%d\"]\noperators = [\"%d\"]\n[service]\nmodule = %q\ntoken = \"services\"\npin-file = \"services.pin\"\n[mail]\nmodule = %q\ntoken = \"mail keys\"\nshares = \"mail.shares\"\n",
		k.socket, os.Getuid(), os.Getuid(), k.hsm.Module, k.hsm.Module))
	return k
}

// begin starts keyd until the test ends.
func (k *keydProcess) begin() {
	k.t.Helper()
	k.start()
	k.t.Cleanup(func() {
		k.stop(syscall.SIGTERM)
		if k.t.Failed() {
			k.t.Logf("keyd's words:\n%s", k.log.String())
		}
	})
}

func (k *keydProcess) write(name, text string) {
	if err := os.WriteFile(filepath.Join(k.dir, name), []byte(text), 0o600); err != nil {
		k.t.Fatal(err)
	}
}

// start starts keyd and waits until its socket answers.
func (k *keydProcess) start() {
	k.t.Helper()
	cmd := exec.Command(program, "keyd", "--config", filepath.Join(k.dir, "keyd.toml"))
	if k.sandbox != "" {
		cmd = inSandbox(k.sandbox, cmd.Args[0], cmd.Args[1:]...)
	}
	cmd.Env = append(append(cmd.Environ(), "SOFTHSM2_CONF="+k.hsm.Conf), k.env...)
	cmd.Stderr = &k.log
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.cmd, k.end = cmd, make(chan error, 1)
	go func() { k.end <- cmd.Wait() }()
	k.eventually("keyd listens", func() bool {
		out, _ := exec.Command(program, "keys", "list", "--keyd", k.socket).CombinedOutput()
		return !strings.Contains(string(out), "does not answer")
	})
}

// eventually waits until another process has come so far.
func (k *keydProcess) eventually(what string, is func() bool) {
	k.t.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			k.t.Fatalf("never: %s", what)
		}
		time.Sleep(20 * time.Millisecond) // polling another process
	}
}

func (k *keydProcess) stop(sig syscall.Signal) {
	if k.cmd == nil {
		return
	}
	_ = k.cmd.Process.Signal(sig)
	err := <-k.end
	k.cmd = nil
	if err != nil && sig != syscall.SIGKILL {
		k.t.Errorf("keyd ended with %v", err)
	}
}

func (k *keydProcess) unseal() {
	k.t.Helper()
	out, err := exec.Command(program, "unseal", "--keyd", k.socket, "--pin-file", filepath.Join(k.dir, "mail keys.pin")).CombinedOutput()
	if err != nil {
		k.t.Fatalf("unseal: %v: %s", err, out)
	}
}

// addPeople adds people with certificates of the installation's own authority, who have a password file as in a demonstration.
func (s *site) addPeople(uids ...string) {
	s.t.Helper()
	ca, ldif := s.authority(), ""
	for _, uid := range uids {
		id, err := ca.Issue(demopki.Spec{CN: uid, Address: uid + "@works.gov.example", Key: demopki.RSA2048})
		if err != nil {
			s.t.Fatal(err)
		}
		key, err := demopki.KeyPEM(id.Key)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.MkdirAll(s.path("people", uid), 0o700); err != nil {
			s.t.Fatal(err)
		}
		for name, data := range map[string][]byte{"password": []byte("password of " + uid), "key.pem": key, "cert.pem": demopki.CertPEM(id.Cert)} {
			if err := os.WriteFile(s.path("people", uid, name), data, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
		ldif += fmt.Sprintf("dn: uid=%[1]s,ou=people,dc=works,dc=gov,dc=example\nchangetype: add\nobjectClass: inetOrgPerson\nobjectClass: cmmpdAccount\n"+
			"uid: %[1]s\ncn: %[1]s\nsn: %[1]s\nmail: %[1]s@works.gov.example\nuserPassword: password of %[1]s\nuserCertificate;binary:: %[2]s\n\n", uid, base64.StdEncoding.EncodeToString(id.Cert.Raw))
	}
	s.must(ldif, program, "directory", "import", "--config", s.path("cmmpd.toml"), "--user", "kwchan", "--password-file", s.adminPassword)
}

// health is what /readyz says.
func (s *site) health() (int, string) {
	s.t.Helper()
	res, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/readyz", s.base+90))
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(b)
}

// sealedMail sends confidential mail from alice to bob, and returns curl's words.
func (s *site) sealedMail(text string) (string, error) {
	return s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "[CONFIDENTIAL] x", text))
}

// opened is what the newest of bob's mail says, as openssl opens it with bob's key and verifies it.
func (s *site) opened() string {
	s.t.Helper()
	inner := s.must(s.last("bob", "INBOX"), "openssl", "cms", "-decrypt", "-inkey", s.path("people", "bob", "key.pem"), "-recip", s.path("people", "bob", "cert.pem"))
	return s.must(inner, "openssl", "cms", "-verify", "-CAfile", s.path("pki", "ca.pem"))
}

// TestTokens runs a whole platform on two tokens: sealed and unsealed, and through the end of keyd in the middle of work.
func TestTokens(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	k := newKeyd(t)
	if code, out := (&site{t: t}).code("init", "--dir", filepath.Join(t.TempDir(), "x"), "--hostname", "h.example", "--domain", "d.example", "--self-signed", "--keyd", k.socket); code != 1 || !strings.Contains(out, "sealed") {
		t.Errorf("init with a sealed token: %d %s", code, out)
	}
	k.unseal()
	s := newInstallation(t, "--keyd", k.socket)
	list := s.must("", program, "keys", "list", "--config", s.path("cmmpd.toml"))
	for _, want := range []string{"service\taudit\ted25519\tin use", "service\tblind\thmac-256", "service\tstore\thmac-256", "service\tgateway/works.gov.example\trsa-2048", "mail\tplatform\taes-256"} {
		if !strings.Contains(list, want) {
			t.Errorf("no %q in the list:\n%s", want, list)
		}
	}
	if _, err := os.Stat(s.path("keys", "keystore")); err == nil {
		t.Error("there is a keystore of files, too")
	}
	s.serveIt()
	p := s.newPartner()
	s.routeTo(p.addr, `"200ms"`, `"1h"`, `"2h"`)
	s.addPeople("alice", "bob", "carol")
	if code, text := s.health(); code != 200 || !strings.HasPrefix(text, "ready\n") || strings.Contains(text, "keystore") {
		t.Errorf("health: %d %q", code, text)
	}
	if out, err := s.sealedMail("first words"); err != nil {
		t.Fatal(err, out)
	}
	if got := s.opened(); !strings.Contains(got, "first words") {
		t.Errorf("bob reads %q", got)
	}
	if out := s.must("", program, "smime", "signers", "--config", s.path("cmmpd.toml")); !strings.Contains(out, "the domain works.gov.example") || strings.Contains(out, "NOT USABLE") {
		t.Errorf("who signs: %s", out)
	}
	if code, out := s.code("smime", "key", "import", "--config", s.path("cmmpd.toml"), "--for", "works.gov.example", "--certificate", "none", "--key", "none"); code != 1 || !strings.Contains(out, "are in a token") {
		t.Errorf("a key is imported into a token: %d %s", code, out)
	}
	t.Run("sealed", func(t *testing.T) { s.whileSealed(t, k, p) })
	t.Run("killed", func(t *testing.T) { s.whileKilled(t, k) })
	t.Run("officers", func(t *testing.T) { s.officers(t, k) })
	s.stop(syscall.SIGTERM)
	if out := s.must("", program, "check", "--deep", "--config", s.path("cmmpd.toml")); !strings.Contains(out, "problems 0") && strings.Contains(out, "problem:") {
		t.Errorf("check: %s", out)
	}
	s.must("", program, "audit", "verify", "--key", s.path("audit", "audit.pub"), s.path("audit"))
	log := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
	for _, want := range []string{`"keystore.state"`, `"key.unwrap"`} {
		if !strings.Contains(log, want) {
			t.Errorf("no %s on record", want)
		}
	}
	dest, again := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "again")
	if err := errors.Join(os.Mkdir(dest, 0o700), os.MkdirAll(filepath.Join(again, "keys"), 0o700),
		os.WriteFile(filepath.Join(again, "keys", "server.key"), []byte(s.read("keys", "server.key")), 0o600)); err != nil { // which is in no backup
		t.Fatal(err)
	}
	s.must("", program, "backup", "--config", s.path("cmmpd.toml"), dest)
	if code, out := s.code("restore", "--config", filepath.Join(again, "cmmpd.toml"), "--keyd", k.socket, dest); code != 0 {
		t.Errorf("restore with the same tokens: %d %s", code, out)
	}
	s.serverKeyInToken(k)
	s.start()
	if got := s.opened(); !strings.Contains(got, "words") {
		t.Errorf("bob reads %q", got)
	}
	for _, want := range []string{ // the last while no daemon ran
		`"op":"unseal"`, `"op":"seal"`, `"op":"set PIN"`, `"detail":"share 3"`, `"actor":"uid ` + fmt.Sprint(os.Getuid()), `"service/gateway/works.gov.example"`, `"service/tls"`,
	} {
		k.eventually(want+" is on record", func() bool {
			log := s.must("", program, "audit", "export", "--config", s.path("cmmpd.toml"))
			return strings.Contains(log, `"key.act"`) && strings.Contains(log, want)
		})
	}
}

// serverKeyInToken makes the server's key in the token, and has the installation's authority certify it.
func (s *site) serverKeyInToken(k *keydProcess) {
	s.t.Helper()
	config := s.path("cmmpd.toml")
	if code, out := s.code("smime", "key", "import", "--config", s.path("cmmpd.toml"), "--for", "x@y.example", "--certificate", "none", "--key", "none"); code != 1 || !strings.Contains(out, "keys generate") || !strings.Contains(out, "keys request") {
		s.t.Errorf("importing a key into a token: exit %d: %s", code, out)
	}
	s.must("", program, "keys", "generate", "--keyd", k.socket, "--kind", "ec-p256", "tls")
	block, _ := pem.Decode([]byte(s.must("", program, "keys", "request", "--config", config, "--host", "localhost", "tls")))
	if block == nil {
		s.t.Fatal("no request")
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = csr.CheckSignature()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	now := time.Now()
	t := &x509.Certificate{SerialNumber: big.NewInt(99), DNSNames: csr.DNSNames, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	ca := s.authority()
	der, err := x509.CreateCertificate(rand.Reader, t, ca.Cert, csr.PublicKey, ca.Key)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.NewReplacer(`"keys/server.key" `, `"token:tls" `, `"pki/server.pem"`, `"pki/token.pem"`).Replace(s.read("cmmpd.toml"))
	for name, data := range map[string][]byte{"pki/token.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "cmmpd.toml": []byte(text)} {
		if err := os.WriteFile(s.path(name), data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	s.must("", program, "config", "check", "--config", config)
	if !strings.Contains(text, "token:tls") {
		s.t.Error("the configuration does not name the key")
	}
}

// authority is the installation's own.
func (s *site) authority() *demopki.CA {
	s.t.Helper()
	certs, err := demopki.ParseCerts([]byte(s.read("pki", "ca.pem")))
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := demopki.ParseKey([]byte(s.read("keys", "ca.key")))
	if err != nil {
		s.t.Fatal(err)
	}
	ca, err := demopki.LoadCA(certs[0], key, nil, time.Now)
	if err != nil {
		s.t.Fatal(err)
	}
	return ca
}

// TestTokenTypes has the service keys in files and the platform key in a token, as a second type of token stands beside a first.
func TestTokenTypes(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	k := newKeyd(t)
	k.unseal()
	s := newInstallation(t, "--keyd-mail", k.socket)
	list := s.must("", program, "keys", "list", "--config", s.path("cmmpd.toml"))
	if !strings.Contains(list, "service\tstore\taes-256") || !strings.Contains(list, "mail\tplatform\taes-256") {
		t.Errorf("the keys: %s", list)
	}
	if names, err := os.ReadDir(s.path("keys", "keystore", "mail")); err != nil || len(names) > 0 {
		t.Errorf("the slot mail in files: %v %v", names, err)
	}
	s.serveIt()
	s.addPeople("alice", "bob")
	if code, text := s.health(); code != 200 || !strings.Contains(text, "in files, for development only: service\n") {
		t.Errorf("health: %d %q", code, text)
	}
	if out, err := s.sealedMail("words of two kinds"); err != nil {
		t.Fatal(err, out)
	}
	if got := s.opened(); !strings.Contains(got, "words of two kinds") {
		t.Errorf("bob reads %q", got)
	}
	k.stop(syscall.SIGKILL)
	if out, err := s.sealedMail("signed with a key of a file"); err != nil {
		t.Fatal(err, out)
	}
	k.start()
	k.unseal()
	if got := s.opened(); !strings.Contains(got, "signed with a key of a file") {
		t.Errorf("bob reads %q", got)
	}
}

// whileSealed: mail is taken and leaves, and cannot be read, until the slot is unsealed.
func (s *site) whileSealed(t *testing.T, k *keydProcess, p *partner) {
	p.shut(true)
	if out, err := s.send("alice", "alice@works.gov.example", []string{"x@partner.example"}, mailOf("alice@works.gov.example", "x@partner.example", "Hello", "it leaves while sealed")); err != nil {
		t.Fatal(err, out)
	}
	k.stop(syscall.SIGTERM)
	k.start() // with the mail slot sealed
	k.eventually("the audit log goes on, and the slot is sealed", func() bool {
		code, text := s.health()
		return code == 200 && strings.Contains(text, "the slot mail is sealed")
	})
	p.shut(false)
	k.eventually("queued mail leaves", func() bool { return len(p.got("x@partner.example")) > 0 })
	if out, err := s.sealedMail("words while sealed"); err != nil {
		t.Fatal(err, out)
	}
	if out, err := s.send("alice", "alice@works.gov.example", []string{"carol@works.gov.example"}, mailOf("alice@works.gov.example", "carol@works.gov.example", "Hello", "the first")); err == nil || !strings.Contains(out, "< 45") {
		t.Errorf("the first mail to somebody while sealed: %v %s", err, out)
	}
	imap := []string{"-sS", "-v", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "imaps://" + s.addr(993) + "/INBOX;MAILINDEX=*"}
	_, err := s.run("", "curl", imap...)
	if err == nil || !strings.Contains(err.Error(), "NO [UNAVAILABLE] mail cannot be read until the security officers have unsealed") {
		t.Errorf("reading while sealed: %v", err)
	}
	k.unseal()
	if got := s.opened(); !strings.Contains(got, "words while sealed") {
		t.Errorf("bob reads %q", got)
	}
	s.must("", program, "seal", "--config", s.path("cmmpd.toml"))
	k.eventually("the slot is sealed", func() bool {
		_, text := s.health()
		return strings.Contains(text, "the slot mail is sealed")
	})
	k.unseal()
}

// officers parts the PIN among three, of whom two then open the token.
func (s *site) officers(t *testing.T, k *keydProcess) {
	dir := filepath.Join(t.TempDir(), "shares")
	oldPIN := filepath.Join(k.dir, "mail keys.pin")
	args := []string{"keys", "split", "--keyd", k.socket, "--threshold", "2", "--shares", filepath.Join(k.dir, "mail.shares"), "--out", dir, "--pin-file", oldPIN}
	for _, uid := range []string{"alice", "bob", "carol"} {
		args = append(args, "--officer", s.path("people", uid, "cert.pem"))
	}
	s.must("", program, args...)
	share := func(n int, uid string) string {
		t.Helper()
		mail := filepath.Join(dir, fmt.Sprintf("share-%d.eml", n))
		return s.must("", "openssl", "cms", "-decrypt", "-in", mail, "-inkey", s.path("people", uid, "key.pem"), "-recip", s.path("people", uid, "cert.pem"))
	}
	k.stop(syscall.SIGTERM)
	k.start()
	if _, err := s.run("", program, "unseal", "--keyd", k.socket, "--pin-file", oldPIN); err == nil {
		t.Error("the old PIN opens the token")
	}
	bring := func(text string) string {
		t.Helper()
		code, out := s.codeWith(text, "unseal", "--config", s.path("cmmpd.toml"), "--share", "-")
		if code != 0 {
			t.Errorf("share: %d %s", code, out)
		}
		return out
	}
	if out := bring(share(3, "carol")); !strings.Contains(out, "1 of 2") {
		t.Error(out)
	}
	k.eventually("the audit log goes on, and the slot is still sealed", func() bool {
		_, text := s.health()
		return strings.Contains(text, "the slot mail is sealed")
	})
	if out := bring(share(1, "alice")); !strings.Contains(out, "is open") {
		t.Error(out)
	}
	if got := s.opened(); !strings.Contains(got, "words") {
		t.Errorf("bob reads %q", got)
	}
	old := share(2, "bob")
	bring(old)
	bring(share(3, "carol"))
	dir = filepath.Join(t.TempDir(), "new shares")
	s.must("", program, "keys", "split", "--keyd", k.socket, "--parted", "--threshold", "2", "--shares", filepath.Join(k.dir, "mail.shares"), "--out", dir,
		"--officer", s.path("people", "alice", "cert.pem"), "--officer", s.path("people", "bob", "cert.pem"))
	s.must("", program, "seal", "--keyd", k.socket)
	if code, out := s.codeWith(old, "unseal", "--keyd", k.socket, "--share", "-"); code != 1 || !strings.Contains(out, "another set") {
		t.Errorf("an old share: %d %s", code, out)
	}
	bring(share(1, "alice"))
	if out := bring(share(2, "bob")); !strings.Contains(out, "is open") {
		t.Error(out)
	}
}

// codeWith runs the program with in as its standard input, and returns its exit code and words.
func (s *site) codeWith(in string, args ...string) (int, string) {
	cmd := exec.Command(program, args...)
	cmd.Stdin = strings.NewReader(in)
	out, _ := cmd.CombinedOutput() // the exit code says it
	return cmd.ProcessState.ExitCode(), string(out)
}

// whileKilled kills keyd under a load of confidential mail, each of which needs a signature of the token.
func (s *site) whileKilled(t *testing.T, k *keydProcess) {
	sent, stop := make(chan string), make(chan bool)
	defer close(stop)
	go func() {
		for i := 0; ; i++ {
			out, err := s.sealedMail(fmt.Sprintf("words %d", i))
			if err == nil {
				out = ""
			}
			select {
			case sent <- out:
			case <-stop:
				return
			}
		}
	}()
	for range 3 {
		if out := <-sent; out != "" {
			t.Fatal(out)
		}
	}
	k.stop(syscall.SIGKILL)
	failures := 0
	for failures < 3 {
		if out := <-sent; out != "" {
			if failures++; !strings.Contains(out, "< 45") {
				t.Errorf("without keyd: %s", out)
			}
		}
	}
	if code, text := s.health(); code != 503 || !strings.Contains(text, "keyd does not answer") {
		t.Errorf("health without keyd: %d %q", code, text)
	}
	if out, err := s.send("alice", "alice@works.gov.example", []string{"bob@works.gov.example"}, mailOf("alice@works.gov.example", "bob@works.gov.example", "plain", "plain words")); err != nil {
		t.Errorf("plain mail without keyd: %v %s", err, out)
	}
	k.start()
	for out := "x"; out != ""; out = <-sent { // by itself
	}
	k.unseal()
	if got := s.opened(); !strings.Contains(got, "words") {
		t.Errorf("bob reads %q", got)
	}
}
