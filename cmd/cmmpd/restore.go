package main

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/admin"
	"cmmpd/internal/backup"
	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/storage"
)

// stagedSuffix ends the names under which a restore gathers its files. They get their real names when all is known to
// be good.
const stagedSuffix = ".restoring"

// restoreCommand is "cmmpd restore".
func restoreCommand(args []string) error {
	fs := newFlags("restore", "--config FILE [--keystore DIR] [--keyd SOCKET] [--keyd-mail SOCKET] [--vault FILE] SRC\n"+
		"       cmmpd restore --config FILE --account UID [--mailbox NAME] [--message-id ID] [--user UID --password-file FILE] SRC")
	path := fs.config()
	var ks keystoreFlags
	fs.StringVar(&ks.folder, "keystore", "", "`folder` of the keystore, if the configuration FILE is to be restored too")
	ks.add(fs)
	vault := fs.String("vault", "", "`file` of the key vault; by default the newest one beside SRC")
	var q admin.RestoreRequest
	fs.StringVar(&q.Account, "account", "", "bring back messages of the account of this `uid` alone, those that are gone, beside the daemon or without it")
	fs.StringVar(&q.Mailbox, "mailbox", "", "only those of this `mailbox`")
	fs.StringVar(&q.MessageID, "message-id", "", "only the one with this `Message-ID`")
	login := fs.login()
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	q.MessageID = strings.Trim(q.MessageID, "<>")
	if q.Account == "" && (q.Mailbox != "" || q.MessageID != "") {
		return usageError{errors.New("--mailbox and --message-id need --account")}
	}
	abs, err := filepath.Abs(*path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	r := &restorer{config: abs, log: newLog("warn")}
	if r.mail, r.vault, err = backupFiles(fs.Arg(0), *vault); err != nil {
		return err
	}
	if q.Account != "" {
		return r.account(ctx, q, login)
	}
	if err := r.open(ks); err != nil {
		return err
	}
	return errors.Join(r.run(ctx), r.keys.Close())
}

// account brings back messages of one account.
func (r *restorer) account(ctx context.Context, q admin.RestoreRequest, login loginFlags) error {
	name, password, err := login.read()
	if err != nil {
		return err
	}
	cfg, err := loadConfig(r.config)
	if err != nil {
		return err
	}
	op, err := newOperator(ctx, cfg, name, password)
	if err != nil {
		return err
	}
	return errors.Join(restoreAccount(ctx, op, q, r.mail, r.vault), op.close())
}

// backupFiles finds the files: src is a backup of mail, or a folder of which the newest is taken.
func backupFiles(src, vault string) (mailFile, vaultFile string, err error) {
	newest := func(dir string, kind backup.Kind) (string, error) {
		names, err := backups(dir, kind)
		if err == nil && len(names) == 0 {
			err = fmt.Errorf("no backup of the %s in %s", kind, dir)
		}
		if err != nil {
			return "", err
		}
		return names[len(names)-1], nil
	}
	st, err := os.Stat(src)
	if err != nil {
		return "", "", err
	}
	mailFile = src
	if st.IsDir() {
		if mailFile, err = newest(src, backup.Mail); err != nil {
			return "", "", err
		}
	}
	if vault == "" { // the one that was made with it has every key; in newer ones some may be erased
		vault = filepath.Join(filepath.Dir(mailFile), strings.Replace(filepath.Base(mailFile), string(backup.Mail), string(backup.Vault), 1))
		if _, err := os.Stat(vault); errors.Is(err, fs.ErrNotExist) {
			vault, err = newest(filepath.Dir(mailFile), backup.Vault)
			return mailFile, vault, err
		}
	}
	return mailFile, vault, nil
}

// restorer makes a platform of a backup. Everything is gathered beside its place first, verified there, and then
// renamed, the configuration last.
type restorer struct {
	config      string // path of the configuration
	mail, vault string // the files of the backup
	log         *slog.Logger
	keys        keys.Slots
	cfg         *config // nil until it is known
	newConfig   bool    // it comes from the backup
	manifest    backup.Manifest
}

// open finds out whether there is a configuration, and opens the keystore.
func (r *restorer) open(ks keystoreFlags) error {
	where := ks.config("")
	_, err := os.Stat(r.config)
	switch {
	case err == nil:
		if r.cfg, err = loadConfig(r.config); err != nil {
			return err
		}
		if ks.empty() {
			where = r.cfg.Keystore
		}
		if err := r.vacant(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	case ks.empty():
		return usageError{fmt.Errorf("%s does not exist: to restore it, give the keystore with --keystore or --keyd", r.config)}
	default:
		r.newConfig = true
	}
	r.keys, err = where.open()
	return err
}

// vacant demands that nothing is overwritten, and removes what an earlier attempt has left.
func (r *restorer) vacant() error {
	if _, err := admin.Dial(r.cfg.Server.Socket); err == nil {
		return errors.New("a daemon runs on this configuration; stop it first")
	}
	for _, path := range r.targets() {
		if entries, err := os.ReadDir(path); err == nil && len(entries) == 0 {
			if err := os.Remove(path); err != nil {
				return err
			}
		} else if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s exists; a restore overwrites nothing: move it away first", path)
		}
	}
	staged := append(r.targets(), r.cfg.Audit.Path)
	if r.cfg.Audit.Names != "" {
		staged = append(staged, r.cfg.Audit.Names)
	}
	for _, path := range staged {
		if err := os.RemoveAll(path + stagedSuffix); err != nil {
			return err
		}
	}
	return nil
}

// targets are the places of the store and of the embedded directory, if there is one.
func (r *restorer) targets() []string {
	if r.cfg.Directory.Kind != embeddedDirectory {
		return []string{r.cfg.Store.Path}
	}
	return []string{r.cfg.Store.Path, r.cfg.Directory.Path}
}

func (r *restorer) run(ctx context.Context) error {
	if err := r.read(ctx, r.mail, backup.Mail); err != nil {
		return fmt.Errorf("%s: %w", r.mail, err)
	}
	if err := r.read(ctx, r.vault, backup.Vault); err != nil {
		return fmt.Errorf("%s: %w", r.vault, err)
	}
	report, err := r.prove(ctx)
	if err != nil {
		return err
	}
	if err := r.place(ctx); err != nil {
		return err
	}
	fmt.Printf("restored the state of %s: accounts %d, mailboxes %d, entries %d, bodies %d, queue %d (all held)\n",
		r.manifest.Time.Format(time.RFC3339), report.Accounts, report.Mailboxes, report.Entries, report.Bodies, report.Queue)
	return nil
}

// read gathers the entries of one file.
func (r *restorer) read(ctx context.Context, path string, kind backup.Kind) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := backup.NewReader(ctx, f, r.keys)
	if err != nil {
		return err
	}
	switch {
	case b.Manifest.Kind != kind:
		return fmt.Errorf("this is a backup of the %s, not of the %s", b.Manifest.Kind, kind)
	case kind == backup.Mail:
		r.manifest = b.Manifest
	case b.Manifest.Store != r.manifest.Store:
		return errors.New("this key vault belongs to another store than the mail")
	case b.Manifest.Time.Before(r.manifest.Time):
		return errors.New("this key vault is older than the mail: it lacks keys")
	}
	for {
		name, body, err := b.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := errors.Join(ctx.Err(), r.entry(ctx, name, body)); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// entry puts one entry beside its place.
func (r *restorer) entry(ctx context.Context, name string, body io.Reader) error {
	if name == entryConfig || strings.HasPrefix(name, entryFile) || strings.HasPrefix(name, entryOutside) {
		return r.configEntry(name, body)
	}
	if r.cfg == nil { // the configuration and its files are complete
		var err error
		if r.cfg, err = loadConfig(r.config + stagedSuffix); err != nil {
			return fmt.Errorf("the configuration of the backup does not fit here: %w", err)
		}
		if err := r.vacant(); err != nil {
			return err
		}
	}
	if path, ok := strings.CutPrefix(name, entryStore); ok {
		return writeBelow(r.cfg.Store.Path+stagedSuffix, path, body)
	}
	switch name {
	case entryDirectory:
		return r.directory(ctx, body)
	case entryAudit:
		return r.auditLog(body)
	case entryNames:
		return r.names(ctx, body)
	}
	return errors.New("this program does not know such an entry")
}

// configEntry restores the configuration and its files, where there are none.
func (r *restorer) configEntry(name string, body io.Reader) error {
	if !r.newConfig {
		return nil
	}
	if path, ok := strings.CutPrefix(name, entryOutside); ok {
		if _, err := os.Stat(path); err != nil {
			fmt.Fprintf(os.Stderr, "%s is named by the configuration and missing here\n", path)
		}
		return nil
	}
	dir := filepath.Dir(r.config)
	if name == entryConfig {
		return writeBelow(dir, filepath.Base(r.config)+stagedSuffix, body)
	}
	path := strings.TrimPrefix(name, entryFile)
	if _, err := os.Lstat(filepath.Join(dir, path)); err == nil {
		return nil
	}
	return writeBelow(dir, path, body)
}

// writeBelow writes a file below dir, durably, whatever its path tries.
func writeBelow(dir, path string, body io.Reader) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	path = filepath.FromSlash(path)
	if err := root.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Sync(), f.Close(), durable.OS{}.SyncDir(filepath.Dir(filepath.Join(dir, path))))
}

