// Package arch holds the import graph to the design: arrows go one way, from the
// program through the front ends and the one door down to the vocabulary.
package arch

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// rank orders the rooms: a package may import only rooms of a lower rank, or of the
// same rank where no rule below forbids it. The longest matching prefix counts.
var rank = map[string]int{
	"internal/mail":    0,
	"internal/message": 1,
	"internal/durable": 1, "internal/limit": 1, "internal/metrics": 1, "internal/testkit": 1, "configs": 1, "internal/demopki": 1,
	"internal/boltfile": 1,
	"internal/policy":   2, "directory": 2, "smime": 2, "storage": 2, "internal/queue": 2, "internal/auth": 2, "internal/keys": 2, "audit": 2,
	"internal/intake": 3, "internal/backup": 3, "internal/records": 3,
	"smtp": 4, "imap": 4, "directory/server": 4, "internal/admin": 4,
	"cmd": 5, "test": 5,
}

// only lists, for packages that must know little, all that they may import of ours.
var only = map[string][]string{
	"internal/mail":     {},
	"internal/policy":   {"internal/mail"},
	"audit":             {"internal/mail", "internal/durable", "internal/boltfile"},
	"internal/message":  {"internal/mail"},
	"internal/durable":  {"internal/mail"},
	"internal/boltfile": {"internal/mail", "internal/durable"},
	"internal/limit":    {"internal/mail"},
	"internal/metrics":  {},
	"internal/backup":   {"internal/mail", "internal/keys"},
	"internal/testkit":  {"internal/mail"},
}

// apart lists rooms that do not know each other.
var apart = [][]string{
	{"directory", "storage", "smime"},
	{"smtp", "imap", "directory/server", "internal/admin"},
}

// fixed are the modules that the project is built on; nobody but the named rooms may use them.
var fixed = map[string][]string{
	"github.com/emersion/go-smtp":  {"smtp", "cmd", "test"},
	"go.etcd.io/bbolt":             {"internal/boltfile", "cmd", "test"},
	"github.com/go-ldap/ldap":      {"directory", "directory/server", "cmd", "test"},
	"github.com/pelletier/go-toml": {"cmd", "configs"},
}

type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

func TestImportGraph(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "cmmpd/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; seen++ {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		check(t, strings.TrimPrefix(p.ImportPath, "cmmpd/"), p.Imports)
	}
	if seen < 5 {
		t.Fatalf("go list named only %d packages", seen)
	}
}

func check(t *testing.T, from string, imports []string) {
	room := roomOf(from)
	if room == "" {
		t.Errorf("%s belongs to no room of the design", from)
		return
	}
	for _, imp := range imports {
		to, ours := strings.CutPrefix(imp, "cmmpd/")
		if !ours {
			foreign(t, from, imp)
			continue
		}
		target := roomOf(to)
		if target == room {
			continue
		}
		if rank[target] > rank[room] {
			t.Errorf("%s imports %s: the arrow points upwards", from, to)
		}
		if list, ok := only[room]; ok && !within(target, list) {
			t.Errorf("%s imports %s, but %s may know only %v", from, to, room, list)
		}
		for _, rooms := range apart {
			if within(room, rooms) && within(target, rooms) {
				t.Errorf("%s imports %s: these rooms do not know each other", from, to)
			}
		}
	}
}

func foreign(t *testing.T, from, imp string) {
	if roomOf(from) == "internal/mail" && strings.Contains(strings.SplitN(imp, "/", 2)[0], ".") {
		t.Errorf("%s imports %s: the vocabulary uses the standard library alone", from, imp)
	}
	for module, rooms := range fixed {
		if imp != module && !strings.HasPrefix(imp, module+"/") {
			continue
		}
		if !within(roomOf(from), rooms) && !within(from, rooms) {
			t.Errorf("%s imports %s, which only %v may use", from, imp, rooms)
		}
	}
}

// roomOf is the longest prefix of the path that is a room.
func roomOf(path string) string {
	for p := path; p != ""; p = p[:max(0, strings.LastIndexByte(p, '/'))] {
		if _, ok := rank[p]; ok {
			return p
		}
	}
	return ""
}

func within(room string, list []string) bool {
	for _, l := range list {
		if room == l {
			return true
		}
	}
	return false
}
