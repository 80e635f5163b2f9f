package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// hideProcess keeps what is in memory from core dumps, debuggers and other processes of our user, and what we write from other users; our group may read
// it if whoever starts us says so. It is for the beginning of every command: none of them is far from a key or a password. From then on /proc/PID
// belongs to root.
func hideProcess() error {
	unix.Umask(unix.Umask(0o077) | 0o027)
	var errs []error
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		errs = append(errs, fmt.Errorf("core dumps cannot be switched off: %w", err))
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		errs = append(errs, fmt.Errorf("other processes of our user may look into this one: %w", err))
	}
	return errors.Join(errs...)
}

// lockMemory keeps all memory of the process from swap. It is for a process that maps no large files: their pages would be locked, too.
func lockMemory() error {
	var l unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &l)
	if err == nil && l.Cur != unix.RLIM_INFINITY { // to lock all under a limit would end us when it is reached
		err = fmt.Errorf("the limit is %d octets; LimitMEMLOCK=infinity is needed", l.Cur)
	}
	if err == nil {
		err = unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
	}
	return err
}

// warnOfSwap says so if memory of this process can get to swap. That of the daemon is not locked, since it maps the index; its unit takes its swap away
// (MemorySwapMax=0).
func warnOfSwap(log *slog.Logger) {
	if can, err := swaps(); can || err != nil {
		log.Warn("memory with keys in use can get to swap: see MemorySwapMax in cmmpd.service, or encrypt the swap", "err", err)
	}
}

// swaps says whether there is swap, and our control group may use it.
func swaps() (bool, error) {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return false, err
	}
	if info.Totalswap == 0 {
		return false, nil
	}
	b, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return true, err
	}
	return !swapForbidden("/sys/fs/cgroup", string(b)), nil
}

// swapForbidden looks for a limit of no swap at our group, as /proc/self/cgroup names it, or one above (cgroup v2).
func swapForbidden(root, groups string) bool {
	for line := range strings.Lines(groups) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for ; ; path = filepath.Dir(path) {
			b, err := os.ReadFile(filepath.Join(root, path, "memory.swap.max"))
			if err == nil && strings.TrimSpace(string(b)) == "0" {
				return true
			}
			if path == "/" || path == "." {
				return false
			}
		}
	}
	return false
}
