//go:build e2e

package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2/imapclient"
	"github.com/emersion/go-smtp"
	"golang.org/x/sys/unix"

	"cmmpd/internal/testkit"
)

// image is a file system of our own, in a file.
type image struct {
	t     testing.TB
	file  string
	mount string
}

// newImage makes and mounts a file system of the kind, with so many megabytes. Where that cannot be done, the test is
// skipped.
func newImage(t testing.TB, kind string, megabytes int64) *image {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("skipped: only root can mount a file system to break")
	}
	if free, err := exec.Command("losetup", "--find").CombinedOutput(); err != nil {
		t.Skipf("skipped: there is no loop device here: %s", free)
	}
	mkfs := testkit.Need(t, "mkfs."+kind)
	i := &image{t: t, file: filepath.Join(t.TempDir(), "image"), mount: t.TempDir()}
	if err := os.WriteFile(i.file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(i.file, megabytes<<20); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(mkfs, "-q", i.file).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v %s", mkfs, err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", i.file, i.mount).CombinedOutput(); err != nil {
		t.Skipf("skipped: %s cannot be mounted here: %s", kind, out)
	}
	t.Cleanup(i.unmount)
	return i
}

func (i *image) unmount() {
	if out, err := exec.Command("umount", i.mount).CombinedOutput(); err != nil {
		i.t.Errorf("umount: %v %s", err, out)
	}
}

// shutDown is FS_IOC_SHUTDOWN of linux/fs.h, noLogFlush its flag that writes nothing any more, not even the journal.
const (
	shutDown   = 0x8004587d
	noLogFlush = 2
)

// cut is what a power cut does: nothing that was not flushed gets to the disk any more. It is one system call, so that as
// little as can be is flushed between the last acknowledgement that counts and it.
func (i *image) cut() {
	f, err := os.Open(i.mount)
	if err != nil {
		i.t.Error(err)
		return
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), shutDown, noLogFlush); err != nil {
		i.t.Errorf("shutdown of the file system: %v", err)
	}
}

// again mounts the file system after the cut: its journal is replayed.
func (i *image) again() {
	i.t.Helper()
	i.unmount()
	if out, err := exec.Command("mount", "-o", "loop", i.file, i.mount).CombinedOutput(); err != nil {
		i.t.Fatalf("mount: %v %s", err, out)
	}
}

// newSiteOn is newSite in a folder of the mount.
func newSiteOn(t testing.TB, mount string, args ...string) *site {
	s := &site{t: t, dir: filepath.Join(mount, "demo"), base: freeBase(t), args: args}
	s.serveIt()
	return s
}

// ended waits until the program ends by itself, which it must do with an error.
func (s *site) ended() {
	s.t.Helper()
	cmd := s.cmd
	s.cmd = nil
	select {
	case err := <-s.end:
		var exit *exec.ExitError
		if !errors.As(err, &exit) {
			s.t.Errorf("the program ended with %v", err)
		}
	case <-time.After(time.Minute):
		s.t.Error("the program goes on after it can no longer save")
		_ = cmd.Process.Kill()
		<-s.end
	}
}

// TestPowerCut cuts the power under load, CMMPD_POWER_ROUNDS times (3) on each kind of file system: it takes nothing any more,
// what was not flushed is gone. Every message that was acknowledged before must be there exactly once, where the last
// acknowledged act has put it, and everything must open. What is acknowledged while the file system goes down does not
// count: ext4 reports success for a flush that this has overtaken, and with real power nobody would have heard of it.
func TestPowerCut(t *testing.T) {
	for kind, days := range map[string]int{"ext4": 0, "xfs": 14} {
		t.Run(kind, func(t *testing.T) {
			disk := newImage(t, kind, 2000)
			s := newSiteOn(t, disk.mount, "--bench-users", fmt.Sprint(crashUsers))
			s.prepare(days)
			l, rnd := newLedger(), rand.New(rand.NewPCG(3, 4))
			acked := 0
			for round := range rounds(t, "CMMPD_POWER_ROUNDS", 3) {
				s.load(l, round, 1+rnd.IntN(1+rnd.IntN(2000)), func() {
					l.freeze()
					disk.cut()
					s.ended()
				})
				n := l.acked
				disk.again()
				s.start()
				more := l.verify(s, round)
				if round%10 == 4 {
					s.must("", program, "store", "compact", "--config", s.path("cmmpd.toml"))
				}
				if code, out := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
					t.Errorf("round %d: check --deep: %d %s", round, code, out)
				}
				t.Logf("round %d: %d acts acknowledged, all done once; %d more done without an answer", round, n, more)
				if t.Failed() {
					t.FailNow()
				}
				acked += n
			}
			t.Logf("in all %d acts acknowledged, 0 missing, 0 twice; segments %v", acked, s.segments())
			s.verifyAudit()
			s.stop(syscall.SIGTERM)
		})
	}
}

