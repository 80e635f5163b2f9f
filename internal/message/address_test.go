package message

import (
	"fmt"
	"strings"
	"testing"
)

// listing is an address list on one line: name|mailbox|host.
func listing(list []Address) string {
	var out []string
	for _, a := range list {
		out = append(out, a.Name+"|"+a.Mailbox+"|"+a.Host)
	}
	return strings.Join(out, " ; ")
}

func TestParseAddressList(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		" , ,; ":                       "",
		"alice@works.gov.example":      "|alice|works.gov.example",
		"a@x, b@y":                     "|a|x ; |b|y",
		"Alice Chan <alice@x>":         "Alice Chan|alice|x",
		"  Alice \t Chan  <alice@x>":   "Alice Chan|alice|x",
		`"Chan, Alice" <alice@x>`:      "Chan, Alice|alice|x",
		`"Chan \"A\" Alice" <alice@x>`: `Chan "A" Alice|alice|x`,
		"=?utf-8?Q?Chan=2C?= =?utf-8?B?6Zmz?= <a@x>": "=?utf-8?Q?Chan=2C?= =?utf-8?B?6Zmz?=|a|x",
		"陳大文 <a@x>":                          "陳大文|a|x",
		"Dr. A. Chan <a@x>":                  "Dr. A. Chan|a|x",
		"A(comment (nested) \\) )Chan <a@x>": "A Chan|a|x",
		"a@x (Alice Chan)":                   "Alice Chan|a|x",
		"a (c) @ (d) x . y":                  "d|a|x.y",
		"<a@x>":                              "|a|x",
		"< a @ x >":                          "|a|x",
		"<@r1,@r2:a@x>":                      "|a|x",
		"Alice <@r1:a@x>, b@y":               "Alice|a|x ; |b|y",
		`"a b"@x`:                            "|a b|x",
		`<"a@b"@x>`:                          "|a@b|x",
		`john."q p".doe@x`:                   "|john.q p.doe|x",
		"a@[127.0.0.1], <b@[IPv6:::1]>":      "|a|[127.0.0.1] ; |b|[IPv6:::1]",
		"a@b@c":                              "|a@b|c",
		"<a@b@c>":                            "|a@b|c",
		"alice":                              "|alice|" + MissingHost,
		"Alice Chan":                         "|Alice Chan|" + MissingHost,
		"Alice <>":                           "Alice|" + MissingMailbox + "|" + MissingHost,
		"<>":                                 "",
		"<@x>":                               "|" + MissingMailbox + "|x",
		"@x":                                 "|" + MissingMailbox + "|x",
		"a@":                                 "|a|" + MissingHost,
		"undisclosed-recipients:;":           "|undisclosed-recipients| ; ||",
		"g: a@x, B <b@y>; , c@z":             "|g| ; |a|x ; B|b|y ; || ; |c|z",
		"g: a@x":                             "|g| ; |a|x ; ||",
		"g: h: a@x;; b@y":                    "|g| ; || ; |h| ; |a|x ; || ; |b|y",
		`"The, Group": a@x;`:                 "|The, Group| ; |a|x ; ||",
		":a@x;":                              "|a|x",
		"<a@x> <b@y>":                        "|a|x ; |b|y",
		"<a@x> b@y":                          "|a|x ; |b|y",
		"<a@x> junk, c@z":                    "|a|x ; |c|z",
		"A <a@x, b@y":                        "A|a|x ; |b|y",
		"A <a@x; b@y":                        "A|a|x ; |b|y",
		"<a@x<b@y>":                          "|a|x ; |b|y",
		`"open <a@x>`:                        "|open <a@x>|" + MissingHost,
		"(open <a@x>":                        "",
		"a@x)":                               "|a|x)",
		"a@x>":                               "|a|x>",
		"a@x\r\n ,\r\n\tb@y":                 "|a|x ; |b|y",
		"alice@good.example <mallory@evil.example>":   "alice@good.example|mallory|evil.example",
		`"alice@good.example" <mallory@evil.example>`: "alice@good.example|mallory|evil.example",
	} {
		if got := listing(ParseAddressList(in)); got != want {
			t.Errorf("%q:\n got %s\nwant %s", in, got, want)
		}
	}
}

// Hostile lists are read in linear time and give no more than maxAddresses entries.
func TestAddressListBounds(t *testing.T) {
	const n = 1 << 18
	for _, unit := range []string{"a,", "<", "(", ")", "\"", "\\\"", "a:", "a:;", "<a@b", "<@a:", "<@,", "@", "[", "a@x,", "(a)", " ", ":", "a ", "a@", "<a>", "<\"", "=?"} {
		list := ParseAddressList(strings.Repeat(unit, n/len(unit)))
		if len(list) > maxAddresses {
			t.Errorf("%q: %d entries", unit, len(list))
		}
	}
	var many strings.Builder
	for i := range 9000 {
		fmt.Fprintf(&many, "Officer %d <o%d@works.gov.example>,\r\n ", i, i)
	}
	if n := len(ParseAddressList(many.String())); n != 9000 {
		t.Errorf("9000 addresses: got %d", n)
	}
}

func TestAddressMail(t *testing.T) {
	for in, want := range map[string]string{
		"Alice <Alice@Works.gov.example>": "Alice@works.gov.example",
		`"a b"@x.example`:                 `"a b"@x.example`,
		"g:;":                             "",
		"alice":                           "",
		"<@x.example>":                    "",
		"a@b@c":                           "",
		`"a@b"@c`:                         "",
		"a@x)":                            "",
	} {
		list := ParseAddressList(in)
		m, ok := list[0].Mail()
		if m.String() != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, m, ok, want)
		}
	}
}

func FuzzParseAddressList(f *testing.F) {
	f.Add(`Alice (c) <@r,@s:a@x>, g: "b\"" <b@[1]>;, c@d (e) <`)
	f.Fuzz(func(t *testing.T, s string) {
		group := false
		for _, a := range ParseAddressList(s) {
			switch {
			case a.Host != "":
				if a.Mailbox == "" {
					t.Fatalf("%q: %+v", s, a)
				}
			case (a.Mailbox == "") != group || a.Name != "":
				t.Fatalf("%q: the marks of groups do not fit", s)
			default:
				group = !group
			}
			if len(a.Name)+len(a.Mailbox) > len(s)+len(MissingMailbox) {
				t.Fatalf("%q: %+v", s, a)
			}
			if m, ok := a.Mail(); ok && m.IsZero() {
				t.Fatalf("%q: %+v is a zero address", s, a)
			}
		}
		if group {
			t.Fatalf("%q: a group is not ended", s)
		}
	})
}
