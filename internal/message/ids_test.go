package message

import (
	"slices"
	"strings"
	"testing"
	"time"
)

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
