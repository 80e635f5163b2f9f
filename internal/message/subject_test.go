package message

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestBaseSubject(t *testing.T) {
	for in, want := range map[string]string{
		"":                             "",
		"Hello  there\tyou":            "Hello there you",
		"Re: hello":                    "hello",
		"RE : hello":                   "hello",
		"Re[2]: hello":                 "hello",
		"Re: Fw: FWD: hello (fwd) ":    "hello",
		"[list] Re: hello":             "hello",
		"[list] hello":                 "hello",
		"[a][b] Re: [c] hello":         "hello",
		"[a][b]":                       "[b]",
		"[a]":                          "[a]",
		"Re: [a]":                      "[a]",
		"[Fwd: hello]":                 "hello",
		"[Fwd: Re: hello] ":            "hello",
		"Re: [Fwd: [Fwd: hello]] ":     "hello",
		"[Fwd: a [b] Re: c]":           "a [b] Re: c",
		"Reply: hello":                 "Reply: hello",
		"Re hello":                     "Re hello",
		"Re:":                          "",
		"(fwd)":                        "",
		"=?utf-8?B?UmU6IOapn+Wvhg==?=": "機密",
		"Re: =?utf-8?B?5qmf5a+G?=":     "機密",
		"[unclosed Re: x":              "[unclosed Re: x",
	} {
		if got := BaseSubject(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	for _, unit := range []string{"[a]", "[", "]", "[fwd:", "re:", "(fwd)", "re[a]:", "[a]re:", "re[a]"} {
		BaseSubject(strings.Repeat(unit, 1<<20/len(unit)))
		BaseSubject(strings.Repeat("[fwd:", 1<<16) + strings.Repeat(unit, 1<<10) + strings.Repeat("]", 1<<16))
	}
}

func TestMessageIDs(t *testing.T) {
	for in, want := range map[string][]string{
		"":                                   nil,
		"<a@x>":                              {"a@x"},
		"<a@x> <b@y>\r\n <c@z>":              {"a@x", "b@y", "c@z"},
		"<a@x><b@y>":                         {"a@x", "b@y"},
		"<a\r\n @x>":                         {"a@x"},
		"Your message of \"Mon\" <a@x> ok":   {"a@x"},
		"<a@x <b@y>":                         {"b@y"},
		"<> <a@x":                            nil,
		"a@x b c@y":                          {"a@x", "c@y"},
		"<" + strings.Repeat("x", 999) + ">": nil,
	} {
		if got := MessageIDs(in); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	if n := len(MessageIDs(strings.Repeat("<a@b>", 5000))); n != maxIDs {
		t.Errorf("got %d ids", n)
	}
	MessageIDs(strings.Repeat("<", 1<<20))
}

func TestFormatDate(t *testing.T) {
	at := time.Date(2026, 3, 5, 9, 7, 1, 0, time.FixedZone("", 8*3600))
	if got := FormatDate(at); got != "Thu, 5 Mar 2026 09:07:01 +0800" {
		t.Error(got)
	}
}
