package audit

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
)

// TestMain lets the test binary be the program that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("CMMPD_AUDIT_KILL_DIR"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

// writeUntilKilled records from 16 goroutines and prints each subject once it is
// acknowledged.
func writeUntilKilled(dir string) {
	l, err := Open(dir, testKey(), Options{Origin: testOrigin})
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	var mu sync.Mutex
	for c := range 16 {
		go func() {
			for i := 0; ; i++ {
				subject := fmt.Sprintf("%d/%d/%d", os.Getpid(), c, i)
				if err := l.Record(context.Background(), Event{Type: StoreCheck, Subject: subject}); err != nil {
					fmt.Println("error:", err)
					os.Exit(1)
				}
				mu.Lock()
				fmt.Println(subject)
				mu.Unlock()
			}
		}()
	}
	select {}
}

// Rounds of kill -9 under load: every acknowledged record is there, once.
func TestKill(t *testing.T) {
	o := testOptions()
	l, dir := newLog(t, o)
	l.Close()
	acked := make(map[string]bool)
	for round := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "CMMPD_AUDIT_KILL_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			if strings.HasPrefix(lines.Text(), "error:") {
				t.Error(lines.Text())
			}
			acked[lines.Text()] = true
			if n == 50+37*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		l := openLog(t, dir, o)
		mustVerify(t, dir, nil)
		l.Close()
	}
	seen := make(map[string]bool)
	for _, r := range records(t, dir) {
		if seen[r.Subject] {
			t.Errorf("%s is there twice", r.Subject)
		}
		seen[r.Subject] = true
	}
	for s := range acked {
		if !seen[s] {
			t.Errorf("%s was acknowledged and is gone", s)
		}
	}
	if len(acked) < 500 {
		t.Errorf("only %d records", len(acked))
	}
}
