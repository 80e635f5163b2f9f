package main

import (
	"strings"
	"testing"

	"cmmpd/internal/message"
)

// FuzzDescribe: whatever a message holds, describing it ends, in lines that a terminal can show.
func FuzzDescribe(f *testing.F) {
	f.Add("Content-Type: application/pkcs7-mime\r\nContent-Transfer-Encoding: base64\r\n\r\nMIAGCSqGSIb3DQEHA6CA\r\n")
	f.Add("Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\ntext\r\n--b\r\nContent-Type: application/pkcs7-signature\r\n\r\n0\x80\r\n--b--\r\n")
	f.Add("Subject: \x1b[31m\r\n\r\ntext")
	f.Fuzz(func(t *testing.T, s string) {
		var out strings.Builder
		raw := []byte(s)
		(&describer{out: &out}).entity(raw, message.Parse(raw, message.Limits{}).Root, 0)
		if strings.ContainsFunc(strings.ReplaceAll(out.String(), "\n", ""), func(r rune) bool { return r < 0x20 || r == 0x7f }) {
			t.Errorf("%q", out.String())
		}
	})
}
