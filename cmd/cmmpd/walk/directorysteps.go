package walk

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// addressBook is step 5.
func (w *walk) addressBook(_ context.Context, r *report) error {
	pass, err := w.password("alice")
	if err != nil {
		return err
	}
	c, err := ldap.DialURL("ldaps://"+w.addr(636), ldap.DialWithTLSConfig(w.tls()))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Bind("uid=alice,ou=people,dc=gov,dc=example", pass); err != nil {
		return err
	}
	res, err := c.Search(ldap.NewSearchRequest("dc=gov,dc=example", ldap.ScopeWholeSubtree, ldap.NeverDerefAliases, 10, 10, false,
		"(|(cn=bob*)(mail=bob*))", []string{"cn", "mail", "userCertificate;binary"}, nil))
	if err != nil {
		return err
	}
	r.did("a client bound as alice over LDAPS and typed \"bob\"")
	if len(res.Entries) != 1 || res.Entries[0].GetAttributeValue("mail") != bob {
		return fmt.Errorf("%d entries were found, not bob's alone", len(res.Entries))
	}
	cert, err := w.certificate("bob")
	if err != nil {
		return err
	}
	if !bytes.Equal(res.Entries[0].GetRawAttributeValue("userCertificate;binary"), cert.Raw) {
		return errors.New("the certificate in bob's entry is not that of people/bob/cert.pem")
	}
	r.saw("%s, %s, with his certificate, serial number %x", res.Entries[0].DN, bob, cert.SerialNumber)
	r.again("LDAPTLS_CACERT=$D/pki/ca.pem ldapsearch -H ldaps://localhost:%d -D alice -y $D/people/alice/password -b dc=gov,dc=example '(cn=bob*)' mail userCertificate", w.BasePort+636)
	return nil
}

// henryLDIF is the change that publishes henry's certificate.
func (w *walk) henryLDIF() (string, error) {
	cert, err := w.certificate("henry")
	if err != nil {
		return "", err
	}
	return "dn: uid=henry,ou=people,dc=gov,dc=example\nchangetype: modify\nadd: userCertificate;binary\nuserCertificate;binary:: " +
		base64.StdEncoding.EncodeToString(cert.Raw) + "\n-\n", nil
}

// audited is step 6.
func (w *walk) audited(ctx context.Context, r *report) error {
	ldif, err := w.henryLDIF()
	if err != nil {
		return err
	}
	pass, err := w.password("admin")
	if err != nil {
		return err
	}
	before, err := w.imports(ctx)
	if err != nil {
		return err
	}
	if err := w.Import(ctx, "admin", pass, strings.NewReader(ldif)); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	r.did("admin published henry's certificate: %s directory import --config %s --user admin --password-file $D/people/admin/password < change.ldif", w.Program, w.Config)
	after, err := w.imports(ctx)
	if err != nil {
		return err
	}
	if len(after) < len(before)+2 {
		return fmt.Errorf("the audit log had %d records of imports and has %d: the act and its outcome are not both there", len(before), len(after))
	}
	r.saw("audit record: %s", after[len(after)-2])
	r.saw("its outcome:  %s", after[len(after)-1])
	good, err := w.AuditVerify(ctx, filepath.Join(w.Dir, "audit"))
	if err != nil {
		return fmt.Errorf("the audit log of the running platform: %w", err)
	}
	r.saw("%s", good)
	return w.tampered(ctx, r)
}

// imports are the audit log's records of directory imports, a line each.
func (w *walk) imports(ctx context.Context) ([]string, error) {
	var out bytes.Buffer
	if err := w.AuditExport(ctx, &out); err != nil {
		return nil, fmt.Errorf("audit export: %w", err)
	}
	var lines []string
	for l := range strings.Lines(out.String()) {
		if strings.Contains(l, `"directory.import"`) {
			lines = append(lines, strings.TrimRight(l, "\n"))
		}
	}
	return lines, nil
}

// tampered exports the log, verifies the export, changes one byte of a copy, and looks
// whether verification says so.
func (w *walk) tampered(ctx context.Context, r *report) error {
	tmp, err := os.MkdirTemp("", "cmmpd-walk-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	var bundle bytes.Buffer
	if err := w.AuditBundle(ctx, &bundle); err != nil {
		return fmt.Errorf("audit export --bundle: %w", err)
	}
	file := filepath.Join(tmp, "audit.bundle")
	if err := os.WriteFile(file, bundle.Bytes(), 0o600); err != nil {
		return err
	}
	if _, err := w.AuditVerify(ctx, file); err != nil {
		return fmt.Errorf("the export bundle: %w", err)
	}
	damaged := bytes.Clone(bundle.Bytes())
	at := bytes.LastIndex(damaged, []byte("directory.import"))
	if at < 0 {
		return errors.New("the export bundle does not hold the record of the import")
	}
	damaged[at] ^= 1
	if err := os.WriteFile(file, damaged, 0o600); err != nil {
		return err
	}
	_, err = w.AuditVerify(ctx, file)
	if err == nil {
		return errors.New("one byte of a copy was changed, and verification passed")
	}
	r.did("exported the log as a bundle, which verifies, and changed one byte of it")
	r.saw("verification fails and names the place: %v", err)
	r.again("%[1]s audit export --config %[2]s --bundle > audit.bundle; %[1]s audit verify --key $D/audit/audit.pub audit.bundle", w.Program, w.Config)
	return nil
}

// noPlainText is step 7.
func (w *walk) noPlainText(ctx context.Context, r *report) error {
	if len(w.markers) == 0 {
		return errors.New("no mail was sent, there is nothing to look for")
	}
	if err := w.planted(ctx); err != nil {
		return err
	}
	r.did("planted a file with a marker in clear, in base64 and in quoted-printable: the scan found each; removed it")
	files, size := 0, int64(0)
	err := filepath.WalkDir(w.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || ctx.Err() != nil {
			return errors.Join(skipGone(err), ctx.Err())
		}
		n, how, err := scan(path, w.markers)
		if how != "" {
			return fmt.Errorf("%s holds text of a mail, %s", path, how)
		}
		files, size = files+1, size+n
		return skipGone(err)
	})
	if err != nil {
		return err
	}
	r.saw("%d files with %d bytes scanned for the markers of all %d mails, in clear, base64 and quoted-printable: none", files, size, len(w.markers))
	r.again("grep -rc 'some word of your mail' $D")
	return nil
}

// skipGone forgives a file that the running platform removed meanwhile.
func skipGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// planted proves on a file of our own that the scan finds what it looks for.
func (w *walk) planted(_ context.Context) error {
	for _, form := range plantedForms(w.markers[0]) {
		path := filepath.Join(w.Dir, "planted")
		if err := os.WriteFile(path, []byte(form.text), 0o600); err != nil {
			return err
		}
		_, how, err := scan(path, w.markers)
		if err := errors.Join(err, os.Remove(path)); err != nil {
			return err
		}
		if how != form.how {
			return fmt.Errorf("the scan does not find a marker that was planted %s", form.how)
		}
	}
	return nil
}
