package main

import (
	"bufio"
	"crypto/sha256"
	"crypto/x509"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"cmmpd/audit"
	"cmmpd/directory/ldif"
	"cmmpd/internal/mail"
	"cmmpd/smime/cms"
	"cmmpd/smime/trust"
)

// use is one certificate that a message was sealed to, as the audit log has it.
type use struct {
	time                      time.Time
	message, cert             string
	source, certType, address string
}

// maxRecordLine bounds a line of an exported audit log.
const maxRecordLine = 1 << 20

// readUses reads the sealed messages of an audit log exported as JSON lines.
func readUses(in io.Reader) (list []use, err error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxRecordLine)
	for n := 1; lines.Scan(); n++ {
		var r struct {
			Time    time.Time         `json:"time"`
			Type    string            `json:"type"`
			Subject string            `json:"subject"`
			Detail  map[string]string `json:"detail"`
		}
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("line %d is no record of an audit log (\"cmmpd audit export\" writes them): %w", n, err)
		}
		if r.Type != audit.MailSealed {
			continue
		}
		for i := 1; ; i++ {
			text, ok := r.Detail["reader."+strconv.Itoa(i)]
			if !ok {
				break
			}
			part := strings.SplitN(text, " | ", 4)
			if len(part) != 4 {
				return nil, fmt.Errorf("line %d: a reader that cannot be read", n)
			}
			list = append(list, use{r.Time.UTC(), r.Subject, part[0], part[1], part[2], part[3]})
		}
	}
	return list, lines.Err()
}

