// Package walk goes through the platform's main job as its users would: with real
// clients, over real connections, against a running daemon. It says what it does and
// what it sees, and a step holds only if what it saw is what was promised.
package walk

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Options is what the walk needs to know of the demonstration.
type Options struct {
	Dir      string // the demonstration's folder
	Config   string // its configuration file, for the commands that are shown
	Program  string // how this program was called, likewise
	BasePort int    // ports are this plus the well-known one
	Out      io.Writer

	// Counts is what "cmmpd check --json" counts.
	Counts func(ctx context.Context) (Counts, error)
	// Import is "cmmpd directory import" as the user with the password.
	Import func(ctx context.Context, user, password string, ldif io.Reader) error
	// AuditExport is "cmmpd audit export".
	AuditExport func(ctx context.Context, w io.Writer) error
	// AuditBundle is "cmmpd audit export --bundle".
	AuditBundle func(ctx context.Context, w io.Writer) error
	// AuditVerify is "cmmpd audit verify".
	AuditVerify func(ctx context.Context, path string) (string, error)
}

// Counts are the store's own figures.
type Counts struct {
	Accounts, Mailboxes, Entries, Bodies, Queue, Recoverable int
	Problems                                                 []string
}

// walk is one walk: its options and what the steps hand on.
type walk struct {
	Options
	roots        *x509.CertPool
	markers      []string // random words that stand in the text of the mails, for the scan
	secret       mailText // the confidential mail of step 2
	secretMarker string
}

// step is one step of the walk, with its headline in English and Traditional Chinese.
type step struct {
	title, title2 string
	run           func(*walk, context.Context, *report) error
}

func steps() []step {
	return []step{
		{"An ordinary mail, alice to bob", "普通郵件:alice 寄給 bob", (*walk).ordinary},
		{"A confidential mail, alice to bob and carol", "機密郵件:alice 寄給 bob 和 carol", (*walk).confidential},
		{"A confidential mail that cannot be protected is refused", "無法保護的機密郵件會被拒收", (*walk).refused},
		{"The plain copy of a confidential mail, saved to Sent", "把機密郵件的明文副本存入 Sent", (*walk).sentCopy},
		{"The address book", "通訊錄", (*walk).addressBook},
		{"An administrative act and its audit record", "管理操作及其審計紀錄", (*walk).audited},
		{"No plain text on disk", "磁碟上沒有明文", (*walk).noPlainText},
	}
}

// Run walks through all steps, whatever happens in one of them, and returns an error
// that names those that did not hold.
func Run(ctx context.Context, o Options) error {
	w := &walk{Options: o, roots: x509.NewCertPool()}
	ca, err := os.ReadFile(filepath.Join(o.Dir, "pki", "ca.pem"))
	if err != nil {
		return fmt.Errorf("reading the demonstration's authority: %w", err)
	}
	if !w.roots.AppendCertsFromPEM(ca) {
		return errors.New("pki/ca.pem holds no certificate")
	}
	fmt.Fprintf(o.Out, "The main job, end to end. To repeat the commands that are shown: D=%s\n", o.Dir)
	var failed []string
	for i, s := range steps() {
		fmt.Fprintf(o.Out, "\n%d. %s\n   %s\n", i+1, s.title, s.title2)
		r := &report{w: o.Out}
		sctx, cancel := context.WithTimeout(ctx, time.Minute)
		err := s.run(w, sctx, r)
		cancel()
		if err != nil {
			r.line("FAILED", err.Error())
			failed = append(failed, fmt.Sprintf("step %d (%s): %v", i+1, s.title, err))
			continue
		}
		r.line("held", "成立")
	}
	if len(failed) > 0 {
		return fmt.Errorf("did not hold 未能成立: %s", strings.Join(failed, "; "))
	}
	fmt.Fprintf(o.Out, "\nAll %d steps held. 全部 %d 個步驟均告成立。\n", len(steps()), len(steps()))
	return nil
}

// report writes what a step did and saw.
type report struct{ w io.Writer }

func (r *report) line(word, text string) { fmt.Fprintf(r.w, "   %-7s %s\n", word, text) }

// did says what was done.
func (r *report) did(format string, args ...any) { r.line("done", fmt.Sprintf(format, args...)) }

// saw says what was seen.
func (r *report) saw(format string, args ...any) { r.line("seen", fmt.Sprintf(format, args...)) }

// again shows how to do it by hand with a standard tool; $D is the folder.
func (r *report) again(format string, args ...any) { r.line("by hand", fmt.Sprintf(format, args...)) }

// addr is where the service of a well-known port listens.
func (w *walk) addr(port int) string { return fmt.Sprintf("127.0.0.1:%d", w.BasePort+port) }

// marker makes a random word that the scan of step 7 will look for.
func (w *walk) marker() string {
	m := "Marker" + rand.Text()
	w.markers = append(w.markers, m)
	return m
}

// password is that of a person of the demonstration.
func (w *walk) password(uid string) (string, error) {
	b, err := os.ReadFile(filepath.Join(w.Dir, "people", uid, "password"))
	return strings.TrimRight(string(b), "\r\n"), err
}

// certificate is a person's certificate file, decoded.
func (w *walk) certificate(uid string) (*x509.Certificate, error) {
	b, err := w.pem(uid, "cert.pem")
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(b)
}

func (w *walk) pem(uid, file string) ([]byte, error) {
	path := filepath.Join(w.Dir, "people", uid, file)
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM block", path)
	}
	return block.Bytes, nil
}
