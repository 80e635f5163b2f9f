package intake

import (
	"context"
	_ "embed"
	"fmt"
	"strings"
	"text/template"

	"cmmpd/internal/mail"
	"cmmpd/internal/queue"
	"cmmpd/storage"
)

//go:embed quota.txt
var quotaText string

// warned is what the words of a warning are made from.
type warned struct {
	Host, Department       string
	Percent                int
	Size, Limit            string
	Messages, MessageLimit int64
}

// Warn brings a warning of the store about a quota: about an account to its owner, about a department to that address.
// It is told in the same durable act. The error is of kind Exists if it was told before, or is not true any more.
func (in *Intake) Warn(ctx context.Context, w storage.Warning, to mail.Address) error {
	if w.Account != "" {
		e, err := in.o.Directory.ByAccount(ctx, w.Account)
		if err != nil {
			return err
		}
		to = e.Address
	}
	text, err := in.warning(w, to)
	if err != nil {
		return err
	}
	b, err := in.notice(ctx, to, text, queue.Letter{})
	if err != nil {
		return err
	}
	if _, err := in.o.Store.Deliver(ctx, storage.Delivery{Bodies: []storage.Body{b}, Tells: &w}); err != nil {
		return err
	}
	if len(b.Queue) > 0 {
		in.o.Queue.Wake()
	}
	in.o.Log.Info("warned about a quota", "account", string(w.Account), "department", w.Department, "percent", w.Percent)
	return nil
}

// warning is the message, in English and Traditional Chinese.
func (in *Intake) warning(w storage.Warning, to mail.Address) ([]byte, error) {
	t, err := template.New("quota").Parse(quotaText)
	if err != nil {
		return nil, err
	}
	s := warned{
		Host: in.o.Hostname, Department: w.Department, Percent: w.Percent,
		Size: octets(w.Usage.Size), Messages: w.Usage.Messages, MessageLimit: w.Usage.Quota.Messages,
	}
	if w.Usage.Quota.Octets > 0 {
		s.Limit = octets(w.Usage.Quota.Octets)
	}
	var words strings.Builder
	if err := t.Execute(&words, s); err != nil {
		return nil, err
	}
	subject := fmt.Sprintf("Your mailbox is %d%% full 您的郵箱用量已達 %d%%", w.Percent, w.Percent)
	if w.Department != "" {
		subject = fmt.Sprintf("The mailboxes of %s are %d%% full 郵箱總用量已達 %d%%", w.Department, w.Percent, w.Percent)
	}
	return in.ownText(to, subject, fmt.Sprintf("%s@%s", mail.NewID(), in.o.Hostname), words.String())
}

// octets is a size for people.
func octets(n int64) string {
	for _, u := range []struct {
		name string
		size int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.size), u.name)
		}
	}
	return fmt.Sprintf("%d octets", n)
}
