package admin

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"cmmpd/audit"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// fixture is a Service over a real audit log, and a directory and a store that answer as told.
type fixture struct {
	*Service
	dir      string
	imported string
	key      string // the last key that was imported
	fail     error
}

func newFixture(t *testing.T, local bool) *fixture {
	t.Helper()
	f := &fixture{dir: filepath.Join(t.TempDir(), "audit")}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	opt := audit.Options{Origin: "test.example/audit"}
	if err := audit.Create(f.dir, key, opt); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(f.dir, key, opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { log.Close() })
	f.Service = NewService(Options{
		LocalImport: local, AuditDir: f.dir, Audit: log,
		Login: func(_ context.Context, _ mail.Client, name, password string) (mail.Principal, error) {
			if password != "good" {
				return mail.Principal{}, mail.E(mail.AuthFailed, "wrong", nil)
			}
			return mail.Principal{UID: name, Roles: []string{name}}, nil
		},
		Import: func(_ context.Context, r io.Reader, _ string) (ImportResult, error) {
			b, err := io.ReadAll(r)
			f.imported = string(b)
			return ImportResult{Added: 1, Changed: []string{"uid=x"}}, errors.Join(err, f.fail)
		},
		ExportDirectory: func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, "version: 1\n")
			return errors.Join(err, f.fail)
		},
		ImportKey: func(_ context.Context, name string, key []byte) error {
			f.key = name + ": " + string(key)
			return f.fail
		},
		Check: func(context.Context, bool) (CheckReport, error) { return CheckReport{Accounts: 3}, f.fail },
		Compact: func(context.Context) (storage.CompactReport, error) {
			return storage.CompactReport{Segments: 2, Freed: 4711}, f.fail
		},
	})
	return f
}

// records is the audit log's records of a type.
func (f *fixture) records(t *testing.T, event string) []string {
	t.Helper()
	var out bytes.Buffer
	if err := f.ExportAudit(t.Context(), Caller{System: "uid 0"}, Export{Format: audit.JSONL}, &out, nil); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for l := range strings.Lines(out.String()) {
		if strings.Contains(l, `"`+event+`"`) {
			lines = append(lines, l)
		}
	}
	return lines
}

func TestImportNeedsTheRole(t *testing.T) {
	f := newFixture(t, false)
	for _, tc := range []struct {
		name, password string
		want           mail.Kind
	}{{"", "", mail.AuthFailed}, {"admin", "bad", mail.AuthFailed}, {"auditor", "good", mail.Denied}} {
		_, err := f.Import(t.Context(), Caller{System: "uid 0", Name: tc.name, Password: tc.password}, strings.NewReader("x"))
		if err == nil || mail.KindOf(err) != tc.want || f.imported != "" {
			t.Errorf("%q: %v, imported %q", tc.name, err, f.imported)
		}
	}
	if r := f.records(t, audit.DirectoryImport); len(r) != 0 {
		t.Errorf("refused acts are on record as begun: %q", r)
	}
	res, err := f.Import(t.Context(), Caller{System: "uid 0", Name: "admin", Password: "good"}, strings.NewReader("dn: x"))
	if err != nil || res.Added != 1 || f.imported != "dn: x" {
		t.Errorf("%+v %v", res, err)
	}
	if r := f.records(t, audit.DirectoryImport); len(r) != 2 || !strings.Contains(r[1], `"uid=x"`) || !strings.Contains(r[0], `"admin"`) {
		t.Errorf("records of the act: %q", r)
	}
}

func TestFailureIsOnRecord(t *testing.T) {
	f := newFixture(t, true)
	f.fail = mail.E(mail.Invalid, "line 3: nonsense", nil)
	if _, err := f.Import(t.Context(), Caller{System: "uid 7"}, strings.NewReader("")); mail.KindOf(err) != mail.Invalid {
		t.Errorf("%v", err)
	}
	if r := f.records(t, audit.DirectoryImport); len(r) != 2 || !strings.Contains(r[1], "invalid") || !strings.Contains(r[0], "uid 7") {
		t.Errorf("records: %q", r)
	}
}

