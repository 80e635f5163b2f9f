package feed

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// link is one connection.
type link struct {
	f     *Feed
	conn  *tls.Conn
	plain net.Conn
	ended chan error // the receiver is gone; holds one

	sent     int64 // all before has been acknowledged by the receiver's machine
	settling int64 // all before had been at since
	since    time.Time
	message  []byte
}

// maxTalk is how much a receiver may send: it has nothing to say.
const maxTalk = 4096

// listen waits for the end. Reading is also what TLS needs to be told things.
func (l *link) listen() {
	b := make([]byte, 512)
	for n := 0; ; {
		m, err := l.conn.Read(b)
		if n += m; n > maxTalk {
			l.ended <- errTalks
			l.plain.Close()
			return
		}
		if err == io.EOF {
			err = errEnded
		}
		if err != nil {
			l.ended <- err
			return
		}
	}
}

// run sends what there is, and waits for more.
func (l *link) run(ctx context.Context) error {
	tick := time.NewTicker(l.f.o.Poll)
	defer tick.Stop()
	for {
		more, err := l.send(ctx)
		if err == nil {
			err = l.settle()
		}
		if err != nil {
			return err
		}
		if more {
			continue
		}
		select {
		case err := <-l.ended:
			return err
		case <-ctx.Done():
			return l.end()
		case <-tick.C:
		}
	}
}

// send sends some records, and says whether there were any. When it returns they have been acknowledged.
func (l *link) send(ctx context.Context) (more bool, err error) {
	records, err := l.f.o.Source.Read(l.sent)
	if err != nil || len(records) == 0 || ctx.Err() != nil {
		if err == nil && len(records) == 0 {
			l.f.upToDate()
		}
		return false, err
	}
	var frames []byte
	for i := range records {
		shown, err := records[i].Shown(l.f.o.Names)
		if err != nil {
			return false, err
		}
		// RFC 5425, section 4.3: MSG-LEN SP SYSLOG-MSG.
		l.message = l.f.o.Format.Append(l.message[:0], &shown)
		frames = strconv.AppendInt(frames, int64(len(l.message)), 10)
		frames = append(append(frames, ' '), l.message...)
	}
	stop := context.AfterFunc(ctx, func() { _ = l.conn.SetWriteDeadline(time.Now().Add(l.f.o.Settle)) })
	defer stop()
	if ctx.Err() == nil {
		_ = l.conn.SetWriteDeadline(time.Now().Add(l.f.o.Timeout))
	}
	if _, err := l.conn.Write(frames); err != nil {
		return false, err
	}
	if err := l.acknowledged(ctx); err != nil {
		return false, err
	}
	l.sent += int64(len(records))
	return true, nil
}

// acknowledged waits until the receiver's machine has acknowledged all that was written.
func (l *link) acknowledged(ctx context.Context) error {
	pause := time.Millisecond
	last, moved := -1, time.Now()
	for {
		left, err := unacknowledged(l.plain)
		if err != nil || left == 0 {
			return err
		}
		if left != last {
			last, moved = left, time.Now()
		}
		if time.Since(moved) > l.f.o.Timeout {
			return errStandsOff
		}
		select {
		case err := <-l.ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, 50*time.Millisecond)
	}
}

// unacknowledged is how many octets the other machine has not acknowledged (tcp(7), SIOCOUTQ).
func unacknowledged(c net.Conn) (n int, err error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	if e := raw.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ) }); e != nil {
		return 0, e
	}
	return n, err
}

// settle counts as taken what was acknowledged long enough ago.
func (l *link) settle() error {
	now := l.f.o.Now()
	if now.Sub(l.since) < l.f.o.Settle {
		return nil
	}
	select {
	case err := <-l.ended:
		return err
	default:
	}
	l.f.note(nil)
	err := l.f.take(l.settling)
	l.settling, l.since = l.sent, now
	return err
}

// end says good-bye (RFC 5425, section 4.4). Who answers has read all of it.
func (l *link) end() error {
	select {
	case err := <-l.ended: // that was before
		return err
	default:
	}
	if err := l.conn.CloseWrite(); err != nil {
		return err
	}
	select {
	case err := <-l.ended:
		if err == errEnded {
			return l.f.take(l.sent)
		}
		return err
	case <-time.After(l.f.o.Settle):
		return errStandsOff
	}
}

// upToDate notes that nothing is left to send.
func (f *Feed) upToDate() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = f.o.Now()
}
