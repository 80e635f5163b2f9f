package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"cmmpd/internal/admin"
	"cmmpd/internal/durable"
	"cmmpd/internal/keys/escrow/cases"
)

// escrowCommand is a command that asks the running daemon for an act about the keys that officers keep.
type escrowCommand struct {
	flags
	path  *string
	login loginFlags
}

func newEscrowCommand(name, synopsis string) *escrowCommand {
	fs := newFlags("escrow "+name, "--config FILE [--user UID --password-file FILE] "+synopsis)
	return &escrowCommand{fs, fs.config(), fs.login()}
}

// do parses the flags, after which rest arguments must remain, makes the query of them, and has the act done.
func (c *escrowCommand) do(args []string, rest int, act admin.EscrowAct, query func() (admin.EscrowQuery, error), in io.Reader, out io.Writer) error {
	if err := c.parse(args, rest); err != nil {
		return err
	}
	q, err := query()
	if err != nil {
		return err
	}
	name, password, err := c.login.read()
	if err != nil {
		return err
	}
	cfg, err := loadConfig(*c.path)
	if err != nil {
		return err
	}
	ctx, stop := interruptible()
	defer stop()
	client, err := admin.Dial(cfg.Server.Socket)
	if err != nil {
		return fmt.Errorf("no daemon runs, and this needs one: %w", err)
	}
	client.Name, client.Password = name, password
	return client.Escrow(ctx, act, q, in, out)
}

// ofRequest is the query about the request that the first argument names.
func (c *escrowCommand) ofRequest() (admin.EscrowQuery, error) {
	return admin.EscrowQuery{ID: c.Arg(0)}, nil
}

func noQuery() (admin.EscrowQuery, error) { return admin.EscrowQuery{}, nil }

// escrowStatusCommand is "cmmpd escrow status".
func escrowStatusCommand(args []string) error {
	c := newEscrowCommand("status", "[--json]")
	asJSON := c.Bool("json", false, "print the result as JSON")
	var out bytes.Buffer
	if err := c.do(args, 0, admin.EscrowStatus, noQuery, nil, &out); err != nil {
		return err
	}
	if *asJSON {
		_, err := io.Copy(os.Stdout, &out)
		return err
	}
	var s escrowStatus
	if err := json.NewDecoder(&out).Decode(&s); err != nil {
		return err
	}
	fmt.Printf("officers %s\nthreshold %d\naccounts %d\ncovered %d\nkept for former officers only %d\ndamaged places %d\n", strings.Join(s.Officers, ", "), s.Threshold, s.Accounts, s.Covered, s.Former, s.Damaged)
	for _, w := range s.Warnings {
		fmt.Println("warning:", w)
	}
	return nil
}

// escrowCover is "cmmpd escrow cover".
func escrowCover(args []string) error {
	return newEscrowCommand("cover", "").do(args, 0, admin.EscrowCover, noQuery, nil, os.Stdout)
}

// escrowRequest is "cmmpd escrow request".
func escrowRequestCommand(args []string) error {
	c := newEscrowCommand("request", "--case NO --reason TEXT (--account UID [--certificate FILE] [--no-notice-until DATE] | --all) [--from T] --to T")
	var r cases.Request
	c.StringVar(&r.Case, "case", "", "case `number`")
	c.StringVar(&r.Reason, "reason", "", "`text`: why")
	c.StringVar(&r.Account, "account", "", "`uid` of the person or post whose account is to be opened")
	all := c.Bool("all", false, "all accounts: their keys are to be recovered under a new platform key")
	from := c.String("from", "", "when the window begins, a `time` or date; by default now")
	to := c.String("to", "", "when it ends")
	quiet := c.String("no-notice-until", "", "the case forbids to tell the owner before this `date`")
	cert := c.String("certificate", "", "PEM `file`: what is exported is encrypted to this certificate; without it nothing can be exported")
	var out bytes.Buffer
	err := c.do(args, 0, admin.EscrowRequest, func() (q admin.EscrowQuery, err error) {
		if (r.Account == "") != *all || *to == "" {
			return q, usageError{errors.New("--to and either --account or --all are needed")}
		}
		r.From = time.Now().UTC().Truncate(time.Second)
		for _, f := range []struct {
			name, text string
			at         *time.Time
		}{{"--from", *from, &r.From}, {"--to", *to, &r.To}, {"--no-notice-until", *quiet, &r.NoNoticeUntil}} {
			if f.text != "" {
				if *f.at, err = timeFlag(f.name, f.text); err != nil {
					return q, err
				}
			}
		}
		if *cert != "" {
			certs, err := readCertificates([]string{*cert})
			if err != nil {
				return q, err
			}
			r.Certificate = certs[0].Raw
		}
		return admin.EscrowQuery{Request: r}, nil
	}, nil, &out)
	if err != nil {
		return err
	}
	var v cases.View
	if err := json.NewDecoder(&out).Decode(&v); err != nil {
		return err
	}
	fmt.Println(v.ID)
	if v.Threshold > 0 {
		fmt.Fprintf(os.Stderr, "%d of %s must bring their parts (須由 %d 名主任批准)\n", v.Threshold, strings.Join(v.Officers, ", "), v.Threshold)
	}
	return nil
}

