package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"cmmpd/internal/admin"
	"cmmpd/internal/intake"
	"cmmpd/internal/mail"
	"cmmpd/internal/queue"
	"cmmpd/storage"
)

// operator does administrative acts: beside a running daemon by asking it, otherwise
// with the parts opened here, under their locks.
type operator struct {
	importLDIF      func(ctx context.Context, ldif io.Reader) (admin.ImportResult, error)
	exportDirectory func(ctx context.Context, w io.Writer) error
	check           func(ctx context.Context, deep bool) (admin.CheckReport, error)
	compact         func(ctx context.Context) (storage.CompactReport, error)
	exportAudit     func(ctx context.Context, e admin.Export, w io.Writer, progress func(done, total int64)) error
	forget          func(ctx context.Context, q admin.ForgetRequest) (int, error)
	queueList       func(ctx context.Context, f func(queue.Listing) error) error
	queueChange     func(ctx context.Context, act admin.QueueAct, items []string) (int, error)
	backup          func(ctx context.Context, part string, w io.Writer) error
	verifyBackup    func(ctx context.Context, r io.Reader) (admin.BackupReport, error)
	restoreAccount  func(ctx context.Context, q admin.RestoreRequest, mailBackup io.Reader, size int64, vault io.Reader) (admin.RestoreResult, error)
	importKey       func(ctx context.Context, q admin.KeyImport, key io.Reader) error
	keyAct          func(ctx context.Context, a admin.KeyAct) ([]byte, error)
	explain         func(ctx context.Context, q admin.ExplainRequest, message io.Reader) (*intake.Explanation, error)
	platformKeys    func(ctx context.Context) (admin.PlatformKeys, error)
	rotateKey       func(ctx context.Context, name string) error
	local           bool // no daemon runs
	close           func() error
}

// newOperator finds out whether a daemon runs. name and password may be empty.
func newOperator(ctx context.Context, cfg *config, name, password string) (*operator, error) {
	if c, err := admin.Dial(cfg.Server.Socket); err == nil {
		c.Name, c.Password = name, password
		return &operator{
			importLDIF: c.Import, exportDirectory: c.ExportDirectory, check: c.Check, compact: c.Compact, exportAudit: c.ExportAudit, forget: c.ForgetNames,
			queueList: c.QueueList, queueChange: c.QueueChange, backup: c.Backup, verifyBackup: c.VerifyBackup,
			restoreAccount: c.RestoreAccount, importKey: c.ImportKey, keyAct: c.KeyAct, explain: c.Explain, platformKeys: c.PlatformKeys, rotateKey: c.RotateKey, close: func() error { return nil },
		}, nil
	}
	return localOperator(ctx, cfg, name, password)
}

