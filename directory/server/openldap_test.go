package server

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"cmmpd/internal/testkit"
)

// TestOpenLDAPSchema holds what is shipped for slapd, in both of its forms, to our own
// schema, and has slapd's tools read it.
func TestOpenLDAPSchema(t *testing.T) {
	conf := filepath.Join("..", "..", "configs", "openldap")
	definitions := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, l := range strings.Split(string(b), "\n") {
			if kind, def, ok := strings.Cut(l, " ("); ok && !strings.HasPrefix(l, "#") {
				if kind = strings.ToLower(kind); strings.Contains(kind, "attribute") {
					kind = "attribute"
				} else {
					kind = "class"
				}
				out = append(out, kind+" ("+def)
			}
		}
		return strings.Join(out, "\n")
	}
	own := definitions(filepath.Join("schema", "cmmpd.ldif"))
	for _, name := range []string{"cmmpd.ldif", "cmmpd.schema"} {
		if got := definitions(filepath.Join(conf, name)); own == "" || got != own {
			t.Errorf("%s has\n%s\nour own schema has\n%s", name, got, own)
		}
	}

	schema, err := filepath.Abs(filepath.Join(conf, "cmmpd.ldif"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n\ndn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n"
	for _, f := range []string{"/etc/ldap/schema/core.ldif", "/etc/ldap/schema/cosine.ldif", "/etc/ldap/schema/inetorgperson.ldif", schema} {
		config += "\ninclude: file://" + f + "\n"
	}
	path := filepath.Join(dir, "config.ldif")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "slapd.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(testkit.Need(t, "slapadd"), "-n", "0", "-F", filepath.Join(dir, "slapd.d"), "-l", path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	out, err := exec.Command(testkit.Need(t, "slapcat"), "-n", "0", "-F", filepath.Join(dir, "slapd.d")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range regexp.MustCompile(`NAME '(\w+)'`).FindAllStringSubmatch(own, -1) {
		if !strings.Contains(unwrapped(string(out)), "NAME '"+name[1]+"'") {
			t.Errorf("slapd does not know %s", name[1])
		}
	}
}
