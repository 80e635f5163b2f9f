package main

import (
	"io"
	"strings"
	"text/template"
)

// nextSteps says what to do after an installation was made.
var nextSteps = template.Must(template.New("next").Parse(`
The installation is in {{.Dir}}. What comes next:

  1. Look through {{.Config}}; every key is explained there.
       cmmpd config check --config {{.Config}}
  2. Start it (configs/cmmpd.service for systemd), and see that it is ready:
       cmmpd serve --config {{.Config}}
       curl http://127.0.0.1:{{.Health}}/readyz
  3. Bring in people, posts, groups and their certificates:
       cmmpd directory import --config {{.Config}} --user {{.Admin}} --password-file FILE < people.ldif
  4. Hand {{.Dir}}/audit/audit.pub to your auditors, out of your own reach.
  5. Arrange backups, and restore one to see that it works:
       cmmpd backup --config {{.Config}} DEST
  6. Have every officer change the first password.
{{if .SelfSigned}}  !  The certificates are for development only: replace [tls] and [smime] before real use.
{{end}}{{if .NoCRL}}  !  No revocation list is configured: confidential mail waits (451) until [smime] crls names one.
{{end}}{{if .NoSigner}}  !  Not every domain has a signer: what the gateway seals for the others bears no signature ([[smime.signers]]).
{{end}}{{if .Files}}  !  The keystore is made of files ({{.Files}}): whoever can read {{.Dir}}/keys can read all mail.
{{end}}
系統已安裝於 {{.Dir}}。下一步:

  1. 查閱 {{.Config}},各項設定均有說明,並檢查設定:
       cmmpd config check --config {{.Config}}
  2. 啟動(systemd 可用 configs/cmmpd.service),並確認系統就緒:
       cmmpd serve --config {{.Config}}
       curl http://127.0.0.1:{{.Health}}/readyz
  3. 匯入人員、職位、群組及其證書:
       cmmpd directory import --config {{.Config}} --user {{.Admin}} --password-file FILE < people.ldif
  4. 將 {{.Dir}}/audit/audit.pub 交予審計人員,存放於管理員不能觸及之處。
  5. 安排備份,並試行還原一次:
       cmmpd backup --config {{.Config}} DEST
  6. 各主任應更改首個密碼。
{{if .SelfSigned}}  !  現有證書只供開發之用:正式使用前必須更換 [tls] 及 [smime] 的證書。
{{end}}{{if .NoCRL}}  !  未設定證書撤銷清單:在 [smime] crls 設定之前,機密郵件會暫緩處理(451)。
{{end}}{{if .NoSigner}}  !  並非每個網域均有簽署證書:閘道為其餘網域加密的郵件不帶簽署([[smime.signers]])。
{{end}}{{if .Files}}  !  密碼匙庫以檔案存放({{.Files}}):能讀取 {{.Dir}}/keys 者即能讀取所有郵件。
{{end}}`))

// sayNext says what to do next, in English and in Traditional Chinese.
func (o *initOptions) sayNext(out io.Writer, noSigner bool) error {
	where := o.keystore.config("")
	return nextSteps.Execute(out, map[string]any{
		"Dir": o.dir, "Config": installation{o.dir}.path(configFile), "Admin": o.officers[0].uid(), "Health": o.basePort + servicePorts()["health"],
		"SelfSigned": o.selfSigned, "NoCRL": !o.selfSigned && len(o.crls) == 0, "NoSigner": noSigner, "Files": strings.Join(where.inFiles(), ", "),
	})
}
