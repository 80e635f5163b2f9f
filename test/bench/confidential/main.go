// Command confidential compares submissions of confidential mail, which the server seals, with plain ones: of the same
// size, from carol (or alice) to alice and ds1 of a demonstration that is being served, over the same connections, in turns. -dir is
// the demonstration, -base its base port, -pid the server, whose processor time is counted. With -prepare, while nothing is
// served, it gives both domains signing keys on P-256 in the place of their RSA keys.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"cmmpd/internal/demopki"
)

// load is what one round sends.
type load struct {
	dir   string
	from  string // the sender's name in the demonstration
	addr  string
	conns int
	n     int
	size  int
	pid   int
}

func main() {
	var l load
	flag.StringVar(&l.dir, "dir", "", "the folder of the demonstration")
	flag.StringVar(&l.from, "from", "carol", "carol, whose key is on P-256, or alice: then all who read it have RSA-2048")
	base := flag.Int("base", 40000, "its base port")
	flag.IntVar(&l.conns, "conns", 16, "connections")
	flag.IntVar(&l.n, "n", 2000, "messages of one kind in a round")
	flag.IntVar(&l.size, "size", 4096, "octets of a message's text")
	flag.IntVar(&l.pid, "pid", 0, "the server's process; 0: its processor time is not counted")
	prepare := flag.Bool("prepare", false, "change the signing key, and no more")
	rounds := flag.Int("rounds", 5, "rounds, besides the first, which does not count")
	flag.Parse()
	l.addr = fmt.Sprintf("127.0.0.1:%d", *base+465)
	act := func() error { return run(l, *rounds) }
	if *prepare {
		act = func() error {
			return errors.Join(newSigner(l.dir, "health.gov.example"), newSigner(l.dir, "works.gov.example"))
		}
	}
	if err := act(); err != nil {
		fmt.Fprintln(os.Stderr, "confidential:", err)
		os.Exit(1)
	}
}

func run(l load, rounds int) error {
	clients, err := l.connect()
	if err != nil {
		return err
	}
	var plain, sealed []cost
	var shares []float64
	for i := range rounds + 1 {
		p, err := l.round(clients, "")
		if err != nil {
			return err
		}
		s, err := l.round(clients, "X-Classification: confidential\r\n")
		if err != nil {
			return err
		}
		if i == 0 {
			continue
		}
		fmt.Printf("plain %v, confidential %v: %.2f of the rate\n", p, s, s.rate/p.rate)
		plain, sealed, shares = append(plain, p), append(sealed, s), append(shares, s.rate/p.rate)
	}
	fmt.Printf("medians: plain %v, confidential %v, %.2f of the rate\n", middle(plain), middle(sealed), median(shares))
	for _, c := range clients {
		err = errors.Join(err, c.Quit())
	}
	return err
}

// cost is what a round came to: messages in a second, and microseconds of processor time for each.
type cost struct{ rate, server, client float64 }

func (c cost) String() string {
	return fmt.Sprintf("%.0f/s (a message: server %.0f µs, client %.0f µs)", c.rate, c.server, c.client)
}

func middle(cs []cost) (m cost) {
	of := func(what func(cost) float64) float64 {
		var all []float64
		for _, c := range cs {
			all = append(all, what(c))
		}
		return median(all)
	}
	return cost{of(func(c cost) float64 { return c.rate }), of(func(c cost) float64 { return c.server }), of(func(c cost) float64 { return c.client })}
}

func median(f []float64) float64 {
	slices.Sort(f)
	return f[len(f)/2]
}

// newSigner has the demonstration's authority certify a new key for the domain.
func newSigner(dir, domain string) error {
	var parts [3][]byte
	for i, name := range []string{"pki/ca.pem", "keys/ca.key", "pki/ca.crl"} {
		var err error
		if parts[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	certs, err := demopki.ParseCerts(parts[0])
	if err != nil {
		return err
	}
	key, err := demopki.ParseKey(parts[1])
	if err != nil {
		return err
	}
	crl, err := demopki.ParseCRL(parts[2])
	if err != nil {
		return err
	}
	ca, err := demopki.LoadCA(certs[0], key, crl, time.Now)
	if err != nil {
		return err
	}
	id, err := ca.Issue(demopki.Spec{CN: "Domain signing authority of " + domain, Address: "domain-signing-authority@" + domain, Key: demopki.P256, Usage: x509.KeyUsageDigitalSignature})
	if err != nil {
		return err
	}
	secret, err := demopki.KeyPEM(id.Key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "keys", "keystore", "service", "gateway%2F"+domain+".pem"), secret, 0o600),
		os.WriteFile(filepath.Join(dir, "pki", "gateway-"+domain+".pem"), demopki.CertPEM(id.Cert), 0o600),
	)
}

// connect logs the sender in, on each connection.
func (l load) connect() ([]*smtp.Client, error) {
	ca, err := os.ReadFile(filepath.Join(l.dir, "pki", "ca.pem"))
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(filepath.Join(l.dir, "people", l.from, "password"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	clients := make([]*smtp.Client, l.conns)
	for i := range clients {
		if clients[i], err = smtp.DialTLS(l.addr, &tls.Config{RootCAs: roots, ServerName: "localhost"}); err != nil {
			return nil, err
		}
		if err := clients[i].Auth(sasl.NewPlainClient("", l.from, strings.TrimSpace(string(password)))); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// round sends all messages once.
func (l load) round(clients []*smtp.Client, label string) (cost, error) {
	text := strings.Repeat("the minutes of the meeting, and what follows from them\r\n", l.size/56)
	before, err := l.used()
	if err != nil {
		return cost{}, err
	}
	sender := map[string]string{"carol": "carol@health.gov.example", "alice": "alice@works.gov.example"}[l.from]
	own := ownTime()
	begin := time.Now()
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := i; n < l.n && errs[i] == nil; n += len(clients) {
				errs[i] = c.SendMail(sender, []string{"alice@works.gov.example", "ds1@works.gov.example"}, strings.NewReader(
					fmt.Sprintf("From: %s\r\nTo: alice@works.gov.example, ds1@works.gov.example\r\nSubject: minutes\r\nDate: %s\r\n"+
						"Message-ID: <%d.%d@bench.example>\r\n%sMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n%s",
						sender, begin.Format(time.RFC1123Z), begin.UnixNano(), n, label, text)))
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	after, err := l.used()
	each := func(d time.Duration) float64 { return d.Seconds() * 1e6 / float64(l.n) }
	return cost{float64(l.n) / took.Seconds(), each(after - before), each(ownTime() - own)}, errors.Join(append(errs, err)...)
}

// ownTime is the processor time that this program has used.
func ownTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it fails for a wrong argument only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// used is the processor time that the server has used (proc_pid_stat(5), fields 14 and 15, in hundredths of a second).
func (l load) used() (time.Duration, error) {
	if l.pid == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", l.pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:])) // from field 3 on
	sum := 0
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * 10 * time.Millisecond, nil
}
