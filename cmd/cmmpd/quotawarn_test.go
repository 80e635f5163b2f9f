package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"cmmpd/internal/mail"
	"cmmpd/storage"
)

// TestWarningRests: what cannot be brought is neither tried nor complained of with every message.
func TestWarningRests(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_800_000_000, 0)
	tried := map[warnedOf]int{}
	kind := mail.NotFound
	b := bringer{
		log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }, failed: make(map[warnedOf]time.Time),
		bring: func(_ context.Context, w storage.Warning) error {
			tried[warnedOf{w.Account, w.Department}]++
			if w.Account == "a" {
				return mail.E(kind, "no", nil)
			}
			return nil
		},
	}
	a, x := warnedOf{account: "a"}, warnedOf{department: "x.example"}
	for range 5 {
		b.one(t.Context(), storage.Warning{Account: "a", Percent: 80})
		b.one(t.Context(), storage.Warning{Department: "x.example", Percent: 80})
	}
	if tried[a] != 1 || tried[x] != 5 || strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("tried %v\n%s", tried, log.String())
	}
	now, kind = now.Add(warnRest), mail.Exists
	b.one(t.Context(), storage.Warning{Account: "a", Percent: 80})
	b.one(t.Context(), storage.Warning{Account: "a", Percent: 80})
	if tried[a] != 3 || strings.Count(log.String(), "level=WARN") != 1 {
		t.Errorf("after a while, told by others: tried %v\n%s", tried, log.String())
	}
}
