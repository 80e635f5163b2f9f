package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/admin"
	"cmmpd/internal/backup"
	"cmmpd/internal/durable"
	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// The entries of a backup. Those of the store and the files of the configuration follow a prefix.
const (
	entryConfig    = "config"
	entryFile      = "file/"    // + the path, as the configuration's folder sees it
	entryOutside   = "outside/" // + the absolute path of a file elsewhere
	entryStore     = "store/"   // + the path in the store
	entryDirectory = "directory.ldif"
	entryAudit     = "audit.tar"
	entryNames     = "audit.names" // with the vault: what was erased must not stay readable in old copies
)

// backupName is the name of a backup file: the kind and the time.
const (
	backupSuffix = ".cmmpd"
	backupTime   = "20060102T150405Z"
)

// backupCommand is "cmmpd backup".
func backupCommand(args []string) error {
	fs := newFlags("backup", "--config FILE [--keep-vaults SPAN] DEST")
	path := fs.config()
	keep := fs.Duration("keep-vaults", 30*24*time.Hour, "remove copies of the key vault from DEST that are older than this; 0 keeps all")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	op, err := newOperator(ctx, cfg, "", "")
	if err != nil {
		return err
	}
	return errors.Join(backUp(ctx, op, fs.Arg(0), *keep), op.close())
}

// backUp writes both parts below dest, the mail first: so the vault opens all of it.
func backUp(ctx context.Context, op *operator, dest string, keep time.Duration) error {
	if err := os.MkdirAll(dest, 0o700); err != nil {
		return err
	}
	at := time.Now().UTC().Format(backupTime)
	for _, kind := range []backup.Kind{backup.Mail, backup.Vault} {
		path := filepath.Join(dest, string(kind)+"-"+at+backupSuffix)
		rep, err := backUpPart(ctx, op, kind, path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		fmt.Printf("%s: %d entries, %d octets, verified\n", path, rep.Entries, rep.Bytes)
	}
	if keep > 0 {
		return dropVaults(dest, time.Now().Add(-keep))
	}
	return nil
}

// backUpPart writes one file. It has its name only when it was read again and found to be good.
func backUpPart(ctx context.Context, op *operator, kind backup.Kind, path string) (rep admin.BackupReport, err error) {
	partial := path + durable.TempSuffix
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return rep, err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = errors.Join(os.Rename(partial, path), durable.OS{}.SyncDir(filepath.Dir(path)))
		} else {
			err = errors.Join(err, os.Remove(partial))
		}
	}()
	if err := op.backup(ctx, string(kind), f); err != nil {
		return rep, err
	}
	if err := f.Sync(); err != nil {
		return rep, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return rep, err
	}
	rep, err = op.verifyBackup(ctx, io.NopCloser(f))
	if err != nil {
		return rep, fmt.Errorf("verifying what was written: %w", err)
	}
	return rep, nil
}

