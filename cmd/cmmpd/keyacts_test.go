package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"path/filepath"
	"testing"
	"time"

	"cmmpd/audit"
	"cmmpd/internal/keys"
	"cmmpd/internal/mail"
)

// TestKeyActs: each entry of a journal comes into the audit log once; that a journal was replaced does, too.
func TestKeyActs(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
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
	open := func(name string) (*keys.Journal, journal) {
		j, err := keys.OpenJournal(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return j, func(_ context.Context, from keys.Mark) ([]keys.Act, keys.Mark, error) {
			b, err := j.Since(from.Seq, 600)
			if err != nil {
				return nil, from, err
			}
			return keys.ParseActs(b, from)
		}
	}
	do := func(j *keys.Journal, op string) {
		t.Helper()
		a, err := j.Begin(keys.Act{Time: time.Unix(1e9, 0), Op: op, Slot: keys.Mail, Who: "uid 0 (root)"})
		if err == nil {
			err = j.End(a, time.Unix(1e9, 0), nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bring := func(read journal) {
		t.Helper()
		k := &keyActs{path: filepath.Join(dir, "acts"), audit: log} // as a daemon that has just started
		if err := k.bring(ctx, "/run/keyd.sock", read); err != nil {
			t.Fatal(err)
		}
	}
	count := func(what string) int {
		t.Helper()
		var out bytes.Buffer
		if err := audit.Bundle(ctx, filepath.Join(dir, "audit"), &out); err != nil {
			t.Fatal(err)
		}
		return bytes.Count(out.Bytes(), []byte(what))
	}
	j, read := open("first")
	do(j, "unseal")
	bring(read)
	do(j, "generate")
	do(j, "retire")
	bring(read)
	bring(read)
	if count(`"op":"unseal"`) != 2 || count(`"op":"generate"`) != 2 || count(`"op":"retire"`) != 2 || count("does not continue") != 0 {
		t.Error("not each entry is on record once")
	}
	other, read := open("second")
	do(other, "seal")
	bring(read)
	if count("does not continue") != 1 || count(`"op":"seal"`) != 2 {
		t.Error("a journal that was replaced is not on record, or what it holds is not")
	}
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	do(other, "unseal")
	k := &keyActs{path: filepath.Join(dir, "acts"), audit: log}
	if err := k.bring(ctx, "/run/keyd.sock", read); mail.KindOf(err) != mail.Unavailable {
		t.Errorf("without an audit log: %v", err)
	}
}
