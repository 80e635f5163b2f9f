package audit

import (
	"context"
	"errors"
	"os"
	"syscall"
)

// errLocked says that somebody else holds a lock.
var errLocked = errors.New("locked by another process")

// lockShared waits until nobody writes. A file system without locks (a copy on some
// medium) has no writer either.
func lockShared(ctx context.Context, f *os.File) error {
	done := make(chan error, 1)
	go func() { done <- flock(f, syscall.LOCK_SH) }()
	select {
	case err := <-done:
		if errors.Is(err, syscall.ENOLCK) || errors.Is(err, syscall.ENOTSUP) || errors.Is(err, syscall.ENOSYS) {
			return nil
		}
		return err
	case <-ctx.Done():
		return ctx.Err() // the caller closes f, which gives the lock back if it is still granted
	}
}

// lockNow takes the exclusive lock or fails at once with errLocked.
func lockNow(f *os.File) error {
	err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errLocked
	}
	return err
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var lockErr error
	err = raw.Control(func(fd uintptr) {
		for {
			if lockErr = syscall.Flock(int(fd), how); lockErr != syscall.EINTR {
				return
			}
		}
	})
	return errors.Join(err, lockErr)
}

func unlock(f *os.File) { _ = flock(f, syscall.LOCK_UN) }