// verifyAudit demands that the audit log is whole.
func (s *site) verifyAudit() {
	s.t.Helper()
	if code, out := s.code("audit", "verify", "--key", s.path("audit", "audit.pub"), s.path("audit")); code != 0 {
		s.t.Errorf("audit verify: %d %s", code, out)
	}
}

// TestWritesFail has flushes and writes fail under load, of the log and of the index: the program must stop acknowledging and
// end, and the next start must find everything that was acknowledged.
func TestWritesFail(t *testing.T) {
	strace := testkit.Need(t, "strace")
	s := newSite(t, "--bench-users", fmt.Sprint(crashUsers))
	s.prepare(14)
	l := newLedger()
	index := s.path("store", "index.db")
	for round, f := range []fault{
		{"fdatasync", "EIO:when=1", ""},
		{"fdatasync", "EIO:when=7", ""},
		{"fdatasync", "EIO:when=20+", ""},
		{"pwrite64", "EIO:when=3", "log"},
		{"fdatasync", "EIO:when=1", index},
		{"pwrite64", "EIO:when=1", index},
		{"pwrite64", "EIO:when=4", index},
	} {
		s.load(l, round, 200, func() {
			if f.path == "log" { // the file that is written to; compaction has begun new ones
				files, err := filepath.Glob(s.path("store", "segments", "*.seg"))
				if err != nil || len(files) == 0 {
					t.Fatal(files, err)
				}
				f.path = slices.Max(files)
			}
			end := s.inject(strace, f)
			s.ended()
			end()
		})
		s.start()
		if c := s.counts(); len(c.Problems) > 0 {
			t.Errorf("round %d: %v", round, c.Problems)
		}
		more := l.verify(s, round)
		t.Logf("%s of %q fails (%s): %d acts acknowledged, all done once; %d more done without an answer", f.call, f.path, f.error, l.acked, more)
	}
	s.stop(syscall.SIGTERM)
	if code, out := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
		t.Errorf("check --deep: %d %s", code, out)
	}
	s.verifyAudit()
}

// TestIndexFull has every write to the index find no space, while the log has some: mail is taken and read, and the index is
// written when there is space again.
func TestIndexFull(t *testing.T) {
	strace := testkit.Need(t, "strace")
	s := newSite(t, "--bench-users", fmt.Sprint(crashUsers))
	s.prepare(14)
	l := newLedger()
	s.load(l, 0, 200, func() { s.stop(syscall.SIGTERM) })
	s.start()
	l.verify(s, 0)
	end := s.inject(strace, fault{"pwrite64", "ENOSPC:when=1+", s.path("store", "index.db")})
	for i := range 40 {
		id := fmt.Sprintf("full-%d", i)
		l.create(id, i%crashUsers, inbox)
		if code := s.sendBench(t, i%crashUsers, id); code != 0 {
			t.Fatalf("mail is refused with %d", code)
		}
		l.delivered(id, inbox)
		time.Sleep(100 * time.Millisecond) // the index is written after two seconds
	}
	l.verify(s, 1)
	if !strings.Contains(s.log.String(), "no space for the index") {
		t.Error("nobody noticed")
	}
	end()
	s.stop(syscall.SIGTERM) // writes the index
	s.start()
	l.verify(s, 2)
	if c := s.counts(); len(c.Problems) > 0 {
		t.Error(c.Problems)
	}
}

// fault is a system call that fails, as strace is told; of one file if there is a path.
type fault struct{ call, error, path string }

// inject has calls of the program fail until end is called or the program ends.
func (s *site) inject(strace string, f fault) (end func()) {
	s.t.Helper()
	args := []string{"-f", "-o", filepath.Join(s.t.TempDir(), "trace"), "-e", "trace=" + f.call, "-e", "inject=" + f.call + ":error=" + f.error, "-p", fmt.Sprint(s.cmd.Process.Pid)}
	if f.path != "" {
		args = append([]string{"-P", f.path}, args...)
	}
	return s.attach(exec.Command(strace, args...))
}

