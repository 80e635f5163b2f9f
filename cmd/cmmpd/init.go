package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"cmmpd/configs"
	"cmmpd/directory/server"
	"cmmpd/internal/demopki"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// initOptions is what a new installation is made of.
type initOptions struct {
	dir, hostname, base, address string
	domains                      []string
	basePort                     int
	certificate, key             string // of the server
	selfSigned                   bool
	anchors, intermediates, crls []string
	signers                      []string // DOMAIN,CERTIFICATE,KEY
	officers                     []officer
	passwordFile, passwordsTo    string
	keystore                     keystoreFlags
}

// officer is one of the first to have a role.
type officer struct {
	flag, role, en, zh string
	name               string // uid, or an address whose local part is the uid
}

// firstOfficers are the posts that a platform cannot do without. Nobody may hold two.
func firstOfficers() []officer {
	return []officer{
		{"admin", "admin", "System administrator", "系統管理員", "admin"},
		{"security-officer-1", "security-officer", "Security officer (1)", "保安主任(一)", "secoff1"},
		{"security-officer-2", "security-officer", "Security officer (2)", "保安主任(二)", "secoff2"},
		{"auditor", "auditor", "Auditor", "審計員", "auditor"},
		{"records-manager", "records-manager", "Records manager", "檔案主任", "records"},
	}
}

// initialise is "cmmpd init".
func initialise(args []string) error {
	fs := newFlags("init", "--dir DIR [flags]; without flags it asks")
	o := initOptions{officers: firstOfficers()}
	list := func(into *[]string) func(string) error {
		return func(s string) error {
			*into = append(*into, s)
			return nil
		}
	}
	fs.StringVar(&o.dir, "dir", "", "`folder` of the installation; must be empty or absent")
	fs.StringVar(&o.hostname, "hostname", "", "the server's `name` on the network")
	fs.Func("domain", "mail `domain` of ours (give it once for each)", list(&o.domains))
	fs.StringVar(&o.base, "base-dn", "", "base `DN` of the directory; by default made of the first domain")
	fs.StringVar(&o.address, "address", "", "`IP` address to listen on; by default all")
	fs.IntVar(&o.basePort, "base-port", 0, "ports are this `number` plus the well-known one")
	fs.StringVar(&o.certificate, "tls-certificate", "", "PEM `file`: the server's certificate and its issuers")
	fs.StringVar(&o.key, "tls-key", "", "PEM `file`: its private key, or token:NAME of a key in a token")
	fs.BoolVar(&o.selfSigned, "self-signed", false, "development: make an authority here, and the certificates with it")
	fs.Func("anchor", "PEM `file` of an authority whose certificates are trusted (give it once for each)", list(&o.anchors))
	fs.Func("intermediate", "PEM `file` of a further issuer (give it once for each)", list(&o.intermediates))
	fs.Func("crl", "`file` of a revocation list that is kept up to date there (give it once for each)", list(&o.crls))
	fs.Func("signer", "who signs what the gateway seals: `DOMAIN,CERTIFICATE,KEY`; KEY is a PEM file, or token:NAME of a key in a token (give it once for each domain)", list(&o.signers))
	o.keystore.add(fs)
	for i := range o.officers {
		fs.StringVar(&o.officers[i].name, o.officers[i].flag, o.officers[i].name, "uid or address of the `"+o.officers[i].role+"`")
	}
	fs.StringVar(&o.passwordFile, "password-file", "", "`file` with a line uid:password for each officer; for those who have none a password is made")
	fs.StringVar(&o.passwordsTo, "passwords-to", "", "new `file`, readable by its owner alone, for the passwords made; by default they are shown on stderr")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	if _, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS); err == nil {
		given := map[string]bool{}
		fs.Visit(func(f *flag.Flag) { given[f.Name] = true })
		if err := o.ask(&asker{bufio.NewReader(os.Stdin), os.Stderr}, given); err != nil {
			return err
		}
	}
	if err := o.complete(); err != nil {
		return usageError{err}
	}
	ctx, stop := interruptible()
	defer stop()
	return o.install(ctx, os.Stdout, os.Stderr)
}

// asker asks on a terminal.
type asker struct {
	in  *bufio.Reader
	out io.Writer
}

// ask puts one question. An empty answer is def.
func (a *asker) ask(en, zh, def string) (string, error) {
	fmt.Fprintf(a.out, "%s\n%s", en, zh)
	if def != "" {
		fmt.Fprintf(a.out, " [%s]", def)
	}
	fmt.Fprint(a.out, ": ")
	line, err := a.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("no answer: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return def, nil
	}
	return line, nil
}

