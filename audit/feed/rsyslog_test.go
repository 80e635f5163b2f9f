package feed

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"cmmpd/audit"
	"cmmpd/internal/demopki"
	"cmmpd/internal/testkit"
)

// rsyslogConf has rsyslogd take RFC 5425 with certificates on both sides, and write what it has understood.
const rsyslogConf = `
global(workDirectory="%[1]s" DefaultNetstreamDriver="ossl" DefaultNetstreamDriverCAFile="%[1]s/ca.pem"
  DefaultNetstreamDriverCertFile="%[1]s/cert.pem" DefaultNetstreamDriverKeyFile="%[1]s/key.pem" parser.escapeControlCharactersOnReceive="on")
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="x509/certvalid")
input(type="imtcp" port="%[2]d" address="127.0.0.1")
template(name="parts" type="string" string="%%protocol-version%%|%%syslogfacility-text%%|%%syslogseverity%%|%%hostname%%|%%app-name%%|%%msgid%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%[1]s/out" template="parts")
`

type rsyslogd struct {
	t    *testing.T
	dir  string
	port int
	cmd  *exec.Cmd
}

func newRsyslogd(t *testing.T, p *pki) *rsyslogd {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &rsyslogd{t: t, dir: t.TempDir(), port: ln.Addr().(*net.TCPAddr).Port}
	ln.Close()
	key, err := x509.MarshalPKCS8PrivateKey(p.serverID.Key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"ca.pem": demopki.CertPEM(p.ca.Cert), "cert.pem": demopki.CertPEM(p.serverID.Cert),
		"key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}), "conf": fmt.Appendf(nil, rsyslogConf, r.dir, r.port),
	} {
		if err := os.WriteFile(filepath.Join(r.dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.start()
	t.Cleanup(func() { r.stop(syscall.SIGTERM) })
	return r
}

func (r *rsyslogd) addr() string { return fmt.Sprintf("127.0.0.1:%d", r.port) }

func (r *rsyslogd) start() {
	r.t.Helper()
	r.cmd = exec.Command(testkit.Need(r.t, "rsyslogd"), "-n", "-f", r.dir+"/conf", "-i", r.dir+"/pid")
	words := new(strings.Builder)
	r.cmd.Stdout, r.cmd.Stderr = words, words
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "rsyslogd listens", func() bool {
		c, err := net.Dial("tcp", r.addr())
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (r *rsyslogd) stop(s syscall.Signal) {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(s)
	_ = r.cmd.Wait()
	r.cmd = nil
}

// lines are what it wrote, by the number of the record.
func (r *rsyslogd) lines() map[int][]string {
	b, _ := os.ReadFile(filepath.Join(r.dir, "out"))
	out := make(map[int][]string)
	for line := range strings.Lines(string(b)) {
		if strings.Contains(line, ` seq="`) && strings.HasSuffix(line, "\n") {
			n := seqOf(r.t, line)
			out[n] = append(out[n], strings.TrimSuffix(line, "\n"))
		}
	}
	return out
}

// A real receiver understands what is sent, and has every record after it was killed in the middle.
func TestRsyslogd(t *testing.T) {
	l, p := newLog(t, 2000), newPKI(t)
	r := newRsyslogd(t, p)
	o := options(t, l, p, r.addr())
	o.Settle, o.Format = 0, audit.Syslog{Host: "mail.gov.example", App: "cmmpd", Limit: 8192, Enterprise: "32473"}
	f, _ := start(t, o)
	until(t, "2000 records are there", func() bool { return len(r.lines()) == 2000 })
	line := r.lines()[7][0]
	const want = `1|13|4|mail.gov.example|cmmpd|mail.refused|[audit@32473 seq="7" time="`
	if !strings.HasPrefix(strings.Replace(line, "|audit|", "|13|", 1), want) || !strings.Contains(line, `outcome="a \"b\" \]\\␊c 陳"]|`) || !strings.HasSuffix(line, "|mail.refused") {
		t.Errorf("rsyslogd has understood\n%s, want\n%s", line, want)
	}
	add(t, l, 300)
	r.stop(syscall.SIGKILL)
	add(t, l, 300)
	until(t, "it is noticed", func() bool { return f.State().Trouble != nil })
	r.start()
	until(t, "all records are there", func() bool { return len(r.lines()) == 2600 })
	until(t, "all is taken", func() bool { return f.State().Lag == 0 && f.State().Trouble == nil })
}
