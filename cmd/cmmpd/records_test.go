package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"cmmpd/audit"
)

// TestEveryCommandHasItsRecord: docs/operations.md says of every command which record it leaves, or why it leaves none.
func TestEveryCommandHasItsRecord(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(b), "\n## What leaves which record\n")
	table, _, ended := strings.Cut(table, "\n## ")
	if !ok || !ended {
		t.Fatal("there is no such table")
	}
	types := regexp.MustCompile("`([a-z]+\\.[a-z]+)`")
	rows := make(map[string]bool)
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 6 || !strings.HasPrefix(cells[1], " `") {
			continue
		}
		name := strings.Trim(cells[1], " `")
		if rows[name] {
			t.Errorf("%s is there twice", name)
		}
		rows[name] = true
		found := types.FindAllStringSubmatch(cells[2], -1)
		for _, m := range found {
			if audit.ClassOf(m[1]) == audit.Unknown {
				t.Errorf("%s: there is no type %s", name, m[1])
			}
		}
		if none := strings.TrimSpace(cells[2]) == "none"; none == (len(found) > 0) || none && strings.TrimSpace(cells[4]) == "" && name != "version" {
			t.Errorf("%s: %s, %s: neither a record, nor why there is none", name, cells[2], cells[4])
		}
	}
	for _, c := range commands() {
		if !rows[c.name] {
			t.Errorf("the table does not say which record %q leaves", c.name)
		}
		delete(rows, c.name)
	}
	for name := range rows {
		t.Errorf("there is no command %q", name)
	}
}
