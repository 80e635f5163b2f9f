package main

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	pkcs12 "software.sslmate.com/src/go-pkcs12"

	"cmmpd/smime/cms"
)

// What officers and requesters do on machines of their own, with their own keys. Any CMS program does as well for one part.

// openerFlags say with what key something is opened.
type openerFlags struct{ p12, passwordFile, cert, key *string }

func (f flags) opener() openerFlags {
	return openerFlags{
		f.String("p12", "", "PKCS #12 `file` with your certificate and key"), f.String("p12-password-file", "", "`file` with its password; otherwise it is asked for"),
		f.String("certificate", "", "PEM `file`: your certificate, instead of --p12"), f.String("key", "", "PEM `file`: its private key"),
	}
}

func (o openerFlags) open() (cms.KeyOpener, error) {
	if *o.p12 == "" {
		if *o.cert == "" || *o.key == "" {
			return nil, usageError{errors.New("--p12, or --certificate and --key, are needed")}
		}
		return readOpener(*o.cert, *o.key)
	}
	data, err := os.ReadFile(*o.p12)
	if err != nil {
		return nil, err
	}
	var password []byte
	if *o.passwordFile != "" {
		if password, err = os.ReadFile(*o.passwordFile); err != nil {
			return nil, err
		}
		password = []byte(strings.TrimRight(string(password), "\r\n"))
	} else if password, err = askPIN("password of " + *o.p12 + " (密碼)"); err != nil {
		return nil, err
	}
	defer clear(password)
	key, cert, _, err := pkcs12.DecodeChain(data, string(password))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", *o.p12, err)
	}
	return cms.NewKeyOpener(cert, key)
}

func decryptCMS(k cms.KeyOpener, der []byte) ([]byte, error) {
	e, err := cms.ParseEnveloped(der, cms.Limits{})
	if err != nil {
		return nil, err
	}
	return e.Decrypt(k)
}

const maxPartLine = 64 << 10

// escrowDecrypt is "cmmpd escrow decrypt": an officer opens their part, or their parts of all accounts.
func escrowDecrypt(args []string) error {
	fs := newFlags("escrow decrypt", "--p12 FILE < PART > SHARE")
	keyFlags := fs.opener()
	if err := fs.parse(args, 0); err != nil {
		return err
	}
	k, err := keyFlags.open()
	if err != nil {
		return err
	}
	return decryptParts(k, os.Stdin, os.Stdout)
}

func decryptParts(k cms.KeyOpener, r io.Reader, w io.Writer) error {
	in := bufio.NewReaderSize(r, maxPartLine)
	if first, err := in.Peek(2); err != nil {
		return fmt.Errorf("no part: %w", err)
	} else if first[0] == 0x30 && first[1] >= 0x80 { // DER: the part of one account; an account's ID may begin with the same digit
		der, err := io.ReadAll(io.LimitReader(in, maxPartLine))
		if err != nil {
			return err
		}
		text, err := decryptCMS(k, der)
		if err != nil {
			return err
		}
		defer clear(text)
		_, err = w.Write(text)
		return err
	}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxPartLine)
	out := bufio.NewWriter(w)
	for lines.Scan() {
		account, coded, _ := strings.Cut(lines.Text(), " ")
		der, err := base64.StdEncoding.DecodeString(coded)
		if err != nil {
			return fmt.Errorf("the part of account %s: %w", account, err)
		}
		text, err := decryptCMS(k, der)
		if err != nil {
			return fmt.Errorf("the part of account %s: %w", account, err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.HasPrefix(line, "cmmpd-share-") {
				fmt.Fprintf(out, "%s %s\n", account, strings.TrimSpace(line))
			}
		}
		clear(text)
	}
	return errors.Join(lines.Err(), out.Flush())
}

// escrowUnpack is "cmmpd escrow unpack": a requester opens what was exported, and compares it with its manifest.
func escrowUnpack(args []string) error {
	fs := newFlags("escrow unpack", "--p12 FILE EXPORT DIR")
	keyFlags := fs.opener()
	if err := fs.parse(args, 2); err != nil {
		return err
	}
	k, err := keyFlags.open()
	if err != nil {
		return err
	}
	f, err := os.Open(fs.Arg(0))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := os.Mkdir(fs.Arg(1), 0o700); err != nil {
		return err
	}
	m, sum, err := unpackExport(k, f, fs.Arg(1))
	if err != nil {
		return fmt.Errorf("%s: %w", fs.Arg(0), err)
	}
	fmt.Printf("case %s, account %s, %d messages, complete; manifest %s (compare with the audit log)\n", m.Case, m.Account, m.Total, sum)
	return nil
}

// unpackExport writes each message to dir, and the manifest. Its SHA-256 is on record.
func unpackExport(k cms.KeyOpener, r io.Reader, dir string) (m exportedManifest, sum string, err error) {
	found := make(map[string]string)
	for t := tar.NewReader(r); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return m, "", err
		}
		if m.Version != 0 || h.Name != filepath.Base(h.Name) || !strings.HasSuffix(h.Name, ".p7m") {
			return m, "", fmt.Errorf("%q is not an entry of an export", h.Name)
		}
		der, err := io.ReadAll(io.LimitReader(t, 1<<30))
		if err != nil {
			return m, "", err
		}
		plain, err := decryptCMS(k, der)
		if err != nil {
			return m, "", fmt.Errorf("%s: %w", h.Name, err)
		}
		digest := sha256.Sum256(plain)
		found[h.Name] = hex.EncodeToString(digest[:])
		name := strings.TrimSuffix(h.Name, ".p7m") + ".eml"
		if h.Name == exportManifest {
			name = "manifest.json"
			sum = found[h.Name]
			if err := json.Unmarshal(plain, &m); err != nil {
				return m, "", err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), plain, 0o600); err != nil {
			return m, "", err
		}
	}
	if m.Version != exportVersion {
		return m, "", errors.New("it was cut short: the manifest is missing")
	}
	for _, e := range m.Messages {
		if found[e.Entry] != e.SHA256 {
			return m, "", fmt.Errorf("%s is not as it was written", e.Entry)
		}
	}
	if len(found) != len(m.Messages)+1 || len(m.Messages) != m.Total {
		return m, "", errors.New("it does not have the messages that its manifest names")
	}
	return m, sum, nil
}