// escrowList is "cmmpd escrow list".
func escrowList(args []string) error {
	c := newEscrowCommand("list", "[--json]")
	asJSON := c.Bool("json", false, "print the result as JSON")
	var out bytes.Buffer
	if err := c.do(args, 0, admin.EscrowList, noQuery, nil, &out); err != nil {
		return err
	}
	if *asJSON {
		_, err := io.Copy(os.Stdout, &out)
		return err
	}
	var list []cases.View
	if err := json.NewDecoder(&out).Decode(&list); err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "REQUEST\tCASE\tACCOUNT\tBY\tFROM\tTO\tSTATE\tAPPROVED\tOPENED\tTOLD FROM\tEXPORT TO\tREASON")
	for _, v := range list {
		account := v.Account
		if v.All() {
			account = "all"
		}
		told, cert := "at once", "-"
		if !v.NoNoticeUntil.IsZero() {
			told = v.NoNoticeUntil.Format(time.RFC3339)
		}
		if len(v.Certificate) > 0 {
			cert = fmt.Sprintf("%x", sha256.Sum256(v.Certificate))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d/%d %s\t%d\t%s\t%s\t%s\n", v.ID, v.Case, account, v.Requester, v.From.Format(time.RFC3339), v.To.Format(time.RFC3339),
			v.State, len(v.Approved), v.Threshold, strings.Join(v.Approved, ","), len(v.Openings), told, cert, v.Reason)
	}
	return w.Flush()
}

// escrowShare is "cmmpd escrow share".
func escrowShare(args []string) error {
	c := newEscrowCommand("share", "REQUEST > PART")
	return c.do(args, 1, admin.EscrowShare, c.ofRequest, nil, os.Stdout)
}

// escrowApprove is "cmmpd escrow approve".
func escrowApprove(args []string) error {
	c := newEscrowCommand("approve", "REQUEST < SHARE")
	var out bytes.Buffer
	if err := c.do(args, 1, admin.EscrowApprove, c.ofRequest, os.Stdin, &out); err != nil {
		return err
	}
	var v cases.View
	if err := json.NewDecoder(&out).Decode(&v); err != nil {
		return err
	}
	need := ""
	if v.Threshold > 0 {
		need = fmt.Sprintf(", %d are needed", v.Threshold)
	}
	fmt.Fprintf(os.Stderr, "parts are there of: %s%s; they are kept until %s (已有 %d 名主任批准)\n", strings.Join(v.Approved, ", "), need, v.Until.Format(time.RFC3339), len(v.Approved))
	return nil
}

// escrowRefuse is "cmmpd escrow refuse".
func escrowRefuse(args []string) error {
	c := newEscrowCommand("refuse", "--why TEXT REQUEST")
	why := c.String("why", "", "`text` for the record")
	return c.do(args, 1, admin.EscrowRefuse, func() (admin.EscrowQuery, error) {
		if *why == "" {
			return admin.EscrowQuery{}, usageError{errors.New("--why is missing")}
		}
		return admin.EscrowQuery{ID: c.Arg(0), Why: *why}, nil
	}, nil, os.Stdout)
}

// escrowClose is "cmmpd escrow close".
func escrowClose(args []string) error {
	c := newEscrowCommand("close", "REQUEST")
	return c.do(args, 1, admin.EscrowClose, c.ofRequest, nil, os.Stdout)
}

// escrowRecover is "cmmpd escrow recover".
func escrowRecoverCommand(args []string) error {
	c := newEscrowCommand("recover", "REQUEST")
	return c.do(args, 1, admin.EscrowRecover, c.ofRequest, nil, os.Stdout)
}

// escrowExport is "cmmpd escrow export".
func escrowExportCommand(args []string) (err error) {
	c := newEscrowCommand("export", "REQUEST DEST")
	if err := c.parse(args, 2); err != nil {
		return err
	}
	dest := c.Arg(1)
	partial := dest + durable.TempSuffix
	if _, err := os.Lstat(dest); err == nil {
		return fmt.Errorf("%s exists", dest)
	}
	f, err := os.OpenFile(partial, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = c.do(args, 2, admin.EscrowExport, c.ofRequest, nil, f)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(partial))
	}
	if err := os.Rename(partial, dest); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "%s: encrypted; open it with cmmpd escrow unpack\n", dest)
	return nil
}

// checkWith is the check of the store, with warnings that are none of its problems.
func (p *platform) checkWith(ctx context.Context, deep bool) (admin.CheckReport, error) {
	r, err := checkOf(p.store)(ctx, deep)
	if err == nil {
		r.Warnings = p.escrowWarnings(ctx)
	}
	return r, err
}