func (r *restorer) directory(ctx context.Context, ldif io.Reader) error {
	if r.cfg.Directory.Kind != embeddedDirectory {
		return nil // people are kept elsewhere now
	}
	staged := *r.cfg
	staged.Directory.Path += stagedSuffix
	s, err := openEmbedded(&staged, r.log, nil, nil)
	if err != nil {
		return err
	}
	_, err = s.Import(ctx, ldif, "restore")
	return errors.Join(err, s.Close())
}

// auditLog unpacks the log.
func (r *restorer) auditLog(body io.Reader) error {
	for t := tar.NewReader(body); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		path, ok := strings.CutPrefix(h.Name, "audit/")
		if !ok {
			return fmt.Errorf("%q is not a file of an audit log", h.Name)
		}
		if err := writeBelow(r.cfg.Audit.Path+stagedSuffix, path, t); err != nil {
			return err
		}
	}
}

// names makes the table of names.
func (r *restorer) names(ctx context.Context, body io.Reader) error {
	if r.cfg.Audit.Names == "" {
		return nil
	}
	t, err := r.cfg.openNames(ctx, r.keys, r.cfg.Audit.Names+stagedSuffix)
	if err != nil {
		return err
	}
	return errors.Join(restoreNames(t, body), t.Close())
}

// prove opens and checks what was gathered.
func (r *restorer) prove(ctx context.Context) (*storage.Report, error) {
	log := r.cfg.Audit.Path + stagedSuffix
	key, err := os.ReadFile(filepath.Join(log, "audit.pub"))
	if err != nil {
		return nil, err
	}
	if _, err := audit.Verify(ctx, log, key, nil); err != nil {
		return nil, fmt.Errorf("the audit log of the backup: %w", err)
	}
	s, err := storage.Open(ctx, storage.Options{Dir: r.cfg.Store.Path + stagedSuffix, Keys: r.keys, Log: r.log})
	if err != nil {
		return nil, fmt.Errorf("the store of the backup: %w", err)
	}
	var report *storage.Report
	if err = s.Renew(ctx); err == nil {
		report, err = s.Check(ctx, true)
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return nil, fmt.Errorf("the store of the backup: %w", err)
	}
	if n := len(report.Problems); n > 0 {
		return nil, fmt.Errorf("the store of the backup has %d problems, the first: %s", n, report.Problems[0])
	}
	return report, nil
}

