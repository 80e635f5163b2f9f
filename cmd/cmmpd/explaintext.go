package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"cmmpd/internal/intake"
	"cmmpd/internal/policy"
)

// explainWords are the words of an explanation, by language. What a client is told is
// quoted as it is, in English: replies of SMTP and IMAP are ASCII.
var explainWords = map[string]map[string]string{
	"en": {
		"path": "way in", "submission": "submission", "inbound": "from another server", "append": "saved to a mailbox", "drafts": "saved to Drafts",
		"from": "sender", "to": "recipients", "none": "none", "protection": "came", "plain": "in clear", "signed": "signed", "encrypted": "encrypted",
		"encrypted-broken": "encrypted in a way that cannot be checked", "other-cms": "as other S/MIME content, which hides nothing",
		"label": "label", "signals": "what speaks of it", "nothing": "nothing speaks of a label", "unseen": "not looked for: it ends before",
		"sio-label": "SIO-Label field", "ess-label": "security label in a signature", "x-classification": "X-Classification field", "sensitivity": "Sensitivity field",
		"subject": "subject", "lowering": "the author's request to lower it", "message-id": "a submission with this Message-ID", "thread": "the conversation", "content": "content rule",
		"floor":  "the conversation demanded %s; the author may lower that, and gives as reason: %s",
		"demand": "demanded", "free": "nothing", "tls": "delivery here, or verified TLS", "smime": "S/MIME to every recipient and the sender", "refuse-demand": "not to be carried",
		"least": "least form", "any": "AES-256 in any form", "oaep": "AES-256, no PKCS #1 v1.5", "gcm": "AES-256-GCM",
		"recipient": "recipient", "sender": "sender", "owner": "owner", "here": "here", "elsewhere": "elsewhere", "blind": "blind copy",
		"clearance": "clearance", "certificate": "certificate", "until": "until", "reads": "reads", "reads-any": "AES-256-CBC with PKCS #1 v1.5", "reads-oaep": "AES-256-CBC", "reads-gcm": "AES-256-GCM", "trouble": "cannot be encrypted to", "later": "not known now",
		"decision": "decision", "pass": "taken as it is", "require-tls": "taken; leaves over verified TLS only", "seal": "taken and sealed", "refuse": "REFUSED", "defer": "DEFERRED", "reply": "the client hears", "signer": "signed by rule", "by-author": "with the author's own key", "by-department": "by the department", "form": "form",
	},
	"zh-Hant": {
		"path": "途徑", "submission": "用戶寄出", "inbound": "來自其他伺服器", "append": "存入信箱", "drafts": "存入草稿",
		"from": "寄件人", "to": "收件人", "none": "無", "protection": "收到時", "plain": "未加密", "signed": "已簽署", "encrypted": "已加密",
		"encrypted-broken": "加密方式無法檢查", "other-cms": "其他 S/MIME 內容，並無加密",
		"label": "密級", "signals": "密級的依據", "nothing": "沒有任何密級標示", "unseen": "未及檢查",
		"sio-label": "SIO-Label 欄位", "ess-label": "簽署內的保安標籤", "x-classification": "X-Classification 欄位", "sensitivity": "Sensitivity 欄位",
		"subject": "主旨", "lowering": "作者要求降級", "message-id": "以同一 Message-ID 寄出的郵件", "thread": "所回覆的郵件", "content": "內容規則",
		"floor":  "所回覆的郵件要求 %s；作者有權降級，理由：%s",
		"demand": "要求", "free": "無", "tls": "本系統內遞送，或經驗證的 TLS", "smime": "對每名收件人及寄件人作 S/MIME 加密", "refuse-demand": "本系統不予傳送",
		"least": "最低加密方式", "any": "任何形式的 AES-256", "oaep": "AES-256，不用 PKCS #1 v1.5", "gcm": "AES-256-GCM",
		"recipient": "收件人", "sender": "寄件人", "owner": "信箱擁有人", "here": "本系統", "elsewhere": "外部", "blind": "密件副本",
		"clearance": "可閱密級", "certificate": "證書", "until": "有效至", "reads": "可讀", "reads-any": "AES-256-CBC（PKCS #1 v1.5）", "reads-oaep": "AES-256-CBC", "reads-gcm": "AES-256-GCM", "trouble": "不能加密給此人", "later": "暫時未知",
		"decision": "決定", "pass": "照原樣接收", "require-tls": "接收；只經驗證的 TLS 送出", "seal": "接收並加密", "refuse": "拒絕", "defer": "暫緩", "reply": "用戶端收到", "signer": "按規則簽署", "by-author": "以作者本人的密鑰", "by-department": "由部門簽署", "form": "方式",
	},
}

