package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"cmmpd/internal/admin"
	"cmmpd/internal/queue"
)

// queueList is "cmmpd queue list".
func queueList(args []string) error {
	fs := newFlags("queue list", "--config FILE [--json]")
	asJSON := fs.Bool("json", false, "print one JSON object a line")
	return withOperator(fs, args, 0, func(ctx context.Context, op *operator) error {
		out := json.NewEncoder(os.Stdout)
		n := 0
		err := op.queueList(ctx, func(l queue.Listing) error {
			n++
			if *asJSON {
				return out.Encode(l)
			}
			_, err := fmt.Print(listed(l))
			return err
		})
		if err == nil && !*asJSON {
			fmt.Printf("%d items\n", n)
		}
		return err
	})
}

// listed is an item for people.
func listed(l queue.Listing) string {
	var b strings.Builder
	if l.Problem != "" {
		fmt.Fprintf(&b, "%s %s: %s\n", l.Item, l.State, l.Problem)
		return b.String()
	}
	fmt.Fprintf(&b, "%s %s, from <%s>, %d octets, accepted %s as %s, %d attempts", l.Item, l.State, l.From, l.Size, l.Accepted.Format(time.RFC3339), l.ID, l.Attempts)
	if l.State == "waiting" {
		fmt.Fprintf(&b, ", due %s", l.Due.Format(time.RFC3339))
	}
	b.WriteByte('\n')
	for _, r := range l.Recipients {
		fmt.Fprintf(&b, "    %s %s", r.Address, r.State)
		if r.Status != "" {
			fmt.Fprintf(&b, ": %s %s", r.Status, r.Text)
		}
		if r.Uncertain > 0 && r.State != "delivered" {
			b.WriteString(" (uncertain: the other server may have the message)")
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// queueChange is "cmmpd queue hold", "release", "retry" and "remove".
func queueChange(act admin.QueueAct) func([]string) error {
	return func(args []string) error {
		synopsis := "--config FILE ITEM... | all"
		if act == admin.QueueRemove {
			synopsis = "--config FILE [--user UID --password-file FILE] ITEM... | all"
		}
		fs := newFlags("queue "+string(act), synopsis)
		return withOperator(fs, args, oneOrMore, func(ctx context.Context, op *operator) error {
			n, err := op.queueChange(ctx, act, fs.Args())
			if err != nil {
				return err
			}
			fmt.Printf("%d items\n", n)
			return nil
		})
	}
}