// place gives everything its name. The audit log goes first: an act is recorded before it is done. One that is
// there already, as when only the mail was lost, stays.
func (r *restorer) place(ctx context.Context) error {
	if entries, err := os.ReadDir(r.cfg.Audit.Path); err == nil && len(entries) > 0 {
		fmt.Fprintf(os.Stderr, "the audit log in %s stays; that of the backup is not used\n", r.cfg.Audit.Path)
		if err := os.RemoveAll(r.cfg.Audit.Path + stagedSuffix); err != nil {
			return err
		}
	} else if err := r.rename(r.cfg.Audit.Path); err != nil {
		return err
	}
	if err := r.placeNames(); err != nil {
		return err
	}
	signer, err := r.keys.Signer(ctx, keys.Service, "audit")
	if err != nil {
		return err
	}
	o := audit.Options{Origin: r.cfg.Audit.Origin, Log: r.log, Local: r.cfg.localDomain}
	table, err := r.cfg.openNames(ctx, r.keys, r.cfg.Audit.Names)
	if err != nil {
		return err
	}
	if table != nil {
		defer table.Close()
		o.Names = table
	}
	log, err := audit.Open(r.cfg.Audit.Path, signer, o)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	act, err := log.Begin(ctx, audit.Event{
		Type: audit.StoreRestore, Actor: "uid " + strconv.Itoa(os.Geteuid()), Client: "restore", Subject: r.manifest.Store,
		Detail: map[string]string{"backup": filepath.Base(r.mail), "vault": filepath.Base(r.vault), "time": r.manifest.Time.Format(time.RFC3339)},
	})
	if err != nil {
		return errors.Join(err, log.Close())
	}
	for _, path := range r.targets() {
		if err == nil {
			err = r.rename(path)
		}
	}
	if err == nil && r.newConfig {
		err = r.rename(r.config)
	}
	return errors.Join(act.End(context.WithoutCancel(ctx), err), err, log.Close())
}

// placeNames puts the table of names in its place. One that is there already stays: the audit log beside it may refer
// to it.
func (r *restorer) placeNames() error {
	path := r.cfg.Audit.Names
	if _, err := os.Stat(path + stagedSuffix); path == "" || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if _, err := os.Stat(path); err == nil {
		fmt.Fprintf(os.Stderr, "the table of names in %s stays; that of the backup is not used\n", path)
		return os.Remove(path + stagedSuffix)
	}
	return r.rename(path)
}

// rename gives a staged file or folder its name.
func (r *restorer) rename(path string) error {
	if err := os.Rename(path+stagedSuffix, path); err != nil {
		return err
	}
	return durable.OS{}.SyncDir(filepath.Dir(path))
}