// localOperator opens the keystore and the audit log now, the store and the directory
// only when an act needs them: a damaged store must not keep the audit log from an auditor.
func localOperator(ctx context.Context, cfg *config, name, password string) (*operator, error) {
	p := newPlatform(cfg, newLog("error"))
	for _, open := range []func(context.Context) error{p.openKeystore, p.openAudit} {
		if err := open(ctx); err != nil {
			return nil, errors.Join(err, p.close())
		}
	}
	who := admin.Caller{System: "uid " + strconv.Itoa(os.Geteuid()), Name: name, Password: password}
	s := admin.NewService(admin.Options{
		LocalImport: true, AuditDir: cfg.Audit.Path, Audit: p.audit, Syslog: cfg.auditSyslog(), Names: p.auditNames(), Forget: p.forgetNames(), Log: p.log,
		Login: func(ctx context.Context, c mail.Client, name, password string) (mail.Principal, error) {
			if err := p.needDirectory(ctx); err != nil {
				return mail.Principal{}, err
			}
			return p.auth.Login(ctx, c, name, password)
		},
		Import: func(ctx context.Context, ldif io.Reader, actor string) (admin.ImportResult, error) {
			if err := p.needDirectory(ctx); err != nil {
				return admin.ImportResult{}, err
			}
			return p.importDirectory(ctx, ldif, actor)
		},
		ExportDirectory: func(ctx context.Context, w io.Writer) error {
			if err := p.needDirectory(ctx); err != nil {
				return err
			}
			return p.exportDirectory(ctx, w)
		},
		Check: func(ctx context.Context, deep bool) (admin.CheckReport, error) {
			if err := p.needStore(ctx); err != nil {
				return admin.CheckReport{}, err
			}
			return p.checkWith(ctx, deep)
		},
		PlatformKeys: func(ctx context.Context) (admin.PlatformKeys, error) {
			if err := p.needStore(ctx); err != nil {
				return admin.PlatformKeys{}, err
			}
			return p.platformKeys(ctx)
		},
		RotateKey: func(ctx context.Context, name string) error {
			if err := p.needStore(ctx); err != nil {
				return err
			}
			return p.rotateKey(ctx, name)
		},
		Compact: func(ctx context.Context) (storage.CompactReport, error) {
			if err := p.needStore(ctx); err != nil {
				return storage.CompactReport{}, err
			}
			return p.store.Compact(ctx)
		},
		Queue: func(ctx context.Context) (admin.Queue, error) {
			if p.queue == nil {
				for _, open := range []func(context.Context) error{p.openStore, p.openQueue} {
					if err := open(ctx); err != nil {
						return nil, err
					}
				}
			}
			return p.queue, nil
		},
		Backup: func(ctx context.Context, part string, w io.Writer) error {
			if err := errors.Join(p.needStore(ctx), p.needDirectory(ctx)); err != nil {
				return err
			}
			return p.writeBackup(ctx, part, w)
		},
		VerifyBackup: p.verifyBackup,
		ImportKey:    p.importKey,
		KeyAct:       p.keyAct,
		Explain: func(ctx context.Context, q admin.ExplainRequest, message io.Reader) (*intake.Explanation, error) {
			for _, open := range []func(context.Context) error{p.needStore, p.openQueue, p.needDirectory, p.openIntake} {
				if err := open(ctx); err != nil {
					return nil, err
				}
			}
			return p.explain(ctx, q, message)
		},
		RestoreAccount: func(ctx context.Context, q admin.RestoreRequest, mailBackup, vault io.Reader) (admin.RestoreResult, error) {
			if err := errors.Join(p.needStore(ctx), p.needDirectory(ctx)); err != nil {
				return admin.RestoreResult{}, err
			}
			return p.restoreAccount(ctx, q, mailBackup, vault)
		},
	})
	return &operator{
		importLDIF:      func(ctx context.Context, ldif io.Reader) (admin.ImportResult, error) { return s.Import(ctx, who, ldif) },
		exportDirectory: func(ctx context.Context, w io.Writer) error { return s.ExportDirectory(ctx, who, w) },
		check:           func(ctx context.Context, deep bool) (admin.CheckReport, error) { return s.Check(ctx, who, deep) },
		compact:         func(ctx context.Context) (storage.CompactReport, error) { return s.Compact(ctx, who) },
		exportAudit: func(ctx context.Context, e admin.Export, w io.Writer, progress func(done, total int64)) error {
			return s.ExportAudit(ctx, who, e, w, progress)
		},
		forget:    func(ctx context.Context, q admin.ForgetRequest) (int, error) { return s.ForgetNames(ctx, who, q) },
		queueList: func(ctx context.Context, f func(queue.Listing) error) error { return s.QueueList(ctx, who, f) },
		queueChange: func(ctx context.Context, act admin.QueueAct, items []string) (int, error) {
			return s.QueueChange(ctx, who, act, items)
		},
		backup:       func(ctx context.Context, part string, w io.Writer) error { return s.Backup(ctx, who, part, w) },
		verifyBackup: s.VerifyBackup,
		restoreAccount: func(ctx context.Context, q admin.RestoreRequest, mailBackup io.Reader, _ int64, vault io.Reader) (admin.RestoreResult, error) {
			return s.RestoreAccount(ctx, who, q, mailBackup, vault)
		},
		importKey: func(ctx context.Context, q admin.KeyImport, key io.Reader) error {
			return s.ImportKey(ctx, who, q, key)
		},
		keyAct:  func(ctx context.Context, a admin.KeyAct) ([]byte, error) { return s.KeyAct(ctx, who, a) },
		explain: s.Explain, close: p.close, local: true,
		platformKeys: s.PlatformKeys, rotateKey: func(ctx context.Context, name string) error { return s.RotateKey(ctx, who, name) },
	}, nil
}

