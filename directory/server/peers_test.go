package server

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// ldapTool runs a program of OpenLDAP's ldap-utils and returns what it prints and its exit
// code.
func ldapTool(t *testing.T, ca, program string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.Command(testkit.Need(t, program), args...)
	cmd.Env = append(os.Environ(), "LDAPTLS_CACERT="+ca, "LDAPTLS_REQCERT=demand")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// unwrapped joins the folded lines of LDIF.
func unwrapped(s string) string { return strings.ReplaceAll(s, "\n ", "") }

func TestOpenLDAPTools(t *testing.T) {
	s, cert := newTest(t, Options{})
	plain, ca, _ := listen(t, s, StartTLS)
	secure, secureCA, _ := listen(t, s, Implicit)
	_, port, _ := strings.Cut(plain, ":")
	_, securePort, _ := strings.Cut(secure, ":")
	// libldap takes "localhost" for the name of the machine, which the certificate lacks.
	starttls := []string{"-x", "-H", "ldap://127.0.0.1:" + port}
	ldaps := []string{"-x", "-H", "ldaps://127.0.0.1:" + securePort}
	as := func(conn []string, more ...string) []string {
		return append(append([]string{}, conn...), more...)
	}
	alice := []string{"-D", "uid=alice,ou=people,dc=gov,dc=example", "-w", "alicepass"}

	wantCert := "userCertificate;binary:: " + base64.StdEncoding.EncodeToString(cert)
	for name, args := range map[string][]string{"ldaps": ldaps, "starttls": as(starttls, "-ZZ")} {
		file := ca
		if name == "ldaps" {
			file = secureCA
		}
		out, code := ldapTool(t, file, "ldapsearch", append(as(args, alice...), "-LLL", "-b", testBase, "(mail=bob@works.gov.example)", "userCertificate;binary", "sn", "userPassword")...)
		if code != 0 || !strings.Contains(unwrapped(out), wantCert) || !strings.Contains(out, "dn: "+bobDN) || strings.Contains(out, "userPassword") {
			t.Errorf("%s: exit %d:\n%s", name, code, out)
		}
		out, code = ldapTool(t, file, "ldapsearch", append(as(args, alice...), "-LLL", "-b", testBase, "(|(cn=陳*)(displayName=*麗*))", "1.1")...)
		if code != 0 || !strings.Contains(out, "dn: uid=alice,") {
			t.Errorf("%s, Chinese: exit %d:\n%s", name, code, out)
		}
		out, code = ldapTool(t, file, "ldapsearch", append(as(args, alice...), "-LLL", "-E", "pr=2/noprompt", "-b", testBase, "(objectClass=*)", "+", "*")...)
		if code != 0 || strings.Count(out, "entryUUID: ") != 8 {
			t.Errorf("%s, pages: exit %d:\n%s", name, code, out)
		}
		for _, who := range []string{"alice", "alice@works.gov.example", "uid=alice,ou=people,dc=gov,dc=example"} {
			out, code = ldapTool(t, file, "ldapwhoami", as(args, "-D", who, "-w", "alicepass")...)
			if code != 0 || strings.TrimSpace(out) != "dn:uid=alice,ou=people,dc=gov,dc=example" {
				t.Errorf("%s, %s: exit %d: %s", name, who, code, out)
			}
		}
		if out, code = ldapTool(t, file, "ldapwhoami", as(args, "-D", "alice", "-w", "wrong")...); code != 49 {
			t.Errorf("%s, wrong password: exit %d: %s", name, code, out)
		}
		if out, code = ldapTool(t, file, "ldapcompare", append(as(args, alice...), bobDN, "sn:wong")...); code != 6 {
			t.Errorf("%s, compare: exit %d: %s", name, code, out)
		}
	}
	if out, code := ldapTool(t, ca, "ldapwhoami", as(starttls, "-D", "alice", "-w", "alicepass")...); code != 13 {
		t.Errorf("bind in clear: exit %d: %s", code, out)
	}
	if out, code := ldapTool(t, ca, "ldapsearch", as(starttls, "-LLL", "-s", "base", "-b", "", "+")...); code != 0 || !strings.Contains(out, "supportedExtension: "+oidStartTLS) {
		t.Errorf("root DSE: exit %d: %s", code, out)
	}
	if out, code := ldapTool(t, ca, "ldapsearch", as(starttls, "-ZZ", "-LLL", "-b", testBase)...); code != 50 || strings.Contains(out, "dn:") {
		t.Errorf("anonymous: exit %d: %s", code, out)
	}
	if out, code := ldapTool(t, secureCA, "ldapsearch", as(ldaps, append(alice, "-LLL", "-s", "base", "-b", subschemaDN, "attributeTypes")...)...); code != 0 || !strings.Contains(unwrapped(out), "cmmpdCipherProfile") {
		t.Errorf("subschema: exit %d: %s", code, out)
	}
	change := filepath.Join(t.TempDir(), "change.ldif")
	if err := os.WriteFile(change, []byte("dn: "+bobDN+"\nchangetype: delete\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, code := ldapTool(t, secureCA, "ldapmodify", as(ldaps, append(alice, "-f", change)...)...); code != 53 {
		t.Errorf("write: exit %d: %s", code, out)
	}
}