// usesIn is readUses of a file, or of standard input for "-".
func usesIn(path string) ([]use, error) {
	if path == "-" {
		return readUses(os.Stdin)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readUses(f)
}

// smimeHistory is "cmmpd smime history": which certificate was used for whom, when.
func smimeHistory(args []string) error {
	fs := newFlags("smime history", "[--for ADDRESS] [--csv] AUDIT.jsonl")
	who := fs.String("for", "", "only what was sealed to this `address`")
	asCSV := fs.Bool("csv", false, "as CSV instead of a table")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	var only mail.Address
	if *who != "" {
		var err error
		if only, err = mail.ParseAddress(*who); err != nil {
			return usageError{fmt.Errorf("--for: %w", err)}
		}
	}
	uses, err := usesIn(fs.Arg(0))
	if err != nil {
		return err
	}
	rows := [][]string{{"time", "address", "type", "source", "certificate", "message"}}
	for _, u := range uses {
		if a, err := mail.ParseAddress(u.address); only.IsZero() || err == nil && a.Equal(only) {
			rows = append(rows, []string{u.time.Format(time.RFC3339), u.address, u.certType, u.source, u.cert, u.message})
		}
	}
	return writeRows(os.Stdout, rows, *asCSV)
}

// writeRows writes a table or CSV. A cell that a spreadsheet would take for a formula gets
// an apostrophe before it.
func writeRows(out io.Writer, rows [][]string, asCSV bool) error {
	if asCSV {
		w := csv.NewWriter(out)
		for _, row := range rows {
			row = slices.Clone(row)
			for i, cell := range row {
				if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
					row[i] = "'" + cell
				}
			}
			if err := w.Write(row); err != nil {
				return err
			}
		}
		w.Flush()
		return w.Error()
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = printable(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

// count is what is told of one type of certificate in one year.
type count struct {
	issued, renewed int
	used            map[string]bool // certificates
	messages        map[string]bool
}

// smimeCounts is "cmmpd smime counts": certificates issued, renewed and used in a year, by type.
func smimeCounts(args []string) error {
	fs := newFlags("smime counts", "--config FILE [--year YEAR] [--directory FILE.ldif] [--csv] AUDIT.jsonl")
	path := fs.config()
	year := fs.Int("year", time.Now().Year()-1, "the `year`, in UTC")
	directoryFile := fs.String("directory", "", "`file` that \"cmmpd directory export\" wrote: what was issued and renewed")
	asCSV := fs.Bool("csv", false, "as CSV instead of a table")
	if err := fs.parse(args, 1); err != nil {
		return err
	}
	cfg, err := loadConfig(*path)
	if err != nil {
		return err
	}
	uses, err := usesIn(fs.Arg(0))
	if err != nil {
		return err
	}
	c := counts{year: *year, name: cfg.Trust.typeName, types: map[string]*count{}}
	c.addUses(uses)
	if *directoryFile != "" {
		f, err := os.Open(*directoryFile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := c.addDirectory(f, uses); err != nil {
			return fmt.Errorf("%s: %w", *directoryFile, err)
		}
	}
	return writeRows(os.Stdout, c.rows(*directoryFile != ""), *asCSV)
}

// typeName is what the configuration calls a type of certificate.
func (t *trustConfig) typeName(certType string) string {
	for _, p := range t.Policies {
		if p.Name != "" && trust.PolicyAmong(p.Accept, certType) {
			return p.Name
		}
	}
	return certType
}

// counts gathers what is told of a year.
type counts struct {
	year  int
	name  func(string) string
	types map[string]*count
}

func (c *counts) of(certType string) *count {
	name := c.name(certType)
	if c.types[name] == nil {
		c.types[name] = &count{used: map[string]bool{}, messages: map[string]bool{}}
	}
	return c.types[name]
}

func (c *counts) addUses(uses []use) {
	for _, u := range uses {
		if u.time.Year() == c.year {
			n := c.of(u.certType)
			n.used[u.cert], n.messages[u.message] = true, true
		}
	}
}

// addDirectory counts the certificates that became valid in the year, by entry: renewed,
// if the entry has an older one, or one of its addresses was sealed to with another before;
// otherwise issued. What was taken out of the directory before it was ever used is not seen.
func (c *counts) addDirectory(in io.Reader, uses []use) error {
	r := ldif.NewReader(in, ldif.Limits{})
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		certs, addresses := published(rec)
		for i, cert := range certs {
			if cert.NotBefore.UTC().Year() != c.year {
				continue
			}
			if i > 0 || usedBefore(uses, addresses, cert) {
				c.of(trust.TypeOf(cert)).renewed++
			} else {
				c.of(trust.TypeOf(cert)).issued++
			}
		}
	}
}

// published are the certificates of an entry, the oldest first, and its addresses.
func published(rec *ldif.Record) (certs []*x509.Certificate, addresses []string) {
	add := func(cert *x509.Certificate) {
		if !slices.ContainsFunc(certs, cert.Equal) {
			certs = append(certs, cert)
		}
	}
	for _, v := range rec.Values {
		desc, _, _ := strings.Cut(strings.ToLower(v.Desc), ";")
		switch desc {
		case "mail", "mailalternateaddress":
			addresses = append(addresses, strings.ToLower(string(v.Data)))
		case "usercertificate":
			if cert, err := trust.ParseCertificate(v.Data); err == nil {
				add(cert)
			}
		case "usersmimecertificate":
			signed, err := cms.ParseSigned(v.Data, cms.Limits{})
			if err != nil {
				continue
			}
			for _, cert := range signed.Certificates {
				if !cert.IsCA { // those of authorities come along
					add(cert)
				}
			}
		}
	}
	slices.SortStableFunc(certs, func(a, b *x509.Certificate) int { return a.NotBefore.Compare(b.NotBefore) })
	return certs, addresses
}

func usedBefore(uses []use, addresses []string, cert *x509.Certificate) bool {
	sum := sha256.Sum256(cert.Raw)
	own := hex.EncodeToString(sum[:])
	return slices.ContainsFunc(uses, func(u use) bool {
		return u.cert != own && u.time.Before(cert.NotBefore) && slices.Contains(addresses, strings.ToLower(u.address))
	})
}

func (c *counts) rows(directory bool) [][]string {
	rows := [][]string{{"type", "issued", "renewed", "used", "messages"}}
	for _, name := range slices.Sorted(maps.Keys(c.types)) {
		n := c.types[name]
		issued, renewed := strconv.Itoa(n.issued), strconv.Itoa(n.renewed)
		if !directory {
			issued, renewed = "", ""
		}
		rows = append(rows, []string{name, issued, renewed, strconv.Itoa(len(n.used)), strconv.Itoa(len(n.messages))})
	}
	return rows
}
