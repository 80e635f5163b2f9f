package mail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"alice@works.gov.example":      "alice@works.gov.example",
		"Alice@Works.GOV.example":      "Alice@works.gov.example",
		`"a b"@x.example`:              `"a b"@x.example`,
		`"a\"b"@x.example`:             `"a\"b"@x.example`,
		`"plain"@x.example`:            "plain@x.example",
		"陳大文@例子.example":               "陳大文@例子.example",
		"a+b/c=d@x.example":            "a+b/c=d@x.example",
		"a@[127.0.0.1]":                "a@[127.0.0.1]",
		"a@[ipv6:::1]":                 "a@[ipv6:::1]",
		strings.Repeat("x", 64) + "@y": strings.Repeat("x", 64) + "@y",
	} {
		a, err := ParseAddress(in)
		if err != nil || a.String() != want {
			t.Errorf("%q: got %q, %v; want %q", in, a, err, want)
			continue
		}
		if b, err := ParseAddress(a.String()); err != nil || b != a {
			t.Errorf("%q: printing and parsing again gives %#v, %v", in, b, err)
		}
	}
	for _, in := range []string{
		"", "a", "@x", "a@", "a b@x", "a@x y", "a\r\n@x", ".a@x", "a.@x", "a..b@x", "a@-x", "a@x..y", `"a@x`, `"a"b@x`,
		"<a@x>", "a@b@c", "\"a\nb\"@x", "a\x00@x", "a@x\x00", strings.Repeat("x", 65) + "@y", "a@" + strings.Repeat("x", 64), "\xff@x", "\"x\u009b31m\"@x", "x\u0085y@x", "x@y\u0085",
	} {
		if a, err := ParseAddress(in); err == nil || KindOf(err) != Invalid {
			t.Errorf("%q: got %#v, %v; want an error of kind Invalid", in, a, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	f.Add(`"a\"b"@x.example`)
	f.Add("a@[127.0.0.1]")
	f.Fuzz(func(t *testing.T, s string) {
		a, err := ParseAddress(s)
		if err != nil {
			return
		}
		if b, err := ParseAddress(a.String()); err != nil || !b.Equal(a) {
			t.Fatalf("%q parses to %#v, prints as %q, which parses to %#v, %v", s, a, a.String(), b, err)
		}
		if strings.ContainsAny(a.String(), "\r\n\x00") {
			t.Fatalf("%q keeps a line break", s)
		}
	})
}

func TestErrorKinds(t *testing.T) {
	cause := errors.New("disk on fire")
	err := fmt.Errorf("while delivering: %w", E(Full, "no space", cause))
	if KindOf(err) != Full || !KindOf(err).Temporary() || PublicOf(err) != "no space" || !errors.Is(err, cause) {
		t.Errorf("wrapped error: kind %v, public %q", KindOf(err), PublicOf(err))
	}
	twice := E(AuthFailed, "authentication failed", E(AuthFailed, "authentication failed", E(AuthFailed, "", cause)))
	if got, want := twice.Error(), "authentication failed: disk on fire"; got != want {
		t.Errorf("an error wrapped three times reads %q, want %q", got, want)
	}
	if KindOf(cause) != Internal || PublicOf(E(Internal, "secret detail", nil)) != "" {
		t.Error("an unknown error must be internal and say nothing")
	}
	if KindOf(context.DeadlineExceeded) != Unavailable || Refused.Temporary() {
		t.Error("kinds do not say rightly what is temporary")
	}
}

func TestPrincipal(t *testing.T) {
	p := Principal{Address: MustParseAddress("bob@x.example"), SendAs: []Address{MustParseAddress("ds1@x.example")}, Roles: []string{"admin"}}
	if !p.MaySendAs(MustParseAddress("BOB@x.example")) || !p.MaySendAs(MustParseAddress("ds1@X.example")) || p.MaySendAs(MustParseAddress("eve@x.example")) {
		t.Error("MaySendAs")
	}
	if !p.HasRole("Admin") || p.HasRole("auditor") {
		t.Error("HasRole")
	}
	if a, b := NewID(), NewID(); a == b || len(a) != 26 {
		t.Error("NewID")
	}
}
