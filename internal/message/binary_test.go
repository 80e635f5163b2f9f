package message

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"cmmpd/internal/mail"
)

func TestDictionary(t *testing.T) {
	if !slices.IsSorted(dictionary[:]) || len(slices.Compact(slices.Clone(dictionary[:]))) != len(dictionary) || dictionary[0] != "" {
		t.Error("the dictionary is not sorted, has doubles or lacks the empty word")
	}
}

// usual is a message of some 4 KiB in two parts, as they come.
func usual() []byte {
	return crlf("Return-Path: <alice@works.gov.example>\nReceived: from client.works.gov.example (client.works.gov.example [192.0.2.7])\n\tby mail.gov.example with ESMTPSA id abcdefghijklmnop;\n\tThu, 5 Mar 2026 09:07:01 +0800\n" +
		"From: =?utf-8?B?6Zmz5aSn5paH?= Alice Chan <alice@works.gov.example>\nTo: Bob Lee <bob@works.gov.example>, Carol Ho <carol@health.gov.example>\n" +
		"Cc: \"Secretary, Works\" <sw@works.gov.example>\nSubject: =?utf-8?B?5pyD6K2w57SA6YyE?= minutes of the meeting of 4 March\n" +
		"Date: Thu, 5 Mar 2026 09:07:00 +0800\nMessage-ID: <20260305010700.1234@client.works.gov.example>\nIn-Reply-To: <20260304010700.99@client.health.gov.example>\n" +
		"References: <20260304010700.99@client.health.gov.example>\nMIME-Version: 1.0\nUser-Agent: Example Mail 1.0\nX-Classification: unclassified\n" +
		"Content-Type: multipart/alternative;\n boundary=\"------------0123456789abcdefghij\"\nContent-Language: zh-Hant\n\nThis is a multi-part message in MIME format.\n" +
		"--------------0123456789abcdefghij\nContent-Type: text/plain; charset=UTF-8; format=flowed\nContent-Transfer-Encoding: quoted-printable\n\n" +
		strings.Repeat("Line of text with some words in it, as people write it =E6=A9=9F.\n", 15) +
		"\n--------------0123456789abcdefghij\nContent-Type: text/html; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable\n\n" +
		strings.Repeat("<p>Line of text with some words in it, as people write it =E6=A9=9F.</p>\n", 20) +
		"\n--------------0123456789abcdefghij--\n")
}

func encoded(t testing.TB, b []byte) []byte {
	t.Helper()
	enc, err := Parse(b, Limits{}).AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

func TestEncodedSize(t *testing.T) {
	b := usual()
	if enc := encoded(t, b); len(enc) > 600 {
		t.Errorf("the index of a message of %d bytes takes %d", len(b), len(enc))
	}
	checkIndex(t, b, Parse(b, Limits{}))
}

func TestDecodeIndexRefuses(t *testing.T) {
	enc := encoded(t, usual())
	for i := range enc {
		if _, err := DecodeIndex(enc[:i]); mail.KindOf(err) != mail.Corrupt {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
	if _, err := DecodeIndex(append(slices.Clone(enc), 0)); mail.KindOf(err) != mail.Corrupt {
		t.Errorf("a trailing byte: %v", err)
	}
	newer := slices.Clone(enc)
	newer[0] = indexVersion + 1
	if _, err := DecodeIndex(newer); mail.KindOf(err) != mail.Unsupported {
		t.Errorf("a newer version: %v", err)
	}
	for name, b := range map[string][]byte{
		"long number":        {1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0},
		"number of 10 bytes": append([]byte{1}, bytes.Repeat([]byte{0xff}, 12)...),
		"unknown defect":     {1, 0, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0},
	} {
		if _, err := DecodeIndex(b); mail.KindOf(err) != mail.Corrupt {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAppendBinaryRefuses(t *testing.T) {
	for name, spoil := range map[string]func(x *Index){
		"no root":             func(x *Index) { x.Root = nil },
		"size":                func(x *Index) { x.Size++ },
		"unknown defect":      func(x *Index) { x.Defects |= 1 << 31 },
		"no envelope":         func(x *Index) { x.Root.Envelope = nil },
		"envelope of a part":  func(x *Index) { x.Root.Children[0].Envelope = &Envelope{} },
		"order":               func(x *Index) { slices.Reverse(x.Root.Children) },
		"lines":               func(x *Index) { x.Root.Lines = x.Size },
		"multipart without":   func(x *Index) { x.Root.Children = nil },
		"leaf with parts":     func(x *Index) { x.Root.Type = "text" },
		"opaque with parts":   func(x *Index) { x.Root.Opaque = true },
		"part beyond its end": func(x *Index) { x.Root.Children[1].BodyEnd = x.Size + 1 },
	} {
		x := Parse(usual(), Limits{})
		spoil(x)
		if b, err := x.AppendBinary([]byte("kept")); err == nil || string(b) != "kept" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
	}
}

func FuzzDecodeIndex(f *testing.F) {
	f.Add(encoded(f, usual()))
	f.Add(encoded(f, crlf("From: a@x\nContent-Type: message/rfc822\n\nFrom: g: b@y;\nSender: c@z\nReply-To: d@z\nBcc: e@z\nContent-Disposition: inline; filename=x\n\nhello")))
	f.Add(encoded(f, crlf("From: a@x\nContent-ID: <x>\nContent-MD5: y\nContent-Location: z\nContent-Language: en, de\nContent-Description: d\nContent-Type: application/pdf; name=n\nContent-Transfer-Encoding: base64\n\nhello")))
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := DecodeIndex(b)
		if err != nil {
			return
		}
		again, err := x.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%x decodes and encodes as %x, %v", b, again, err)
		}
		y, err := DecodeIndex(again)
		if err != nil || !reflect.DeepEqual(x, y) {
			t.Fatal("decoding twice gives two values")
		}
		for range x.Texts(make([]byte, min(x.Size, 1<<16)), 1000) {
		}
	})
}

// The encoding of version 1 must not change: stores are full of it.
func TestEncodingIsStable(t *testing.T) {
	b := crlf("From: A <a@x>\nTo: b@x\nSubject: s\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\none\n--b\nContent-Type: application/pdf; name=n\nContent-Transfer-Encoding: base64\n\nAAAA\n--b--\n")
	const want = "01bb01000151091f1e01093d620e3d73013d413d613e7801003d6200020005020300352603074c0400042301203d6e06"
	if got := fmt.Sprintf("%x", encoded(t, b)); got != want {
		t.Errorf("got %s", got)
	}
}
