package directory

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"
)

func TestFilterEscapes(t *testing.T) {
	if got, want := filterEqual("uid", "a*)(uid=\x00\\陳"), `(uid=a\2a\29\28uid=\00\5c`; !strings.HasPrefix(got, want) {
		t.Errorf("%s", got)
	}
	if got := childDN("uid", `a,ou=b+c`, "dc=x"); got != `uid=a\,ou=b\+c,dc=x` && got != `uid=a\,ou\=b\+c,dc=x` {
		t.Errorf("%s", got)
	}
}

// TestFiltersAreBuiltInOnePlace reads the source of the whole module: no file but
// filter.go may hold a piece of a search filter. A whole one that is constant is
// harmless.
func TestFiltersAreBuiltInOnePlace(t *testing.T) {
	piece := regexp.MustCompile(`^\([&|!]?\(?[A-Za-z%][A-Za-z0-9;%.-]*(=|~=|>=|<=|:=)`)
	read := 0
	err := filepath.WalkDir("..", func(path string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case e.IsDir() && strings.HasPrefix(e.Name(), ".") && e.Name() != "..":
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_test.go"), path == filepath.Join("..", "directory", "filter.go"):
			return nil
		}
		read++
		set := token.NewFileSet()
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			return err
		}
		joined := map[ast.Node]bool{}
		ast.Inspect(f, func(n ast.Node) bool {
			if b, ok := n.(*ast.BinaryExpr); ok {
				joined[b.X], joined[b.Y] = true, true
			}
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			if s, err := strconv.Unquote(lit.Value); err == nil && piece.MatchString(s) && (joined[lit] || !whole(s)) {
				t.Errorf("%s: a search filter outside of directory/filter.go: %q", set.Position(lit.Pos()), s)
			}
			return true
		})
		return nil
	})
	if err != nil || read < 20 {
		t.Errorf("%d files read, %v", read, err)
	}
}

// whole says whether s is a complete filter with no place to format a value into.
func whole(s string) bool {
	_, err := ldap.CompileFilter(s)
	return err == nil && !strings.Contains(s, "%")
}
