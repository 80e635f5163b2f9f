package smtp

import (
	"fmt"
	"strings"

	gosmtp "github.com/emersion/go-smtp"

	"cmmpd/internal/mail"
)

// reply is a reply code with its enhanced code (RFC 3463) and what is said if there
// is no sentence for the client.
type reply struct {
	code     int
	enhanced gosmtp.EnhancedCode
	text     string
}

// replies is the one table from error kinds to SMTP.
var replies = [...]reply{
	mail.Internal:    {451, gosmtp.EnhancedCode{4, 3, 0}, "local trouble, try again later"},
	mail.Unavailable: {451, gosmtp.EnhancedCode{4, 3, 0}, "a service we need does not answer, try again later"},
	mail.Busy:        {451, gosmtp.EnhancedCode{4, 3, 2}, "too busy, try again later"},
	mail.Full:        {452, gosmtp.EnhancedCode{4, 3, 1}, "no space left, try again later"},
	mail.OverQuota:   {452, gosmtp.EnhancedCode{4, 2, 2}, "the mailbox is full"},
	mail.Invalid:     {554, gosmtp.EnhancedCode{5, 6, 0}, "malformed"},
	mail.TooLarge:    {552, gosmtp.EnhancedCode{5, 3, 4}, "message too large"},
	mail.NotFound:    {550, gosmtp.EnhancedCode{5, 1, 1}, "no such recipient here"},
	mail.Exists:      {554, gosmtp.EnhancedCode{5, 0, 0}, "it is there already"},
	mail.Denied:      {550, gosmtp.EnhancedCode{5, 7, 1}, "not allowed"},
	mail.AuthFailed:  {535, gosmtp.EnhancedCode{5, 7, 8}, "authentication failed"},
	mail.Refused:     {550, gosmtp.EnhancedCode{5, 7, 1}, "refused by policy"},
	mail.Unsupported: {550, gosmtp.EnhancedCode{5, 3, 3}, "not offered"},
	mail.ReadOnly:    {550, gosmtp.EnhancedCode{5, 2, 1}, "the mailbox takes no mail"},
	mail.Corrupt:     {451, gosmtp.EnhancedCode{4, 3, 0}, "local trouble, try again later"},
}

// chinese says the same in Traditional Chinese, to clients that read UTF-8; what exactly is wrong stands in the English text.
var chinese = [...]string{
	mail.Internal:    "本機故障，請稍後再試",
	mail.Unavailable: "所需服務暫無回應，請稍後再試",
	mail.Busy:        "系統繁忙，請稍後再試",
	mail.Full:        "儲存空間不足，請稍後再試",
	mail.OverQuota:   "郵箱已滿",
	mail.Invalid:     "郵件格式有誤",
	mail.TooLarge:    "郵件過大",
	mail.NotFound:    "本系統沒有此收件人",
	mail.Exists:      "已經存在",
	mail.Denied:      "您無權這樣做",
	mail.AuthFailed:  "登入失敗",
	mail.Refused:     "郵件不符合保安或發送規則，未獲接納，亦沒有保存或寄出",
	mail.Unsupported: "本系統不提供此功能",
	mail.ReadOnly:    "此郵箱不接收郵件",
	mail.Corrupt:     "本機故障，請稍後再試",
}

// bilingual adds a line in Chinese to a reply to a client that has said SMTPUTF8 (RFC 6531, section 3.7.4.2).
func bilingual(e *gosmtp.SMTPError, err error) *gosmtp.SMTPError {
	kind := mail.KindOf(err)
	if int(kind) >= len(chinese) {
		kind = mail.Internal
	}
	e.Message += "\n" + chinese[kind]
	return e
}

// smtpError is err as a reply.
func smtpError(err error) *gosmtp.SMTPError {
	kind := mail.KindOf(err)
	r := replies[mail.Internal]
	if int(kind) < len(replies) {
		r = replies[kind]
	}
	if text := mail.PublicOf(err); text != "" {
		r.text = text
	}
	return r.error()
}

// Reply is err as a client hears it: code, enhanced code and text, in one line.
func Reply(err error) string {
	e := smtpError(err)
	return fmt.Sprintf("%d %d.%d.%d %s", e.Code, e.EnhancedCode[0], e.EnhancedCode[1], e.EnhancedCode[2], strings.ReplaceAll(e.Message, "\n", " "))
}

// loginError is the error of a log-in as a reply: a temporary failure has a code of its
// own (RFC 4954, section 6).
func loginError(err error) *gosmtp.SMTPError {
	if mail.KindOf(err).Temporary() {
		r := reply{454, gosmtp.EnhancedCode{4, 7, 0}, "temporary authentication failure"}
		if text := mail.PublicOf(err); text != "" {
			r.text = text
		}
		return r.error()
	}
	return smtpError(err)
}

func (r reply) error() *gosmtp.SMTPError {
	return &gosmtp.SMTPError{Code: r.code, EnhancedCode: r.enhanced, Message: wrap(clean(r.text))}
}

// maxReplyText keeps a reply line with its codes below the 512 octets of RFC 5321,
// section 4.5.3.1.5.
const maxReplyText = 450

// wrap breaks a long text into lines.
func wrap(s string) string {
	var b strings.Builder
	for len(s) > maxReplyText {
		i := strings.LastIndexByte(s[:maxReplyText], ' ')
		if i <= 0 {
			i = maxReplyText
		}
		b.WriteString(s[:i])
		b.WriteByte('\n')
		s = strings.TrimLeft(s[i:], " ")
	}
	b.WriteString(s)
	return b.String()
}

// clean keeps a reply in printable ASCII.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, s)
}