// ask asks for what was not given by flags.
func (o *initOptions) ask(a *asker, given map[string]bool) error {
	var err error
	text := func(flag string, into *string, en, zh, def string) {
		if err == nil && !given[flag] {
			*into, err = a.ask(en, zh, def)
		}
	}
	several := func(flag string, into *[]string, en, zh string) {
		var s string
		if text(flag, &s, en, zh, ""); s != "" {
			*into = strings.Fields(strings.ReplaceAll(s, ",", " "))
		}
	}
	host, _ := os.Hostname()
	text("dir", &o.dir, "Folder of the installation", "安裝資料夾", "/var/lib/cmmpd")
	text("hostname", &o.hostname, "Name of this server on the network", "本伺服器的網絡名稱", host)
	several("domain", &o.domains, "Mail domains, separated by spaces", "電郵網域(以空格分隔)")
	if len(o.domains) > 0 {
		text("base-dn", &o.base, "Base of the directory", "目錄的根(base DN)", baseOf(o.domains[0]))
	}
	if !o.selfSigned {
		text("tls-certificate", &o.certificate, "File of the server certificate (PEM); empty: make certificates for development here",
			"伺服器證書檔案(PEM);留空則在此製作只供開發用的證書", "")
		o.selfSigned = o.certificate == ""
	}
	if !o.selfSigned {
		text("tls-key", &o.key, "File of its private key (PEM)", "其私人密碼匙檔案(PEM)", "")
		several("anchor", &o.anchors, "Files of the authorities that are trusted (PEM), separated by spaces", "可信任的核證機關證書檔案(PEM,以空格分隔)")
		several("crl", &o.crls, "Files of their revocation lists, separated by spaces", "其證書撤銷清單檔案(以空格分隔)")
	}
	for i := range o.officers {
		f := &o.officers[i]
		text(f.flag, &f.name, f.en+": uid or address", f.zh+":用戶名稱或地址", f.name)
	}
	return err
}

// baseOf is the base DN that fits a domain.
func baseOf(domain string) string { return "dc=" + strings.ReplaceAll(domain, ".", ",dc=") }

// complete puts the defaults in and looks at every value before anything is made.
func (o *initOptions) complete() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.dir == "" {
		bad("--dir is missing")
	} else if abs, err := filepath.Abs(o.dir); err != nil {
		bad("--dir: %w", err)
	} else {
		o.dir = abs
	}
	if !hostname.MatchString(o.hostname) {
		bad("--hostname is missing or not a host name: %q", o.hostname)
	}
	if len(o.domains) == 0 {
		bad("--domain is missing")
	} else if o.base == "" {
		o.base = baseOf(o.domains[0])
	}
	for i, d := range o.domains {
		if a, err := mail.ParseAddress("postmaster@" + d); err != nil {
			bad("--domain %q is not a domain", d)
		} else {
			o.domains[i] = a.Domain
		}
	}
	if o.address != "" && net.ParseIP(o.address) == nil {
		bad("--address %q is not an IP address", o.address)
	}
	if o.basePort < 0 || o.basePort > 65535-4190 {
		bad("--base-port %d: must be from 0 to %d", o.basePort, 65535-4190)
	}
	errs = append(errs, o.completeFiles())
	if len(o.domains) > 0 {
		errs = append(errs, o.completeOfficers())
	}
	if _, err := os.Lstat(o.passwordsTo); o.passwordsTo != "" && err == nil {
		bad("--passwords-to: %s exists", o.passwordsTo)
	}
	return errors.Join(errs...)
}

// completeFiles looks at the files that are named.
func (o *initOptions) completeFiles() error {
	var errs []error
	switch {
	case o.selfSigned && (o.certificate != "" || o.key != ""):
		errs = append(errs, errors.New("--self-signed excludes --tls-certificate and --tls-key"))
	case !o.selfSigned && (o.certificate == "" || o.key == ""):
		errs = append(errs, errors.New("--tls-certificate and --tls-key are needed (or --self-signed, for development)"))
	case !o.selfSigned:
		errs = append(errs, checkPEM(o.certificate, false))
		if !strings.HasPrefix(o.key, tokenPrefix) {
			errs = append(errs, checkPEM(o.key, true))
		}
	}
	if !o.selfSigned && len(o.anchors) == 0 {
		errs = append(errs, errors.New("--anchor is missing: without an authority no certificate is good and no confidential mail can be sent"))
	}
	for _, path := range slices.Concat(o.anchors, o.intermediates) {
		errs = append(errs, checkPEM(path, false))
	}
	for _, path := range o.crls {
		if _, err := os.Stat(path); err != nil {
			errs = append(errs, err)
		}
	}
	for _, s := range o.signers {
		part := strings.Split(s, ",")
		if len(part) != 3 || !slices.Contains(o.domains, part[0]) {
			errs = append(errs, fmt.Errorf("--signer %q is not DOMAIN,CERTIFICATE,KEY of a --domain", s))
			continue
		}
		errs = append(errs, checkPEM(part[1], false))
		if !strings.HasPrefix(part[2], tokenPrefix) {
			errs = append(errs, checkPEM(part[2], true))
		}
	}
	for _, path := range []*string{&o.certificate, &o.key} {
		if abs, err := filepath.Abs(*path); *path != "" && err == nil && !strings.HasPrefix(*path, tokenPrefix) {
			*path = abs
		}
	}
	for i, path := range o.crls {
		if abs, err := filepath.Abs(path); err == nil {
			o.crls[i] = abs
		}
	}
	return errors.Join(errs...)
}

