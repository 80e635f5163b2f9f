package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"cmmpd/audit"
	"cmmpd/audit/names"
	"cmmpd/internal/admin"
	"cmmpd/internal/keys"
)

// auditForget is "cmmpd audit forget".
func auditForget(args []string) error {
	fs := newFlags("audit forget", "--config FILE (--value X | --before DATE) --reason TEXT [--user UID --password-file FILE]")
	var q admin.ForgetRequest
	fs.StringVar(&q.Value, "value", "", "erase this `address` or other value: records have it as a digest only from then on")
	before := fs.String("before", "", "erase what no record of this `day` (UTC) or later has")
	fs.StringVar(&q.Reason, "reason", "", "why: `words` for the record")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		if (q.Value == "") == (*before == "") {
			return usageError{errors.New("give either --value or --before")}
		}
		if strings.TrimSpace(q.Reason) == "" {
			return usageError{errors.New("--reason is missing")}
		}
		var err error
		if *before != "" {
			if q.Before, err = time.Parse(time.DateOnly, *before); err != nil {
				return usageError{fmt.Errorf("--before %q is no day such as 2026-11-22", *before)}
			}
		}
		n, err := op.forget(ctx, q)
		if err != nil {
			return err
		}
		fmt.Printf("erased %d\n", n)
		return nil
	})
}

// openNames opens the table of names; nil where none is kept.
func (c *config) openNames(ctx context.Context, keystore keys.Keystore, path string) (*names.Table, error) {
	if path == "" {
		return nil, nil
	}
	key, err := keystore.Derive(ctx, keys.Service, "blind", []byte("cmmpd audit names 1"))
	if err != nil {
		return nil, fmt.Errorf("audit names: %w", err)
	}
	t, err := names.Open(path, key)
	if err != nil {
		return nil, fmt.Errorf("audit names: %w", err)
	}
	return t, nil
}

// auditNames is the table for those who take an interface; nil where none is kept.
func (p *platform) auditNames() audit.Names {
	if p.names == nil {
		return nil
	}
	return p.names
}

// forgetNames is for admin.Options; nil where no table is kept.
func (p *platform) forgetNames() func(admin.ForgetRequest) (int, error) {
	if p.names == nil {
		return nil
	}
	return func(q admin.ForgetRequest) (int, error) {
		return p.names.Forget(func(r names.Row) bool {
			if q.Value != "" {
				return strings.EqualFold(r.Value, q.Value)
			}
			return r.Last.Before(q.Before)
		})
	}
}

// localDomain says whether a domain is ours.
func (c *config) localDomain(domain string) bool {
	for _, d := range c.Domains.Local {
		if strings.EqualFold(d, domain) {
			return true
		}
	}
	return false
}

// backedUpName is a row of the table of names in a backup, a line of JSON.
type backedUpName struct {
	Salt  []byte    `json:"salt"`
	Value string    `json:"value"`
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

func backUpNames(t *names.Table, w io.Writer) error {
	out := json.NewEncoder(w)
	return t.Rows(func(r names.Row) error { return out.Encode(backedUpName{r.Salt, r.Value, r.First, r.Last}) })
}

func restoreNames(t *names.Table, r io.Reader) error {
	in := json.NewDecoder(r)
	var rows []names.Row
	for {
		var b backedUpName
		err := in.Decode(&b)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if err == nil {
			rows = append(rows, names.Row{Name: audit.Name{Salt: b.Salt, Value: b.Value}, First: b.First, Last: b.Last})
		}
		if len(rows) == 1000 || err != nil {
			if failed := t.Add(rows...); failed != nil {
				return failed
			}
			rows = rows[:0]
		}
		if err != nil {
			return nil
		}
	}
}
