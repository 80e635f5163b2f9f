package message

import (
	"slices"
	"strings"
	"testing"
)

func TestParseHeader(t *testing.T) {
	b := []byte("From alice Mon\r\nSubject: one\r\n two\r\nX-Empty:\r\nno colon here\r\n and its rest\r\nSUBJECT :\t three \r\nX-Bare: a\x00b\rc\nX-\xe9: d\r\nX Y: e\r\n\r\nBody: no\r\n")
	h := ParseHeader(b, Limits{})
	if string(b[h.Len():]) != "Body: no\r\n" {
		t.Errorf("the header ends before %q", b[h.Len():])
	}
	var got []string
	for _, f := range h.Fields() {
		got = append(got, f.Name+"="+h.Value(f)+"/"+string(h.Raw(f)))
	}
	want := []string{
		"Subject=one two/Subject: one\r\n two\r\n", "X-Empty=/X-Empty:\r\n", "SUBJECT=three/SUBJECT :\t three \r\n",
		"X-Bare=ab c/X-Bare: a\x00b\rc\n", "X-\xe9=d/X-\xe9: d\r\n",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if h.Get("subject") != "one two" || !slices.Equal(h.All("Subject"), []string{"one two", "three"}) || h.Get("none") != "" || h.All("none") != nil {
		t.Error("Get or All")
	}
	for in, want := range map[string]int{
		"": 0, "\r\n": 2, "\n": 1, "\nA: b\n": 1, "A: b": 4, "A: b\r\n": 6, "A: b\r\ntext": 6, "text": 0, "A: b\r\n\r\n\r\n": 8,
		"A: b\n \n\nx": 8, "From x\nA: b\ntext\n": 12, " x\nA: b\n": 8,
	} {
		if got := ParseHeader([]byte(in), Limits{}).Len(); got != want {
			t.Errorf("%q: header of %d bytes, want %d", in, got, want)
		}
	}
	h = ParseHeader([]byte("A: 1\r\nB: 23456\r\nC: 7\r\n\r\n"), Limits{HeaderBytes: 10})
	if len(h.Fields()) != 1 || h.Len() != 24 {
		t.Errorf("a header cut by the limit: %v, %d", h.Fields(), h.Len())
	}
}

func TestParameters(t *testing.T) {
	for in, want := range map[string]string{
		"text/plain":                                                   "text/plain",
		" Text/HTML ; Charset=\"UTF-8\" ":                              "text/html charset=UTF-8",
		"text/plain; charset=utf-8 format=flowed":                      "text/plain charset=utf-8 format=flowed",
		"text/plain;charset=utf-8;;format=flowed;":                     "text/plain charset=utf-8 format=flowed",
		"text/plain (c) ; (c) charset (c) = (c) us-ascii (Plain text)": "text/plain charset=us-ascii",
		"text/plain; charset=us-ascii (Plain text)":                    "text/plain charset=us-ascii",
		"text/plain charset=big5":                                      "text/plain charset=big5",
		`a/b; boundary=----=_Part_1.2`:                                 "a/b boundary=----=_Part_1.2",
		`a/b; x="a\"b;c"; y="open`:                                     `a/b x=a"b;c y=open`,
		"a/b; name=annual report.pdf; x=y":                             "a/b name=annual report.pdf x=y",
		"a/b; flag; =x; x=":                                            "a/b x=",
		"a/b; x=1; x=2":                                                "a/b x=1 x=2",
		"attachment; filename*=big5''%BE%F7%B1K.txt":                   "attachment filename=機密.txt",
		"attachment; filename=x; filename*=utf-8'zh'%E6%A9%9F":         "attachment filename=機",
		"attachment; a=b; filename*1*=%9F; filename*0*=utf-8''%E6%A9; filename*2=x; c=d": "attachment a=b filename=機x c=d",
		"attachment; filename*0=a; filename*1=b; filename*3=d":                           "attachment filename=ab",
		"attachment; filename*=%41%0D%0ABcc%00":                                          "attachment filename=A  Bcc",
		"attachment; filename*=%4":                                                       "attachment filename=%4",
		"attachment; filename*x=a; *=b; *0=c":                                            "attachment filename*x=a *=b *0=c",
		"attachment; filename*0*=no-such''%41":                                           "attachment filename=A",
		`"attachment"; filename=x`:                                                       "attachment filename=x",
		"":                                                                               "",
	} {
		value, params, _ := parseParameterised(in)
		got := value
		for _, p := range params {
			got += " " + p.Name + "=" + p.Value
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
	_, params, cut := parseParameterised("a/b" + strings.Repeat("; a=b", 1000))
	if len(params) != maxParams || !cut {
		t.Errorf("%d parameters", len(params))
	}
	for _, unit := range []string{";", "a=", "a*0=b;", "a*=b;", "(", "\"", "\\", "a ", "*", "=", "a=\"b\"", "a;"} {
		parseParameterised("a/b;" + strings.Repeat(unit, 1<<20/len(unit)))
	}
}

func TestFilename(t *testing.T) {
	for in, want := range map[string]string{
		"Content-Disposition: attachment; filename=\"=?big5?B?vvexSw==?=.txt\"\n":         "機密.txt",
		"Content-Type: text/plain; name*=utf-8''%E6%A9%9F\n":                              "機",
		"Content-Disposition: attachment; filename=a\nContent-Type: text/plain; name=b\n": "a",
		"": "",
	} {
		if got := Parse(crlf(in+"\nx"), Limits{}).Root.Filename(); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestEnvelope(t *testing.T) {
	e := Parse(crlf("Date: Thu,\n 5 Mar 2026\nSubject: =?utf-8?Q?a?=\n =?utf-8?Q?b?=\nFrom: a@x\nTo: b@y\nTo: c@z\nMessage-ID: <1@x>\nIn-Reply-To: <2@x>\n\nx"), Limits{}).Root.Envelope
	if e.Date != "Thu, 5 Mar 2026" || e.Subject != "=?utf-8?Q?a?= =?utf-8?Q?b?=" || e.MessageID != "<1@x>" || e.InReplyTo != "<2@x>" {
		t.Errorf("%+v", e)
	}
	if listing(e.Sender) != "|a|x" || listing(e.ReplyTo) != "|a|x" || listing(e.To) != "|b|y ; |c|z" || e.Cc != nil {
		t.Errorf("%+v", e)
	}
	e = Parse(crlf("From: a@x\nSender: s@x\nReply-To: r@x\nCc: c@x\nBcc: d@x\n\nx"), Limits{}).Root.Envelope
	if listing(e.Sender)+listing(e.ReplyTo)+listing(e.Cc)+listing(e.Bcc) != "|s|x|r|x|c|x|d|x" {
		t.Errorf("%+v", e)
	}
	big := crlf(strings.Repeat("To: "+strings.Repeat("a@x,", 4000)+"\n", 20) + "\nx")
	x := Parse(big, Limits{})
	if len(x.Root.Envelope.To) != maxAddresses || x.Defects&Truncated == 0 {
		t.Errorf("%d addresses, defects %b", len(x.Root.Envelope.To), x.Defects)
	}
	checkIndex(t, big, x)
	wide := crlf(strings.Repeat("Content-Type: message/rfc822\nSubject: "+strings.Repeat("x", 100_000)+"\n\n", 50))
	x = Parse(wide, Limits{})
	if enc := encoded(t, wide); len(enc) > maxStrings+(64<<10) || x.Defects&Truncated == 0 {
		t.Errorf("an index of %d bytes", len(enc))
	}
	checkIndex(t, wide, x)
}

func TestPartNumbers(t *testing.T) {
	multi := "Content-Type: multipart/mixed; boundary=a\n\n--a\n\none\n--a\nContent-Type: message/rfc822\n\n" +
		"From: b@y\nContent-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/css\n\n2.1\n--b\nContent-Type: text/html\n\n2.2\n--b--\n" +
		"--a\nContent-Type: message/rfc822\n\nFrom: c@z\nContent-Type: text/csv\n\n3.1\n--a\nContent-Type: multipart/mixed; boundary=c\n\n--c\nContent-Type: image/png\n\n4.1\n--c--\n--a--\n"
	for _, c := range []struct {
		in   string
		path []int
		want string
	}{
		{"\nx", nil, "text/plain"},
		{"\nx", []int{1}, "text/plain"},
		{"\nx", []int{2}, ""},
		{"\nx", []int{0}, ""},
		{"\nx", []int{1, 1}, ""},
		{multi, nil, "multipart/mixed"},
		{multi, []int{1}, "text/plain"},
		{multi, []int{1, 1}, ""},
		{multi, []int{2}, "message/rfc822"},
		{multi, []int{2, 1}, "text/css"},
		{multi, []int{2, 2}, "text/html"},
		{multi, []int{2, 3}, ""},
		{multi, []int{3, 1}, "text/csv"},
		{multi, []int{3, 1, 1}, ""},
		{multi, []int{3, 2}, ""},
		{multi, []int{4}, "multipart/mixed"},
		{multi, []int{4, 1}, "image/png"},
		{multi, []int{5}, ""},
		{multi, []int{-1}, ""},
		{"Content-Type: message/rfc822\n\nContent-Type: text/css\n\nx", []int{1}, "message/rfc822"},
		{"Content-Type: message/rfc822\n\nContent-Type: text/css\n\nx", []int{1, 1}, "text/css"},
	} {
		got := ""
		if p := Parse(crlf(c.in), Limits{}).Part(c.path); p != nil {
			got = p.Type + "/" + p.Subtype
		}
		if got != c.want {
			t.Errorf("part %v: got %q, want %q", c.path, got, c.want)
		}
	}
}
