package wire

import (
	"strings"
	"testing"
)

func TestMatch(t *testing.T) {
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"*", "", true},
		{"*", "a/b", true},
		{"%", "a", true},
		{"%", "a/b", false},
		{"%/%", "a/b", true},
		{"a*", "a/b/c", true},
		{"a%", "a/b", false},
		{"a/%", "a/b/c", false},
		{"*c", "a/b/c", true},
		{"*b*", "a/b/c", true},
		{"%*", "a/b/c", true},
		{"a%%c", "abbc", true},
		{"a*b*c", "axbxc", true},
		{"a*b*c", "axcxb", false},
		{"abc", "abc", true},
		{"abc", "ab", false},
		{"", "", true},
		{"", "a", false},
		{"%陳%", "大陳文", true},
		{strings.Repeat("*a", 100) + "b", strings.Repeat("a", 5000), false},
		{strings.Repeat("%a", 100) + "b", strings.Repeat("a", 5000) + "b", true},
		{strings.Repeat("a", 63) + "*b", strings.Repeat("a", 63) + "xxb", true},
		{strings.Repeat("a", 64) + "*b", strings.Repeat("a", 64) + "xxb", true},
		{strings.Repeat("a", 127) + "%", strings.Repeat("a", 127), true},
		{strings.Repeat("a", 64), strings.Repeat("a", 64), true},
	} {
		if got := NewPattern(tt.pattern).Match(tt.name); got != tt.want {
			t.Errorf("%.20s against %.20s: %v", tt.pattern, tt.name, got)
		}
	}
}

// simple is the obvious matcher, of exponential cost.
func simple(p, s string) bool {
	if p == "" {
		return s == ""
	}
	switch p[0] {
	case '*', '%':
		for i := 0; ; i++ {
			if simple(p[1:], s[i:]) {
				return true
			}
			if i == len(s) || p[0] == '%' && s[i] == '/' {
				return false
			}
		}
	}
	return s != "" && s[0] == p[0] && simple(p[1:], s[1:])
}

func FuzzMatch(f *testing.F) {
	f.Add("a*/%b", "ax/xb")
	f.Add(strings.Repeat("a", 63)+"%*a", strings.Repeat("a", 66))
	f.Fuzz(func(t *testing.T, pattern, name string) {
		if len(pattern) > 200 || len(name) > 200 || strings.Count(pattern, "*")+strings.Count(pattern, "%") > 4 {
			return
		}
		if got, want := NewPattern(pattern).Match(name), simple(pattern, name); got != want {
			t.Fatalf("%q against %q: %v", pattern, name, got)
		}
	})
}
