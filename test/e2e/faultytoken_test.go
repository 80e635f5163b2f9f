package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// newFaultyKeyd is a keyd whose library does what the file that is returned says (testdata/faultytoken). It opens both slots by itself.
func newFaultyKeyd(t *testing.T) (k *keydProcess, flag string) {
	t.Helper()
	k = prepareKeyd(t)
	header, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		t.Fatal(err)
	}
	lib := filepath.Join(k.dir, "faultytoken.so")
	if out, err := exec.Command(testkit.Need(t, "gcc"), "-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I", strings.TrimSpace(string(header)), "-o", lib,
		filepath.Join("testdata", "faultytoken", "faultytoken.c"), "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	flag = filepath.Join(k.dir, "fault")
	k.env = []string{"FAULTY_MODULE=" + k.hsm.Module, "FAULTY_FLAG=" + flag}
	text, err := os.ReadFile(filepath.Join(k.dir, "keyd.toml"))
	if err != nil {
		t.Fatal(err)
	}
	k.write("keyd.toml", "deadline = \"2s\"\n"+strings.NewReplacer(k.hsm.Module, lib, `shares = "mail.shares"`, `pin-file = "mail keys.pin"`).Replace(string(text)))
	k.begin()
	return k, flag
}

// ended waits until keyd ends by itself, and returns its exit code and what it said since the last time.
func (k *keydProcess) ended() (int, string) {
	<-k.end
	code, words := k.cmd.ProcessState.ExitCode(), k.log.String()[k.seen:]
	k.cmd, k.seen = nil, k.log.Len()
	return code, words
}

// TestFaultyToken has the library of the tokens hang, crash and fail under a platform that goes on: who asks is told, and nobody starts the daemon
// anew.
func TestFaultyToken(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	k, flag := newFaultyKeyd(t)
	s := newInstallation(t, "--keyd", k.socket)
	s.serveIt()
	s.addPeople("alice", "bob")
	if out, err := s.sealedMail("words before"); err != nil {
		t.Fatal(err, out)
	}
	reads := func(t *testing.T) {
		t.Helper()
		if got := s.opened(); !strings.Contains(got, "words") {
			t.Errorf("bob reads %q", got)
		}
	}
	readingFails := func(t *testing.T) {
		t.Helper()
		_, err := s.run("", "curl", "-sS", "-v", "--cacert", s.path("pki", "ca.pem"), "-u", s.login("bob"), "imaps://"+s.addr(993)+"/INBOX;MAILINDEX=*")
		if err == nil || !strings.Contains(err.Error(), "NO [UNAVAILABLE] Not available now, try again later") {
			t.Errorf("reading: %v", err)
		}
	}
	sendingFails := func(t *testing.T) {
		t.Helper()
		if out, err := s.sealedMail("words that are not taken"); err == nil || !strings.Contains(out, "< 451 4.3.0 a service we need does not answer, try again later") {
			t.Errorf("sending: %v %s", err, out)
		}
	}
	sends := func(t *testing.T) {
		t.Helper()
		k.eventually("confidential mail is taken again", func() bool {
			_, err := s.sealedMail("words after")
			return err == nil
		})
	}
	reads(t)
	for _, c := range []struct {
		fault string
		fails func(t *testing.T) // what somebody sees meanwhile; nil: nothing
		code  int                // with which keyd ends; 0: it goes on
		words string             // which it says then
	}{
		{"hang C_Decrypt", readingFails, 70, "does not come back"},
		{"hang C_Sign", sendingFails, 70, "does not come back"},
		{"crash C_Decrypt", readingFails, 2, "SIGSEGV"},
		{"crash C_Sign", sendingFails, 2, "SIGSEGV"},
		{"device C_Decrypt", readingFails, 0, ""},
		{"device C_Sign", sendingFails, 0, ""},
		{"session C_Decrypt", nil, 0, ""},
		{"session C_Sign", nil, 0, ""},
		{"login C_Decrypt", nil, 0, ""},
		{"login C_Sign", nil, 0, ""},
	} {
		t.Run(c.fault, func(t *testing.T) {
			if err := os.WriteFile(flag, []byte(c.fault), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.fails == nil {
				if out, err := s.sealedMail("words over a lost session"); err != nil {
					t.Errorf("sending: %v %s", err, out)
				}
				reads(t)
				if _, err := os.Stat(flag); err == nil {
					t.Error("nothing was asked of the faulty library")
				}
				return
			}
			c.fails(t)
			if c.code != 0 {
				if code, words := k.ended(); code != c.code || !strings.Contains(words, c.words) {
					t.Errorf("keyd ended with %d: %s", code, words)
				}
				c.fails(t) // while keyd is not there
			}
			if err := os.Remove(flag); err != nil {
				t.Fatal(err)
			}
			if c.code != 0 {
				k.start() // as its unit does
			}
			sends(t)
			reads(t)
		})
	}
	s.must("", program, "audit", "verify", "--key", s.path("audit", "audit.pub"), s.path("audit"))
}