// completeOfficers makes addresses of the officers' names.
func (o *initOptions) completeOfficers() error {
	var errs []error
	seen := map[string]string{}
	for i := range o.officers {
		f := &o.officers[i]
		if !strings.Contains(f.name, "@") {
			f.name += "@" + o.domains[0]
		}
		a, err := mail.ParseAddress(f.name)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("--%s %q is neither a uid nor an address", f.flag, f.name))
		case !slices.Contains(o.domains, a.Domain):
			errs = append(errs, fmt.Errorf("--%s: %s is not one of the domains", f.flag, a.Domain))
		case seen[a.Local] != "":
			errs = append(errs, fmt.Errorf("--%s: %s is %s already; nobody may hold two roles", f.flag, a.Local, seen[a.Local]))
		}
		seen[a.Local] = f.role
		f.name = a.String()
	}
	return errors.Join(errs...)
}

func (f *officer) uid() string {
	uid, _, _ := strings.Cut(f.name, "@")
	return uid
}

// developmentHolds is how long the revocation list of a development authority is good: nobody renews it.
const developmentHolds = 365 * 24 * time.Hour

// install makes the installation. The configuration comes last.
func (o *initOptions) install(ctx context.Context, out, words io.Writer) error {
	passwords, made, err := o.passwords()
	if err != nil {
		return err
	}
	in := installation{o.dir}
	if err := in.begin(); err != nil {
		return fmt.Errorf("%s: %w", o.dir, err)
	}
	store, err := in.makeKeystore(&o.keystore)
	if err != nil {
		return err
	}
	defer store.Close()
	values, signers, err := o.makeFiles(ctx, in, store)
	if err != nil {
		return err
	}
	if err := in.makeAudit(ctx, store, o.hostname+"/audit"); err != nil {
		return err
	}
	text, err := editConfig(configs.Example, values)
	if err != nil {
		return err
	}
	ldif, err := o.ldif(passwords)
	if err != nil {
		return err
	}
	if o.passwordsTo != "" { // before the configuration: passwords that nobody knows are of no use
		if err := writeNew(o.passwordsTo, made); err != nil {
			return err
		}
	}
	if err := in.finish(ctx, replaceSigners(text, signers), ldif); err != nil {
		return err
	}
	if made != "" && o.passwordsTo == "" {
		fmt.Fprintf(words, "passwords, shown this once (只顯示一次的密碼):\n%s", made)
	}
	return o.sayNext(out, len(signers) < len(o.domains))
}

// makeFiles puts the files of the certificates in place and returns what the configuration says of them.
func (o *initOptions) makeFiles(ctx context.Context, in installation, store keys.Slots) (map[string]string, []signerConfig, error) {
	values := map[string]string{
		"server.hostname": strconv.Quote(o.hostname), "domains.local": tomlStrings(o.domains),
		"directory.base": strconv.Quote(o.base), "audit.origin": strconv.Quote(o.hostname + "/audit"),
		"tls.certificate": strconv.Quote(o.certificate), "tls.key": strconv.Quote(o.key),
	}
	o.keystore.values(values)
	for service, port := range servicePorts() {
		host := o.address
		if service == "health" {
			host = "127.0.0.1"
		}
		values["listen."+service] = strconv.Quote(net.JoinHostPort(host, strconv.Itoa(o.basePort+port)))
	}
	var anchors, intermediates []string
	var signers []signerConfig
	crls := o.crls
	if o.selfSigned {
		ca, err := demopki.NewCA("cmmpd development authority of "+o.hostname, time.Now)
		if err != nil {
			return nil, nil, err
		}
		names := serverNames()
		if !slices.Contains(names, o.hostname) {
			names = append(names, o.hostname)
		}
		if err := errors.Join(in.makePKI(ctx, ca, store, names, o.domains), in.writeCRL(ca, developmentHolds)); err != nil {
			return nil, nil, err
		}
		anchors, crls = []string{"pki/ca.pem"}, append([]string{"pki/ca.crl"}, crls...)
		values["tls.certificate"], values["tls.key"] = `"pki/server.pem"`, `"keys/server.key"`
		values["smime.max-crl-age"] = strconv.Quote(fmt.Sprintf("%dh", int(developmentHolds.Hours())))
		for _, d := range o.domains {
			signers = append(signers, signerConfig{d, "pki/" + gatewayFile(d), gatewayKey(d)})
		}
	}
	for _, group := range []struct {
		name string
		from []string
		to   *[]string
	}{{"anchor", o.anchors, &anchors}, {"intermediate", o.intermediates, &intermediates}} {
		for i, path := range group.from {
			name := fmt.Sprintf("%s-%d.pem", group.name, i+1)
			if err := in.copyIn(path, "pki", name); err != nil {
				return nil, nil, err
			}
			*group.to = append(*group.to, "pki/"+name)
		}
	}
	for _, s := range o.signers {
		sc, err := addSigner(ctx, in, store, strings.Split(s, ","))
		if err != nil {
			return nil, nil, fmt.Errorf("--signer %s: %w", s, err)
		}
		signers = append(slices.DeleteFunc(signers, func(have signerConfig) bool { return have.Domain == sc.Domain }), sc)
	}
	values["smime.anchors"], values["smime.intermediates"], values["smime.crls"] = tomlStrings(anchors), tomlStrings(intermediates), tomlStrings(crls)
	return values, signers, nil
}

