package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"cmmpd/internal/testkit"
)

// sandboxVariable names the file with the sandbox in which the test's own program is to run another.
const sandboxVariable = "CMMPD_E2E_SANDBOX"

// sandbox is what a unit demands of the system calls of its service, as systemd does it.
type sandbox struct {
	Calls    []uint32 // allowed
	Families []uint32 // of sockets
	User     int      // 0: as we are
}

// nobody is a user that has nothing.
const nobody = 65534

// unitSandbox reads a unit. What its groups of system calls hold systemd-analyze says; their numbers are in x/sys/unix.
func unitSandbox(t *testing.T, unit string, user int) string {
	t.Helper()
	analyze := testkit.Need(t, "systemd-analyze")
	text, err := os.ReadFile(filepath.Join("..", "..", "configs", unit))
	if err != nil {
		t.Fatal(err)
	}
	numbers := callNumbers(t)
	allowed := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^SystemCallFilter=(~?)(.*)$`).FindAllStringSubmatch(string(text), -1) {
		for group := range strings.FieldsSeq(m[2]) {
			for _, name := range callGroup(t, analyze, group) {
				allowed[name] = m[1] == ""
			}
		}
	}
	box := sandbox{User: user}
	for name, yes := range allowed {
		if n, ok := numbers[name]; ok && yes {
			box.Calls = append(box.Calls, n)
		}
	}
	families := map[string]uint32{"AF_UNIX": unix.AF_UNIX, "AF_INET": unix.AF_INET, "AF_INET6": unix.AF_INET6}
	for name := range strings.FieldsSeq(regexp.MustCompile(`(?m)^RestrictAddressFamilies=(.*)$`).FindStringSubmatch(string(text))[1]) {
		box.Families = append(box.Families, families[name])
	}
	if len(box.Calls) < 100 || !strings.Contains(string(text), "\nMemoryDenyWriteExecute=yes\n") {
		t.Fatalf("%s: %d system calls", unit, len(box.Calls))
	}
	b, err := json.Marshal(box)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "sandbox")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// callGroup is the system calls of a group, and of those in it.
func callGroup(t *testing.T, analyze, group string) (names []string) {
	if !strings.HasPrefix(group, "@") {
		return []string{group}
	}
	out, err := exec.Command(analyze, "--no-pager", "syscall-filter", group).Output()
	if err != nil {
		t.Fatalf("%s: %v", group, err)
	}
	for line := range strings.Lines(string(out)) {
		if name := strings.TrimSpace(line); strings.HasPrefix(line, "    ") && !strings.HasPrefix(name, "#") {
			names = append(names, callGroup(t, analyze, name)...)
		}
	}
	return names
}

func callNumbers(t *testing.T) map[string]uint32 {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "golang.org/x/sys").Output()
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "unix", "zsysnum_linux_"+runtime.GOARCH+".go"))
	if err != nil {
		t.Fatal(err)
	}
	numbers := make(map[string]uint32)
	for _, m := range regexp.MustCompile(`SYS_(\w+)\s+= (\d+)`).FindAllStringSubmatch(string(b), -1) {
		n, _ := strconv.ParseUint(m[2], 10, 32)
		numbers[strings.ToLower(m[1])] = uint32(n)
	}
	return numbers
}

const (
	seccompAllow = 0x7fff0000
	seccompErrno = 0x00050000
	offNumber    = 0 // in struct seccomp_data
	offArguments = 16
)

// filter is the sandbox as a program for the kernel: other calls, memory that is writable and executable, and other families of sockets are refused.
func (s *sandbox) filter() ([]bpf.RawInstruction, error) {
	refuse := bpf.RetConstant{Val: seccompErrno | uint32(unix.EPERM)}
	number := bpf.LoadAbsolute{Off: offNumber, Size: 4}
	code := []bpf.Instruction{number}
	for _, call := range []struct{ number, argument, bits uint32 }{
		{unix.SYS_MMAP, 2, unix.PROT_WRITE | unix.PROT_EXEC}, {unix.SYS_MPROTECT, 2, unix.PROT_EXEC}, {unix.SYS_PKEY_MPROTECT, 2, unix.PROT_EXEC},
	} {
		code = append(
			code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call.number, SkipTrue: 4}, bpf.LoadAbsolute{Off: offArguments + 8*call.argument, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: call.bits}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call.bits, SkipTrue: 1}, refuse, number,
		)
	}
	code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: unix.SYS_SOCKET, SkipTrue: uint8(2 + len(s.Families))}, bpf.LoadAbsolute{Off: offArguments, Size: 4})
	for i, family := range s.Families {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpEqual, Val: family, SkipTrue: uint8(len(s.Families) - i)})
	}
	code = append(code, refuse, number)
	for _, call := range s.Calls {
		code = append(code, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: call, SkipTrue: 1}, bpf.RetConstant{Val: seccompAllow})
	}
	return bpf.Assemble(append(code, refuse))
}

// enterSandbox runs the arguments in the sandbox that the file describes. It does not return.
func enterSandbox(path string, args []string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var s sandbox
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	raw, err := s.filter()
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the filter is this thread's, which goes on as the program
	if s.User != 0 {
		if err := syscall.Setgroups(nil); err != nil {
			return err
		}
		if err := syscall.Setgid(s.User); err != nil {
			return err
		}
		if err := syscall.Setuid(s.User); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	program := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, append(os.Environ(), "HOME=/nonexistent"))
}

// inSandbox is a command in the sandbox.
func inSandbox(path, name string, args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], append([]string{name}, args...)...)
	cmd.Env = append(os.Environ(), sandboxVariable+"="+path)
	return cmd
}

// asNobody runs a command as the user that the sandboxed program has.
func asNobody(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// TestSandbox serves the platform under the system calls, sockets and memory that its unit allows, as another user, and has mail go in and out; then
// looks into the process as other processes of its user could, and has it crash.
func TestSandbox(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("skipped: needs root, to be another user")
	}
	testkit.Need(t, "curl")
	perl := testkit.Need(t, "perl")
	box := unitSandbox(t, "cmmpd.service", nobody)
	io := []string{"-e", fmt.Sprintf(`my $c = pack("Q", 0); print syscall(%d, 1, $c)`, unix.SYS_IO_SETUP)}
	if out, err := asNobody(perl, io...); err != nil || out != "0" {
		t.Fatalf("the control outside: %v %s", err, out)
	}
	if out, err := inSandbox(box, perl, io...).CombinedOutput(); err != nil || string(out) != "-1" {
		t.Fatalf("the control within: %v %s", err, out)
	}

	public(t, filepath.Dir(program))
	dir := t.TempDir()
	public(t, filepath.Dir(dir))
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, dir: filepath.Join(dir, "demo"), base: freeBase(t), sandbox: box}
	s.serveIt()
	marker := "Needle" + rand.Text()
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, "[CONFIDENTIAL] "+marker, marker)); err != nil {
		t.Fatal(out)
	}
	if out, err := s.send("alice", alice, []string{bob}, mailOf(alice, bob, marker, marker)); err != nil {
		t.Fatal(out)
	}
	if got := s.last("bob", "INBOX"); !strings.Contains(got, marker) {
		t.Errorf("bob has %s", got)
	}
	s.peep()
	password := s.read("people", "alice", "password")
	proc := func(file string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.cmd.Process.Pid, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for _, file := range []string{"cmdline", "environ"} {
		if b := proc(file); strings.Contains(b, password) || strings.Contains(b, marker) {
			t.Errorf("%s: %q", file, b)
		}
	}
	if limits := proc("limits"); !regexp.MustCompile(`Max core file size +0 +0 `).MatchString(limits) {
		t.Errorf("core dumps are possible: %s", limits)
	}
	if strings.Contains(s.log.String(), "not permitted") {
		t.Error("the program was refused something")
	}
	s.crash(marker, password)
}

// public lets others go through a folder.
func public(t testing.TB, dir string) {
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
}

// peep tries to look into the program as another process of its user.
func (s *site) peep() {
	s.t.Helper()
	sleeping := exec.Command("sleep", "600")
	sleeping.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if err := sleeping.Start(); err != nil {
		s.t.Fatal(err)
	}
	defer func() {
		_ = sleeping.Process.Kill()
		_ = sleeping.Wait()
	}()
	for _, file := range []string{"environ", "maps", "mem"} {
		read := func(pid int) error {
			_, err := asNobody("perl", "-e", fmt.Sprintf("open(F, '<', '/proc/%d/%s') or exit 1", pid, file))
			return err
		}
		if err := read(sleeping.Process.Pid); err != nil {
			s.t.Errorf("the control: %s of a program that does not hide: %v", file, err)
		}
		if read(s.cmd.Process.Pid) == nil {
			s.t.Errorf("another process of the user can open %s", file)
		}
	}
}

// crash has the program end as from a fault in Go: all goroutines are in its log. None of what is secret may be.
func (s *site) crash(secrets ...string) {
	s.t.Helper()
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	err := <-s.end
	s.cmd = nil
	log := s.log.Bytes()
	if err == nil || !bytes.Contains(log, []byte("goroutine 1 ")) {
		s.t.Fatalf("it did not crash: %v", err)
	}
	for _, secret := range secrets {
		if holds(log, secret) {
			s.t.Errorf("the crash shows %s", secret[:4])
		}
	}
	if cores, _ := filepath.Glob(filepath.Join(s.dir, "core*")); len(cores) > 0 {
		s.t.Errorf("there is %v", cores)
	}
}

// TestKeydSandbox has mail go in and out with keys in tokens, keyd running under the system calls, sockets and memory that its unit allows, and a library of
// a token, SoftHSM, in it.
func TestKeydSandbox(t *testing.T) {
	testkit.Need(t, "curl")
	testkit.Need(t, "openssl")
	k := newKeydIn(t, unitSandbox(t, "cmmpd-keyd.service", 0))
	k.unseal()
	s := newInstallation(t, "--keyd-mail", k.socket)
	s.serveIt()
	s.addPeople("alice", "bob")
	if out, err := s.sealedMail("words from a sandbox"); err != nil {
		t.Fatal(err, out)
	}
	if got := s.opened(); !strings.Contains(got, "words from a sandbox") {
		t.Errorf("bob reads %q", got)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", k.cmd.Process.Pid))
	if err != nil || !regexp.MustCompile(`(?m)^Seccomp:\t2$`).Match(b) {
		t.Errorf("keyd runs without a filter: %v", err)
	}
	if strings.Contains(k.log.String(), "not permitted") {
		t.Errorf("keyd was refused something: %s", k.log.String())
	}
}
