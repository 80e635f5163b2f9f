package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// TestGuardedKeys: accounts are opened within bounds; for others than their owners only when that is on record, and for their owners even when
// nothing can be recorded.
func TestGuardedKeys(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	files, err := keys.CreateFile(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	if err := files.Generate(keys.Mail, keys.PlatformKey, keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	o := audit.Options{Origin: "test.example/audit"}
	if err := audit.Create(filepath.Join(dir, "audit"), key, o); err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(filepath.Join(dir, "audit"), key, o)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(1e9, 0)
	var words bytes.Buffer
	g := &guardedKeys{Slots: keys.Slots{Service: files, Mail: files}, meter: newMeter(), audit: log, rate: keys.NewRate(1, now), now: func() time.Time { return now }, log: slog.New(slog.NewTextHandler(&words, nil))}
	k, err := keys.NewAccountKey(ctx, g, keys.PlatformKey, "a", func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	for range 9 {
		if _, err := k.Open(ctx, g, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Open(keys.For(ctx, "a test"), g, "a"); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(ctx, g, "a"); mail.KindOf(err) != mail.Busy || mail.PublicOf(err) == "" {
		t.Errorf("the eleventh in a second: %v", err)
	}
	now = now.Add(time.Second)
	if _, err := k.Open(ctx, g, "a"); err != nil {
		t.Errorf("a second later: %v", err)
	}
	now = now.Add(time.Minute)
	lost := k
	lost.Key = "platform-7"
	if _, err := lost.Open(ctx, g, "a"); mail.KindOf(err) != mail.NotFound || !strings.Contains(words.String(), "key=mail/platform-7") || !strings.Contains(words.String(), "unretire") {
		t.Errorf("under a key that is not there: %v, in the log: %s", err, words.String())
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Open(keys.For(ctx, "a test"), g, "a"); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("for another without a record: %v", err)
	}
	if _, err := k.Open(ctx, g, "a"); err != nil {
		t.Errorf("for the owner without a record: %v", err)
	}
	var out bytes.Buffer
	if err := audit.Bundle(ctx, filepath.Join(dir, "audit"), &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"account.open"`, `"for":"a test"`, `"outcome":"busy"`, `"key.unwrap"`} {
		if !bytes.Contains(out.Bytes(), []byte(want)) {
			t.Errorf("no %s on record", want)
		}
	}
}

// TestPreviousKeystore: what the keystore does not have is looked for in the previous one.
func TestPreviousKeystore(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	var stores []*keys.FileStore
	for _, name := range []string{"old", "new"} {
		s, err := keys.CreateFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		stores = append(stores, s)
	}
	old, fresh := stores[0], stores[1]
	if err := old.Generate(keys.Mail, keys.PlatformKey, keys.KindAES256); err != nil {
		t.Fatal(err)
	}
	k, err := keys.NewAccountKey(ctx, old, keys.PlatformKey, "a", func([]byte) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	s := keys.Slots{Service: fresh, Mail: fresh, Previous: old}
	if _, err := k.Open(ctx, s, "a"); err != nil {
		t.Error(err)
	}
	if _, err := keys.NewAccountKey(ctx, s, keys.PlatformKey, "b", func([]byte) error { return nil }); err != nil {
		t.Errorf("a new account before anything was moved: %v", err)
	}
	for _, name := range []string{keys.PlatformKey, "platform-2"} { // another key of the same name, too
		if err := fresh.Generate(keys.Mail, name, keys.KindAES256); err != nil {
			t.Fatal(err)
		}
	}
	moved, err := k.Rewrap(ctx, s, "platform-2", "a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moved.Open(ctx, fresh, "a"); err != nil {
		t.Errorf("without the old keystore: %v", err)
	}
	if _, err := k.Open(ctx, fresh, "a"); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("under the old key without the old keystore: %v", err)
	}
}
