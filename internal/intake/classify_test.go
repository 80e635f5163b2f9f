package intake

import (
	"encoding/base64"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"

	"cmmpd/internal/mail"
	"cmmpd/internal/message"
	"cmmpd/internal/policy"
)

// Whatever way a program has to write a label in a header, it is read.
func TestSignals(t *testing.T) {
	p, err := policy.New(policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	big5, _ := traditionalchinese.Big5.NewEncoder().String("【機密】會議")
	gbk, _ := simplifiedchinese.GB18030.NewEncoder().String("【机密】会议")
	b64 := base64.StdEncoding.EncodeToString
	utf8 := []byte("【機密】會議")
	for header, want := range map[string]mail.Label{
		"Subject: " + big5: mail.Confidential,
		"Subject: " + gbk:  mail.Confidential,
		"Subject: =?utf-8?B?" + b64(utf8[:5]) + "?=\r\n =?utf-8?B?" + b64(utf8[5:]) + "?=": mail.Confidential,
		"Subject: Re: =?Big5-HKSCS?B?" + b64([]byte(big5)) + "?=":                          mail.Confidential,
		"Subject: hello\r\nSubject: [CONFIDENTIAL] x":                                      mail.Confidential,
		"Subject:\r\n [CONFIDENTIAL]\r\n x":                                                mail.Confidential,
		"sensitivity : company-CONFIDENTIAL (set by hand)":                                 mail.Confidential,
		"Sensitivity: =?utf-8?Q?Company-Confidential?=":                                    mail.Confidential,
		"X-Classification:\r\n\t" + big5:                                                   mail.Confidential,
		"SIO-Label: marking*=utf-8''%E6%A9%9F%E5%AF%86; type=\":ess\"":                     mail.Confidential,
		"SIO-Label: marking*0*=utf-8''%E6%A9; marking*1*=%9F%E5%AF%86":                     mail.Confidential,
		"SIO-Label: (c) marking (c) = \"CONFIDENTIAL\"":                                    mail.Confidential,
		"X-Other: CONFIDENTIAL":                                                            "",
		"Subject: x\r\nContent-Type: message/rfc822\r\n\r\nSubject: [CONFIDENTIAL] x":      "",
	} {
		got, _ := p.Classify(signals(message.ParseHeader([]byte(header+"\r\n\r\nbody\r\n"), message.Limits{})))
		if got != want {
			t.Errorf("%q: %q, want %q", header, got, want)
		}
	}
}