func TestNoRecordNoAct(t *testing.T) {
	f := newFixture(t, true)
	f.o.Audit.Close()
	if err := f.ImportKey(t.Context(), Caller{}, KeyImport{Name: "signer/x"}, strings.NewReader("key")); mail.KindOf(err) != mail.Unavailable || f.key != "" {
		t.Errorf("%v, imported %q", err, f.key)
	}
	if _, err := f.Import(t.Context(), Caller{}, strings.NewReader("dn: x")); mail.KindOf(err) != mail.Unavailable || f.imported != "" {
		t.Errorf("%v, imported %q", err, f.imported)
	}
}

func TestSocket(t *testing.T) {
	for _, name := range []string{"s", strings.Repeat("long/", 30) + "s"} {
		f := newFixture(t, false)
		path := filepath.Join(t.TempDir(), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil { // as a dead daemon leaves one
			t.Fatal(err)
		}
		s, err := Listen(path, f.Service)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve() }()
		if _, err := Listen(path, f.Service); err == nil {
			t.Error("a second daemon takes the socket")
		}
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("the socket's rights: %v %v", fi, err)
		}
		talk(t, f, path)
		if err := s.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if _, err := Dial(path); err == nil {
			t.Error("the socket answers after the end")
		}
	}
}

func talk(t *testing.T, f *fixture, path string) {
	c, err := Dial(path)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := c.Check(t.Context(), true); err != nil || r.Accounts != 3 || r.Problems == nil {
		t.Errorf("check: %+v %v", r, err)
	}
	if r, err := c.Compact(t.Context()); err != nil || r.Freed != 4711 {
		t.Errorf("compact: %+v %v", r, err)
	}
	if r := f.records(t, audit.StoreCompact); len(r) != 2 || !strings.Contains(r[1], "4711") {
		t.Errorf("records of the compaction: %q", r)
	}
	q := KeyImport{Name: "signer/carol@health.gov.example-2a", For: "carol@health.gov.example", Certificate: "c0ffee"}
	if err := c.ImportKey(t.Context(), q, strings.NewReader("the private key")); err != nil || f.key != q.Name+": the private key" {
		t.Errorf("key import: %v, %q", err, f.key)
	}
	if r := f.records(t, audit.KeyImport); len(r) != 2 || !strings.Contains(r[1], `"certificate":"c0ffee"`) || !strings.Contains(r[1], `"for":"carol@health.gov.example"`) || !strings.Contains(r[0], q.Name) || strings.Contains(r[0]+r[1], "private key") {
		t.Errorf("records of the import: %q", r)
	}
	f.key = ""
	if err := c.ImportKey(t.Context(), q, strings.NewReader(strings.Repeat("x", maxKey+1))); mail.KindOf(err) != mail.TooLarge || f.key != "" {
		t.Errorf("an endless key: %v, %d", err, len(f.key))
	}
	if _, err := c.Import(t.Context(), strings.NewReader("dn: y")); mail.KindOf(err) != mail.AuthFailed {
		t.Errorf("import without a log-in: %v", err)
	}
	c.Name, c.Password = "admin", "good"
	if r, err := c.Import(t.Context(), strings.NewReader("dn: y")); err != nil || r.Added != 1 || f.imported != "dn: y" {
		t.Errorf("import: %+v %v", r, err)
	}
	var out bytes.Buffer
	if err := c.ExportDirectory(t.Context(), &out); err != nil || out.String() != "version: 1\n" {
		t.Errorf("export: %q %v", &out, err)
	}
	out.Reset()
	if err := c.ExportAudit(t.Context(), Export{Format: audit.JSONL}, &out, nil); err != nil || !strings.Contains(out.String(), audit.DirectoryExport) {
		t.Errorf("audit export: %q %v", &out, err)
	}
	f.fail = errors.New("disk on fire")
	if err := c.ExportDirectory(t.Context(), io.Discard); err == nil {
		t.Error("half an export looks like a whole one")
	}
	if _, err := c.Check(t.Context(), false); err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("a failure: %v", err)
	}
}
