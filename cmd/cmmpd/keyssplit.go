package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"cmmpd/internal/durable"
	"cmmpd/internal/keys"
	"cmmpd/internal/keys/keyd"
	"cmmpd/internal/keys/shares"
	"cmmpd/smime/cms"
)

// keysSplit is "cmmpd keys split": the token gets a new PIN that nobody knows, parted among officers.
func keysSplit(args []string) error {
	fs := newFlags("keys split", "--config FILE | --keyd SOCKET [--slot SLOT] --threshold K --officer CERTIFICATE… --shares FILE --out DIR [--pin-file FILE | --parted]")
	where := fs.keystore()
	slot := fs.slot(keys.Mail)
	k := fs.Int("threshold", 0, "so `many` officers together open the token; 2 at least")
	var officers []string
	fs.Func("officer", "PEM `file` with an officer's certificate (give it once for each)", func(s string) error {
		officers = append(officers, s)
		return nil
	})
	public := fs.String("shares", "", "`file` for what is public: the one that keyd's configuration names")
	out := fs.String("out", "", "`folder` for the shares, each encrypted to its officer")
	old := fs.String("pin-file", "", "`file` with the PIN of now; otherwise it is asked for")
	parted := fs.Bool("parted", false, "the PIN of now is parted: enough officers have just brought their shares of it (cmmpd unseal --share)")
	v15 := fs.Bool("pkcs1v15", false, "encrypt to RSA keys with PKCS #1 v1.5, for cards that know nothing newer")
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	if *public == "" || *out == "" {
		return usageError{errors.New("--shares and --out are needed")}
	}
	certs, err := readCertificates(officers)
	if err != nil {
		return err
	}
	if len(certs) != len(officers) {
		return usageError{errors.New("each --officer file must have one certificate")}
	}
	c, err := where.client(*slot)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, stop := interruptible()
	defer stop()
	st, err := c.Status(ctx, *slot)
	if err != nil {
		return err
	}
	if st.State != keyd.Open {
		return fmt.Errorf("the slot %s is %s; unseal it first", *slot, st.State)
	}
	var pin []byte
	switch {
	case *parted:
	case *old != "":
		pin, err = readPIN(*old)
	default:
		pin, err = askPIN(fmt.Sprintf("PIN of the token %s, slot %s (密碼匙權杖 PIN)", st.Token, *slot))
	}
	if err != nil {
		return err
	}
	defer clear(pin)
	fresh := []byte(rand.Text())
	defer clear(fresh)
	transport := cms.OAEPSHA256
	if *v15 {
		transport = cms.PKCS1v15
	}
	set, err := splitPIN(fresh, *k, certs, transport, *out)
	if err != nil {
		return err
	}
	return changePIN(ctx, c, *slot, pin, fresh, set, *public)
}

// changePIN gives the token its new PIN when everything that has it is on the disk.
func changePIN(ctx context.Context, c *keyd.Client, slot keys.Slot, pin, fresh []byte, set *shares.Set, public string) error {
	next := public + ".new"
	if err := durable.WriteFile(durable.OS{}, next, set.Encode(), 0o644); err != nil {
		return err
	}
	if err := c.SetPIN(ctx, slot, pin, fresh); err != nil {
		return fmt.Errorf("the PIN may be the old one still; if it is not, rename %s to %s: %w", next, public, err)
	}
	if err := os.Rename(next, public); err != nil {
		return fmt.Errorf("the PIN is changed, but %s must be renamed to %s: %w", next, public, err)
	}
	if err := (durable.OS{}).SyncDir(filepath.Dir(public)); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "the PIN of the slot %s is new; %d of %d officers open it (須由 %d 名主任中的 %d 名解封)\n", slot, set.Threshold, set.Count, set.Count, set.Threshold)
	return nil
}

// splitPIN parts the PIN and writes each officer's share, encrypted, into a new folder.
func splitPIN(pin []byte, k int, certs []*x509.Certificate, transport cms.KeyTransport, dir string) (*shares.Set, error) {
	set, list, err := shares.Split(pin, k, len(certs))
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for i, s := range list {
		text := "Content-Type: text/plain; charset=utf-8\r\n\r\n" +
			fmt.Sprintf("Your share (%d of %d) of the PIN of the mail keys. Bring it when the platform is to be unsealed (cmmpd unseal --share), and show it to nobody.\r\n", s.Number, set.Count) +
			fmt.Sprintf("閣下持有的郵件密碼匙 PIN 分片(%d/%d)。平台解封時使用(cmmpd unseal --share),切勿向任何人展示。\r\n\r\n%s\r\n", s.Number, set.Count, s)
		der, err := cms.Encrypt(rand.Reader, cms.AES256CBC, cms.Data, []cms.RecipientSpec{{Cert: certs[i], Transport: transport}}, []byte(text))
		if err != nil {
			return nil, fmt.Errorf("share for %s: %w", certs[i].Subject, err)
		}
		var b strings.Builder
		fmt.Fprintf(&b, "Subject: Share %d of %d\r\nMIME-Version: 1.0\r\nContent-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\nContent-Transfer-Encoding: base64\r\n\r\n", s.Number, set.Count)
		for coded := base64.StdEncoding.EncodeToString(der); coded != ""; {
			n := min(76, len(coded))
			b.WriteString(coded[:n] + "\r\n")
			coded = coded[n:]
		}
		path := filepath.Join(dir, fmt.Sprintf("share-%d.eml", s.Number))
		if err := durable.WriteFile(durable.OS{}, path, []byte(b.String()), 0o600); err != nil {
			return nil, err
		}
		fmt.Printf("%s\t%s\n", path, certs[i].Subject)
	}
	return set, durable.OS{}.SyncDir(filepath.Dir(dir))
}

const maxShareFile = 64 << 10

// bringShare hands one officer's share to keyd; an empty path asks for it.
func bringShare(ctx context.Context, c *keyd.Client, slot keys.Slot, path string) error {
	var text []byte
	var err error
	switch path {
	case "":
		text, err = askPIN("your share, cmmpd-share-1:… (閣下的分片)")
	case "-":
		text, err = io.ReadAll(io.LimitReader(os.Stdin, maxShareFile))
	default:
		text, err = durable.ReadFile(durable.OS{}, path, maxShareFile)
	}
	if err != nil {
		return err
	}
	defer clear(text)
	share, err := shares.ParseShare(string(text))
	if err != nil {
		return err
	}
	have, need, err := c.Share(ctx, slot, share.String())
	if err != nil {
		return err
	}
	if have < need {
		fmt.Fprintf(os.Stderr, "%d of %d shares are there; the others must follow within 15 minutes (已有 %d/%d 分片)\n", have, need, have, need)
		return nil
	}
	fmt.Fprintf(os.Stderr, "%d of %d shares are there: the slot %s is open (已解封)\n", have, need, slot)
	return nil
}