// backups lists the files of a kind in a folder, the newest last.
func backups(dir string, kind backup.Kind) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if _, ok := backupMade(e.Name(), kind); ok {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

// backupMade is when a backup of that name was made.
func backupMade(name string, kind backup.Kind) (time.Time, bool) {
	at, ok := strings.CutPrefix(strings.TrimSuffix(name, backupSuffix), string(kind)+"-")
	t, err := time.Parse(backupTime, at)
	return t, ok && err == nil && strings.HasSuffix(name, backupSuffix)
}

// dropVaults removes the copies of the key vault made before the given time, but never the newest: what was erased
// must not be readable for longer from its old copies.
func dropVaults(dir string, before time.Time) error {
	names, err := backups(dir, backup.Vault)
	if err != nil || len(names) == 0 {
		return err
	}
	for _, name := range names[:len(names)-1] {
		if t, _ := backupMade(filepath.Base(name), backup.Vault); t.Before(before) {
			if err := os.Remove(name); err != nil {
				return err
			}
			fmt.Printf("%s: removed, of %s\n", name, t.Format(time.DateOnly))
		}
	}
	return nil
}

// writeBackup writes a part of the platform. The directory comes after the mail, so that everybody who has mail is in it.
func (p *platform) writeBackup(ctx context.Context, part string, w io.Writer) error {
	kind := backup.Kind(part)
	if kind != backup.Mail && kind != backup.Vault {
		return mail.E(mail.Invalid, "a backup is of mail or vault", nil)
	}
	b, err := backup.NewWriter(ctx, w, p.keystore, backup.Manifest{Kind: kind, Store: p.store.ID(), Time: time.Now().UTC(), Program: version()})
	if err != nil {
		return err
	}
	if kind == backup.Vault {
		err = p.backUpVault(ctx, b)
		if err == nil && p.names != nil {
			err = b.Put(entryNames, func(w io.Writer) error { return backUpNames(p.names, w) })
		}
		return errors.Join(err, closeIf(err, b))
	}
	err = p.backUpConfig(b)
	if err == nil {
		err = p.store.Backup(ctx, func(name string, copy func(io.Writer) error) error { return b.Put(entryStore+name, copy) })
	}
	if err == nil && p.embedded != nil {
		err = b.Put(entryDirectory, func(w io.Writer) error { return p.embedded.Export(ctx, w) })
	}
	if err == nil {
		err = b.Put(entryAudit, func(w io.Writer) error { return audit.Bundle(ctx, p.cfg.Audit.Path, w) })
	}
	return errors.Join(err, closeIf(err, b))
}

// backUpVault adds the key vault, and what must go with it.
func (p *platform) backUpVault(ctx context.Context, b *backup.Writer) error {
	done := func() {}
	err := b.Put(entryStore+storage.CarriedFile, func(w io.Writer) (err error) {
		var d func()
		if d, err = p.store.BackupCarried(ctx, w); err == nil {
			done = d
		}
		return err
	})
	if err == nil {
		err = b.Put(entryStore+storage.VaultFile, func(w io.Writer) error { return p.store.BackupVault(ctx, w) })
	}
	done()
	if err == nil && p.store.HasEscrow() {
		err = b.Put(entryStore+storage.EscrowFile, func(w io.Writer) error { return p.store.BackupEscrow(ctx, w) })
	}
	if err == nil {
		err = p.backUpRequests(b)
	}
	return err
}

// backUpRequests adds what was asked of the officers, sealed as it is: owners are to be told of what was opened.
func (p *platform) backUpRequests(b *backup.Writer) error {
	data, err := os.ReadFile(filepath.Join(p.cfg.Store.Path, casesFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return b.Put(entryStore+casesFile, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// closeIf ends the backup only if all is in it.
func closeIf(err error, b *backup.Writer) error {
	if err != nil {
		return nil
	}
	return b.Close()
}

// backUpConfig adds the configuration and the files it names, but no keys: the keystore and the server's key have a
// safekeeping of their own.
func (p *platform) backUpConfig(b *backup.Writer) error {
	put := func(name, path string) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return b.Put(name, func(w io.Writer) error {
			_, err := w.Write(data)
			return err
		})
	}
	if err := put(entryConfig, p.cfg.file); err != nil {
		return err
	}
	for _, path := range p.cfg.files() {
		name := entryOutside + path
		if rel, err := filepath.Rel(filepath.Dir(p.cfg.file), path); err == nil && filepath.IsLocal(rel) {
			name = entryFile + filepath.ToSlash(rel)
		}
		if err := put(name, path); err != nil {
			return err
		}
	}
	return nil
}

// files are the files that the configuration names, without keys.
func (c *config) files() []string {
	list := slices.Concat([]string{c.TLS.Certificate}, c.SMIME.Anchors, c.SMIME.Intermediates, c.SMIME.CRLs)
	for _, s := range c.SMIME.Signers {
		list = append(list, s.Certificate)
	}
	for _, k := range c.SMIME.Keys {
		list = append(list, k.Certificate)
	}
	for _, o := range c.Escrow.Officers {
		list = append(list, o.Certificate)
	}
	if c.Directory.CA != "" {
		list = append(list, c.Directory.CA)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// verifyBackup reads a backup to its end.
func (p *platform) verifyBackup(ctx context.Context, r io.Reader) (rep admin.BackupReport, err error) {
	b, err := backup.NewReader(ctx, r, p.keystore)
	if err != nil {
		return rep, err
	}
	rep = admin.BackupReport{Kind: string(b.Manifest.Kind), Store: b.Manifest.Store, Time: b.Manifest.Time}
	for {
		_, body, err := b.Next()
		if errors.Is(err, io.EOF) {
			return rep, nil
		}
		if err != nil {
			return rep, err
		}
		n, err := io.Copy(io.Discard, body)
		if err != nil {
			return rep, err
		}
		rep.Entries++
		rep.Bytes += n
	}
}