// addSigner takes a domain's signing key, which it imports into a keystore of files, part being domain, certificate and key.
func addSigner(ctx context.Context, in installation, store keys.Slots, part []string) (signerConfig, error) {
	s := signerConfig{part[0], "pki/given-" + gatewayFile(part[0]), "given-" + gatewayKey(part[0])}
	if name, ok := strings.CutPrefix(part[2], tokenPrefix); ok {
		s.Key = name
		_, err := store.Signer(ctx, keys.Service, name)
		return s, errors.Join(err, in.copyIn(part[1], s.Certificate))
	}
	files, ok := store.Service.(*keys.FileStore)
	if !ok {
		return s, errors.New("a private key is not brought into a token: make one there (cmmpd keys generate), have it certified (cmmpd keys request), and give token:NAME")
	}
	data, err := os.ReadFile(part[2])
	if err != nil {
		return signerConfig{}, err
	}
	key, err := demopki.ParseKey(data)
	if err != nil {
		return signerConfig{}, err
	}
	return s, errors.Join(files.Import(keys.Service, s.Key, key), in.copyIn(part[1], s.Certificate))
}

// copyIn copies a file below the folder.
func (in installation) copyIn(from string, to ...string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return in.write(string(data), to...)
}

// minPassword is the shortest password that an officer may bring, in octets.
const minPassword = 12

// passwords are the officers' passwords by uid; made lists those that were made here.
func (o *initOptions) passwords() (all map[string]string, made string, err error) {
	all = map[string]string{}
	if o.passwordFile != "" {
		data, err := os.ReadFile(o.passwordFile)
		if err != nil {
			return nil, "", err
		}
		for i, line := range strings.Split(strings.TrimRight(string(data), "\r\n"), "\n") {
			uid, password, ok := strings.Cut(strings.TrimRight(line, "\r"), ":")
			if !ok || len(password) < minPassword || !slices.ContainsFunc(o.officers, func(f officer) bool { return f.uid() == uid }) {
				return nil, "", fmt.Errorf("%s:%d: not the uid of an officer, a colon and a password of at least %d characters", o.passwordFile, i+1, minPassword)
			}
			all[uid] = password
		}
	}
	for _, f := range o.officers {
		if all[f.uid()] == "" {
			all[f.uid()] = rand.Text()
			made += f.uid() + ":" + all[f.uid()] + "\n"
		}
	}
	return all, made, nil
}

// writeNew writes a file that must not be there yet, for its owner alone.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Sync(), f.Close())
}

// ldif is the first directory: the base, its units and the officers.
func (o *initOptions) ldif(passwords map[string]string) (string, error) {
	d, err := newDirectoryLDIF(o.base, "people", "posts", "groups")
	if err != nil {
		return "", usageError{fmt.Errorf("--base-dn: %w", err)}
	}
	var taken []string
	for _, f := range o.officers {
		taken = append(taken, f.name)
	}
	master := postmasters(o.domains, taken...) // mail for them comes to the first administrator
	for _, f := range o.officers {
		verifier, err := server.HashPassword(rand.Reader, passwords[f.uid()], server.DefaultRounds)
		if err != nil {
			return "", err
		}
		a := account{uid: f.uid(), cn: f.en, display: f.en + " " + f.zh, mail: f.name, verifier: verifier, role: f.role}
		if f.role == "admin" {
			a.aliases, master = master, nil
		}
		d.account(a)
	}
	return d.String()
}
