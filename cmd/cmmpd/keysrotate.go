package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"cmmpd/internal/admin"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// platformNumber is which platform key a name is: the first, "platform", is 1. 0: it is none.
func platformNumber(name string) int {
	if name == keys.PlatformKey {
		return 1
	}
	digits, ok := strings.CutPrefix(name, keys.PlatformKey+"-")
	n, err := strconv.Atoi(digits)
	if !ok || err != nil || n < 2 || strconv.Itoa(n) != digits {
		return 0
	}
	return n
}

// nextPlatform is the name of the key after all that there are or were; made says that it is there: it was made, and nothing is under it yet.
func nextPlatform(list []keys.Info, current string, under map[string]int) (name string, made bool) {
	top, ready := max(1, platformNumber(current)), 0
	for used := range under {
		top = max(top, platformNumber(used))
	}
	for _, k := range list {
		if k.Retired {
			top = max(top, platformNumber(k.Name[strings.LastIndexByte(k.Name, ' ')+1:]))
		} else if k.Kind != keys.KindAES256 {
			top = max(top, platformNumber(k.Name))
		}
	}
	for _, k := range list {
		if n := platformNumber(k.Name); !k.Retired && n > max(top, ready) {
			name, ready = k.Name, n
		}
	}
	if ready > 0 {
		return name, true
	}
	return fmt.Sprintf("%s-%d", keys.PlatformKey, top+1), false
}

// platformKeys is admin.Options.PlatformKeys.
func (p *platform) platformKeys(context.Context) (admin.PlatformKeys, error) {
	s := p.store.PlatformKeys()
	r := admin.PlatformKeys{Current: s.Current, Under: s.Under, Waiting: s.Waiting(), Stale: s.Stale}
	if s.Waits != nil {
		r.Waits = s.Waits.Error()
	}
	list, err := p.keystore.Mail.List(keys.Mail)
	if err != nil {
		if r.Waits == "" {
			r.Waits = err.Error()
		}
		return r, nil
	}
	r.Next, r.Made = nextPlatform(list, s.Current, s.Under)
	return r, nil
}

// rotateKey is admin.Options.RotateKey. In files it makes the key; in a token keyd's operators do.
func (p *platform) rotateKey(ctx context.Context, name string) error {
	if platformNumber(name) == 0 {
		return mail.E(mail.Invalid, "a platform key is named platform-N", nil)
	}
	if p.cfg.Keystore.Mail.Kind == fileKeystore {
		if err := p.keystore.Generate(keys.Mail, name, keys.KindAES256); err != nil && mail.KindOf(err) != mail.Exists {
			return err
		}
	}
	if err := p.store.SetPlatformKey(keys.For(ctx, "rotation of the platform key"), name); err != nil {
		return err
	}
	p.log.Info("accounts' keys are to be wrapped by another platform key", "key", name)
	return nil
}

// keysRotate is "cmmpd keys rotate".
func keysRotate(args []string) (err error) {
	fs := newFlags("keys rotate", "--config FILE [--wait] [mail/platform]\n       cmmpd keys rotate --config FILE --status [--json]")
	path := fs.config()
	status := fs.Bool("status", false, "only say how far it is")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	wait := fs.Bool("wait", false, "wait until all accounts are under the new key; without a running daemon it is always so")
	rest := 0
	if slices.Contains(args, "mail/platform") {
		rest = 1
	}
	if err := fs.parse(args, rest); err != nil {
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
	defer func() { err = errors.Join(err, op.close()) }()
	if !*status {
		if err := rotate(ctx, cfg, op); err != nil {
			return err
		}
		if *wait || op.local {
			if err := rotated(ctx, op); err != nil {
				return err
			}
		}
	}
	p, err := op.platformKeys(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		return json.NewEncoder(os.Stdout).Encode(p)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Under)) {
		fmt.Printf("mail/%s\t%d accounts\n", name, p.Under[name])
	}
	fmt.Printf("current\tmail/%s\nwaiting\t%d accounts\n", p.Current, p.Waiting)
	switch {
	case p.Waits != "":
		fmt.Printf("waits\t%s\n", p.Waits)
	case !p.Done():
		fmt.Println("waits\tno: it goes on in the background (轉換進行中)")
	default:
		fmt.Println("done\tno other platform key is needed but for older backups of the key vault (已完成)")
	}
	return nil
}

// rotate makes the next key, unless that was done before, and has it used.
func rotate(ctx context.Context, cfg *config, op *operator) error {
	p, err := op.platformKeys(ctx)
	if err != nil {
		return err
	}
	if p.Next == "" {
		return fmt.Errorf("the keys of the slot mail cannot be listed: %s", p.Waits)
	}
	if cfg.Keystore.Mail.Kind == tokenKeystore && !p.Made {
		token, err := cfg.Keystore.Mail.open()
		if err != nil {
			return err
		}
		err = errors.Join(token.Generate(keys.Mail, p.Next, keys.KindAES256), token.Close())
		if err != nil && mail.KindOf(err) != mail.Exists {
			return err
		}
	}
	if err := op.rotateKey(ctx, p.Next); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "accounts' keys are being wrapped under mail/%s (帳戶密碼匙正以新平台密碼匙重新包裝)\n", p.Next)
	return nil
}

// rotated waits until all is done, or something keeps it from going on that will not go away.
func rotated(ctx context.Context, op *operator) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for said := -1; ; {
		p, err := op.platformKeys(ctx)
		if err != nil || p.Done() {
			return err
		}
		if p.Waits != "" {
			return fmt.Errorf("it does not go on now, and will when it can: %s", p.Waits)
		}
		if p.Waiting != said {
			fmt.Fprintf(os.Stderr, "%d accounts to go\n", p.Waiting)
			said = p.Waiting
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// unneeded is nil if no account needs the platform key any more.
func unneeded(ctx context.Context, cfg *config, name string) error {
	op, err := newOperator(ctx, cfg, "", "")
	if err != nil {
		return err
	}
	p, err := op.platformKeys(ctx)
	if err = errors.Join(err, op.close()); err != nil {
		return err
	}
	switch {
	case name == p.Current:
		return fmt.Errorf("mail/%s is the platform key in use; rotate it first (cmmpd keys rotate)", name)
	case p.Under[name] > 0:
		return fmt.Errorf("%d accounts are still under mail/%s", p.Under[name], name)
	case p.Stale:
		return errors.New("the key vault has not been written anew yet; see cmmpd keys rotate --status")
	}
	return nil
}