// explained writes an explanation for people.
func explained(out io.Writer, e *intake.Explanation, lang string) error {
	t := explainWords[lang]
	var b strings.Builder
	line := func(layer int, format string, args ...any) {
		b.WriteString(strings.Repeat("  ", layer) + printable(fmt.Sprintf(format, args...)) + "\n")
	}
	label := func(l string) string {
		switch {
		case l == "":
			return t["none"]
		case lang != "en" && e.Chinese[l] != "":
			return e.Chinese[l] + " (" + l + ")"
		}
		return l
	}
	line(0, "%s: %s", t["path"], t[e.Path])
	line(0, "%s: <%s>", t["from"], e.From)
	if e.Protection != "" {
		line(0, "%s: %s", t["protection"], t[e.Protection])
	}
	found := label(e.Label)
	if !e.Classified {
		found, e.Demand = t["unseen"], ""
	}
	line(0, "%s: %s", t["label"], found)
	if e.Classified && len(e.Signals) == 0 {
		line(1, "%s", t["nothing"])
	}
	for _, s := range e.Signals {
		source := s.Source
		if source == string(policy.FromSubmission) {
			source = "message-id" // the word means a way in, too
		}
		line(1, "%s: %s", strings.TrimSpace(t[source]+" "+s.Detail), label(s.Label))
	}
	if e.Floor != "" {
		line(1, t["floor"], label(e.Floor), e.Reason)
	}
	demand := func(d string) string {
		if d == policy.Withheld.String() {
			return t["refuse-demand"]
		}
		return t[d]
	}
	if e.Demand != "" {
		line(0, "%s: %s", t["demand"], demand(e.Demand))
	}
	if e.LeastForm != policy.AnyAES256.String() {
		line(1, "%s: %s", t["least"], t[e.LeastForm])
	}
	for _, r := range e.Readers {
		explainedReader(line, t, &r, demand, label)
	}
	line(0, "%s: %s", t["decision"], t[e.Action])
	if e.Signer != "" && e.Reply == "" {
		line(1, "%s: %s", t["signer"], t["by-"+e.Signer])
	}
	if e.Form != "" && e.Reply == "" {
		line(1, "%s: %s", t["form"], e.Form)
	}
	if e.Reply != "" {
		line(1, "%s: %s", t["reply"], e.Reply)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

// explainedReader writes what concerns one reader.
func explainedReader(line func(int, string, ...any), t map[string]string, r *intake.Reader, demand, label func(string) string) {
	words := []string{t[r.Destination]}
	if r.Blind {
		words = append(words, t["blind"])
	}
	if r.Clearance != "" {
		words = append(words, t["clearance"]+" "+label(r.Clearance))
	}
	if r.Demand != "" {
		words = append(words, t["demand"]+" "+demand(r.Demand))
	}
	line(0, "%s <%s>: %s", t[r.Role], r.Address, strings.Join(words, "; "))
	if c := r.Certificate; c != nil {
		line(1, "%s: %s, %s, %s, %s %s, %s %s", t["certificate"], c.Subject, c.Serial, c.Source, t["until"], c.NotAfter.Format(time.DateOnly), t["reads"], t["reads-"+c.Reads])
	}
	switch {
	case r.Temporary:
		line(1, "%s: %s", t["later"], r.Problem)
	case r.Problem != "":
		line(1, "%s: %s", t["trouble"], r.Problem)
	}
}
