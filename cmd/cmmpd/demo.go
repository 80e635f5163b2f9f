package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cmmpd/audit"
	"cmmpd/cmd/cmmpd/walk"
	"cmmpd/internal/admin"
	"cmmpd/internal/mail"
)

// demo is "cmmpd demo": it makes a demonstration if there is none yet, starts the whole
// platform, walks through the main job, and goes on serving.
func demo(args []string) error {
	fs := newFlags("demo", "[--dir DIR] [--base-port N] [--once | --serve] [--bench-users N]")
	dir := fs.String("dir", "cmmpd-demo", "`folder` of the demonstration; made if absent, used again if there")
	basePort := fs.Int("base-port", 10000, "ports are this `number` plus the well-known one")
	once := fs.Bool("once", false, "end after the walk; exit 0 only if every step held")
	serveOnly := fs.Bool("serve", false, "serve without the walk")
	benchUsers := fs.Int("bench-users", 0, "`number` of bench users to have beside the people, bench0@bench.test and so on")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	switch {
	case *once && *serveOnly:
		return usageError{errors.New("--once and --serve exclude each other")}
	case *basePort < 1 || *basePort > 65535-4190:
		return usageError{fmt.Errorf("--base-port %d: must be from 1 to %d", *basePort, 65535-4190)}
	case *benchUsers < 0 || *benchUsers > 1_000_000:
		return usageError{fmt.Errorf("--bench-users %d: must be from 0 to 1000000", *benchUsers)}
	}
	abs, err := filepath.Abs(*dir)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	d, err := startDemo(ctx, demoDir{installation{abs}, *basePort}, *benchUsers)
	if err != nil {
		return err
	}
	if !*serveOnly {
		if err := walk.Run(ctx, d.walkOptions(abs, *basePort)); err != nil || *once {
			return errors.Join(err, d.shutdown())
		}
	}
	fmt.Printf("\nserving in %s; ports are %d plus the well-known one; interrupt to end\n服務中;按 Ctrl-C 結束\n", abs, *basePort)
	return d.run(ctx)
}

// startDemo makes or renews the demonstration and starts the platform in it.
func startDemo(ctx context.Context, dd demoDir, benchUsers int) (*daemon, error) {
	if err := dd.prepare(ctx); err != nil {
		return nil, fmt.Errorf("preparing the demonstration in %s: %w", dd.dir, err)
	}
	cfg, err := loadConfig(dd.path("cmmpd.toml"))
	if err != nil {
		return nil, err
	}
	if err := dd.addBenchUsers(ctx, cfg, benchUsers); err != nil {
		return nil, fmt.Errorf("bench users: %w", err)
	}
	return startDaemon(ctx, cfg, newLog(cfg.Log.Level), provision)
}

// provision makes the mailboxes of everyone in the demonstration.
func provision(ctx context.Context, p *platform) error {
	for _, m := range demoMembers() {
		e, err := p.dir.Lookup(ctx, mail.MustParseAddress(m.address()))
		if err != nil {
			return fmt.Errorf("making the mailbox of %s: %w", m.uid, err)
		}
		if err := p.store.EnsureAccount(ctx, e.Account, e.Address.Domain); err != nil {
			return fmt.Errorf("making the mailbox of %s: %w", m.uid, err)
		}
	}
	return nil
}

// walkOptions gives the walk what commands would do, by way of the running daemon's
// socket, as the commands do it.
func (d *daemon) walkOptions(dir string, basePort int) walk.Options {
	operate := func(ctx context.Context, name, password string, act func(*operator) error) error {
		op, err := newOperator(ctx, d.cfg, name, password)
		if err != nil {
			return err
		}
		return errors.Join(act(op), op.close())
	}
	export := func(ctx context.Context, e admin.Export, w io.Writer) error {
		return operate(ctx, "", "", func(op *operator) error { return op.exportAudit(ctx, e, w, nil) })
	}
	return walk.Options{
		Dir: dir, Config: filepath.Join(dir, "cmmpd.toml"), Program: os.Args[0], BasePort: basePort, Out: os.Stdout,
		Counts: func(ctx context.Context) (c walk.Counts, err error) {
			err = operate(ctx, "", "", func(op *operator) error {
				r, err := op.check(ctx, false)
				c = walk.Counts{
					Accounts: r.Accounts, Mailboxes: r.Mailboxes, Entries: r.Entries, Bodies: r.Bodies, Queue: r.Queue, Recoverable: r.Recoverable, Problems: r.Problems,
				}
				return err
			})
			return c, err
		},
		Import: func(ctx context.Context, user, password string, ldif io.Reader) error {
			return operate(ctx, user, password, func(op *operator) error {
				_, err := op.importLDIF(ctx, ldif)
				return err
			})
		},
		AuditExport: func(ctx context.Context, w io.Writer) error { return export(ctx, admin.Export{Format: "jsonl"}, w) },
		AuditBundle: func(ctx context.Context, w io.Writer) error { return export(ctx, admin.Export{Bundle: true}, w) },
		AuditVerify: func(ctx context.Context, path string) (string, error) {
			key, err := os.ReadFile(filepath.Join(d.cfg.Audit.Path, "audit.pub"))
			if err != nil {
				return "", err
			}
			return verifyAudit(ctx, path, key, audit.Demand{Behind: -1})
		},
	}
}
