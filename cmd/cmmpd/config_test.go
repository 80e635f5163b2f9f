package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"

	"cmmpd/configs"
	"cmmpd/internal/mail"
)

// exampleDir is a folder with configs/cmmpd.toml, changed by edit, and the files it names.
func exampleDir(t *testing.T, edit func(string) string) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range []string{
		"pki/server.pem", "keys/server.key", "keys/keystore/x", "pki/ca.pem", "pki/ca.crl",
		"pki/gateway-works.gov.example.pem", "pki/gateway-health.gov.example.pem", "pki/gateway-platform.gov.example.pem",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, f)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "cmmpd.toml")
	if err := os.WriteFile(path, []byte(edit(configs.Example)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestExampleShowsTheDefaults(t *testing.T) {
	c, err := loadConfig(exampleDir(t, func(s string) string { return s }))
	if err != nil {
		t.Fatal(err)
	}
	def := defaultConfig()
	def.Limits.ExemptNetworks = []string{}
	def.Policy.SoftRevocation, def.Policy.LowerRoles = []mail.Label{}, []string{}
	for _, pair := range [][2]any{
		{c.Limits, def.Limits},
		{c.Queue, def.Queue},
		{c.Policy, def.Policy},
		{c.Log, def.Log},
		{c.SMIME.MaxCRLAge, def.SMIME.MaxCRLAge},
		{c.SMIME.MinRSABits, def.SMIME.MinRSABits},
		{c.Trust.FetchTimeout, def.Trust.FetchTimeout},
		{c.Trust.Refresh, def.Trust.Refresh},
		{c.Trust.LastKnownGood, def.Trust.LastKnownGood},
		{filepath.Base(c.Trust.Cache), def.Trust.Cache},
		{c.Keystore.Kind, def.Keystore.Kind},
		{withoutPath(c.Store), def.Store},
		{c.Directory.Kind, def.Directory.Kind},
		{c.Directory.Attributes, def.Directory.Attributes},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("configs/cmmpd.toml says %+v, the default is %+v", pair[0], pair[1])
		}
	}
	if !filepath.IsAbs(c.Store.Path) || !filepath.IsAbs(c.SMIME.Anchors[0]) {
		t.Error("relative paths are not resolved against the file")
	}
}

func withoutPath(c storeConfig) storeConfig {
	c.Path = ""
	return c
}

// TestEveryKeyIsInTheExample holds the annotated file to the struct.
func TestEveryKeyIsInTheExample(t *testing.T) {
	var m map[string]any
	example := regexp.MustCompile(`(?m)^#([a-z[])`).ReplaceAllString(configs.Example, "$1") // what is there as an example only
	if err := toml.NewDecoder(strings.NewReader(example)).Decode(&m); err != nil {
		t.Fatal(err)
	}
	var walk func(prefix string, typ reflect.Type, v any)
	walk = func(prefix string, typ reflect.Type, v any) {
		if typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Struct {
			typ, v = typ.Elem(), v.([]any)[0]
		}
		if typ.Kind() != reflect.Struct {
			return
		}
		for i := range typ.NumField() {
			if !typ.Field(i).IsExported() {
				continue
			}
			key := typ.Field(i).Tag.Get("toml")
			sub, ok := v.(map[string]any)[key]
			if !ok {
				t.Errorf("%s.%s is not in configs/cmmpd.toml", prefix, key)
				continue
			}
			walk(prefix+"."+key, typ.Field(i).Type, sub)
		}
	}
	walk("", reflect.TypeOf(config{}), m)
}

func TestConfigComplaints(t *testing.T) {
	line := func(text string) int {
		before, _, ok := strings.Cut(configs.Example, text)
		if !ok {
			t.Fatalf("%q is not in the example", text)
		}
		return strings.Count(before, "\n") + 1
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"unknown key":        {`hostname = "localhost"`, `hostnam = "localhost"`, `unknown key "server.hostnam"`},
		"unknown table":      {"[policy]\n", "[polici]\n", "unknown"},
		"wrong type":         {`recipients = 1000 `, `recipients = "many" `, "recipients"},
		"bad size":           {`"50MiB"`, `"50 MB"`, "is not a size"},
		"bad duration":       {`command-timeout = "5m"`, `command-timeout = "-5m"`, "above zero"},
		"bad port":           {`"127.0.0.1:10025"`, `"127.0.0.1:99999"`, "listen.mx"},
		"health in public":   {`health = "127.0.0.1:10090"`, `health = "0.0.0.0:10090"`, "loopback"},
		"same port twice":    {`imaps = "127.0.0.1:10993"`, `imaps = "127.0.0.1:10143"`, "is taken by"},
		"missing file":       {`key = "keys/server.key"`, `key = "keys/none.key"`, "no such file"},
		"bad drafts":         {`drafts = "at-rest"`, `drafts = "plain"`, "neither"},
		"soft secrets":       {`soft-revocation = []`, `soft-revocation = ["restricted", "confidential"]`, "never soft"},
		"lower what":         {`ess-policy = ""`, `ess-policy = "works"`, "object identifier"},
		"old ciphers":        {`read-old = []`, `read-old = ["rc2"]`, "never read"},
		"bad level":          {`level = "info"`, `level = "loud"`, "none of"},
		"syntax":             {`[audit]`, `[audit`, ""},
		"signer without":     {`certificate = "pki/gateway-works.gov.example.pem"`, `certificate = "x.pem"`, "no such file"},
		"bad exempt":         {`exempt-networks = []`, `exempt-networks = ["127.0.0.1"]`, "is not a network"},
		"below one":          {`received = 50 `, `received = 0 `, "0 is not between 10 and 1000"},
		"time too short":     {`idle-timeout = "31m"`, `idle-timeout = "5m"`, "5m0s is not between 30m and 24h"},
		"size too large":     {`message-size = "50MiB"`, `message-size = "1GiB"`, "1GiB is not between 64KiB and 100MiB"},
		"little memory":      {`memory-in-flight = "512MiB"`, `memory-in-flight = "1MiB"`, "smaller than limits.message-size"},
		"few commands":       {`commands = 2100 `, `commands = 900 `, "do not suffice"},
		"delay shrinks":      {`first-delay = "1s"`, `first-delay = "1m1s"`, "not between"},
		"mx in clear":        {`mx-tls = "verify"`, `mx-tls = "none"`, "none of"},
		"no pauses":          {`retry = ["5m", "10m", "20m", "40m", "80m", "160m", "240m"]`, `retry = []`, "1 to 100"},
		"route to us":        {"#[[queue.routes]]\n#domain = \"partner.example\"", "[[queue.routes]]\nhost = \"x:25\"\ndomain = \"Works.gov.example\"", "is delivered here"},
		"route to nowhere":   {"#[[queue.routes]]\n#domain = \"partner.example\"", "[[queue.routes]]\nhost = \"x\"\ndomain = \"*\"", "not a server and its port"},
		"days below zero":    {`recoverable-days = 14`, `recoverable-days = -1`, "not between"},
		"quota of others":    {"#[[quota.departments]]\n#domain = \"health.gov.example\"", "[[quota.departments]]\ndomain = \"partner.example\"", "not one of domains.local"},
		"quota below zero":   {"#[[quota.departments]]\n#domain = \"health.gov.example\"", "[[quota.departments]]\nmessages = -1\ndomain = \"health.gov.example\"", "not between"},
		"search from none":   {`from-messages = 256 `, `from-messages = 0 `, "0 is not between 1 and 1000000"},
		"search in too much": {"memory = \"32MiB\" ", "memory = \"3GiB\" ", "not between 1MiB and 2GiB"},
		"warn at what":       {`warn-at = [80, 95]`, `warn-at = [95, 80]`, "each higher"},
		"rsa too small":      {`min-rsa-bits = 2048`, `min-rsa-bits = 1024`, "not between"},
		"bad fetch host":     {`fetch-hosts = []`, `fetch-hosts = ["http://crl.example"]`, "neither a host"},
		"bad internal":       {`internal-networks = []`, `internal-networks = ["10.0.0.1"]`, "is not a network"},
		"refresh too often":  {`refresh = "1h"`, `refresh = "1s"`, "not between"},
		"fetch too long":     {`fetch-timeout = "10s"`, `fetch-timeout = "10m"`, "not between"},
		"bad grace":          {`last-known-good = "none"`, `last-known-good = "ever"`, "last-known-good"},
		"no anchors":         {`anchors = ["pki/ca.pem"]`, `anchors = []`, "anchor"},
		"unknown directory":  {`kind = "embedded"`, `kind = "nis"`, "neither"},
		"bad base":           {`base = "dc=gov,dc=example"`, `base = "gov.example"`, "directory.base"},
		"url of embedded":    {`url = ""`, `url = "ldaps://x"`, "only"},
		"names of embedded":  {`name = "displayName"`, `name = "cn"`, "directory.attributes"},
		"unknown keystore":   {`kind = "file"`, `kind = "cloud"`, "keystore.kind"},
		"unknown hostname":   {`hostname = "localhost"`, `hostname = "local host"`, "is not a host name"},
		"witness in clear":   {"#[[audit.witnesses]]\n#url = \"https://witness.gov.example:10443/\"", "[[audit.witnesses]]\nurl = \"http://witness.gov.example/\"", "is not an address such as https"},
		"too many required":  {`require = 0 `, `require = 1 `, "1 of 0 witnesses cannot be required"},
		"stop without any":   {`policy = "warn" `, `policy = "stop-administration" `, "needs at least one witness"},
		"late at once":       {`within = "10s"`, `within = "1ms"`, "not between 1s and 24h"},
		"origin with space":  {`"cmmpd.gov.example/audit"`, `"two words"`, "audit.origin"},
	} {
		t.Run(name, func(t *testing.T) {
			path := exampleDir(t, func(s string) string { return strings.Replace(s, tc.old, tc.new, 1) })
			_, err := loadConfig(path)
			if err == nil {
				t.Fatal("accepted")
			}
			where := path + ":" + strconv.Itoa(line(tc.old)) + ":"
			if !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v\nwant %s … %s", err, where, tc.want)
			}
		})
	}
	if _, err := loadConfig(filepath.Join(t.TempDir(), "none.toml")); err == nil || !strings.Contains(err.Error(), "none.toml") {
		t.Errorf("a missing configuration: %v", err)
	}
}