// needDirectory opens the directory if it is not open yet.
func (p *platform) needDirectory(ctx context.Context) error {
	if p.dir != nil {
		return nil
	}
	return p.openDirectory(ctx)
}

// needStore opens the store if it is not open yet.
func (p *platform) needStore(ctx context.Context) error {
	if p.store != nil {
		return nil
	}
	return p.openStore(ctx)
}

// loginFlags are --user and --password-file.
type loginFlags struct{ user, file *string }

func (f flags) login() loginFlags {
	return loginFlags{f.String("user", "", "log-in `name` of an administrator"), f.String("password-file", "", "`file` that holds the password")}
}

func (l loginFlags) read() (name, password string, err error) {
	if (*l.user == "") != (*l.file == "") {
		return "", "", usageError{errors.New("--user and --password-file belong together")}
	}
	if *l.user == "" {
		return "", "", nil
	}
	b, err := os.ReadFile(*l.file)
	return *l.user, strings.TrimRight(string(b), "\r\n"), err
}

// withOperator parses the flags, after which rest arguments must remain, and runs one act.
func withOperator(fs flags, args []string, rest int, act func(context.Context, *operator) error) error {
	path := fs.config()
	var login loginFlags
	if strings.HasPrefix(fs.Name(), "directory") || fs.Name() == "queue remove" || strings.HasPrefix(fs.Name(), "audit") {
		login = fs.login()
	}
	if err := fs.parse(args, rest); err != nil {
		return err
	}
	var name, password string
	if login.user != nil {
		var err error
		if name, password, err = login.read(); err != nil {
			return err
		}
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	op, err := newOperator(ctx, cfg, name, password)
	if err != nil {
		return err
	}
	return errors.Join(act(ctx, op), op.close())
}

// check is "cmmpd check".
func check(args []string) error {
	fs := newFlags("check", "--config FILE [--json] [--deep]")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	deep := fs.Bool("deep", false, "open and verify every body")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		r, err := op.check(ctx, *deep)
		if err != nil {
			return err
		}
		if *asJSON {
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				return err
			}
		} else {
			fmt.Printf("accounts %d\nmailboxes %d\nentries %d\nbodies %d\nqueue %d\nrecoverable %d\n", r.Accounts, r.Mailboxes, r.Entries, r.Bodies, r.Queue, r.Recoverable)
			for _, p := range r.Problems {
				fmt.Println("problem:", p)
			}
			for _, w := range r.Warnings {
				fmt.Println("warning:", w)
			}
		}
		if len(r.Problems) > 0 {
			return fmt.Errorf("%d problems", len(r.Problems))
		}
		return nil
	})
}

// storeCompact is "cmmpd store compact".
func storeCompact(args []string) error {
	fs := newFlags("store compact", "--config FILE [--json]")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		r, err := op.compact(ctx)
		if err != nil {
			return err
		}
		if *asJSON {
			return json.NewEncoder(os.Stdout).Encode(r)
		}
		fmt.Printf("segments removed %d\noctets freed %d\noctets written again %d\nsegments left alone because of damage %d\n", r.Segments, r.Freed, r.Written, r.Skipped)
		return nil
	})
}

// directoryImport is "cmmpd directory import".
func directoryImport(args []string) error {
	fs := newFlags("directory import", "--config FILE [--user UID --password-file FILE] < LDIF")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		r, err := op.importLDIF(ctx, os.Stdin)
		if err != nil {
			return err
		}
		fmt.Printf("added %d, modified %d, deleted %d, unchanged %d\n", r.Added, r.Modified, r.Deleted, r.Unchanged)
		return nil
	})
}

// directoryExport is "cmmpd directory export".
func directoryExport(args []string) error {
	fs := newFlags("directory export", "--config FILE [--user UID --password-file FILE] > LDIF")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		return op.exportDirectory(ctx, os.Stdout)
	})
}