// attach starts strace, which lets the program go when end is called.
func (s *site) attach(cmd *exec.Cmd) (end func()) {
	s.t.Helper()
	words, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		s.t.Fatal(err)
	}
	// It says when it is there.
	line, _ := bufio.NewReader(words).ReadString('\n')
	if !strings.Contains(line, "attached") {
		_ = cmd.Wait()
		s.t.Skipf("skipped: strace may not look at other programs here: %s", line)
	}
	return func() {
		_ = cmd.Process.Signal(syscall.SIGINT) // it lets the program go on
		_, _ = io.Copy(io.Discard, words)
		_ = cmd.Wait()
	}
}

// TestDiskFull fills the disk: mail is refused for now, reading goes on, and when there is room again the program takes
// mail again by itself.
func TestDiskFull(t *testing.T) {
	disk := newImage(t, "ext4", 96)
	s := newSiteOn(t, disk.mount, "--bench-users", fmt.Sprint(crashUsers))
	before := s.sendBench(t, 0, "before")
	if before != 0 {
		t.Fatalf("before: %d", before)
	}
	acked := map[string]int{"before": 0}
	ballast := filepath.Join(disk.mount, "ballast")
	fill(t, ballast)
	refused := 0
	for i := range 200 {
		id := fmt.Sprintf("full-%d", i)
		user := i % crashUsers
		switch code := s.sendBench(t, user, id); code {
		case 0:
			acked[id] = user
			fill(t, ballast) // what was free in half-filled blocks
		case 452:
			refused++
		default:
			t.Fatalf("on a full disk: %d", code)
		}
		if refused == 20 {
			break
		}
	}
	if refused < 20 {
		t.Fatalf("only %d were refused", refused)
	}
	if err := s.appendBench("bench0"); err == nil || !strings.Contains(err.Error(), "space") {
		t.Errorf("APPEND on a full disk: %v", err)
	}
	if ids, err := s.inboxIDs("bench0"); err != nil || ids["before"] != 1 {
		t.Errorf("reading on a full disk: %v, %v", ids, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for user := range crashUsers {
		id := fmt.Sprintf("after-%d", user)
		if code := s.sendBench(t, user, id); code != 0 {
			t.Errorf("with room again: %d", code)
		}
		acked[id] = user
	}
	if err := s.appendBench("bench0"); err != nil {
		t.Errorf("APPEND with room again: %v", err)
	}
	found := s.benchIDs()
	total := 0
	for user := range found {
		for id, times := range found[user] {
			total += times
			if at, ok := acked[id]; id != "appended" && (!ok || at != user) {
				t.Errorf("%s was refused and is there", id)
			}
		}
	}
	if total != len(acked)+1 {
		t.Errorf("%d are there, %d were acknowledged", total, len(acked)+1)
	}
	s.stop(syscall.SIGTERM)
	if code, out := s.code("check", "--deep", "--config", s.path("cmmpd.toml")); code != 0 {
		t.Errorf("check --deep: %d %s", code, out)
	}
	s.verifyAudit()
}

// fill takes all the space that is left.
func fill(t testing.TB, name string) {
	t.Helper()
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for size := 1 << 20; size > 0; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
}

// sendBench sends one message, and returns 0 or the code of the refusal.
func (s *site) sendBench(t testing.TB, user int, id string) int {
	t.Helper()
	c, err := smtp.DialStartTLS(fmt.Sprintf("127.0.0.1:%d", s.base+25), s.clientTLS())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	err = c.SendMail("sender@example.org", []string{fmt.Sprintf("bench%d@bench.test", user)}, strings.NewReader(benchMessage(user, id)))
	var refusal *smtp.SMTPError
	switch {
	case errors.As(err, &refusal):
		return refusal.Code
	case err != nil:
		t.Fatal(err)
	}
	return 0
}

// appendBench saves a message in the user's own INBOX.
func (s *site) appendBench(user string) error {
	c, err := imapclient.DialTLS(fmt.Sprintf("127.0.0.1:%d", s.base+993), &imapclient.Options{TLSConfig: s.clientTLS()})
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Login(user, "benchpass").Wait(); err != nil {
		return err
	}
	msg := benchMessage(0, "appended")
	w := c.Append("INBOX", int64(len(msg)), nil)
	if _, err := w.Write([]byte(msg)); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	_, err = w.Wait()
	return err
}