func TestSigningConfig(t *testing.T) {
	for text, want := range map[string]string{
		"[[smime.sign]]\nby = \"me\"":                                                              ": smime.sign[0].by: \"me\" is neither",
		"[[smime.sign]]\nfrom = [\"x.example\"]\nby = \"department\"":                              "nobody signs for x.example",
		"[[smime.sign]]\nfrom = [\"a b\"]\nby = \"author\"":                                        "neither an address nor a domain",
		"[[smime.sign]]\nlabels = [\"cosmic\"]\nby = \"author\"":                                   "unknown label \"cosmic\"",
		"[[smime.keys]]\naddress = \"alice\"\nkey = \"k\"\ncertificate = \"pki/ca.pem\"":           "is not an address",
		"[[smime.keys]]\naddress = \"a@b.example\"\nkey = \"\"\ncertificate = \"pki/ca.pem\"":      "must not be empty",
		"[[smime.sign]]\nfrom = [\"Works.gov.example\"]\nlabels = [\"none\"]\nby = \"department\"": "",
		"[[smime.sign]]\nlabels = [\"restricted\", \"none\"]\nby = \"author\"\n[[smime.keys]]\naddress = \"a@b.example\"\nkey = \"k\"\ncertificate = \"pki/ca.pem\"": "",
	} {
		c, err := loadConfig(exampleDir(t, func(s string) string { return s + "\n" + text + "\n" }))
		switch {
		case want == "" && (err != nil || len(c.SMIME.rules()) != 1):
			t.Errorf("%s: %v", text, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: got %v, want %s", text, err, want)
		}
	}
}

func TestLDAPDirectory(t *testing.T) {
	good := strings.NewReplacer(
		`kind = "embedded"`, `kind = "ldap"`, `path = "directory.db"`, `path = ""`, `url = ""`, `url = "ldaps://dir.gov.example"`,
		`ca = ""`, `ca = "pki/ca.pem"`, `bind-dn = ""`, `bind-dn = "cn=cmmpd,dc=gov,dc=example"`,
		`bind-password-file = ""`, `bind-password-file = "keys/server.key"`, `name = "displayName"`, `name = "cn"`,
		`ldap = "127.0.0.1:10389"`, `ldap = ""`, `ldaps = "127.0.0.1:10636"`, `ldaps = ""`,
	)
	if c, err := loadConfig(exampleDir(t, good.Replace)); err != nil || c.Directory.Attributes.Name != "cn" || !filepath.IsAbs(c.Directory.BindPasswordFile) {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ old, new, want string }{
		"path":          {`path = ""           # embedded`, `path = "directory.db" # embedded`, "directory.path"},
		"listener":      {`ldap = ""`, `ldap = "127.0.0.1:10389"`, "listen.ldap"},
		"clear":         {`"ldaps://dir`, `"http://dir`, "neither ldaps nor ldap"},
		"no URL":        {`"ldaps://dir.gov.example"`, `""`, "not an address"},
		"no CA":         {`ca = "pki/ca.pem"`, `ca = "pki/none.pem"`, "no such file"},
		"nobody":        {`bind-dn = "cn=cmmpd,dc=gov,dc=example"`, `bind-dn = ""`, "directory.bind-dn"},
		"no password":   {`bind-password-file = "keys/server.key"`, `bind-password-file = "keys/none"`, "no such file"},
		"bad attribute": {`name = "cn"`, `name = "cn)(uid=*"`, "not the name of an attribute"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := loadConfig(exampleDir(t, func(s string) string {
				before, after, _ := strings.Cut(good.Replace(s), "[listen]")
				return before + "[listen]" + strings.Replace(after, tc.old, tc.new, 1)
			}))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %s", err, tc.want)
			}
		})
	}
	path := exampleDir(t, good.Replace)
	if err := os.Chmod(filepath.Join(filepath.Dir(path), "keys", "server.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := loadConfig(path); err == nil || !strings.Contains(err.Error(), "read by others") {
		t.Errorf("a password for everybody: %v", err)
	}
}
